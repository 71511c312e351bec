/* C = op(A) op(B) with operands in bfloat16: parts of both are rounded and packed, B in panels of
 * two vectors, then multiplied block by block in registers. Compiled for AVX512_BF16. */
#include "worker/bf16.h"

#include "worker/attention_task.h"
#include "worker/bf16_tile.h"

enum {
    PANEL = 32, /* columns of a panel of B */
    DEEP =
        512, /* numbers of depth in a part: a panel and a block of A's rows fit the first cache */
    WIDE = 512, /* columns of a part of B */
    TALL = 192  /* rows of a part of A */
};

/* Packed parts, one set a thread. A: rows of pairs, or their transpose, as op(A) comes. */
typedef struct {
    pair_t b[WIDE / PANEL][DEEP / 2 * PANEL];
    pair_t a[(TALL + 16) * (DEEP / 2)];
    pair_t turning[PANEL * (DEEP / 2)]; /* rows that are about to become columns */
} packs_t;
static _Thread_local packs_t packs __attribute__((aligned(64)));

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The part of `size` from `first` on: all parts nearly equal, multiples of `unit` but for the last.
 */
static size_t part_size(size_t size, size_t largest, size_t unit) {
    size_t parts = (size + largest - 1) / largest;
    size_t part = (size + parts - 1) / parts;
    return (part + unit - 1) / unit * unit;
}

static void pack_b(const weir_product_t *p, size_t first, size_t depth, size_t column,
                   size_t columns) {
    for (size_t j = 0; j < columns; j += PANEL) {
        size_t count = smaller(PANEL, columns - j);
        pair_t *to = packs.b[j / PANEL];
        if (p->form_b == WEIR_BLAS_PLAIN) {
            pack_pairs(p->b + first * p->ldb + column + j, p->ldb, depth, count, 1, to, PANEL);
            continue;
        }
        pack_rows(p->b + (column + j) * p->ldb + first, p->ldb, count, depth, 1, packs.turning,
                  pairs_of(depth));
        turn_pairs(packs.turning, pairs_of(depth), count, pairs_of(depth), to, PANEL);
    }
}

/* Rows [row, row + rows) of op(A); the distances in pairs from row to row and in depth. */
static void pack_a(const weir_product_t *p, size_t first, size_t depth, size_t row, size_t rows,
                   size_t *a_row, size_t *a_step) {
    if (p->form_a == WEIR_BLAS_PLAIN) {
        *a_row = pairs_of(depth);
        *a_step = 1;
        pack_rows(p->a + row * p->lda + first, p->lda, rows, depth, 1, packs.a, *a_row);
    } else {
        *a_row = 1;
        *a_step = weir_attention_padded(rows, LANES);
        pack_pairs(p->a + first * p->lda + row, p->lda, depth, rows, 1, packs.a, *a_step);
    }
}

static void multiply_part(const weir_product_t *p, size_t rows, size_t columns, size_t depth,
                          size_t a_row, size_t a_step, weir_real_t *c, bool add) {
    for (size_t j = 0; j < columns; j += PANEL) {
        size_t count = smaller(PANEL, columns - j);
        const pair_t *b = packs.b[j / PANEL];
        size_t last = count % LANES;
        __mmask16 kept = (__mmask16)(last == 0 ? 0xFFFFu : (1u << last) - 1u);
        if (count == PANEL && add) {
            multiply_pair_panel(rows, 2, pairs_of(depth), packs.a, a_row, a_step, b, PANEL, c + j,
                                p->ldc, true, false, kept);
        } else if (count == PANEL) {
            multiply_pair_panel(rows, 2, pairs_of(depth), packs.a, a_row, a_step, b, PANEL, c + j,
                                p->ldc, false, false, kept);
        } else if (count > LANES) {
            multiply_pair_panel(rows, 2, pairs_of(depth), packs.a, a_row, a_step, b, PANEL, c + j,
                                p->ldc, add, true, kept);
        } else {
            multiply_pair_panel(rows, 1, pairs_of(depth), packs.a, a_row, a_step, b, PANEL, c + j,
                                p->ldc, add, true, kept);
        }
    }
}

static void clear(const weir_product_t *p) {
    for (size_t r = 0; r < p->m && !p->add; r++) {
        memset(p->c + r * p->ldc, 0, p->n * sizeof *p->c);
    }
}

static void multiply(const weir_product_t *p) {
    if (p->k == 0 || p->m == 0 || p->n == 0) {
        clear(p);
        return;
    }
    size_t deep = part_size(p->k, DEEP, 2), wide = part_size(p->n, WIDE, PANEL);
    size_t tall = part_size(p->m, TALL, PAIR_ROWS);
    for (size_t column = 0; column < p->n; column += wide) {
        size_t columns = smaller(wide, p->n - column);
        for (size_t first = 0; first < p->k; first += deep) {
            size_t depth = smaller(deep, p->k - first);
            pack_b(p, first, depth, column, columns);
            for (size_t row = 0; row < p->m; row += tall) {
                size_t rows = smaller(tall, p->m - row), a_row, a_step;
                pack_a(p, first, depth, row, rows, &a_row, &a_step);
                multiply_part(p, rows, columns, depth, a_row, a_step, p->c + row * p->ldc + column,
                              p->add || first > 0);
            }
        }
    }
}

static const weir_bf16_kernels_t kernels = {
    .name = "avx512_bf16",
    .product = multiply,
};

const weir_bf16_kernels_t *weir_bf16_kernels_avx512(void) {
    return &kernels;
}
