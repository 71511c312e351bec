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
#include "common/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t embedding_dim; /* D */
    size_t blocks;
    size_t heads;                        /* H */
    size_t dqk, dv;                      /* per head */
    size_t max_sequence_length;          /* longest history */
    size_t attention_length;             /* N = max_sequence_length + output_length */
    double input_dropout, layer_dropout; /* probabilities in [0, 1) */
    bool position_bias, time_bias;       /* terms of the attention score; both true in the paper */
    bool bf16;                           /* projections and attention take operands in bfloat16 and
                                            sum in float32 (worker/bf16.h); float32 build only */
} weir_hstu_config_t;

enum { WEIR_HSTU_TIME_BUCKETS = 129 };

typedef enum {
    WEIR_INIT_NORMAL,         /* sigma in `scale` */
    WEIR_INIT_XAVIER_UNIFORM, /* bound sqrt(6 / (rows + cols)) */
    WEIR_INIT_UNIFORM,        /* bound in `scale` */
    WEIR_INIT_CONSTANT        /* `scale` itself */
} weir_init_t;

/* One named parameter in the flat dense buffer. */
typedef struct {
    char name[48];     /* "position_embedding", "layer.0.uvqk", ".time_bias", ".position_bias",
                          ".output_weight", ".output_bias" */
    size_t offset;     /* elements from the start of the buffer */
    size_t rows, cols; /* cols = 1 for a vector */
    weir_init_t init;
    double scale;
} weir_parameter_t;

/* position_embedding N x D; per layer: uvqk D x (2 H dv + 2 H dqk), time_bias 129, position_bias
 * 2N-1, output_weight (H dv) x D (the transpose of the fixtures'), output_bias D. Both bias tables
 * are always there; one that is switched off gets no gradient. */
size_t weir_hstu_parameter_count(const weir_hstu_config_t *config);    /* named parameters */
size_t weir_hstu_parameter_elements(const weir_hstu_config_t *config); /* of the flat buffer */
/* index < parameter_count. */
weir_parameter_t weir_hstu_parameter(const weir_hstu_config_t *config, size_t index);
/* Initial values of all, a pure function of the seed, the same in both precisions to rounding. */
void weir_hstu_initialise(const weir_hstu_config_t *config, uint64_t seed, weir_real_t *parameters);

/* Which tokens of its user a token sees beside itself: [first, end), by their number in the user.
 */
typedef struct {
    uint32_t first, end;
} weir_visible_t;

/* A batch as the encoder sees it. Token i of user b is row offsets[b] + i. */
typedef struct {
    size_t users;                  /* B */
    size_t tokens;                 /* T */
    const size_t *offsets;         /* B + 1, from 0 to T */
    const int64_t *times;          /* T: time of each event, seconds */
    const int64_t *next_times;     /* T: time of the next event; of the target, for a user's last */
    const uint32_t *global_tokens; /* T: the token's number in the global batch (all workers): the
                                      coordinate of dropout and negatives; NULL: row number */
    const weir_real_t *user_rows;  /* B x D: added to the input of each token of the user; NULL:
                                      the model has no embedding of users */
    const weir_visible_t *visible; /* T; NULL: every token sees those before it. Attention without
                                      biases only */
} weir_sequence_batch_t;

typedef struct {
    bool train;    /* dropout on */
    uint64_t seed; /* of the run */
    uint64_t step; /* coordinate of dropout */
} weir_forward_mode_t;

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
typedef struct {
    size_t groups;          /* of users; 0 of an empty batch */
    size_t kept_layers;     /* of the group that keeps the fewest */
    size_t bytes;           /* of the largest group's activations */
    size_t attention_bytes; /* beside them, of the group whose attention takes the most */
} weir_hstu_activations_t;
weir_hstu_activations_t weir_hstu_activations(const weir_hstu_t *hstu);

/* Encode. `items`: T x D, the table rows E[item_i] (not scaled; the encoder multiplies by sqrt(D)).
 * `encoded`: T x D, rows of L2 norm 1. Keeps what backward needs. Users are independent: the result
 * of a user does not depend on who else is in the batch (to rounding of the projections). Errors: a
 * user with 0 or more than max_sequence_length events, out of memory. Call: local. */
WEIR_MUST_USE weir_err_t weir_hstu_forward(weir_hstu_t *hstu, const weir_real_t *parameters,
                                           const weir_sequence_batch_t *batch,
                                           const weir_real_t *items, weir_forward_mode_t mode,
                                           weir_real_t *encoded, weir_error_t *error);

/* Called as soon as the gradient of elements [begin, end) of the flat buffer is final: the last
 * layer first, position_embedding last. NULL: not wanted. */
typedef void (*weir_gradient_ready_t)(void *argument, size_t begin, size_t end);

/* Backward of the last forward with train or not, same parameters, batch and mode; the arrays of
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
