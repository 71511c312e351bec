/* Softmax attention over a ragged batch (Vaswani et al., 2017, equation 1):
 *
 *   s_ij = scale <q_i, k_j>     a_ij = e^s_ij / sum over the j' that i sees of e^s_ij'
 *   y_i  = sum_j dropout(a_ij) v_j
 *
 * per user and head; a token sees itself and those before it, or all of its user's. T tokens, H
 * heads, dqk and dv per head; heads side by side within a row.
 *
 * Scores are never stored: forward streams over tiles of keys with a running maximum and sum
 * (Milakov, Gimelshein, 2018), and keeps one number a row, log(sum e^s); backward computes tiles
 * again from it (Dao et al., 2022). Users and heads are independent tasks. This file is compiled
 * for float32 and float64. */
#ifndef WEIR_WORKER_SOFTMAX_ATTENTION_H
#define WEIR_WORKER_SOFTMAX_ATTENTION_H

#include "common/error.h"
#include "common/real.h"
#include "worker/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t heads;
    size_t dqk, dv; /* per head */
    double scale;   /* of the scores */
    bool both_ways; /* a token sees those after it too */
    bool bf16;      /* operands of products rounded (worker/bf16.h); float32 build only */
} weir_softmax_config_t;

/* Queries [query, query + queries) of the user against its keys [key, key + keys); scores stand
 * WEIR_SOFTMAX_TILE apart. A causal tile has pairs that are not seen: what stands there is anything
 * before the softmax, and 0 in a gradient. */
enum { WEIR_SOFTMAX_TILE = 64 };
typedef struct {
    size_t query, queries, key, keys;
} weir_softmax_tile_t;

/* What one layer's attention reads; rows are q_row and so on apart. */
typedef struct {
    size_t users;          /* B */
    const size_t *offsets; /* B + 1, from 0 to T */
    const weir_real_t *q, *k, *v;
    size_t q_row, k_row, v_row;
    /* dropout of a: at site (layer, head, tile of keys), token of the query, key in the tile */
    bool drop;
    uint64_t seed, step;
    uint32_t layer;
    double dropout;
    const uint32_t *global_tokens; /* T */
    /* Terms of the scores beside <q, k>, before the scale, and what takes their gradients, of the
     * pair that is run; NULL: none. */
    void (*add_bias)(const void *argument, const weir_softmax_tile_t *tile, weir_real_t *scores);
    void (*take_bias)(const void *argument, const weir_softmax_tile_t *tile,
                      const weir_real_t *d_scores);
    const void *argument;
} weir_softmax_input_t;

/* Workspace of the threads; owned by one thread. */
typedef struct weir_softmax_attention weir_softmax_attention_t;

/* `kernels` must outlive it. Errors: no heads, dqk or dv; out of memory. */
WEIR_MUST_USE weir_err_t weir_softmax_attention_create(const weir_softmax_config_t *config,
                                                       const weir_kernels_t *kernels,
                                                       weir_softmax_attention_t **attention,
                                                       weir_error_t *error);
void weir_softmax_attention_destroy(weir_softmax_attention_t *attention);

/* Room for as many threads as there are. Call: local, before forward and backward of a batch. */
WEIR_MUST_USE weir_err_t weir_softmax_attention_prepare(weir_softmax_attention_t *attention,
                                                        weir_error_t *error);

/* y: T x (H dv), overwritten; logs: T x H, log(sum e^s), for backward. The same bits on every run
 * of one level, for any number of threads. */
void weir_softmax_attention_forward(weir_softmax_attention_t *attention,
                                    const weir_softmax_input_t *input, weir_real_t *y,
                                    weir_real_t *logs);

/* The same of one user and head alone, pair = user x heads + head, on the memory of a thread. */
void weir_softmax_attention_forward_pair(const weir_softmax_attention_t *attention,
                                         const weir_softmax_input_t *input, size_t pair,
                                         uint32_t thread, weir_real_t *y, weir_real_t *logs);

/* From d_y, T x (H dv), with y and logs of forward: d_q, d_k, d_v, overwritten, rows apart as q, k,
 * v. */
typedef struct {
    const weir_real_t *y, *logs, *d_y;
    weir_real_t *d_q, *d_k, *d_v;
} weir_softmax_gradient_t;
void weir_softmax_attention_backward(weir_softmax_attention_t *attention,
                                     const weir_softmax_input_t *input,
                                     const weir_softmax_gradient_t *gradient);
void weir_softmax_attention_backward_pair(const weir_softmax_attention_t *attention,
                                          const weir_softmax_input_t *input, size_t pair,
                                          uint32_t thread, const weir_softmax_gradient_t *gradient);

#endif
