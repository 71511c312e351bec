/* Pairs of bfloat16 numbers that lie next to each other in depth, as AVX512_BF16 multiplies them,
 * and the register block that products are made of.
 * For worker/bf16_product.c and worker/attention_bf16.c, which are compiled for that instruction.
 */
#ifndef WEIR_WORKER_BF16_TILE_H
#define WEIR_WORKER_BF16_TILE_H

#include "worker/kernels_transpose.h"
#include "worker/kernels_vector.h"

#include <stdbool.h>

typedef uint32_t pair_t; /* the number at the even depth in the lower half */
typedef uint32_t unaligned_pair_t __attribute__((aligned(4), may_alias));

/* Rows of a register block: 12 x 2 sums, 2 vectors of B and one broadcast fit the registers. */
enum { PAIR_ROWS = 12 };

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

/* C (rows x vectors * LANES) = or += A B, `depth` in pairs. Pair (r, d) of A is
 * a[r * a_row + d * a_step]; rows of B and C are b_row and c_row apart. Of the last vector of C
 * the lanes in `kept` are written when `masked`. */
WEIR_INLINE void multiply_pair_block(size_t rows, size_t vectors, size_t depth, const pair_t *a,
                                     size_t a_row, size_t a_step, const pair_t *b, size_t b_row,
                                     weir_real_t *c, size_t c_row, bool add, bool masked,
                                     __mmask16 kept) {
    __m512 sum[PAIR_ROWS][2];
    WEIR_UNROLL
    for (size_t r = 0; r < rows; r++) {
        WEIR_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            bool part = masked && v + 1 == vectors;
            const weir_real_t *at = c + r * c_row + v * LANES;
            sum[r][v] = !add   ? _mm512_setzero_ps()
                        : part ? _mm512_maskz_loadu_ps(kept, at)
                               : _mm512_loadu_ps(at);
        }
    }
    const pair_t *third[(PAIR_ROWS + 2) / 3]; /* of every third row: so few fit registers */
    WEIR_UNROLL
    for (size_t r = 0; r < rows; r += 3) {
        third[r / 3] = a + r * a_row;
    }
    for (size_t d = 0; d < depth; d++, b += b_row) {
        __m512i column[2];
        WEIR_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            column[v] = _mm512_loadu_si512(b + v * LANES);
        }
        WEIR_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i factor =
                _mm512_set1_epi32((int)*(const unaligned_pair_t *)&third[r / 3][r % 3 * a_row]);
            WEIR_UNROLL
            for (size_t v = 0; v < vectors; v++) {
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], (__m512bh)factor, (__m512bh)column[v]);
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
            weir_real_t *at = c + r * c_row + v * LANES;
            if (masked && v + 1 == vectors) {
                _mm512_mask_storeu_ps(at, kept, sum[r][v]);
            } else {
                _mm512_storeu_ps(at, sum[r][v]);
            }
        }
    }
}

#define PAIR_CASE(n)                                                                               \
    case n:                                                                                        \
        multiply_pair_block(n, vectors, depth, a, a_row, a_step, b, b_row, c, c_row, add, masked,  \
                            kept);                                                                 \
        break

/* Any number of rows, in blocks of nearly equal height; vectors, add and masked are constants. */
WEIR_INLINE void multiply_pair_panel(size_t rows, size_t vectors, size_t depth, const pair_t *a,
                                     size_t a_row, size_t a_step, const pair_t *b, size_t b_row,
                                     weir_real_t *c, size_t c_row, bool add, bool masked,
                                     __mmask16 kept) {
    size_t blocks = (rows + PAIR_ROWS - 1) / PAIR_ROWS;
    for (size_t block = 0; block < blocks; block++) {
        size_t height = (rows + blocks - block - 1) / (blocks - block);
        switch (height) {
            PAIR_CASE(1);
            PAIR_CASE(2);
            PAIR_CASE(3);
            PAIR_CASE(4);
            PAIR_CASE(5);
            PAIR_CASE(6);
            PAIR_CASE(7);
            PAIR_CASE(8);
            PAIR_CASE(9);
            PAIR_CASE(10);
            PAIR_CASE(11);
            PAIR_CASE(12);
        default:
            break;
        }
        rows -= height;
        a += height * a_row;
        c += height * c_row;
    }
}

#endif
