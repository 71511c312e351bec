/* The dot product of two short rows, for code outside the kernels. */
#ifndef WEIR_WORKER_DOT_H
#define WEIR_WORKER_DOT_H

#include "common/real.h"

#include <stddef.h>

/* In 16 interleaved parts, summed as a tree: the order is fixed, and the parts can be vectors
 * without leave to reorder sums. */
static inline weir_real_t weir_dot(const weir_real_t *a, const weir_real_t *b, size_t count) {
    enum { LANES = 16 };
    weir_real_t sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            sums[lane] += a[i + lane] * b[i + lane];
        }
    }
    for (; i < count; i++) {
        sums[i % LANES] += a[i] * b[i];
    }
    for (size_t width = LANES / 2; width > 0; width /= 2) {
        for (size_t lane = 0; lane < width; lane++) {
            sums[lane] += sums[lane + width];
        }
    }
    return sums[0];
}

#endif
