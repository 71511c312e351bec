/* Screening with the products of 16-bit pairs of AVX512_VNNI. Compiled for that instruction. */
#include "worker/screen.h"

#include "worker/kernels_transpose.h"

enum { COLUMNS = WEIR_SCREEN_TILE / WEIR_LANES };

/* Sums of squares differ from exact ones by less than one part in 10^4: WEIR_SCREEN_MOST has room
 * for that. Not a number: neither is the result. */
static float length_of(const float *row, size_t width) {
    __m512 sum = _mm512_setzero_ps();
    for (size_t c = 0; c < width; c += LANES) {
        __m512 part = (__m512)load_some(row + c, width - c);
        sum = _mm512_fmadd_ps(part, part, sum);
    }
    return sqrtf(_mm512_reduce_add_ps(sum));
}

static float scale_of(float length) {
    return length >= 0x1p-20f && length <= 0x1p60f ? (float)WEIR_SCREEN_LENGTH / length : 0.0f;
}

/* 16 numbers times `scale`, rounded, as 8 pairs. */
WEIR_INLINE __m256i round_part(const float *row, size_t count, __m512 scale) {
    __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps((__m512)load_some(row, count), scale));
    return _mm512_cvtsepi32_epi16(rounded);
}

static void round_row(const float *row, size_t width, float scale, weir_screen_pair_t *pairs) {
    __m512 factor = _mm512_set1_ps(scale);
    for (size_t c = 0; c < width; c += LANES) {
        __m256i part = round_part(row + c, width - c, factor);
        size_t kept = weir_screen_pairs(width - c);
        __mmask8 mask = (__mmask8)(kept >= 8 ? 0xFFu : (1u << kept) - 1u);
        _mm256_mask_storeu_epi32(pairs + c / 2, mask, part);
    }
}

static float pack_row(const float *row, size_t width, weir_screen_pair_t *pairs) {
    float scale = scale_of(length_of(row, width));
    if (scale > 0.0f) {
        round_row(row, width, scale, pairs);
    }
    return scale;
}

/* 16 rows, of which `count` are there, become columns of a tile. */
static void pack_square(const float *rows, size_t count, size_t width, float scale,
                        weir_screen_pair_t *tile) {
    weir_screen_pair_t square[WEIR_LANES * WEIR_SCREEN_WIDEST / 2];
    size_t pairs = weir_screen_pairs(width);
    for (size_t r = 0; r < count; r++) {
        round_row(rows + r * width, width, scale, square + r * pairs);
    }
    memset(square + count * pairs, 0, (LANES - count) * pairs * sizeof *square);
    transpose((const float *)(const void *)square, pairs, LANES, pairs, (float *)(void *)tile,
              WEIR_SCREEN_TILE, true);
}

static float pack_block(const float *rows, size_t count, size_t width, weir_screen_pair_t *tiles) {
    float longest = 0.0f;
    for (size_t r = 0; r < count; r++) {
        float length = length_of(rows + r * width, width);
        longest = length <= longest ? longest : length; /* not a number: stays so */
        if (!(length <= 0x1p60f)) {
            return 0.0f;
        }
    }
    float scale = scale_of(longest);
    size_t places = (count + WEIR_SCREEN_TILE - 1) / WEIR_SCREEN_TILE * WEIR_SCREEN_TILE;
    for (size_t r = 0; r < places && scale > 0.0f; r += LANES) {
        size_t left = r < count ? count - r : 0;
        weir_screen_pair_t *tile =
            tiles + r / WEIR_SCREEN_TILE * weir_screen_pairs(width) * WEIR_SCREEN_TILE;
        pack_square(rows + (left > 0 ? r : 0) * width, left < LANES ? left : LANES, width, scale,
                    tile + r % WEIR_SCREEN_TILE);
    }
    return scale;
}

/* The intrinsic for this makes gcc 12 keep the sums in memory. */
WEIR_INLINE void add_products(__m512i *sum, __m512i a, __m512i b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

WEIR_INLINE uint64_t bits_of(const __mmask16 masks[COLUMNS]) {
    __mmask32 low = _mm512_kunpackw(masks[1], masks[0]), high = _mm512_kunpackw(masks[3], masks[2]);
    return _cvtmask64_u64(_mm512_kunpackd(high, low));
}

static void compare(const weir_screen_pair_t *const *group, const weir_screen_pair_t *tile,
                    size_t pairs, const int32_t *lows, const int32_t *highs, uint64_t there,
                    weir_screen_answer_t *answers) {
    __m512i sum[WEIR_SCREEN_GROUP][COLUMNS];
    WEIR_UNROLL
    for (size_t i = 0; i < (size_t)WEIR_SCREEN_GROUP * COLUMNS; i++) {
        sum[i / COLUMNS][i % COLUMNS] = _mm512_setzero_si512();
    }
    for (size_t p = 0; p < pairs; p++, tile += WEIR_SCREEN_TILE) {
        __m512i column[COLUMNS];
        WEIR_UNROLL
        for (size_t v = 0; v < COLUMNS; v++) {
            column[v] = _mm512_loadu_si512(tile + v * LANES);
        }
        WEIR_UNROLL
        for (size_t g = 0; g < WEIR_SCREEN_GROUP; g++) {
            __m512i factor = _mm512_set1_epi32((int)group[g][p]);
            WEIR_UNROLL
            for (size_t v = 0; v < COLUMNS; v++) {
                add_products(&sum[g][v], factor, column[v]);
            }
        }
    }
    WEIR_UNROLL
    for (size_t g = 0; g < WEIR_SCREEN_GROUP; g++) {
        __m512i low = _mm512_set1_epi32(lows[g]), high = _mm512_set1_epi32(highs[g]);
        __mmask16 reached[COLUMNS], above[COLUMNS];
        WEIR_UNROLL
        for (size_t v = 0; v < COLUMNS; v++) {
            reached[v] = _mm512_cmpge_epi32_mask(sum[g][v], low);
            above[v] = _mm512_cmpgt_epi32_mask(sum[g][v], high);
        }
        uint64_t is_above = bits_of(above) & there;
        answers[g] = (weir_screen_answer_t){.above = is_above,
                                            .open = bits_of(reached) & there & ~is_above,
                                            .count = (uint64_t)_mm_popcnt_u64(is_above)};
    }
}

/* Chains side by side, so that they hide each other's latency. */
static void score(const float *const *users, const float *const *items, size_t width,
                  float *scores) {
    enum { ABREAST = WEIR_SCREEN_CHAINS / 2 };
    for (size_t first = 0; first < WEIR_SCREEN_CHAINS; first += ABREAST) {
        __m128 sum[ABREAST];
        WEIR_UNROLL
        for (size_t i = 0; i < ABREAST; i++) {
            sum[i] = _mm_setzero_ps();
        }
        for (size_t d = 0; d < width; d++) {
            WEIR_UNROLL
            for (size_t i = 0; i < ABREAST; i++) {
                sum[i] = _mm_fmadd_ss(_mm_load_ss(users[first + i] + d),
                                      _mm_load_ss(items[first + i] + d), sum[i]);
            }
        }
        WEIR_UNROLL
        for (size_t i = 0; i < ABREAST; i++) {
            scores[first + i] = _mm_cvtss_f32(sum[i]);
        }
    }
}

static const weir_screen_kernels_t kernels = {
    .pack_row = pack_row,
    .pack_block = pack_block,
    .compare = compare,
    .score = score,
};

const weir_screen_kernels_t *weir_screen_kernels_vnni(void) {
    return &kernels;
}
