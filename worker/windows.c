#include "worker/windows.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WINDOWS = 1 << 24 };

/* What sorting needs of an entry. */
typedef struct {
    weir_windows_entry_t entry;
    int64_t time; /* of its first event */
} timed_t;

typedef struct {
    size_t first, end;     /* entries */
    uint64_t steps_before; /* of the windows before it */
    uint64_t catalogue;
} window_t;

struct weir_windows {
    size_t batch_users;
    weir_windows_entry_t *entries;
    window_t *windows; /* those with entries */
    size_t window_count;
};

void weir_windows_destroy(weir_windows_t *stream) {
    if (stream != NULL) {
        free(stream->entries);
        free(stream->windows);
        free(stream);
    }
}

/* ---- cutting ---- */

typedef struct {
    const weir_dataset_t *dataset;
    const weir_session_rule_t *sessions; /* NULL: none */
    int64_t begin, seconds;
    size_t windows;      /* all of the span */
    size_t *counts;      /* windows + 1: entries of each, then where they go */
    uint64_t *catalogue; /* windows */
} cut_t;

static size_t window_of(const cut_t *cut, int64_t time) {
    return (size_t)((uint64_t)(time - cut->begin) / (uint64_t)cut->seconds);
}

static bool is_entry(const cut_t *cut, const timed_t *part) {
    return cut->sessions != NULL || part->entry.end >= 2;
}

/* Tell `take` of all entries, and of all events of a window that are none. */
static void each_part(const cut_t *cut,
                      void (*take)(const cut_t *cut, size_t window, const timed_t *part,
                                   void *argument),
                      void *argument) {
    for (uint64_t user = 0; user < weir_dataset_users(cut->dataset); user++) {
        weir_user_events_t events = weir_dataset_user(cut->dataset, user);
        for (size_t first = 0, end = 0; first < events.count; first = end) {
            size_t window = window_of(cut, events.times[first]);
            for (end = first + 1; end < events.count; end++) {
                if (window_of(cut, events.times[end]) != window) {
                    break;
                }
            }
            if (cut->sessions != NULL) {
                end = weir_sessions_end(cut->sessions, events.times, end, first);
            }
            const timed_t part = {{user, (uint32_t)first, (uint32_t)end}, events.times[first]};
            take(cut, window, &part, argument);
        }
    }
}

static void count_part(const cut_t *cut, size_t window, const timed_t *part, void *argument) {
    weir_user_events_t events = weir_dataset_user(cut->dataset, part->entry.user);
    (void)argument;
    cut->counts[window + 1] += is_entry(cut, part) ? 1 : 0;
    for (size_t i = part->entry.first; i < part->entry.end; i++) {
        uint64_t item = (uint64_t)events.items[i];
        cut->catalogue[window] = item > cut->catalogue[window] ? item : cut->catalogue[window];
    }
}

static void place_part(const cut_t *cut, size_t window, const timed_t *part, void *argument) {
    timed_t *sorted = argument;
    if (is_entry(cut, part)) {
        sorted[cut->counts[window]++] = *part; /* counts stand at the next free place */
    }
}

static int compare_timed(const void *a, const void *b) {
    const timed_t *x = a, *y = b;
    if (x->time != y->time) {
        return x->time < y->time ? -1 : 1;
    }
    if (x->entry.user != y->entry.user) {
        return x->entry.user < y->entry.user ? -1 : 1;
    }
    return (x->entry.first > y->entry.first) - (x->entry.first < y->entry.first);
}

static weir_err_t find_span(cut_t *cut, weir_error_t *error) {
    int64_t end = INT64_MIN;
    cut->begin = INT64_MAX;
    for (uint64_t user = 0; user < weir_dataset_users(cut->dataset); user++) {
        weir_user_events_t events = weir_dataset_user(cut->dataset, user);
        int64_t first = events.times[0], last = events.times[events.count - 1];
        cut->begin = first < cut->begin ? first : cut->begin;
        end = last > end ? last : end;
        if (events.count >= UINT32_MAX) {
            return weir_errorf(error, WEIR_ERR_UNSUPPORTED, "user %" PRIu64 " has %zu events", user,
                               events.count);
        }
    }
    uint64_t windows = (uint64_t)(end - cut->begin) / (uint64_t)cut->seconds + 1;
    if (windows > MOST_WINDOWS) {
        weir_err_t err = weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                                     "the data spans %" PRIu64 " windows of %" PRId64 " s", windows,
                                     cut->seconds);
        weir_error_hint(error, "at most %d; a longer train.stream_window makes fewer",
                        MOST_WINDOWS);
        return err;
    }
    cut->windows = (size_t)windows;
    return WEIR_OK;
}

/* The windows that have entries, sorted; `sorted` is in the order of windows already. */
static weir_err_t keep_windows(weir_windows_t *stream, const cut_t *cut, timed_t *sorted,
                               weir_error_t *error) {
    size_t first = 0;
    uint64_t steps = 0, catalogue = 0;
    for (size_t w = 0; w < cut->windows; w++) {
        size_t end = cut->counts[w], count = end - first;
        catalogue = cut->catalogue[w] > catalogue ? cut->catalogue[w] : catalogue;
        if (count > 0) {
            qsort(sorted + first, count, sizeof *sorted, compare_timed);
            stream->windows[stream->window_count++] = (window_t){first, end, steps, catalogue};
            steps += (count + stream->batch_users - 1) / stream->batch_users;
        }
        first = end;
    }
    for (size_t i = 0; i < first; i++) {
        stream->entries[i] = sorted[i].entry;
    }
    if (stream->window_count < 2) {
        weir_err_t err =
            weir_errorf(error, WEIR_ERR_INVALID,
                        "%zu windows of %" PRId64 " s have something to predict; a stream needs 2",
                        stream->window_count, cut->seconds);
        weir_error_hint(error, "a shorter train.stream_window makes more");
        return err;
    }
    return WEIR_OK;
}

static weir_err_t cut_up(weir_windows_t *stream, cut_t *cut, weir_error_t *error) {
    timed_t *sorted = NULL;
    cut->counts = calloc(cut->windows + 2, sizeof *cut->counts);
    cut->catalogue = calloc(cut->windows, sizeof *cut->catalogue);
    stream->windows = calloc(cut->windows, sizeof *stream->windows);
    if (cut->counts == NULL || cut->catalogue == NULL || stream->windows == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu windows", cut->windows);
    }
    each_part(cut, count_part, NULL);
    for (size_t w = 0; w < cut->windows; w++) {
        cut->counts[w + 1] += cut->counts[w];
    }
    size_t entries = cut->counts[cut->windows];
    sorted = malloc((entries + 1) * sizeof *sorted);
    stream->entries = malloc((entries + 1) * sizeof *stream->entries);
    weir_err_t err = WEIR_OK;
    if (sorted == NULL || stream->entries == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu entries of a stream", entries);
    } else {
        each_part(cut, place_part, sorted); /* counts[w] is then where window w ends */
        err = keep_windows(stream, cut, sorted, error);
    }
    free(sorted);
    return err;
}

weir_err_t weir_windows_create(const weir_dataset_t *dataset, int64_t window,
                               const weir_session_rule_t *sessions, size_t batch_users,
                               weir_windows_t **stream, weir_error_t *error) {
    weir_session_rule_t rule = {.gap = 0};
    cut_t cut = {.dataset = dataset, .seconds = window};
    if (sessions != NULL) {
        rule = *sessions;
        rule.cut = INT64_MIN;
        cut.sessions = &rule;
    }
    weir_windows_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a stream");
    }
    made->batch_users = batch_users;
    weir_err_t err = find_span(&cut, error);
    if (err == WEIR_OK) {
        err = cut_up(made, &cut, error);
    }
    free(cut.counts);
    free(cut.catalogue);
    if (err != WEIR_OK) {
        weir_windows_destroy(made);
        return err;
    }
    *stream = made;
    return WEIR_OK;
}

/* ---- what is where ---- */

size_t weir_windows_count(const weir_windows_t *stream) {
    return stream->window_count;
}

uint64_t weir_windows_steps(const weir_windows_t *stream) {
    return stream->windows[stream->window_count - 1].steps_before;
}

uint64_t weir_windows_trained_entries(const weir_windows_t *stream) {
    return stream->windows[stream->window_count - 1].first;
}

size_t weir_windows_of_step(const weir_windows_t *stream, uint64_t step) {
    size_t begin = 0, end = stream->window_count - 1; /* the last that begins before the step */
    while (end - begin > 1) {
        size_t middle = begin + (end - begin) / 2;
        if (stream->windows[middle].steps_before < step) {
            begin = middle;
        } else {
            end = middle;
        }
    }
    return begin;
}

uint64_t weir_windows_last_step(const weir_windows_t *stream, size_t window) {
    return stream->windows[window + 1].steps_before;
}

const weir_windows_entry_t *weir_windows_entries(const weir_windows_t *stream, size_t window,
                                                 size_t *count) {
    const window_t *found = &stream->windows[window];
    *count = found->end - found->first;
    return stream->entries + found->first;
}

const weir_windows_entry_t *weir_windows_step_entries(const weir_windows_t *stream, uint64_t step,
                                                      size_t *count) {
    const window_t *window = &stream->windows[weir_windows_of_step(stream, step)];
    size_t first = window->first + (size_t)(step - 1 - window->steps_before) * stream->batch_users;
    size_t left = window->end - first;
    *count = left < stream->batch_users ? left : stream->batch_users;
    return stream->entries + first;
}

uint64_t weir_windows_catalogue(const weir_windows_t *stream, size_t window) {
    return stream->windows[window].catalogue;
}
