/* How well the tasks of a ranking model are predicted: each task a probability of an action, or a
 * number.
 *
 * A *sample* is one prediction: its label, its score, and its group, the user. The score of a
 * binary task is a logit, p = 1 / (1 + exp(-score)). Over n samples, P of label 1 and N of label 0:
 *   log loss     mean of -log(p) where the label is 1, of -log(1 - p) where it is 0
 *   NE           log loss / entropy of the rate P / n (He et al., ADKDD 2014): 1 is as good as
 *                saying the rate every time, and less is better
 *   AUC          chance that a sample of label 1 scores above one of label 0, ties count half
 *   grouped AUC  mean over users of their AUC, weighted by their samples; users whose samples have
 *                one label only are left out
 *   accuracy     samples with p > 1/2 exactly where the label is 1
 *   calibration  sum of p / P
 * Of a regression task: mean squared and mean absolute error.
 *
 * Samples are counted one by one, states of several workers are merged. Sums are without rounding
 * and AUC does not see the order, so that the result is the same bit for bit however the samples
 * were spread.
 *
 * AUC needs its samples: up to `max_samples` a task are kept (16 bytes each) and it is exact.
 * Beyond, scores are counted in 2^20 bins by the upper bits of their float, each 2^-11 of its
 * scores wide (16 MiB a task); a pair within a bin counts half, and `auc_error` is the most by
 * which AUC can be off. Grouped AUC is then over a part of the users, `grouped_share` of all,
 * chosen by hash alone: those whose hash begins with enough zeros that their samples fit. */
#ifndef WEIR_WORKER_TASK_METRICS_H
#define WEIR_WORKER_TASK_METRICS_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { WEIR_TASK_BINARY, WEIR_TASK_REGRESSION } weir_task_kind_t;

enum { WEIR_TASK_LIMIT = 32 };
/* Logits beyond are taken for it. A score that is not a number counts as the most wrong one. */
#define WEIR_TASK_LOGIT_LIMIT 80.0f

typedef struct weir_task_metrics weir_task_metrics_t;

/* 1 .. WEIR_TASK_LIMIT tasks; max_samples > 0. Ownership: caller destroys. Call: local. */
WEIR_MUST_USE weir_err_t weir_task_metrics_create(const weir_task_kind_t *kinds, size_t tasks,
                                                  size_t max_samples, weir_task_metrics_t **metrics,
                                                  weir_error_t *error);
void weir_task_metrics_destroy(weir_task_metrics_t *metrics); /* accepts NULL */

/* Count one sample. INVALID: no such task, a binary label that is neither 0 nor 1, a label that is
 * not finite. MEMORY. Call: local. Threads: any (one at a time). */
WEIR_MUST_USE weir_err_t weir_task_metrics_add(weir_task_metrics_t *metrics, size_t task,
                                               uint64_t group, float label, float score,
                                               weir_error_t *error);

/* Count all samples of `other` as well, of the same tasks and max_samples. Call: local. */
WEIR_MUST_USE weir_err_t weir_task_metrics_merge(weir_task_metrics_t *metrics,
                                                 weir_task_metrics_t *other, weir_error_t *error);

/* The state as bytes (little-endian, of this version of weir), from malloc; caller frees. */
WEIR_MUST_USE weir_err_t weir_task_metrics_save(weir_task_metrics_t *metrics, void **bytes,
                                                size_t *size, weir_error_t *error);
/* Merge a saved state of the same tasks and max_samples. CORRUPT: bytes that are none. */
WEIR_MUST_USE weir_err_t weir_task_metrics_merge_saved(weir_task_metrics_t *metrics,
                                                       const void *bytes, size_t size,
                                                       weir_error_t *error);

/* Of one task. What is not defined for the samples there are is not a number (NAN). */
typedef struct {
    weir_task_kind_t kind;
    uint64_t samples, positives;
    uint64_t broken;               /* scores that were not numbers */
    double label_mean, score_mean; /* the latter of p, or of the numbers */
    double log_loss, ne, accuracy, calibration;
    double auc, auc_error; /* the latter 0: exact */
    double grouped_auc;    /* over `groups` users with both labels */
    double grouped_share;  /* of users by hash, 1: of all */
    uint64_t groups;
    double mse, mae;
} weir_task_result_t;

/* Cost: sorts the kept samples, in as much memory again. Call: local. */
WEIR_MUST_USE weir_err_t weir_task_metrics_result(weir_task_metrics_t *metrics, size_t task,
                                                  weir_task_result_t *result, weir_error_t *error);

/* A task's result as a JSON object; undefined values are null. */
void weir_task_result_to_json(const weir_task_result_t *result, char *out, size_t capacity);

#endif
