#include "worker/parameter.h"

#include "common/rng.h"

#include <math.h>

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
