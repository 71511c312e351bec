#include "common/assert.h"
#include "worker/hstu.h"
#include "worker/hstu_internal.h"

#include <math.h>
#include <stdio.h>

enum { PARAMETERS_PER_LAYER = 5 };

size_t weir_hstu_parameter_count(const weir_hstu_config_t *config) {
    return 1 + PARAMETERS_PER_LAYER * config->blocks;
}

size_t weir_hstu_projection_width(const weir_hstu_config_t *config) {
    return 2 * config->heads * (config->dqk + config->dv);
}

/* Rows and columns of parameter `which` (0 .. 4) of a layer, in their order in the buffer. */
static void set_layer_shape(const weir_hstu_config_t *config, size_t which,
                            weir_parameter_t *parameter) {
    size_t gate_width = config->heads * config->dv;
    parameter->cols = 1;
    switch (which) {
    case 0:
        parameter->rows = config->embedding_dim;
        parameter->cols = weir_hstu_projection_width(config);
        break;
    case 1:
        parameter->rows = WEIR_HSTU_TIME_BUCKETS;
        break;
    case 2:
        parameter->rows = 2 * config->attention_length - 1;
        break;
    case 3:
        parameter->rows = gate_width;
        parameter->cols = config->embedding_dim;
        break;
    default:
        parameter->rows = config->embedding_dim;
        break;
    }
}

static void set_layer_init(const weir_hstu_config_t *config, size_t which,
                           weir_parameter_t *parameter) {
    switch (which) {
    case 3:
        parameter->init = WEIR_INIT_XAVIER_UNIFORM;
        parameter->scale = 1.0;
        break;
    case 4:
        parameter->init = WEIR_INIT_UNIFORM;
        parameter->scale = 1.0 / sqrt((double)(config->heads * config->dv));
        break;
    default:
        parameter->init = WEIR_INIT_NORMAL;
        parameter->scale = 0.02;
        break;
    }
}

static size_t elements_per_layer(const weir_hstu_config_t *config) {
    size_t elements = 0;
    for (size_t which = 0; which < PARAMETERS_PER_LAYER; which++) {
        weir_parameter_t parameter;
        set_layer_shape(config, which, &parameter);
        elements += parameter.rows * parameter.cols;
    }
    return elements;
}

size_t weir_hstu_parameter_elements(const weir_hstu_config_t *config) {
    return config->attention_length * config->embedding_dim +
           config->blocks * elements_per_layer(config);
}

weir_parameter_t weir_hstu_parameter(const weir_hstu_config_t *config, size_t index) {
    static const char *const names[PARAMETERS_PER_LAYER] = {"uvqk", "time_bias", "position_bias",
                                                            "output_weight", "output_bias"};
    weir_parameter_t parameter = {0};
    WEIR_ASSERT(index < weir_hstu_parameter_count(config));
    if (index == 0) {
        (void)snprintf(parameter.name, sizeof parameter.name, "position_embedding");
        parameter.rows = config->attention_length;
        parameter.cols = config->embedding_dim;
        parameter.init = WEIR_INIT_NORMAL;
        parameter.scale = sqrt(2.0 / (double)(config->attention_length + config->embedding_dim));
        return parameter;
    }
    size_t layer = (index - 1) / PARAMETERS_PER_LAYER, which = (index - 1) % PARAMETERS_PER_LAYER;
    (void)snprintf(parameter.name, sizeof parameter.name, "layer.%zu.%s", layer, names[which]);
    parameter.offset =
        config->attention_length * config->embedding_dim + layer * elements_per_layer(config);
    for (size_t before = 0; before < which; before++) {
        set_layer_shape(config, before, &parameter);
        parameter.offset += parameter.rows * parameter.cols;
    }
    set_layer_shape(config, which, &parameter);
    set_layer_init(config, which, &parameter);
    return parameter;
}

void weir_hstu_initialise(const weir_hstu_config_t *config, uint64_t seed,
                          weir_real_t *parameters) {
    for (size_t index = 0; index < weir_hstu_parameter_count(config); index++) {
        weir_parameter_t parameter = weir_hstu_parameter(config, index);
        weir_parameter_initialise(&parameter, seed, parameters);
    }
}

weir_hstu_layer_offsets_t weir_hstu_layer_offsets(const weir_hstu_config_t *config, size_t layer) {
    size_t first = 1 + layer * PARAMETERS_PER_LAYER;
    weir_hstu_layer_offsets_t offsets = {
        .uvqk = weir_hstu_parameter(config, first).offset,
        .time_bias = weir_hstu_parameter(config, first + 1).offset,
        .position_bias = weir_hstu_parameter(config, first + 2).offset,
        .output_weight = weir_hstu_parameter(config, first + 3).offset,
        .output_bias = weir_hstu_parameter(config, first + 4).offset};
    offsets.end = offsets.output_bias + config->embedding_dim;
    return offsets;
}
