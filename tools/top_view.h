/* What `weir top` shows of a running job: its status at a moment, and rates since a moment before.
 */
#ifndef WEIR_TOOLS_TOP_VIEW_H
#define WEIR_TOOLS_TOP_VIEW_H

#include "common/error.h"
#include "proto/envelope.h"
#include "proto/rank_metrics.h"

#include <jansson.h>
#include <stdio.h>

typedef struct {
    uint32_t rank, index;
    char role[16], host[64], waits[96];
    const char *phase; /* static */
    uint64_t pid, step;
    double heard;                /* seconds ago */
    double steps_per_second;     /* NaN: not known */
    weir_rank_metrics_t metrics; /* as the rank said last */
    weir_rank_metrics_t rates;   /* of counters, per second; not set where it is not known */
} weir_top_rank_t;

typedef struct {
    double at; /* monotonic seconds */
    uint64_t job, step, epoch, last_checkpoint;
    const char *phase; /* static */
    double loss, tokens_per_second, uptime, steps_per_second;
    size_t rank_count;
    weir_top_rank_t ranks[];
} weir_top_t;

/* From a status that came at `at`. `before`: an earlier one, or NULL: no rates. A count that became
 * smaller, or a rank that is another process, has none. Caller frees *top. Errors: memory. */
WEIR_MUST_USE weir_err_t weir_top_take(const Weir__Control__Status *status, double at,
                                       const weir_top_t *before, weir_top_t **top,
                                       weir_error_t *error);

/* For a person: the job, its workers, its servers. */
void weir_top_print(const weir_top_t *top, FILE *out);

/* All of it; metrics and rates under the names of the metrics page. NULL: out of memory. */
json_t *weir_top_to_json(const weir_top_t *top);

#endif
