/* What a timeline says, added up: parts of time, who waited for whom, what was hidden. */
#include "common/file.h"
#include "tools/timeline_events.h"

#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 16 };

#define TIMELINE_LIMIT ((size_t)1 << 32)

typedef struct {
    double begin, end;
} stretch_t;

typedef struct {
    stretch_t *stretches; /* apart from each other and ascending, once united; owned */
    size_t count;
} stretches_t;

const char *weir_timeline_part_title(weir_timeline_part_t part) {
    static const char *const titles[WEIR_TIMELINE_PART_COUNT] = {
        [WEIR_TIMELINE_READ] = "read batch",
        [WEIR_TIMELINE_FORWARD] = "forward",
        [WEIR_TIMELINE_LOSS] = "loss",
        [WEIR_TIMELINE_BACKWARD] = "backward",
        [WEIR_TIMELINE_COPY] = "copy frames",
        [WEIR_TIMELINE_UPDATE] = "update",
        [WEIR_TIMELINE_PULL] = "pulls",
        [WEIR_TIMELINE_PUSH] = "pushes",
        [WEIR_TIMELINE_APPLY] = "apply",
        [WEIR_TIMELINE_REST] = "other",
        [WEIR_TIMELINE_WAIT_ROWS] = "wait: rows",
        [WEIR_TIMELINE_WAIT_DENSE] = "wait: dense",
        [WEIR_TIMELINE_WAIT_AGREE] = "wait: agree",
        [WEIR_TIMELINE_IDLE] = "idle"};
    return (unsigned)part < WEIR_TIMELINE_PART_COUNT ? titles[part] : "unknown";
}

/* ---- stretches of time ---- */

static int compare_stretches(const void *left, const void *right) {
    const stretch_t *a = left, *b = right;
    return (a->begin > b->begin) - (a->begin < b->begin);
}

static void add_stretch(stretches_t *to, stretch_t window, double begin, double end) {
    begin = begin > window.begin ? begin : window.begin;
    end = end < window.end ? end : window.end;
    if (end > begin) {
        to->stretches[to->count++] = (stretch_t){begin, end};
    }
}

/* Make overlapping ones one. */
static void unite(stretches_t *all) {
    size_t kept = 0;
    qsort(all->stretches, all->count, sizeof *all->stretches, compare_stretches);
    for (size_t i = 0; i < all->count; i++) {
        stretch_t *last = kept > 0 ? &all->stretches[kept - 1] : NULL;
        if (last != NULL && all->stretches[i].begin <= last->end) {
            last->end = all->stretches[i].end > last->end ? all->stretches[i].end : last->end;
        } else {
            all->stretches[kept++] = all->stretches[i];
        }
    }
    all->count = kept;
}

static double length_of(const stretches_t *all) {
    double length = 0.0;
    for (size_t i = 0; i < all->count; i++) {
        length += all->stretches[i].end - all->stretches[i].begin;
    }
    return length;
}

/* How long both are at once. */
static double length_of_both(const stretches_t *a, const stretches_t *b) {
    double length = 0.0;
    for (size_t i = 0, j = 0; i < a->count && j < b->count;) {
        stretch_t x = a->stretches[i], y = b->stretches[j];
        double begin = x.begin > y.begin ? x.begin : y.begin;
        double end = x.end < y.end ? x.end : y.end;
        length += end > begin ? end - begin : 0.0;
        if (x.end < y.end) {
            i++;
        } else {
            j++;
        }
    }
    return length;
}

/* ---- parts of time ---- */

typedef struct {
    const weir_timeline_events_t *events;
    weir_timeline_t *sums;
    stretch_t *windows; /* by rank: what is looked at; owned */
    /* Spans of servers that handle a frame, to be found by whose it is; owned. */
    weir_timeline_span_t *handled;
    size_t handled_count;
    stretches_t operation, waits; /* of one worker; owned */
} adder_t;

/* A worker's window is its whole steps; a server's that of all workers together. */
static void find_windows(adder_t *adder) {
    const weir_timeline_events_t *events = adder->events;
    stretch_t all = {0};
    for (size_t i = 0; i < events->span_count; i++) {
        const weir_timeline_span_t *span = &events->spans[i];
        stretch_t *own = &adder->windows[span->rank];
        if (!span->step) {
            continue;
        }
        if (adder->sums->ranks[span->rank].steps++ == 0) {
            own->begin = span->begin;
        }
        own->end = span->end;
        all.begin = all.end == 0.0 || span->begin < all.begin ? span->begin : all.begin;
        all.end = span->end > all.end ? span->end : all.end;
    }
    uint64_t most = 0;
    for (size_t r = 0; r < events->rank_count; r++) {
        uint64_t steps = adder->sums->ranks[r].steps;
        most = steps > most ? steps : most;
    }
    for (size_t r = 0; r < events->rank_count; r++) {
        if (!adder->sums->ranks[r].worker) {
            adder->windows[r] = all;
            adder->sums->ranks[r].steps = most;
        }
    }
}

static double within(stretch_t window, double begin, double end) {
    begin = begin > window.begin ? begin : window.begin;
    end = end < window.end ? end : window.end;
    return end > begin ? end - begin : 0.0;
}

/* A span's time is its part's, less that of the spans inside it, which is theirs. */
static void add_parts(adder_t *adder) {
    const weir_timeline_events_t *events = adder->events;
    const weir_timeline_span_t *outer[DEEPEST];
    size_t depth = 0, n = events->rank_count;
    for (size_t i = 0; i < events->span_count; i++) {
        const weir_timeline_span_t *span = &events->spans[i];
        weir_timeline_rank_t *rank = &adder->sums->ranks[span->rank];
        double length = within(adder->windows[span->rank], span->begin, span->end);
        while (depth > 0 &&
               (outer[depth - 1]->rank != span->rank || outer[depth - 1]->end <= span->begin)) {
            depth--;
        }
        rank->parts[span->part] += length;
        if (depth > 0) {
            rank->parts[outer[depth - 1]->part] -= length;
        }
        if (depth < DEEPEST) {
            outer[depth++] = span;
        }
        if (span->part >= WEIR_TIMELINE_WAIT_ROWS && span->peer < n) {
            adder->sums->waits[span->rank * n + span->peer] += length;
        }
    }
}

/* ---- what was hidden ---- */

static int compare_handled(const void *left, const void *right) {
    const weir_timeline_span_t *a = left, *b = right;
    uint64_t x[4] = {a->part, a->rank, a->peer, a->number};
    uint64_t y[4] = {b->part, b->rank, b->peer, b->number};
    for (int i = 0; i < 4; i++) {
        if (x[i] != y[i]) {
            return x[i] < y[i] ? -1 : 1;
        }
    }
    return 0;
}

static void find_handled(adder_t *adder) {
    for (size_t i = 0; i < adder->events->span_count; i++) {
        const weir_timeline_span_t *span = &adder->events->spans[i];
        if (span->part == WEIR_TIMELINE_PULL || span->part == WEIR_TIMELINE_PUSH) {
            adder->handled[adder->handled_count++] = *span;
        }
    }
    qsort(adder->handled, adder->handled_count, sizeof *adder->handled, compare_handled);
}

/* When the server was done with a request; when it came, where that was not seen. */
static double end_of_request(const adder_t *adder, const weir_timeline_frame_t *frame) {
    weir_timeline_span_t key = {.part = frame->kind == WEIR_TIMELINE_PULL_REQ ? WEIR_TIMELINE_PULL
                                                                              : WEIR_TIMELINE_PUSH,
                                .rank = frame->to,
                                .peer = frame->from,
                                .number = frame->number};
    const weir_timeline_span_t *span = adder->handled_count == 0
                                           ? NULL
                                           : bsearch(&key, adder->handled, adder->handled_count,
                                                     sizeof *adder->handled, compare_handled);
    return span != NULL && span->end > frame->taken ? span->end : frame->taken;
}

/* The frames of an operation of one worker. Its rows need the pushes of all. */
static void collect_operation(adder_t *adder, uint32_t worker, bool dense) {
    const weir_timeline_events_t *events = adder->events;
    stretch_t window = adder->windows[worker];
    adder->operation.count = 0;
    for (size_t i = 0; i < events->frame_count; i++) {
        const weir_timeline_frame_t *frame = &events->frames[i];
        bool request = frame->kind == WEIR_TIMELINE_PUSH_REQ ||
                       (frame->kind == WEIR_TIMELINE_PULL_REQ && frame->from == worker);
        bool answer = frame->kind == WEIR_TIMELINE_PULL_REP && frame->to == worker;
        bool slice = frame->kind == WEIR_TIMELINE_REDUCE && frame->to == worker;
        if (dense ? slice : answer) {
            add_stretch(&adder->operation, window, frame->posted, frame->taken);
        } else if (!dense && request) {
            add_stretch(&adder->operation, window, frame->posted, end_of_request(adder, frame));
        }
    }
    unite(&adder->operation);
}

static weir_timeline_hidden_t find_hidden(adder_t *adder, uint32_t worker, bool dense) {
    const weir_timeline_events_t *events = adder->events;
    weir_timeline_part_t part = dense ? WEIR_TIMELINE_WAIT_DENSE : WEIR_TIMELINE_WAIT_ROWS;
    adder->waits.count = 0;
    for (size_t i = 0; i < events->span_count; i++) {
        const weir_timeline_span_t *span = &events->spans[i];
        if (span->rank == worker && span->part == part) {
            add_stretch(&adder->waits, adder->windows[worker], span->begin, span->end);
        }
    }
    unite(&adder->waits);
    collect_operation(adder, worker, dense);
    return (weir_timeline_hidden_t){.time = length_of(&adder->operation),
                                    .exposed = length_of_both(&adder->operation, &adder->waits),
                                    .waited = length_of(&adder->waits)};
}

/* From us in all to ms a step. */
static void scale(adder_t *adder) {
    weir_timeline_t *sums = adder->sums;
    for (size_t r = 0; r < sums->rank_count; r++) {
        weir_timeline_rank_t *rank = &sums->ranks[r];
        double factor = rank->steps > 0 ? 1e-3 / (double)rank->steps : 0.0;
        weir_timeline_hidden_t *hidden[2] = {&rank->rows, &rank->dense};
        for (int i = 0; i < WEIR_TIMELINE_PART_COUNT; i++) {
            rank->parts[i] *= factor;
        }
        for (size_t peer = 0; peer < sums->rank_count; peer++) {
            sums->waits[r * sums->rank_count + peer] *= factor;
        }
        for (int i = 0; i < 2; i++) {
            hidden[i]->time *= factor;
            hidden[i]->exposed *= factor;
            hidden[i]->waited *= factor;
        }
    }
}

static void add_up(adder_t *adder) {
    weir_timeline_t *sums = adder->sums;
    find_windows(adder);
    add_parts(adder);
    find_handled(adder);
    for (size_t r = 0; r < sums->rank_count; r++) {
        weir_timeline_rank_t *rank = &sums->ranks[r];
        if (rank->worker) {
            rank->rows = find_hidden(adder, rank->rank, false);
            rank->dense = find_hidden(adder, rank->rank, true);
            continue;
        }
        double busy = 0.0;
        for (int i = 0; i < WEIR_TIMELINE_PART_COUNT; i++) {
            busy += rank->parts[i];
        }
        rank->parts[WEIR_TIMELINE_IDLE] = adder->windows[r].end - adder->windows[r].begin - busy;
    }
    scale(adder);
}

weir_err_t weir_timeline_parse(const char *text, size_t size, const char *name,
                               weir_timeline_t *timeline, weir_error_t *error) {
    weir_timeline_events_t events = {0};
    weir_err_t err = weir_timeline_parse_events(text, size, name, &events, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t n = events.rank_count, stretches = events.span_count + events.frame_count + 1;
    weir_timeline_t sums = {.rank_count = n,
                            .first_step = events.first_step,
                            .steps = events.steps,
                            .turned_away = events.turned_away};
    adder_t adder = {.events = &events, .sums = &sums};
    sums.ranks = calloc(n, sizeof *sums.ranks);
    sums.waits = calloc(n * n, sizeof *sums.waits);
    adder.windows = calloc(n, sizeof *adder.windows);
    adder.handled = calloc(events.span_count + 1, sizeof *adder.handled);
    adder.operation.stretches = calloc(stretches, sizeof(stretch_t));
    adder.waits.stretches = calloc(stretches, sizeof(stretch_t));
    if (sums.ranks == NULL || sums.waits == NULL || adder.windows == NULL ||
        adder.handled == NULL || adder.operation.stretches == NULL ||
        adder.waits.stretches == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %s", name);
        weir_timeline_fini(&sums);
    } else {
        memcpy(sums.ranks, events.ranks, n * sizeof *sums.ranks);
        add_up(&adder);
        *timeline = sums;
    }
    free(adder.windows);
    free(adder.handled);
    free(adder.operation.stretches);
    free(adder.waits.stretches);
    weir_timeline_fini_events(&events);
    return err;
}

weir_err_t weir_timeline_read(const char *run, bool *found, weir_timeline_t *timeline,
                              weir_error_t *error) {
    char path[WEIR_PATH_MAX], *text = NULL;
    size_t size = 0;
    weir_err_t err = weir_timeline_merge(run, found, error);
    if (err != WEIR_OK || !*found) {
        return err;
    }
    err = weir_path_join(path, sizeof path, run, "trace.json", error);
    if (err == WEIR_OK) {
        err = weir_file_read(path, TIMELINE_LIMIT, &text, &size, error);
    }
    if (err == WEIR_OK) {
        err = weir_timeline_parse(text, size, path, timeline, error);
    }
    free(text);
    return err;
}

void weir_timeline_fini(weir_timeline_t *timeline) {
    free(timeline->ranks);
    free(timeline->waits);
    memset(timeline, 0, sizeof *timeline);
}
