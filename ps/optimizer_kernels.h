/* The bodies of the row updates of ps/optimizer.h: inlined by ps/optimizer.c into one function per
 * kind and vector width. They are loops that the compiler vectorises; none depends on the width.
 * Private to ps/optimizer.c. */
#ifndef WEIR_PS_OPTIMIZER_KERNELS_H
#define WEIR_PS_OPTIMIZER_KERNELS_H

#include "ps/optimizer.h"

#include <math.h>
#include <string.h>

enum { WEIR_OPTIMIZER_LANES = 16 };

#define INLINE static inline __attribute__((always_inline))
#define UPDATE_ARGUMENTS                                                                           \
    const weir_optimizer_t *o, float *restrict value, float *restrict state,                       \
        const float *restrict gradient, weir_bias_correction_t correction

/* Sum of squares: LANES partial sums, then their sum in order; the same order for every vector
 * width. */
INLINE float sum_squares(const float *values, size_t dim) {
    enum { LANES = WEIR_OPTIMIZER_LANES };
    float lanes[LANES] = {0};
    size_t whole = dim / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            lanes[lane] += values[i + lane] * values[i + lane];
        }
    }
    for (size_t i = whole; i < dim; i++) {
        lanes[i - whole] += values[i] * values[i];
    }
    for (size_t lane = 0; lane < 8; lane++) {
        lanes[lane] += lanes[lane + 8];
    }
    for (size_t lane = 0; lane < 4; lane++) {
        lanes[lane] += lanes[lane + 4];
    }
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

/* The same in float64, where no square overflows. */
INLINE double sum_wide_squares(const float *values, size_t dim) {
    enum { LANES = WEIR_OPTIMIZER_LANES };
    double lanes[LANES] = {0};
    size_t whole = dim / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            lanes[lane] += (double)values[i + lane] * (double)values[i + lane];
        }
    }
    for (size_t i = whole; i < dim; i++) {
        lanes[i - whole] += (double)values[i] * (double)values[i];
    }
    for (size_t lane = 0; lane < 8; lane++) {
        lanes[lane] += lanes[lane + 8];
    }
    for (size_t lane = 0; lane < 4; lane++) {
        lanes[lane] += lanes[lane + 4];
    }
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

INLINE bool all_finite(const float *gradient, size_t count) {
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &gradient[i], sizeof bits);
        bits &= 0x7FFFFFFFu;
        largest = bits > largest ? bits : largest;
    }
    return largest < 0x7F800000u;
}

INLINE float clamp(float x, float size) {
    float below = x > size ? size : x;
    return below < -size ? -size : below;
}

/* Into o->clip. */
INLINE void clip_gradient(const weir_optimizer_t *o, const float *restrict gradient) {
    const size_t dim = o->dim;
    const float size = o->clip_value;
    float *restrict clipped = o->clip->gradient;
    uint32_t changed = 0;
    for (size_t i = 0; i < dim; i++) {
        clipped[i] = clamp(gradient[i], size);
        changed |= clipped[i] != gradient[i];
    }
    const double squares = sum_wide_squares(clipped, dim);
    if (squares > o->clip_norm * o->clip_norm) {
        const float scale = (float)(o->clip_norm / sqrt(squares));
        for (size_t i = 0; i < dim; i++) {
            clipped[i] *= scale;
        }
        changed = 1;
    }
    o->clip->rows += changed;
}

INLINE void update_sgd(UPDATE_ARGUMENTS) {
    (void)correction;
    (void)state;
    const float rate = o->learning_rate, decay = o->decay;
    for (size_t i = 0; i < o->dim; i++) {
        value[i] = value[i] * decay - rate * gradient[i];
    }
}

INLINE void update_momentum(UPDATE_ARGUMENTS) {
    (void)correction;
    const float rate = o->learning_rate, decay = o->decay, beta1 = o->beta1;
    for (size_t i = 0; i < o->dim; i++) {
        float u = beta1 * state[i] + gradient[i];
        state[i] = u;
        value[i] = value[i] * decay - rate * u;
    }
}

INLINE void update_nesterov(UPDATE_ARGUMENTS) {
    (void)correction;
    const float rate = o->learning_rate, decay = o->decay, beta1 = o->beta1;
    for (size_t i = 0; i < o->dim; i++) {
        float u = beta1 * state[i] + gradient[i];
        state[i] = u;
        value[i] = value[i] * decay - rate * (gradient[i] + beta1 * u);
    }
}

INLINE void update_adagrad(UPDATE_ARGUMENTS) {
    (void)correction;
    const float rate = o->learning_rate, decay = o->decay, epsilon = o->epsilon;
    for (size_t i = 0; i < o->dim; i++) {
        float g = gradient[i];
        float s = state[i] + g * g;
        state[i] = s;
        value[i] = value[i] * decay - rate * g / (sqrtf(s) + epsilon);
    }
}

INLINE void update_rowwise_adagrad(UPDATE_ARGUMENTS) {
    (void)correction;
    const size_t dim = o->dim;
    const float s = state[0] + sum_squares(gradient, dim) / (float)dim;
    const float rate = o->learning_rate, decay = o->decay;
    const float scale = rate / (sqrtf(s) + o->epsilon);
    state[0] = s;
    for (size_t i = 0; i < dim; i++) {
        value[i] = value[i] * decay - scale * gradient[i];
    }
}

/* `coupled`: decay is part of the gradient. */
INLINE void update_moments(UPDATE_ARGUMENTS, bool coupled) {
    const float beta1 = o->beta1, rest1 = o->one_minus_beta1;
    const float beta2 = o->beta2, rest2 = o->one_minus_beta2;
    const float decay = o->decay, epsilon = o->epsilon;
    const float step_size = correction.step_size, inverse_root = correction.inverse_root;
    const size_t dim = o->dim;
    float *restrict first = state;
    float *restrict second = state + dim;
    for (size_t i = 0; i < dim; i++) {
        float w = value[i];
        float g = coupled ? gradient[i] + decay * w : gradient[i];
        float m = beta1 * first[i] + rest1 * g;
        float v = beta2 * second[i] + rest2 * (g * g);
        first[i] = m;
        second[i] = v;
        float kept = coupled ? w : w * decay;
        value[i] = kept - step_size * m / (sqrtf(v) * inverse_root + epsilon);
    }
}

INLINE void update_adam(UPDATE_ARGUMENTS) {
    update_moments(o, value, state, gradient, correction, true);
}

INLINE void update_adamw(UPDATE_ARGUMENTS) {
    update_moments(o, value, state, gradient, correction, false);
}

INLINE void update_rowwise_adamw(UPDATE_ARGUMENTS) {
    const float beta1 = o->beta1, rest1 = o->one_minus_beta1, decay = o->decay;
    const size_t dim = o->dim;
    float *restrict first = state;
    const float mean = sum_squares(gradient, dim) / (float)dim;
    const float v = o->beta2 * state[dim] + o->one_minus_beta2 * mean;
    const float scale = correction.step_size / (sqrtf(v) * correction.inverse_root + o->epsilon);
    state[dim] = v;
    for (size_t i = 0; i < dim; i++) {
        float m = beta1 * first[i] + rest1 * gradient[i];
        first[i] = m;
        value[i] = value[i] * decay - scale * m;
    }
}

/* -sign(z) max(|z| - l1, 0) */
INLINE float shrink(float z, float l1) {
    return clamp(z, l1) - z;
}

/* `first`: NULL, or adam's m. `group`: whole rows may become zero. A = addend + factor sqrt(v). */
INLINE void update_proximal(const weir_optimizer_t *o, float *restrict value, float *restrict sum,
                            float *restrict second, float *restrict first, float *restrict last,
                            const float *restrict gradient, weir_bias_correction_t correction,
                            bool group) {
    const float beta1 = o->beta1, rest1 = o->one_minus_beta1;
    const float beta2 = o->beta2, rest2 = o->one_minus_beta2;
    const float l1 = o->l1, ridge = o->ridge, inverse_mean = correction.inverse_mean;
    const float addend = o->addend, addend_before = last[0], factor_before = last[1];
    const float factor =
        first != NULL ? o->inverse_rate * correction.inverse_root : o->inverse_rate;
    const size_t dim = o->dim;
    for (size_t i = 0; i < dim; i++) {
        float g = gradient[i], v = second[i], mean = g;
        float before = addend_before + factor_before * sqrtf(v);
        if (first != NULL) {
            float m = beta1 * first[i] + rest1 * g;
            first[i] = m;
            mean = m * inverse_mean;
            v = beta2 * v + rest2 * (g * g);
        } else {
            v = v + g * g;
        }
        float curvature = addend + factor * sqrtf(v);
        float z = sum[i] + (mean - (curvature - before) * value[i]);
        second[i] = v;
        sum[i] = z;
        float s = shrink(z, l1);
        value[i] = group ? s : s / (curvature + ridge);
    }
    last[0] = addend;
    last[1] = factor;
    if (!group) {
        return;
    }
    const float norm = sqrtf(sum_squares(value, dim)), threshold = o->group_threshold;
    if (!(norm > threshold) && threshold > 0.0F) {
        memset(value, 0, dim * sizeof *value);
        return;
    }
    const float kept = threshold > 0.0F ? 1.0F - threshold / norm : 1.0F;
    for (size_t i = 0; i < dim; i++) {
        value[i] = value[i] * kept / (addend + factor * sqrtf(second[i]) + ridge);
    }
}

INLINE void update_ftrl(UPDATE_ARGUMENTS) {
    update_proximal(o, value, state, state + o->dim, NULL, state + 2 * (size_t)o->dim, gradient,
                    correction, false);
}

INLINE void update_group_ftrl(UPDATE_ARGUMENTS) {
    update_proximal(o, value, state, state + o->dim, NULL, state + 2 * (size_t)o->dim, gradient,
                    correction, true);
}

/* The constants tell it from group_ftrl. */
INLINE void update_group_adagrad(UPDATE_ARGUMENTS) {
    update_group_ftrl(o, value, state, gradient, correction);
}

INLINE void update_group_adam(UPDATE_ARGUMENTS) {
    const size_t dim = o->dim;
    update_proximal(o, value, state, state + dim, state + 2 * dim, state + 3 * dim, gradient,
                    correction, true);
}

#endif
