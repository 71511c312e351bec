/* C = op(A) op(B) with operands in bfloat16: parts of both are rounded and packed, B in panels of
 * two vectors, then multiplied block by block in registers. Compiled once for AVX512_BF16 and once
 * for AMX. */
#include "worker/bf16.h"

#include "worker/attention_task.h"
#include "worker/bf16_tile.h"

enum {
    PANEL = 32,        /* columns of a panel of B */
    DEEP = 512,        /* numbers of depth in a part: a panel and a block of A's rows fit the first
                          cache */
    WIDE = 512,        /* columns of a part of B */
    TALL = 192,        /* rows of a part of A */
    DEEP_TURNED = 256, /* of a transposed A: few and long rows, as memory has them */
    TALL_TURNED = TALL * DEEP / DEEP_TURNED,
    AHEAD = 16 /* rows that are fetched before they are packed; an even number */
};

/* Packed parts, one set a thread. A: rows of pairs; or, where op(A) comes transposed and products
 * take its columns, strips of PAIR_ROWS rows, each with its pairs in order of depth. */
typedef struct {
    pair_t b[WIDE / PANEL][DEEP / 2 * PANEL];
    pair_t a[TALL * (DEEP / 2)];
    pair_t turning[PANEL * (DEEP / 2)]; /* rows that are about to become columns */
#ifdef WEIR_AMX
    pair_t strips[TALL * (DEEP / 2)]; /* of A, that are about to become rows */
#endif
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

/* Rows 2 d and 2 d + 1 of `width` numbers become pair d of strips of `strip` columns, each strip
 * with its pairs in order of depth: strip_size apart. Zeros behind the width up to whole vectors,
 * as far as the strip goes. Memory is read in its own order. */
WEIR_INLINE void pack_strips(const weir_real_t *from, size_t from_row, size_t depth, size_t width,
                             size_t strip, pair_t *to, size_t strip_size) {
    for (size_t d = 0; d < depth; d += 2, from += 2 * from_row, to += strip) {
        const weir_real_t *next = d + 1 < depth ? from + from_row : NULL;
        for (size_t c = 0, s = 0; c < width; c += strip, s += strip_size) {
            WEIR_UNROLL
            for (size_t v = 0; v < strip; v += LANES) {
                size_t lanes = strip - v < LANES ? strip - v : LANES;
                if (c + v >= width) {
                    continue;
                }
                size_t rest = smaller(lanes, width - c - v);
                __builtin_prefetch(from + AHEAD * from_row + c + v);
                __builtin_prefetch(from + (AHEAD + 1) * from_row + c + v);
                vec_t even = load_some(from + c + v, rest);
                vec_t odd = next != NULL ? load_some(next + c + v, rest) : (vec_t){0};
                if (lanes == LANES) {
                    _mm512_storeu_si512(to + s + v, round_pairs(even, odd));
                } else {
                    _mm512_mask_storeu_epi32(to + s + v, (__mmask16)((1u << lanes) - 1u),
                                             round_pairs(even, odd));
                }
            }
        }
    }
}

static void pack_b(const weir_product_t *p, size_t first, size_t depth, size_t column,
                   size_t columns) {
    if (p->form_b == WEIR_BLAS_PLAIN) {
        pack_strips(p->b + first * p->ldb + column, p->ldb, depth, columns, PANEL, packs.b[0],
                    DEEP / 2 * PANEL);
        return;
    }
    for (size_t j = 0; j < columns; j += PANEL) {
        size_t count = smaller(PANEL, columns - j);
        pack_rows(p->b + (column + j) * p->ldb + first, p->ldb, count, depth, 1, packs.turning,
                  pairs_of(depth));
        turn_pairs(packs.turning, pairs_of(depth), count, pairs_of(depth), packs.b[j / PANEL],
                   PANEL);
    }
}

/* Columns of A, which are rows of op(A). */
static void pack_turned_a(const weir_real_t *from, size_t from_row, size_t depth, size_t rows) {
    size_t pairs = pairs_of(depth);
#ifdef WEIR_AMX
    pack_strips(from, from_row, depth, rows, PAIR_ROWS, packs.strips, PAIR_ROWS * pairs);
    for (size_t i = 0; i < rows; i += PAIR_ROWS) {
        turn_pairs_exactly(packs.strips + i * pairs, PAIR_ROWS, pairs, smaller(PAIR_ROWS, rows - i),
                           packs.a + i * pairs, pairs);
    }
#else
    pack_strips(from, from_row, depth, rows, PAIR_ROWS, packs.a, PAIR_ROWS * pairs);
#endif
}

/* Rows [row, row + rows) of op(A). */
static void pack_a(const weir_product_t *p, size_t first, size_t depth, size_t row, size_t rows) {
    if (p->form_a == WEIR_BLAS_PLAIN) {
        pack_rows(p->a + row * p->lda + first, p->lda, rows, depth, 1, packs.a, pairs_of(depth));
    } else {
        pack_turned_a(p->a + first * p->lda + row, p->lda, depth, rows);
    }
}

/* C (rows x vectors) = or += packed A times a panel of B. */
WEIR_INLINE void multiply_strips(bool turned, size_t rows, size_t vectors, size_t depth,
                                 const pair_t *b, weir_real_t *c, size_t c_row, bool add,
                                 bool masked, __mmask16 kept) {
    if (!turned) {
        multiply_pair_panel(rows, vectors, depth, packs.a, depth, 1, b, PANEL, c, c_row, add,
                            masked, kept);
        return;
    }
    for (size_t i = 0; i < rows; i += PAIR_ROWS) {
        multiply_pair_panel(smaller(PAIR_ROWS, rows - i), vectors, depth, packs.a + i * depth, 1,
                            PAIR_ROWS, b, PANEL, c + i * c_row, c_row, add, masked, kept);
    }
}

static void multiply_part(const weir_product_t *p, size_t rows, size_t columns, size_t depth,
                          weir_real_t *c, bool add) {
    bool turned = PAIRS_TAKE_COLUMNS && p->form_a == WEIR_BLAS_TRANSPOSED;
    for (size_t j = 0; j < columns; j += PANEL) {
        size_t count = smaller(PANEL, columns - j);
        const pair_t *b = packs.b[j / PANEL];
        size_t last = count % LANES, pairs = pairs_of(depth);
        __mmask16 kept = (__mmask16)(last == 0 ? 0xFFFFu : (1u << last) - 1u);
        if (count == PANEL && add) {
            multiply_strips(turned, rows, 2, pairs, b, c + j, p->ldc, true, false, kept);
        } else if (count == PANEL) {
            multiply_strips(turned, rows, 2, pairs, b, c + j, p->ldc, false, false, kept);
        } else if (count > LANES) {
            multiply_strips(turned, rows, 2, pairs, b, c + j, p->ldc, add, true, kept);
        } else {
            multiply_strips(turned, rows, 1, pairs, b, c + j, p->ldc, add, true, kept);
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
    bool turned = p->form_a == WEIR_BLAS_TRANSPOSED;
    size_t deep = part_size(p->k, turned ? DEEP_TURNED : DEEP, 2);
    size_t tall = part_size(p->m, turned ? TALL_TURNED : TALL, PAIR_ROWS);
    size_t wide = part_size(p->n, WIDE, PANEL);
    for (size_t column = 0; column < p->n; column += wide) {
        size_t columns = smaller(wide, p->n - column);
        for (size_t first = 0; first < p->k; first += deep) {
            size_t depth = smaller(deep, p->k - first);
            pack_b(p, first, depth, column, columns);
            for (size_t row = 0; row < p->m; row += tall) {
                size_t rows = smaller(tall, p->m - row);
                pack_a(p, first, depth, row, rows);
                multiply_part(p, rows, columns, depth, p->c + row * p->ldc + column,
                              p->add || first > 0);
            }
        }
    }
    end_pair_products();
}

#ifdef WEIR_AMX

static const weir_bf16_kernels_t kernels = {
    .name = "amx",
    .product = multiply,
    .attention_forward = weir_attention_forward_bf16_amx,
    .attention_backward = weir_attention_backward_bf16_amx,
};

const weir_bf16_kernels_t *weir_bf16_kernels_amx(void) {
    return &kernels;
}

#else

static const weir_bf16_kernels_t kernels = {
    .name = "avx512_bf16",
    .product = multiply,
    .attention_forward = weir_attention_forward_bf16_avx512,
    .attention_backward = weir_attention_backward_bf16_avx512,
};

const weir_bf16_kernels_t *weir_bf16_kernels_avx512(void) {
    return &kernels;
}

#endif
