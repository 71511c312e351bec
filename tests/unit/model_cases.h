/* Random inputs for the tests of the model, in the number type under test; all from a seed. */
#ifndef WEIR_TESTS_MODEL_CASES_H
#define WEIR_TESTS_MODEL_CASES_H

#include "common/real.h"
#include "common/rng.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef WEIR_REAL_F64
static const bool case_is_f64 = true;
#else
static const bool case_is_f64 = false;
#endif

typedef struct {
    uint64_t seed;
    uint32_t at;
} case_rng_t;

static inline uint32_t case_word(case_rng_t *rng) {
    rng->at++;
    return weir_philox(weir_rng_key(rng->seed, WEIR_STREAM_TEST), rng->at, 0, 0, 0).word[0];
}

static inline uint32_t case_below(case_rng_t *rng, uint32_t bound) {
    return weir_uniform_below(case_word(rng), bound);
}

static inline void case_fill(case_rng_t *rng, weir_real_t *out, size_t count, double sigma) {
    for (size_t i = 0; i < count; i++) {
        out[i] = (weir_real_t)(sigma * weir_normal_quantile(weir_uniform01(case_word(rng))));
    }
}

/* Zeroed; the test ends when there is no memory. */
static inline void *case_allocate(size_t count, size_t size) {
    void *block = calloc(count + 1, size);
    if (block == NULL) {
        abort();
    }
    return block;
}

/* max |a - b| / max |b|: the error against the largest element of the expected tensor. */
static inline double case_error(const weir_real_t *a, const weir_real_t *b, size_t count) {
    double error = 0.0, largest = 0.0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        error = difference > error || isnan(difference) ? difference : error;
        largest = fmax(largest, fabs((double)b[i]));
    }
    return largest > 0.0 ? error / largest : error;
}

#endif
