/* The metrics of tasks summed over the workers of a job. */
#ifndef WEIR_WORKER_TASK_GATHER_H
#define WEIR_WORKER_TASK_GATHER_H

#include "worker/exchange.h"
#include "worker/task_metrics.h"

/* Merge the workers' states: afterwards all of them have counted the samples of all. Frames are
 * named by `step` and the sequence numbers `sequence` and `sequence` + 1. Memory: the states of all
 * workers at once. Call: collective(workers). Threads: compute. */
WEIR_MUST_USE weir_err_t weir_task_gather_merge(weir_exchange_t *exchange, uint64_t step,
                                                uint32_t sequence, weir_task_metrics_t *metrics,
                                                weir_error_t *error);

#endif
