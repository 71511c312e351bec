/* Starting a job again when it fails, and ending it when its time is over.
 *
 * A rank that dies takes the MPI job with it; the supervisor, which is `weir train` itself, starts
 * the next from the newest good checkpoint (tools/restarts.h says when not), and says which steps
 * are done again. It learns how far a job came from RUN/progress, which worker 0 writes after each
 * step, and that its coordinator lives from RUN/beat. Each restart is a line of
 * RUN/restarts.jsonl. docs/files/run.md describes these files. */
#ifndef WEIR_TOOLS_SUPERVISOR_H
#define WEIR_TOOLS_SUPERVISOR_H

#include "tools/launch.h"

#include <stdint.h>

typedef struct {
    int64_t max_restarts; /* without a new checkpoint; 0: none */
    double time_limit;    /* seconds until the job must have saved and ended; 0: none */
    double silence;       /* seconds without a beat of the coordinator until the job is ended */
    const char *again[8]; /* arguments of a restart, before --step; ends with NULL */
} weir_supervisor_options_t;

/* Run the job that `launch` describes until it is done, stopped or given up. `*status`: what `weir
 * train` ends with (docs/exit-codes.md). `*limited`: the time limit came near. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_supervise(const weir_launch_t *launch,
                                        const weir_supervisor_options_t *options, int *status,
                                        bool *limited, weir_error_t *error);

#endif
