/* Tiles, and what happens to their scores between the products: biases, SiLU, its slope, the mask
 * and the gradients of the biases. For worker/attention_level.c and worker/attention_bf16.c. */
#ifndef WEIR_WORKER_ATTENTION_WEIGH_H
#define WEIR_WORKER_ATTENTION_WEIGH_H

#include "worker/attention_task.h"
#include "worker/kernels_vector.h"

/* VISIBLE: no bias at all, and pairs as the batch says. */
typedef enum { TIME_OFF, TIME_BELOW_64, TIME_ALL, TIME_VISIBLE } time_mode_t;

/* A panel of queries against a block of keys. */
typedef struct {
    size_t query, key; /* first of each */
    size_t queries;    /* in the panel: 1 .. panel */
    size_t rows;       /* keys */
    size_t whole;      /* rows that all vectors take part in; the others, in the corner beyond the
                          diagonal, need the second alone */
    size_t vectors;    /* 1 or 2 that hold the queries */
    const uint8_t *buckets;
    ivec_t first[2], end[2]; /* keys that each query sees beside its own; when task->visible */
} tile_t;

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* make_tile of a batch that says what is visible. */
static tile_t make_tile_of_visible(const weir_attention_task_t *task, size_t query, size_t key) {
    tile_t tile = {
        .query = query, .key = key, .queries = smaller(ATTENTION_PANEL, task->length - query)};
    size_t block = smaller(key + ATTENTION_KEYS, task->length), end = 0;
    for (size_t i = 0; i < tile.queries; i++) {
        weir_visible_t visible = task->visible[query + i];
        tile.first[i / LANES][i % LANES] = (weir_lane_int_t)visible.first;
        tile.end[i / LANES][i % LANES] = (weir_lane_int_t)visible.end;
        if (visible.first < block && visible.end > key && visible.end > end) {
            end = visible.end;
        }
    }
    if (query < block && query + tile.queries > key && query + tile.queries > end) {
        end = query + tile.queries;
    }
    tile.rows = end > key ? smaller(block, end) - key : 0;
    tile.whole = tile.rows;
    tile.vectors = tile.queries <= LANES ? 1 : 2;
    return tile;
}

/* Keys that the queries before `end` may see lie before this one. */
static size_t keys_end(const weir_attention_task_t *task, size_t end) {
    return task->visible != NULL ? task->length : end;
}

/* The tile of a panel and a block of keys; 0 rows when they do not meet. `buckets`: memory of a
 * tile's, where they are not prepared. */
static tile_t make_tile(const weir_attention_task_t *task, uint8_t *buckets, size_t query,
                        size_t key) {
    if (task->visible != NULL) {
        return make_tile_of_visible(task, query, key);
    }
    size_t queries = smaller(ATTENTION_PANEL, task->length - query);
    size_t end = smaller(key + ATTENTION_KEYS, query + queries);
    tile_t tile = {.query = query, .key = key, .queries = queries};
    if (end <= key) {
        return tile;
    }
    tile.rows = end - key;
    tile.vectors = queries <= LANES ? 1 : 2;
    tile.whole = tile.rows;
    if (tile.vectors == 2) {
        tile.whole = key >= query + LANES ? 0 : smaller(tile.rows, query + LANES - key);
    }
    if (task->time == NULL) {
        return tile;
    }
    if (task->buckets.prepared != NULL) {
        tile.buckets = task->buckets.prepared +
                       weir_bucket_offset(query / ATTENTION_PANEL, ATTENTION_PANEL) +
                       key * ATTENTION_PANEL;
    } else {
        weir_buckets_fill(&task->buckets, query, key, end, buckets);
        tile.buckets = buckets;
    }
    return tile;
}

/* Lanes 1 .. of `a`, then lane 0 of `b`. */
WEIR_INLINE vec_t shift_lanes(vec_t a, vec_t b) {
    return __builtin_shufflevector(a, b, NEXT_LANES);
}

/* The time table where the level has registers for it. */
typedef struct {
    const weir_real_t *table;
#if defined(__AVX512F__) && !defined(WEIR_REAL_F64)
    __m512 part[8], last;
#endif
} time_table_t;

WEIR_INLINE time_table_t load_time_table(const weir_real_t *table, time_mode_t mode) {
    time_table_t time = {.table = table};
#if defined(__AVX512F__) && !defined(WEIR_REAL_F64)
    if (mode == TIME_BELOW_64 || mode == TIME_ALL) {
        for (size_t i = 0; i < 8; i++) {
            time.part[i] = _mm512_loadu_ps(table + 16 * i);
        }
        time.last = _mm512_set1_ps(table[128]);
    }
#else
    (void)mode;
#endif
    return time;
}

/* table[buckets[lane]] */
WEIR_INLINE vec_t look_up(const time_table_t *time, time_mode_t mode, const uint8_t *buckets) {
#if defined(__AVX512F__) && !defined(WEIR_REAL_F64)
    __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)buckets));
    __mmask16 bit5 = _mm512_test_epi32_mask(index, _mm512_set1_epi32(32));
    __m512 low =
        _mm512_mask_blend_ps(bit5, _mm512_permutex2var_ps(time->part[0], index, time->part[1]),
                             _mm512_permutex2var_ps(time->part[2], index, time->part[3]));
    if (mode == TIME_BELOW_64) {
        return (vec_t)low;
    }
    __m512 high =
        _mm512_mask_blend_ps(bit5, _mm512_permutex2var_ps(time->part[4], index, time->part[5]),
                             _mm512_permutex2var_ps(time->part[6], index, time->part[7]));
    __mmask16 bit6 = _mm512_test_epi32_mask(index, _mm512_set1_epi32(64));
    __mmask16 bit7 = _mm512_test_epi32_mask(index, _mm512_set1_epi32(128));
    return (vec_t)_mm512_mask_blend_ps(bit7, _mm512_mask_blend_ps(bit6, low, high), time->last);
#elif defined(__AVX2__) && !defined(WEIR_REAL_F64)
    (void)mode;
    __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)buckets));
    return (vec_t)_mm256_i32gather_ps(time->table, index, 4);
#else
    (void)mode;
    vec_t value;
    for (size_t i = 0; i < LANES; i++) {
        value[i] = time->table[buckets[i]];
    }
    return value;
#endif
}

/* histogram[bucket][lane] += values[lane]. Neighbouring queries mostly share a bucket. */
WEIR_INLINE void count_buckets(weir_real_t *histogram, const uint8_t *buckets, vec_t values) {
#if defined(__AVX512F__) && !defined(WEIR_REAL_F64)
    __m128i all = _mm_loadu_si128((const __m128i *)(const void *)buckets);
    __mmask16 left = 0xFFFF;
    do {
        uint8_t bucket = buckets[__builtin_ctz(left)];
        __mmask16 same = _mm_cmpeq_epi8_mask(all, _mm_set1_epi8((char)bucket));
        weir_real_t *sums = histogram + (size_t)bucket * LANES;
        store(sums, (vec_t)_mm512_mask_add_ps((__m512)load(sums), same, (__m512)load(sums),
                                              (__m512)values));
        left = (__mmask16)(left & ~same);
    } while (left != 0);
#else
    for (size_t i = 0; i < LANES; i++) {
        histogram[(size_t)buckets[i] * LANES + i] += values[i];
    }
#endif
}

/* Lanes whose query is not before the key: lane >= key - query of lane 0. */
WEIR_INLINE vec_t mask_future(vec_t value, size_t key, size_t query) {
    ivec_t lane;
    for (size_t i = 0; i < LANES; i++) {
        lane[i] = (weir_lane_int_t)i;
    }
    return (vec_t)((ivec_t)value & (lane >= (weir_lane_int_t)key - (weir_lane_int_t)query));
}

/* Vector `v` of a row, where the queries see the key. */
WEIR_INLINE vec_t mask_hidden(vec_t value, const tile_t *tile, size_t key, size_t v) {
    weir_lane_int_t at = (weir_lane_int_t)key;
    ivec_t query;
    for (size_t i = 0; i < LANES; i++) {
        query[i] = (weir_lane_int_t)(tile->query + v * LANES + i);
    }
    ivec_t seen = ((tile->first[v] <= at) & (tile->end[v] > at)) | (query == at);
    return (vec_t)((ivec_t)value & seen);
}

/* S with its biases: vector `v` of row `r`. */
WEIR_INLINE vec_t biased_score(const weir_attention_task_t *task, const tile_t *tile,
                               const time_table_t *time, time_mode_t mode,
                               const weir_real_t *scores, size_t r, size_t v) {
    if (mode == TIME_VISIBLE) {
        return load(scores + r * ATTENTION_PANEL + v * LANES);
    }
    ptrdiff_t offset = (ptrdiff_t)tile->query - (ptrdiff_t)(tile->key + r);
    vec_t s = load(scores + r * ATTENTION_PANEL + v * LANES) +
              load(task->position + offset + (ptrdiff_t)(v * LANES));
    if (mode != TIME_OFF) {
        s += look_up(time, mode, tile->buckets + r * ATTENTION_PANEL + v * LANES);
    }
    return s;
}

WEIR_INLINE void weigh_tile(const weir_attention_task_t *task, const tile_t *tile, time_mode_t mode,
                            weir_real_t *scores) {
    time_table_t time = load_time_table(task->time, mode);
    for (size_t r = 0; r < tile->rows; r++) {
        size_t key = tile->key + r;
        WEIR_UNROLL
        for (size_t v = 0; v < 2; v++) {
            if (v >= tile->vectors || (v == 0 && r >= tile->whole)) {
                continue;
            }
            vec_t s = biased_score(task, tile, &time, mode, scores, r, v);
            vec_t a = s * sigmoid(s);
            if (mode == TIME_VISIBLE) {
                a = mask_hidden(a, tile, key, v);
            } else if (key > tile->query) {
                a = mask_future(a, key, tile->query + v * LANES);
            }
            store(scores + r * ATTENTION_PANEL + v * LANES, a);
        }
    }
}

/* scores: S to A N; d_scores: dA / N to dS; bias gradients added. Rows run backwards, so that the
 * running sums of the diagonals move down one lane a row and leave at lane 0. */
WEIR_INLINE void differentiate_tile(const weir_attention_task_t *task, const tile_t *tile,
                                    time_mode_t mode, weir_real_t *scores, weir_real_t *d_scores) {
    time_table_t time = load_time_table(task->time, mode);
    vec_t diagonal[2] = {{0}, {0}};
    for (size_t r = tile->rows; r-- > 0;) {
        size_t key = tile->key + r;
        WEIR_UNROLL
        for (size_t v = 0; v < 2; v++) {
            if (v >= tile->vectors || (v == 0 && r >= tile->whole)) {
                continue;
            }
            vec_t s = biased_score(task, tile, &time, mode, scores, r, v);
            vec_t p = sigmoid(s);
            vec_t a = s * p;
            vec_t slope = p + a * ((weir_real_t)1 - p);
            weir_real_t *d = d_scores + r * ATTENTION_PANEL + v * LANES;
            vec_t d_s = load(d) * slope;
            if (mode == TIME_VISIBLE) {
                a = mask_hidden(a, tile, key, v);
                d_s = mask_hidden(d_s, tile, key, v);
            } else if (key > tile->query) {
                a = mask_future(a, key, tile->query + v * LANES);
                d_s = mask_future(d_s, key, tile->query + v * LANES);
            }
            store(scores + r * ATTENTION_PANEL + v * LANES, a);
            store(d, d_s);
            if (mode == TIME_VISIBLE) {
                continue;
            }
            diagonal[v] += d_s;
            if (mode != TIME_OFF) {
                count_buckets(task->d_time, tile->buckets + r * ATTENTION_PANEL + v * LANES, d_s);
            }
        }
        if (mode == TIME_VISIBLE) {
            continue;
        }
        task->d_position[(ptrdiff_t)tile->query - (ptrdiff_t)key] += diagonal[0][0];
        diagonal[0] = shift_lanes(diagonal[0], diagonal[1]);
        diagonal[1] = shift_lanes(diagonal[1], (vec_t){0});
    }
    if (mode == TIME_VISIBLE) {
        return;
    }
    weir_real_t *rest = task->d_position + ((ptrdiff_t)tile->query - (ptrdiff_t)tile->key + 1);
    store(rest, load(rest) + diagonal[0]);
    store(rest + LANES, load(rest + LANES) + diagonal[1]);
}

static void weigh(const weir_attention_task_t *task, const tile_t *tile, weir_real_t *scores) {
    if (task->visible != NULL) {
        weigh_tile(task, tile, TIME_VISIBLE, scores);
    } else if (task->time == NULL) {
        weigh_tile(task, tile, TIME_OFF, scores);
    } else if (task->highest_bucket < 64) {
        weigh_tile(task, tile, TIME_BELOW_64, scores);
    } else {
        weigh_tile(task, tile, TIME_ALL, scores);
    }
}

static void differentiate(const weir_attention_task_t *task, const tile_t *tile,
                          weir_real_t *scores, weir_real_t *d_scores) {
    if (task->visible != NULL) {
        differentiate_tile(task, tile, TIME_VISIBLE, scores, d_scores);
    } else if (task->time == NULL) {
        differentiate_tile(task, tile, TIME_OFF, scores, d_scores);
    } else if (task->highest_bucket < 64) {
        differentiate_tile(task, tile, TIME_BELOW_64, scores, d_scores);
    } else {
        differentiate_tile(task, tile, TIME_ALL, scores, d_scores);
    }
}

#endif
