/* A run folder: RUN/config.yaml, RUN/control.json (endpoint of a running job), RUN/metrics.jsonl,
 * RUN/checkpoints/, RUN/lock. Belongs to one job at a time: the coordinator holds the lock. */
#ifndef WEIR_COMMON_RUN_DIR_H
#define WEIR_COMMON_RUN_DIR_H

#include "common/error.h"

#include <stdbool.h>

typedef struct {
    int fd; /* holds the lock; -1: none */
} weir_run_lock_t;

/* Create RUN (refused when it holds a run already, unless `resume`) and take its lock: a second job on
 * the same run fails with WEIR_ERR_EXISTS and names host and pid of the first. The lock is an fcntl
 * lock, so that it goes with its process however that ends. */
WEIR_MUST_USE weir_err_t weir_run_dir_acquire(const char *run, bool resume, weir_run_lock_t *lock,
                                              weir_error_t *error);
void weir_run_dir_release(const char *run, weir_run_lock_t *lock);

#endif
