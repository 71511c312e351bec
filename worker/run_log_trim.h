/* What is left of RUN/metrics.jsonl when a run goes on from an earlier step. */
#ifndef WEIR_WORKER_RUN_LOG_TRIM_H
#define WEIR_WORKER_RUN_LOG_TRIM_H

#include "common/error.h"

#include <stdint.h>

/* Remove from the file at `path`, where there is one, the lines of steps after `step` and what is
 * no line of ours: of a file of at most 16 MiB anywhere in it, by replacing it; of a longer one at
 * its end alone, by cutting it after its last line of `step` or before, so that no length of a run
 * refuses its resume. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_run_log_trim(const char *path, uint64_t step, weir_error_t *error);

#endif
