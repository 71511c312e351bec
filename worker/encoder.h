/* An encoder: from the events of users to a vector a token that predicts the next event. There are
 * several *kinds* (model.kind), each behind the same functions: trainer, evaluation and checkpoints
 * know none of them. A kind is one table of functions (weir_encoder_methods_t, below).
 *
 * B users, T tokens (sum of the users' history lengths, never padded), D width. Matrices are
 * row-major. This file is compiled for float32 and float64. */
#ifndef WEIR_WORKER_ENCODER_H
#define WEIR_WORKER_ENCODER_H

#include "common/error.h"
#include "common/real.h"
#include "worker/parameter.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order of the choices of model.kind. */
typedef enum {
    WEIR_ENCODER_HSTU,     /* worker/hstu.h */
    WEIR_ENCODER_SASREC,   /* worker/transformer.h */
    WEIR_ENCODER_GRU4REC,  /* worker/gru.h */
    WEIR_ENCODER_BERT4REC, /* worker/transformer.h */
    WEIR_ENCODER_KINDS
} weir_encoder_kind_t;

/* Of all kinds; each reads what it has a use for. */
typedef struct {
    weir_encoder_kind_t kind;
    size_t embedding_dim; /* D */
    size_t blocks;
    size_t heads;                        /* H */
    size_t dqk, dv;                      /* per head */
    size_t hidden_dim;                   /* F: of a feed-forward layer, of a state; 0: D */
    size_t max_sequence_length;          /* longest history */
    size_t attention_length;             /* N = max_sequence_length + output_length */
    double input_dropout, layer_dropout; /* probabilities in [0, 1) */
    double mask_probability;             /* of an event, where events are predicted masked */
    bool softmax;                        /* attention by softmax, where the kind has a choice */
    bool position_bias, time_bias;       /* terms of the attention score; both true in the paper */
    bool bf16;                           /* projections and attention take operands in bfloat16 and
                                            sum in float32 (worker/bf16.h); float32 build only */
} weir_encoder_config_t;

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

/* What the last forward did. */
typedef struct {
    size_t groups;          /* of users; 0 of an empty batch */
    size_t kept_layers;     /* of the group that keeps the fewest */
    size_t bytes;           /* of the largest group's activations */
    size_t attention_bytes; /* beside them, of the group whose attention takes the most */
} weir_encoder_activations_t;

/* Called as soon as the gradient of elements [begin, end) of the flat buffer is final: the last
 * layer first, what the input is made with last. */
typedef void (*weir_gradient_ready_t)(void *argument, size_t begin, size_t end);

/* ---- parameters ---- */

/* "hstu"; NULL: there is no such kind. */
const char *weir_encoder_kind_name(weir_encoder_kind_t kind);

size_t weir_encoder_parameter_count(const weir_encoder_config_t *config); /* named parameters */
size_t
weir_encoder_parameter_elements(const weir_encoder_config_t *config); /* of the flat buffer */
/* index < parameter_count; in the order of the buffer, without gaps. */
weir_parameter_t weir_encoder_parameter(const weir_encoder_config_t *config, size_t index);
/* All of them; NULL: no memory. */
weir_parameters_t *weir_encoder_parameters(const weir_encoder_config_t *config);
/* Initial values of all, a pure function of the seed, the same in both precisions to rounding. */
void weir_encoder_initialise(const weir_encoder_config_t *config, uint64_t seed,
                             weir_real_t *parameters);

/* ---- an encoder at work ---- */

/* Workspace and saved activations of one thread; grows to the largest batch seen and keeps it. */
typedef struct weir_encoder weir_encoder_t;

/* Side effect: the BLAS of the process is switched to one thread. Errors: a configuration out of
 * range, out of memory, unknown WEIR_KERNELS. */
WEIR_MUST_USE weir_err_t weir_encoder_create(const weir_encoder_config_t *config,
                                             weir_encoder_t **encoder, weir_error_t *error);
void weir_encoder_destroy(weir_encoder_t *encoder);

/* Let the activations of a batch take `bytes` at the most, as far as one user needs no more; 0, as
 * after create: no limit. What is done beyond it is the kind's affair; a kind may have no limit. */
void weir_encoder_limit_activations(weir_encoder_t *encoder, size_t bytes);
weir_encoder_activations_t weir_encoder_activations(const weir_encoder_t *encoder);

/* Encode. `items`: T x D, the table rows E[item_i]. `encoded`: T x D, rows of L2 norm 1. Keeps what
 * backward needs. Users are independent. Errors: a user with 0 or more than max_sequence_length
 * events, out of memory. Call: local. */
WEIR_MUST_USE weir_err_t weir_encoder_forward(weir_encoder_t *encoder,
                                              const weir_real_t *parameters,
                                              const weir_sequence_batch_t *batch,
                                              const weir_real_t *items, weir_forward_mode_t mode,
                                              weir_real_t *encoded, weir_error_t *error);

/* Backward of the last forward with train or not, same parameters, batch and mode; the arrays of
 * the batch and `items` are still those of the forward. `d_encoded` T x D in; `d_items` T x D out
 * (gradient of `items`, overwritten); `d_parameters` flat, overwritten. `ready` NULL: not wanted.
 * Sums run in a fixed order: the same bits on every run. */
WEIR_MUST_USE weir_err_t weir_encoder_backward(weir_encoder_t *encoder,
                                               const weir_real_t *parameters,
                                               const weir_real_t *d_encoded, weir_real_t *d_items,
                                               weir_real_t *d_parameters,
                                               weir_gradient_ready_t ready, void *argument,
                                               weir_error_t *error);

/* Which tokens of the last forward have a prediction in their encoded row, 1 or 0 a token: of the
 * others that row is 0, and they are no part of a loss. NULL: all have. Valid until the next
 * forward.
 */
const uint8_t *weir_encoder_scored(const weir_encoder_t *encoder);
/* The share of the tokens of a training batch that is expected to have one; 1: all. */
double weir_encoder_scored_share(const weir_encoder_config_t *config, uint64_t users,
                                 uint64_t tokens);

/* Gradient of the batch's user_rows, of the last backward: for each user the sum over its tokens,
 * in their order; zeros of a batch without them. `d_user_rows` B x D, overwritten. Call: local,
 * after backward and before the next forward. */
void weir_encoder_user_gradients(const weir_encoder_t *encoder, weir_real_t *d_user_rows);

/* ---- for a kind ---- */

/* What a kind fills; contracts above. `state` is what its create made. */
typedef struct {
    const char *name;
    size_t (*parameter_count)(const weir_encoder_config_t *config);
    size_t (*parameter_elements)(const weir_encoder_config_t *config);
    weir_parameter_t (*parameter)(const weir_encoder_config_t *config, size_t index);
    weir_err_t (*create)(const weir_encoder_config_t *config, void **state, weir_error_t *error);
    void (*destroy)(void *state);
    void (*limit_activations)(void *state, size_t bytes); /* NULL: there is no limit */
    weir_encoder_activations_t (*activations)(const void *state);
    weir_err_t (*forward)(void *state, const weir_real_t *parameters,
                          const weir_sequence_batch_t *batch, const weir_real_t *items,
                          weir_forward_mode_t mode, weir_real_t *encoded, weir_error_t *error);
    weir_err_t (*backward)(void *state, const weir_real_t *parameters, const weir_real_t *d_encoded,
                           weir_real_t *d_items, weir_real_t *d_parameters,
                           weir_gradient_ready_t ready, void *argument, weir_error_t *error);
    void (*user_gradients)(const void *state, weir_real_t *d_user_rows);
    /* NULL: all tokens have a prediction */
    const uint8_t *(*scored)(const void *state);
    double (*scored_share)(const weir_encoder_config_t *config, uint64_t users, uint64_t tokens);
} weir_encoder_methods_t;

#endif
