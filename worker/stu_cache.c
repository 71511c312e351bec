#include "worker/stu_cache.h"

#include "worker/dot.h"
#include "worker/stu_internal.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_BLOCK = 512 }; /* keys whose scores are kept at a time: they stay in the cache */

struct weir_stu_history {
    const weir_real_t *parameters;
    size_t tokens;           /* T */
    weir_visible_t visible;  /* what a target sees of it */
    size_t bytes;            /* of all this */
    weir_real_t projected[]; /* per layer T x kept_width: v and k */
};

struct weir_stu_cache {
    weir_stu_config_t config;
    weir_stu_t *stu;                   /* of the history */
    weir_stu_history_t *own;           /* that was filled last, unless it was given away; NULL */
    const weir_stu_history_t *history; /* that candidates see; NULL: none */
    weir_workspace_t workspace;        /* of a microbatch of C targets */
    weir_real_t *stream;               /* C x D */
    weir_real_t *scaled;               /* C x D */
    weir_real_t *rows;                 /* C x P: [u v q k] */
    weir_real_t *attended;             /* C x V */
    weir_real_t *norm;                 /* C x V */
    weir_real_t *joined;               /* C x 3 V */
    weir_real_t *scores;               /* C x KEY_BLOCK */
};

weir_err_t weir_stu_cache_create(const weir_stu_config_t *config, weir_stu_cache_t **cache,
                                 weir_error_t *error) {
    weir_stu_cache_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a cache of keys and values");
    }
    weir_err_t err = weir_stu_create(config, &made->stu, error);
    if (err != WEIR_OK) {
        weir_stu_cache_destroy(made);
        return err;
    }
    made->config = made->stu->config; /* with its defaults */
    *cache = made;
    return WEIR_OK;
}

void weir_stu_cache_destroy(weir_stu_cache_t *cache) {
    if (cache != NULL) {
        weir_stu_history_free(cache->own);
        weir_workspace_fini(&cache->workspace);
        weir_stu_destroy(cache->stu);
        free(cache);
    }
}

weir_stu_history_t *weir_stu_cache_take(weir_stu_cache_t *cache) {
    weir_stu_history_t *taken = cache->own;
    cache->own = NULL;
    return taken;
}

void weir_stu_cache_use(weir_stu_cache_t *cache, const weir_stu_history_t *history) {
    cache->history = history;
}

size_t weir_stu_history_bytes(const weir_stu_history_t *history) {
    return history->bytes;
}

void weir_stu_history_free(weir_stu_history_t *history) {
    free(history);
}

/* Columns of v and k in what is kept: heads side by side, v first. */
static size_t kept_width(const weir_stu_config_t *config) {
    return config->heads * (config->dqk + config->dv);
}

weir_err_t weir_stu_cache_fill(weir_stu_cache_t *cache, const weir_real_t *parameters,
                               const weir_real_t *x, size_t tokens, weir_error_t *error) {
    const weir_stu_config_t *config = &cache->config;
    const size_t offsets[] = {0, tokens};
    const weir_stu_batch_t batch = {.users = 1, .tokens = tokens, .offsets = offsets};
    const weir_forward_mode_t mode = {.train = false};
    size_t width = kept_width(config), values = config->heads * config->dv;
    size_t keys = config->heads * config->dqk, projected = weir_stu_projection_width(config);
    weir_stu_history_free(cache->own);
    cache->own = NULL;
    cache->history = NULL;
    if (tokens >= config->max_tokens) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a history of %zu tokens leaves no place for a candidate in %zu", tokens,
                           config->max_tokens);
    }
    weir_workspace_begin(&cache->workspace);
    (void)weir_workspace_take(&cache->workspace, tokens, config->embedding_dim * sizeof *x);
    weir_err_t err = weir_workspace_reserve(&cache->workspace, "a history", error);
    if (err != WEIR_OK) {
        return err;
    }
    cache->stream =
        weir_workspace_take(&cache->workspace, tokens, config->embedding_dim * sizeof *x);
    err = weir_stu_forward(cache->stu, parameters, &batch, x, mode, cache->stream, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t bytes = sizeof *cache->own + config->blocks * tokens * width * sizeof *x;
    weir_visible_t *visible = malloc((tokens + 1) * sizeof *visible);
    cache->own = visible != NULL ? malloc(bytes) : NULL;
    if (cache->own == NULL) {
        free(visible);
        return weir_errorf(error, WEIR_ERR_MEMORY,
                           "out of memory for keys and values of %zu tokens", tokens);
    }
    weir_stu_visible(config, tokens + 1, 1, visible);
    *cache->own = (weir_stu_history_t){
        .parameters = parameters, .tokens = tokens, .visible = visible[tokens], .bytes = bytes};
    free(visible);
    for (size_t layer = 0; layer < config->blocks; layer++) {
        const weir_real_t *from = cache->stu->layers[layer].projected;
        weir_real_t *to = cache->own->projected + layer * tokens * width;
        for (size_t t = 0; t < tokens; t++, from += projected, to += width) {
            memcpy(to, from + values, values * sizeof *to);
            memcpy(to + values, from + 2 * values + keys, keys * sizeof *to);
        }
    }
    cache->history = cache->own;
    return WEIR_OK;
}

static void lay_out(weir_stu_cache_t *cache, size_t count) {
    const weir_stu_config_t *config = &cache->config;
    weir_workspace_t *space = &cache->workspace;
    size_t dim = config->embedding_dim, gate = config->heads * config->dv;
    size_t real = sizeof(weir_real_t);
    cache->stream = weir_workspace_take(space, count, dim * real);
    cache->scaled = weir_workspace_take(space, count, dim * real);
    cache->rows = weir_workspace_take(space, count, weir_stu_projection_width(config) * real);
    cache->attended = weir_workspace_take(space, count, gate * real);
    cache->norm = weir_workspace_take(space, count, gate * real);
    cache->joined = weir_workspace_take(space, count, 3 * gate * real);
    cache->scores = weir_workspace_take(space, count, KEY_BLOCK * real);
}

/* n W + beta of the targets. */
static void project(weir_stu_cache_t *cache, size_t layer, size_t count) {
    const weir_stu_config_t *config = &cache->config;
    const weir_kernels_t *kernels = cache->stu->kernels;
    weir_stu_offsets_t at = weir_stu_offsets(config, layer);
    size_t dim = config->embedding_dim, projected = weir_stu_projection_width(config);
    kernels->layer_norm_forward(cache->stream, count, dim, cache->scaled, NULL);
    weir_stu_scale(cache->scaled, cache->history->parameters + at.norm_weight,
                   cache->history->parameters + at.norm_bias, dim, 0, count, cache->scaled);
    for (size_t t = 0; t < count; t++) {
        memcpy(cache->rows + t * projected, cache->history->parameters + at.uvqk_bias,
               projected * sizeof *cache->rows);
    }
    const weir_product_t projection = {.m = count,
                                       .n = projected,
                                       .k = dim,
                                       .a = cache->scaled,
                                       .lda = dim,
                                       .b = cache->history->parameters + at.uvqk,
                                       .ldb = projected,
                                       .add = true,
                                       .c = cache->rows,
                                       .ldc = projected};
    weir_product_run(kernels, config->bf16, &projection);
}

/* attended = what the history gives to the targets of one head, then what each gives to itself. */
static void attend(weir_stu_cache_t *cache, size_t layer, size_t head, size_t count) {
    const weir_stu_config_t *config = &cache->config;
    const weir_kernels_t *kernels = cache->stu->kernels;
    size_t gate = config->heads * config->dv, keys = config->heads * config->dqk;
    size_t projected = weir_stu_projection_width(config), width = kept_width(config);
    const weir_real_t *kept = cache->history->projected + layer * cache->history->tokens * width;
    const weir_real_t *v = kept + head * config->dv, *k = kept + gate + head * config->dqk;
    const weir_real_t *own_v = cache->rows + gate + head * config->dv;
    const weir_real_t *q = cache->rows + 2 * gate + head * config->dqk, *own_k = q + keys;
    weir_real_t *o = cache->attended + head * config->dv;
    const weir_real_t alpha = (weir_real_t)config->score_scale;
    const weir_real_t share = (weir_real_t)(1.0 / config->divisor);
    for (size_t t = 0; t < count; t++) {
        weir_real_t s = alpha * weir_dot(q + t * projected, own_k + t * projected, config->dqk), a;
        kernels->silu_forward(&s, &a, 1);
        for (size_t c = 0; c < config->dv; c++) {
            o[t * gate + c] = a * own_v[t * projected + c]; /* times share, at the end */
        }
    }
    for (size_t first = cache->history->visible.first; first < cache->history->visible.end;
         first += KEY_BLOCK) {
        size_t block = cache->history->visible.end - first < KEY_BLOCK
                           ? cache->history->visible.end - first
                           : (size_t)KEY_BLOCK;
        const weir_product_t score = {.form_b = WEIR_BLAS_TRANSPOSED,
                                      .m = count,
                                      .n = block,
                                      .k = config->dqk,
                                      .a = q,
                                      .lda = projected,
                                      .b = k + first * width,
                                      .ldb = width,
                                      .c = cache->scores,
                                      .ldc = block};
        weir_product_run(kernels, config->bf16, &score);
        for (size_t i = 0; i < count * block; i++) {
            cache->scores[i] *= alpha;
        }
        kernels->silu_forward(cache->scores, cache->scores, count * block);
        const weir_product_t value = {.m = count,
                                      .n = config->dv,
                                      .k = block,
                                      .a = cache->scores,
                                      .lda = block,
                                      .b = v + first * width,
                                      .ldb = width,
                                      .add = true,
                                      .c = o,
                                      .ldc = gate};
        weir_product_run(kernels, config->bf16, &value);
    }
    for (size_t t = 0; t < count; t++) {
        for (size_t c = 0; c < config->dv; c++) {
            o[t * gate + c] *= share;
        }
    }
}

/* stream += [u | o | y] Wo */
static void finish(weir_stu_cache_t *cache, size_t layer, size_t count) {
    const weir_stu_config_t *config = &cache->config;
    const weir_kernels_t *kernels = cache->stu->kernels;
    weir_stu_offsets_t at = weir_stu_offsets(config, layer);
    size_t dim = config->embedding_dim, gate = config->heads * config->dv;
    size_t projected = weir_stu_projection_width(config);
    kernels->layer_norm_forward(cache->attended, count, gate, cache->norm, NULL);
    weir_stu_scale(cache->norm, cache->history->parameters + at.output_norm_weight,
                   cache->history->parameters + at.output_norm_bias, gate, 0, count, cache->norm);
    for (size_t t = 0; t < count; t++) {
        weir_real_t *u = cache->joined + t * 3 * gate, *y = u + 2 * gate;
        kernels->silu_forward(cache->rows + t * projected, u, gate);
        memcpy(u + gate, cache->attended + t * gate, gate * sizeof *u);
        for (size_t c = 0; c < gate; c++) {
            y[c] = u[c] * cache->norm[t * gate + c];
        }
    }
    const weir_product_t output = {.m = count,
                                   .n = dim,
                                   .k = 3 * gate,
                                   .a = cache->joined,
                                   .lda = 3 * gate,
                                   .b = cache->history->parameters + at.output_weight,
                                   .ldb = dim,
                                   .add = true,
                                   .c = cache->stream,
                                   .ldc = dim};
    weir_product_run(kernels, config->bf16, &output);
}

weir_err_t weir_stu_cache_score(weir_stu_cache_t *cache, const weir_real_t *x, size_t count,
                                weir_real_t *out, weir_error_t *error) {
    size_t bytes = count * cache->config.embedding_dim * sizeof *x;
    if (cache->history == NULL) {
        return weir_errorf(error, WEIR_ERR_INVALID, "candidates without a history before them");
    }
    weir_workspace_begin(&cache->workspace);
    lay_out(cache, count);
    weir_err_t err = weir_workspace_reserve(&cache->workspace, "a microbatch", error);
    if (err != WEIR_OK) {
        return err;
    }
    lay_out(cache, count);
    memcpy(cache->stream, x, bytes);
    for (size_t layer = 0; layer < cache->config.blocks; layer++) {
        project(cache, layer, count);
        for (size_t head = 0; head < cache->config.heads; head++) {
            attend(cache, layer, head, count);
        }
        finish(cache, layer, count);
    }
    memcpy(out, cache->stream, bytes);
    return WEIR_OK;
}
