/* The small files of a run by which a supervisor follows its job (docs/files/run.md). What is
 * missing, or not what it should be, is not there. */
#ifndef WEIR_TOOLS_RUN_FILES_H
#define WEIR_TOOLS_RUN_FILES_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The text of RUN/`name`, cut at `capacity`; false when there is none. Call: blocks. */
bool weir_run_file_read(const char *run, const char *name, char *text, size_t capacity);

/* RUN/progress, of worker 0. */
typedef struct {
    uint64_t step;  /* done */
    uint64_t from;  /* that the job went on from */
    uint64_t start; /* when: tells jobs apart */
} weir_run_progress_t;
bool weir_run_progress_read(const char *run, weir_run_progress_t *progress);

/* RUN/outcome.json says how a job ended: without it nothing is believed. Errors: PEER. */
WEIR_MUST_USE weir_err_t weir_run_outcome(const char *run, char *outcome, size_t capacity,
                                          weir_error_t *error);

/* How long before its end a job should be asked to save and stop: twice what the last checkpoint
 * took and once the last evaluation, which may have just begun, and five seconds; from the end of
 * RUN/metrics.jsonl. 0: it has not saved yet. */
double weir_run_seconds_to_stop(const char *run);

/* A line of RUN/restarts.jsonl; a failure is logged. */
void weir_run_note_restart(const char *run, int64_t number, int64_t most, int status,
                           const char *cause, uint64_t checkpoint, uint64_t reached);

#endif
