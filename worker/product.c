#include "worker/product.h"

#include "worker/bf16.h"

static void multiply(const weir_product_t *p) {
    weir_blas_gemm(p->form_a, p->form_b, p->m, p->n, p->k, 1, p->a, p->lda, p->b, p->ldb,
                   p->add ? 1 : 0, p->c, p->ldc);
}

/* Whether the level's own kernel is as fast as a BLAS (docs/performance.md). It reads a transposed
 * A again for every 256 columns. */
static bool suits_own(const weir_product_t *p) {
    enum { PART_COLUMNS = 256 };
    return p->k > 0 && (p->form_a == WEIR_BLAS_PLAIN || p->n <= PART_COLUMNS);
}

#ifndef WEIR_REAL_F64

/* Rounded copies of parts of the operands, one set a thread. */
enum { PART = 256 };
typedef struct {
    weir_real_t a[PART * PART], b[PART * PART];
} parts_t;
static _Thread_local parts_t parts;

static size_t part_of(size_t size, size_t first) {
    return size - first < PART ? size - first : PART;
}

/* Rows x columns from the operand, rounded, side by side. */
static void copy_part(const weir_real_t *from, size_t row, size_t rows, size_t columns,
                      weir_real_t *to) {
    for (size_t r = 0; r < rows; r++) {
        weir_bf16_round_numbers(from + r * row, to + r * columns, columns);
    }
}

static void multiply_rounded(const weir_product_t *p) {
    bool turned_a = p->form_a == WEIR_BLAS_TRANSPOSED, turned_b = p->form_b == WEIR_BLAS_TRANSPOSED;
    for (size_t d = 0; d < p->k; d += PART) {
        size_t depth = part_of(p->k, d);
        for (size_t j = 0; j < p->n; j += PART) {
            size_t columns = part_of(p->n, j);
            size_t b_rows = turned_b ? columns : depth, b_columns = turned_b ? depth : columns;
            copy_part(p->b + (turned_b ? j * p->ldb + d : d * p->ldb + j), p->ldb, b_rows,
                      b_columns, parts.b);
            for (size_t i = 0; i < p->m; i += PART) {
                size_t rows = part_of(p->m, i);
                size_t a_rows = turned_a ? depth : rows, a_columns = turned_a ? rows : depth;
                copy_part(p->a + (turned_a ? d * p->lda + i : i * p->lda + d), p->lda, a_rows,
                          a_columns, parts.a);
                weir_blas_gemm(p->form_a, p->form_b, rows, columns, depth, 1, parts.a, a_columns,
                               parts.b, b_columns, p->add || d > 0 ? 1 : 0, p->c + i * p->ldc + j,
                               p->ldc);
            }
        }
    }
}

#endif

void weir_product_run(const weir_kernels_t *kernels, bool bf16, const weir_product_t *product) {
#ifndef WEIR_REAL_F64
    if (bf16) {
        const weir_bf16_kernels_t *own = weir_bf16_kernels(kernels);
        if (own != NULL) {
            own->product(product);
        } else {
            multiply_rounded(product);
        }
        return;
    }
#else
    (void)bf16;
#endif
    if (kernels->product != NULL && suits_own(product)) {
        kernels->product(product);
    } else {
        multiply(product);
    }
}

weir_err_t weir_product_means(weir_product_means_t *means, weir_error_t *error) {
    const weir_kernels_t *kernels = NULL;
    weir_err_t err = weir_kernels_select(&kernels, error);
    if (err != WEIR_OK) {
        return err;
    }
    err = weir_bf16_check(kernels, error);
    if (err != WEIR_OK) {
        return err;
    }
    const weir_bf16_kernels_t *bf16 = weir_bf16_kernels(kernels);
    *means = (weir_product_means_t){.level = kernels->level,
                                    .blas_core = openblas_get_corename(),
                                    .bf16 = bf16 != NULL ? bf16->name : "rounded"};
    return WEIR_OK;
}
