/* The kernels of one level: this file is compiled once per level, with WEIR_LEVEL its name (v2, v3,
 * v4, generic). */
#include "worker/attention_task.h"
#include "worker/kernels.h"
#include "worker/kernels_levels.h"
#include "worker/kernels_vector.h"
#include "worker/rank_level.h"

#define JOIN_NAMES(a, b) a##b
#define LEVEL_FUNCTION(prefix, level) JOIN_NAMES(prefix, level)
#define LEVEL_TEXT(level) #level
#define LEVEL_STRING(level) LEVEL_TEXT(level)

static void exp_array(const weir_real_t *x, weir_real_t *y, size_t count) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        store(y + i, raise_e(load(x + i)));
    }
    if (i < count) {
        store_part(y + i, raise_e(load_part(x + i, count - i)), count - i);
    }
}

static void silu_forward(const weir_real_t *x, weir_real_t *y, size_t count) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        vec_t value = load(x + i);
        store(y + i, value * sigmoid(value));
    }
    if (i < count) {
        vec_t value = load_part(x + i, count - i);
        store_part(y + i, value * sigmoid(value), count - i);
    }
}

WEIR_INLINE vec_t silu_slope(vec_t x) {
    vec_t p = sigmoid(x);
    return p * ((weir_real_t)1 + x * ((weir_real_t)1 - p));
}

static void silu_backward(const weir_real_t *x, const weir_real_t *d_y, weir_real_t *d_x,
                          size_t count) {
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        store(d_x + i, load(d_y + i) * silu_slope(load(x + i)));
    }
    if (i < count) {
        size_t rest = count - i;
        store_part(d_x + i, load_part(d_y + i, rest) * silu_slope(load_part(x + i, rest)), rest);
    }
}

/* Mask of the first `count` < LANES lanes. */
WEIR_INLINE ivec_t first_lanes(size_t count) {
    ivec_t lane;
    for (size_t i = 0; i < LANES; i++) {
        lane[i] = (weir_lane_int_t)i;
    }
    return lane < (weir_lane_int_t)count;
}

static void layer_norm_forward(const weir_real_t *x, size_t tokens, size_t width, weir_real_t *y,
                               weir_real_t *inverses) {
    size_t whole = width - width % LANES, rest = width % LANES;
    weir_real_t part = (weir_real_t)1 / (weir_real_t)width;
    ivec_t tail = first_lanes(rest);
    for (size_t t = 0; t < tokens; t++) {
        const weir_real_t *x_t = x + t * width;
        weir_real_t *y_t = y + t * width;
        vec_t sum = {0}, squares = {0}, last = {0};
        for (size_t c = 0; c < whole; c += LANES) {
            sum += load(x_t + c);
        }
        if (rest > 0) {
            last = load_part(x_t + whole, rest);
            sum += last;
        }
        vec_t mean = splat(sum_lanes(sum) * part);
        for (size_t c = 0; c < whole; c += LANES) {
            vec_t centred = load(x_t + c) - mean;
            squares += centred * centred;
        }
        vec_t centred = (vec_t)((ivec_t)(last - mean) & tail);
        squares += centred * centred;
        weir_real_t variance = sum_lanes(squares) * part;
        vec_t root = square_root(splat(variance + (weir_real_t)WEIR_LAYER_NORM_EPSILON));
        vec_t inverse = (weir_real_t)1 / root;
        for (size_t c = 0; c < whole; c += LANES) {
            store(y_t + c, (load(x_t + c) - mean) * inverse);
        }
        if (rest > 0) {
            store_part(y_t + whole, centred * inverse, rest);
        }
        if (inverses != NULL) {
            inverses[t] = inverse[0];
        }
    }
}

static void layer_norm_backward(const weir_real_t *y, const weir_real_t *inverses,
                                const weir_real_t *d_y, size_t tokens, size_t width,
                                bool accumulate, weir_real_t *d_x) {
    size_t whole = width - width % LANES, rest = width % LANES;
    weir_real_t part = (weir_real_t)1 / (weir_real_t)width;
    for (size_t t = 0; t < tokens; t++) {
        const weir_real_t *y_t = y + t * width, *d_y_t = d_y + t * width;
        weir_real_t *d_x_t = d_x + t * width;
        vec_t sum = {0}, product = {0};
        for (size_t c = 0; c < whole; c += LANES) {
            vec_t d = load(d_y_t + c);
            sum += d;
            product += d * load(y_t + c);
        }
        if (rest > 0) {
            vec_t d = load_part(d_y_t + whole, rest);
            sum += d;
            product += d * load_part(y_t + whole, rest);
        }
        vec_t mean = splat(sum_lanes(sum) * part);
        vec_t mean_product = splat(sum_lanes(product) * part);
        vec_t inverse = splat(inverses[t]);
        for (size_t c = 0; c < whole; c += LANES) {
            vec_t d = inverse * (load(d_y_t + c) - mean - load(y_t + c) * mean_product);
            store(d_x_t + c, accumulate ? load(d_x_t + c) + d : d);
        }
        if (rest > 0) {
            vec_t d =
                load_part(d_y_t + whole, rest) - mean - load_part(y_t + whole, rest) * mean_product;
            d = inverse * d;
            d = accumulate ? load_part(d_x_t + whole, rest) + d : d;
            store_part(d_x_t + whole, d, rest);
        }
    }
}

/* Counters that Philox works on at a time; each gives four words. */
enum { PHILOX_WAYS = 32 };

/* weir_philox of the counters (first, second, third[l], fourth[l]), word w of way l at 4 l + w. */
#if defined(__AVX512F__)
static void run_philox(weir_rng_key_t key, uint32_t first, uint32_t second, const uint32_t *third,
                       const uint32_t *fourth, uint32_t *words) {
    enum { CHAINS = PHILOX_WAYS / 8, XOR3 = 0x96 };
    const __m512i factor0 = _mm512_set1_epi64(0xD2511F53), factor1 = _mm512_set1_epi64(0xCD9E8D57);
    const __m512i front = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
    const __m512i back = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    __m512i c0[CHAINS], c1[CHAINS], c2[CHAINS], c3[CHAINS]; /* lower halves of 64 bits count */
    WEIR_UNROLL
    for (size_t i = 0; i < CHAINS; i++) {
        c0[i] = _mm512_set1_epi64(first);
        c1[i] = _mm512_set1_epi64(second);
        c2[i] = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)(third + 8 * i)));
        c3[i] = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)(fourth + 8 * i)));
    }
    uint32_t k0 = key.key[0], k1 = key.key[1];
    for (int round = 0; round < 10; round++) {
        __m512i key0 = _mm512_set1_epi64(k0), key1 = _mm512_set1_epi64(k1);
        WEIR_UNROLL
        for (size_t i = 0; i < CHAINS; i++) {
            __m512i p0 = _mm512_mul_epu32(factor0, c0[i]), p1 = _mm512_mul_epu32(factor1, c2[i]);
            c0[i] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), c1[i], key0, XOR3);
            c2[i] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), c3[i], key1, XOR3);
            c1[i] = p1;
            c3[i] = p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    WEIR_UNROLL
    for (size_t i = 0; i < CHAINS; i++) {
        __m512i low = _mm512_mask_blend_epi32(0xAAAA, c0[i], _mm512_slli_epi64(c1[i], 32));
        __m512i high = _mm512_mask_blend_epi32(0xAAAA, c2[i], _mm512_slli_epi64(c3[i], 32));
        __m512i even = _mm512_unpacklo_epi64(low, high), odd = _mm512_unpackhi_epi64(low, high);
        _mm512_storeu_si512(words + 32 * i, _mm512_permutex2var_epi64(even, front, odd));
        _mm512_storeu_si512(words + 32 * i + 16, _mm512_permutex2var_epi64(even, back, odd));
    }
}
#else
static void run_philox(weir_rng_key_t key, uint32_t first, uint32_t second, const uint32_t *third,
                       const uint32_t *fourth, uint32_t *words) {
    uint32_t c0[PHILOX_WAYS], c1[PHILOX_WAYS], c2[PHILOX_WAYS], c3[PHILOX_WAYS];
    for (size_t l = 0; l < PHILOX_WAYS; l++) {
        c0[l] = first;
        c1[l] = second;
        c2[l] = third[l];
        c3[l] = fourth[l];
    }
    uint32_t k0 = key.key[0], k1 = key.key[1];
    for (int round = 0; round < 10; round++) {
        for (size_t l = 0; l < PHILOX_WAYS; l++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[l];
            uint64_t p1 = (uint64_t)0xCD9E8D57u * c2[l];
            c0[l] = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0;
            c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
            c1[l] = (uint32_t)p1;
            c3[l] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (size_t l = 0; l < PHILOX_WAYS; l++) {
        words[4 * l] = c0[l];
        words[4 * l + 1] = c1[l];
        words[4 * l + 2] = c2[l];
        words[4 * l + 3] = c3[l];
    }
}
#endif

typedef uint16_t half_word_t __attribute__((may_alias));
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lower halves of words come first");

static void keep_columns(const weir_dropout_t *site, const half_word_t *numbers,
                         const weir_real_t *x, size_t count, weir_real_t *y) {
    for (size_t c = 0; c < count; c++) {
        weir_real_t scaled = x[c] * site->scale;
        y[c] = numbers[c] >= site->threshold ? scaled : 0;
    }
}

static void dropout(const weir_dropout_t *site, const uint32_t *global_tokens, const weir_real_t *x,
                    size_t tokens, size_t width, weir_real_t *y) {
    enum { COLUMNS = 8 }; /* of a way */
    uint32_t block_tokens[PHILOX_WAYS], groups[PHILOX_WAYS], words[4 * PHILOX_WAYS];
    const half_word_t *numbers = (const half_word_t *)words;
    size_t row_groups = (width + COLUMNS - 1) / COLUMNS, row = 0, group = 0;
    while (row < tokens && width > 0) {
        size_t t = row, g = group;
        for (size_t l = 0; l < PHILOX_WAYS; l++) {
            size_t known = t < tokens ? t : tokens - 1;
            block_tokens[l] = global_tokens != NULL ? global_tokens[known] : (uint32_t)known;
            groups[l] = (uint32_t)g;
            g = g + 1 == row_groups ? 0 : g + 1;
            t += g == 0 ? 1 : 0;
        }
        run_philox(site->key, site->step, site->site, block_tokens, groups, words);
        for (size_t l = 0; l < PHILOX_WAYS && row < tokens;) {
            size_t left = row_groups - group;
            size_t run = left < PHILOX_WAYS - l ? left : PHILOX_WAYS - l;
            size_t columns = run == left ? width - COLUMNS * group : COLUMNS * run;
            size_t at = row * width + COLUMNS * group;
            keep_columns(site, numbers + COLUMNS * l, x + at, columns, y + at);
            l += run;
            group = run == left ? 0 : group + run;
            row += run == left ? 1 : 0;
        }
    }
}

static void draw_items(weir_rng_key_t key, uint32_t first, uint32_t second, uint32_t third,
                       uint32_t bound, int64_t *items, size_t count) {
    uint32_t thirds[PHILOX_WAYS], fourths[PHILOX_WAYS], words[4 * PHILOX_WAYS];
    for (size_t done = 0; done < count; done += 4 * PHILOX_WAYS) {
        for (size_t l = 0; l < PHILOX_WAYS; l++) {
            thirds[l] = third;
            fourths[l] = (uint32_t)(done / 4 + l);
        }
        run_philox(key, first, second, thirds, fourths, words);
        size_t some = count - done < 4 * PHILOX_WAYS ? count - done : 4 * PHILOX_WAYS;
        for (size_t r = 0; r < some; r++) {
            items[done + r] = 1 + (int64_t)(((uint64_t)words[r] * bound) >> 32);
        }
    }
}

/* The numbers of one AdamW step in the model's type. */
typedef struct {
    weir_real_t keep, beta1, rest1, beta2, rest2, rate, inverse_root, epsilon;
} adamw_factors_t;

WEIR_INLINE void adamw_lanes(const adamw_factors_t *f, vec_t g, vec_t *w, vec_t *m, vec_t *v) {
    *m = *m * f->beta1 + g * f->rest1;
    *v = *v * f->beta2 + g * g * f->rest2;
    vec_t divisor = square_root(*v) * f->inverse_root + f->epsilon;
    *w = *w * f->keep - f->rate * (*m / divisor);
}

static void adamw(const weir_adamw_t *step, const weir_real_t *gradient, weir_real_t *weights,
                  weir_real_t *moments1, weir_real_t *moments2, size_t count) {
    adamw_factors_t f = {
        .keep = (weir_real_t)(1.0 - step->learning_rate * step->weight_decay),
        .beta1 = (weir_real_t)step->beta1,
        .rest1 = (weir_real_t)(1.0 - step->beta1),
        .beta2 = (weir_real_t)step->beta2,
        .rest2 = (weir_real_t)(1.0 - step->beta2),
        .rate = (weir_real_t)(step->learning_rate / step->correction1),
        .inverse_root = (weir_real_t)(1.0 / sqrt(step->correction2)),
        .epsilon = (weir_real_t)step->epsilon,
    };
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        vec_t w = load(weights + i), m = load(moments1 + i), v = load(moments2 + i);
        adamw_lanes(&f, load(gradient + i), &w, &m, &v);
        store(weights + i, w);
        store(moments1 + i, m);
        store(moments2 + i, v);
    }
    if (i < count) {
        size_t rest = count - i;
        vec_t w = load_part(weights + i, rest), m = load_part(moments1 + i, rest);
        vec_t v = load_part(moments2 + i, rest);
        adamw_lanes(&f, load_part(gradient + i, rest), &w, &m, &v);
        store_part(weights + i, w, rest);
        store_part(moments1 + i, m, rest);
        store_part(moments2 + i, v, rest);
    }
}

/* dots of LANES rows: one sum a row, then a tree over the rows' vectors that leaves row r in lane
 * r. */
WEIR_INLINE vec_t dot_rows(const weir_real_t *vector, const weir_real_t *const *row, size_t width) {
    size_t whole = width - width % LANES, rest = width % LANES;
    vec_t sum[WEIR_LANES];
    WEIR_UNROLL
    for (size_t r = 0; r < LANES; r++) {
        sum[r] = (vec_t){0};
    }
    for (size_t c = 0; c < whole; c += LANES) {
        vec_t x = load(vector + c);
        WEIR_UNROLL
        for (size_t r = 0; r < LANES; r++) {
            sum[r] += x * load(row[r] + c);
        }
    }
    if (rest > 0) {
        vec_t x = load_part(vector + whole, rest);
        WEIR_UNROLL
        for (size_t r = 0; r < LANES; r++) {
            sum[r] += x * load_part(row[r] + whole, rest);
        }
    }
    return sum_rows(sum);
}

/* Rows ahead of the one that is added to; they lie anywhere in memory, where no processor guesses.
 */
enum { ROWS_AHEAD = 8 };

/* The beginning of a row that is read soon; of a long one the processor fetches the rest itself. */
WEIR_INLINE void fetch_row(const weir_real_t *row) {
    enum { LINE = 64 / sizeof(weir_real_t), LINES = 4 };
    WEIR_UNROLL
    for (size_t line = 0; line < LINES; line++) {
        __builtin_prefetch(row + line * LINE);
    }
}

static void gather_dot(const weir_real_t *vector, const weir_real_t *rows, size_t width,
                       const uint32_t *indices, size_t count, weir_real_t *dots) {
    const weir_real_t *row[WEIR_LANES];
    for (size_t first = 0; first < count; first += LANES) {
        size_t left = count - first;
        for (size_t r = 0; r < LANES; r++) {
            row[r] = rows + indices[first + (r < left ? r : 0)] * width;
        }
        if (left >= 2 * LANES) {
            WEIR_UNROLL
            for (size_t r = LANES; r < 2 * LANES; r++) {
                fetch_row(rows + indices[first + r] * width);
            }
        }
        vec_t sums = dot_rows(vector, row, width);
        if (left >= LANES) {
            store(dots + first, sums);
        } else {
            store_part(dots + first, sums, left);
        }
    }
}

/* Vectors of a row that one pass holds in registers. */
enum { HELD_VECTORS = 4 };

/* A slice of rows: `vectors` whole vectors and, behind them, `rest` < LANES numbers. */
typedef struct {
    const weir_real_t *factors;
    const uint32_t *indices;
    size_t count, width;
    size_t rest;
} slices_t;

/* vector += sum of factors * rows. `vectors` and `part` (whether there is a rest) are constants. */
WEIR_INLINE void gather_slice(const slices_t *slices, const weir_real_t *rows, size_t vectors,
                              bool part, weir_real_t *vector) {
    vec_t sum[HELD_VECTORS], last = {0};
    WEIR_UNROLL
    for (size_t c = 0; c < vectors; c++) {
        sum[c] = load(vector + c * LANES);
    }
    if (part) {
        last = load_part(vector + vectors * LANES, slices->rest);
    }
    for (size_t r = 0; r < slices->count; r++) {
        const weir_real_t *row = rows + slices->indices[r] * slices->width;
        vec_t factor = splat(slices->factors[r]);
        WEIR_UNROLL
        for (size_t c = 0; c < vectors; c++) {
            sum[c] += factor * load(row + c * LANES);
        }
        if (part) {
            last += factor * load_part(row + vectors * LANES, slices->rest);
        }
    }
    WEIR_UNROLL
    for (size_t c = 0; c < vectors; c++) {
        store(vector + c * LANES, sum[c]);
    }
    if (part) {
        store_part(vector + vectors * LANES, last, slices->rest);
    }
}

/* rows += factors * vector. */
WEIR_INLINE void scatter_slice(const slices_t *slices, const weir_real_t *vector, size_t vectors,
                               bool part, weir_real_t *rows) {
    vec_t held[HELD_VECTORS], last = {0};
    WEIR_UNROLL
    for (size_t c = 0; c < vectors; c++) {
        held[c] = load(vector + c * LANES);
    }
    if (part) {
        last = load_part(vector + vectors * LANES, slices->rest);
    }
    for (size_t r = 0; r < slices->count; r++) {
        weir_real_t *row = rows + slices->indices[r] * slices->width;
        if (r + ROWS_AHEAD < slices->count) {
            const weir_real_t *soon = rows + slices->indices[r + ROWS_AHEAD] * slices->width;
            WEIR_UNROLL
            for (size_t c = 0; c < vectors; c++) {
                __builtin_prefetch(soon + c * LANES, 1);
            }
        }
        vec_t factor = splat(slices->factors[r]);
        WEIR_UNROLL
        for (size_t c = 0; c < vectors; c++) {
            store(row + c * LANES, load(row + c * LANES) + factor * held[c]);
        }
        if (part) {
            weir_real_t *end = row + vectors * LANES;
            store_part(end, load_part(end, slices->rest) + factor * last, slices->rest);
        }
    }
}

/* Columns 0 .. of a row in slices of HELD_VECTORS vectors; the last one with what is left. */
#define FOR_SLICES(slice, slices, fixed_rows, vector)                                              \
    do {                                                                                           \
        size_t column = 0;                                                                         \
        for (; column + HELD_VECTORS * LANES <= (slices)->width; column += HELD_VECTORS * LANES) { \
            slice(slices, (fixed_rows) + column, HELD_VECTORS, false, (vector) + column);          \
        }                                                                                          \
        bool part = (slices)->rest > 0;                                                            \
        switch (((slices)->width - column) / LANES * 2 + (part ? 1 : 0)) {                         \
        case 1:                                                                                    \
            slice(slices, (fixed_rows) + column, 0, true, (vector) + column);                      \
            break;                                                                                 \
        case 2:                                                                                    \
            slice(slices, (fixed_rows) + column, 1, false, (vector) + column);                     \
            break;                                                                                 \
        case 3:                                                                                    \
            slice(slices, (fixed_rows) + column, 1, true, (vector) + column);                      \
            break;                                                                                 \
        case 4:                                                                                    \
            slice(slices, (fixed_rows) + column, 2, false, (vector) + column);                     \
            break;                                                                                 \
        case 5:                                                                                    \
            slice(slices, (fixed_rows) + column, 2, true, (vector) + column);                      \
            break;                                                                                 \
        case 6:                                                                                    \
            slice(slices, (fixed_rows) + column, 3, false, (vector) + column);                     \
            break;                                                                                 \
        case 7:                                                                                    \
            slice(slices, (fixed_rows) + column, 3, true, (vector) + column);                      \
            break;                                                                                 \
        default:                                                                                   \
            break;                                                                                 \
        }                                                                                          \
    } while (0)

static void gather_axpy(const weir_real_t *factors, const weir_real_t *rows, size_t width,
                        const uint32_t *indices, size_t count, weir_real_t *vector) {
    slices_t slices = {factors, indices, count, width, width % LANES};
    FOR_SLICES(gather_slice, &slices, rows, vector);
}

static void scatter_axpy(const weir_real_t *factors, const weir_real_t *vector, size_t width,
                         const uint32_t *indices, size_t count, weir_real_t *rows) {
    slices_t slices = {factors, indices, count, width, width % LANES};
    FOR_SLICES(scatter_slice, &slices, vector, rows);
}

static const weir_kernels_t level = {
    .level = LEVEL_STRING(WEIR_LEVEL),
    .lanes = LANES,
    .exp = exp_array,
    .silu_forward = silu_forward,
    .silu_backward = silu_backward,
    .layer_norm_forward = layer_norm_forward,
    .layer_norm_backward = layer_norm_backward,
    .dropout = dropout,
    .draw_items = draw_items,
    .adamw = adamw,
    .gather_dot = gather_dot,
    .gather_axpy = gather_axpy,
    .scatter_axpy = scatter_axpy,
    .score_tile = LEVEL_FUNCTION(weir_rank_score_tile_, WEIR_LEVEL),
#if defined(__AVX512F__)
    .product = LEVEL_FUNCTION(weir_product_level_, WEIR_LEVEL),
#endif
    .attention_forward = LEVEL_FUNCTION(weir_attention_forward_, WEIR_LEVEL),
    .attention_backward = LEVEL_FUNCTION(weir_attention_backward_, WEIR_LEVEL),
    .attention_panel = ATTENTION_PANEL,
};

const weir_kernels_t *LEVEL_FUNCTION(weir_kernels_, WEIR_LEVEL)(void) {
    return &level;
}
