/* What the files of the recurrent encoder share. Not for users of worker/gru.h.
 *
 * Users are sorted by length, longest first, and cut into *groups*; a group's tokens stand
 * together, event by event: all first events, all second ones, ... So the users who still have an
 * event are the first of the group at every step, and the states of a step are a matrix: one
 * product for all. Rows in this order are called packed. */
#ifndef WEIR_WORKER_GRU_INTERNAL_H
#define WEIR_WORKER_GRU_INTERNAL_H

#include "worker/gru.h"
#include "worker/kernels.h"
#include "worker/workspace.h"

enum { WEIR_GRU_GROUP = 32 }; /* users: work for a thread, and rows enough for a product */

/* Where dropout is drawn. Output of layer l: SITE_LAYER + l. */
enum { WEIR_GRU_SITE_INPUT = 0, WEIR_GRU_SITE_LAYER = 2 };

#define WEIR_GRU_NORM_FLOOR 1e-6 /* divisor of an encoded row is at least this */

/* Of a layer: its inputs and what its backward reads. I: D, of later layers F. Rows are packed. */
typedef struct {
    weir_real_t *x;        /* T x I */
    weir_real_t *gates;    /* T x 3 F: r, z, n; first x Wx + b */
    weir_real_t *recall;   /* T x F: h Wh + c, of n */
    weir_real_t *previous; /* T x F: h of the event before */
} weir_gru_layer_t;

typedef struct {
    weir_encoder_config_t config;
    const weir_kernels_t *kernels;
    weir_gru_layer_t *layers;             /* config.blocks */
    weir_workspace_t workspace;           /* holds what follows, and the layers' */
    weir_real_t *output;                  /* T x F: Dropout(h) of the last layer */
    weir_real_t *stream;                  /* T x D: encoded, packed */
    weir_real_t *norms;                   /* T */
    weir_real_t *d_stream;                /* T x D */
    weir_real_t *d_state;                 /* T x F, or D: of a layer's output */
    weir_real_t *d_gates, *d_state_gates; /* T x 3 F: of x Wx + b; of h Wh + [0 0 c] */
    weir_real_t *carried;        /* groups x GROUP x F: gradient of h from the event after */
    weir_real_t *scratch;        /* groups x GROUP x 3 F */
    weir_real_t *block;          /* of a sum of columns */
    weir_real_t *d_users;        /* B x D */
    uint32_t *users;             /* B: sorted */
    uint32_t *tokens;            /* T: token of each packed row */
    uint32_t *owners;            /* T: user of each packed row */
    uint32_t *numbers;           /* T: global token of each packed row */
    size_t *first_rows;          /* groups + 1: of each group */
    weir_sequence_batch_t batch; /* of the last forward; its arrays belong to the caller */
    weir_forward_mode_t mode;
    bool forward_done;
} weir_gru_t;

/* F, and the width of a layer's input. */
size_t weir_gru_hidden(const weir_encoder_config_t *config);
size_t weir_gru_input(const weir_encoder_config_t *config, size_t layer);

/* Offsets of one layer's parameters in the flat buffer; the last layer ends where output begins. */
typedef struct {
    size_t input_weight, input_bias, state_weight, candidate_bias, end;
} weir_gru_offsets_t;
weir_gru_offsets_t weir_gru_offsets(const weir_encoder_config_t *config, size_t layer);
size_t weir_gru_output_offset(const weir_encoder_config_t *config);

size_t weir_gru_parameter_count(const weir_encoder_config_t *config);
size_t weir_gru_parameter_elements(const weir_encoder_config_t *config);
weir_parameter_t weir_gru_parameter(const weir_encoder_config_t *config, size_t index);

/* Users of a group that have an event at step `place`, of `active` that had one before it. */
size_t weir_gru_active(const weir_gru_t *gru, size_t group, size_t place, size_t active);
size_t weir_gru_groups(const weir_gru_t *gru);

/* Dropout in place on packed rows [first, end), or its backward; nothing when off. */
void weir_gru_drop(const weir_gru_t *gru, uint32_t site, double probability, size_t width,
                   size_t first, size_t end, weir_real_t *values);

WEIR_MUST_USE weir_err_t weir_gru_forward(void *state, const weir_real_t *parameters,
                                          const weir_sequence_batch_t *batch,
                                          const weir_real_t *items, weir_forward_mode_t mode,
                                          weir_real_t *encoded, weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_gru_backward(void *state, const weir_real_t *parameters,
                                           const weir_real_t *d_encoded, weir_real_t *d_items,
                                           weir_real_t *d_parameters, weir_gradient_ready_t ready,
                                           void *argument, weir_error_t *error);

#endif
