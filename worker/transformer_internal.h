/* What the files of the transformers share. Not for users of worker/transformer.h. */
#ifndef WEIR_WORKER_TRANSFORMER_INTERNAL_H
#define WEIR_WORKER_TRANSFORMER_INTERNAL_H

#include "worker/kernels.h"
#include "worker/softmax_attention.h"
#include "worker/transformer.h"
#include "worker/workspace.h"

/* Below, T are the rows of the batch. Where dropout is drawn. Layer l: the two from SITE_LAYER + 2
 * l on. */
enum { WEIR_TRANSFORMER_SITE_INPUT = 0, WEIR_TRANSFORMER_SITE_LAYER = 2 };

#define WEIR_TRANSFORMER_NORM_EPSILON 1e-8
#define WEIR_TRANSFORMER_GELU 1.5957691216057308 /* 2 sqrt(2 / pi) */
#define WEIR_TRANSFORMER_GELU_CUBE 0.044715
#define WEIR_TRANSFORMER_NORM_FLOOR 1e-6 /* divisor of an encoded row is at least this */

/* Parameters of a layer, in their order in the buffer. */
typedef enum {
    WEIR_TRANSFORMER_QUERY_WEIGHT,
    WEIR_TRANSFORMER_QUERY_BIAS,
    WEIR_TRANSFORMER_KEY_VALUE_WEIGHT,
    WEIR_TRANSFORMER_KEY_VALUE_BIAS,
    WEIR_TRANSFORMER_OUTPUT_WEIGHT,
    WEIR_TRANSFORMER_OUTPUT_BIAS,
    WEIR_TRANSFORMER_HIDDEN_WEIGHT,
    WEIR_TRANSFORMER_HIDDEN_BIAS,
    WEIR_TRANSFORMER_FORWARD_WEIGHT,
    WEIR_TRANSFORMER_FORWARD_BIAS,
    WEIR_TRANSFORMER_LAYER_PARAMETERS
} weir_transformer_parameter_t;

/* What a layer keeps for its backward. K = H dqk + H dv. */
typedef struct {
    weir_real_t *x;              /* T x D: its input */
    weir_real_t *query_input;    /* T x D: n */
    weir_real_t *query_inverses; /* T: of that layer_norm */
    weir_real_t *query;          /* T x H dqk */
    weir_real_t *key_value;      /* T x K */
    weir_real_t *attended;       /* T x H dv */
    weir_real_t *logs;           /* T x H: of the softmax */
    weir_real_t *z;              /* T x D */
    weir_real_t *z_inverses;     /* T */
    weir_real_t *hidden;         /* T x F: before the activation */
    weir_real_t *activated;      /* T x F: after it, and dropout */
    weir_real_t *sigmoids;       /* T x F: of the activation, BERT4Rec */
    weir_real_t *out;            /* T x D: the layer's output, BERT4Rec */
    weir_real_t *out_inverses;   /* T */
} weir_transformer_layer_t;

typedef struct {
    weir_encoder_config_t config;
    const weir_kernels_t *kernels;
    weir_softmax_attention_t *attention;
    weir_transformer_layer_t *layers; /* config.blocks */
    weir_workspace_t workspace;       /* holds what follows, and the layers' */
    weir_real_t *stream;              /* T x D: x; after the last layer, its rows normalised */
    weir_real_t *norms;               /* T: |x| after the last layer, not below the floor */
    weir_real_t *d_stream;            /* T x D */
    weir_real_t *d_branch;            /* T x D */
    weir_real_t *d_output;            /* T x D, BERT4Rec */
    weir_real_t *embedded;            /* T x D: the input normalised, BERT4Rec */
    weir_real_t *embedded_inverses;   /* T */
    weir_real_t *d_hidden;            /* T x F */
    weir_real_t *d_attended;          /* T x H dv */
    weir_real_t *d_query;             /* T x H dqk */
    weir_real_t *d_key_value;         /* T x K */
    weir_real_t *d_users;             /* B x D */
    weir_real_t *block;               /* of a sum of columns: the widest */
    uint32_t *own_numbers;            /* T: where the batch has none of its own */
    size_t *own_offsets;              /* B + 1: likewise */
    uint8_t *masked;                  /* T, BERT4Rec */
    uint8_t *scored;                  /* tokens of the batch, BERT4Rec */
    size_t rows;                      /* T here: with BERT4Rec a row a user more than tokens */
    const size_t *offsets;            /* B + 1: rows of each user */
    const uint32_t *numbers;          /* T: coordinate of dropout */
    weir_sequence_batch_t batch;      /* of the last forward; its arrays belong to the caller */
    weir_forward_mode_t mode;
    bool forward_done;
} weir_transformer_t;

/* The elements of the flat buffer before the layers'. */
size_t weir_transformer_input_elements(const weir_encoder_config_t *config);

/* Set rows, offsets, numbers and masked of the batch and mode. */
void weir_transformer_arrange(weir_transformer_t *transformer);
/* Row that predicts token `token` of user `user`. */
size_t weir_transformer_row(const weir_transformer_t *transformer, size_t user, size_t token);

static inline bool weir_transformer_is_bert(const weir_transformer_t *transformer) {
    return transformer->config.kind == WEIR_ENCODER_BERT4REC;
}

/* F, K, H dqk and H dv. */
size_t weir_transformer_hidden(const weir_encoder_config_t *config);
size_t weir_transformer_key_value(const weir_encoder_config_t *config);
size_t weir_transformer_query(const weir_encoder_config_t *config);
size_t weir_transformer_values(const weir_encoder_config_t *config);

size_t weir_transformer_parameter_count(const weir_encoder_config_t *config);
size_t weir_transformer_parameter_elements(const weir_encoder_config_t *config);
weir_parameter_t weir_transformer_parameter(const weir_encoder_config_t *config, size_t index);
/* Where one of a layer begins in the flat buffer; `which` one past the last: where the layer ends.
 */
size_t weir_transformer_offset(const weir_encoder_config_t *config, size_t layer,
                               weir_transformer_parameter_t which);

/* The parts of a pass: T x D or so, in blocks of rows, by all threads. */
WEIR_MUST_USE weir_err_t weir_transformer_forward(void *state, const weir_real_t *parameters,
                                                  const weir_sequence_batch_t *batch,
                                                  const weir_real_t *items,
                                                  weir_forward_mode_t mode, weir_real_t *encoded,
                                                  weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_transformer_backward(void *state, const weir_real_t *parameters,
                                                   const weir_real_t *d_encoded,
                                                   weir_real_t *d_items, weir_real_t *d_parameters,
                                                   weir_gradient_ready_t ready, void *argument,
                                                   weir_error_t *error);

/* What attention reads of a layer. */
weir_softmax_input_t weir_transformer_attention_input(const weir_transformer_t *transformer,
                                                      size_t layer);

/* Dropout in place on rows [first, end) of T x width, or its backward; nothing when off. */
void weir_transformer_drop(const weir_transformer_t *transformer, uint32_t site, double probability,
                           size_t width, size_t first, size_t end, weir_real_t *values);

#endif
