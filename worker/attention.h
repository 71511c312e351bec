/* HSTU attention over a ragged batch (Zhai et al., ICML 2024, section 3.2; docs/model.md).
 *
 *   s_ij = <q_i, k_j> + pos[N-1 + j - i] + time[bucket(t_{i+1} - t_j)]
 *   a_ij = silu(s_ij) / N  for j <= i, else 0            y_i = sum_j a_ij v_j
 *
 * per user and head; the two bias tables are shared by the heads. Without them q and k may be
 * scaled (alpha <q_i, k_j>), N be any number, and the batch say which pairs there are
 * (docs/model.md, the production layer). T tokens, H heads, dqk and dv per head, N attention
 * length. u, v, q, k stand in one matrix z, T x (2 H dv + 2 H dqk), in this order, the heads side
 * by side within each.
 *
 * The scores are never stored: forward and backward work on tiles, backward computes them again.
 * The buckets of a batch are the same for all layers, heads and both directions, so they are
 * prepared once per batch and kept as bytes as far as `bucket_memory` goes, computed tile by tile
 * beyond. */
#ifndef WEIR_WORKER_ATTENTION_H
#define WEIR_WORKER_ATTENTION_H

#include "common/error.h"
#include "common/real.h"
#include "worker/hstu.h"
#include "worker/kernels.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    size_t heads;
    size_t dqk, dv;          /* per head */
    size_t attention_length; /* N: at least the longest history */
    bool position_bias, time_bias;
    bool softmax;         /* a_ij = e^t_ij / sum over j' <= i of e^t_ij', t = s / sqrt(dqk), in the
                             place of silu(s) / N; no list of visible tokens */
    bool bf16;            /* operands of the products in bfloat16 (worker/bf16.h) */
    double score_scale;   /* alpha; 0: 1 */
    double divisor;       /* in the place of N; 0: N */
    size_t bucket_memory; /* bytes that prepared buckets may take; 0: 64 MiB */
} weir_attention_config_t;

/* What one layer's attention reads. */
typedef struct {
    const weir_real_t *z;             /* T x (2 H dv + 2 H dqk), SiLU applied */
    const weir_real_t *position_bias; /* 2 N - 1; not read when position_bias is off */
    const weir_real_t *time_bias;     /* 129; not read when time_bias is off */
} weir_attention_input_t;

/* What backward gives. */
typedef struct {
    weir_real_t *d_z; /* as z: the columns of v, q, k are overwritten, those of u left */
    weir_real_t *d_position_bias; /* 2 N - 1, overwritten; zeros when off; may then be NULL */
    weir_real_t *d_time_bias;     /* 129, overwritten; zeros when off; may then be NULL */
} weir_attention_gradient_t;

/* Workspace of one thread and the buckets of the batch last prepared. */
typedef struct weir_attention weir_attention_t;

/* `kernels`: NULL: weir_kernels_select. Errors: no heads, dqk, dv or N; out of memory; those of
 * select. */
WEIR_MUST_USE weir_err_t weir_attention_create(const weir_attention_config_t *config,
                                               const weir_kernels_t *kernels,
                                               weir_attention_t **attention, weir_error_t *error);
void weir_attention_destroy(weir_attention_t *attention);

/* Compute buckets and make room for `batch`, which must stay until the last forward and backward on
 * it are done. Memory: O(longest user * (dqk + dv) + N) and the buckets; kept for the next batch.
 * Errors: a user with 0 events or more than N; `visible` with a bias, or beyond the user; out of
 * memory. Call: local. Threads: owner. */
WEIR_MUST_USE weir_err_t weir_attention_prepare(weir_attention_t *attention,
                                                const weir_sequence_batch_t *batch,
                                                weir_error_t *error);

/* Bytes of what the batch last prepared needs, buckets among them. */
size_t weir_attention_bytes(const weir_attention_t *attention);

/* y: T x (H dv), overwritten. The same bits on every run of one level. Call: local. Threads: owner.
 */
void weir_attention_forward(weir_attention_t *attention, const weir_attention_input_t *input,
                            weir_real_t *y);

/* Gradients from d_y, T x (H dv), with the input that forward had. Sums run in a fixed order.
 * Call: local. Threads: owner. */
void weir_attention_backward(weir_attention_t *attention, const weir_attention_input_t *input,
                             const weir_real_t *d_y, const weir_attention_gradient_t *gradient);

/* The oracles, in plain loops, by the formulas above; same contracts, no object. */
void weir_attention_forward_naive(const weir_attention_config_t *config,
                                  const weir_sequence_batch_t *batch,
                                  const weir_attention_input_t *input, weir_real_t *y);
void weir_attention_backward_naive(const weir_attention_config_t *config,
                                   const weir_sequence_batch_t *batch,
                                   const weir_attention_input_t *input, const weir_real_t *d_y,
                                   const weir_attention_gradient_t *gradient);

#endif
