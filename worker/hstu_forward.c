/* Forward: the input, then per layer norm, projection, SiLU, attention, gate, output projection and
 * the residual, at last the norm of every row. What backward needs stays in hstu->layers. */
#include "worker/dot.h"
#include "worker/encoder_checks.h"
#include "worker/hstu_internal.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* stream = Dropout(sqrt(D) * E + U + P), of the users' rows. */
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
}

static void drop_input(weir_hstu_t *hstu, void *argument, size_t first, size_t end) {
    (void)argument;
    weir_hstu_drop(hstu, WEIR_HSTU_SITE_INPUT, hstu->config.input_dropout,
                   hstu->config.embedding_dim, first, end, hstu->stream);
}

/* One layer under way. */
typedef struct {
    const weir_real_t *parameters;
    size_t index;
    const weir_real_t *x; /* T x D: its input */
} branch_t;

/* From x to z. */
static void project_rows(weir_hstu_t *hstu, void *argument, size_t first, size_t end) {
    const branch_t *branch = argument;
    weir_hstu_layer_t *layer = &hstu->layers[branch->index];
    weir_hstu_layer_offsets_t at = weir_hstu_layer_offsets(&hstu->config, branch->index);
    size_t dim = hstu->config.embedding_dim, rows = end - first;
    size_t projected = weir_hstu_projection_width(&hstu->config);
    weir_real_t *normalised = layer->normalised + first * dim;
    weir_real_t *before = layer->projected + first * projected;
    hstu->kernels->layer_norm_forward(branch->x + first * dim, rows, dim, normalised,
                                      layer->inverses + first);
    const weir_product_t projection = {.m = rows,
                                       .n = projected,
                                       .k = dim,
                                       .a = normalised,
                                       .lda = dim,
                                       .b = branch->parameters + at.uvqk,
                                       .ldb = projected,
                                       .c = before,
                                       .ldc = projected};
    weir_product_run(hstu->kernels, hstu->config.bf16, &projection);
    hstu->kernels->silu_forward(before, hstu->activated + first * projected, rows * projected);
}

/* gated = Dropout(u * layer_norm(y)), where u is the first H dv columns of z. */
static void gate_rows(weir_hstu_t *hstu, void *argument, size_t first, size_t end) {
    const branch_t *branch = argument;
    weir_hstu_layer_t *layer = &hstu->layers[branch->index];
    size_t width = hstu->config.heads * hstu->config.dv;
    size_t projected = weir_hstu_projection_width(&hstu->config);
    weir_real_t *attended = layer->attended + first * width;
    hstu->kernels->layer_norm_forward(attended, end - first, width, attended,
                                      layer->attended_inverses + first);
    for (size_t t = first; t < end; t++) {
        const weir_real_t *u = hstu->activated + t * projected;
        const weir_real_t *y = layer->attended + t * width;
        weir_real_t *g = layer->gated + t * width;
        for (size_t c = 0; c < width; c++) {
            g[c] = u[c] * y[c];
        }
    }
    weir_hstu_drop(hstu, WEIR_HSTU_SITE_LAYER + 2 * (uint32_t)branch->index,
                   hstu->config.layer_dropout, width, first, end, layer->gated);
}

/* stream += gated O + b */
static void add_output(weir_hstu_t *hstu, const branch_t *branch, size_t first, size_t end) {
    const weir_hstu_layer_t *layer = &hstu->layers[branch->index];
    weir_hstu_layer_offsets_t at = weir_hstu_layer_offsets(&hstu->config, branch->index);
    size_t dim = hstu->config.embedding_dim, width = hstu->config.heads * hstu->config.dv;
    const weir_real_t *bias = branch->parameters + at.output_bias;
    for (size_t t = first; t < end; t++) {
        weir_real_t *x = hstu->stream + t * dim;
        for (size_t d = 0; d < dim; d++) {
            x[d] += bias[d];
        }
    }
    const weir_product_t output = {.m = end - first,
                                   .n = dim,
                                   .k = width,
                                   .a = layer->gated + first * width,
                                   .lda = width,
                                   .b = branch->parameters + at.output_weight,
                                   .ldb = dim,
                                   .add = true,
                                   .c = hstu->stream + first * dim,
                                   .ldc = dim};
    weir_product_run(hstu->kernels, hstu->config.bf16, &output);
}

static void finish_rows(weir_hstu_t *hstu, void *argument, size_t first, size_t end) {
    gate_rows(hstu, argument, first, end);
    add_output(hstu, argument, first, end);
}

/* From x to `gated`, all that backward reads, and with `output` to the next layer's x. */
static void run_branch(weir_hstu_t *hstu, branch_t *branch, bool output) {
    weir_hstu_layer_offsets_t at = weir_hstu_layer_offsets(&hstu->config, branch->index);
    weir_hstu_run_rows(hstu, project_rows, branch);
    const weir_attention_input_t input = {.z = hstu->activated,
                                          .position_bias = branch->parameters + at.position_bias,
                                          .time_bias = branch->parameters + at.time_bias};
    weir_attention_forward(hstu->attention, &input, hstu->layers[branch->index].attended);
    weir_hstu_run_rows(hstu, output ? finish_rows : gate_rows, branch);
}

static void run_layer(weir_hstu_t *hstu, const weir_real_t *parameters, size_t index) {
    const weir_hstu_layer_t *layer = &hstu->layers[index];
    branch_t branch = {parameters, index, hstu->stream};
    if (layer->input != NULL) {
        size_t count = hstu->batch.tokens * hstu->config.embedding_dim;
        memcpy(layer->input, hstu->stream, count * sizeof *layer->input);
    }
    run_branch(hstu, &branch, true);
}

void weir_hstu_recompute_layer(weir_hstu_t *hstu, const weir_real_t *parameters, size_t index) {
    branch_t branch = {parameters, index, hstu->layers[index].input};
    run_branch(hstu, &branch, false);
}

/* stream /= max(|stream|, floor) */
static void normalise_rows(weir_hstu_t *hstu, void *argument, size_t first, size_t end) {
    size_t dim = hstu->config.embedding_dim;
    (void)argument;
    for (size_t t = first; t < end; t++) {
        weir_real_t *x = hstu->stream + t * dim;
        hstu->norms[t] = (weir_real_t)fmax(sqrt((double)weir_dot(x, x, dim)), WEIR_HSTU_NORM_FLOOR);
        for (size_t d = 0; d < dim; d++) {
            x[d] /= hstu->norms[t];
        }
    }
}

/* The group's part of the batch. */
static void select_group(weir_hstu_t *hstu, const weir_hstu_group_t *group) {
    const weir_sequence_batch_t *whole = &hstu->whole;
    size_t users = group->end - group->first, first = whole->offsets[group->first];
    hstu->batch = *whole;
    if (users == whole->users) {
        return;
    }
    for (size_t u = 0; u <= users; u++) {
        hstu->group_offsets[u] = whole->offsets[group->first + u] - first;
    }
    hstu->batch.users = users;
    hstu->batch.tokens = hstu->group_offsets[users];
    hstu->batch.offsets = hstu->group_offsets;
    hstu->batch.times += first;
    hstu->batch.next_times += first;
    hstu->batch.global_tokens += first;
    if (whole->user_rows != NULL) {
        hstu->batch.user_rows += group->first * hstu->config.embedding_dim;
    }
}

weir_err_t weir_hstu_encode_group(weir_hstu_t *hstu, const weir_real_t *parameters, size_t number,
                                  weir_error_t *error) {
    const weir_hstu_group_t *group = &hstu->groups[number];
    size_t dim = hstu->config.embedding_dim;
    hstu->encoded_group = SIZE_MAX;
    select_group(hstu, group);
    weir_err_t err = weir_hstu_memory_reserve(hstu, hstu->batch.tokens, group->kept, error);
    if (err == WEIR_OK) {
        err = weir_attention_prepare(hstu->attention, &hstu->batch, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    size_t attention = weir_attention_bytes(hstu->attention);
    hstu->attention_bytes = attention > hstu->attention_bytes ? attention : hstu->attention_bytes;
    embed(hstu, parameters, hstu->items + hstu->whole.offsets[group->first] * dim);
    weir_hstu_run_rows(hstu, drop_input, NULL);
    for (size_t layer = 0; layer < hstu->config.blocks; layer++) {
        run_layer(hstu, parameters, layer);
    }
    weir_hstu_run_rows(hstu, normalise_rows, NULL);
    hstu->encoded_group = number;
    return WEIR_OK;
}

static void lay_out_batch(weir_hstu_t *hstu, const weir_sequence_batch_t *batch) {
    weir_workspace_t *workspace = &hstu->batch_workspace;
    const weir_hstu_config_t *config = &hstu->config;
    size_t row = batch->user_rows != NULL ? config->embedding_dim * sizeof(weir_real_t) : 0;
    size_t biases = 2 * config->attention_length + WEIR_HSTU_TIME_BUCKETS;
    hstu->groups = weir_workspace_take(workspace, batch->users, sizeof *hstu->groups);
    hstu->group_offsets = weir_workspace_take(workspace, batch->users + 1, sizeof(size_t));
    hstu->d_users = weir_workspace_take(workspace, batch->users, row);
    hstu->d_biases = weir_workspace_take(workspace, biases, sizeof(weir_real_t));
    hstu->numbers = weir_workspace_take(workspace, batch->global_tokens == NULL ? batch->tokens : 0,
                                        sizeof *hstu->numbers);
}

/* Room for the batch and its groups; the workspace is as large as the largest group needs. */
static weir_err_t plan_batch(weir_hstu_t *hstu, const weir_sequence_batch_t *batch,
                             weir_error_t *error) {
    weir_workspace_begin(&hstu->batch_workspace);
    lay_out_batch(hstu, batch);
    hstu->group_count = hstu->activation_bytes = hstu->attention_bytes = 0;
    weir_err_t err = weir_workspace_reserve(&hstu->batch_workspace, "the users of a batch", error);
    if (err != WEIR_OK) {
        return err;
    }
    lay_out_batch(hstu, batch);
    hstu->group_count =
        weir_hstu_memory_plan(&hstu->config, hstu->activation_budget, batch, hstu->groups);
    for (size_t g = 0; g < hstu->group_count && err == WEIR_OK; g++) {
        const weir_hstu_group_t *group = &hstu->groups[g];
        size_t tokens = batch->offsets[group->end] - batch->offsets[group->first];
        size_t bytes = weir_hstu_memory_bytes(&hstu->config, tokens, group->kept);
        if (bytes > hstu->activation_bytes) {
            hstu->activation_bytes = bytes;
            err = weir_hstu_memory_reserve(hstu, tokens, group->kept, error);
        }
    }
    return err;
}

weir_err_t weir_hstu_forward(weir_hstu_t *hstu, const weir_real_t *parameters,
                             const weir_sequence_batch_t *batch, const weir_real_t *items,
                             weir_forward_mode_t mode, weir_real_t *encoded, weir_error_t *error) {
    size_t dim = hstu->config.embedding_dim;
    weir_err_t err = weir_encoder_check_batch(&hstu->config, batch, error);
    if (err != WEIR_OK) {
        return err;
    }
    hstu->forward_done = false;
    err = plan_batch(hstu, batch, error);
    hstu->whole = *batch;
    if (err == WEIR_OK && batch->global_tokens == NULL) {
        for (size_t t = 0; t < batch->tokens; t++) {
            hstu->numbers[t] = (uint32_t)t;
        }
        hstu->whole.global_tokens = hstu->numbers;
    }
    hstu->batch = hstu->whole;
    hstu->items = items;
    hstu->mode = mode;
    for (size_t g = 0; g < hstu->group_count && err == WEIR_OK; g++) {
        err = weir_hstu_encode_group(hstu, parameters, g, error);
        if (err == WEIR_OK) {
            weir_real_t *to = encoded + batch->offsets[hstu->groups[g].first] * dim;
            memcpy(to, hstu->stream, hstu->batch.tokens * dim * sizeof *encoded);
        }
    }
    hstu->forward_done = err == WEIR_OK;
    return err;
}
