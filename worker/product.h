/* The matrix products of a layer's projections: by BLAS, by own kernels where those are faster, or
 * in bfloat16 (worker/bf16.h). Row-major; leading dimensions are the distance between rows.
 * Dimensions fit an int. On the calling thread alone. */
#ifndef WEIR_WORKER_PRODUCT_H
#define WEIR_WORKER_PRODUCT_H

#include "common/real.h"
#include "worker/blas.h"
#include "worker/kernels.h"

#include <stdbool.h>
#include <stddef.h>

/* C (m x n) = op(A) op(B), or added to when `add`: op(A) is m x k, op(B) k x n; a transposed
 * operand is stored the other way round. Not both are transposed. */
struct weir_product {
    weir_blas_form_t form_a, form_b;
    size_t m, n, k;
    const weir_real_t *a;
    size_t lda;
    const weir_real_t *b;
    size_t ldb;
    bool add;
    weir_real_t *c;
    size_t ldc;
};

/* `bf16`: operands rounded, sums in float32; float32 build only. The same bits on every run of one
 * level and one BLAS. Nothing is allocated. Call: local. Threads: any. */
void weir_product_run(const weir_kernels_t *kernels, bool bf16, const weir_product_t *product);

/* What multiplies in this process, for a log: the level of the kernels, the BLAS's own set of
 * kernels, and how bfloat16 would be multiplied. */
typedef struct {
    const char *level;     /* "v4" */
    const char *blas_core; /* "Cooperlake" */
    const char
        *bf16; /* "amx", "avx512_bf16", or "rounded": by float32 products of rounded operands */
} weir_product_means_t;
/* Errors: those of weir_kernels_select and weir_bf16_check. Call: local. Threads: any. */
WEIR_MUST_USE weir_err_t weir_product_means(weir_product_means_t *means, weir_error_t *error);

#endif
