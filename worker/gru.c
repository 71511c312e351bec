#include "worker/gru.h"

#include "common/assert.h"
#include "worker/blas.h"
#include "worker/encoder_checks.h"
#include "worker/gru_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- parameters ---- */

enum { PER_LAYER = 4, OUTPUTS = 2 };

size_t weir_gru_hidden(const weir_encoder_config_t *config) {
    return config->hidden_dim > 0 ? config->hidden_dim : config->embedding_dim;
}

size_t weir_gru_input(const weir_encoder_config_t *config, size_t layer) {
    return layer == 0 ? config->embedding_dim : weir_gru_hidden(config);
}

weir_gru_offsets_t weir_gru_offsets(const weir_encoder_config_t *config, size_t layer) {
    size_t hidden = weir_gru_hidden(config), of_state = 3 * hidden * hidden + 4 * hidden;
    size_t first = 3 * hidden * config->embedding_dim + of_state;
    weir_gru_offsets_t at = {0};
    at.input_weight = layer == 0 ? 0 : first + (layer - 1) * (3 * hidden * hidden + of_state);
    at.input_bias = at.input_weight + 3 * hidden * weir_gru_input(config, layer);
    at.state_weight = at.input_bias + 3 * hidden;
    at.candidate_bias = at.state_weight + 3 * hidden * hidden;
    at.end = at.candidate_bias + hidden;
    return at;
}

size_t weir_gru_output_offset(const weir_encoder_config_t *config) {
    return weir_gru_offsets(config, config->blocks - 1).end;
}

size_t weir_gru_parameter_count(const weir_encoder_config_t *config) {
    return PER_LAYER * config->blocks + OUTPUTS;
}

size_t weir_gru_parameter_elements(const weir_encoder_config_t *config) {
    return weir_gru_output_offset(config) + (weir_gru_hidden(config) + 1) * config->embedding_dim;
}

/* All uniform in +-1/sqrt(F), as the framework does. */
weir_parameter_t weir_gru_parameter(const weir_encoder_config_t *config, size_t index) {
    size_t hidden = weir_gru_hidden(config), layer = index / PER_LAYER;
    weir_parameter_t parameter = {
        .cols = 1, .init = WEIR_INIT_UNIFORM, .scale = 1.0 / sqrt((double)hidden)};
    WEIR_ASSERT(index < weir_gru_parameter_count(config));
    if (layer == config->blocks) {
        bool weight = index % PER_LAYER == 0;
        (void)snprintf(parameter.name, sizeof parameter.name, "output_%s",
                       weight ? "weight" : "bias");
        parameter.rows = weight ? hidden : config->embedding_dim;
        parameter.cols = weight ? config->embedding_dim : 1;
        parameter.offset =
            weir_gru_output_offset(config) + (weight ? 0 : hidden * config->embedding_dim);
        return parameter;
    }
    static const char *const names[PER_LAYER] = {"input_weight", "input_bias", "state_weight",
                                                 "candidate_bias"};
    weir_gru_offsets_t at = weir_gru_offsets(config, layer);
    const size_t offsets[PER_LAYER] = {at.input_weight, at.input_bias, at.state_weight,
                                       at.candidate_bias};
    const size_t rows[PER_LAYER] = {weir_gru_input(config, layer), 3 * hidden, hidden, hidden};
    size_t which = index % PER_LAYER;
    (void)snprintf(parameter.name, sizeof parameter.name, "layer.%zu.%s", layer, names[which]);
    parameter.offset = offsets[which];
    parameter.rows = rows[which];
    parameter.cols = which == 0 || which == 2 ? 3 * hidden : 1;
    return parameter;
}

/* ---- the encoder ---- */

static void destroy(void *state) {
    weir_gru_t *gru = state;
    if (gru != NULL) {
        weir_workspace_fini(&gru->workspace);
        free(gru->layers);
        free(gru);
    }
}

static weir_err_t create(const weir_encoder_config_t *config, void **state, weir_error_t *error) {
    weir_err_t err = weir_encoder_check_config(config, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_gru_t *created = calloc(1, sizeof *created);
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
    if (err != WEIR_OK) {
        destroy(created);
        return err;
    }
    *state = created;
    return WEIR_OK;
}

static weir_encoder_activations_t activations(const void *state) {
    const weir_gru_t *gru = state;
    return (weir_encoder_activations_t){.groups = gru->batch.users > 0 ? 1 : 0,
                                        .kept_layers = gru->config.blocks,
                                        .bytes = gru->workspace.used};
}

static void user_gradients(const void *state, weir_real_t *d_user_rows) {
    const weir_gru_t *gru = state;
    size_t bytes = gru->batch.users * gru->config.embedding_dim * sizeof *d_user_rows;
    if (gru->batch.user_rows != NULL) {
        memcpy(d_user_rows, gru->d_users, bytes);
    } else {
        memset(d_user_rows, 0, bytes);
    }
}

size_t weir_gru_groups(const weir_gru_t *gru) {
    return (gru->batch.users + WEIR_GRU_GROUP - 1) / WEIR_GRU_GROUP;
}

size_t weir_gru_active(const weir_gru_t *gru, size_t group, size_t place, size_t active) {
    const size_t *offsets = gru->batch.offsets;
    for (; active > 0; active--) {
        uint32_t user = gru->users[group * WEIR_GRU_GROUP + active - 1];
        if (offsets[user + 1] - offsets[user] > place) {
            break;
        }
    }
    return active;
}

void weir_gru_drop(const weir_gru_t *gru, uint32_t site, double probability, size_t width,
                   size_t first, size_t end, weir_real_t *values) {
    if (gru->mode.train && probability > 0.0) {
        weir_dropout_t dropout = weir_dropout_at(gru->mode.seed, gru->mode.step, site, probability);
        weir_real_t *rows = values + first * width;
        gru->kernels->dropout(&dropout, gru->numbers + first, rows, end - first, width, rows);
    }
}

const weir_encoder_methods_t weir_gru_methods = {
    .name = "gru4rec",
    .parameter_count = weir_gru_parameter_count,
    .parameter_elements = weir_gru_parameter_elements,
    .parameter = weir_gru_parameter,
    .create = create,
    .destroy = destroy,
    .activations = activations,
    .forward = weir_gru_forward,
    .backward = weir_gru_backward,
    .user_gradients = user_gradients,
};
