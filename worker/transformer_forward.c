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

static void lay_out_layer(weir_transformer_t *transformer, weir_transformer_layer_t *layer,
                          size_t rows) {
    const weir_encoder_config_t *config = &transformer->config;
    weir_workspace_t *space = &transformer->workspace;
    size_t dim = config->embedding_dim, real = sizeof(weir_real_t);
    size_t hidden = weir_transformer_hidden(config), own = weir_transformer_is_bert(transformer);
    layer->x = weir_workspace_take(space, rows, dim * real);
    layer->query_input = weir_workspace_take(space, own ? 0 : rows, dim * real);
    layer->query_inverses = weir_workspace_take(space, own ? 0 : rows, real);
    layer->query = weir_workspace_take(space, rows, weir_transformer_query(config) * real);
    layer->key_value = weir_workspace_take(space, rows, weir_transformer_key_value(config) * real);
    layer->attended = weir_workspace_take(space, rows, weir_transformer_values(config) * real);
    layer->logs = weir_workspace_take(space, rows, config->heads * real);
    layer->z = weir_workspace_take(space, rows, dim * real);
    layer->z_inverses = weir_workspace_take(space, rows, real);
    layer->hidden = weir_workspace_take(space, rows, hidden * real);
    layer->activated = weir_workspace_take(space, rows, hidden * real);
    layer->sigmoids = weir_workspace_take(space, own ? rows : 0, hidden * real);
    layer->out = weir_workspace_take(space, own ? rows : 0, dim * real);
    layer->out_inverses = weir_workspace_take(space, own ? rows : 0, real);
    if (own) {
        layer->query_input = layer->x;
    }
}

static void lay_out(weir_transformer_t *transformer, const weir_sequence_batch_t *batch) {
    const weir_encoder_config_t *config = &transformer->config;
    weir_workspace_t *space = &transformer->workspace;
    size_t rows = transformer->rows, dim = config->embedding_dim, real = sizeof(weir_real_t);
    size_t hidden = weir_transformer_hidden(config);
    size_t key_value = weir_transformer_key_value(config);
    size_t own = weir_transformer_is_bert(transformer) ? rows : 0;
    for (size_t i = 0; i < config->blocks; i++) {
        lay_out_layer(transformer, &transformer->layers[i], rows);
    }
    transformer->stream = weir_workspace_take(space, rows, dim * real);
    transformer->norms = weir_workspace_take(space, rows, real);
    transformer->d_stream = weir_workspace_take(space, rows, dim * real);
    transformer->d_branch = weir_workspace_take(space, rows, dim * real);
    transformer->d_output = weir_workspace_take(space, own, dim * real);
    transformer->embedded = weir_workspace_take(space, own, dim * real);
    transformer->embedded_inverses = weir_workspace_take(space, own, real);
    transformer->d_hidden = weir_workspace_take(space, rows, hidden * real);
    transformer->d_attended =
        weir_workspace_take(space, rows, weir_transformer_values(config) * real);
    transformer->d_query = weir_workspace_take(space, rows, weir_transformer_query(config) * real);
    transformer->d_key_value = weir_workspace_take(space, rows, key_value * real);
    transformer->d_users =
        weir_workspace_take(space, batch->user_rows != NULL ? batch->users : 0, dim * real);
    transformer->block = weir_workspace_take(space, larger(larger(dim, hidden), key_value), real);
    transformer->own_numbers = weir_workspace_take(space, rows, sizeof(uint32_t));
    transformer->own_offsets = weir_workspace_take(space, batch->users + 1, sizeof(size_t));
    transformer->masked = weir_workspace_take(space, own, sizeof(uint8_t));
    transformer->scored = weir_workspace_take(space, own, sizeof(uint8_t));
}

static weir_err_t reserve(weir_transformer_t *transformer, const weir_sequence_batch_t *batch,
                          weir_error_t *error) {
    transformer->rows = weir_transformer_row(transformer, batch->users, batch->tokens);
    transformer->rows -= weir_transformer_is_bert(transformer) ? 1 : 0;
    weir_workspace_begin(&transformer->workspace);
    lay_out(transformer, batch);
    weir_err_t err =
        weir_workspace_reserve(&transformer->workspace, "the encoder's activations", error);
    if (err != WEIR_OK) {
        return err;
    }
    lay_out(transformer, batch);
    transformer->batch = *batch;
    weir_transformer_arrange(transformer);
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

/* stream = sqrt(D) * E + U + P, of the users' rows; M for E where an event is masked. */
static void embed(weir_transformer_t *transformer, const weir_real_t *parameters,
                  const weir_real_t *items) {
    const weir_sequence_batch_t *batch = &transformer->batch;
    size_t dim = transformer->config.embedding_dim;
    bool bert = weir_transformer_is_bert(transformer);
    const weir_real_t *mask = parameters + transformer->config.attention_length * dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    for (size_t u = 0; u < batch->users; u++) {
        const weir_real_t *user = batch->user_rows != NULL ? batch->user_rows + u * dim : NULL;
        size_t begin = transformer->offsets[u];
        for (size_t row = begin; row < transformer->offsets[u + 1]; row++) {
            const weir_real_t *position = parameters + (row - begin) * dim;
            const weir_real_t *item = items + (batch->offsets[u] + row - begin) * dim;
            weir_real_t *x = transformer->stream + row * dim;
            item = bert && transformer->masked[row] != 0 ? mask : item;
            for (size_t d = 0; d < dim; d++) {
                x[d] = scale * item[d] + position[d];
            }
            for (size_t d = 0; user != NULL && d < dim; d++) {
                x[d] += user[d];
            }
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
    weir_transformer_t *transformer = pass->transformer;
    size_t dim = transformer->config.embedding_dim, at = first * dim;
    if (weir_transformer_is_bert(transformer)) {
        normalise(transformer->stream + at, end - first, dim, transformer->embedded + at,
                  transformer->embedded_inverses + first);
        memcpy(transformer->stream + at, transformer->embedded + at,
               (end - first) * dim * sizeof(weir_real_t));
    }
    weir_transformer_drop(transformer, WEIR_TRANSFORMER_SITE_INPUT,
                          transformer->config.input_dropout, dim, first, end, transformer->stream);
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
    if (!weir_transformer_is_bert(transformer)) {
        normalise(layer->x + at, end - first, dim, layer->query_input + at,
                  layer->query_inverses + first);
    }
    project(pass, WEIR_TRANSFORMER_QUERY_WEIGHT, WEIR_TRANSFORMER_QUERY_BIAS, layer->query_input,
            dim, weir_transformer_query(config), first, end, layer->query);
    project(pass, WEIR_TRANSFORMER_KEY_VALUE_WEIGHT, WEIR_TRANSFORMER_KEY_VALUE_BIAS, layer->x, dim,
            weir_transformer_key_value(config), first, end, layer->key_value);
}

/* relu, then dropout; or gelu. */
static void activate_rows(const pass_t *pass, size_t first, size_t end) {
    weir_transformer_t *transformer = pass->transformer;
    weir_transformer_layer_t *layer = &transformer->layers[pass->index];
    size_t hidden = weir_transformer_hidden(&transformer->config);
    size_t from = first * hidden, to = end * hidden;
    if (!weir_transformer_is_bert(transformer)) {
        for (size_t i = from; i < to; i++) {
            layer->activated[i] = layer->hidden[i] > 0 ? layer->hidden[i] : 0;
        }
        weir_transformer_drop(transformer, WEIR_TRANSFORMER_SITE_LAYER + 2 * (uint32_t)pass->index,
                              transformer->config.layer_dropout, hidden, first, end,
                              layer->activated);
        return;
    }
    for (size_t i = from; i < to; i++) {
        weir_real_t a = layer->hidden[i];
        layer->sigmoids[i] = -(weir_real_t)WEIR_TRANSFORMER_GELU *
                             (a + (weir_real_t)WEIR_TRANSFORMER_GELU_CUBE * a * a * a);
    }
    transformer->kernels->exp(layer->sigmoids + from, layer->sigmoids + from, to - from);
    for (size_t i = from; i < to; i++) {
        layer->sigmoids[i] = 1 / (1 + layer->sigmoids[i]);
        layer->activated[i] = layer->hidden[i] * layer->sigmoids[i];
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
    bool bert = weir_transformer_is_bert(transformer);
    project(pass, WEIR_TRANSFORMER_OUTPUT_WEIGHT, WEIR_TRANSFORMER_OUTPUT_BIAS, layer->attended,
            weir_transformer_values(config), dim, first, end, layer->z);
    if (bert) {
        weir_transformer_drop(transformer, site, config->layer_dropout, dim, first, end, layer->z);
    }
    for (size_t i = first * dim; i < end * dim; i++) {
        layer->z[i] += layer->query_input[i];
    }
    normalise(layer->z + first * dim, end - first, dim, layer->z + first * dim,
              layer->z_inverses + first);
    project(pass, WEIR_TRANSFORMER_HIDDEN_WEIGHT, WEIR_TRANSFORMER_HIDDEN_BIAS, layer->z, dim,
            hidden, first, end, layer->hidden);
    activate_rows(pass, first, end);
    project(pass, WEIR_TRANSFORMER_FORWARD_WEIGHT, WEIR_TRANSFORMER_FORWARD_BIAS, layer->activated,
            hidden, dim, first, end, transformer->stream);
    weir_transformer_drop(transformer, site + 1, config->layer_dropout, dim, first, end,
                          transformer->stream);
    for (size_t i = first * dim; i < end * dim; i++) {
        transformer->stream[i] += layer->z[i];
    }
    if (bert) {
        size_t at = first * dim;
        normalise(transformer->stream + at, end - first, dim, layer->out + at,
                  layer->out_inverses + first);
        memcpy(transformer->stream + at, layer->out + at,
               (end - first) * dim * sizeof(weir_real_t));
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

/* The rows that predict, to their tokens. */
static void give_out(const weir_transformer_t *transformer, weir_real_t *encoded) {
    const weir_sequence_batch_t *batch = &transformer->batch;
    size_t dim = transformer->config.embedding_dim;
    bool bert = weir_transformer_is_bert(transformer);
    for (size_t u = 0; u < batch->users; u++) {
        for (size_t t = batch->offsets[u]; t < batch->offsets[u + 1]; t++) {
            size_t row = weir_transformer_row(transformer, u, t);
            if (bert && transformer->scored[t] == 0) {
                memset(encoded + t * dim, 0, dim * sizeof *encoded);
            } else {
                memcpy(encoded + t * dim, transformer->stream + row * dim, dim * sizeof *encoded);
            }
        }
    }
}

weir_err_t weir_transformer_forward(void *state, const weir_real_t *parameters,
                                    const weir_sequence_batch_t *batch, const weir_real_t *items,
                                    weir_forward_mode_t mode, weir_real_t *encoded,
                                    weir_error_t *error) {
    weir_transformer_t *transformer = state;
    weir_err_t err = weir_encoder_check_batch(&transformer->config, batch, error);
    transformer->forward_done = false;
    transformer->mode = mode;
    if (err == WEIR_OK) {
        err = reserve(transformer, batch, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    size_t rows = transformer->rows;
    pass_t pass = {.transformer = transformer, .parameters = parameters};
    embed(transformer, parameters, items);
    weir_rows_run(rows, drop_input, &pass);
    for (pass.index = 0; pass.index < transformer->config.blocks; pass.index++) {
        const weir_transformer_layer_t *layer = &transformer->layers[pass.index];
        weir_rows_run(rows, project_rows, &pass);
        weir_softmax_input_t input = weir_transformer_attention_input(transformer, pass.index);
        weir_softmax_attention_forward(transformer->attention, &input, layer->attended,
                                       layer->logs);
        weir_rows_run(rows, finish_rows, &pass);
    }
    weir_rows_run(rows, measure_rows, &pass);
    give_out(transformer, encoded);
    transformer->forward_done = true;
    return WEIR_OK;
}
