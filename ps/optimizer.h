/* The optimisers of table rows: one update of one row's segment, vectorised over its columns.
 *
 * g gradient, w value, lr learning rate of the step (ps/schedule.h), wd weight decay, b1, b2 =
 * beta1, beta2, n the number of updates this row has had, this one included, D columns. State
 * starts at 0. Where nothing else is said the decay is decoupled: w <- w (1 - lr wd) before the
 * update.
 *
 *   sgd              w -= lr g
 *   momentum         u = b1 u + g;  w -= lr u              (Polyak, 1964: heavy ball)
 *   nesterov         u = b1 u + g;  w -= lr (g + b1 u)     (Sutskever et al., 2013, at w + b1 u)
 *   adagrad          s += g^2;  w -= lr g / (sqrt(s) + eps)            (Duchi et al., 2011)
 *   rowwise_adagrad  s += mean(g^2), one s for the row;  the same
 *   adam             g += wd w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *                    w -= lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)
 *                    (Kingma, Ba, 2015, Algorithm 1; with L2 in the gradient, not decoupled)
 *   adamw            the same with wd decoupled        (Loshchilov, Hutter, 2019, Algorithm 2)
 *   rowwise_adamw    the same with v = b2 v + (1 - b2) mean(g^2), one v for the row
 *
 * The proximal ones keep a sum z and take w anew from it. They have l1, l2 and group_l1 instead of
 * wd, and the row is the group:
 *
 *   A  = (sqrt(v) + c) / lr, per column, 0 before the row's first update
 *   z += g - (A - A before this update) w
 *   s  = -sign(z) max(|z| - l1, 0)
 *   w  = s max(1 - group_l1 sqrt(D) / |s|, 0) / (A + L)     |s|: norm over the row
 *
 *   ftrl             v += g^2, c = beta, L = l2, no group  (McMahan et al., 2013, Algorithm 1)
 *   group_ftrl       the same with the group
 *   group_adagrad    v += g^2, c = eps, L = 2 l2           (Yue et al., 2021, arXiv 2107.14432,
 *   group_adam       c = eps, L = 2 l2, and in place of g   Algorithm 1: Group Adagrad, Group Adam)
 *                    and v adam's m / (1 - b1^n) and v / (1 - b2^n)
 *
 * There the value that a row is born with is the centre of the first step's proximal term, as in
 * the framework of Yue et al.: without penalties the row moves on from it, and Algorithm 1 of
 * McMahan et al. is the case of a row born 0. `a` in the state holds 1 / lr times (c, factor of the
 * root) of the row's last update, which gives A before this one under any schedule.
 *
 * Results are the same to the bit on every CPU: products and sums are never fused, and sums over a
 * row have a fixed order (docs/design/0004-row-optimisers.md). */
#ifndef WEIR_PS_OPTIMIZER_H
#define WEIR_PS_OPTIMIZER_H

#include "common/config.h"
#include "common/error.h"
#include "ps/schedule.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    weir_optimizer_kind_t kind;
    double learning_rate; /* before the schedule */
    double beta1, beta2, epsilon;
    double weight_decay;
    double l1, l2, group_l1; /* of the proximal ones; 0 for the others */
    double beta;             /* of ftrl, group_ftrl: above 0 */
    double clip_value;       /* a gradient's columns are clipped to this size; 0: not */
    double clip_norm;        /* then its norm over the segment is scaled down to this; 0: not */
    weir_schedule_t schedule;
} weir_optimizer_settings_t;

/* What an optimiser keeps for a row: named runs of floats, one after the other. */
typedef struct {
    struct {
        const char *name; /* "u", "s", "m", "v", "z", "a" */
        uint32_t width;   /* floats */
    } runs[4];
    uint32_t run_count;
    uint32_t floats; /* of all runs */
} weir_optimizer_state_t;

weir_optimizer_state_t weir_optimizer_state(weir_optimizer_kind_t kind, uint32_t dim);

/* Bias correction after n updates. */
typedef struct {
    float step_size;    /* lr / (1 - b1^n) */
    float inverse_mean; /* 1 / (1 - b1^n) */
    float inverse_root; /* 1 / sqrt(1 - b2^n) */
} weir_bias_correction_t;

/* The part of a correction that no schedule changes, in a table by n. */
typedef struct {
    double inverse_mean;
    float inverse_root;
} weir_bias_entry_t;

/* Where clipped gradients go, and how many rows had one. */
typedef struct {
    uint64_t rows;
    float gradient[];
} weir_clip_t;

typedef struct weir_optimizer weir_optimizer_t;

/* Apply one update: `value` and `gradient` dim floats, `state` as weir_optimizer_state says; the
 * three do not overlap and are aligned to 4 bytes. The gradient is finite. Hot: reads and writes
 * value and state once. Call: local. Threads: one at a time for an optimiser that clips. */
typedef void (*weir_optimizer_update_t)(const weir_optimizer_t *optimizer, float *value,
                                        float *state, const float *gradient,
                                        weir_bias_correction_t correction);

struct weir_optimizer {
    weir_optimizer_settings_t settings;
    uint32_t dim;
    double scheduled_rate; /* of the step */
    float learning_rate;   /* the same */
    float beta1, beta2, epsilon;
    float decay; /* 1 - lr wd; adam: wd */
    float one_minus_beta1, one_minus_beta2;
    float inverse_rate;             /* 1 / lr; of the proximal ones */
    float addend;                   /* c / lr */
    float l1, ridge;                /* ridge: L */
    float group_threshold;          /* group_l1 sqrt(D) */
    float clip_value;               /* infinity: not */
    double clip_norm;               /* infinity: not */
    weir_clip_t *clip;              /* owned; NULL: no clipping */
    weir_bias_entry_t *corrections; /* for n = 1 .. correction_count; owned; NULL without bias */
    size_t correction_count;
    weir_optimizer_update_t update;                      /* clips, where the settings say so */
    weir_optimizer_update_t unclipped;                   /* the widest vectors this CPU has */
    bool (*finite)(const float *gradient, size_t count); /* no NaN, no infinity */
};

/* Checks the numbers; `name` (of the table) stands in errors. */
WEIR_MUST_USE weir_err_t weir_optimizer_init(weir_optimizer_t *optimizer,
                                             const weir_optimizer_settings_t *settings,
                                             uint32_t dim, const char *name, weir_error_t *error);
void weir_optimizer_fini(weir_optimizer_t *optimizer);

/* Set what depends on the step, for the updates that follow. The proximal ones divide by the rate:
 * for them it is never below 1e-6 of settings.learning_rate. */
void weir_optimizer_begin_step(weir_optimizer_t *optimizer, uint64_t step);

/* Use the kernels of `bits` wide vectors (128, 256, 512) instead of the widest; false, and nothing
 * changed, when this CPU or this build has none. For tests and benches. */
bool weir_optimizer_set_width(weir_optimizer_t *optimizer, uint32_t bits);

/* Correction for the n-th update, n >= 1. */
weir_bias_correction_t weir_optimizer_correction(const weir_optimizer_t *optimizer, uint64_t n);

/* Rows whose gradient was clipped since init. */
uint64_t weir_optimizer_clipped_rows(const weir_optimizer_t *optimizer);

#endif
