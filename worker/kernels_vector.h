/* Vectors of the model's number type, as wide as the level that this file is compiled for, by the
 * compiler's vector extension; intrinsics only where the extension has no word for it.
 * For worker/kernels_level.c and worker/attention_level.c. */
#ifndef WEIR_WORKER_KERNELS_VECTOR_H
#define WEIR_WORKER_KERNELS_VECTOR_H

#include "common/real.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define WEIR_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define WEIR_VECTOR_BYTES 32
#else
#define WEIR_VECTOR_BYTES 16
#endif
#ifdef WEIR_REAL_F64
#define WEIR_LANES (WEIR_VECTOR_BYTES / 8)
#else
#define WEIR_LANES (WEIR_VECTOR_BYTES / 4)
#endif
#define LANES ((size_t)WEIR_LANES)

#define WEIR_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define WEIR_UNROLL _Pragma("clang loop unroll(full)")
#else
#define WEIR_UNROLL _Pragma("GCC unroll 32")
#endif

#ifdef WEIR_REAL_F64
typedef int64_t weir_lane_int_t;
typedef uint64_t weir_lane_bits_t;
#else
typedef int32_t weir_lane_int_t;
typedef uint32_t weir_lane_bits_t;
#endif
typedef weir_real_t vec_t __attribute__((vector_size(WEIR_VECTOR_BYTES)));
typedef weir_lane_int_t ivec_t __attribute__((vector_size(WEIR_VECTOR_BYTES)));
typedef weir_lane_bits_t uvec_t __attribute__((vector_size(WEIR_VECTOR_BYTES)));
/* The same in memory, at any address. */
typedef weir_real_t unaligned_vec_t
    __attribute__((vector_size(WEIR_VECTOR_BYTES), aligned(sizeof(weir_real_t)), may_alias));

WEIR_INLINE vec_t load(const weir_real_t *from) {
    return *(const unaligned_vec_t *)from;
}

WEIR_INLINE void store(weir_real_t *to, vec_t value) {
    *(unaligned_vec_t *)to = value;
}

#if defined(__AVX2__) && !defined(__AVX512F__)
/* All bits in the lanes below `count`, as masked loads and stores want them. */
WEIR_INLINE __m256i mask_part(size_t count) {
#ifdef WEIR_REAL_F64
    __m256i lane = _mm256_set_epi64x(3, 2, 1, 0);
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)count), lane);
#else
    __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), lane);
#endif
}
#endif

/* The first `count` < LANES numbers, zeros behind them. */
WEIR_INLINE vec_t load_part(const weir_real_t *from, size_t count) {
#if defined(__AVX512F__) && !defined(WEIR_REAL_F64)
    return (vec_t)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1u), from);
#elif defined(__AVX512F__)
    return (vec_t)_mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1u), from);
#elif defined(__AVX2__) && defined(WEIR_REAL_F64)
    return (vec_t)_mm256_maskload_pd(from, mask_part(count));
#elif defined(__AVX2__)
    return (vec_t)_mm256_maskload_ps(from, mask_part(count));
#else
    vec_t value = {0};
    memcpy(&value, from, count * sizeof *from);
    return value;
#endif
}

WEIR_INLINE void store_part(weir_real_t *to, vec_t value, size_t count) {
#if defined(__AVX512F__) && !defined(WEIR_REAL_F64)
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1u), (__m512)value);
#elif defined(__AVX512F__)
    _mm512_mask_storeu_pd(to, (__mmask8)((1u << count) - 1u), (__m512d)value);
#elif defined(__AVX2__) && defined(WEIR_REAL_F64)
    _mm256_maskstore_pd(to, mask_part(count), (__m256d)value);
#elif defined(__AVX2__)
    _mm256_maskstore_ps(to, mask_part(count), (__m256)value);
#else
    memcpy(to, &value, count * sizeof *to);
#endif
}

/* x - 0 is x for every x, so that this costs one broadcast. */
WEIR_INLINE vec_t splat(weir_real_t x) {
    return x - (vec_t){0};
}

WEIR_INLINE vec_t select_lanes(ivec_t mask, vec_t yes, vec_t no) {
    return (vec_t)((mask & (ivec_t)yes) | (~mask & (ivec_t)no));
}

/* Lanes of two vectors in turn: of their lower halves, of their upper halves; and one lane further.
 */
#if WEIR_LANES == 16
#define LOW_LANES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_LANES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define NEXT_LANES 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#elif WEIR_LANES == 8
#define LOW_LANES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_LANES 4, 12, 5, 13, 6, 14, 7, 15
#define NEXT_LANES 1, 2, 3, 4, 5, 6, 7, 8
#elif WEIR_LANES == 4
#define LOW_LANES 0, 4, 1, 5
#define HIGH_LANES 2, 6, 3, 7
#define NEXT_LANES 1, 2, 3, 4
#else
#define LOW_LANES 0, 2
#define HIGH_LANES 1, 3
#define NEXT_LANES 1, 2
#endif

/* Each lane half of two vectors' sums: a[l] + a[l + LANES / 2] in even lanes, those of b in odd
 * ones. */
WEIR_INLINE vec_t add_halves(vec_t a, vec_t b) {
    return __builtin_shufflevector(a, b, LOW_LANES) + __builtin_shufflevector(a, b, HIGH_LANES);
}

/* Lane r of the result: sum of the lanes of row[r], r < LANES. Rows are used up. */
WEIR_INLINE vec_t sum_rows(vec_t *row) {
    WEIR_UNROLL
    for (size_t r = 0; r < LANES / 2; r++) {
        row[r] = add_halves(row[r], row[r + LANES / 2]);
    }
#if WEIR_LANES >= 4
    WEIR_UNROLL
    for (size_t r = 0; r < LANES / 4; r++) {
        row[r] = add_halves(row[r], row[r + LANES / 4]);
    }
#endif
#if WEIR_LANES >= 8
    WEIR_UNROLL
    for (size_t r = 0; r < LANES / 8; r++) {
        row[r] = add_halves(row[r], row[r + LANES / 8]);
    }
#endif
#if WEIR_LANES >= 16
    row[0] = add_halves(row[0], row[1]);
#endif
    return row[0];
}

/* Sum of the lanes, halves first: a fixed tree. */
WEIR_INLINE weir_real_t sum_lanes(vec_t value) {
    weir_real_t lane[WEIR_LANES];
    memcpy(lane, &value, sizeof lane);
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) {
            lane[i] += lane[i + half];
        }
    }
    return lane[0];
}

WEIR_INLINE vec_t square_root(vec_t x) {
#if defined(__AVX512F__) && !defined(WEIR_REAL_F64)
    return (vec_t)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX512F__)
    return (vec_t)_mm512_sqrt_pd((__m512d)x);
#else
    for (size_t i = 0; i < LANES; i++) {
#ifdef WEIR_REAL_F64
        x[i] = sqrt(x[i]);
#else
        x[i] = sqrtf(x[i]);
#endif
    }
    return x;
#endif
}

#ifdef WEIR_REAL_F64

WEIR_INLINE vec_t raise_e(vec_t x) {
    for (size_t i = 0; i < LANES; i++) {
        x[i] = exp(x[i]);
    }
    return x;
}

#elif defined(__AVX512F__)

/* x log2 e = n + f, |f| <= 1/2, log2 e in two parts so that f is as exact as x; 2^f by the
 * polynomial of least relative error (2e-9), 2^n by the instruction for it. The second operand of
 * min and max is the one they give when either is NaN. */
WEIR_INLINE vec_t raise_e(vec_t x) {
    const __m512 log2_e = _mm512_set1_ps(1.44269502162933350f);
    __m512 bound = _mm512_min_ps(_mm512_set1_ps(88.5f), (__m512)x);
    bound = _mm512_max_ps(_mm512_set1_ps(-110.0f), bound);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(bound, log2_e),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    vec_t f = (vec_t)_mm512_fmsub_ps(bound, log2_e, n);
    f = (vec_t)bound * 1.92596299e-8f + f;
    vec_t p = f * 1.53458118e-4f + 1.33999314e-3f;
    p = p * f + 9.61848896e-3f;
    p = p * f + 5.55032878e-2f;
    p = p * f + 2.40226469e-1f;
    p = p * f + 6.93147206e-1f;
    p = p * f + 1.0f;
    return (vec_t)_mm512_scalef_ps((__m512)p, n);
}

#else

/* x = n ln 2 + r, |r| <= ln 2 / 2; e^r by the polynomial of Moshier's Cephes library (expf), 2^n by
 * the exponent's bits. 355 / 512, the high part of ln 2, has so few bits that n * it is exact.
 * Comparisons are such that NaN passes every clamp. */
WEIR_INLINE vec_t raise_e(vec_t x) {
    const weir_real_t round_shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    ivec_t vanishes = x < -87.0f;
    x = select_lanes(x > 88.5f, splat(88.5f), x);
    x = select_lanes(vanishes, splat(-87.0f), x);
    vec_t shifted = x * 1.44269504088896341f + round_shift;
    vec_t n = shifted - round_shift;
    vec_t r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vec_t p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    vec_t y = p * (r * r) + r + 1.0f;
    y = (vec_t)((uvec_t)y + ((uvec_t)shifted << 23));
    return (vec_t)((ivec_t)y & ~vanishes);
}

#endif

#if defined(__AVX512F__) && !defined(WEIR_REAL_F64)
/* The estimate's 14 bits doubled by one step of Newton's: a third of a division's time. */
WEIR_INLINE vec_t sigmoid(vec_t x) {
    vec_t below = 1.0f + raise_e(-x);
    vec_t inverse = (vec_t)_mm512_rcp14_ps((__m512)below);
    return inverse + inverse * (1.0f - below * inverse);
}
#else
WEIR_INLINE vec_t sigmoid(vec_t x) {
    return (weir_real_t)1 / ((weir_real_t)1 + raise_e(-x));
}
#endif

#endif
