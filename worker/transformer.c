#include "worker/transformer.h"

#include "common/rng.h"
#include "worker/blas.h"
#include "worker/encoder_checks.h"
#include "worker/transformer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void destroy(void *state) {
    weir_transformer_t *transformer = state;
    if (transformer != NULL) {
        weir_workspace_fini(&transformer->workspace);
        weir_softmax_attention_destroy(transformer->attention);
        free(transformer->layers);
        free(transformer);
    }
}

static weir_err_t create(const weir_encoder_config_t *config, void **state, weir_error_t *error) {
    weir_err_t err = weir_encoder_check_config(config, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (config->kind == WEIR_ENCODER_BERT4REC &&
        config->attention_length <= config->max_sequence_length) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "model: bert4rec needs an output_length of 1 or more, for the target");
    }
    weir_transformer_t *created = calloc(1, sizeof *created);
    if (created != NULL) {
        created->config = *config;
        created->layers = calloc(config->blocks, sizeof *created->layers);
    }
    if (created == NULL || created->layers == NULL) {
        destroy(created);
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu blocks", config->blocks);
    }
    weir_blas_use_one_thread();
    err = weir_kernels_select(&created->kernels, error);
    if (err == WEIR_OK) {
        const weir_softmax_config_t attention = {.heads = config->heads,
                                                 .dqk = config->dqk,
                                                 .dv = config->dv,
                                                 .scale = 1.0 / sqrt((double)config->dqk),
                                                 .both_ways = config->kind == WEIR_ENCODER_BERT4REC,
                                                 .bf16 = config->bf16};
        err =
            weir_softmax_attention_create(&attention, created->kernels, &created->attention, error);
    }
    if (err != WEIR_OK) {
        destroy(created);
        return err;
    }
    *state = created;
    return WEIR_OK;
}

static weir_encoder_activations_t activations(const void *state) {
    const weir_transformer_t *transformer = state;
    return (weir_encoder_activations_t){.groups = transformer->batch.users > 0 ? 1 : 0,
                                        .kept_layers = transformer->config.blocks,
                                        .bytes = transformer->workspace.used};
}

static void user_gradients(const void *state, weir_real_t *d_user_rows) {
    const weir_transformer_t *transformer = state;
    size_t bytes =
        transformer->batch.users * transformer->config.embedding_dim * sizeof *d_user_rows;
    if (transformer->batch.user_rows != NULL) {
        memcpy(d_user_rows, transformer->d_users, bytes);
    } else {
        memset(d_user_rows, 0, bytes);
    }
}

void weir_transformer_drop(const weir_transformer_t *transformer, uint32_t site, double probability,
                           size_t width, size_t first, size_t end, weir_real_t *values) {
    if (transformer->mode.train && probability > 0.0) {
        weir_dropout_t dropout =
            weir_dropout_at(transformer->mode.seed, transformer->mode.step, site, probability);
        weir_real_t *rows = values + first * width;
        transformer->kernels->dropout(&dropout, transformer->numbers + first, rows, end - first,
                                      width, rows);
    }
}

weir_softmax_input_t weir_transformer_attention_input(const weir_transformer_t *transformer,
                                                      size_t layer) {
    const weir_transformer_layer_t *at = &transformer->layers[layer];
    const weir_encoder_config_t *config = &transformer->config;
    size_t query = weir_transformer_query(config), key_value = weir_transformer_key_value(config);
    return (weir_softmax_input_t){.users = transformer->batch.users,
                                  .offsets = transformer->offsets,
                                  .q = at->query,
                                  .k = at->key_value,
                                  .v = at->key_value + query,
                                  .q_row = query,
                                  .k_row = key_value,
                                  .v_row = key_value,
                                  .drop = transformer->mode.train && config->layer_dropout > 0.0,
                                  .seed = transformer->mode.seed,
                                  .step = transformer->mode.step,
                                  .layer = (uint32_t)layer,
                                  .dropout = config->layer_dropout,
                                  .global_tokens = transformer->numbers};
}

/* ---- rows ---- */

/* Coordinate of the row of a user's target: that of its last event, in a range of its own. */
#define TARGET_NUMBER 0x80000000u

static bool draw_mask(const weir_transformer_t *transformer, uint32_t number) {
    const weir_forward_mode_t *mode = &transformer->mode;
    weir_rng_key_t key = weir_rng_key(mode->seed, WEIR_STREAM_MASK);
    weir_philox_t random =
        weir_philox(key, (uint32_t)mode->step, (uint32_t)(mode->step >> 32), number, 0);
    return weir_uniform01(random.word[0]) < transformer->config.mask_probability;
}

size_t weir_transformer_row(const weir_transformer_t *transformer, size_t user, size_t token) {
    return weir_transformer_is_bert(transformer) ? token + user + 1 : token;
}

/* Rows are tokens. */
static void arrange_tokens(weir_transformer_t *transformer) {
    const weir_sequence_batch_t *batch = &transformer->batch;
    transformer->offsets = batch->offsets;
    transformer->numbers = batch->global_tokens;
    if (batch->global_tokens == NULL) {
        for (size_t t = 0; t < batch->tokens; t++) {
            transformer->own_numbers[t] = (uint32_t)t;
        }
        transformer->numbers = transformer->own_numbers;
    }
}

void weir_transformer_arrange(weir_transformer_t *transformer) {
    const weir_sequence_batch_t *batch = &transformer->batch;
    if (!weir_transformer_is_bert(transformer)) {
        arrange_tokens(transformer);
        return;
    }
    for (size_t u = 0, row = 0; u <= batch->users; u++) {
        transformer->own_offsets[u] = row;
        for (size_t t = u < batch->users ? batch->offsets[u] : 0;
             u < batch->users && t < batch->offsets[u + 1]; t++, row++) {
            uint32_t number = batch->global_tokens != NULL ? batch->global_tokens[t] : (uint32_t)t;
            bool masked =
                transformer->mode.train && t > batch->offsets[u] && draw_mask(transformer, number);
            transformer->own_numbers[row] = number;
            transformer->masked[row] = masked;
            if (t > batch->offsets[u]) {
                transformer->scored[t - 1] = masked;
            }
        }
        if (u < batch->users) {
            transformer->own_numbers[row] = transformer->own_numbers[row - 1] | TARGET_NUMBER;
            transformer->masked[row++] = 1;
            transformer->scored[batch->offsets[u + 1] - 1] = 1;
        }
    }
    transformer->offsets = transformer->own_offsets;
    transformer->numbers = transformer->own_numbers;
}

static const uint8_t *scored(const void *state) {
    const weir_transformer_t *transformer = state;
    return transformer->scored;
}

static double scored_share(const weir_encoder_config_t *config, uint64_t users, uint64_t tokens) {
    double others = (double)(tokens - users);
    return ((double)users + config->mask_probability * others) / (double)tokens;
}

const weir_encoder_methods_t weir_sasrec_methods = {
    .name = "sasrec",
    .parameter_count = weir_transformer_parameter_count,
    .parameter_elements = weir_transformer_parameter_elements,
    .parameter = weir_transformer_parameter,
    .create = create,
    .destroy = destroy,
    .activations = activations,
    .forward = weir_transformer_forward,
    .backward = weir_transformer_backward,
    .user_gradients = user_gradients,
};

const weir_encoder_methods_t weir_bert4rec_methods = {
    .name = "bert4rec",
    .parameter_count = weir_transformer_parameter_count,
    .parameter_elements = weir_transformer_parameter_elements,
    .parameter = weir_transformer_parameter,
    .create = create,
    .destroy = destroy,
    .activations = activations,
    .forward = weir_transformer_forward,
    .backward = weir_transformer_backward,
    .user_gradients = user_gradients,
    .scored = scored,
    .scored_share = scored_share,
};
