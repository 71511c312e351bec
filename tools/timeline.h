/* The timeline of a run (docs/files/trace.md): the ranks' files RUN/trace/rank-NNNN.json, and
 * RUN/trace.json of them all, which chrome://tracing and Perfetto open; what it says, added up.
 *
 * The time of an operation (rows and gradients to and from servers; the sums of dense gradients) is
 * that during which one of its frames is on its way, from the hand-over to the sender's comm thread
 * to the arrival at the receiver's, or is handled by a server. It is exposed where the worker waits
 * meanwhile, and hidden behind computation elsewhere. A worker that waits while no frame is on its
 * way waits for the work of another rank. */
#ifndef WEIR_TOOLS_TIMELINE_H
#define WEIR_TOOLS_TIMELINE_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Remove what an earlier start of the run recorded; its ranks were others. */
WEIR_MUST_USE weir_err_t weir_timeline_clear(const char *run, weir_error_t *error);

/* Write RUN/trace.json. `*merged` false: no rank has written anything, and nothing is done.
 * Errors: IO, MEMORY; CORRUPT: a file that is no timeline. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_timeline_merge(const char *run, bool *merged, weir_error_t *error);

/* What the main thread of a rank does; parts exclude each other and add up to its time. */
typedef enum {
    WEIR_TIMELINE_READ,
    WEIR_TIMELINE_FORWARD,
    WEIR_TIMELINE_LOSS,
    WEIR_TIMELINE_BACKWARD,
    WEIR_TIMELINE_COPY,   /* rows and gradients into frames and out of them */
    WEIR_TIMELINE_UPDATE, /* of dense parameters */
    WEIR_TIMELINE_PULL,   /* of a server, as the two that follow */
    WEIR_TIMELINE_PUSH,
    WEIR_TIMELINE_APPLY,
    WEIR_TIMELINE_REST,
    WEIR_TIMELINE_WAIT_ROWS, /* a worker waits: for servers, for other workers */
    WEIR_TIMELINE_WAIT_DENSE,
    WEIR_TIMELINE_WAIT_AGREE,
    WEIR_TIMELINE_IDLE, /* a server has nothing to do */
    WEIR_TIMELINE_PART_COUNT
} weir_timeline_part_t;
const char *weir_timeline_part_title(weir_timeline_part_t part); /* "forward", ... */

/* Times in ms a step. */
typedef struct {
    double time, exposed; /* of an operation; of it, while its worker waited */
    double waited;        /* in all */
} weir_timeline_hidden_t;

typedef struct {
    uint32_t rank;
    char name[32]; /* "worker 0" */
    bool worker;
    uint64_t steps; /* seen whole */
    double parts[WEIR_TIMELINE_PART_COUNT];
    weir_timeline_hidden_t rows, dense; /* of a worker */
} weir_timeline_rank_t;

typedef struct {
    weir_timeline_rank_t *ranks; /* by rank; owned */
    size_t rank_count;
    double *waits; /* rank_count x rank_count: how long the first waited for the second; owned */
    uint64_t first_step, steps;
    uint64_t turned_away; /* records for which there was no room: what is shown is too little */
} weir_timeline_t;

/* Add up RUN/trace.json; `name` stands for the file. Errors: CORRUPT, MEMORY.
 * Ownership: caller calls fini. Call: local. */
WEIR_MUST_USE weir_err_t weir_timeline_parse(const char *text, size_t size, const char *name,
                                             weir_timeline_t *timeline, weir_error_t *error);
/* Merge and add up what RUN has. `*found` false: it has no timeline. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_timeline_read(const char *run, bool *found, weir_timeline_t *timeline,
                                            weir_error_t *error);
void weir_timeline_fini(weir_timeline_t *timeline);

/* For a terminal: where the time went, who waited for whom, what was hidden. */
void weir_timeline_print(FILE *out, const weir_timeline_t *timeline);

#endif
