/* The production layer of generative recommenders, stacked: forward and backward over a ragged
 * batch with contextual tokens, history and targets (Zhai et al., ICML 2024, section 3; the
 * authors' later layer; exact form in docs/model.md, "The production layer").
 *
 *   n = layer_norm(x) * s1 + b1           [u v q k] = n W + beta          u <- silu(u)
 *   a_ij = silu(alpha <q_i, k_j>) / divisor for the j that i sees         o_i = sum_j a_ij v_j
 *   y = u * (layer_norm(o) * s2 + b2)     x <- x + dropout([u | o | y]) Wo
 *
 * B users, T tokens (ragged), D width, H heads, P = 2 H dv + 2 H dqk. No biases of attention: place
 * and time are in x. Matrices are row-major. This file is compiled for float32 and float64. */
#ifndef WEIR_WORKER_STU_H
#define WEIR_WORKER_STU_H

#include "common/error.h"
#include "common/real.h"
#include "worker/hstu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t embedding_dim; /* D */
    size_t blocks;
    size_t heads;
    size_t dqk, dv;     /* per head */
    size_t max_tokens;  /* of a user: contextual, history and targets */
    double divisor;     /* of attention; 0: max_tokens */
    double score_scale; /* alpha; 0: 1 / sqrt(dqk) */
    size_t contextual;  /* tokens at the beginning of each user's */
    size_t window;      /* a token of the history or a target sees so many before it at the most,
                           and contextual ones within them; 0: all */
    size_t full_at_end; /* so many of the last tokens before the targets, and the targets, see all
                           whatever the window; 0: none */
    double dropout;     /* of [u | o | y], in [0, 1) */
    bool bf16;          /* operands of products rounded (worker/bf16.h); float32 build only */
} weir_stu_config_t;

/* Per layer: input_norm_weight D, input_norm_bias D, uvqk D x P, uvqk_bias P, output_norm_weight
 * H dv, output_norm_bias H dv, output_weight 3 H dv x D. Names "layer.0.uvqk" and so on. Offsets
 * count from the first layer's first. */
size_t weir_stu_parameter_count(const weir_stu_config_t *config);
size_t weir_stu_parameter_elements(const weir_stu_config_t *config);
weir_parameter_t weir_stu_parameter(const weir_stu_config_t *config, size_t index);

/* Token i of user b is row offsets[b] + i: first the contextual ones, at last the targets. */
typedef struct {
    size_t users, tokens;
    const size_t *offsets;         /* B + 1, from 0 to T */
    const uint32_t *targets;       /* B: how many of the user's tokens are targets; NULL: none */
    const uint32_t *global_tokens; /* T: coordinate of dropout; NULL: row number */
} weir_stu_batch_t;

/* What the tokens of one user see beside themselves (weir_visible_t), `length` of them, of which
 * the last `targets` are targets. A target sees no other target. contextual + targets <= length. */
void weir_stu_visible(const weir_stu_config_t *config, size_t length, size_t targets,
                      weir_visible_t *visible);

/* Workspace and saved activations; grows to the largest batch seen. */
typedef struct weir_stu weir_stu_t;

/* Side effect: the BLAS of the process is switched to one thread. Errors: a configuration out of
 * range, out of memory, unknown WEIR_KERNELS. */
WEIR_MUST_USE weir_err_t weir_stu_create(const weir_stu_config_t *config, weir_stu_t **stu,
                                         weir_error_t *error);
void weir_stu_destroy(weir_stu_t *stu);

/* x: T x D; `out` T x D: x after the last layer. Keeps what backward needs; `parameters` and the
 * arrays of the batch must stay until then. Errors: offsets that do not ascend, a user with more
 * than max_tokens or fewer than contextual + targets tokens, out of memory. Call: local. */
WEIR_MUST_USE weir_err_t weir_stu_forward(weir_stu_t *stu, const weir_real_t *parameters,
                                          const weir_stu_batch_t *batch, const weir_real_t *x,
                                          weir_forward_mode_t mode, weir_real_t *out,
                                          weir_error_t *error);

/* Backward of the last forward. `d_out`, `d_x` T x D, may be the same; `d_parameters` flat,
 * overwritten. `ready` as in worker/hstu.h: the last layer first. Sums run in a fixed order. */
WEIR_MUST_USE weir_err_t weir_stu_backward(weir_stu_t *stu, const weir_real_t *d_out,
                                           weir_real_t *d_x, weir_real_t *d_parameters,
                                           weir_gradient_ready_t ready, void *argument,
                                           weir_error_t *error);

/* What attention gave in a layer of the last forward, T x H dv. For tests. */
const weir_real_t *weir_stu_attention_output(const weir_stu_t *stu, size_t layer);

#endif
