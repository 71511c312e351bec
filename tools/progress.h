/* Progress on stderr: a bar that redraws itself on a terminal, a plain line every few seconds
 * elsewhere. */
#ifndef WEIR_TOOLS_PROGRESS_H
#define WEIR_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *what; /* "reading ratings.dat" */
    const char *unit; /* of `units`: "lines" */
    uint64_t total;   /* of `done`; 0: unknown */
    bool terminal;
    bool drawn; /* a bar stands on the current line */
    double started, last;
} weir_progress_t;

void weir_progress_begin(weir_progress_t *progress, const char *what, const char *unit,
                         uint64_t total);

/* Cheap enough for every few thousand lines: draws at most ten times a second. `done` of `total`
 * says how far, `units` how many were treated. */
void weir_progress_update(weir_progress_t *progress, uint64_t done, uint64_t units);

/* Take the bar away, so that other lines can be written. */
void weir_progress_clear(weir_progress_t *progress);

#endif
