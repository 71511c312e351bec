/* What the files of the encoder share. Not for users of worker/hstu.h. */
#ifndef WEIR_WORKER_HSTU_INTERNAL_H
#define WEIR_WORKER_HSTU_INTERNAL_H

#include "worker/attention.h"
#include "worker/hstu.h"
#include "worker/hstu_memory.h"
#include "worker/kernels.h"
#include "worker/product.h"
#include "worker/rows.h"
#include "worker/workspace.h"

/* Where dropout is drawn, a coordinate of its random numbers. Layer l: SITE_LAYER + 2 l. */
enum { WEIR_HSTU_SITE_INPUT = 0, WEIR_HSTU_SITE_LAYER = 2 };

#define WEIR_HSTU_NORM_FLOOR 1e-6 /* divisor of an encoded row is at least this */

/* Offsets of one layer's parameters in the flat buffer; a layer ends where the next begins. */
typedef struct {
    size_t uvqk, time_bias, position_bias, output_weight, output_bias, end;
} weir_hstu_layer_offsets_t;

/* What a layer keeps for its backward. P = 2 H dv + 2 H dqk. All recomputed layers and the first
 * kept one have the same buffers, but for `input`. */
typedef struct {
    weir_real_t *input;             /* T x D: x before the layer, of a recomputed one; else NULL */
    weir_real_t *normalised;        /* T x D: layer_norm(x) */
    weir_real_t *inverses;          /* T: of that layer_norm */
    weir_real_t *projected;         /* T x P: layer_norm(x) W, before SiLU */
    weir_real_t *attended;          /* T x H dv: layer_norm(y) */
    weir_real_t *attended_inverses; /* T: of that layer_norm */
    weir_real_t *gated;             /* T x H dv: Dropout(u * layer_norm(y)) */
} weir_hstu_layer_t;

/* Below, T are the tokens of the group of users under way (worker/hstu_memory.h), often the whole
 * batch. */
struct weir_hstu {
    weir_hstu_config_t config;
    const weir_kernels_t *kernels;
    weir_attention_t *attention;
    size_t activation_budget;  /* bytes; 0: none */
    weir_hstu_layer_t *layers; /* config.blocks */
    weir_workspace_t workspace;
    weir_real_t *stream;    /* T x D: x from layer to layer; after the last, its rows normalised */
    weir_real_t *norms;     /* T: |x| after the last layer, not below the floor */
    weir_real_t *activated; /* T x P: silu(projected) of the layer under way */
    weir_real_t *d_stream;  /* T x D: gradient of x, from layer to layer */
    weir_real_t *d_activated;  /* T x P */
    weir_real_t *d_normalised; /* T x D */
    weir_real_t *d_gated;      /* T x H dv, then the gradient of y */

    weir_workspace_t batch_workspace; /* holds the next five */
    weir_hstu_group_t *groups;        /* group_count, room for B */
    size_t *group_offsets;            /* B + 1: of the group under way, from 0 */
    weir_real_t *d_users;             /* B x D: gradient of user_rows; nothing without them */
    weir_real_t *d_biases;            /* 2 N - 1 and 129: of the group and layer under way */
    uint32_t *numbers;                /* T: of the rows, for a batch without global_tokens */
    size_t group_count;
    size_t encoded_group;    /* whose activations are there; SIZE_MAX: none's */
    size_t activation_bytes; /* of the largest group */
    size_t attention_bytes;  /* of the group that takes the most */

    weir_sequence_batch_t whole; /* of the last forward; its arrays belong to the caller */
    weir_sequence_batch_t batch; /* of the group under way */
    const weir_real_t *items;    /* of the last forward, belongs to the caller */
    weir_forward_mode_t mode;
    bool forward_done;
};

/* Columns of uvqk, P. */
size_t weir_hstu_projection_width(const weir_hstu_config_t *config);
weir_hstu_layer_offsets_t weir_hstu_layer_offsets(const weir_hstu_config_t *config, size_t layer);

/* Set every pointer into the workspace for `tokens` and as many kept layers. */
WEIR_MUST_USE weir_err_t weir_hstu_memory_reserve(weir_hstu_t *hstu, size_t tokens, size_t kept,
                                                  weir_error_t *error);

/* Encode the users of groups[number]: stream, norms and the layers are then those that its backward
 * reads. */
WEIR_MUST_USE weir_err_t weir_hstu_encode_group(weir_hstu_t *hstu, const weir_real_t *parameters,
                                                size_t number, weir_error_t *error);

/* Run a recomputed layer again, from its input to `gated`. */
void weir_hstu_recompute_layer(weir_hstu_t *hstu, const weir_real_t *parameters, size_t index);

/* Dropout in place on rows [first, end) of T x width, or its backward; nothing when off. */
void weir_hstu_drop(const weir_hstu_t *hstu, uint32_t site, double probability, size_t width,
                    size_t first, size_t end, weir_real_t *values);

/* Work on rows [first, end) that touches no others. */
typedef void (*weir_hstu_rows_t)(weir_hstu_t *hstu, void *argument, size_t first, size_t end);

/* Over all rows of the group, in blocks of a fixed number, by all threads. */
void weir_hstu_run_rows(weir_hstu_t *hstu, weir_hstu_rows_t work, void *argument);

#endif
