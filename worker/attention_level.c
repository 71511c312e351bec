/* Attention of one user and head, compiled once per level (WEIR_LEVEL). worker/attention_task.h
 * says what tiles and panels are; as matrices, with queries along the vectors:
 *
 *   S^T = K Q^T             A^T = silu(S^T + biases) / N           Y^T += V^T A^T
 *   dA^T = V dY^T           dS^T = dA^T * silu'(S^T + biases) / N
 *   dV += A^T dY            dK += dS^T Q                           dQ^T += K^T dS^T */
#include "worker/attention_task.h"
#include "worker/attention_tile.h"
#include "worker/attention_weigh.h"
#include "worker/bf16.h"
#include "worker/kernels_vector.h"

#define JOIN_NAMES(a, b) a##b
#define LEVEL_FUNCTION(prefix, level) JOIN_NAMES(prefix, level)

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

void LEVEL_FUNCTION(weir_attention_forward_, WEIR_LEVEL)(const weir_attention_task_t *task) {
    pieces_t pieces = lay_out(task);
    size_t group = ATTENTION_GROUP * ATTENTION_PANEL;
    copy_rows(task->k, task->z_width, task->length, task->dqk, task->score_scale, pieces.k_rows,
              task->dqk, false);
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
        for (size_t key = 0; key < keys_end(task, end); key += ATTENTION_KEYS) {
            for (size_t query = begin; query < end; query += ATTENTION_PANEL) {
                tile_t tile = make_tile(task, pieces.buckets, query, key);
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
    copy_rows(task->k, task->z_width, task->length, task->dqk, task->score_scale, pieces.k_rows,
              task->dqk, false);
    copy_rows(task->v, task->z_width, task->length, task->dv, 1, pieces.v_rows, task->dv, false);
    round_operand(task, pieces.k_rows, task->length * task->dqk);
    round_operand(task, pieces.v_rows, task->length * task->dv);
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
    copy_rows(pieces.d_k, pieces.dqk_padded, task->length, task->dqk, task->score_scale, task->d_k,
              task->z_width, false);
    copy_rows(pieces.d_v, pieces.dv_padded, task->length, task->dv, 1, task->d_v, task->z_width,
              false);
}
