/* Backward through time: of each layer first the steps, last event first, then the sums over all
 * events at once. */
#include "worker/dot.h"
#include "worker/gru_internal.h"
#include "worker/parallel.h"
#include "worker/product.h"
#include "worker/rows.h"

#include <math.h>
#include <string.h>

/* One layer under way. */
typedef struct {
    weir_gru_t *gru;
    const weir_real_t *parameters, *d_encoded;
    weir_real_t *d_parameters;
    size_t index;
} pass_t;

/* d_from = d_to W^T */
static void multiply_back(const pass_t *pass, const weir_real_t *d_to, size_t out, size_t weight,
                          size_t in, size_t rows, weir_real_t *d_from) {
    const weir_product_t product = {.form_b = WEIR_BLAS_TRANSPOSED,
                                    .m = rows,
                                    .n = in,
                                    .k = out,
                                    .a = d_to,
                                    .lda = out,
                                    .b = pass->parameters + weight,
                                    .ldb = out,
                                    .c = d_from,
                                    .ldc = in};
    weir_product_run(pass->gru->kernels, pass->gru->config.bf16, &product);
}

/* Through e = x / max(|x|, floor) and the output projection: d_state of the last layer. */
static void start_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_gru_t *gru = pass->gru;
    size_t dim = gru->config.embedding_dim, hidden = weir_gru_hidden(&gru->config);
    for (size_t t = first; t < end; t++) {
        const weir_real_t *e = gru->stream + t * dim;
        const weir_real_t *d_e = pass->d_encoded + gru->tokens[t] * dim;
        weir_real_t *d_x = gru->d_stream + t * dim, along = 0;
        if (gru->norms[t] > (weir_real_t)WEIR_GRU_NORM_FLOOR) {
            along = weir_dot(e, d_e, dim);
        }
        for (size_t d = 0; d < dim; d++) {
            d_x[d] = (d_e[d] - along * e[d]) / gru->norms[t];
        }
    }
    multiply_back(pass, gru->d_stream + first * dim, dim, weir_gru_output_offset(&gru->config),
                  hidden, end - first, gru->d_state + first * hidden);
}

/* d_weight = from^T d_to */
static void sum_projection(const pass_t *pass, const weir_real_t *from, size_t in,
                           const weir_real_t *d_to, size_t out, size_t weight) {
    weir_rows_sum_t sum = {.kernels = pass->gru->kernels,
                           .bf16 = pass->gru->config.bf16,
                           .tokens = pass->gru->batch.tokens,
                           .rows = in,
                           .columns = out,
                           .left = from,
                           .right = d_to,
                           .to = pass->d_parameters + weight};
    weir_rows_sum(&sum);
}

/* d_bias = the sums of `width` columns of rows `row` apart. */
static void sum_bias(const pass_t *pass, const weir_real_t *d_to, size_t row, size_t width,
                     size_t bias) {
    weir_real_t *d_bias = pass->d_parameters + bias;
    memset(d_bias, 0, width * sizeof *d_bias);
    weir_rows_add_columns(d_to, pass->gru->batch.tokens, row, width, pass->gru->block, d_bias);
}

/* One event of `rows` users, from d = the gradient of h: those of the gates' arguments, and in `d`
 * what goes to the h before past the gates. */
static void run_gates_back(size_t rows, size_t hidden, const weir_real_t *gates,
                           const weir_real_t *recall, const weir_real_t *previous,
                           weir_real_t *d_gates, weir_real_t *d_state_gates, weir_real_t *d) {
    for (size_t i = 0; i < rows; i++) {
        const weir_real_t *r = gates + i * 3 * hidden, *z = r + hidden, *n = z + hidden;
        const weir_real_t *q = recall + i * hidden, *h = previous + i * hidden;
        weir_real_t *d_x = d_gates + i * 3 * hidden, *d_h = d_state_gates + i * 3 * hidden;
        weir_real_t *d_row = d + i * hidden;
        for (size_t c = 0; c < hidden; c++) {
            weir_real_t d_z = d_row[c] * (h[c] - n[c]);
            weir_real_t d_n = d_row[c] * (1 - z[c]) * (1 - n[c] * n[c]);
            weir_real_t to_r = d_n * q[c] * r[c] * (1 - r[c]), to_z = d_z * z[c] * (1 - z[c]);
            d_x[c] = d_h[c] = to_r;
            d_x[hidden + c] = d_h[hidden + c] = to_z;
            d_x[2 * hidden + c] = d_n;
            d_h[2 * hidden + c] = d_n * r[c];
            d_row[c] *= z[c];
        }
    }
}

/* Events of the longest user. */
static size_t count_steps(const weir_gru_t *gru, size_t group) {
    uint32_t longest = gru->users[group * WEIR_GRU_GROUP];
    return gru->batch.offsets[longest + 1] - gru->batch.offsets[longest];
}

static void run_group(void *argument, size_t group, uint32_t thread) {
    const pass_t *pass = argument;
    weir_gru_t *gru = pass->gru;
    const weir_gru_layer_t *layer = &gru->layers[pass->index];
    size_t hidden = weir_gru_hidden(&gru->config), row = gru->first_rows[group + 1];
    size_t left = gru->batch.users - group * WEIR_GRU_GROUP;
    size_t most = left < WEIR_GRU_GROUP ? left : WEIR_GRU_GROUP;
    size_t weight = weir_gru_offsets(&gru->config, pass->index).state_weight;
    weir_real_t *d = gru->carried + group * WEIR_GRU_GROUP * hidden;
    weir_real_t *through = gru->scratch + group * WEIR_GRU_GROUP * 3 * hidden;
    (void)thread;
    memset(d, 0, most * hidden * sizeof *d);
    for (size_t place = count_steps(gru, group); place-- > 0;) {
        size_t active = weir_gru_active(gru, group, place, most);
        row -= active;
        for (size_t i = 0; i < active * hidden; i++) {
            d[i] += gru->d_state[row * hidden + i];
        }
        weir_real_t *d_state_gates = gru->d_state_gates + row * 3 * hidden;
        run_gates_back(active, hidden, layer->gates + row * 3 * hidden,
                       layer->recall + row * hidden, layer->previous + row * hidden,
                       gru->d_gates + row * 3 * hidden, d_state_gates, d);
        if (place > 0) {
            multiply_back(pass, d_state_gates, 3 * hidden, weight, hidden, active, through);
            for (size_t i = 0; i < active * hidden; i++) {
                d[i] += through[i];
            }
        }
    }
}

static void drop_state(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_gru_drop(pass->gru, WEIR_GRU_SITE_LAYER + (uint32_t)pass->index,
                  pass->gru->config.layer_dropout, weir_gru_hidden(&pass->gru->config), first, end,
                  pass->gru->d_state);
}

/* The gradient of a layer's x: of the state of the layer below, or of the input. */
static void finish_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_gru_t *gru = pass->gru;
    size_t hidden = weir_gru_hidden(&gru->config);
    size_t input = weir_gru_input(&gru->config, pass->index);
    weir_real_t *d_x = pass->index > 0 ? gru->d_state : gru->d_stream;
    multiply_back(pass, gru->d_gates + first * 3 * hidden, 3 * hidden,
                  weir_gru_offsets(&gru->config, pass->index).input_weight, input, end - first,
                  d_x + first * input);
}

static void differentiate_layer(pass_t *pass) {
    weir_gru_t *gru = pass->gru;
    const weir_gru_layer_t *layer = &gru->layers[pass->index];
    weir_gru_offsets_t at = weir_gru_offsets(&gru->config, pass->index);
    size_t hidden = weir_gru_hidden(&gru->config);
    weir_rows_run(gru->batch.tokens, drop_state, pass);
    weir_parallel_run(weir_gru_groups(gru), run_group, pass);
    sum_projection(pass, layer->x, weir_gru_input(&gru->config, pass->index), gru->d_gates,
                   3 * hidden, at.input_weight);
    sum_bias(pass, gru->d_gates, 3 * hidden, 3 * hidden, at.input_bias);
    sum_projection(pass, layer->previous, hidden, gru->d_state_gates, 3 * hidden, at.state_weight);
    sum_bias(pass, gru->d_state_gates + 2 * hidden, 3 * hidden, hidden, at.candidate_bias);
    weir_rows_run(gru->batch.tokens, finish_rows, pass);
}

/* Through Dropout(sqrt(D) * E + U), from packed rows to tokens. */
static void finish_stream(const pass_t *pass, weir_real_t *d_items) {
    weir_gru_t *gru = pass->gru;
    const weir_sequence_batch_t *batch = &gru->batch;
    size_t dim = gru->config.embedding_dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    weir_gru_drop(gru, WEIR_GRU_SITE_INPUT, gru->config.input_dropout, dim, 0, batch->tokens,
                  gru->d_stream);
    if (batch->user_rows != NULL) {
        memset(gru->d_users, 0, batch->users * dim * sizeof *gru->d_users);
    }
    for (size_t row = 0; row < batch->tokens; row++) { /* of a user: in the order of its tokens */
        const weir_real_t *d_x = gru->d_stream + row * dim;
        weir_real_t *d_item = d_items + gru->tokens[row] * dim;
        for (size_t d = 0; d < dim; d++) {
            d_item[d] = scale * d_x[d];
        }
        if (batch->user_rows != NULL) {
            weir_real_t *d_user = gru->d_users + gru->owners[row] * dim;
            for (size_t d = 0; d < dim; d++) {
                d_user[d] += d_x[d];
            }
        }
    }
}

weir_err_t weir_gru_backward(void *state, const weir_real_t *parameters,
                             const weir_real_t *d_encoded, weir_real_t *d_items,
                             weir_real_t *d_parameters, weir_gradient_ready_t ready, void *argument,
                             weir_error_t *error) {
    weir_gru_t *gru = state;
    const weir_encoder_config_t *config = &gru->config;
    size_t dim = config->embedding_dim, hidden = weir_gru_hidden(config);
    size_t output = weir_gru_output_offset(config), elements = weir_gru_parameter_elements(config);
    if (!gru->forward_done) {
        return weir_errorf(error, WEIR_ERR_INVALID, "backward without a forward before it");
    }
    pass_t pass = {
        .gru = gru, .parameters = parameters, .d_encoded = d_encoded, .d_parameters = d_parameters};
    if (gru->batch.tokens == 0) {
        memset(d_parameters, 0, elements * sizeof *d_parameters);
    } else {
        weir_rows_run(gru->batch.tokens, start_rows, &pass);
        sum_projection(&pass, gru->output, hidden, gru->d_stream, dim, output);
        sum_bias(&pass, gru->d_stream, dim, dim, output + hidden * dim);
    }
    if (ready != NULL) {
        ready(argument, output, elements);
    }
    for (size_t layer = config->blocks; layer-- > 0;) {
        weir_gru_offsets_t at = weir_gru_offsets(config, layer);
        pass.index = layer;
        if (gru->batch.tokens > 0) {
            differentiate_layer(&pass);
        }
        if (ready != NULL) {
            ready(argument, at.input_weight, at.end);
        }
    }
    finish_stream(&pass, d_items);
    return WEIR_OK;
}
