/* Backward, by hand: each step of hstu_forward.c in reverse. d_stream carries the gradient of x
 * from the last layer to the first; a layer's gradients are final when its turn is over. Of several
 * groups of users the last goes first, since its activations are still there; the others add to
 * its gradients. */
#include "worker/dot.h"
#include "worker/hstu_internal.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Through e = x / max(|x|, floor); below the floor the divisor is a constant. */
static void start_rows(weir_hstu_t *hstu, void *argument, size_t first, size_t end) {
    const weir_real_t *d_encoded = *(const weir_real_t *const *)argument;
    size_t dim = hstu->config.embedding_dim;
    for (size_t t = first; t < end; t++) {
        const weir_real_t *e = hstu->stream + t * dim, *d_e = d_encoded + t * dim;
        weir_real_t *d_x = hstu->d_stream + t * dim, along = 0;
        if (hstu->norms[t] > (weir_real_t)WEIR_HSTU_NORM_FLOOR) {
            along = weir_dot(e, d_e, dim);
        }
        for (size_t d = 0; d < dim; d++) {
            d_x[d] = (d_e[d] - along * e[d]) / hstu->norms[t];
        }
    }
}

/* One layer under way. */
typedef struct {
    const weir_real_t *parameters;
    size_t index;
} branch_t;

/* From d_stream through the output projection and u * layer_norm(y): d_gated becomes the gradient
 * of y, the columns of u in d_activated are set. z is computed again. */
static void split_rows(weir_hstu_t *hstu, void *argument, size_t first, size_t end) {
    const branch_t *branch = argument;
    const weir_hstu_config_t *config = &hstu->config;
    const weir_hstu_layer_t *layer = &hstu->layers[branch->index];
    weir_hstu_layer_offsets_t at = weir_hstu_layer_offsets(config, branch->index);
    size_t dim = config->embedding_dim, width = config->heads * config->dv, rows = end - first;
    size_t projected = weir_hstu_projection_width(config);
    weir_real_t *d_gated = hstu->d_gated + first * width;
    const weir_product_t output = {.form_b = WEIR_BLAS_TRANSPOSED,
                                   .m = rows,
                                   .n = width,
                                   .k = dim,
                                   .a = hstu->d_stream + first * dim,
                                   .lda = dim,
                                   .b = branch->parameters + at.output_weight,
                                   .ldb = dim,
                                   .c = d_gated,
                                   .ldc = width};
    weir_product_run(hstu->kernels, config->bf16, &output);
    weir_hstu_drop(hstu, WEIR_HSTU_SITE_LAYER + 2 * (uint32_t)branch->index, config->layer_dropout,
                   width, first, end, hstu->d_gated);
    hstu->kernels->silu_forward(layer->projected + first * projected,
                                hstu->activated + first * projected, rows * projected);
    for (size_t t = first; t < end; t++) {
        const weir_real_t *u = hstu->activated + t * projected;
        const weir_real_t *y = layer->attended + t * width;
        weir_real_t *d_u = hstu->d_activated + t * projected, *d_g = hstu->d_gated + t * width;
        for (size_t c = 0; c < width; c++) {
            d_u[c] = d_g[c] * y[c];
            d_g[c] *= u[c];
        }
    }
    hstu->kernels->layer_norm_backward(layer->attended + first * width,
                                       layer->attended_inverses + first, d_gated, rows, width,
                                       false, d_gated);
}

/* From the gradient of z to that of x, which d_stream adds. */
static void project_rows_back(weir_hstu_t *hstu, void *argument, size_t first, size_t end) {
    const branch_t *branch = argument;
    const weir_hstu_layer_t *layer = &hstu->layers[branch->index];
    weir_hstu_layer_offsets_t at = weir_hstu_layer_offsets(&hstu->config, branch->index);
    size_t dim = hstu->config.embedding_dim, rows = end - first;
    size_t projected = weir_hstu_projection_width(&hstu->config);
    weir_real_t *d_activated = hstu->d_activated + first * projected;
    weir_real_t *d_normalised = hstu->d_normalised + first * dim;
    hstu->kernels->silu_backward(layer->projected + first * projected, d_activated, d_activated,
                                 rows * projected);
    const weir_product_t projection = {.form_b = WEIR_BLAS_TRANSPOSED,
                                       .m = rows,
                                       .n = dim,
                                       .k = projected,
                                       .a = d_activated,
                                       .lda = projected,
                                       .b = branch->parameters + at.uvqk,
                                       .ldb = projected,
                                       .c = d_normalised,
                                       .ldc = dim};
    weir_product_run(hstu->kernels, hstu->config.bf16, &projection);
    hstu->kernels->layer_norm_backward(layer->normalised + first * dim, layer->inverses + first,
                                       d_normalised, rows, dim, true, hstu->d_stream + first * dim);
}

/* Of a layer's attention, from the gradient of y in d_gated to that of z; those of the biases are
 * added to, or overwritten. */
static void differentiate_attention(weir_hstu_t *hstu, const weir_real_t *parameters, size_t index,
                                    bool add, weir_real_t *d_parameters) {
    weir_hstu_layer_offsets_t at = weir_hstu_layer_offsets(&hstu->config, index);
    size_t positions = 2 * hstu->config.attention_length - 1;
    const weir_attention_input_t input = {.z = hstu->activated,
                                          .position_bias = parameters + at.position_bias,
                                          .time_bias = parameters + at.time_bias};
    weir_attention_gradient_t gradient = {.d_z = hstu->d_activated,
                                          .d_position_bias = d_parameters + at.position_bias,
                                          .d_time_bias = d_parameters + at.time_bias};
    if (add) {
        gradient.d_position_bias = hstu->d_biases;
        gradient.d_time_bias = hstu->d_biases + positions;
    }
    weir_attention_backward(hstu->attention, &input, hstu->d_gated, &gradient);
    for (size_t i = 0; add && i < positions; i++) {
        d_parameters[at.position_bias + i] += gradient.d_position_bias[i];
    }
    for (size_t i = 0; add && i < WEIR_HSTU_TIME_BUCKETS; i++) {
        d_parameters[at.time_bias + i] += gradient.d_time_bias[i];
    }
}

static void differentiate_layer(weir_hstu_t *hstu, const weir_real_t *parameters, size_t index,
                                bool add, weir_real_t *d_parameters) {
    const weir_hstu_config_t *config = &hstu->config;
    const weir_hstu_layer_t *layer = &hstu->layers[index];
    weir_hstu_layer_offsets_t at = weir_hstu_layer_offsets(config, index);
    size_t tokens = hstu->batch.tokens, dim = config->embedding_dim;
    branch_t branch = {parameters, index};
    if (layer->input != NULL) {
        weir_hstu_recompute_layer(hstu, parameters, index);
    }
    if (!add) {
        memset(d_parameters + at.output_bias, 0, dim * sizeof *d_parameters);
    }
    weir_rows_add_columns(hstu->d_stream, tokens, dim, dim, hstu->d_normalised,
                          d_parameters + at.output_bias);
    weir_rows_sum_t output = {.kernels = hstu->kernels,
                              .bf16 = hstu->config.bf16,
                              .tokens = tokens,
                              .rows = config->heads * config->dv,
                              .columns = dim,
                              .left = layer->gated,
                              .right = hstu->d_stream,
                              .add = add,
                              .to = d_parameters + at.output_weight};
    weir_rows_sum(&output);
    weir_hstu_run_rows(hstu, split_rows, &branch);
    differentiate_attention(hstu, parameters, index, add, d_parameters);
    weir_hstu_run_rows(hstu, project_rows_back, &branch);
    weir_rows_sum_t projection = {.kernels = hstu->kernels,
                                  .bf16 = hstu->config.bf16,
                                  .tokens = tokens,
                                  .rows = dim,
                                  .columns = weir_hstu_projection_width(config),
                                  .left = layer->normalised,
                                  .right = hstu->d_activated,
                                  .add = add,
                                  .to = d_parameters + at.uvqk};
    weir_rows_sum(&projection);
}

/* Through Dropout(sqrt(D) * E + U + P): d_stream becomes the gradient of the sum. Positions are
 * summed in the order of the users. */
static void finish_stream(weir_hstu_t *hstu, weir_real_t *d_items, weir_real_t *d_positions) {
    const weir_sequence_batch_t *batch = &hstu->batch;
    size_t dim = hstu->config.embedding_dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    weir_hstu_drop(hstu, WEIR_HSTU_SITE_INPUT, hstu->config.input_dropout, dim, 0, batch->tokens,
                   hstu->d_stream);
    for (size_t u = 0; u < batch->users; u++) {
        size_t begin = batch->offsets[u] * dim, end = batch->offsets[u + 1] * dim;
        for (size_t i = begin; i < end; i++) {
            d_positions[i - begin] += hstu->d_stream[i];
            d_items[i] = scale * hstu->d_stream[i];
        }
    }
}

/* d_users of the group's users, from d_stream. */
static void sum_users(const weir_hstu_t *hstu, weir_real_t *d_users) {
    const weir_sequence_batch_t *batch = &hstu->batch;
    size_t dim = hstu->config.embedding_dim;
    memset(d_users, 0, batch->users * dim * sizeof *d_users);
    for (size_t u = 0; u < batch->users; u++) {
        for (size_t t = batch->offsets[u]; t < batch->offsets[u + 1]; t++) {
            for (size_t d = 0; d < dim; d++) {
                d_users[u * dim + d] += hstu->d_stream[t * dim + d];
            }
        }
    }
}

void weir_hstu_user_gradients(const weir_hstu_t *hstu, weir_real_t *d_user_rows) {
    size_t bytes = hstu->whole.users * hstu->config.embedding_dim * sizeof *d_user_rows;
    if (hstu->whole.user_rows != NULL) {
        memcpy(d_user_rows, hstu->d_users, bytes);
    } else {
        memset(d_user_rows, 0, bytes);
    }
}

typedef struct {
    const weir_real_t *parameters, *d_encoded;
    weir_real_t *d_items, *d_parameters;
    weir_gradient_ready_t ready; /* NULL: not wanted */
    void *argument;
} backward_t;

static void announce(const backward_t *backward, size_t begin, size_t end) {
    if (backward->ready != NULL) {
        backward->ready(backward->argument, begin, end);
    }
}

/* The last group overwrites d_parameters, the others add to it; with the first group it is final.
 */
static weir_err_t differentiate_group(weir_hstu_t *hstu, const backward_t *backward, size_t number,
                                      weir_error_t *error) {
    const weir_hstu_config_t *config = &hstu->config;
    const weir_hstu_group_t *group = &hstu->groups[number];
    bool add = number + 1 < hstu->group_count;
    size_t dim = config->embedding_dim, positions = config->attention_length * dim;
    size_t place = hstu->whole.offsets[group->first] * dim;
    if (hstu->encoded_group != number) {
        weir_err_t err = weir_hstu_encode_group(hstu, backward->parameters, number, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    const weir_real_t *d_encoded = backward->d_encoded + place;
    weir_hstu_run_rows(hstu, start_rows, &d_encoded);
    for (size_t layer = config->blocks; layer-- > 0;) {
        weir_hstu_layer_offsets_t at = weir_hstu_layer_offsets(config, layer);
        differentiate_layer(hstu, backward->parameters, layer, add, backward->d_parameters);
        if (number == 0) {
            announce(backward, at.uvqk, at.end);
        }
    }
    if (group->kept < config->blocks) {
        hstu->encoded_group = SIZE_MAX; /* the first kept layer's have been overwritten */
    }
    if (!add) {
        memset(backward->d_parameters, 0, positions * sizeof *backward->d_parameters);
    }
    finish_stream(hstu, backward->d_items + place, backward->d_parameters);
    if (hstu->whole.user_rows != NULL) {
        sum_users(hstu, hstu->d_users + group->first * dim);
    }
    if (number == 0) {
        announce(backward, 0, positions);
    }
    return WEIR_OK;
}

weir_err_t weir_hstu_backward(weir_hstu_t *hstu, const weir_real_t *parameters,
                              const weir_real_t *d_encoded, weir_real_t *d_items,
                              weir_real_t *d_parameters, weir_gradient_ready_t ready,
                              void *argument, weir_error_t *error) {
    const backward_t backward = {.parameters = parameters,
                                 .d_encoded = d_encoded,
                                 .d_items = d_items,
                                 .d_parameters = d_parameters,
                                 .ready = ready,
                                 .argument = argument};
    weir_err_t err = WEIR_OK;
    if (!hstu->forward_done) {
        return weir_errorf(error, WEIR_ERR_INVALID, "backward without a forward before it");
    }
    if (hstu->group_count == 0) {
        size_t elements = weir_hstu_parameter_elements(&hstu->config);
        memset(d_parameters, 0, elements * sizeof *d_parameters);
        announce(&backward, 0, elements);
    }
    for (size_t group = hstu->group_count; group-- > 0 && err == WEIR_OK;) {
        err = differentiate_group(hstu, &backward, group, error);
    }
    return err;
}
