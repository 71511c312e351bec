/* The optimisers of table rows: one update of one row's segment, vectorised over its columns.
 *
 * g gradient, w value, lr learning rate of the step, wd weight decay (decoupled: w <- w (1 - lr wd)
 * before each update), n the number of updates this row has had, this one included. State starts
 * at 0.
 *
 *   sgd              w -= lr g
 *   adagrad          s += g^2;  w -= lr g / (sqrt(s) + eps)            (Duchi et al., 2011)
 *   rowwise_adagrad  s += mean(g^2), one s for the row;  the same
 *   adamw            m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2   (Loshchilov, Hutter, 2019)
 *                    w -= lr (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)
 *   rowwise_adamw    the same with v = b2 v + (1 - b2) mean(g^2), one v for the row
 *
 * Results are the same to the bit on every CPU: products and sums are never fused, and the mean is
 * summed in a fixed order (docs/design/0004-row-optimisers.md). */
#ifndef WEIR_PS_OPTIMIZER_H
#define WEIR_PS_OPTIMIZER_H

#include "common/config.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    weir_optimizer_kind_t kind;
    double learning_rate;
    double beta1, beta2, epsilon;
    double weight_decay; /* decoupled */
} weir_optimizer_settings_t;

/* What an optimiser keeps for a row: named runs of floats, one after the other. */
typedef struct {
    struct {
        const char *name; /* "m", "v", "s" */
        uint32_t width;   /* floats */
    } runs[4];
    uint32_t run_count;
    uint32_t floats; /* of all runs */
} weir_optimizer_state_t;

weir_optimizer_state_t weir_optimizer_state(weir_optimizer_kind_t kind, uint32_t dim);

/* Bias correction after n updates. */
typedef struct {
    float step_size;    /* lr / (1 - b1^n) */
    float inverse_root; /* 1 / sqrt(1 - b2^n) */
} weir_bias_correction_t;

typedef struct weir_optimizer weir_optimizer_t;

/* Apply one update: `value` and `gradient` dim floats, `state` as weir_optimizer_state says; the
 * three do not overlap. The gradient is finite. Hot: reads and writes value and state once. */
typedef void (*weir_optimizer_update_t)(const weir_optimizer_t *optimizer, float *value,
                                        float *state, const float *gradient,
                                        weir_bias_correction_t correction);

struct weir_optimizer {
    weir_optimizer_settings_t settings;
    uint32_t dim;
    float learning_rate, beta1, beta2, epsilon;
    float decay; /* 1 - lr wd */
    float one_minus_beta1, one_minus_beta2;
    weir_bias_correction_t
        *corrections; /* for n = 1 .. correction_count; owned; NULL without bias */
    size_t correction_count;
    weir_optimizer_update_t update;                      /* the widest vectors this CPU has */
    bool (*finite)(const float *gradient, size_t count); /* no NaN, no infinity */
};

/* Checks the numbers; `name` (of the table) stands in errors. */
WEIR_MUST_USE weir_err_t weir_optimizer_init(weir_optimizer_t *optimizer,
                                             const weir_optimizer_settings_t *settings,
                                             uint32_t dim, const char *name, weir_error_t *error);
void weir_optimizer_fini(weir_optimizer_t *optimizer);

/* Set what depends on the step, for the updates that follow. */
void weir_optimizer_begin_step(weir_optimizer_t *optimizer, uint64_t step);

/* Use the kernels of `bits` wide vectors (128, 256, 512) instead of the widest; false, and nothing
 * changed, when this CPU or this build has none. For tests and benches. */
bool weir_optimizer_set_width(weir_optimizer_t *optimizer, uint32_t bits);

/* Correction for the n-th update, n >= 1. */
weir_bias_correction_t weir_optimizer_correction(const weir_optimizer_t *optimizer, uint64_t n);

#endif
