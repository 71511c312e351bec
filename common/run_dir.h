/* A run folder: RUN/config.yaml, RUN/control.json (endpoint of a running job), RUN/metrics.jsonl,
 * RUN/checkpoints/, RUN/lock. Belongs to one job at a time: the coordinator holds the lock. */
#ifndef WEIR_COMMON_RUN_DIR_H
#define WEIR_COMMON_RUN_DIR_H

#include "common/error.h"

#include <stdbool.h>

typedef struct {
    int fd; /* holds the lock; -1: none */
} weir_run_lock_t;

/* Create RUN and take its lock: a second job on the same run fails with WEIR_ERR_EXISTS and names
 * host and pid of the first. A folder that holds a run already (config.yaml or checkpoints/) is
 * refused with WEIR_ERR_EXISTS unless `resume`; so the owner of the lock is the one who writes
 * config.yaml, after this call. The lock is an fcntl lock of the open file: it goes with its
 * process however that ends. Call: blocks. Threads: any. */
WEIR_MUST_USE weir_err_t weir_run_dir_acquire(const char *run, bool resume, weir_run_lock_t *lock,
                                              weir_error_t *error);
/* Whether RUN certainly belongs to no job: its lock can be looked at and nobody holds it. False
 * when in doubt. Call: local. Threads: any. */
bool weir_run_dir_is_free(const char *run);

/* Accepts a lock that was never taken (fd -1). */
void weir_run_dir_release(const char *run, weir_run_lock_t *lock);

#endif
