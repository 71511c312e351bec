/* Each body is written once and compiled per vector width; whatever rounds is integer arithmetic or
 * exact, so that the widths agree to the bit. */
#include "ps/precision.h"

#include "common/rng.h"

#include <float.h>
#include <stdatomic.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define INFINITY_BITS 0x7F800000

enum {
    BF16_LARGEST = 0x7F7F,
    BF16_QUIET = 0x40,
    F16_LARGEST = 0x7BFF,
    F16_INFINITY = 0x7C00,
    F16_QUIET = 0x200,
    F16_SMALLEST_NORMAL = 0x38800000, /* 2^-14 as a float's bits */
    INT8_LARGEST = 127,
    INT8_LARGEST_BITS = 0x42FE0000 /* as a float's bits */
};

INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- random bits and rounding ---- */

/* A row's columns are a Weyl sequence whose start and odd stride are the seed's halves, each number
 * then hashed by two rounds of multiply and shift. */
INLINE uint32_t draw(uint64_t seed, size_t column) {
    uint32_t x = (uint32_t)seed + (uint32_t)column * ((uint32_t)(seed >> 32) | 1u);
    x ^= x >> 16;
    x *= 0x21F0AAADu;
    x ^= x >> 15;
    x *= 0xD35A2D97u;
    return x ^ x >> 15;
}

/* number in [0, 2^24) to a neighbouring integer. What is beyond the integer is exact, since both
 * are floats of one sign and the number is the larger; in units of 2^-31 it is exact from 2^-8 on.
 * Without branches, which keep compilers from using vectors. */
INLINE int32_t round_to_integer(float number, bool stochastic, uint32_t random) {
    int32_t whole = (int32_t)number;
    int32_t rest = (int32_t)((number - (float)whole) * 0x1p31F);
    int32_t threshold = stochastic ? (int32_t)(random >> 1) : 0x40000000 - (whole & 1);
    return whole + (rest > threshold);
}

INLINE uint16_t encode_bf16(float value, bool stochastic, uint32_t random) {
    uint32_t bits = bits_of(value), magnitude = bits & 0x7FFFFFFFu;
    uint32_t added = stochastic ? random >> 16 : 0x7FFFu + (magnitude >> 16 & 1u);
    int32_t code = (int32_t)((magnitude + added) >> 16);
    code = code < BF16_LARGEST ? code : BF16_LARGEST;
    int32_t special =
        (int32_t)(magnitude >> 16) | ((int32_t)magnitude > INFINITY_BITS ? BF16_QUIET : 0);
    code = (int32_t)magnitude < INFINITY_BITS ? code : special;
    return (uint16_t)((uint32_t)code | (bits >> 16 & 0x8000u));
}

INLINE uint16_t encode_f16(float value, bool stochastic, uint32_t random) {
    uint32_t bits = bits_of(value);
    int32_t magnitude = (int32_t)(bits & 0x7FFFFFFFu);
    /* Chosen by masks: compilers would make branches of conditions around a conversion. */
    int32_t is_subnormal = (magnitude - F16_SMALLEST_NORMAL) >> 31;
    int32_t is_finite = (magnitude - INFINITY_BITS) >> 31;
    /* Normal: 13 bits fewer, and an exponent that counts from 15 instead of 127. */
    int32_t added = stochastic ? (int32_t)(random >> 19) : 0xFFF + (magnitude >> 13 & 1);
    int32_t normal = (magnitude - (112 << 23) + added) >> 13;
    normal = normal < F16_LARGEST ? normal : F16_LARGEST;
    /* Subnormal: a multiple of 2^-24; the code after the last one is the smallest normal's. */
    float units = float_of((uint32_t)(magnitude & is_subnormal)) * 0x1p24F;
    int32_t subnormal = round_to_integer(units, stochastic, random);
    int32_t special =
        F16_INFINITY |
        (magnitude > INFINITY_BITS ? F16_QUIET | (magnitude >> 13 & (F16_QUIET - 1)) : 0);
    int32_t code = (subnormal & is_subnormal) | (normal & ~is_subnormal);
    code = (code & is_finite) | (special & ~is_finite);
    return (uint16_t)((uint32_t)code | (bits >> 16 & 0x8000u));
}

INLINE float decode_f16(uint16_t code) {
    uint32_t magnitude = (uint32_t)(code & 0x7FFF) << 13;
    uint32_t sign = (uint32_t)(code & 0x8000) << 16;
    /* (1 + m 2^-10) 2^-14 - 2^-14: no subnormal float, which some CPUs are slow at. */
    float small = float_of(magnitude + F16_SMALLEST_NORMAL) - 0x1p-14F;
    uint32_t bias = (code & F16_INFINITY) == F16_INFINITY ? 224u << 23 : 112u << 23;
    uint32_t bits = (code & F16_INFINITY) == 0 ? bits_of(small) : magnitude + bias;
    return float_of(bits | sign);
}

/* largest / 127, rounded up so that no value lies above 127 scales: it would be cut, and the
 * largest values pulled down at every update. But 127 scales must not overflow. */
INLINE float int8_scale(float largest) {
    float scale = largest / INT8_LARGEST;
    float above = float_of(bits_of(scale) + 1), below = float_of(bits_of(scale) - 1);
    double end = (double)scale * INT8_LARGEST;
    if (end > (double)FLT_MAX) {
        return below;
    }
    return end < (double)largest && (double)above * INT8_LARGEST <= (double)FLT_MAX ? above : scale;
}

/* ---- one row ---- */

INLINE void decode_bf16_row(const void *value, float *restrict values, size_t dim) {
    const uint16_t *restrict codes = value;
    for (size_t i = 0; i < dim; i++) {
        values[i] = float_of((uint32_t)codes[i] << 16);
    }
}

INLINE void decode_f16_row(const void *value, float *restrict values, size_t dim) {
    const uint16_t *restrict codes = value;
    for (size_t i = 0; i < dim; i++) {
        values[i] = decode_f16(codes[i]);
    }
}

INLINE void decode_int8_row(const void *value, float *restrict values, size_t dim) {
    const int8_t *restrict codes = (const int8_t *)value + sizeof(float);
    float scale;
    memcpy(&scale, value, sizeof scale);
    for (size_t i = 0; i < dim; i++) {
        values[i] = (float)codes[i] * scale;
    }
}

INLINE void join_row(const void *value, const void *hidden, float *restrict values, size_t dim) {
    const uint16_t *restrict high = value, *restrict low = hidden;
    for (size_t i = 0; i < dim; i++) {
        values[i] = float_of((uint32_t)high[i] << 16 | low[i]);
    }
}

INLINE void split_row(const float *restrict values, size_t dim, void *value, void *hidden) {
    uint16_t *restrict high = value, *restrict low = hidden;
    for (size_t i = 0; i < dim; i++) {
        uint32_t bits = bits_of(values[i]);
        high[i] = (uint16_t)(bits >> 16);
        low[i] = (uint16_t)bits;
    }
    if (dim % 2 != 0) {
        low[dim] = 0;
    }
}

INLINE void store_bf16_row(const float *restrict values, size_t dim, bool stochastic, uint64_t seed,
                           void *value) {
    uint16_t *restrict codes = value;
    for (size_t i = 0; i < dim; i++) {
        codes[i] = encode_bf16(values[i], stochastic, stochastic ? draw(seed, i) : 0);
    }
}

INLINE void store_f16_row(const float *restrict values, size_t dim, bool stochastic, uint64_t seed,
                          void *value) {
    uint16_t *restrict codes = value;
    for (size_t i = 0; i < dim; i++) {
        codes[i] = encode_f16(values[i], stochastic, stochastic ? draw(seed, i) : 0);
    }
}

INLINE void store_int8_row(const float *restrict values, size_t dim, bool stochastic, uint64_t seed,
                           void *value) {
    int8_t *restrict codes = (int8_t *)value + sizeof(float);
    int32_t largest = 0;
    for (size_t i = 0; i < dim; i++) {
        int32_t magnitude = (int32_t)(bits_of(values[i]) & 0x7FFFFFFFu);
        largest = magnitude > largest ? magnitude : largest;
    }
    const float scale = int8_scale(float_of((uint32_t)largest));
    const float unit = largest > 0 ? scale : 1.0F;
    memcpy(value, &scale, sizeof scale);
    for (size_t i = 0; i < dim; i++) {
        uint32_t bits = bits_of(values[i]);
        int32_t negative = (int32_t)(bits >> 31);
        float units = float_of(bits & 0x7FFFFFFFu) / unit;
        /* At most INT8_LARGEST, NaN too. */
        int32_t cut = (int32_t)bits_of(units);
        cut = cut < INT8_LARGEST_BITS ? cut : INT8_LARGEST_BITS;
        int32_t code =
            round_to_integer(float_of((uint32_t)cut), stochastic, stochastic ? draw(seed, i) : 0);
        codes[i] = (int8_t)((code ^ -negative) + negative);
    }
    for (size_t i = dim; i % 4 != 0; i++) {
        codes[i] = 0;
    }
}

/* ---- one body, compiled per vector width ---- */

typedef void decode_t(const void *wire, size_t stride, size_t count, uint32_t dim, float *values,
                      size_t out_stride);
typedef void store_t(const float *values, uint32_t dim, const uint64_t *seed, void *value);

typedef struct {
    decode_t *decode_bf16, *decode_f16, *decode_int8;
    store_t *store_bf16, *store_f16, *store_int8;
    void (*join)(const void *value, const void *hidden, float *values, uint32_t dim);
    void (*split)(const float *values, uint32_t dim, void *value, void *hidden);
} variant_t;

#define VARIANT_OF(kind, suffix, attribute)                                                        \
    attribute static void decode_##kind##_##suffix(const void *wire, size_t stride, size_t count,  \
                                                   uint32_t dim, float *values,                    \
                                                   size_t out_stride) {                            \
        for (size_t row = 0; row < count; row++) {                                                 \
            decode_##kind##_row((const char *)wire + row * stride, values + row * out_stride,      \
                                dim);                                                              \
        }                                                                                          \
    }                                                                                              \
    attribute static void store_##kind##_##suffix(const float *values, uint32_t dim,               \
                                                  const uint64_t *seed, void *value) {             \
        if (seed == NULL) {                                                                        \
            store_##kind##_row(values, dim, false, 0, value);                                      \
        } else {                                                                                   \
            store_##kind##_row(values, dim, true, *seed, value);                                   \
        }                                                                                          \
    }
#define VARIANT(suffix, attribute)                                                                 \
    VARIANT_OF(bf16, suffix, attribute)                                                            \
    VARIANT_OF(f16, suffix, attribute)                                                             \
    VARIANT_OF(int8, suffix, attribute)                                                            \
    attribute static void join_##suffix(const void *value, const void *hidden, float *values,      \
                                        uint32_t dim) {                                            \
        join_row(value, hidden, values, dim);                                                      \
    }                                                                                              \
    attribute static void split_##suffix(const float *values, uint32_t dim, void *value,           \
                                         void *hidden) {                                           \
        split_row(values, dim, value, hidden);                                                     \
    }                                                                                              \
    static const variant_t variant_##suffix = {                                                    \
        decode_bf16_##suffix, decode_f16_##suffix, decode_int8_##suffix, store_bf16_##suffix,      \
        store_f16_##suffix,   store_int8_##suffix, join_##suffix,        split_##suffix};

VARIANT(portable, )
#ifdef __x86_64__
VARIANT(avx2, __attribute__((target("avx2"))))
VARIANT(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))
#endif

/* NULL: not on this CPU. */
static const variant_t *find_variant(uint32_t bits) {
#ifdef __x86_64__
    if (bits == 512) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
                   ? &variant_avx512
                   : NULL;
    }
    if (bits == 256) {
        return __builtin_cpu_supports("avx2") ? &variant_avx2 : NULL;
    }
#endif
    return bits == 128 ? &variant_portable : NULL;
}

/* NULL until the first use, which any thread may make: all find the same. */
static _Atomic(const variant_t *) chosen;

static const variant_t *choose_variant(void) {
    const variant_t *variant = find_variant(512);
    if (variant == NULL) {
        variant = find_variant(256);
    }
    if (variant == NULL) {
        variant = &variant_portable;
    }
    atomic_store_explicit(&chosen, variant, memory_order_relaxed);
    return variant;
}

static inline const variant_t *current_variant(void) {
    /* Relaxed: what it points to is constant. */
    const variant_t *variant = atomic_load_explicit(&chosen, memory_order_relaxed);
    return variant != NULL ? variant : choose_variant();
}

bool weir_precision_set_width(uint32_t bits) {
    if (bits == 0) {
        (void)choose_variant();
        return true;
    }
    const variant_t *variant = find_variant(bits);
    if (variant == NULL) {
        return false;
    }
    atomic_store_explicit(&chosen, variant, memory_order_relaxed);
    return true;
}

/* ---- the header's functions ---- */

static size_t pad4(size_t bytes) {
    return (bytes + 3) & ~(size_t)3;
}

size_t weir_precision_value_bytes(weir_precision_t precision, uint32_t dim) {
    switch (precision) {
    case WEIR_PRECISION_BF16:
    case WEIR_PRECISION_F16:
    case WEIR_PRECISION_SPLIT_BF16:
        return (size_t)dim * sizeof(uint16_t);
    case WEIR_PRECISION_INT8:
        return sizeof(float) + pad4(dim);
    case WEIR_PRECISION_F32:
    case WEIR_PRECISION_COUNT:
        break;
    }
    return (size_t)dim * sizeof(float);
}

size_t weir_precision_hidden_bytes(weir_precision_t precision, uint32_t dim) {
    return precision == WEIR_PRECISION_SPLIT_BF16 ? pad4((size_t)dim * sizeof(uint16_t)) : 0;
}

void weir_precision_decode(weir_precision_t precision, const void *wire, size_t stride,
                           size_t count, uint32_t dim, float *values, size_t out_stride) {
    const variant_t *variant = current_variant();
    switch (precision) {
    case WEIR_PRECISION_BF16:
    case WEIR_PRECISION_SPLIT_BF16:
        variant->decode_bf16(wire, stride, count, dim, values, out_stride);
        return;
    case WEIR_PRECISION_F16:
        variant->decode_f16(wire, stride, count, dim, values, out_stride);
        return;
    case WEIR_PRECISION_INT8:
        variant->decode_int8(wire, stride, count, dim, values, out_stride);
        return;
    case WEIR_PRECISION_F32:
    case WEIR_PRECISION_COUNT:
        break;
    }
    for (size_t row = 0; row < count; row++) {
        memcpy(values + row * out_stride, (const char *)wire + row * stride, dim * sizeof *values);
    }
}

void weir_precision_load(weir_precision_t precision, const void *value, const void *hidden,
                         uint32_t dim, float *values) {
    if (precision == WEIR_PRECISION_SPLIT_BF16) {
        current_variant()->join(value, hidden, values, dim);
    } else {
        weir_precision_decode(precision, value, 0, 1, dim, values, 0);
    }
}

void weir_precision_store(weir_precision_t precision, const float *values, uint32_t dim,
                          const uint64_t *seed, void *value, void *hidden) {
    const variant_t *variant = current_variant();
    switch (precision) {
    case WEIR_PRECISION_BF16:
        variant->store_bf16(values, dim, seed, value);
        return;
    case WEIR_PRECISION_F16:
        variant->store_f16(values, dim, seed, value);
        return;
    case WEIR_PRECISION_INT8:
        variant->store_int8(values, dim, seed, value);
        return;
    case WEIR_PRECISION_SPLIT_BF16:
        variant->split(values, dim, value, hidden);
        return;
    case WEIR_PRECISION_F32:
    case WEIR_PRECISION_COUNT:
        break;
    }
    memcpy(value, values, dim * sizeof *values);
}

uint64_t weir_precision_seed(uint64_t seed, uint32_t table_id, uint32_t segment, uint64_t key,
                             uint64_t step) {
    weir_rng_key_t stream = weir_rng_key(seed, WEIR_STREAM_ROUND);
    /* Odd factors: distinct for distinct numbers, and far from what a near seed gives. */
    stream.key[0] ^= segment * 0x85EBCA6Bu;
    stream.key[1] ^= table_id * 0xC2B2AE35u;
    weir_philox_t random = weir_philox(stream, (uint32_t)key, (uint32_t)(key >> 32), (uint32_t)step,
                                       (uint32_t)(step >> 32));
    return (uint64_t)random.word[1] << 32 | random.word[0];
}

const char *weir_precision_name(weir_precision_t precision) {
    static const char *const names[WEIR_PRECISION_COUNT] = {[WEIR_PRECISION_F32] = "float32",
                                                            [WEIR_PRECISION_BF16] = "bf16",
                                                            [WEIR_PRECISION_F16] = "fp16",
                                                            [WEIR_PRECISION_INT8] = "int8",
                                                            [WEIR_PRECISION_SPLIT_BF16] =
                                                                "split_bf16"};
    return (unsigned)precision < WEIR_PRECISION_COUNT ? names[precision] : "unknown";
}
