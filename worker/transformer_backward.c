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
static void start_row(weir_transformer_t *transformer, size_t row, const weir_real_t *d_e) {
    size_t dim = transformer->config.embedding_dim;
    const weir_real_t *e = transformer->stream + row * dim;
    weir_real_t *d_x = transformer->d_stream + row * dim, along = 0;
    if (transformer->norms[row] > (weir_real_t)WEIR_TRANSFORMER_NORM_FLOOR) {
        along = weir_dot(e, d_e, dim);
    }
    for (size_t d = 0; d < dim; d++) {
        d_x[d] = (d_e[d] - along * e[d]) / transformer->norms[row];
    }
}

/* d_stream of the rows that predict, zeros of the others. */
static void start_stream(const pass_t *pass) {
    weir_transformer_t *transformer = pass->transformer;
    const weir_sequence_batch_t *batch = &transformer->batch;
    size_t dim = transformer->config.embedding_dim;
    bool bert = weir_transformer_is_bert(transformer);
    if (bert) {
        memset(transformer->d_stream, 0, transformer->rows * dim * sizeof *transformer->d_stream);
    }
    for (size_t u = 0; u < batch->users; u++) {
        for (size_t t = batch->offsets[u]; t < batch->offsets[u + 1]; t++) {
            if (!bert || transformer->scored[t] != 0) {
                start_row(transformer, weir_transformer_row(transformer, u, t),
                          pass->d_encoded + t * dim);
            }
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
    size_t tokens = pass->transformer->rows;
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

/* Of what the output projection gave. */
static const weir_real_t *output_gradient(const weir_transformer_t *transformer) {
    return weir_transformer_is_bert(transformer) ? transformer->d_output : transformer->d_stream;
}

/* d_hidden through dropout and relu, or gelu. */
static void activate_rows_back(const pass_t *pass, size_t first, size_t end) {
    weir_transformer_t *transformer = pass->transformer;
    const weir_transformer_layer_t *layer = &transformer->layers[pass->index];
    size_t hidden = weir_transformer_hidden(&transformer->config);
    const weir_real_t cube = (weir_real_t)(3 * WEIR_TRANSFORMER_GELU_CUBE);
    if (!weir_transformer_is_bert(transformer)) {
        weir_transformer_drop(transformer, WEIR_TRANSFORMER_SITE_LAYER + 2 * (uint32_t)pass->index,
                              transformer->config.layer_dropout, hidden, first, end,
                              transformer->d_hidden);
    }
    for (size_t i = first * hidden; i < end * hidden; i++) {
        weir_real_t a = layer->hidden[i], slope = a > 0 ? 1 : 0;
        if (weir_transformer_is_bert(transformer)) {
            weir_real_t s = layer->sigmoids[i];
            slope = s + a * s * (1 - s) * (weir_real_t)WEIR_TRANSFORMER_GELU * (1 + cube * a * a);
        }
        transformer->d_hidden[i] *= slope;
    }
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
    bool bert = weir_transformer_is_bert(transformer);
    if (bert) {
        transformer->kernels->layer_norm_backward(layer->out + at, layer->out_inverses + first,
                                                  transformer->d_stream + at, end - first, dim,
                                                  false, transformer->d_stream + at);
    }
    memcpy(transformer->d_branch + at, transformer->d_stream + at,
           (end - first) * dim * sizeof(weir_real_t));
    weir_transformer_drop(transformer, site + 1, config->layer_dropout, dim, first, end,
                          transformer->d_branch);
    project_back(pass, WEIR_TRANSFORMER_FORWARD_WEIGHT, transformer->d_branch, hidden, dim, false,
                 first, end, transformer->d_hidden);
    activate_rows_back(pass, first, end);
    project_back(pass, WEIR_TRANSFORMER_HIDDEN_WEIGHT, transformer->d_hidden, dim, hidden, true,
                 first, end, transformer->d_stream);
    transformer->kernels->layer_norm_backward(layer->z + at, layer->z_inverses + first,
                                              transformer->d_stream + at, end - first, dim, false,
                                              transformer->d_stream + at);
    if (bert) {
        memcpy(transformer->d_output + at, transformer->d_stream + at,
               (end - first) * dim * sizeof(weir_real_t));
        weir_transformer_drop(transformer, site, config->layer_dropout, dim, first, end,
                              transformer->d_output);
    }
    project_back(pass, WEIR_TRANSFORMER_OUTPUT_WEIGHT, output_gradient(transformer),
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
    if (!weir_transformer_is_bert(transformer)) {
        transformer->kernels->layer_norm_backward(
            layer->query_input + at, layer->query_inverses + first, transformer->d_stream + at,
            end - first, dim, false, transformer->d_stream + at);
    }
    project_back(pass, WEIR_TRANSFORMER_KEY_VALUE_WEIGHT, transformer->d_key_value, dim,
                 weir_transformer_key_value(config), true, first, end, transformer->d_stream);
}

static void differentiate_layer(pass_t *pass) {
    weir_transformer_t *transformer = pass->transformer;
    const weir_encoder_config_t *config = &transformer->config;
    const weir_transformer_layer_t *layer = &transformer->layers[pass->index];
    size_t tokens = transformer->rows, dim = config->embedding_dim;
    size_t hidden = weir_transformer_hidden(config), query = weir_transformer_query(config);
    weir_rows_run(tokens, unfeed_rows, pass);
    sum_projection(pass, WEIR_TRANSFORMER_FORWARD_WEIGHT, WEIR_TRANSFORMER_FORWARD_BIAS,
                   layer->activated, hidden, transformer->d_branch, dim);
    sum_projection(pass, WEIR_TRANSFORMER_HIDDEN_WEIGHT, WEIR_TRANSFORMER_HIDDEN_BIAS, layer->z,
                   dim, transformer->d_hidden, hidden);
    sum_projection(pass, WEIR_TRANSFORMER_OUTPUT_WEIGHT, WEIR_TRANSFORMER_OUTPUT_BIAS,
                   layer->attended, weir_transformer_values(config), output_gradient(transformer),
                   dim);
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

/* From the gradient of x at the input, of one user's rows. */
static void finish_user(const pass_t *pass, size_t user, weir_real_t *d_items) {
    const weir_transformer_t *transformer = pass->transformer;
    const weir_sequence_batch_t *batch = &transformer->batch;
    size_t dim = transformer->config.embedding_dim, begin = transformer->offsets[user];
    bool bert = weir_transformer_is_bert(transformer);
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    weir_real_t *d_mask = pass->d_parameters + transformer->config.attention_length * dim;
    for (size_t row = begin; row < transformer->offsets[user + 1]; row++) {
        size_t place = row - begin, token = batch->offsets[user] + place;
        const weir_real_t *d_x = transformer->d_stream + row * dim;
        weir_real_t *d_position = pass->d_parameters + place * dim;
        bool masked = bert && transformer->masked[row] != 0;
        for (size_t d = 0; token < batch->offsets[user + 1] && d < dim; d++) {
            d_items[token * dim + d] = masked ? 0 : scale * d_x[d];
        }
        for (size_t d = 0; d < dim; d++) {
            d_position[d] += d_x[d];
        }
        for (size_t d = 0; masked && d < dim; d++) {
            d_mask[d] += scale * d_x[d];
        }
        for (size_t d = 0; batch->user_rows != NULL && d < dim; d++) {
            transformer->d_users[user * dim + d] += d_x[d];
        }
    }
}

/* Through the input. Positions are summed in the order of the users. */
static void finish_stream(const pass_t *pass, weir_real_t *d_items) {
    weir_transformer_t *transformer = pass->transformer;
    const weir_sequence_batch_t *batch = &transformer->batch;
    const weir_encoder_config_t *config = &transformer->config;
    size_t dim = config->embedding_dim;
    weir_transformer_drop(transformer, WEIR_TRANSFORMER_SITE_INPUT, config->input_dropout, dim, 0,
                          transformer->rows, transformer->d_stream);
    if (weir_transformer_is_bert(transformer)) {
        transformer->kernels->layer_norm_backward(
            transformer->embedded, transformer->embedded_inverses, transformer->d_stream,
            transformer->rows, dim, false, transformer->d_stream);
    }
    memset(pass->d_parameters, 0,
           weir_transformer_input_elements(config) * sizeof *pass->d_parameters);
    if (batch->user_rows != NULL) {
        memset(transformer->d_users, 0, batch->users * dim * sizeof *transformer->d_users);
    }
    for (size_t u = 0; u < batch->users; u++) {
        finish_user(pass, u, d_items);
    }
}

weir_err_t weir_transformer_backward(void *state, const weir_real_t *parameters,
                                     const weir_real_t *d_encoded, weir_real_t *d_items,
                                     weir_real_t *d_parameters, weir_gradient_ready_t ready,
                                     void *argument, weir_error_t *error) {
    weir_transformer_t *transformer = state;
    const weir_encoder_config_t *config = &transformer->config;
    size_t input = weir_transformer_input_elements(config);
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
    start_stream(&pass);
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
        ready(argument, 0, input);
    }
    return WEIR_OK;
}
