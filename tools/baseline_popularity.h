/* The popularity baseline: the catalogue ranked by the number of training events of each item, by
 * the protocol of docs/evaluation.md. Training events of a user are those before its test (with
 * `validation`: but the last of them). The target's rank is 1 + the items, other than it and not in
 * the user's truncated history, with at least as many events: ties count against it. */
#ifndef WEIR_TOOLS_BASELINE_POPULARITY_H
#define WEIR_TOOLS_BASELINE_POPULARITY_H

#include "common/dataset.h"
#include "common/error.h"
#include "worker/rank.h"
#include "worker/user_results.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    size_t max_sequence_length; /* events of history, whose items are not ranked; >= 1 */
    bool validation;            /* hold out the event before the test too */
    int64_t test_from; /* seconds: tests are the first events from then on, training the events
                          before; 0: the last event of each user is its test */
} weir_popularity_options_t;

/* Metrics on the test of every user that has one and an event before it (`test`), and, when
 * options.validation, on the event before the test (`validation`; else zeroed). Call: local. */
WEIR_MUST_USE weir_err_t weir_popularity_evaluate(const weir_dataset_t *dataset,
                                                  const weir_popularity_options_t *options,
                                                  weir_metrics_t *test, weir_metrics_t *validation,
                                                  weir_error_t *error);

/* The ranks behind `test`, in the order of users. Ownership: caller frees. Call: local. */
WEIR_MUST_USE weir_err_t weir_popularity_users(const weir_dataset_t *dataset,
                                               const weir_popularity_options_t *options,
                                               weir_user_result_t **results, size_t *count,
                                               weir_error_t *error);

#endif
