/* The small matrix products and transpositions that attention is made of.
 * For worker/attention_level.c alone; compiled once per level. */
#ifndef WEIR_WORKER_ATTENTION_TILE_H
#define WEIR_WORKER_ATTENTION_TILE_H

#include "worker/attention_task.h"
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
    for (size_t d = 0; d < depth; d++, a += a_step, b += b_row) {
        vec_t column[2];
        WEIR_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            column[v] = load(b + v * LANES);
        }
        WEIR_UNROLL
        for (size_t r = 0; r < rows; r++) {
            vec_t factor = splat(a[r * a_row]);
            WEIR_UNROLL
            for (size_t v = 0; v < vectors; v++) {
                sum[r][v] += factor * column[v];
            }
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

/* multiply_block of any number of rows up to BLOCK_ROWS; `vectors` and `a_row` are constants. */
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

/* A stored with its rows side by side (a_row 1). `vectors`: 1 or 2. */
static void multiply_columns(size_t rows, size_t vectors, size_t depth, const weir_real_t *a,
                             size_t a_step, const weir_real_t *b, size_t b_row, weir_real_t *c,
                             size_t c_row, bool add) {
    if (vectors == 2) {
        multiply_panel(rows, 2, depth, a, 1, a_step, b, b_row, c, c_row, add);
    } else {
        multiply_panel(rows, 1, depth, a, 1, a_step, b, b_row, c, c_row, add);
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

/* Lanes 1 .. of `a`, then lane 0 of `b`. */
WEIR_INLINE vec_t shift_lanes(vec_t a, vec_t b) {
    return __builtin_shufflevector(a, b, NEXT_LANES);
}

/* Row r interleaved with row r + LANES / 2; log2(LANES) rounds of it transpose a square. */
WEIR_INLINE void interleave_rows(vec_t *row) {
    vec_t mixed[WEIR_LANES];
    WEIR_UNROLL
    for (size_t r = 0; r < LANES / 2; r++) {
        mixed[2 * r] = __builtin_shufflevector(row[r], row[r + LANES / 2], LOW_LANES);
        mixed[2 * r + 1] = __builtin_shufflevector(row[r], row[r + LANES / 2], HIGH_LANES);
    }
    WEIR_UNROLL
    for (size_t r = 0; r < LANES; r++) {
        row[r] = mixed[r];
    }
}

WEIR_INLINE void transpose_square(vec_t *row) {
    interleave_rows(row);
#if WEIR_LANES >= 4
    interleave_rows(row);
#endif
#if WEIR_LANES >= 8
    interleave_rows(row);
#endif
#if WEIR_LANES >= 16
    interleave_rows(row);
#endif
}

WEIR_INLINE vec_t load_some(const weir_real_t *from, size_t count) {
    return count >= LANES ? load(from) : load_part(from, count);
}

WEIR_INLINE void store_some(weir_real_t *to, vec_t value, size_t count) {
    if (count >= LANES) {
        store(to, value);
    } else {
        store_part(to, value, count);
    }
}

/* to[c * to_row + r] = from[r * from_row + c] for r < rows, c < columns. Whole vectors are written
 * when `pad` (zeros behind the rows, up to a multiple of LANES), else exactly `rows` numbers. */
static void transpose(const weir_real_t *from, size_t from_row, size_t rows, size_t columns,
                      weir_real_t *to, size_t to_row, bool pad) {
    for (size_t r = 0; r < rows; r += LANES) {
        size_t height = rows - r < LANES ? rows - r : LANES;
        for (size_t c = 0; c < columns; c += LANES) {
            size_t width = columns - c < LANES ? columns - c : LANES;
            vec_t square[WEIR_LANES];
            for (size_t i = 0; i < LANES; i++) {
                square[i] =
                    i < height ? load_some(from + (r + i) * from_row + c, width) : (vec_t){0};
            }
            transpose_square(square);
            for (size_t i = 0; i < width; i++) {
                store_some(to + (c + i) * to_row + r, square[i], pad ? LANES : height);
            }
        }
    }
}

/* Rows of `width` numbers, from_row apart, to rows to_row apart, zeros behind them. */
static void copy_rows(const weir_real_t *from, size_t from_row, size_t rows, size_t width,
                      weir_real_t *to, size_t to_row) {
    for (size_t r = 0; r < rows; r++) {
        memcpy(to + r * to_row, from + r * from_row, width * sizeof *to);
        memset(to + r * to_row + width, 0, (to_row - width) * sizeof *to);
    }
}

#endif
