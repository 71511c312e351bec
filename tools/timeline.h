/* The timeline of a run (docs/files/trace.md): the ranks' files RUN/trace/rank-NNNN.json, and
 * RUN/trace.json of them all, which chrome://tracing and Perfetto open. */
#ifndef WEIR_TOOLS_TIMELINE_H
#define WEIR_TOOLS_TIMELINE_H

#include "common/error.h"

#include <stdbool.h>

/* Remove what an earlier start of the run recorded; its ranks were others. */
WEIR_MUST_USE weir_err_t weir_timeline_clear(const char *run, weir_error_t *error);

/* Write RUN/trace.json. `*merged` false: no rank has written anything, and nothing is done.
 * Errors: IO, MEMORY; CORRUPT: a file that is no timeline. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_timeline_merge(const char *run, bool *merged, weir_error_t *error);

#endif
