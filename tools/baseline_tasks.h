/* Baselines of ranking: how likely each action of an event is, by models that need no history.
 *
 * Events before `test_from` are trained on, those in test_from .. test_until are tests
 * (common/dataset_split.h). The tasks are the data's actions, in their order; a sample's group is
 * its user.
 *
 * *Rates*: the item's rate of the action, smoothed by `prior` events at the rate of all training
 * events. *Logistic*: logistic regression over user, item, context and all features, each value a
 * weight of a table of 2^bits by hash, by Adagrad over the training events in random order. */
#ifndef WEIR_TOOLS_BASELINE_TASKS_H
#define WEIR_TOOLS_BASELINE_TASKS_H

#include "common/dataset.h"
#include "worker/task_metrics.h"

typedef struct {
    int64_t test_from, test_until; /* seconds; the second is excluded */
    size_t max_samples;            /* of worker/task_metrics.h */
    double prior;                  /* of rates: events, > 0 */
    uint32_t bits;                 /* of logistic: 1 .. 28 */
    uint64_t epochs, seed;
    double rate;  /* of Adagrad, > 0 */
    double decay; /* of weights: times weight, added to each gradient; >= 0 */
} weir_baseline_tasks_options_t;

typedef struct {
    uint64_t train, test; /* events */
} weir_baseline_tasks_counts_t;

/* The defaults; test_from is where the last tenth of the events begins. Call: local. */
WEIR_MUST_USE weir_err_t weir_baseline_tasks_defaults(const weir_dataset_t *dataset,
                                                      weir_baseline_tasks_options_t *options,
                                                      weir_error_t *error);

typedef weir_err_t weir_baseline_tasks_model_t(const weir_dataset_t *dataset,
                                               const weir_baseline_tasks_options_t *options,
                                               weir_baseline_tasks_counts_t *counts,
                                               weir_task_metrics_t **metrics, weir_error_t *error);

/* Fit and test; the caller destroys `metrics`. INVALID: data without actions, no event on one side
 * of the split, options out of range. Deterministic. Call: local. */
WEIR_MUST_USE weir_baseline_tasks_model_t weir_baseline_tasks_rates, weir_baseline_tasks_logistic;

#endif
