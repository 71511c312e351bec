#include "worker/stu.h"

#include "worker/blas.h"
#include "worker/stu_internal.h"

#include <math.h>
#include <stdlib.h>

/* Larger configurations are mistakes; below these no size overflows. */
enum { MOST_WIDTH = 1 << 16, MOST_BLOCKS = 1 << 10 };
static const size_t most_tokens = (size_t)1 << 31;

static weir_err_t check_config(const weir_stu_config_t *config, weir_error_t *error) {
    const size_t sizes[] = {config->embedding_dim, config->heads, config->dqk, config->dv};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i] == 0 || sizes[i] > MOST_WIDTH) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "width, heads, dqk and dv must be 1 to %d, one is %zu", MOST_WIDTH,
                               sizes[i]);
        }
    }
    if (config->heads * (config->dqk + config->dv) > MOST_WIDTH || config->blocks > MOST_BLOCKS ||
        config->max_tokens == 0 || config->max_tokens > most_tokens) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "heads times (dqk + dv) must be at most %d, layers %d, and there must "
                           "be 1 to %zu tokens",
                           MOST_WIDTH, MOST_BLOCKS, most_tokens);
    }
    if (!(config->dropout >= 0.0 && config->dropout < 1.0) || !(config->divisor >= 0.0) ||
        !(config->score_scale >= 0.0) || isinf(config->divisor) || isinf(config->score_scale)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "dropout must be in [0, 1), divisor and score scale finite and not "
                           "negative");
    }
    return WEIR_OK;
}

weir_err_t weir_stu_create(const weir_stu_config_t *config, weir_stu_t **stu, weir_error_t *error) {
    weir_err_t err = check_config(config, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_stu_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the production layer");
    }
    made->config = *config;
    if (made->config.score_scale == 0.0) {
        made->config.score_scale = 1.0 / sqrt((double)config->dqk);
    }
    if (made->config.divisor == 0.0) {
        made->config.divisor = (double)config->max_tokens;
    }
    weir_blas_use_one_thread();
    made->layers = calloc(config->blocks + 1, sizeof *made->layers);
    if (made->layers == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu layers", config->blocks);
    }
    if (err == WEIR_OK) {
        err = weir_kernels_select(&made->kernels, error);
    }
    if (err == WEIR_OK) {
        const weir_attention_config_t attention = {.heads = config->heads,
                                                   .dqk = config->dqk,
                                                   .dv = config->dv,
                                                   .attention_length = config->max_tokens,
                                                   .bf16 = config->bf16,
                                                   .score_scale = made->config.score_scale,
                                                   .divisor = made->config.divisor};
        err = weir_attention_create(&attention, made->kernels, &made->attention, error);
    }
    if (err != WEIR_OK) {
        weir_stu_destroy(made);
        return err;
    }
    *stu = made;
    return WEIR_OK;
}

void weir_stu_destroy(weir_stu_t *stu) {
    if (stu == NULL) {
        return;
    }
    weir_workspace_fini(&stu->workspace);
    weir_attention_destroy(stu->attention);
    free(stu->layers);
    free(stu);
}

/* The numbers of tokens that attention counts distances by: contextual tokens are all 0, the tokens
 * after them 1, 2, ..; targets have one number together, the highest. Without contextual tokens the
 * first token is 0. */
void weir_stu_visible(const weir_stu_config_t *config, size_t length, size_t targets,
                      weir_visible_t *visible) {
    size_t contextual = config->contextual, end = length - targets;
    size_t shift = contextual > 0 ? contextual - 1 : 0; /* place = number + shift, after them */
    size_t last = end - shift;                          /* number of the targets */
    for (size_t i = 0; i < length; i++) {
        size_t number = i < end ? (i > shift ? i - shift : 0) : last;
        bool full = config->window == 0 || number <= config->window ||
                    (config->full_at_end > 0 && number + config->full_at_end >= last);
        visible[i].first = (uint32_t)(full ? 0 : number - config->window + shift);
        visible[i].end = (uint32_t)(i < end ? i : end);
        if (i < contextual) {
            visible[i] = (weir_visible_t){0, (uint32_t)end};
        }
    }
}

void weir_stu_drop(const weir_stu_t *stu, size_t layer, size_t first, size_t end,
                   weir_real_t *values) {
    if (stu->mode.train && stu->config.dropout > 0.0) {
        size_t width = 3 * stu->config.heads * stu->config.dv;
        weir_dropout_t dropout = weir_dropout_at(stu->mode.seed, stu->mode.step,
                                                 2 + 2 * (uint32_t)layer, stu->config.dropout);
        weir_real_t *rows = values + first * width;
        stu->kernels->dropout(&dropout, stu->sequence.global_tokens + first, rows, end - first,
                              width, rows);
    }
}

void weir_stu_scale(const weir_real_t *normalised, const weir_real_t *weight,
                    const weir_real_t *bias, size_t width, size_t first, size_t end,
                    weir_real_t *scaled) {
    for (size_t t = first; t < end; t++) {
        for (size_t c = 0; c < width; c++) {
            scaled[t * width + c] = normalised[t * width + c] * weight[c] + bias[c];
        }
    }
}

const weir_real_t *weir_stu_attention_output(const weir_stu_t *stu, size_t layer) {
    return stu->layers[layer].attended;
}
