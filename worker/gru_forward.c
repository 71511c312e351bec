/* Forward: rows are packed, then per layer one product for the inputs of all events, and step by
 * step one for the states of all users of a group, with the gates in the same pass. */
#include "worker/dot.h"
#include "worker/encoder_checks.h"
#include "worker/gru_internal.h"
#include "worker/parallel.h"
#include "worker/product.h"
#include "worker/rows.h"

#include <math.h>
#include <string.h>

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static void lay_out(weir_gru_t *gru, const weir_sequence_batch_t *batch) {
    const weir_encoder_config_t *config = &gru->config;
    weir_workspace_t *space = &gru->workspace;
    size_t tokens = batch->tokens, dim = config->embedding_dim, hidden = weir_gru_hidden(config);
    size_t real = sizeof(weir_real_t), wide = larger(dim, hidden);
    size_t groups = (batch->users + WEIR_GRU_GROUP - 1) / WEIR_GRU_GROUP;
    for (size_t i = 0; i < config->blocks; i++) {
        weir_gru_layer_t *layer = &gru->layers[i];
        layer->x = weir_workspace_take(space, tokens, weir_gru_input(config, i) * real);
        layer->gates = weir_workspace_take(space, tokens, 3 * hidden * real);
        layer->recall = weir_workspace_take(space, tokens, hidden * real);
        layer->previous = weir_workspace_take(space, tokens, hidden * real);
    }
    gru->output = weir_workspace_take(space, tokens, hidden * real);
    gru->stream = weir_workspace_take(space, tokens, dim * real);
    gru->norms = weir_workspace_take(space, tokens, real);
    gru->d_stream = weir_workspace_take(space, tokens, dim * real);
    gru->d_state = weir_workspace_take(space, tokens, wide * real);
    gru->d_gates = weir_workspace_take(space, tokens, 3 * hidden * real);
    gru->d_state_gates = weir_workspace_take(space, tokens, 3 * hidden * real);
    gru->carried = weir_workspace_take(space, groups, WEIR_GRU_GROUP * hidden * real);
    gru->scratch = weir_workspace_take(space, groups, WEIR_GRU_GROUP * 3 * hidden * real);
    gru->block = weir_workspace_take(space, larger(3 * hidden, dim), real);
    gru->d_users =
        weir_workspace_take(space, batch->user_rows != NULL ? batch->users : 0, dim * real);
    gru->users = weir_workspace_take(space, batch->users, sizeof *gru->users);
    gru->tokens = weir_workspace_take(space, tokens, sizeof *gru->tokens);
    gru->owners = weir_workspace_take(space, tokens, sizeof *gru->owners);
    gru->numbers = weir_workspace_take(space, tokens, sizeof *gru->numbers);
    gru->first_rows = weir_workspace_take(space, groups + 1, sizeof *gru->first_rows);
}

/* Users by length, longest first, equal ones in their order: by counting. */
static void sort_users(weir_gru_t *gru) {
    const weir_sequence_batch_t *batch = &gru->batch;
    size_t placed = 0, longest = 0;
    for (size_t u = 0; u < batch->users; u++) {
        longest = larger(longest, batch->offsets[u + 1] - batch->offsets[u]);
    }
    for (size_t length = longest, next; length > 0; length = next) {
        next = 0;
        for (size_t u = 0; u < batch->users; u++) {
            size_t of_user = batch->offsets[u + 1] - batch->offsets[u];
            if (of_user == length) {
                gru->users[placed++] = (uint32_t)u;
            } else if (of_user < length) {
                next = larger(next, of_user);
            }
        }
    }
}

/* Which token stands in which row. */
static void pack(weir_gru_t *gru) {
    const weir_sequence_batch_t *batch = &gru->batch;
    size_t row = 0, groups = weir_gru_groups(gru);
    sort_users(gru);
    for (size_t group = 0; group < groups; group++) {
        size_t first = group * WEIR_GRU_GROUP, left = batch->users - first;
        size_t active = left < WEIR_GRU_GROUP ? left : WEIR_GRU_GROUP;
        gru->first_rows[group] = row;
        for (size_t place = 0; active > 0; place++) {
            active = weir_gru_active(gru, group, place, active);
            for (size_t i = 0; i < active; i++, row++) {
                size_t token = batch->offsets[gru->users[first + i]] + place;
                gru->owners[row] = gru->users[first + i];
                gru->tokens[row] = (uint32_t)token;
                gru->numbers[row] =
                    batch->global_tokens != NULL ? batch->global_tokens[token] : (uint32_t)token;
            }
        }
    }
    gru->first_rows[groups] = row;
}

static weir_err_t reserve(weir_gru_t *gru, const weir_sequence_batch_t *batch,
                          weir_error_t *error) {
    weir_workspace_begin(&gru->workspace);
    lay_out(gru, batch);
    weir_err_t err = weir_workspace_reserve(&gru->workspace, "the encoder's activations", error);
    if (err == WEIR_OK) {
        lay_out(gru, batch);
        gru->batch = *batch;
        pack(gru);
    }
    return err;
}

/* x of the first layer: sqrt(D) * E + U. */
static void embed(weir_gru_t *gru, const weir_real_t *items) {
    const weir_sequence_batch_t *batch = &gru->batch;
    size_t dim = gru->config.embedding_dim;
    const weir_real_t scale = (weir_real_t)sqrt((double)dim);
    for (size_t row = 0; row < batch->tokens; row++) {
        const weir_real_t *item = items + gru->tokens[row] * dim;
        weir_real_t *x = gru->layers[0].x + row * dim;
        for (size_t d = 0; d < dim; d++) {
            x[d] = scale * item[d];
        }
        if (batch->user_rows != NULL) {
            const weir_real_t *user = batch->user_rows + gru->owners[row] * dim;
            for (size_t d = 0; d < dim; d++) {
                x[d] += user[d];
            }
        }
    }
}

/* One layer under way. */
typedef struct {
    weir_gru_t *gru;
    const weir_real_t *parameters;
    size_t index;
} pass_t;

static void drop_input(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    const weir_encoder_config_t *config = &pass->gru->config;
    weir_gru_drop(pass->gru, WEIR_GRU_SITE_INPUT, config->input_dropout, config->embedding_dim,
                  first, end, pass->gru->layers[0].x);
}

static weir_product_t product_of(const weir_real_t *from, size_t in, const weir_real_t *weight,
                                 size_t out, size_t rows, weir_real_t *to) {
    return (weir_product_t){.m = rows,
                            .n = out,
                            .k = in,
                            .a = from,
                            .lda = in,
                            .b = weight,
                            .ldb = out,
                            .c = to,
                            .ldc = out};
}

/* rows of `to` = the bias + from W */
static void project(const pass_t *pass, const weir_real_t *from, size_t in, size_t weight,
                    size_t bias, size_t out, size_t first, size_t end, weir_real_t *to) {
    for (size_t t = first; t < end; t++) {
        memcpy(to + t * out, pass->parameters + bias, out * sizeof *to);
    }
    weir_product_t product = product_of(from + first * in, in, pass->parameters + weight, out,
                                        end - first, to + first * out);
    product.add = true;
    weir_product_run(pass->gru->kernels, pass->gru->config.bf16, &product);
}

static void project_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    const weir_encoder_config_t *config = &pass->gru->config;
    weir_gru_layer_t *layer = &pass->gru->layers[pass->index];
    weir_gru_offsets_t at = weir_gru_offsets(config, pass->index);
    project(pass, layer->x, weir_gru_input(config, pass->index), at.input_weight, at.input_bias,
            3 * weir_gru_hidden(config), first, end, layer->gates);
}

/* values <- 1 / (1 + e^-values), where they stand negated. */
static void finish_sigmoid(const weir_kernels_t *kernels, weir_real_t *values, size_t count) {
    kernels->exp(values, values, count);
    for (size_t i = 0; i < count; i++) {
        values[i] = 1 / (1 + values[i]);
    }
}

/* One event of `rows` users: gates from x Wx + b to r, z, n; recall, and the new states. `scratch`
 * holds h Wh, rows x 3 F. */
static void run_gates(const weir_kernels_t *kernels, size_t rows, size_t hidden,
                      const weir_real_t *candidate_bias, const weir_real_t *previous,
                      weir_real_t *scratch, weir_real_t *gates, weir_real_t *recall,
                      weir_real_t *state) {
    for (size_t i = 0; i < rows; i++) {
        weir_real_t *g = gates + i * 3 * hidden, *s = scratch + i * 3 * hidden;
        for (size_t c = 0; c < hidden; c++) {
            recall[i * hidden + c] = s[2 * hidden + c] + candidate_bias[c];
        }
        for (size_t c = 0; c < 2 * hidden; c++) {
            s[c] = -(g[c] + s[c]);
        }
        finish_sigmoid(kernels, s, 2 * hidden);
        for (size_t c = 0; c < hidden; c++) { /* tanh(a) = 2 sigmoid(2 a) - 1 */
            s[2 * hidden + c] = -2 * (g[2 * hidden + c] + s[c] * recall[i * hidden + c]);
        }
        finish_sigmoid(kernels, s + 2 * hidden, hidden);
        memcpy(g, s, 2 * hidden * sizeof *g);
        for (size_t c = 0; c < hidden; c++) {
            weir_real_t n = 2 * s[2 * hidden + c] - 1, z = s[hidden + c];
            g[2 * hidden + c] = n;
            state[i * hidden + c] = n + z * (previous[i * hidden + c] - n);
        }
    }
}

/* All events of a group, into `states`, packed. */
static void run_group(void *argument, size_t group, uint32_t thread) {
    const pass_t *pass = argument;
    weir_gru_t *gru = pass->gru;
    const weir_encoder_config_t *config = &gru->config;
    const weir_gru_layer_t *layer = &gru->layers[pass->index];
    weir_gru_offsets_t at = weir_gru_offsets(config, pass->index);
    size_t hidden = weir_gru_hidden(config), left = gru->batch.users - group * WEIR_GRU_GROUP;
    size_t active = left < WEIR_GRU_GROUP ? left : WEIR_GRU_GROUP, row = gru->first_rows[group];
    weir_real_t *scratch = gru->scratch + group * WEIR_GRU_GROUP * 3 * hidden;
    const weir_real_t *before = NULL; /* states of the event before */
    (void)thread;
    for (size_t place = 0; (active = weir_gru_active(gru, group, place, active)) > 0; place++) {
        weir_real_t *previous = layer->previous + row * hidden, *state = gru->output + row * hidden;
        if (before == NULL) {
            memset(previous, 0, active * hidden * sizeof *previous);
            memset(scratch, 0, active * 3 * hidden * sizeof *scratch);
        } else {
            memcpy(previous, before, active * hidden * sizeof *previous);
            weir_product_t product = product_of(
                previous, hidden, pass->parameters + at.state_weight, 3 * hidden, active, scratch);
            weir_product_run(gru->kernels, config->bf16, &product);
        }
        run_gates(gru->kernels, active, hidden, pass->parameters + at.candidate_bias, previous,
                  scratch, layer->gates + row * 3 * hidden, layer->recall + row * hidden, state);
        before = state;
        row += active;
    }
}

/* Dropout of the states, and the next layer's x. */
static void finish_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_gru_t *gru = pass->gru;
    size_t hidden = weir_gru_hidden(&gru->config);
    weir_gru_drop(gru, WEIR_GRU_SITE_LAYER + (uint32_t)pass->index, gru->config.layer_dropout,
                  hidden, first, end, gru->output);
    if (pass->index + 1 < gru->config.blocks) {
        memcpy(gru->layers[pass->index + 1].x + first * hidden, gru->output + first * hidden,
               (end - first) * hidden * sizeof *gru->output);
    }
}

static void encode_rows(void *argument, size_t first, size_t end) {
    const pass_t *pass = argument;
    weir_gru_t *gru = pass->gru;
    const weir_encoder_config_t *config = &gru->config;
    size_t dim = config->embedding_dim, hidden = weir_gru_hidden(config);
    size_t weight = weir_gru_output_offset(config);
    project(pass, gru->output, hidden, weight, weight + hidden * dim, dim, first, end, gru->stream);
    for (size_t t = first; t < end; t++) {
        weir_real_t *x = gru->stream + t * dim;
        gru->norms[t] = (weir_real_t)fmax(sqrt((double)weir_dot(x, x, dim)), WEIR_GRU_NORM_FLOOR);
        for (size_t d = 0; d < dim; d++) {
            x[d] /= gru->norms[t];
        }
    }
}

weir_err_t weir_gru_forward(void *state, const weir_real_t *parameters,
                            const weir_sequence_batch_t *batch, const weir_real_t *items,
                            weir_forward_mode_t mode, weir_real_t *encoded, weir_error_t *error) {
    weir_gru_t *gru = state;
    size_t dim = gru->config.embedding_dim, tokens = batch->tokens;
    weir_err_t err = weir_encoder_check_batch(&gru->config, batch, error);
    gru->forward_done = false;
    if (err == WEIR_OK) {
        err = reserve(gru, batch, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    gru->mode = mode;
    pass_t pass = {.gru = gru, .parameters = parameters};
    embed(gru, items);
    weir_rows_run(tokens, drop_input, &pass);
    for (pass.index = 0; pass.index < gru->config.blocks; pass.index++) {
        weir_rows_run(tokens, project_rows, &pass);
        weir_parallel_run(weir_gru_groups(gru), run_group, &pass);
        weir_rows_run(tokens, finish_rows, &pass);
    }
    weir_rows_run(tokens, encode_rows, &pass);
    for (size_t row = 0; row < tokens; row++) {
        memcpy(encoded + gru->tokens[row] * dim, gru->stream + row * dim, dim * sizeof *encoded);
    }
    gru->forward_done = true;
    return WEIR_OK;
}
