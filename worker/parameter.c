#include "worker/parameter.h"

#include "common/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The random number of one element: its place in the flat buffer is its counter, so that neither
 * the number of layers before it in memory nor the order of initialisation matters. */
static double draw_element(weir_rng_key_t key, const weir_parameter_t *parameter, size_t element) {
    if (parameter->init == WEIR_INIT_CONSTANT) {
        return parameter->scale;
    }
    uint64_t counter = (uint64_t)element / 4;
    weir_philox_t random = weir_philox(key, (uint32_t)counter, (uint32_t)(counter >> 32), 0, 0);
    double uniform = weir_uniform01(random.word[element % 4]);
    double bound = parameter->scale;
    if (parameter->init == WEIR_INIT_NORMAL) {
        return parameter->scale * weir_normal_quantile(uniform);
    }
    if (parameter->init == WEIR_INIT_XAVIER_UNIFORM) {
        bound *= sqrt(6.0 / (double)(parameter->rows + parameter->cols));
    }
    return bound * (2.0 * uniform - 1.0);
}

void weir_parameter_initialise(const weir_parameter_t *parameter, uint64_t seed,
                               weir_real_t *parameters) {
    weir_rng_key_t key = weir_rng_key(seed, WEIR_STREAM_DENSE);
    size_t end = parameter->offset + parameter->rows * parameter->cols;
    for (size_t element = parameter->offset; element < end; element++) {
        parameters[element] = (weir_real_t)draw_element(key, parameter, element);
    }
}

weir_parameters_t *weir_parameters_new(const char *kind, size_t count) {
    weir_parameters_t *made = calloc(1, sizeof *made + count * sizeof made->list[0]);
    if (made != NULL) {
        made->kind = kind;
        made->count = count;
    }
    return made;
}

weir_parameters_t *weir_parameters_copy(const weir_parameters_t *parameters) {
    weir_parameters_t *copy = weir_parameters_new(parameters->kind, parameters->count);
    if (copy != NULL) {
        memcpy(copy, parameters, sizeof *copy + copy->count * sizeof copy->list[0]);
    }
    return copy;
}

void weir_parameters_initialise(const weir_parameters_t *parameters, uint64_t seed,
                                weir_real_t *values) {
    for (size_t i = 0; i < parameters->count; i++) {
        weir_parameter_initialise(&parameters->list[i], seed, values);
    }
}
