/* Whether a job that failed is started again: a rule without I/O.
 *
 * At most `most` restarts in a row; a checkpoint published since the last one begins a new row.
 * Not started again: what would fail in the same way. That is a failure before the first step whose
 * exit status speaks of input (docs/exit-codes.md), a status that always does, and a failure that
 * was no signal and came twice at the same step. */
#ifndef WEIR_TOOLS_RESTARTS_H
#define WEIR_TOOLS_RESTARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t most;
    int64_t done; /* restarts since a checkpoint was published */
    bool failed_before;
    int last_status;
    uint64_t last_reached, last_checkpoint; /* of the failure before */
} weir_restarts_t;

/* How a job ended that did not end as it should. */
typedef struct {
    int status;          /* of the launcher */
    bool stepped;        /* it did at least one step */
    uint64_t reached;    /* steps done, by its own account */
    uint64_t checkpoint; /* of the newest checkpoint; 0: none */
    bool damaged;        /* it could not begin, for the checkpoint it was to resume is damaged */
} weir_job_end_t;

/* Whether to start again; then restarts->done counts it, and *delay is how many seconds to wait
 * first: 1, 2, 4, ... up to 60 within a row. If not, *why says so in a few words. Call: local. */
bool weir_restarts_judge(weir_restarts_t *restarts, const weir_job_end_t *end, double *delay,
                         const char **why);

/* Seconds of "90s", "30m", "2h", "1d", "45:00" (minutes), "12:30:00" (hours) or "1-00:00:00"
 * (days), as Slurm writes them; false when it is none of them or not above 0. Call: local. */
bool weir_parse_duration(const char *text, double *seconds);

#endif
