#include "common/assert.h"
#include "worker/stu_internal.h"

#include <stdio.h>

size_t weir_stu_projection_width(const weir_stu_config_t *config) {
    return 2 * config->heads * (config->dqk + config->dv);
}

size_t weir_stu_parameter_count(const weir_stu_config_t *config) {
    return WEIR_STU_PARAMETERS * config->blocks;
}

/* Name, shape and initial values of parameter `which` of a layer. Scales begin at 1. */
static weir_parameter_t layer_parameter(const weir_stu_config_t *config, size_t which) {
    size_t dim = config->embedding_dim, gate = config->heads * config->dv;
    size_t projected = weir_stu_projection_width(config);
    const struct {
        const char *name;
        size_t rows, cols;
        weir_init_t init;
        double scale;
    } table[WEIR_STU_PARAMETERS] = {
        {"input_norm_weight", dim, 1, WEIR_INIT_CONSTANT, 1.0},
        {"input_norm_bias", dim, 1, WEIR_INIT_CONSTANT, 0.0},
        {"uvqk", dim, projected, WEIR_INIT_XAVIER_UNIFORM, 1.0},
        {"uvqk_bias", projected, 1, WEIR_INIT_CONSTANT, 0.0},
        {"output_norm_weight", gate, 1, WEIR_INIT_CONSTANT, 1.0},
        {"output_norm_bias", gate, 1, WEIR_INIT_CONSTANT, 0.0},
        {"output_weight", 3 * gate, dim, WEIR_INIT_XAVIER_UNIFORM, 1.0},
    };
    weir_parameter_t parameter = {.rows = table[which].rows,
                                  .cols = table[which].cols,
                                  .init = table[which].init,
                                  .scale = table[which].scale};
    (void)snprintf(parameter.name, sizeof parameter.name, "%s", table[which].name);
    return parameter;
}

static size_t elements_before(const weir_stu_config_t *config, size_t which) {
    size_t elements = 0;
    for (size_t i = 0; i < which; i++) {
        weir_parameter_t parameter = layer_parameter(config, i);
        elements += parameter.rows * parameter.cols;
    }
    return elements;
}

size_t weir_stu_parameter_elements(const weir_stu_config_t *config) {
    return config->blocks * elements_before(config, WEIR_STU_PARAMETERS);
}

weir_parameter_t weir_stu_parameter(const weir_stu_config_t *config, size_t index) {
    WEIR_ASSERT(index < weir_stu_parameter_count(config));
    size_t layer = index / WEIR_STU_PARAMETERS, which = index % WEIR_STU_PARAMETERS;
    weir_parameter_t parameter = layer_parameter(config, which);
    char name[sizeof parameter.name];
    (void)snprintf(name, sizeof name, "layer.%zu.%.30s", layer, parameter.name);
    (void)snprintf(parameter.name, sizeof parameter.name, "%s", name);
    parameter.offset =
        layer * elements_before(config, WEIR_STU_PARAMETERS) + elements_before(config, which);
    return parameter;
}

weir_stu_offsets_t weir_stu_offsets(const weir_stu_config_t *config, size_t layer) {
    size_t base = layer * elements_before(config, WEIR_STU_PARAMETERS);
    return (weir_stu_offsets_t){.norm_weight = base,
                                .norm_bias = base + elements_before(config, 1),
                                .uvqk = base + elements_before(config, 2),
                                .uvqk_bias = base + elements_before(config, 3),
                                .output_norm_weight = base + elements_before(config, 4),
                                .output_norm_bias = base + elements_before(config, 5),
                                .output_weight = base + elements_before(config, 6),
                                .end = base + elements_before(config, WEIR_STU_PARAMETERS)};
}
