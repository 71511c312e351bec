#include "common/assert.h"
#include "worker/transformer_internal.h"

#include <math.h>
#include <stdio.h>

size_t weir_transformer_hidden(const weir_encoder_config_t *config) {
    return config->hidden_dim > 0 ? config->hidden_dim : config->embedding_dim;
}

size_t weir_transformer_query(const weir_encoder_config_t *config) {
    return config->heads * config->dqk;
}

size_t weir_transformer_values(const weir_encoder_config_t *config) {
    return config->heads * config->dv;
}

size_t weir_transformer_key_value(const weir_encoder_config_t *config) {
    return weir_transformer_query(config) + weir_transformer_values(config);
}

/* Before the layers': positions, and the mask. */
static size_t input_parameters(const weir_encoder_config_t *config) {
    return config->kind == WEIR_ENCODER_BERT4REC ? 2 : 1;
}

size_t weir_transformer_input_elements(const weir_encoder_config_t *config) {
    return (config->attention_length + input_parameters(config) - 1) * config->embedding_dim;
}

size_t weir_transformer_parameter_count(const weir_encoder_config_t *config) {
    return input_parameters(config) + WEIR_TRANSFORMER_LAYER_PARAMETERS * config->blocks;
}

typedef struct {
    size_t rows, cols;
} shape_t;

static shape_t shape_of(const weir_encoder_config_t *config, weir_transformer_parameter_t which) {
    size_t dim = config->embedding_dim, hidden = weir_transformer_hidden(config);
    switch (which) {
    case WEIR_TRANSFORMER_QUERY_WEIGHT:
        return (shape_t){dim, weir_transformer_query(config)};
    case WEIR_TRANSFORMER_QUERY_BIAS:
        return (shape_t){weir_transformer_query(config), 1};
    case WEIR_TRANSFORMER_KEY_VALUE_WEIGHT:
        return (shape_t){dim, weir_transformer_key_value(config)};
    case WEIR_TRANSFORMER_KEY_VALUE_BIAS:
        return (shape_t){weir_transformer_key_value(config), 1};
    case WEIR_TRANSFORMER_OUTPUT_WEIGHT:
        return (shape_t){weir_transformer_values(config), dim};
    case WEIR_TRANSFORMER_HIDDEN_WEIGHT:
        return (shape_t){dim, hidden};
    case WEIR_TRANSFORMER_HIDDEN_BIAS:
        return (shape_t){hidden, 1};
    case WEIR_TRANSFORMER_FORWARD_WEIGHT:
        return (shape_t){hidden, dim};
    default: /* output_bias, forward_bias */
        return (shape_t){dim, 1};
    }
}

size_t weir_transformer_offset(const weir_encoder_config_t *config, size_t layer,
                               weir_transformer_parameter_t which) {
    size_t per_layer = 0, before = 0;
    for (int i = 0; i < WEIR_TRANSFORMER_LAYER_PARAMETERS; i++) {
        shape_t shape = shape_of(config, (weir_transformer_parameter_t)i);
        per_layer += shape.rows * shape.cols;
        before += i < (int)which ? shape.rows * shape.cols : 0;
    }
    return weir_transformer_input_elements(config) + layer * per_layer + before;
}

size_t weir_transformer_parameter_elements(const weir_encoder_config_t *config) {
    return weir_transformer_offset(config, config->blocks, WEIR_TRANSFORMER_QUERY_WEIGHT);
}

static double xavier_sigma(size_t in, size_t out) {
    return sqrt(2.0 / (double)(in + out));
}

/* As the framework and the authors' code do: weights xavier normal, those of attention's input as
 * one matrix; its biases 0; those of the feed-forward uniform in +-1/sqrt(inputs). */
static void set_init(const weir_encoder_config_t *config, weir_transformer_parameter_t which,
                     weir_parameter_t *parameter) {
    size_t dim = config->embedding_dim, hidden = weir_transformer_hidden(config);
    parameter->init = WEIR_INIT_NORMAL;
    switch (which) {
    case WEIR_TRANSFORMER_QUERY_WEIGHT:
    case WEIR_TRANSFORMER_KEY_VALUE_WEIGHT:
        parameter->scale =
            xavier_sigma(dim, weir_transformer_query(config) + weir_transformer_key_value(config));
        break;
    case WEIR_TRANSFORMER_OUTPUT_WEIGHT:
    case WEIR_TRANSFORMER_HIDDEN_WEIGHT:
    case WEIR_TRANSFORMER_FORWARD_WEIGHT:
        parameter->scale = xavier_sigma(parameter->rows, parameter->cols);
        break;
    case WEIR_TRANSFORMER_HIDDEN_BIAS:
        parameter->init = WEIR_INIT_UNIFORM;
        parameter->scale = 1.0 / sqrt((double)dim);
        break;
    case WEIR_TRANSFORMER_FORWARD_BIAS:
        parameter->init = WEIR_INIT_UNIFORM;
        parameter->scale = 1.0 / sqrt((double)hidden);
        break;
    default:
        parameter->init = WEIR_INIT_CONSTANT;
        parameter->scale = 0.0;
        break;
    }
}

weir_parameter_t weir_transformer_parameter(const weir_encoder_config_t *config, size_t index) {
    static const char *const names[WEIR_TRANSFORMER_LAYER_PARAMETERS] = {
        "query_weight", "query_bias",    "key_value_weight", "key_value_bias", "output_weight",
        "output_bias",  "hidden_weight", "hidden_bias",      "forward_weight", "forward_bias"};
    weir_parameter_t parameter = {0};
    WEIR_ASSERT(index < weir_transformer_parameter_count(config));
    if (index == 0) {
        (void)snprintf(parameter.name, sizeof parameter.name, "position_embedding");
        parameter.rows = config->attention_length;
        parameter.cols = config->embedding_dim;
        parameter.init = WEIR_INIT_NORMAL;
        parameter.scale = sqrt(2.0 / (double)(config->attention_length + config->embedding_dim));
        return parameter;
    }
    if (index < input_parameters(config)) {
        (void)snprintf(parameter.name, sizeof parameter.name, "mask_embedding");
        parameter.offset = config->attention_length * config->embedding_dim;
        parameter.rows = 1;
        parameter.cols = config->embedding_dim;
        parameter.init = WEIR_INIT_NORMAL;
        parameter.scale = 0.02;
        return parameter;
    }
    size_t place = index - input_parameters(config);
    size_t layer = place / WEIR_TRANSFORMER_LAYER_PARAMETERS;
    weir_transformer_parameter_t which =
        (weir_transformer_parameter_t)(place % WEIR_TRANSFORMER_LAYER_PARAMETERS);
    shape_t shape = shape_of(config, which);
    (void)snprintf(parameter.name, sizeof parameter.name, "layer.%zu.%s", layer, names[which]);
    parameter.offset = weir_transformer_offset(config, layer, which);
    parameter.rows = shape.rows;
    parameter.cols = shape.cols;
    set_init(config, which, &parameter);
    return parameter;
}
