/* Forward: the input, then per layer norm, projections, attention, residual and norm, feed-forward
 * and residual, at last the norm of every row. What backward needs stays in transformer->layers. */
#include "worker/dot.h"
#include "worker/encoder_checks.h"
#include "worker/product.h"
#include "worker/rows.h"
#include "worker/transformer_internal.h"

#include <math.h>
#include <string.h>

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static void lay_out(weir_transformer_t *transformer, const weir_sequence_batch_t *batch) {
    const weir_encoder_config_t *config = &transformer->config;
    weir_workspace_t *space = &transformer->workspace;
    size_t tokens = batch->tokens, dim = config->embedding_dim, real = sizeof(weir_real_t);
    size_t hidden = weir_transformer_hidden(config), query = weir_transformer_query(config);
    size_t key_value = weir_transformer_key_value(config), values = weir_transformer_values(config);
    for (size_t i = 0; i < config->blocks; i++) {
        weir_transformer_layer_t *layer = &transformer->layers[i];
        layer->x = weir_workspace_take(space, tokens, dim * real);
        layer->query_input = weir_workspace_take(space, tokens, dim * real);
        layer->query_inverses = weir_workspace_take(space, tokens, real);
        layer->query = weir_workspace_take(space, tokens, query * real);
        layer->key_value = weir_workspace_take(space, tokens, key_value * real);
        layer->attended = weir_workspace_take(space, tokens, values * real);
        layer->logs = weir_workspace_take(space, tokens, config->heads * real);
        layer->z = weir_workspace_take(space, tokens, dim * real);
        layer->z_inverses = weir_workspace_take(space, tokens, real);
        layer->hidden = weir_workspace_take(space, tokens, hidden * real);
        layer->activated = weir_workspace_take(space, tokens, hidden * real);
    }
    transformer->stream = weir_workspace_take(space, tokens, dim * real);
    transformer->norms = weir_workspace_take(space, tokens, real);
    transformer->branch = weir_workspace_take(space, tokens, dim * real);
    transformer->d_stream = weir_workspace_take(space, tokens, dim * real);
    transformer->d_branch = weir_workspace_take(space, tokens, dim * real);
    transformer->d_hidden = weir_workspace_take(space, tokens, hidden * real);
    transformer->d_attended = weir_workspace_take(space, tokens, values * real);
    transformer->d_query = weir_workspace_take(space, tokens, query * real);
    transformer->d_key_value = weir_workspace_take(space, tokens, key_value * real);
    transformer->d_users =
        weir_workspace_take(space, batch->user_rows != NULL ? batch->users : 0, dim * real);
    transformer->block = weir_workspace_take(space, larger(larger(dim, hidden), key_value), real);
    transformer->numbers = weir_workspace_take(space, batch->global_tokens == NULL ? tokens : 0,
                                               sizeof *transformer->numbers);
}

static weir_err_t reserve(weir_transformer_t *transformer, const weir_sequence_batch_t *batch,
                          weir_error_t *error) {
    weir_workspace_begin(&transformer->workspace);
    lay_out(transformer, batch);
    weir_err_t err =
        weir_workspace_reserve(&transformer->workspace, "the encoder's activations", error);
    if (err != WEIR_OK) {
        return err;
    }
    lay_out(transformer, batch);
    transformer->batch = *batch;
    if (batch->global_tokens == NULL) {
        for (size_t t = 0; t < batch->tokens; t++) {
            transformer->numbers[t] = (uint32_t)t;
        }
        transformer->batch.global_tokens = transformer->numbers;
    }
    return weir_softmax_attention_prepare(transformer->attention, error);
}

/* Rows to mean 0 and variance 1, y = (x - mean) * inverse. y may be x. */
static void normalise(const weir_real_t *x, size_t rows, size_t width, weir_real_t *y,
                      weir_real_t *inverses) {
    for (size_t r = 0; r < rows; r++) {
        const weir_real_t *from = x + r * width;
        weir_real_t *to = y + r * width, mean = 0;
        for (size_t c = 0; c < width; c++) {
            mean += from[c];
        }
        mean /= (weir_real_t)width;
        for (size_t c = 0; c < width; c++) {
            to[c] = from[c] - mean;
        }
        double variance = (double)weir_dot(to, to, width) / (double)width;
        inverses[r] = (weir_real_t)(1.0 / sqrt(variance + WEIR_TRANSFORMER_NORM_EPSILON));
        for (size_t c = 0; c < width; c++) {
            to[c] *= inverses[r];
        }
    }
}

/* stream = sqrt(D) * E + U + P, of the users' rows. */
static void embed(weir_transformer_t *transformer, const weir_real_t *parameters,
                  const weir_real_t *items) {
    const weir_sequence_batch_t *batch = &transformer->batch;
    size_t dim = transformer->config.embedding_dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    for (size_t u = 0; u < batch->users; u++) {
        size_t begin = batch->offsets[u] * dim, end = batch->offsets[u + 1] * dim;
        const weir_real_t *user = batch->user_rows != NULL ? batch->user_rows + u * dim : NULL;
        for (size_t i = begin; i < end; i++) {
            transformer->stream[i] = scale * items[i] + parameters[i - begin];
        }
        for (size_t i = begin; user != NULL && i < end; i++) {
            transformer->stream[i] += user[(i - begin) % dim];
        }
    }
}

/* One layer under way. */
typedef struct {
    weir_transformer_t *transformer;
    const weir_real_t *parameters;
    size_t index;
} pass_t;

static void drop_input(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    const weir_encoder_config_t *config = &pass->transformer->config;
    weir_transformer_drop(pass->transformer, WEIR_TRANSFORMER_SITE_INPUT, config->input_dropout,
                          config->embedding_dim, first, end, pass->transformer->stream);
}

/* to = from W + b, of rows [first, end); W is in x out. */
static void project(const pass_t *pass, weir_transformer_parameter_t weight,
                    weir_transformer_parameter_t bias, const weir_real_t *from, size_t in,
                    size_t out, size_t first, size_t end, weir_real_t *to) {
    const weir_encoder_config_t *config = &pass->transformer->config;
    const weir_real_t *w = pass->parameters + weir_transformer_offset(config, pass->index, weight);
    const weir_real_t *b = pass->parameters + weir_transformer_offset(config, pass->index, bias);
    for (size_t t = first; t < end; t++) {
        memcpy(to + t * out, b, out * sizeof *to);
    }
    const weir_product_t product = {.m = end - first,
                                    .n = out,
                                    .k = in,
                                    .a = from + first * in,
                                    .lda = in,
                                    .b = w,
                                    .ldb = out,
                                    .add = true,
                                    .c = to + first * out,
                                    .ldc = out};
    weir_product_run(pass->transformer->kernels, config->bf16, &product);
}

/* From x to queries, keys and values. */
static void project_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_transformer_t *transformer = pass->transformer;
    const weir_encoder_config_t *config = &transformer->config;
    weir_transformer_layer_t *layer = &transformer->layers[pass->index];
    size_t dim = config->embedding_dim, at = first * dim;
    memcpy(layer->x + at, transformer->stream + at, (end - first) * dim * sizeof *layer->x);
    normalise(layer->x + at, end - first, dim, layer->query_input + at,
              layer->query_inverses + first);
    project(pass, WEIR_TRANSFORMER_QUERY_WEIGHT, WEIR_TRANSFORMER_QUERY_BIAS, layer->query_input,
            dim, weir_transformer_query(config), first, end, layer->query);
    project(pass, WEIR_TRANSFORMER_KEY_VALUE_WEIGHT, WEIR_TRANSFORMER_KEY_VALUE_BIAS, layer->x, dim,
            weir_transformer_key_value(config), first, end, layer->key_value);
}

/* relu */
static void activate(const weir_real_t *x, size_t count, weir_real_t *y) {
    for (size_t i = 0; i < count; i++) {
        y[i] = x[i] > 0 ? x[i] : 0;
    }
}

/* From what attention gave to the next layer's x. */
static void finish_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_transformer_t *transformer = pass->transformer;
    const weir_encoder_config_t *config = &transformer->config;
    weir_transformer_layer_t *layer = &transformer->layers[pass->index];
    size_t dim = config->embedding_dim, hidden = weir_transformer_hidden(config);
    uint32_t site = WEIR_TRANSFORMER_SITE_LAYER + 2 * (uint32_t)pass->index;
    project(pass, WEIR_TRANSFORMER_OUTPUT_WEIGHT, WEIR_TRANSFORMER_OUTPUT_BIAS, layer->attended,
            weir_transformer_values(config), dim, first, end, layer->z);
    for (size_t i = first * dim; i < end * dim; i++) {
        layer->z[i] += layer->query_input[i];
    }
    normalise(layer->z + first * dim, end - first, dim, layer->z + first * dim,
              layer->z_inverses + first);
    project(pass, WEIR_TRANSFORMER_HIDDEN_WEIGHT, WEIR_TRANSFORMER_HIDDEN_BIAS, layer->z, dim,
            hidden, first, end, layer->hidden);
    activate(layer->hidden + first * hidden, (end - first) * hidden,
             layer->activated + first * hidden);
    weir_transformer_drop(transformer, site, config->layer_dropout, hidden, first, end,
                          layer->activated);
    project(pass, WEIR_TRANSFORMER_FORWARD_WEIGHT, WEIR_TRANSFORMER_FORWARD_BIAS, layer->activated,
            hidden, dim, first, end, transformer->stream);
    weir_transformer_drop(transformer, site + 1, config->layer_dropout, dim, first, end,
                          transformer->stream);
    for (size_t i = first * dim; i < end * dim; i++) {
        transformer->stream[i] += layer->z[i];
    }
}

/* stream /= max(|stream|, floor) */
static void measure_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_transformer_t *transformer = pass->transformer;
    size_t dim = transformer->config.embedding_dim;
    for (size_t t = first; t < end; t++) {
        weir_real_t *x = transformer->stream + t * dim;
        double norm = sqrt((double)weir_dot(x, x, dim));
        transformer->norms[t] = (weir_real_t)fmax(norm, WEIR_TRANSFORMER_NORM_FLOOR);
        for (size_t d = 0; d < dim; d++) {
            x[d] /= transformer->norms[t];
        }
    }
}

weir_err_t weir_transformer_forward(void *state, const weir_real_t *parameters,
                                    const weir_sequence_batch_t *batch, const weir_real_t *items,
                                    weir_forward_mode_t mode, weir_real_t *encoded,
                                    weir_error_t *error) {
    weir_transformer_t *transformer = state;
    size_t tokens = batch->tokens;
    weir_err_t err = weir_encoder_check_batch(&transformer->config, batch, error);
    transformer->forward_done = false;
    if (err == WEIR_OK) {
        err = reserve(transformer, batch, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    transformer->mode = mode;
    pass_t pass = {.transformer = transformer, .parameters = parameters};
    embed(transformer, parameters, items);
    weir_rows_run(tokens, drop_input, &pass);
    for (pass.index = 0; pass.index < transformer->config.blocks; pass.index++) {
        const weir_transformer_layer_t *layer = &transformer->layers[pass.index];
        weir_rows_run(tokens, project_rows, &pass);
        weir_softmax_input_t input = weir_transformer_attention_input(transformer, pass.index);
        weir_softmax_attention_forward(transformer->attention, &input, layer->attended,
                                       layer->logs);
        weir_rows_run(tokens, finish_rows, &pass);
    }
    weir_rows_run(tokens, measure_rows, &pass);
    memcpy(encoded, transformer->stream,
           tokens * transformer->config.embedding_dim * sizeof *encoded);
    transformer->forward_done = true;
    return WEIR_OK;
}
