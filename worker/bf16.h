/* bfloat16: a float32 without its lower 16 bits, so that 8 bits of the significand are left.
 *
 * A product in bf16 rounds its operands to the nearest bfloat16 (ties to even, denormals to zero)
 * and sums in float32; whatever is not an operand of a product stays float32. Three ways:
 * processors with AMX multiply tiles, those with AVX512_BF16 pairs in one instruction; all others
 * round the operands and multiply them as float32, which is the same but for the order of sums, and
 * no faster than float32. Tests hold all against plain loops. For the model's float32 build; the
 * float64 build has none. */
#ifndef WEIR_WORKER_BF16_H
#define WEIR_WORKER_BF16_H

#include "common/real.h"
#include "worker/kernels.h"
#include "worker/product.h"

#include <stdint.h>
#include <string.h>

/* 2^-8: half the distance of neighbours, relative: the most that rounding changes a number by. */
#define WEIR_BF16_UNIT 0.00390625

/* The nearest bfloat16, as the instruction gives it; NaN stays NaN. */
static inline float weir_bf16_round(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t exponent = bits & 0x7F800000u;
    if (exponent == 0x7F800000u) {
        bits |= (bits & 0x007FFFFFu) != 0 ? 0x00400000u : 0;
    } else if (exponent == 0) {
        bits = 0;
    } else {
        bits += 0x7FFFu + (bits >> 16 & 1u);
    }
    bits &= 0xFFFF0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* rounded[i] = the bfloat16 nearest to x[i]. rounded may be x. */
static inline void weir_bf16_round_numbers(const weir_real_t *x, weir_real_t *rounded,
                                           size_t count) {
    for (size_t i = 0; i < count; i++) {
        rounded[i] = (weir_real_t)weir_bf16_round((float)x[i]);
    }
}

typedef struct {
    const char *name; /* "amx", "avx512_bf16" */
    void (*product)(const weir_product_t *product);
    void (*attention_forward)(const weir_attention_task_t *task);
    void (*attention_backward)(const weir_attention_task_t *task);
} weir_bf16_kernels_t;

/* Those that go with `kernels` on this processor; NULL: operands are rounded and multiplied as
 * float32. Of level "v4" alone, so that WEIR_KERNELS=v3 asks for the last way. The best of them, or
 * the one that WEIR_BF16 names ("amx", "avx512_bf16" or "rounded") where it can be had. Call:
 * local. Threads: any. */
const weir_bf16_kernels_t *weir_bf16_kernels(const weir_kernels_t *kernels);

/* Errors: WEIR_ERR_INVALID where WEIR_BF16 names no way, WEIR_ERR_UNSUPPORTED where it names one
 * that does not go with `kernels` here. Call: local. Threads: any. */
WEIR_MUST_USE weir_err_t weir_bf16_check(const weir_kernels_t *kernels, weir_error_t *error);

/* Of this build, whatever the processor; for worker/bf16.c alone. */
const weir_bf16_kernels_t *weir_bf16_kernels_avx512(void);
const weir_bf16_kernels_t *weir_bf16_kernels_amx(void);

#endif
