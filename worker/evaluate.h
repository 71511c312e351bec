/* Evaluation in parallel over the workers: the rank of every user's target among the whole
 * catalogue (docs/model.md, public-data protocol).
 *
 * Of a stream: every user with events in a window, its last event there as the target, ranked among
 * the items that have been seen by the end of the window.
 *
 * Worker w takes every W-th user. First all histories are encoded (rows by peek: nothing is born);
 * then the catalogue passes by in pieces, each scored against all users of the worker, so that
 * neither the catalogue nor a score matrix need fit into memory. */
#ifndef WEIR_WORKER_EVALUATE_H
#define WEIR_WORKER_EVALUATE_H

#include "common/config.h"
#include "common/dataset.h"
#include "common/error.h"
#include "ps/client.h"
#include "worker/encoder.h"
#include "worker/exchange.h"
#include "worker/rank.h"
#include "worker/retrieval.h"
#include "worker/user_results.h"
#include "worker/windows.h"

#include <stdbool.h>

typedef enum {
    WEIR_SPLIT_TEST,      /* target: the last event; or the first from eval.test_from on */
    WEIR_SPLIT_VALIDATION /* target: the event before it */
} weir_split_t;
const char *weir_split_name(weir_split_t split); /* "test", "validation" */

typedef struct {
    const weir_config_t *config;
    weir_dataset_t *dataset;
    weir_encoder_t *encoder; /* workspace, shared with training */
    weir_ps_client_t *client;
    weir_exchange_t *exchange;
    const weir_mixture_t *mixture; /* NULL: scores are dot products */
    size_t mixture_offset;         /* of its parameters */
    const weir_windows_t *stream;  /* NULL: every user's last events are held out */
    size_t window;                 /* of the stream: to be measured */
} weir_evaluate_parts_t;           /* none owned */

/* What a user's target is ranked by: the events before it, at most model.max_sequence_length; it is
 * the event after them. false: no event is before it, or none is it. Call: local. */
bool weir_evaluate_history(const weir_evaluate_parts_t *parts, weir_split_t split, uint64_t user,
                           weir_history_t *history);

/* Rank the targets of this worker's users, in their order. Ownership: caller frees. Call: local to
 * the worker; servers answer. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_evaluate_users(const weir_evaluate_parts_t *parts,
                                             const float *parameters, weir_split_t split,
                                             weir_user_result_t **results, size_t *count,
                                             weir_error_t *error);

/* Metrics over all users of all workers, the same on every worker. `step` and `sequence` name the
 * exchange of results: a sequence number not used otherwise in that step.
 * Call: collective(workers). Threads: compute. */
WEIR_MUST_USE weir_err_t weir_evaluate(const weir_evaluate_parts_t *parts, const float *parameters,
                                       weir_split_t split, uint64_t step, uint32_t sequence,
                                       weir_metrics_t *metrics, weir_error_t *error);

#endif
