/* The arithmetic that a training step spends its time in, compiled once per processor level and
 * chosen when the program runs.
 *
 * A *level* is a table of functions: on x86-64 "v2" (SSE4), "v3" (AVX2, FMA) and "v4" (AVX-512),
 * after the psABI's names; elsewhere "generic". "naive" is the oracle in plain loops. WEIR_KERNELS
 * in the environment names a level to force.
 *
 * A kernel gives the same bits on every run of one level, whatever the alignment of its buffers.
 * Levels differ from each other by rounding. Kernels neither allocate nor fail. Matrices are
 * row-major; T tokens, D width, R negatives. Unless a kernel says so, its buffers do not overlap.
 * This file is compiled for float32 and float64. */
#ifndef WEIR_WORKER_KERNELS_H
#define WEIR_WORKER_KERNELS_H

#include "common/error.h"
#include "common/real.h"
#include "common/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* eps of every layer_norm of the model. */
#define WEIR_LAYER_NORM_EPSILON 1e-6

/* Dropout at one place of the network ("site") in one step. The random number of element (token,
 * column) has 16 bits: of the words of WEIR_STREAM_DROPOUT at counter (step, site, token, column /
 * 8) number column % 8, lower halves before upper ones. */
typedef struct {
    weir_rng_key_t key;
    uint32_t step;
    uint32_t site;
    uint32_t
        threshold;     /* an element is kept when its number is at least this: probability * 2^16 */
    weir_real_t scale; /* of what is kept: 1 / (1 - threshold / 2^16) */
} weir_dropout_t;

/* One step of AdamW (Loshchilov, Hutter, 2019; as torch.optim.AdamW computes it). */
typedef struct {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    double correction1; /* 1 - beta1^step */
    double correction2; /* 1 - beta2^step */
} weir_adamw_t;

typedef struct weir_attention_task weir_attention_task_t; /* worker/attention_task.h */
typedef struct weir_product weir_product_t;               /* worker/product.h */

typedef struct {
    const char *level; /* "v2", "v3", "v4", "generic", "naive" */
    size_t lanes;      /* numbers in one vector; rows padded to a multiple of it run fastest */

    /* y = e^x. float32: within 2 units in the last place (2.4e-7 relative) where the result is a
     * normal number, 0 or the smallest normal below, at most 2^127.8 above; NaN stays NaN. float64:
     * the C library's. y may be x. */
    void (*exp)(const weir_real_t *x, weir_real_t *y, size_t count);

    /* y = x / (1 + e^-x). y may be x. */
    void (*silu_forward)(const weir_real_t *x, weir_real_t *y, size_t count);

    /* d_x = d_y * silu'(x), x as in forward. d_x may be d_y or x. */
    void (*silu_backward)(const weir_real_t *x, const weir_real_t *d_y, weir_real_t *d_x,
                          size_t count);

    /* Rows of T x D to mean 0 and variance 1, neither scale nor shift: y = (x - mean) * inverse,
     * inverse = 1 / sqrt(variance + WEIR_LAYER_NORM_EPSILON). `inverses`: T, kept for backward; may
     * be NULL. y may be x. */
    void (*layer_norm_forward)(const weir_real_t *x, size_t tokens, size_t width, weir_real_t *y,
                               weir_real_t *inverses);

    /* `y` and `inverses` as forward gave them: d_x = inverse * (d_y - mean(d_y) - y * mean(d_y *
     * y)), added to what d_x holds when `accumulate`. d_x may be d_y when not `accumulate`. */
    void (*layer_norm_backward)(const weir_real_t *y, const weir_real_t *inverses,
                                const weir_real_t *d_y, size_t tokens, size_t width,
                                bool accumulate, weir_real_t *d_x);

    /* y = kept ? x * scale : 0, over T x D. Its own backward: apply it to d_y. `global_tokens`: T,
     * the token coordinate of each row; NULL: the row's number. y may be x. */
    void (*dropout)(const weir_dropout_t *dropout, const uint32_t *global_tokens,
                    const weir_real_t *x, size_t tokens, size_t width, weir_real_t *y);

    /* items[r] = 1 + weir_uniform_below(word r % 4 of weir_philox(key, first, second, third, r /
     * 4), bound) for r < count; bound > 0. The same on every level. */
    void (*draw_items)(weir_rng_key_t key, uint32_t first, uint32_t second, uint32_t third,
                       uint32_t bound, int64_t *items, size_t count);

    /* m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; w *= 1 - lr * decay;
     * w -= lr / correction1 * m / (sqrt(v) / sqrt(correction2) + epsilon). */
    void (*adamw)(const weir_adamw_t *step, const weir_real_t *gradient, weir_real_t *weights,
                  weir_real_t *moments1, weir_real_t *moments2, size_t count);

    /* dots[r] = <vector, rows[indices[r]]> for r < count; vector of `width`, rows of U x width. */
    void (*gather_dot)(const weir_real_t *vector, const weir_real_t *rows, size_t width,
                       const uint32_t *indices, size_t count, weir_real_t *dots);

    /* vector += sum over r of factors[r] * rows[indices[r]], in the order of r. */
    void (*gather_axpy)(const weir_real_t *factors, const weir_real_t *rows, size_t width,
                        const uint32_t *indices, size_t count, weir_real_t *vector);

    /* rows[indices[r]] += factors[r] * vector, in the order of r; indices may repeat. */
    void (*scatter_axpy)(const weir_real_t *factors, const weir_real_t *vector, size_t width,
                         const uint32_t *indices, size_t count, weir_real_t *rows);

    /* scores[g * 64 + c] += sum over d < depth of group[g][d] * tile[d * 64 + c], for 4 rows g and
     * 64 candidates c: every score one chain of multiply-adds (fused from v3 on) in the order of d,
     * the same bits for equal rows wherever they stand. For worker/rank.c. */
    void (*score_tile)(const weir_real_t *const *group, const weir_real_t *tile, size_t depth,
                       weir_real_t *scores);

    /* For worker/product.c alone. NULL: BLAS. */
    void (*product)(const weir_product_t *product);

    /* One user and head of attention; for worker/attention.c alone. NULL: naive. */
    void (*attention_forward)(const weir_attention_task_t *task);
    void (*attention_backward)(const weir_attention_task_t *task);
    size_t attention_panel; /* tokens in one panel, a power of two; 0: naive */
} weir_kernels_t;

/* The best level that this processor runs, or the one that WEIR_KERNELS names. The table is
 * constant and lives as long as the program. Errors: WEIR_KERNELS names an unknown level, or one
 * that this processor or build cannot run. Call: local. Threads: any. */
WEIR_MUST_USE weir_err_t weir_kernels_select(const weir_kernels_t **kernels, weir_error_t *error);

/* As select, for the level `name`; NULL or "": the best one. */
WEIR_MUST_USE weir_err_t weir_kernels_find(const char *name, const weir_kernels_t **kernels,
                                           weir_error_t *error);

/* The oracle. Never NULL. Call: local. Threads: any. */
const weir_kernels_t *weir_kernels_naive(void);

/* Dropout at `site` in `step`; probability in [0, 1), taken to the nearest 2^-16 below 1. At
 * probability 0 all is kept, unscaled.
 * Call: local. Threads: any. */
weir_dropout_t weir_dropout_at(uint64_t seed, uint64_t step, uint32_t site, double probability);

/* A step of AdamW, `step` counting from 1. Call: local. Threads: any. */
weir_adamw_t weir_adamw_at(uint64_t step, double learning_rate, double beta1, double beta2,
                           double epsilon, double weight_decay);

#endif
