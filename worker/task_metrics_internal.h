/* The state behind worker/task_metrics.h. Private to worker/task_metrics*.c. */
#ifndef WEIR_WORKER_TASK_METRICS_INTERNAL_H
#define WEIR_WORKER_TASK_METRICS_INTERNAL_H

#include "worker/exact_sum.h"
#include "worker/task_metrics.h"

enum { TASK_BINS = 1 << 20, TASK_BIN_SHIFT = 12 };

typedef struct {
    uint64_t group;
    float label, score;
} task_sample_t;

typedef enum {
    TASK_SUM_LABEL, /* of numbers alone */
    TASK_SUM_SCORE, /* of p, or of the numbers */
    TASK_SUM_LOSS,  /* log loss, or squared error */
    TASK_SUM_ERROR, /* absolute error, of numbers alone */
    TASK_SUMS
} task_sum_t;

typedef struct {
    weir_task_kind_t kind;
    uint64_t samples, positives, correct, broken;
    weir_exact_sum_t sums[TASK_SUMS];
    /* of binary tasks: */
    task_sample_t *kept; /* those whose group's hash begins with `zeros` zero bits; owned */
    size_t kept_count, kept_capacity;
    uint32_t zeros;
    uint64_t (*bins)[2]; /* [TASK_BINS] samples by label; NULL while zeros is 0: all are kept */
} task_state_t;

struct weir_task_metrics {
    size_t tasks, max_samples;
    task_state_t states[WEIR_TASK_LIMIT];
};

/* Keep a sample, unless its group is left out; count it in the bins where there are any, unless it
 * is `counted` there. */
WEIR_MUST_USE weir_err_t weir_task_metrics_keep(weir_task_metrics_t *metrics, task_state_t *state,
                                                task_sample_t sample, bool counted,
                                                weir_error_t *error);
/* Leave users out until `zeros`; from the first on there are bins, which hold the kept samples. */
WEIR_MUST_USE weir_err_t weir_task_metrics_thin(task_state_t *state, uint32_t zeros,
                                                weir_error_t *error);

/* AUC, its error and grouped AUC (worker/task_auc.c); sorts the kept samples. */
WEIR_MUST_USE weir_err_t weir_task_auc_fill(task_state_t *state, weir_task_result_t *result,
                                            weir_error_t *error);

#endif
