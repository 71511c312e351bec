/* The events of a timeline as arrays, between reading and adding up. */
#ifndef WEIR_TOOLS_TIMELINE_EVENTS_H
#define WEIR_TOOLS_TIMELINE_EVENTS_H

#include "tools/timeline.h"

#include <stddef.h>
#include <stdint.h>

/* A span of a rank's main thread. */
typedef struct {
    uint32_t rank, peer; /* peer UINT32_MAX: none */
    weir_timeline_part_t part;
    bool step; /* a whole step of a worker */
    uint64_t number;
    double begin, end; /* us */
} weir_timeline_span_t;

typedef enum {
    WEIR_TIMELINE_PULL_REQ,
    WEIR_TIMELINE_PULL_REP,
    WEIR_TIMELINE_PUSH_REQ,
    WEIR_TIMELINE_REDUCE, /* and gather */
    WEIR_TIMELINE_OTHER
} weir_timeline_frame_kind_t;

/* A frame both of whose ends were seen. */
typedef struct {
    weir_timeline_frame_kind_t kind;
    uint32_t from, to;
    uint64_t number;      /* step */
    double posted, taken; /* us */
} weir_timeline_frame_t;

typedef struct {
    weir_timeline_rank_t *ranks; /* by rank; names alone are filled; owned, as all of these */
    size_t rank_count;
    weir_timeline_span_t *spans; /* by rank, then by beginning, of those that begin together the
                                    longest first */
    size_t span_count;
    weir_timeline_frame_t *frames;
    size_t frame_count;
    uint64_t first_step, steps, turned_away;
} weir_timeline_events_t;

/* Errors: CORRUPT: not JSON, or no timeline; MEMORY. Ownership: caller calls fini. Call: local. */
WEIR_MUST_USE weir_err_t weir_timeline_parse_events(const char *text, size_t size, const char *name,
                                                    weir_timeline_events_t *events,
                                                    weir_error_t *error);
void weir_timeline_fini_events(weir_timeline_events_t *events);

#endif
