/* Attention of one user and head, compiled once per level (WEIR_LEVEL). worker/attention_task.h
 * says what tiles and panels are; as matrices, with queries along the vectors:
 *
 *   S^T = K Q^T             A^T = silu(S^T + biases) / N           Y^T += V^T A^T
 *   dA^T = V dY^T           dS^T = dA^T * silu'(S^T + biases) / N
 *   dV += A^T dY            dK += dS^T Q                           dQ^T += K^T dS^T */
#include "worker/attention_task.h"
#include "worker/attention_tile.h"
#include "worker/bf16.h"
#include "worker/kernels_vector.h"

#define JOIN_NAMES(a, b) a##b
#define LEVEL_FUNCTION(prefix, level) JOIN_NAMES(prefix, level)

typedef enum { TIME_OFF, TIME_BELOW_64, TIME_ALL } time_mode_t;

/* Memory of a task; [group]: one per panel of a group. The scale of A is left to what A is
 * multiplied with: v forward, d_y backward. */
typedef struct {
    weir_real_t *k_rows;    /* [keys][dqk] */
    weir_real_t *v_rows;    /* [keys][dv]; forward: times the scale */
    weir_real_t *d_k;       /* [keys][dqk padded]; backward */
    weir_real_t *d_v;       /* [keys][dv padded]; backward */
    weir_real_t *q_columns; /* [group][dqk][panel] */
    weir_real_t *q_rows;    /* [group][panel][dqk padded]; backward */
    weir_real_t *d_q;       /* [group][dqk][panel]; backward */
    weir_real_t *y;         /* [group][dv][panel]: y forward, scaled d_y backward */
    weir_real_t *d_y_rows;  /* [group][panel][dv padded], scaled; backward */
    weir_real_t *scores;    /* tile: S, then A N */
    weir_real_t *d_scores;  /* tile: dA, then dS; backward */
    uint8_t *buckets;       /* tile, where they are not prepared */
    size_t dqk_padded, dv_padded;
} pieces_t;

/* A panel of queries against a block of keys. */
typedef struct {
    size_t query, key; /* first of each */
    size_t queries;    /* in the panel: 1 .. panel */
    size_t rows;       /* keys */
    size_t whole;      /* rows that all vectors take part in; the others, in the corner beyond the
                          diagonal, need the second alone */
    size_t vectors;    /* 1 or 2 that hold the queries */
    const uint8_t *buckets;
} tile_t;

static weir_real_t *take(weir_real_t **free_space, size_t count) {
    weir_real_t *piece = *free_space;
    *free_space += (count + LANES - 1) / LANES * LANES;
    return piece;
}

static pieces_t lay_out(const weir_attention_task_t *task) {
    weir_real_t *space = task->workspace;
    size_t keys = weir_attention_padded(task->length, ATTENTION_KEYS);
    size_t group = ATTENTION_GROUP * ATTENTION_PANEL;
    pieces_t pieces = {.dqk_padded = weir_attention_padded(task->dqk, LANES),
                       .dv_padded = weir_attention_padded(task->dv, LANES)};
    pieces.k_rows = take(&space, keys * task->dqk);
    pieces.v_rows = take(&space, keys * task->dv);
    pieces.d_k = take(&space, keys * pieces.dqk_padded);
    pieces.d_v = take(&space, keys * pieces.dv_padded);
    pieces.q_columns = take(&space, group * task->dqk);
    pieces.q_rows = take(&space, group * pieces.dqk_padded);
    pieces.d_q = take(&space, group * task->dqk);
    pieces.y = take(&space, group * task->dv);
    pieces.d_y_rows = take(&space, group * pieces.dv_padded);
    pieces.scores = take(&space, ATTENTION_KEYS * ATTENTION_PANEL);
    pieces.d_scores = take(&space, ATTENTION_KEYS * ATTENTION_PANEL);
    pieces.buckets = (uint8_t *)space;
    return pieces;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Operands in bfloat16, where the task wants it and the processor does not multiply them itself. */
static void round_operand(const weir_attention_task_t *task, weir_real_t *values, size_t count) {
    if (task->rounded) {
        weir_bf16_round_numbers(values, values, count);
    }
}

/* Transposed queries of a panel; both vectors of it are written. */
static void pack_panel(const weir_real_t *from, size_t from_row, size_t queries, size_t width,
                       weir_real_t *to) {
    if (queries <= LANES) {
        for (size_t c = 0; c < width; c++) {
            store(to + c * ATTENTION_PANEL + LANES, (vec_t){0});
        }
    }
    transpose(from, from_row, queries, width, to, ATTENTION_PANEL, true);
}

/* The tile of a panel and a block of keys; 0 rows when they do not meet. */
static tile_t make_tile(const weir_attention_task_t *task, const pieces_t *pieces, size_t query,
                        size_t key) {
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
        weir_buckets_fill(&task->buckets, query, key, end, pieces->buckets);
        tile.buckets = pieces->buckets;
    }
    return tile;
}

/* out (rows x panel) = key rows [rows][depth] times panel columns [depth][panel]. */
static void multiply_scores(const tile_t *tile, size_t depth, const weir_real_t *key_rows,
                            const weir_real_t *query_columns, weir_real_t *out) {
    multiply_whole_rows(tile->whole, tile->vectors, depth, key_rows, depth, query_columns,
                        ATTENTION_PANEL, out, ATTENTION_PANEL);
    multiply_whole_rows(tile->rows - tile->whole, 1, depth, key_rows + tile->whole * depth, depth,
                        query_columns + LANES, ATTENTION_PANEL,
                        out + tile->whole * ATTENTION_PANEL + LANES, ATTENTION_PANEL);
}

/* out [width][panel] += key rows [rows][width], transposed, times the tile. */
static void multiply_queries(const tile_t *tile, size_t width, const weir_real_t *key_rows,
                             const weir_real_t *values, weir_real_t *out) {
    multiply_columns(width, tile->vectors, tile->whole, key_rows, width, values, ATTENTION_PANEL,
                     out, ATTENTION_PANEL);
    if (tile->rows > tile->whole) {
        multiply_columns(width, 1, tile->rows - tile->whole, key_rows + tile->whole * width, width,
                         values + tile->whole * ATTENTION_PANEL + LANES, ATTENTION_PANEL,
                         out + LANES, ATTENTION_PANEL);
    }
}

/* out [rows][padded] += the tile times query rows [queries][padded]. */
static void multiply_keys(const tile_t *tile, size_t padded, const weir_real_t *values,
                          const weir_real_t *query_rows, weir_real_t *out) {
    multiply_tile(tile->whole, padded, tile->queries, values, query_rows, out);
    if (tile->rows > tile->whole) {
        multiply_tile(tile->rows - tile->whole, padded, tile->queries - LANES,
                      values + tile->whole * ATTENTION_PANEL + LANES, query_rows + LANES * padded,
                      out + tile->whole * padded);
    }
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
    if (mode != TIME_OFF) {
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

/* S with its biases: vector `v` of row `r`. */
WEIR_INLINE vec_t biased_score(const weir_attention_task_t *task, const tile_t *tile,
                               const time_table_t *time, time_mode_t mode,
                               const weir_real_t *scores, size_t r, size_t v) {
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
            if (key > tile->query) {
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
            if (key > tile->query) {
                a = mask_future(a, key, tile->query + v * LANES);
                d_s = mask_future(d_s, key, tile->query + v * LANES);
            }
            store(scores + r * ATTENTION_PANEL + v * LANES, a);
            store(d, d_s);
            diagonal[v] += d_s;
            if (mode != TIME_OFF) {
                count_buckets(task->d_time, tile->buckets + r * ATTENTION_PANEL + v * LANES, d_s);
            }
        }
        task->d_position[(ptrdiff_t)tile->query - (ptrdiff_t)key] += diagonal[0][0];
        diagonal[0] = shift_lanes(diagonal[0], diagonal[1]);
        diagonal[1] = shift_lanes(diagonal[1], (vec_t){0});
    }
    weir_real_t *rest = task->d_position + ((ptrdiff_t)tile->query - (ptrdiff_t)tile->key + 1);
    store(rest, load(rest) + diagonal[0]);
    store(rest + LANES, load(rest + LANES) + diagonal[1]);
}

static void weigh(const weir_attention_task_t *task, const tile_t *tile, weir_real_t *scores) {
    if (task->time == NULL) {
        weigh_tile(task, tile, TIME_OFF, scores);
    } else if (task->highest_bucket < 64) {
        weigh_tile(task, tile, TIME_BELOW_64, scores);
    } else {
        weigh_tile(task, tile, TIME_ALL, scores);
    }
}

static void differentiate(const weir_attention_task_t *task, const tile_t *tile,
                          weir_real_t *scores, weir_real_t *d_scores) {
    if (task->time == NULL) {
        differentiate_tile(task, tile, TIME_OFF, scores, d_scores);
    } else if (task->highest_bucket < 64) {
        differentiate_tile(task, tile, TIME_BELOW_64, scores, d_scores);
    } else {
        differentiate_tile(task, tile, TIME_ALL, scores, d_scores);
    }
}

void LEVEL_FUNCTION(weir_attention_forward_, WEIR_LEVEL)(const weir_attention_task_t *task) {
    pieces_t pieces = lay_out(task);
    size_t group = ATTENTION_GROUP * ATTENTION_PANEL;
    copy_rows(task->k, task->z_width, task->length, task->dqk, 1, pieces.k_rows, task->dqk, false);
    copy_rows(task->v, task->z_width, task->length, task->dv, task->scale, pieces.v_rows, task->dv,
              false);
    round_operand(task, pieces.k_rows, task->length * task->dqk);
    round_operand(task, pieces.v_rows, task->length * task->dv);
    for (size_t begin = 0; begin < task->length; begin += group) {
        size_t end = smaller(task->length, begin + group);
        memset(pieces.y, 0, group * task->dv * sizeof *pieces.y);
        for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
            pack_panel(task->q + query * task->z_width, task->z_width,
                       smaller(ATTENTION_PANEL, end - query), task->dqk,
                       pieces.q_columns + (query - begin) * task->dqk);
        }
        round_operand(task, pieces.q_columns,
                      weir_attention_padded(end - begin, ATTENTION_PANEL) * task->dqk);
        for (size_t key = 0; key < end; key += ATTENTION_KEYS) {
            for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
                tile_t tile = make_tile(task, &pieces, query, key);
                if (tile.rows == 0) {
                    continue;
                }
                multiply_scores(&tile, task->dqk, pieces.k_rows + key * task->dqk,
                                pieces.q_columns + (query - begin) * task->dqk, pieces.scores);
                weigh(task, &tile, pieces.scores);
                round_operand(task, pieces.scores, tile.rows * ATTENTION_PANEL);
                multiply_queries(&tile, task->dv, pieces.v_rows + key * task->dv, pieces.scores,
                                 pieces.y + (query - begin) * task->dv);
            }
        }
        for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
            transpose(pieces.y + (query - begin) * task->dv, ATTENTION_PANEL, task->dv,
                      smaller(ATTENTION_PANEL, end - query), task->y + query * task->y_width,
                      task->y_width, false);
        }
    }
}

/* Queries and their d_y of the panels [begin, end), both ways round. */
static void pack_group(const weir_attention_task_t *task, const pieces_t *pieces, size_t begin,
                       size_t end) {
    size_t group = ATTENTION_GROUP * ATTENTION_PANEL;
    memset(pieces->d_q, 0, group * task->dqk * sizeof *pieces->d_q);
    copy_rows(task->q + begin * task->z_width, task->z_width, end - begin, task->dqk, 1,
              pieces->q_rows, pieces->dqk_padded, true);
    copy_rows(task->d_y + begin * task->y_width, task->y_width, end - begin, task->dv, task->scale,
              pieces->d_y_rows, pieces->dv_padded, true);
    round_operand(task, pieces->q_rows, (end - begin) * pieces->dqk_padded);
    round_operand(task, pieces->d_y_rows, (end - begin) * pieces->dv_padded);
    for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
        size_t count = smaller(ATTENTION_PANEL, end - query), at = query - begin;
        pack_panel(pieces->q_rows + at * pieces->dqk_padded, pieces->dqk_padded, count, task->dqk,
                   pieces->q_columns + at * task->dqk);
        pack_panel(pieces->d_y_rows + at * pieces->dv_padded, pieces->dv_padded, count, task->dv,
                   pieces->y + at * task->dv);
    }
}

/* All that the pairs of one tile add to the gradients. */
static void backward_tile(const weir_attention_task_t *task, const pieces_t *pieces,
                          const tile_t *tile, size_t at) {
    multiply_scores(tile, task->dqk, pieces->k_rows + tile->key * task->dqk,
                    pieces->q_columns + at * task->dqk, pieces->scores);
    multiply_scores(tile, task->dv, pieces->v_rows + tile->key * task->dv,
                    pieces->y + at * task->dv, pieces->d_scores);
    differentiate(task, tile, pieces->scores, pieces->d_scores);
    round_operand(task, pieces->scores, tile->rows * ATTENTION_PANEL);
    round_operand(task, pieces->d_scores, tile->rows * ATTENTION_PANEL);
    multiply_keys(tile, pieces->dv_padded, pieces->scores,
                  pieces->d_y_rows + at * pieces->dv_padded,
                  pieces->d_v + tile->key * pieces->dv_padded);
    multiply_keys(tile, pieces->dqk_padded, pieces->d_scores,
                  pieces->q_rows + at * pieces->dqk_padded,
                  pieces->d_k + tile->key * pieces->dqk_padded);
    multiply_queries(tile, task->dqk, pieces->k_rows + tile->key * task->dqk, pieces->d_scores,
                     pieces->d_q + at * task->dqk);
}

void LEVEL_FUNCTION(weir_attention_backward_, WEIR_LEVEL)(const weir_attention_task_t *task) {
    pieces_t pieces = lay_out(task);
    size_t group = ATTENTION_GROUP * ATTENTION_PANEL;
    copy_rows(task->k, task->z_width, task->length, task->dqk, 1, pieces.k_rows, task->dqk, false);
    copy_rows(task->v, task->z_width, task->length, task->dv, 1, pieces.v_rows, task->dv, false);
    round_operand(task, pieces.k_rows, task->length * task->dqk);
    round_operand(task, pieces.v_rows, task->length * task->dv);
    memset(pieces.d_k, 0, task->length * pieces.dqk_padded * sizeof *pieces.d_k);
    memset(pieces.d_v, 0, task->length * pieces.dv_padded * sizeof *pieces.d_v);
    for (size_t begin = 0; begin < task->length; begin += group) {
        size_t end = smaller(task->length, begin + group);
        pack_group(task, &pieces, begin, end);
        for (size_t key = 0; key < end; key += ATTENTION_KEYS) {
            for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
                tile_t tile = make_tile(task, &pieces, query, key);
                if (tile.rows > 0) {
                    backward_tile(task, &pieces, &tile, query - begin);
                }
            }
        }
        for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
            transpose(pieces.d_q + (query - begin) * task->dqk, ATTENTION_PANEL, task->dqk,
                      smaller(ATTENTION_PANEL, end - query), task->d_q + query * task->z_width,
                      task->z_width, false);
        }
    }
    copy_rows(pieces.d_k, pieces.dqk_padded, task->length, task->dqk, 1, task->d_k, task->z_width,
              false);
    copy_rows(pieces.d_v, pieces.dv_padded, task->length, task->dv, 1, task->d_v, task->z_width,
              false);
}
