/* The small matrix products that attention is made of.
 * For worker/attention_level.c alone; compiled once per level. */
#ifndef WEIR_WORKER_ATTENTION_TILE_H
#define WEIR_WORKER_ATTENTION_TILE_H

#include "worker/attention_task.h"
#include "worker/kernels_transpose.h"
#include "worker/kernels_vector.h"

#include <stdbool.h>

/* Rows of a register block: rows x 2 sums, 2 vectors of B and one broadcast fit the registers. */
#if defined(__AVX512F__)
enum { BLOCK_ROWS = 12 };
#else
enum { BLOCK_ROWS = 6 };
#endif

/* C (rows x vectors * LANES) = or += A (rows x depth) B (depth x vectors * LANES). Element (r, d)
 * of A is a[r * a_row + d * a_step]; rows of B and C are b_row and c_row apart. */
WEIR_INLINE void multiply_block(size_t rows, size_t vectors, size_t depth, const weir_real_t *a,
                                size_t a_row, size_t a_step, const weir_real_t *b, size_t b_row,
                                weir_real_t *c, size_t c_row, bool add) {
    vec_t sum[BLOCK_ROWS][2];
    WEIR_UNROLL
    for (size_t r = 0; r < rows; r++) {
        WEIR_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            sum[r][v] = add ? load(c + r * c_row + v * LANES) : (vec_t){0};
        }
    }
    const weir_real_t *third[(BLOCK_ROWS + 2) / 3]; /* of every third row: so few fit registers */
    WEIR_UNROLL
    for (size_t r = 0; r < rows; r += 3) {
        third[r / 3] = a + r * a_row;
    }
    for (size_t d = 0; d < depth; d++, b += b_row) {
        vec_t column[2];
        WEIR_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            column[v] = load(b + v * LANES);
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
            store(c + r * c_row + v * LANES, sum[r][v]);
        }
    }
}

#define BLOCK_CASE(n)                                                                              \
    case n:                                                                                        \
        multiply_block(n, vectors, depth, a, a_row, a_step, b, b_row, c, c_row, add);              \
        break

/* multiply_block of any number of rows up to BLOCK_ROWS; `vectors` is a constant. */
WEIR_INLINE void multiply_rows(size_t rows, size_t vectors, size_t depth, const weir_real_t *a,
                               size_t a_row, size_t a_step, const weir_real_t *b, size_t b_row,
                               weir_real_t *c, size_t c_row, bool add) {
    switch (rows) {
        BLOCK_CASE(1);
        BLOCK_CASE(2);
        BLOCK_CASE(3);
        BLOCK_CASE(4);
        BLOCK_CASE(5);
        BLOCK_CASE(6);
#if defined(__AVX512F__)
        BLOCK_CASE(7);
        BLOCK_CASE(8);
        BLOCK_CASE(9);
        BLOCK_CASE(10);
        BLOCK_CASE(11);
        BLOCK_CASE(12);
#endif
    default:
        break;
    }
}

/* Any number of rows, cut into blocks of nearly equal height. */
WEIR_INLINE void multiply_panel(size_t rows, size_t vectors, size_t depth, const weir_real_t *a,
                                size_t a_row, size_t a_step, const weir_real_t *b, size_t b_row,
                                weir_real_t *c, size_t c_row, bool add) {
    size_t blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    for (size_t block = 0; block < blocks; block++) {
        size_t height = (rows + blocks - block - 1) / (blocks - block);
        multiply_rows(height, vectors, depth, a, a_row, a_step, b, b_row, c, c_row, add);
        rows -= height;
        a += height * a_row;
        c += height * c_row;
    }
}

/* A stored with its rows side by side (a_row 1), added. `vectors`: 1 or 2. */
static void multiply_columns(size_t rows, size_t vectors, size_t depth, const weir_real_t *a,
                             size_t a_step, const weir_real_t *b, size_t b_row, weir_real_t *c,
                             size_t c_row) {
    if (vectors == 2) {
        multiply_panel(rows, 2, depth, a, 1, a_step, b, b_row, c, c_row, true);
    } else {
        multiply_panel(rows, 1, depth, a, 1, a_step, b, b_row, c, c_row, true);
    }
}

/* A stored row after row, a_row apart; C overwritten. */
static void multiply_whole_rows(size_t rows, size_t vectors, size_t depth, const weir_real_t *a,
                                size_t a_row, const weir_real_t *b, size_t b_row, weir_real_t *c,
                                size_t c_row) {
    if (vectors == 2) {
        multiply_panel(rows, 2, depth, a, a_row, 1, b, b_row, c, c_row, false);
    } else {
        multiply_panel(rows, 1, depth, a, a_row, 1, b, b_row, c, c_row, false);
    }
}

/* C (rows x width) += A B, A being a tile (rows ATTENTION_PANEL apart); width a multiple of LANES.
 */
static void multiply_tile(size_t rows, size_t width, size_t depth, const weir_real_t *tile,
                          const weir_real_t *b, weir_real_t *c) {
    size_t column = 0;
    for (; column + 2 * LANES <= width; column += 2 * LANES) {
        multiply_panel(rows, 2, depth, tile, ATTENTION_PANEL, 1, b + column, width, c + column,
                       width, true);
    }
    if (column < width) {
        multiply_panel(rows, 1, depth, tile, ATTENTION_PANEL, 1, b + column, width, c + column,
                       width, true);
    }
}

/* Rows of `width` numbers times `scale`, from_row apart, to rows to_row apart; `pad`: whole vectors
 * are written, zeros behind the width. */
static void copy_rows(const weir_real_t *from, size_t from_row, size_t rows, size_t width,
                      weir_real_t scale, weir_real_t *to, size_t to_row, bool pad) {
    for (size_t r = 0; r < rows; r++, from += from_row, to += to_row) {
        size_t c = 0;
        for (; c + LANES <= width; c += LANES) {
            store(to + c, load(from + c) * scale);
        }
        if (c < width && pad) {
            store(to + c, load_part(from + c, width - c) * scale);
        } else if (c < width) {
            store_part(to + c, load_part(from + c, width - c) * scale, width - c);
        }
    }
}

#endif
