/* Forward: the input, then per layer norm, projection, SiLU, attention, gate, output projection and
 * the residual, at last the norm of every row. What backward needs stays in hstu->layers. */
#include "worker/blas.h"
#include "worker/dot.h"
#include "worker/hstu_internal.h"

#include <limits.h>
#include <math.h>
#include <string.h>

static weir_err_t check_batch(const weir_hstu_config_t *config, const weir_sequence_batch_t *batch,
                              weir_error_t *error) {
    if (batch->tokens > INT_MAX) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a batch of %zu tokens is over %d",
                           batch->tokens, INT_MAX);
    }
    size_t end = 0;
    for (size_t u = 0; u < batch->users; u++) {
        size_t begin = batch->offsets[u];
        if (begin != end || batch->offsets[u + 1] < begin) {
            return weir_errorf(error, WEIR_ERR_INVALID, "offsets of the batch do not ascend at %zu",
                               u);
        }
        end = batch->offsets[u + 1];
        if (end - begin == 0 || end - begin > config->max_sequence_length) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "user %zu of the batch has %zu events, expected 1 to %zu", u,
                               end - begin, config->max_sequence_length);
        }
    }
    if (end != batch->tokens) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the users of the batch have %zu tokens, the batch says %zu", end,
                           batch->tokens);
    }
    return WEIR_OK;
}

/* stream = Dropout(sqrt(D) * E + U + P) */
static void embed(weir_hstu_t *hstu, const weir_real_t *parameters, const weir_real_t *items) {
    const weir_sequence_batch_t *batch = &hstu->batch;
    size_t dim = hstu->config.embedding_dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    for (size_t u = 0; u < batch->users; u++) {
        size_t begin = batch->offsets[u] * dim, end = batch->offsets[u + 1] * dim;
        for (size_t i = begin; i < end; i++) {
            hstu->stream[i] = scale * items[i] + parameters[i - begin];
        }
    }
    for (size_t u = 0; u < batch->users && batch->user_rows != NULL; u++) {
        const weir_real_t *row = batch->user_rows + u * dim;
        for (size_t t = batch->offsets[u]; t < batch->offsets[u + 1]; t++) {
            for (size_t d = 0; d < dim; d++) {
                hstu->stream[t * dim + d] += row[d];
            }
        }
    }
    weir_hstu_drop(hstu, WEIR_HSTU_SITE_INPUT, hstu->config.input_dropout, dim, hstu->stream);
}

/* gated = u * layer_norm(y), where u is the first H dv columns of z. */
static void gate(const weir_hstu_t *hstu, weir_hstu_layer_t *layer) {
    size_t width = hstu->config.heads * hstu->config.dv;
    size_t projected = weir_hstu_projection_width(&hstu->config);
    for (size_t t = 0; t < hstu->batch.tokens; t++) {
        const weir_real_t *u = hstu->activated + t * projected;
        const weir_real_t *y = layer->attended + t * width;
        weir_real_t *g = layer->gated + t * width;
        for (size_t c = 0; c < width; c++) {
            g[c] = u[c] * y[c];
        }
    }
}

/* stream += gated O + b */
static void add_output(const weir_hstu_t *hstu, const weir_hstu_layer_t *layer,
                       const weir_real_t *weight, const weir_real_t *bias) {
    size_t dim = hstu->config.embedding_dim, width = hstu->config.heads * hstu->config.dv;
    size_t tokens = hstu->batch.tokens;
    for (size_t t = 0; t < tokens; t++) {
        weir_real_t *x = hstu->stream + t * dim;
        for (size_t d = 0; d < dim; d++) {
            x[d] += bias[d];
        }
    }
    weir_blas_gemm(WEIR_BLAS_PLAIN, WEIR_BLAS_PLAIN, tokens, dim, width, 1, layer->gated, width,
                   weight, dim, 1, hstu->stream, dim);
}

static void run_layer(weir_hstu_t *hstu, const weir_real_t *parameters, size_t index) {
    const weir_hstu_config_t *config = &hstu->config;
    const weir_kernels_t *kernels = hstu->kernels;
    weir_hstu_layer_t *layer = &hstu->layers[index];
    weir_hstu_layer_offsets_t at = weir_hstu_layer_offsets(config, index);
    size_t tokens = hstu->batch.tokens, dim = config->embedding_dim;
    size_t width = config->heads * config->dv, projected = weir_hstu_projection_width(config);
    kernels->layer_norm_forward(hstu->stream, tokens, dim, layer->normalised, layer->inverses);
    weir_blas_gemm(WEIR_BLAS_PLAIN, WEIR_BLAS_PLAIN, tokens, projected, dim, 1, layer->normalised,
                   dim, parameters + at.uvqk, projected, 0, layer->projected, projected);
    kernels->silu_forward(layer->projected, hstu->activated, tokens * projected);
    const weir_attention_input_t input = {.z = hstu->activated,
                                          .position_bias = parameters + at.position_bias,
                                          .time_bias = parameters + at.time_bias};
    weir_attention_forward(hstu->attention, &input, layer->attended);
    kernels->layer_norm_forward(layer->attended, tokens, width, layer->attended,
                                layer->attended_inverses);
    gate(hstu, layer);
    weir_hstu_drop(hstu, WEIR_HSTU_SITE_LAYER + 2 * (uint32_t)index, config->layer_dropout, width,
                   layer->gated);
    add_output(hstu, layer, parameters + at.output_weight, parameters + at.output_bias);
}

/* encoded = stream / max(|stream|, floor); the stream keeps a copy for backward. */
static void normalise_output(weir_hstu_t *hstu, weir_real_t *encoded) {
    size_t dim = hstu->config.embedding_dim;
    for (size_t t = 0; t < hstu->batch.tokens; t++) {
        weir_real_t *x = hstu->stream + t * dim;
        hstu->norms[t] = (weir_real_t)fmax(sqrt((double)weir_dot(x, x, dim)), WEIR_HSTU_NORM_FLOOR);
        for (size_t d = 0; d < dim; d++) {
            x[d] /= hstu->norms[t];
        }
    }
    memcpy(encoded, hstu->stream, hstu->batch.tokens * dim * sizeof *encoded);
}

weir_err_t weir_hstu_forward(weir_hstu_t *hstu, const weir_real_t *parameters,
                             const weir_sequence_batch_t *batch, const weir_real_t *items,
                             weir_forward_mode_t mode, weir_real_t *encoded, weir_error_t *error) {
    weir_err_t err = check_batch(&hstu->config, batch, error);
    if (err != WEIR_OK) {
        return err;
    }
    hstu->forward_done = false;
    err = weir_hstu_reserve(hstu, batch->tokens, error);
    if (err == WEIR_OK) {
        hstu->batch = *batch;
        hstu->mode = mode;
    }
    if (err == WEIR_OK && batch->tokens > 0) {
        err = weir_attention_prepare(hstu->attention, &hstu->batch, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    if (batch->tokens > 0) {
        embed(hstu, parameters, items);
        for (size_t layer = 0; layer < hstu->config.blocks; layer++) {
            run_layer(hstu, parameters, layer);
        }
        normalise_output(hstu, encoded);
    }
    hstu->forward_done = true;
    return WEIR_OK;
}
