/* Forward of the production layer: norm, projection, SiLU of u, attention, norm, gate, output
 * projection, residual. What backward needs stays in stu->layers. */
#include "worker/stu_internal.h"

#include <limits.h>
#include <string.h>

static weir_err_t check_batch(const weir_stu_config_t *config, const weir_stu_batch_t *batch,
                              weir_error_t *error) {
    size_t end = 0;
    for (size_t u = 0; u < batch->users; u++) {
        size_t begin = batch->offsets[u];
        if (begin != end || batch->offsets[u + 1] < begin) {
            return weir_errorf(error, WEIR_ERR_INVALID, "offsets of the batch do not ascend at %zu",
                               u);
        }
        end = batch->offsets[u + 1];
        size_t least = config->contextual + (batch->targets != NULL ? batch->targets[u] : 0);
        if (end - begin < least || end - begin == 0 || end - begin > config->max_tokens) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "user %zu of the batch has %zu tokens, expected %zu to %zu", u,
                               end - begin, least > 0 ? least : 1, config->max_tokens);
        }
    }
    if (end != batch->tokens || end > INT_MAX) {
        return weir_errorf(
            error, WEIR_ERR_INVALID,
            "the users of the batch have %zu tokens, the batch says %zu (at most %d)", end,
            batch->tokens, INT_MAX);
    }
    return WEIR_OK;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static void lay_out(weir_stu_t *stu, size_t tokens) {
    const weir_stu_config_t *config = &stu->config;
    weir_workspace_t *space = &stu->workspace;
    size_t dim = config->embedding_dim, gate = config->heads * config->dv;
    size_t projected = weir_stu_projection_width(config), real = sizeof(weir_real_t);
    for (size_t i = 0; i < config->blocks; i++) {
        weir_stu_layer_t *layer = &stu->layers[i];
        layer->normalised = weir_workspace_take(space, tokens, dim * real);
        layer->inverses = weir_workspace_take(space, tokens, real);
        layer->projected = weir_workspace_take(space, tokens, projected * real);
        layer->attended = weir_workspace_take(space, tokens, gate * real);
        layer->attended_norm = weir_workspace_take(space, tokens, gate * real);
        layer->attended_inverses = weir_workspace_take(space, tokens, real);
        layer->joined = weir_workspace_take(space, tokens, 3 * gate * real);
    }
    stu->stream = weir_workspace_take(space, tokens, dim * real);
    stu->scaled = weir_workspace_take(space, tokens, dim * real);
    stu->d_projected = weir_workspace_take(space, tokens, projected * real);
    stu->d_joined = weir_workspace_take(space, tokens, 3 * gate * real);
    stu->d_attended = weir_workspace_take(space, tokens, gate * real);
    stu->products = weir_workspace_take(space, tokens, larger(dim, gate) * real);
    stu->block = weir_workspace_take(space, larger(larger(dim, gate), projected), real);
    stu->visible = weir_workspace_take(space, tokens, sizeof *stu->visible);
    stu->numbers = weir_workspace_take(space, tokens, sizeof *stu->numbers);
}

/* One layer under way. */
typedef struct {
    weir_stu_t *stu;
    size_t index;
} pass_t;

/* From x to [u v q k]. */
static void project_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_stu_t *stu = pass->stu;
    weir_stu_layer_t *layer = &stu->layers[pass->index];
    weir_stu_offsets_t at = weir_stu_offsets(&stu->config, pass->index);
    size_t dim = stu->config.embedding_dim, rows = end - first;
    size_t projected = weir_stu_projection_width(&stu->config);
    stu->kernels->layer_norm_forward(stu->stream + first * dim, rows, dim,
                                     layer->normalised + first * dim, layer->inverses + first);
    weir_stu_scale(layer->normalised, stu->parameters + at.norm_weight,
                   stu->parameters + at.norm_bias, dim, first, end, stu->scaled);
    for (size_t t = first; t < end; t++) {
        memcpy(layer->projected + t * projected, stu->parameters + at.uvqk_bias,
               projected * sizeof *layer->projected);
    }
    const weir_product_t projection = {.m = rows,
                                       .n = projected,
                                       .k = dim,
                                       .a = stu->scaled + first * dim,
                                       .lda = dim,
                                       .b = stu->parameters + at.uvqk,
                                       .ldb = projected,
                                       .add = true,
                                       .c = layer->projected + first * projected,
                                       .ldc = projected};
    weir_product_run(stu->kernels, stu->config.bf16, &projection);
}

/* stream += dropout([u | o | y]) Wo */
static void finish_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_stu_t *stu = pass->stu;
    weir_stu_layer_t *layer = &stu->layers[pass->index];
    weir_stu_offsets_t at = weir_stu_offsets(&stu->config, pass->index);
    size_t dim = stu->config.embedding_dim, gate = stu->config.heads * stu->config.dv;
    size_t projected = weir_stu_projection_width(&stu->config), rows = end - first;
    const weir_real_t *weight = stu->parameters + at.output_norm_weight;
    const weir_real_t *bias = stu->parameters + at.output_norm_bias;
    stu->kernels->layer_norm_forward(layer->attended + first * gate, rows, gate,
                                     layer->attended_norm + first * gate,
                                     layer->attended_inverses + first);
    for (size_t t = first; t < end; t++) {
        weir_real_t *u = layer->joined + t * 3 * gate, *o = u + gate, *y = o + gate;
        const weir_real_t *norm = layer->attended_norm + t * gate;
        stu->kernels->silu_forward(layer->projected + t * projected, u, gate);
        memcpy(o, layer->attended + t * gate, gate * sizeof *o);
        for (size_t c = 0; c < gate; c++) {
            y[c] = u[c] * (norm[c] * weight[c] + bias[c]);
        }
    }
    weir_stu_drop(stu, pass->index, first, end, layer->joined);
    const weir_product_t output = {.m = rows,
                                   .n = dim,
                                   .k = 3 * gate,
                                   .a = layer->joined + first * 3 * gate,
                                   .lda = 3 * gate,
                                   .b = stu->parameters + at.output_weight,
                                   .ldb = dim,
                                   .add = true,
                                   .c = stu->stream + first * dim,
                                   .ldc = dim};
    weir_product_run(stu->kernels, stu->config.bf16, &output);
}

static weir_err_t prepare(weir_stu_t *stu, const weir_stu_batch_t *batch, weir_error_t *error) {
    weir_workspace_begin(&stu->workspace);
    lay_out(stu, batch->tokens);
    weir_err_t err = weir_workspace_reserve(&stu->workspace, "the layers of a batch", error);
    if (err != WEIR_OK) {
        return err;
    }
    lay_out(stu, batch->tokens);
    for (size_t t = 0; t < batch->tokens; t++) {
        stu->numbers[t] = (uint32_t)t;
    }
    for (size_t u = 0; u < batch->users; u++) {
        weir_stu_visible(&stu->config, batch->offsets[u + 1] - batch->offsets[u],
                         batch->targets != NULL ? batch->targets[u] : 0,
                         stu->visible + batch->offsets[u]);
    }
    stu->batch = *batch;
    stu->sequence = (weir_sequence_batch_t){
        .users = batch->users,
        .tokens = batch->tokens,
        .offsets = batch->offsets,
        .global_tokens = batch->global_tokens != NULL ? batch->global_tokens : stu->numbers,
        .visible = stu->visible};
    return weir_attention_prepare(stu->attention, &stu->sequence, error);
}

weir_err_t weir_stu_forward(weir_stu_t *stu, const weir_real_t *parameters,
                            const weir_stu_batch_t *batch, const weir_real_t *x,
                            weir_forward_mode_t mode, weir_real_t *out, weir_error_t *error) {
    size_t bytes = batch->tokens * stu->config.embedding_dim * sizeof *x;
    stu->forward_done = false;
    weir_err_t err = check_batch(&stu->config, batch, error);
    if (err == WEIR_OK) {
        err = prepare(stu, batch, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    stu->parameters = parameters;
    stu->mode = mode;
    memcpy(stu->stream, x, bytes);
    for (size_t i = 0; i < stu->config.blocks; i++) {
        pass_t pass = {stu, i};
        weir_rows_run(batch->tokens, project_rows, &pass);
        const weir_attention_input_t input = {.z = stu->layers[i].projected};
        weir_attention_forward(stu->attention, &input, stu->layers[i].attended);
        weir_rows_run(batch->tokens, finish_rows, &pass);
    }
    memcpy(out, stu->stream, bytes);
    stu->forward_done = true;
    return WEIR_OK;
}
