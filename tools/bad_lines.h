/* Lines that could not be used: the first ones are shown with number and reason, all are counted by
 * reason, and none is dropped without a trace. With `strict` the first one is an error. */
#ifndef WEIR_TOOLS_BAD_LINES_H
#define WEIR_TOOLS_BAD_LINES_H

#include "common/error.h"
#include "tools/progress.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIR_BAD_LINES_SHOWN = 20, WEIR_BAD_LINES_REASONS = 32 };

typedef struct {
    bool strict;
    weir_progress_t *progress; /* cleared before a line is shown; may be NULL */
    uint64_t total;
    size_t reason_count;
    struct {
        const char *reason; /* a literal */
        uint64_t count;
    } reasons[WEIR_BAD_LINES_REASONS];
} weir_bad_lines_t;

/* Note a bad line. `reason` is one of a fixed few literals; `bytes` (may be NULL) is what was found
 * and is shown escaped and cut. Errors: INVALID when strict. */
WEIR_MUST_USE weir_err_t weir_bad_lines_add(weir_bad_lines_t *bad, const char *file, uint64_t line,
                                            const char *reason, const char *bytes, size_t size,
                                            weir_error_t *error);

#endif
