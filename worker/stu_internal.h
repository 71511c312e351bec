/* What the files of the production layer share. Not for users of worker/stu.h. */
#ifndef WEIR_WORKER_STU_INTERNAL_H
#define WEIR_WORKER_STU_INTERNAL_H

#include "worker/attention.h"
#include "worker/kernels.h"
#include "worker/product.h"
#include "worker/rows.h"
#include "worker/stu.h"
#include "worker/workspace.h"

enum { WEIR_STU_PARAMETERS = 7 }; /* per layer */

/* Of one layer, in the flat buffer, in this order. */
typedef struct {
    size_t norm_weight, norm_bias, uvqk, uvqk_bias, output_norm_weight, output_norm_bias,
        output_weight, end;
} weir_stu_offsets_t;

/* What a layer keeps for its backward. V = H dv. */
typedef struct {
    weir_real_t *normalised;        /* T x D: layer_norm(x) */
    weir_real_t *inverses;          /* T: of that */
    weir_real_t *projected;         /* T x P: n W + beta, before SiLU */
    weir_real_t *attended;          /* T x V: o */
    weir_real_t *attended_norm;     /* T x V: layer_norm(o) */
    weir_real_t *attended_inverses; /* T: of that */
    weir_real_t *joined;            /* T x 3 V: dropout([u | o | y]) */
} weir_stu_layer_t;

struct weir_stu {
    weir_stu_config_t config;
    const weir_kernels_t *kernels;
    weir_attention_t *attention;
    weir_stu_layer_t *layers; /* config.blocks */
    weir_workspace_t workspace;
    weir_real_t *stream;      /* T x D: x, then the gradient of x */
    weir_real_t *scaled;      /* T x D: n of the layer under way; backward: also its gradient */
    weir_real_t *d_projected; /* T x P */
    weir_real_t *d_joined;    /* T x 3 V */
    weir_real_t *d_attended;  /* T x V: gradient of o */
    weir_real_t *products;    /* T x max(D, V): what column sums are taken of */
    weir_real_t *block;       /* of weir_rows_add_columns: max(P, D, V) */
    weir_visible_t *visible;  /* T */
    uint32_t *numbers;        /* T: of the rows, for a batch without global_tokens */

    weir_stu_batch_t batch;         /* of the last forward; its arrays belong to the caller */
    weir_sequence_batch_t sequence; /* the same, as attention sees it */
    const weir_real_t *parameters;
    weir_forward_mode_t mode;
    bool forward_done;
};

size_t weir_stu_projection_width(const weir_stu_config_t *config); /* P */
weir_stu_offsets_t weir_stu_offsets(const weir_stu_config_t *config, size_t layer);

/* Dropout in place on rows [first, end) of a layer's T x 3 V, or its backward; nothing when off. */
void weir_stu_drop(const weir_stu_t *stu, size_t layer, size_t first, size_t end,
                   weir_real_t *values);

/* n = normalised * weight + bias, of rows [first, end) of T x width. */
void weir_stu_scale(const weir_real_t *normalised, const weir_real_t *weight,
                    const weir_real_t *bias, size_t width, size_t first, size_t end,
                    weir_real_t *scaled);

#endif
