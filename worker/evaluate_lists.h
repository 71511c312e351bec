/* Lists for the users of a worker as evaluation wants them: the best items of the whole catalogue,
 * those of the history left out, and what of them is relevant.
 *
 * *Relevant* to a user is its target; where tests are split by time, every item from that moment
 * on. An item that is relevant may be in the list though it is in the history too, as a target is
 * ranked though it is. */
#ifndef WEIR_WORKER_EVALUATE_LISTS_H
#define WEIR_WORKER_EVALUATE_LISTS_H

#include "worker/evaluate.h"
#include "worker/list_metrics.h"

/* How many users have each item in training. Call: local to the worker. */
WEIR_MUST_USE weir_err_t weir_evaluate_popularity(const weir_evaluate_parts_t *parts,
                                                  weir_item_popularity_t *popularity,
                                                  weir_error_t *error);

/* Count the lists of this worker's users. Users are taken in blocks, for each of which the
 * catalogue passes by once. Call: local to the worker; servers answer. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_evaluate_lists(const weir_evaluate_parts_t *parts,
                                             const float *parameters, weir_split_t split,
                                             const weir_list_cutoffs_t *cutoffs,
                                             weir_list_metrics_t *metrics, weir_error_t *error);

#endif
