/* What worker/attention.c hands to the level's code: one user and one head.
 *
 * Tokens of the user are cut in *panels* of `attention_panel` queries; a panel meets the keys up to
 * its end in blocks of ATTENTION_KEYS. The scores of a panel and a block are a *tile*: rows are
 * keys j, columns are queries i, so that the queries lie along the vectors and no dimension of a
 * head is ever padded. ATTENTION_GROUP panels share the pass over a block of keys. */
#ifndef WEIR_WORKER_ATTENTION_TASK_H
#define WEIR_WORKER_ATTENTION_TASK_H

#include "common/real.h"
#include "worker/attention.h"
#include "worker/attention_buckets.h"
#include "worker/kernels.h"
#include "worker/softmax_attention.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ATTENTION_KEYS = 128, /* rows of a tile; a multiple of every panel */
    ATTENTION_GROUP = 4   /* panels that meet a block of keys together */
};

/* Queries in a panel: two vectors of the level's. */
#define ATTENTION_PANEL ((size_t)(2 * LANES))

enum { ATTENTION_TIME_TABLE = 144 }; /* 129 buckets, rounded up to whole vectors */

struct weir_attention_task {
    size_t length;  /* L: tokens of the user */
    size_t dqk, dv; /* of the head */
    size_t z_width, y_width;
    const weir_real_t *v, *q, *k; /* first token's; rows z_width apart */
    weir_real_t *y;               /* forward; rows y_width apart */
    const weir_real_t *d_y;       /* backward; rows y_width apart */
    weir_real_t *d_v, *d_q, *d_k; /* backward; rows z_width apart */
    weir_real_t scale;            /* 1 / N, or 1 / divisor */
    weir_real_t score_scale;      /* of q^T k: keys are packed times it */
    const weir_visible_t
        *visible; /* of the user's tokens; NULL: causal. Then there are no biases */
    bool rounded; /* operands of the products are rounded to bfloat16 */

    /* position[i - j] for -panel < i - j < padded L + panel; zeros where no pair is, or when off.
     */
    const weir_real_t *position;
    weir_real_t *d_position; /* likewise, added to */
    const weir_real_t *time; /* ATTENTION_TIME_TABLE; NULL: off */
    weir_real_t *d_time;     /* 129 x lanes, added to */
    weir_bucket_source_t buckets;
    uint32_t highest_bucket; /* that the user can have */

    weir_real_t *workspace; /* weir_attention_workspace(...) numbers, 64-byte aligned */
};

/* What A and q^T k are multiplied with. */
static inline weir_real_t weir_attention_scale(const weir_attention_config_t *config) {
    return (weir_real_t)(1.0 / (config->divisor > 0.0 ? config->divisor
                                                      : (double)config->attention_length));
}
static inline weir_real_t weir_attention_score_scale(const weir_attention_config_t *config) {
    return config->score_scale > 0.0 ? (weir_real_t)config->score_scale : (weir_real_t)1;
}

static inline double weir_attention_softmax_scale(const weir_attention_config_t *config) {
    return 1.0 / sqrt((double)config->dqk);
}

/* Biases of a tile of worker/softmax_attention.h, `argument` being the task, whose workspace they
 * use: added to the scores; their gradients added to d_position and d_time. */
void weir_attention_add_bias(const void *argument, const weir_softmax_tile_t *tile,
                             weir_real_t *scores);
void weir_attention_take_bias(const void *argument, const weir_softmax_tile_t *tile,
                              const weir_real_t *d_scores);

/* Tokens rounded up to whole panels. */
static inline size_t weir_attention_padded(size_t length, size_t panel) {
    return (length + panel - 1) / panel * panel;
}

/* Numbers of workspace that a task needs; `lanes` of a vector, a panel of two. O(L (dqk + dv)). */
static inline size_t weir_attention_workspace(size_t length, size_t dqk, size_t dv, size_t lanes) {
    size_t panel = 2 * lanes;
    size_t keys = weir_attention_padded(length, ATTENTION_KEYS);
    size_t dqk_padded = weir_attention_padded(dqk, lanes),
           dv_padded = weir_attention_padded(dv, lanes);
    size_t per_token = 2 * (dqk_padded + dv_padded);
    size_t per_query = 3 * (dqk_padded + dv_padded);
    return keys * per_token + ATTENTION_GROUP * panel * per_query + 4 * ATTENTION_KEYS * panel +
           64 * lanes;
}

void weir_attention_forward_v2(const weir_attention_task_t *task);
void weir_attention_forward_v3(const weir_attention_task_t *task);
void weir_attention_forward_v4(const weir_attention_task_t *task);
void weir_attention_forward_generic(const weir_attention_task_t *task);
void weir_attention_backward_v2(const weir_attention_task_t *task);
void weir_attention_backward_v3(const weir_attention_task_t *task);
void weir_attention_backward_v4(const weir_attention_task_t *task);
void weir_attention_backward_generic(const weir_attention_task_t *task);
void weir_attention_forward_bf16_avx512(const weir_attention_task_t *task);
void weir_attention_forward_bf16_amx(const weir_attention_task_t *task);
void weir_attention_backward_bf16_avx512(const weir_attention_task_t *task);
void weir_attention_backward_bf16_amx(const weir_attention_task_t *task);

#endif
