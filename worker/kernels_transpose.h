/* Transposition in squares of a vector's length. For files that are compiled once per level. */
#ifndef WEIR_WORKER_KERNELS_TRANSPOSE_H
#define WEIR_WORKER_KERNELS_TRANSPOSE_H

#include "worker/kernels_vector.h"

#include <stdbool.h>

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

/* A square's `height` rows of `width` numbers, become columns; `kept` numbers of each written. */
WEIR_INLINE void transpose_part(const weir_real_t *from, size_t from_row, size_t height,
                                size_t width, weir_real_t *to, size_t to_row, size_t kept) {
    vec_t square[WEIR_LANES];
    WEIR_UNROLL
    for (size_t i = 0; i < LANES; i++) {
        square[i] = i < height ? load_some(from + i * from_row, width) : (vec_t){0};
    }
    transpose_square(square);
    WEIR_UNROLL
    for (size_t i = 0; i < LANES; i++) {
        if (i < width) {
            if (kept == LANES) {
                store(to + i * to_row, square[i]);
            } else {
                store_part(to + i * to_row, square[i], kept);
            }
        }
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
            const weir_real_t *part = from + r * from_row + c;
            weir_real_t *out = to + c * to_row + r;
            if (height == LANES && width == LANES) {
                transpose_part(part, from_row, LANES, LANES, out, to_row, LANES);
            } else if (height == LANES || pad) {
                transpose_part(part, from_row, height, width, out, to_row, LANES);
            } else {
                transpose_part(part, from_row, height, width, out, to_row, height);
            }
        }
    }
}

#endif
