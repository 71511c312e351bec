/* Products of pairs by VDPBF16PS, in blocks of registers. For worker/bf16_tile.h alone. */
#ifndef WEIR_WORKER_BF16_TILE_AVX512_H
#define WEIR_WORKER_BF16_TILE_AVX512_H

/* Rows of a register block: 12 x 2 sums, 2 vectors of B and one broadcast fit the registers. */
enum { PAIR_ROWS = 12 };

/* Whether A may lie with its rows side by side (any a_step). */
enum { PAIRS_TAKE_COLUMNS = 1 };

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

/* After the last product of a task. */
WEIR_INLINE void end_pair_products(void) {}

#endif
