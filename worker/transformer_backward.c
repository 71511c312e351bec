/* Backward, by hand: each step of transformer_forward.c in reverse. d_stream carries the gradient
 * of x from the last layer to the first; a layer's gradients are final when its turn is over. */
#include "worker/dot.h"
#include "worker/product.h"
#include "worker/rows.h"
#include "worker/transformer_internal.h"

#include <math.h>
#include <string.h>

/* One layer under way. */
typedef struct {
    weir_transformer_t *transformer;
    const weir_real_t *parameters, *d_encoded;
    weir_real_t *d_parameters;
    size_t index;
} pass_t;

/* Through e = x / max(|x|, floor); below the floor the divisor is a constant. */
static void start_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_transformer_t *transformer = pass->transformer;
    size_t dim = transformer->config.embedding_dim;
    for (size_t t = first; t < end; t++) {
        const weir_real_t *e = transformer->stream + t * dim, *d_e = pass->d_encoded + t * dim;
        weir_real_t *d_x = transformer->d_stream + t * dim, along = 0;
        if (transformer->norms[t] > (weir_real_t)WEIR_TRANSFORMER_NORM_FLOOR) {
            along = weir_dot(e, d_e, dim);
        }
        for (size_t d = 0; d < dim; d++) {
            d_x[d] = (d_e[d] - along * e[d]) / transformer->norms[t];
        }
    }
}

/* d_from = or += d_to W^T, of rows [first, end). */
static void project_back(const pass_t *pass, weir_transformer_parameter_t weight,
                         const weir_real_t *d_to, size_t in, size_t out, bool add, size_t first,
                         size_t end, weir_real_t *d_from) {
    const weir_encoder_config_t *config = &pass->transformer->config;
    const weir_product_t product = {.form_b = WEIR_BLAS_TRANSPOSED,
                                    .m = end - first,
                                    .n = in,
                                    .k = out,
                                    .a = d_to + first * out,
                                    .lda = out,
                                    .b = pass->parameters +
                                         weir_transformer_offset(config, pass->index, weight),
                                    .ldb = out,
                                    .add = add,
                                    .c = d_from + first * in,
                                    .ldc = in};
    weir_product_run(pass->transformer->kernels, config->bf16, &product);
}

/* Gradients of to = from W + b. */
static void sum_projection(const pass_t *pass, weir_transformer_parameter_t weight,
                           weir_transformer_parameter_t bias, const weir_real_t *from, size_t in,
                           const weir_real_t *d_to, size_t out) {
    const weir_encoder_config_t *config = &pass->transformer->config;
    size_t tokens = pass->transformer->batch.tokens;
    weir_real_t *d_bias = pass->d_parameters + weir_transformer_offset(config, pass->index, bias);
    weir_rows_sum_t sum = {.kernels = pass->transformer->kernels,
                           .bf16 = config->bf16,
                           .tokens = tokens,
                           .rows = in,
                           .columns = out,
                           .left = from,
                           .right = d_to,
                           .to = pass->d_parameters +
                                 weir_transformer_offset(config, pass->index, weight)};
    weir_rows_sum(&sum);
    memset(d_bias, 0, out * sizeof *d_bias);
    weir_rows_add_columns(d_to, tokens, out, out, pass->transformer->block, d_bias);
}

/* From d_stream, the gradient of z + Dropout(...): d_branch that of the second projection's output,
 * d_hidden that of the activation's input, d_stream that of z's sum before its norm. */
static void unfeed_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_transformer_t *transformer = pass->transformer;
    const weir_encoder_config_t *config = &transformer->config;
    const weir_transformer_layer_t *layer = &transformer->layers[pass->index];
    size_t dim = config->embedding_dim, hidden = weir_transformer_hidden(config), at = first * dim;
    uint32_t site = WEIR_TRANSFORMER_SITE_LAYER + 2 * (uint32_t)pass->index;
    memcpy(transformer->d_branch + at, transformer->d_stream + at,
           (end - first) * dim * sizeof(weir_real_t));
    weir_transformer_drop(transformer, site + 1, config->layer_dropout, dim, first, end,
                          transformer->d_branch);
    project_back(pass, WEIR_TRANSFORMER_FORWARD_WEIGHT, transformer->d_branch, hidden, dim, false,
                 first, end, transformer->d_hidden);
    weir_transformer_drop(transformer, site, config->layer_dropout, hidden, first, end,
                          transformer->d_hidden);
    for (size_t i = first * hidden; i < end * hidden; i++) {
        transformer->d_hidden[i] = layer->hidden[i] > 0 ? transformer->d_hidden[i] : 0;
    }
    project_back(pass, WEIR_TRANSFORMER_HIDDEN_WEIGHT, transformer->d_hidden, dim, hidden, true,
                 first, end, transformer->d_stream);
    transformer->kernels->layer_norm_backward(layer->z + at, layer->z_inverses + first,
                                              transformer->d_stream + at, end - first, dim, false,
                                              transformer->d_stream + at);
    project_back(pass, WEIR_TRANSFORMER_OUTPUT_WEIGHT, transformer->d_stream,
                 weir_transformer_values(config), dim, false, first, end, transformer->d_attended);
}

/* From the gradients of queries, keys and values to that of x. */
static void unproject_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_transformer_t *transformer = pass->transformer;
    const weir_encoder_config_t *config = &transformer->config;
    const weir_transformer_layer_t *layer = &transformer->layers[pass->index];
    size_t dim = config->embedding_dim, at = first * dim;
    project_back(pass, WEIR_TRANSFORMER_QUERY_WEIGHT, transformer->d_query, dim,
                 weir_transformer_query(config), true, first, end, transformer->d_stream);
    transformer->kernels->layer_norm_backward(
        layer->query_input + at, layer->query_inverses + first, transformer->d_stream + at,
        end - first, dim, false, transformer->d_stream + at);
    project_back(pass, WEIR_TRANSFORMER_KEY_VALUE_WEIGHT, transformer->d_key_value, dim,
                 weir_transformer_key_value(config), true, first, end, transformer->d_stream);
}

static void differentiate_layer(pass_t *pass) {
    weir_transformer_t *transformer = pass->transformer;
    const weir_encoder_config_t *config = &transformer->config;
    const weir_transformer_layer_t *layer = &transformer->layers[pass->index];
    size_t tokens = transformer->batch.tokens, dim = config->embedding_dim;
    size_t hidden = weir_transformer_hidden(config), query = weir_transformer_query(config);
    weir_rows_run(tokens, unfeed_rows, pass);
    sum_projection(pass, WEIR_TRANSFORMER_FORWARD_WEIGHT, WEIR_TRANSFORMER_FORWARD_BIAS,
                   layer->activated, hidden, transformer->d_branch, dim);
    sum_projection(pass, WEIR_TRANSFORMER_HIDDEN_WEIGHT, WEIR_TRANSFORMER_HIDDEN_BIAS, layer->z,
                   dim, transformer->d_hidden, hidden);
    sum_projection(pass, WEIR_TRANSFORMER_OUTPUT_WEIGHT, WEIR_TRANSFORMER_OUTPUT_BIAS,
                   layer->attended, weir_transformer_values(config), transformer->d_stream, dim);
    weir_softmax_input_t input = weir_transformer_attention_input(transformer, pass->index);
    const weir_softmax_gradient_t gradient = {.y = layer->attended,
                                              .logs = layer->logs,
                                              .d_y = transformer->d_attended,
                                              .d_q = transformer->d_query,
                                              .d_k = transformer->d_key_value,
                                              .d_v = transformer->d_key_value + query};
    weir_softmax_attention_backward(transformer->attention, &input, &gradient);
    sum_projection(pass, WEIR_TRANSFORMER_QUERY_WEIGHT, WEIR_TRANSFORMER_QUERY_BIAS,
                   layer->query_input, dim, transformer->d_query, query);
    sum_projection(pass, WEIR_TRANSFORMER_KEY_VALUE_WEIGHT, WEIR_TRANSFORMER_KEY_VALUE_BIAS,
                   layer->x, dim, transformer->d_key_value, weir_transformer_key_value(config));
    weir_rows_run(tokens, unproject_rows, pass);
}

/* Through Dropout(sqrt(D) * E + U + P). Positions are summed in the order of the users. */
static void finish_stream(const pass_t *pass, weir_real_t *d_items) {
    weir_transformer_t *transformer = pass->transformer;
    const weir_sequence_batch_t *batch = &transformer->batch;
    const weir_encoder_config_t *config = &transformer->config;
    size_t dim = config->embedding_dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim), *d_x = transformer->d_stream;
    weir_real_t *d_positions = pass->d_parameters;
    weir_transformer_drop(transformer, WEIR_TRANSFORMER_SITE_INPUT, config->input_dropout, dim, 0,
                          batch->tokens, transformer->d_stream);
    memset(d_positions, 0, config->attention_length * dim * sizeof *d_positions);
    for (size_t u = 0; u < batch->users; u++) {
        size_t begin = batch->offsets[u] * dim, end = batch->offsets[u + 1] * dim;
        for (size_t i = begin; i < end; i++) {
            d_positions[i - begin] += d_x[i];
            d_items[i] = scale * d_x[i];
        }
        if (batch->user_rows != NULL) {
            weir_real_t *d_user = transformer->d_users + u * dim;
            memset(d_user, 0, dim * sizeof *d_user);
            for (size_t i = begin; i < end; i++) {
                d_user[(i - begin) % dim] += d_x[i];
            }
        }
    }
}

weir_err_t weir_transformer_backward(void *state, const weir_real_t *parameters,
                                     const weir_real_t *d_encoded, weir_real_t *d_items,
                                     weir_real_t *d_parameters, weir_gradient_ready_t ready,
                                     void *argument, weir_error_t *error) {
    weir_transformer_t *transformer = state;
    const weir_encoder_config_t *config = &transformer->config;
    size_t positions = weir_transformer_offset(config, 0, WEIR_TRANSFORMER_QUERY_WEIGHT);
    if (!transformer->forward_done) {
        return weir_errorf(error, WEIR_ERR_INVALID, "backward without a forward before it");
    }
    pass_t pass = {.transformer = transformer,
                   .parameters = parameters,
                   .d_encoded = d_encoded,
                   .d_parameters = d_parameters};
    if (transformer->batch.tokens == 0) {
        memset(d_parameters, 0, weir_transformer_parameter_elements(config) * sizeof *d_parameters);
    }
    weir_rows_run(transformer->batch.tokens, start_rows, &pass);
    for (size_t layer = config->blocks; layer-- > 0;) {
        pass.index = layer;
        if (transformer->batch.tokens > 0) {
            differentiate_layer(&pass);
        }
        if (ready != NULL) {
            ready(argument, weir_transformer_offset(config, layer, WEIR_TRANSFORMER_QUERY_WEIGHT),
                  weir_transformer_offset(config, layer + 1, WEIR_TRANSFORMER_QUERY_WEIGHT));
        }
    }
    finish_stream(&pass, d_items);
    if (ready != NULL) {
        ready(argument, 0, positions);
    }
    return WEIR_OK;
}
