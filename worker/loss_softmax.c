/* The softmax's passes over a row of logits. Sums and maxima run in LANES interleaved parts: that
 * is what lets them be vectors, and the order is fixed. */
#include "worker/loss_internal.h"

#include <math.h>

enum { LANES = 16 };

weir_real_t weir_loss_maximum(const weir_real_t *logits, size_t count) {
    weir_real_t highest[LANES];
    size_t i = 0;
    for (size_t lane = 0; lane < LANES; lane++) {
        highest[lane] = (weir_real_t)-INFINITY;
    }
    for (; i + LANES <= count; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            weir_real_t logit = logits[i + lane];
            highest[lane] = logit > highest[lane] ? logit : highest[lane];
        }
    }
    for (; i < count; i++) {
        highest[0] = logits[i] > highest[0] ? logits[i] : highest[0];
    }
    for (size_t lane = 1; lane < LANES; lane++) {
        highest[0] = highest[lane] > highest[0] ? highest[lane] : highest[0];
    }
    return highest[0];
}

static weir_real_t sum_values(const weir_real_t *values, size_t count) {
    weir_real_t sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            sums[lane] += values[i + lane];
        }
    }
    for (; i < count; i++) {
        sums[i % LANES] += values[i];
    }
    for (size_t width = LANES / 2; width > 0; width /= 2) {
        for (size_t lane = 0; lane < width; lane++) {
            sums[lane] += sums[lane + width];
        }
    }
    return sums[0];
}

weir_real_t weir_loss_exponentiate(const weir_kernels_t *kernels, weir_real_t *logits, size_t count,
                                   weir_real_t shift) {
    for (size_t i = 0; i < count; i++) {
        logits[i] -= shift;
    }
    kernels->exp(logits, logits, count);
    return sum_values(logits, count);
}

void weir_loss_scale(weir_real_t *values, size_t count, weir_real_t factor) {
    for (size_t i = 0; i < count; i++) {
        values[i] *= factor;
    }
}
