/* The HSTU encoder: forward and backward over a ragged batch (Zhai et al., ICML 2024, section 3.2
 * and equations 1-3; exact form in docs/model.md).
 *
 * B users, T tokens (sum of the users' history lengths, never padded), D width, H heads, dqk and dv
 * per head, N attention length. Matrices are row-major. This file is compiled for float32 and
 * float64. */
#ifndef WEIR_WORKER_HSTU_H
#define WEIR_WORKER_HSTU_H

#include "common/error.h"
#include "common/real.h"
#include "worker/encoder.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef weir_encoder_config_t weir_hstu_config_t;           /* kind: WEIR_ENCODER_HSTU */
typedef weir_encoder_activations_t weir_hstu_activations_t; /* of a forward */

enum { WEIR_HSTU_TIME_BUCKETS = 129 };

/* HSTU behind worker/encoder.h. */
extern const weir_encoder_methods_t weir_hstu_methods;

/* position_embedding N x D; per layer: uvqk D x (2 H dv + 2 H dqk), time_bias 129, position_bias
 * 2N-1, output_weight (H dv) x D (the transpose of the fixtures'), output_bias D. Both bias tables
 * are always there; one that is switched off gets no gradient. */
size_t weir_hstu_parameter_count(const weir_hstu_config_t *config);    /* named parameters */
size_t weir_hstu_parameter_elements(const weir_hstu_config_t *config); /* of the flat buffer */
/* index < parameter_count. */
weir_parameter_t weir_hstu_parameter(const weir_hstu_config_t *config, size_t index);
/* Initial values of all, a pure function of the seed, the same in both precisions to rounding. */
void weir_hstu_initialise(const weir_hstu_config_t *config, uint64_t seed, weir_real_t *parameters);

/* Workspace and saved activations of one thread; grows to the largest batch seen and keeps it. */
typedef struct weir_hstu weir_hstu_t;

/* Side effect: the BLAS of the process is switched to one thread. Errors: a configuration out of
 * range, out of memory, unknown WEIR_KERNELS. */
WEIR_MUST_USE weir_err_t weir_hstu_create(const weir_hstu_config_t *config, weir_hstu_t **hstu,
                                          weir_error_t *error);
void weir_hstu_destroy(weir_hstu_t *hstu);

/* Let the activations of a batch take `bytes` at the most, as far as one user needs no more; 0, as
 * after create: no limit. Beyond it layers are computed again in backward, with the same bits as
 * without a limit; and when that is not enough, users go through forward and backward in groups,
 * with the same results to the rounding of sums over the groups (worker/hstu_memory.h). */
void weir_hstu_limit_activations(weir_hstu_t *hstu, size_t bytes);

/* What the last forward did. */
weir_hstu_activations_t weir_hstu_activations(const weir_hstu_t *hstu);

/* Encode. `items`: T x D, the table rows E[item_i] (not scaled; the encoder multiplies by sqrt(D)).
 * `encoded`: T x D, rows of L2 norm 1. Keeps what backward needs. Users are independent: the result
 * of a user does not depend on who else is in the batch (to rounding of the projections). Errors: a
 * user with 0 or more than max_sequence_length events, out of memory. Call: local. */
WEIR_MUST_USE weir_err_t weir_hstu_forward(weir_hstu_t *hstu, const weir_real_t *parameters,
                                           const weir_sequence_batch_t *batch,
                                           const weir_real_t *items, weir_forward_mode_t mode,
                                           weir_real_t *encoded, weir_error_t *error);

/* Gradients are ready the last layer first, position_embedding last.
 * Backward of the last forward with train or not, same parameters, batch and mode; the arrays of
 * the batch and `items` are still those of the forward.
 * `d_encoded` T x D in; `d_items` T x D out (gradient of `items`, overwritten); `d_parameters`
 * flat, overwritten. Sums run in a fixed order: the same bits on every run. */
WEIR_MUST_USE weir_err_t weir_hstu_backward(weir_hstu_t *hstu, const weir_real_t *parameters,
                                            const weir_real_t *d_encoded, weir_real_t *d_items,
                                            weir_real_t *d_parameters, weir_gradient_ready_t ready,
                                            void *argument, weir_error_t *error);

/* Gradient of the batch's user_rows, of the last backward: for each user the sum over its tokens,
 * in their order; zeros of a batch without them. `d_user_rows` B x D, overwritten. Call: local,
 * after backward and before the next forward. */
void weir_hstu_user_gradients(const weir_hstu_t *hstu, weir_real_t *d_user_rows);

/* Time bucket of a difference in seconds (docs/model.md): compared with a table of integers. 0 ..
 * 128. */
uint32_t weir_time_bucket(int64_t difference);

#endif
