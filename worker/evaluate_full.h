/* Evaluation in full: ranks, lists, popularity, and each user's result, over all workers.
 *
 * All workers rank and list their own users; worker 0 gets what they found, and its report is the
 * same bit for bit for any number of workers whose models score alike. */
#ifndef WEIR_WORKER_EVALUATE_FULL_H
#define WEIR_WORKER_EVALUATE_FULL_H

#include "worker/evaluate.h"

#include <stdio.h>

enum { WEIR_EVALUATE_FULL_SEQUENCES = 4 }; /* numbers of exchanges that one split takes */

/* Evaluate a split, as eval.full and eval.users ask. Worker 0 writes its metrics to `out`, one JSON
 * object: those of ranks, as weir_metrics_to_json; with eval.full, what docs/evaluation.md lists.
 * With eval.users it writes the file of users' results to `run`. Frames are named by `step` and the
 * sequence numbers from `sequence` on. Call: collective(workers). Threads: compute. */
WEIR_MUST_USE weir_err_t weir_evaluate_full(const weir_evaluate_parts_t *parts,
                                            const float *parameters, weir_split_t split,
                                            uint64_t step, uint32_t sequence, const char *run,
                                            FILE *out, weir_error_t *error);

#endif
