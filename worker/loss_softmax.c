/* Elementwise passes of the softmax. Plain loops until they are vectorised. */
#include "worker/loss_internal.h"

#include <math.h>

weir_real_t weir_loss_maximum(const weir_real_t *logits, size_t count) {
    weir_real_t highest = (weir_real_t)-INFINITY;
    for (size_t i = 0; i < count; i++) {
        highest = logits[i] > highest ? logits[i] : highest;
    }
    return highest;
}

weir_real_t weir_loss_sum_exp(const weir_real_t *logits, size_t count, weir_real_t shift) {
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += exp((double)(logits[i] - shift));
    }
    return (weir_real_t)sum;
}

void weir_loss_weigh(weir_real_t *logits, size_t count, weir_real_t shift, weir_real_t factor) {
    for (size_t i = 0; i < count; i++) {
        logits[i] = factor * (weir_real_t)exp((double)(logits[i] - shift));
    }
}
