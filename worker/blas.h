/* Matrix products of the model's number type, through CBLAS. Row-major; leading dimensions are the
 * distance between rows. Dimensions must fit an int.
 *
 * A product runs on the calling thread alone: parallelism is by rank, and a pool of BLAS threads in
 * each of several ranks on a host would cost 20 to 100 times what it brings. */
#ifndef WEIR_WORKER_BLAS_H
#define WEIR_WORKER_BLAS_H

#include "common/real.h"

#include <cblas.h>
#include <stddef.h>

typedef enum { WEIR_BLAS_PLAIN, WEIR_BLAS_TRANSPOSED } weir_blas_form_t;

/* Switch the BLAS of this process to one thread, whatever OPENBLAS_NUM_THREADS says. */
static inline void weir_blas_use_one_thread(void) {
    openblas_set_num_threads(1);
}

/* C (m x n) = alpha * op(A) op(B) + beta * C, where op(A) is m x k and op(B) is k x n; a transposed
 * operand is stored the other way round. beta = 0 ignores what C holds. */
static inline void weir_blas_gemm(weir_blas_form_t form_a, weir_blas_form_t form_b, size_t m,
                                  size_t n, size_t k, weir_real_t alpha, const weir_real_t *a,
                                  size_t lda, const weir_real_t *b, size_t ldb, weir_real_t beta,
                                  weir_real_t *c, size_t ldc) {
    CBLAS_TRANSPOSE op_a = form_a == WEIR_BLAS_PLAIN ? CblasNoTrans : CblasTrans;
    CBLAS_TRANSPOSE op_b = form_b == WEIR_BLAS_PLAIN ? CblasNoTrans : CblasTrans;
    if (m == 0 || n == 0) {
        return;
    }
#ifdef WEIR_REAL_F64
    cblas_dgemm(CblasRowMajor, op_a, op_b, (int)m, (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb,
                beta, c, (int)ldc);
#else
    cblas_sgemm(CblasRowMajor, op_a, op_b, (int)m, (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb,
                beta, c, (int)ldc);
#endif
}

#endif
