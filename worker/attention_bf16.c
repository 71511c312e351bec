/* Attention of one user and head with bfloat16 operands: the tiles of worker/attention_level.c, the
 * products of worker/bf16_tile.h. Scores and all sums are float32. Depth comes in pairs:
 *
 *   product                   depth     its operands
 *   S^T = K Q^T               dqk       k_rows, q_columns
 *   Y^T += V^T A^T            keys      v_pairs, tile_pairs
 *   dA^T = V dY^T             dv        v_rows, d_y_columns
 *   dV += A^T dY              queries   tile_rows, d_y_pairs
 *   dK += dS^T Q              queries   d_tile_rows, q_pairs
 *   dQ^T += K^T dS^T          keys      k_pairs, tile_pairs
 *
 * Compiled once for AVX512_BF16 and once for AMX, whose tiles take the first operand in rows of
 * pairs: k_pairs and v_pairs are turned there, in blocks of ATTENTION_KEYS keys [dqk or dv][keys /
 * 2]. */
#include "worker/attention_task.h"
#include "worker/attention_weigh.h"
#include "worker/bf16.h"
#include "worker/bf16_tile.h"

#ifdef WEIR_AMX
#define BF16_NAME(name) name##_amx
#else
#define BF16_NAME(name) name##_avx512
#endif

/* Memory of a task; [group]: one per panel of a group. dqk and dv in pairs are rounded up. */
typedef struct {
    pair_t *k_rows;                 /* [keys][dqk / 2] */
    pair_t *v_rows;                 /* [keys][dv / 2]; backward */
    pair_t *k_pairs;                /* [keys / 2][dqk padded]; backward */
    pair_t *v_pairs;                /* [keys / 2][dv padded], scaled; forward */
    pair_t *q_columns;              /* [group][dqk / 2][panel] */
    pair_t *q_pairs;                /* [group][panel / 2][dqk padded]; backward */
    pair_t *d_y_columns;            /* [group][dv / 2][panel], scaled; backward */
    pair_t *d_y_pairs;              /* [group][panel / 2][dv padded], scaled; backward */
    pair_t *turning;                /* [panel][dqk / 2 or dv / 2], [LANES][dqk or dv padded] */
    pair_t *tile_rows;              /* tile of A: [rows][panel / 2]; backward */
    pair_t *d_tile_rows;            /* tile of dS likewise; backward */
    pair_t *tile_pairs;             /* tile of A or dS: [rows / 2][panel] */
    weir_real_t *scores, *d_scores; /* tiles */
    weir_real_t *y;                 /* [group][dv][panel]; forward */
    weir_real_t *d_q;               /* [group][dqk][panel]; backward */
    weir_real_t *d_k;               /* [keys][dqk padded]; backward */
    weir_real_t *d_v;               /* [keys][dv padded]; backward */
    uint8_t *buckets;               /* tile, where they are not prepared */
    size_t k_wide, v_wide;          /* dqk / 2, dv / 2 */
    size_t dqk_padded, dv_padded;
} pieces_t;

static weir_real_t *take(weir_real_t **space, size_t count) {
    weir_real_t *piece = *space;
    *space += weir_attention_padded(count, LANES);
    return piece;
}

static pair_t *take_pairs(weir_real_t **space, size_t count) {
    return (pair_t *)(void *)take(space, count);
}

static pieces_t lay_out(const weir_attention_task_t *task) {
    weir_real_t *space = task->workspace;
    size_t keys = weir_attention_padded(task->length, ATTENTION_KEYS);
    size_t group = ATTENTION_GROUP * ATTENTION_PANEL, tile = ATTENTION_KEYS * ATTENTION_PANEL;
    pieces_t p = {.k_wide = pairs_of(task->dqk),
                  .v_wide = pairs_of(task->dv),
                  .dqk_padded = weir_attention_padded(task->dqk, LANES),
                  .dv_padded = weir_attention_padded(task->dv, LANES)};
    p.k_rows = take_pairs(&space, keys * p.k_wide);
    p.v_rows = take_pairs(&space, keys * p.v_wide);
    p.k_pairs = take_pairs(&space, keys / 2 * p.dqk_padded);
    p.v_pairs = take_pairs(&space, keys / 2 * p.dv_padded);
    p.d_k = take(&space, keys * p.dqk_padded);
    p.d_v = take(&space, keys * p.dv_padded);
    p.q_columns = take_pairs(&space, group * p.k_wide);
    p.q_pairs = take_pairs(&space, group / 2 * p.dqk_padded);
    p.d_y_columns = take_pairs(&space, group * p.v_wide);
    p.d_y_pairs = take_pairs(&space, group / 2 * p.dv_padded);
    p.turning =
        take_pairs(&space, LANES * (p.dqk_padded > p.dv_padded ? p.dqk_padded : p.dv_padded));
    p.y = take(&space, group * task->dv);
    p.d_q = take(&space, group * task->dqk);
    p.scores = take(&space, tile);
    p.d_scores = take(&space, tile);
    p.tile_rows = take_pairs(&space, tile / 2);
    p.d_tile_rows = take_pairs(&space, tile / 2);
    p.tile_pairs = take_pairs(&space, tile / 2);
    p.buckets = (uint8_t *)space;
    return p;
}

/* Transposed rows of a panel. */
static void pack_columns(const pieces_t *pieces, const weir_real_t *from, size_t from_row,
                         size_t queries, size_t width, weir_real_t scale, pair_t *to) {
    pack_rows(from, from_row, queries, width, scale, pieces->turning, pairs_of(width));
    turn_pairs(pieces->turning, pairs_of(width), queries, pairs_of(width), to, ATTENTION_PANEL);
}

/* Keys or values [keys][width] times `scale` to k_pairs or v_pairs. */
static void pack_keys(const pieces_t *pieces, const weir_real_t *from, size_t from_row, size_t keys,
                      size_t width, weir_real_t scale, pair_t *to) {
    size_t padded = weir_attention_padded(width, LANES);
    if (PAIRS_TAKE_COLUMNS) {
        pack_pairs(from, from_row, keys, width, scale, to, padded);
        return;
    }
    for (size_t key = 0; key < keys; key += 2 * LANES) {
        size_t count = smaller(2 * LANES, keys - key), block = key / ATTENTION_KEYS;
        pack_pairs(from + key * from_row, from_row, count, width, scale, pieces->turning, padded);
        turn_pairs(pieces->turning, padded, pairs_of(count), width,
                   to + block * (ATTENTION_KEYS / 2) * padded + key % ATTENTION_KEYS / 2,
                   ATTENTION_KEYS / 2);
    }
}

/* out (rows x panel) = key rows [rows][wide] times panel columns [wide][panel]. */
static void multiply_scores(const tile_t *tile, size_t wide, const pair_t *key_rows,
                            const pair_t *query_columns, weir_real_t *out) {
    if (tile->vectors == 2) {
        multiply_pair_panel(tile->whole, 2, wide, key_rows, wide, 1, query_columns, ATTENTION_PANEL,
                            out, ATTENTION_PANEL, false, false, 0);
    } else {
        multiply_pair_panel(tile->whole, 1, wide, key_rows, wide, 1, query_columns, ATTENTION_PANEL,
                            out, ATTENTION_PANEL, false, false, 0);
    }
    multiply_pair_panel(tile->rows - tile->whole, 1, wide, key_rows + tile->whole * wide, wide, 1,
                        query_columns + LANES, ATTENTION_PANEL,
                        out + tile->whole * ATTENTION_PANEL + LANES, ATTENTION_PANEL, false, false,
                        0);
}

/* out [width][panel] += a block of k_pairs or v_pairs, transposed, times tile_pairs. Rows beyond
 * `whole` begin at an even one. */
static void multiply_queries(const tile_t *tile, size_t width, size_t padded,
                             const pair_t *key_pairs, const pair_t *values, weir_real_t *out) {
    size_t whole = pairs_of(tile->whole), rows = pairs_of(tile->rows);
    size_t row = PAIRS_TAKE_COLUMNS ? 1 : ATTENTION_KEYS / 2;
    size_t step = PAIRS_TAKE_COLUMNS ? padded : 1;
    if (tile->vectors == 2) {
        multiply_pair_panel(width, 2, whole, key_pairs, row, step, values, ATTENTION_PANEL, out,
                            ATTENTION_PANEL, true, false, 0);
    } else {
        multiply_pair_panel(width, 1, whole, key_pairs, row, step, values, ATTENTION_PANEL, out,
                            ATTENTION_PANEL, true, false, 0);
    }
    if (rows > whole) {
        multiply_pair_panel(width, 1, rows - whole, key_pairs + whole * step, row, step,
                            values + whole * ATTENTION_PANEL + LANES, ATTENTION_PANEL, out + LANES,
                            ATTENTION_PANEL, true, false, 0);
    }
}

/* out [rows][padded] += rows of the tile times pairs of queries [queries / 2][padded]. */
static void multiply_key_rows(size_t rows, size_t padded, size_t queries, const pair_t *values,
                              const pair_t *query_pairs, weir_real_t *out) {
    size_t column = 0, depth = pairs_of(queries), row = ATTENTION_PANEL / 2;
    for (; column + 2 * LANES <= padded; column += 2 * LANES) {
        multiply_pair_panel(rows, 2, depth, values, row, 1, query_pairs + column, padded,
                            out + column, padded, true, false, 0);
    }
    if (column < padded) {
        multiply_pair_panel(rows, 1, depth, values, row, 1, query_pairs + column, padded,
                            out + column, padded, true, false, 0);
    }
}

static void multiply_keys(const tile_t *tile, size_t padded, const pair_t *values,
                          const pair_t *query_pairs, weir_real_t *out) {
    multiply_key_rows(tile->whole, padded, tile->queries, values, query_pairs, out);
    if (tile->rows > tile->whole) {
        multiply_key_rows(tile->rows - tile->whole, padded, tile->queries - LANES,
                          values + tile->whole * (ATTENTION_PANEL / 2) + LANES / 2,
                          query_pairs + LANES / 2 * padded, out + tile->whole * padded);
    }
}

/* A tile with the pairs along the keys; a zero beside an odd last row. */
static void pair_keys(const tile_t *tile, const weir_real_t *values, pair_t *to) {
    for (size_t r = 0; r < tile->rows; r += 2, to += ATTENTION_PANEL) {
        const weir_real_t *even = values + r * ATTENTION_PANEL, *odd = even + ATTENTION_PANEL;
        bool two = r + 1 < tile->rows;
        WEIR_UNROLL
        for (size_t v = 0; v < 2; v++) {
            vec_t second = two ? load(odd + v * LANES) : (vec_t){0};
            _mm512_storeu_si512(to + v * LANES, round_pairs(load(even + v * LANES), second));
        }
    }
}

/* And along the queries. */
static void pair_queries(const tile_t *tile, const weir_real_t *values, pair_t *to) {
    for (size_t r = 0; r < tile->rows; r++, values += ATTENTION_PANEL, to += ATTENTION_PANEL / 2) {
        _mm512_storeu_si512(to, round_run(load(values), load(values + LANES)));
    }
}

void BF16_NAME(weir_attention_forward_bf16)(const weir_attention_task_t *task) {
    pieces_t pieces = lay_out(task);
    size_t group = ATTENTION_GROUP * ATTENTION_PANEL;
    pack_rows(task->k, task->z_width, task->length, task->dqk, task->score_scale, pieces.k_rows,
              pieces.k_wide);
    pack_keys(&pieces, task->v, task->z_width, task->length, task->dv, task->scale, pieces.v_pairs);
    for (size_t begin = 0; begin < task->length; begin += group) {
        size_t end = smaller(task->length, begin + group);
        memset(pieces.y, 0, group * task->dv * sizeof *pieces.y);
        for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
            pack_columns(&pieces, task->q + query * task->z_width, task->z_width,
                         smaller(ATTENTION_PANEL, end - query), task->dqk, 1,
                         pieces.q_columns + (query - begin) * pieces.k_wide);
        }
        for (size_t key = 0; key < keys_end(task, end); key += ATTENTION_KEYS) {
            for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
                tile_t tile = make_tile(task, pieces.buckets, query, key);
                if (tile.rows == 0) {
                    continue;
                }
                multiply_scores(&tile, pieces.k_wide, pieces.k_rows + key * pieces.k_wide,
                                pieces.q_columns + (query - begin) * pieces.k_wide, pieces.scores);
                weigh(task, &tile, pieces.scores);
                pair_keys(&tile, pieces.scores, pieces.tile_pairs);
                multiply_queries(&tile, task->dv, pieces.dv_padded,
                                 pieces.v_pairs + key / 2 * pieces.dv_padded, pieces.tile_pairs,
                                 pieces.y + (query - begin) * task->dv);
            }
        }
        for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
            transpose(pieces.y + (query - begin) * task->dv, ATTENTION_PANEL, task->dv,
                      smaller(ATTENTION_PANEL, end - query), task->y + query * task->y_width,
                      task->y_width, false);
        }
    }
    end_pair_products();
}

/* Queries and their d_y of the panels [begin, end), both ways round. */
static void pack_group(const weir_attention_task_t *task, const pieces_t *pieces, size_t begin,
                       size_t end) {
    size_t group = ATTENTION_GROUP * ATTENTION_PANEL;
    memset(pieces->d_q, 0, group * task->dqk * sizeof *pieces->d_q);
    pack_pairs(task->q + begin * task->z_width, task->z_width, end - begin, task->dqk, 1,
               pieces->q_pairs, pieces->dqk_padded);
    pack_pairs(task->d_y + begin * task->y_width, task->y_width, end - begin, task->dv, task->scale,
               pieces->d_y_pairs, pieces->dv_padded);
    for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
        size_t count = smaller(ATTENTION_PANEL, end - query), at = query - begin;
        pack_columns(pieces, task->q + query * task->z_width, task->z_width, count, task->dqk, 1,
                     pieces->q_columns + at * pieces->k_wide);
        pack_columns(pieces, task->d_y + query * task->y_width, task->y_width, count, task->dv,
                     task->scale, pieces->d_y_columns + at * pieces->v_wide);
    }
}

/* All that the pairs of one tile add to the gradients. */
static void backward_tile(const weir_attention_task_t *task, const pieces_t *p, const tile_t *tile,
                          size_t at) {
    size_t key = tile->key;
    multiply_scores(tile, p->k_wide, p->k_rows + key * p->k_wide, p->q_columns + at * p->k_wide,
                    p->scores);
    multiply_scores(tile, p->v_wide, p->v_rows + key * p->v_wide, p->d_y_columns + at * p->v_wide,
                    p->d_scores);
    differentiate(task, tile, p->scores, p->d_scores);
    pair_queries(tile, p->scores, p->tile_rows);
    multiply_keys(tile, p->dv_padded, p->tile_rows, p->d_y_pairs + at / 2 * p->dv_padded,
                  p->d_v + key * p->dv_padded);
    pair_queries(tile, p->d_scores, p->d_tile_rows);
    multiply_keys(tile, p->dqk_padded, p->d_tile_rows, p->q_pairs + at / 2 * p->dqk_padded,
                  p->d_k + key * p->dqk_padded);
    pair_keys(tile, p->d_scores, p->tile_pairs);
    multiply_queries(tile, task->dqk, p->dqk_padded, p->k_pairs + key / 2 * p->dqk_padded,
                     p->tile_pairs, p->d_q + at * task->dqk);
}

/* Sums of `width` columns, `from_row` apart, times `scale` to where they belong. */
static void put_rows(const weir_real_t *from, size_t from_row, size_t rows, size_t width,
                     weir_real_t scale, weir_real_t *to, size_t to_row) {
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < width; c++) {
            to[r * to_row + c] = from[r * from_row + c] * scale;
        }
    }
}

void BF16_NAME(weir_attention_backward_bf16)(const weir_attention_task_t *task) {
    pieces_t pieces = lay_out(task);
    size_t group = ATTENTION_GROUP * ATTENTION_PANEL;
    pack_rows(task->k, task->z_width, task->length, task->dqk, task->score_scale, pieces.k_rows,
              pieces.k_wide);
    pack_rows(task->v, task->z_width, task->length, task->dv, 1, pieces.v_rows, pieces.v_wide);
    pack_keys(&pieces, task->k, task->z_width, task->length, task->dqk, task->score_scale,
              pieces.k_pairs);
    memset(pieces.d_k, 0, task->length * pieces.dqk_padded * sizeof *pieces.d_k);
    memset(pieces.d_v, 0, task->length * pieces.dv_padded * sizeof *pieces.d_v);
    for (size_t begin = 0; begin < task->length; begin += group) {
        size_t end = smaller(task->length, begin + group);
        pack_group(task, &pieces, begin, end);
        for (size_t key = 0; key < keys_end(task, end); key += ATTENTION_KEYS) {
            for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
                tile_t tile = make_tile(task, pieces.buckets, query, key);
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
    put_rows(pieces.d_k, pieces.dqk_padded, task->length, task->dqk, task->score_scale, task->d_k,
             task->z_width);
    put_rows(pieces.d_v, pieces.dv_padded, task->length, task->dv, 1, task->d_v, task->z_width);
    end_pair_products();
}
