/* A run as it would be on disk, without processes: two servers' tables and dense parameters, each a
 * function of the step; saved by the code that a job saves with, and loaded back by three servers.
 */
#ifndef WEIR_TESTS_CRASH_SAVED_RUN_H
#define WEIR_TESTS_CRASH_SAVED_RUN_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Steps are multiples of SAVED_RUN_EVERY: all rows are updated in the first, three in four later.
 */
enum { SAVED_RUN_EVERY = 10 };

/* Rows of the table; more than one block of a file is written from about 20,000 on. */
typedef struct {
    size_t rows;
    uint64_t base; /* save what changed since the checkpoint of that step; 0: all */
} saved_run_t;

/* Save the state of `step` as a checkpoint of `run`, and prune to the newest `keep`. */
weir_err_t saved_run_save(const saved_run_t *shape, const char *run, uint64_t step, bool best,
                          size_t keep, weir_error_t *error);

/* Load the checkpoint in `folder` and compare it with the state of its step, every row and every
 * dense number. `*step` is what it says it is of. */
weir_err_t saved_run_check(const saved_run_t *shape, const char *folder, uint64_t *step,
                           weir_error_t *error);

/* Free what save and check have kept. */
void saved_run_forget(void);

#endif
