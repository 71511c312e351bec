/* Pairs of bfloat16 numbers that lie next to each other in depth, as AVX512_BF16 and AMX multiply
 * them, and multiply_pair_panel, the product that everything is made of, by the one or the other.
 * For worker/bf16_product.c and worker/attention_bf16.c, which are compiled once for each.
 */
#ifndef WEIR_WORKER_BF16_TILE_H
#define WEIR_WORKER_BF16_TILE_H

#include "worker/kernels_transpose.h"
#include "worker/kernels_vector.h"

#include <stdbool.h>

typedef uint32_t pair_t; /* the number at the even depth in the lower half */
typedef uint32_t unaligned_pair_t __attribute__((aligned(4), may_alias));

/* Depth in pairs. */
static inline size_t pairs_of(size_t depth) {
    return (depth + 1) / 2;
}

/* 32 numbers that follow each other. */
WEIR_INLINE __m512i round_run(vec_t first, vec_t second) {
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
}

/* Lane l: (even[l], odd[l]). */
WEIR_INLINE __m512i round_pairs(vec_t even, vec_t odd) {
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, round_run(even, odd));
}

/* Rows of `width` numbers times `scale` become rows of pairs_of(width) pairs; a zero beside an odd
 * last number. */
static void pack_rows(const weir_real_t *from, size_t from_row, size_t rows, size_t width,
                      weir_real_t scale, pair_t *to, size_t to_row) {
    for (size_t r = 0; r < rows; r++, from += from_row, to += to_row) {
        size_t c = 0;
        for (; c + 2 * LANES <= width; c += 2 * LANES) {
            _mm512_storeu_si512(to + c / 2,
                                round_run(load(from + c) * scale, load(from + c + LANES) * scale));
        }
        if (c < width) {
            size_t rest = width - c;
            vec_t first = load_some(from + c, rest) * scale;
            vec_t second =
                rest > LANES ? load_part(from + c + LANES, rest - LANES) * scale : (vec_t){0};
            __mmask16 kept = (__mmask16)((1u << pairs_of(rest)) - 1u);
            _mm512_mask_storeu_epi32(to + c / 2, kept, round_run(first, second));
        }
    }
}

/* Rows 2 p and 2 p + 1 of `width` numbers times `scale` become row p of pairs; zeros behind the
 * width up to a whole vector, and for a row that is not there. */
static inline void pack_pairs(const weir_real_t *from, size_t from_row, size_t rows, size_t width,
                              weir_real_t scale, pair_t *to, size_t to_row) {
    for (size_t r = 0; r < rows; r += 2, from += 2 * from_row, to += to_row) {
        bool two = r + 1 < rows;
        for (size_t c = 0; c < width; c += LANES) {
            size_t rest = width - c;
            vec_t even = load_some(from + c, rest) * scale;
            vec_t odd = two ? load_some(from + from_row + c, rest) * scale : (vec_t){0};
            _mm512_storeu_si512(to + c, round_pairs(even, odd));
        }
    }
}

/* Rows of pairs become columns: to[c * to_row + r] = from[r * from_row + c]; zeros behind the rows
 * up to a whole vector. */
static void turn_pairs(const pair_t *from, size_t from_row, size_t rows, size_t columns, pair_t *to,
                       size_t to_row) {
    transpose((const weir_real_t *)(const void *)from, from_row, rows, columns,
              (weir_real_t *)(void *)to, to_row, true);
}

/* Without zeros: nothing is written behind the rows. */
static inline void turn_pairs_exactly(const pair_t *from, size_t from_row, size_t rows,
                                      size_t columns, pair_t *to, size_t to_row) {
    transpose((const weir_real_t *)(const void *)from, from_row, rows, columns,
              (weir_real_t *)(void *)to, to_row, false);
}

#ifdef WEIR_AMX
#include "worker/bf16_tile_amx.h"
#else
#include "worker/bf16_tile_avx512.h"
#endif

#endif
