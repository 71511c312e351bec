/* Products of the level's own. A BLAS packs both operands; here parts of B are packed in panels of
 * up to three vectors and A is read where it lies, which pays where dimensions are thin, as in
 * narrow models, and costs nothing elsewhere. Columns that fill little of a last vector are
 * computed another way: as sums along the depth, or, where A is transposed, with the roles of A and
 * B exchanged. Compiled for the level "v4" alone (WEIR_LEVEL). */
#include "worker/kernels_levels.h"
#include "worker/kernels_transpose.h"
#include "worker/kernels_vector.h"
#include "worker/product.h"

#define JOIN_NAMES(a, b) a##b
#define LEVEL_FUNCTION(prefix, level) JOIN_NAMES(prefix, level)

enum {
    DEEP = 256,   /* of a part of B */
    WIDE = 256,   /* columns of it */
    TALL = 96,    /* rows of A that meet the panels together; a multiple of both heights below */
    FEW = 4,      /* columns that are not worth a vector */
    ROWS = 12,    /* of a register block of one or two vectors */
    ROWS_OF_3 = 8 /* of one of three */
};

/* A part of B, one a thread: panels one behind the other, each with its rows one after the other.
 */
static _Thread_local weir_real_t packed[DEEP * (WIDE + 2 * WEIR_LANES)]
    __attribute__((aligned(64)));
/* The few columns, each in a row; or, transposed, the sums of them. */
static _Thread_local weir_real_t rows_of_few[FEW * (DEEP + WEIR_LANES)]
    __attribute__((aligned(64)));

/* A block of C and what it is made of. */
typedef struct {
    size_t depth;
    const weir_real_t *a;
    size_t a_row, a_step; /* distance of op(A)'s rows, and in depth */
    weir_real_t *c;
    size_t c_row;
    bool add;
    size_t last; /* numbers of C's last vector */
} block_t;

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

WEIR_INLINE vec_t load_last(const weir_real_t *from, size_t count) {
    return count == LANES ? load(from) : load_part(from, count);
}

WEIR_INLINE void store_last(weir_real_t *to, vec_t value, size_t count) {
    if (count == LANES) {
        store(to, value);
    } else {
        store_part(to, value, count);
    }
}

/* `rows` and `vectors` are constants. Element (d, c) of B is b[d * b_row + c]; of its last vector
 * only the numbers that C has are read. What C holds is added at the end: a large number there
 * costs the sums none of their digits. */
WEIR_INLINE void multiply_block(const block_t *block, size_t row, size_t rows, size_t vectors,
                                const weir_real_t *b, size_t b_row, bool part) {
    vec_t sum[ROWS][3];
    weir_real_t *c = block->c + row * block->c_row;
    size_t last = part ? block->last : LANES;
    WEIR_UNROLL
    for (size_t r = 0; r < rows; r++) {
        WEIR_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            sum[r][v] = (vec_t){0};
        }
    }
    size_t a_row = block->a_row, a_step = block->a_step;
    const weir_real_t *third[(ROWS + 2) / 3]; /* of every third row: so few fit registers */
    WEIR_UNROLL
    for (size_t r = 0; r < rows; r += 3) {
        third[r / 3] = block->a + (row + r) * a_row;
    }
    for (size_t d = 0; d < block->depth; d++, b += b_row) {
        vec_t column[3];
        WEIR_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            column[v] = load_last(b + v * LANES, v + 1 == vectors ? last : LANES);
        }
        WEIR_UNROLL
        for (size_t r = 0; r < rows; r++) {
            vec_t factor = splat(third[r / 3][r % 3 * a_row]);
            WEIR_UNROLL
            for (size_t v = 0; v < vectors; v++) {
                sum[r][v] += factor * column[v];
            }
        }
        WEIR_UNROLL
        for (size_t r = 0; r < rows; r += 3) {
            third[r / 3] += a_step;
        }
    }
    WEIR_UNROLL
    for (size_t r = 0; r < rows; r++) {
        WEIR_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            weir_real_t *at = c + r * block->c_row + v * LANES;
            size_t count = v + 1 == vectors ? last : LANES;
            store_last(at, block->add ? load_last(at, count) + sum[r][v] : sum[r][v], count);
        }
    }
}

#define BLOCK_CASE(n)                                                                              \
    case n:                                                                                        \
        multiply_block(block, row, n, vectors, b, b_row, part);                                    \
        break

/* Any number of rows, in blocks of nearly equal height. */
WEIR_INLINE void multiply_rows(const block_t *block, size_t rows, size_t vectors,
                               const weir_real_t *b, size_t b_row, bool part) {
    size_t highest = vectors == 3 ? ROWS_OF_3 : ROWS, row = 0;
    for (size_t blocks = (rows + highest - 1) / highest; blocks > 0; blocks--) {
        size_t height = (rows - row + blocks - 1) / blocks;
        switch (height) {
            BLOCK_CASE(1);
            BLOCK_CASE(2);
            BLOCK_CASE(3);
            BLOCK_CASE(4);
            BLOCK_CASE(5);
            BLOCK_CASE(6);
            BLOCK_CASE(7);
            BLOCK_CASE(8);
        default:
            if (vectors < 3) {
                switch (height) {
                    BLOCK_CASE(9);
                    BLOCK_CASE(10);
                    BLOCK_CASE(11);
                    BLOCK_CASE(12);
                default:
                    break;
                }
            }
        }
        row += height;
    }
}

static void multiply_panel(const block_t *block, size_t rows, size_t vectors, const weir_real_t *b,
                           size_t b_row) {
    bool part = block->last < LANES;
    if (vectors == 3 && !part) {
        multiply_rows(block, rows, 3, b, b_row, false);
    } else if (vectors == 3) {
        multiply_rows(block, rows, 3, b, b_row, true);
    } else if (vectors == 2 && !part) {
        multiply_rows(block, rows, 2, b, b_row, false);
    } else if (vectors == 2) {
        multiply_rows(block, rows, 2, b, b_row, true);
    } else {
        multiply_rows(block, rows, 1, b, b_row, part);
    }
}

/* Vectors of the next panel when `left` are left: three, but no panel of one behind a three. */
static size_t panel_vectors(size_t left) {
    return left == 4 || left == 2 ? 2 : smaller(left, 3);
}

/* Element (d, c) of op(B). */
static size_t place_of_b(const weir_product_t *p, size_t d, size_t c) {
    return p->form_b == WEIR_BLAS_PLAIN ? d * p->ldb + c : c * p->ldb + d;
}

/* Vectors of `columns`, without the few at the end. */
static size_t vectors_of(size_t columns) {
    size_t rest = columns % LANES;
    return columns / LANES + (rest > FEW || (rest > 0 && columns < LANES) ? 1 : 0);
}

/* Row after row, as memory has them. */
static void pack_rows(const weir_product_t *p, size_t first, size_t depth, size_t column,
                      size_t columns) {
    size_t vectors = vectors_of(columns);
    for (size_t d = 0; d < depth; d++) {
        const weir_real_t *from = p->b + (first + d) * p->ldb + column;
        weir_real_t *to = packed;
        for (size_t v = 0, wide; v < vectors; v += wide) {
            wide = panel_vectors(vectors - v);
            for (size_t w = 0; w < wide; w++) {
                size_t c = (v + w) * LANES;
                store(to + (d * wide + w) * LANES,
                      load_last(from + c, smaller(LANES, columns - c)));
            }
            to += depth * wide * LANES;
        }
    }
}

/* Columns [column, column + columns) of op(B); zeros behind them up to a whole vector. */
static void pack_part(const weir_product_t *p, size_t first, size_t depth, size_t column,
                      size_t columns) {
    weir_real_t *to = packed;
    size_t vectors = vectors_of(columns);
    if (p->form_b == WEIR_BLAS_PLAIN) {
        pack_rows(p, first, depth, column, columns);
        return;
    }
    for (size_t v = 0, wide; v < vectors; v += wide) {
        wide = panel_vectors(vectors - v);
        transpose(p->b + place_of_b(p, first, column + v * LANES), p->ldb,
                  smaller(columns - v * LANES, wide * LANES), depth, to, wide * LANES, true);
        to += depth * wide * LANES;
    }
}

/* Rows of a part of A against all panels. */
static void multiply_part(block_t block, size_t rows, size_t columns) {
    const weir_real_t *b = packed;
    size_t vectors = vectors_of(columns);
    for (size_t v = 0, wide; v < vectors; v += wide) {
        wide = panel_vectors(vectors - v);
        size_t count = smaller(columns - v * LANES, wide * LANES);
        block.last = count - (wide - 1) * LANES;
        multiply_panel(&block, rows, wide, b, wide * LANES);
        b += block.depth * wide * LANES;
        block.c += wide * LANES;
    }
}

/* The few columns behind the whole vectors, A being stored row after row: sums along the depth, of
 * LANES rows at a time. */
static void pack_few(const weir_product_t *p, size_t first, size_t depth, size_t column,
                     size_t few) {
    for (size_t f = 0; f < few; f++) {
        for (size_t d = 0; d < depth; d++) {
            rows_of_few[f * DEEP + d] = p->b[place_of_b(p, first + d, column + f)];
        }
    }
}

static void sum_few(const block_t *block, size_t rows, size_t few) {
    size_t whole = block->depth - block->depth % LANES, rest = block->depth % LANES;
    for (size_t first = 0; first < rows; first += LANES) {
        size_t count = smaller(LANES, rows - first);
        for (size_t f = 0; f < few; f++) {
            const weir_real_t *b = rows_of_few + f * DEEP;
            vec_t sum[WEIR_LANES];
            WEIR_UNROLL
            for (size_t r = 0; r < LANES; r++) {
                const weir_real_t *a = block->a + (first + (r < count ? r : 0)) * block->a_row;
                sum[r] = (vec_t){0};
                for (size_t d = 0; d < whole; d += LANES) {
                    sum[r] += load(a + d) * load(b + d);
                }
                if (rest > 0) {
                    sum[r] += load_part(a + whole, rest) * load_part(b + whole, rest);
                }
            }
            vec_t sums = sum_rows(sum);
            for (size_t r = 0; r < count; r++) {
                weir_real_t *c = block->c + (first + r) * block->c_row + f;
                *c = block->add ? *c + sums[r] : sums[r];
            }
        }
    }
}

/* A being stored transposed: C^T = B^T A, whose vectors lie along A's rows. */
static void exchange_few(const weir_product_t *p, size_t first, size_t depth, size_t column,
                         size_t few, bool add) {
    static _Thread_local weir_real_t sums[FEW * WIDE];
    block_t block = {.depth = depth,
                     .a = p->b + first * p->ldb + column,
                     .a_row = 1,
                     .a_step = p->ldb,
                     .c_row = WIDE};
    for (size_t row = 0; row < p->m; row += WIDE) {
        size_t rows = smaller(WIDE, p->m - row), vectors = (rows + LANES - 1) / LANES;
        for (size_t v = 0, wide; v < vectors; v += wide) {
            wide = panel_vectors(vectors - v);
            size_t count = smaller(rows - v * LANES, wide * LANES);
            block.last = count - (wide - 1) * LANES;
            block.c = sums + v * LANES;
            multiply_panel(&block, few, wide, p->a + first * p->lda + row + v * LANES, p->lda);
        }
        for (size_t r = 0; r < rows; r++) {
            weir_real_t *c = p->c + (row + r) * p->ldc + column;
            for (size_t f = 0; f < few; f++) {
                c[f] = add ? c[f] + sums[f * WIDE + r] : sums[f * WIDE + r];
            }
        }
    }
}

/* All rows against a part of B. */
static void multiply_columns(const weir_product_t *p, size_t first, size_t depth, size_t column,
                             size_t columns) {
    bool turned = p->form_a == WEIR_BLAS_TRANSPOSED, add = p->add || first > 0;
    size_t in_vectors = smaller(vectors_of(columns) * LANES, columns), few = columns - in_vectors;
    pack_part(p, first, depth, column, columns);
    if (few > 0 && !turned) {
        pack_few(p, first, depth, column + in_vectors, few);
    }
    for (size_t row = 0; row < p->m; row += TALL) {
        size_t rows = smaller(TALL, p->m - row);
        block_t block = {.depth = depth,
                         .a = turned ? p->a + first * p->lda + row : p->a + row * p->lda + first,
                         .a_row = turned ? 1 : p->lda,
                         .a_step = turned ? p->lda : 1,
                         .c = p->c + row * p->ldc + column,
                         .c_row = p->ldc,
                         .add = add};
        multiply_part(block, rows, in_vectors);
        block.c += in_vectors;
        if (few > 0 && !turned) {
            sum_few(&block, rows, few);
        }
    }
    if (few > 0 && turned) {
        exchange_few(p, first, depth, column + in_vectors, few, add);
    }
}

void LEVEL_FUNCTION(weir_product_level_, WEIR_LEVEL)(const weir_product_t *p) {
    for (size_t column = 0; column < p->n; column += WIDE) {
        for (size_t first = 0; first < p->k; first += DEEP) {
            multiply_columns(p, first, smaller(DEEP, p->k - first), column,
                             smaller(WIDE, p->n - column));
        }
    }
}
