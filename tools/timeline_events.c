/* From JSON to arrays. Whatever is not as docs/files/trace.md says is left out. */
#include "tools/timeline_events.h"

#include "common/file.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Ranks beyond this are no job that anybody looks at in a page. */
enum { RANKS_MOST = 4096 };

/* One end of a frame; `id` is the JSON's. */
typedef struct {
    const char *id;
    bool left; /* the end that it left from */
    double at;
} frame_end_t;

typedef struct {
    weir_timeline_events_t *events;
    frame_end_t *ends; /* owned */
    size_t end_count;
    int64_t main_threads[RANKS_MOST]; /* by rank; -1: not named */
} reader_t;

static const struct {
    const char *name;
    weir_timeline_part_t part;
} known[] = {
    {"read batch", WEIR_TIMELINE_READ},
    {"forward", WEIR_TIMELINE_FORWARD},
    {"loss", WEIR_TIMELINE_LOSS},
    {"backward", WEIR_TIMELINE_BACKWARD},
    {"send pull", WEIR_TIMELINE_COPY},
    {"take rows", WEIR_TIMELINE_COPY},
    {"push", WEIR_TIMELINE_COPY},
    {"send bucket", WEIR_TIMELINE_COPY},
    {"update", WEIR_TIMELINE_UPDATE},
    {"dense update", WEIR_TIMELINE_UPDATE},
    {"wait pull", WEIR_TIMELINE_WAIT_ROWS},
    {"wait peek", WEIR_TIMELINE_WAIT_ROWS},
    {"wait reduce", WEIR_TIMELINE_WAIT_DENSE},
    {"wait gather", WEIR_TIMELINE_WAIT_DENSE},
    {"wait agree", WEIR_TIMELINE_WAIT_AGREE},
    {"handle pull", WEIR_TIMELINE_PULL},
    {"handle push", WEIR_TIMELINE_PUSH},
    {"apply", WEIR_TIMELINE_APPLY},
};

static weir_timeline_part_t part_of(const char *name) {
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].name, name) == 0) {
            return known[i].part;
        }
    }
    return WEIR_TIMELINE_REST;
}

/* A whole number in 0 .. most; -1: none. */
static int64_t get_whole(const json_t *object, const char *name, int64_t most) {
    const json_t *value = json_object_get(object, name);
    int64_t whole = json_is_integer(value) ? json_integer_value(value) : -1;
    return whole >= 0 && whole <= most ? whole : -1;
}

static const char *get_text(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

/* ---- metadata ---- */

static void take_name(reader_t *reader, const json_t *event, int64_t rank) {
    weir_timeline_events_t *events = reader->events;
    const json_t *about = json_object_get(event, "args");
    const char *what = get_text(event, "name"), *name = get_text(about, "name");
    if (strcmp(what, "process_name") == 0) {
        weir_timeline_rank_t *own = &events->ranks[rank];
        own->rank = (uint32_t)rank;
        own->worker = strcmp(get_text(about, "role"), "worker") == 0;
        weir_file_printable(name, own->name, sizeof own->name);
        int64_t first = get_whole(about, "first_step", INT64_MAX);
        int64_t steps = get_whole(about, "steps", INT64_MAX);
        events->first_step = first > 0 ? (uint64_t)first : 0;
        events->steps = steps > 0 ? (uint64_t)steps : 0;
    } else if (strcmp(what, "thread_name") == 0) {
        int64_t turned_away = get_whole(about, "turned_away", INT64_MAX);
        events->turned_away += turned_away > 0 ? (uint64_t)turned_away : 0;
        if (strcmp(name, "main") == 0) {
            reader->main_threads[rank] = get_whole(event, "tid", INT64_MAX);
        }
    }
}

/* ---- spans and frames ---- */

static void take_span(reader_t *reader, const json_t *event, int64_t rank) {
    const json_t *about = json_object_get(event, "args");
    double begin = json_number_value(json_object_get(event, "ts"));
    double length = json_number_value(json_object_get(event, "dur"));
    int64_t peer = get_whole(about, "peer", RANKS_MOST - 1);
    int64_t number = get_whole(about, "step", INT64_MAX);
    const char *name = get_text(event, "name");
    if (!(length >= 0) || number < 0 ||
        get_whole(event, "tid", INT64_MAX) != reader->main_threads[rank]) {
        return;
    }
    reader->events->spans[reader->events->span_count++] =
        (weir_timeline_span_t){.rank = (uint32_t)rank,
                               .peer = peer < 0 ? UINT32_MAX : (uint32_t)peer,
                               .part = part_of(name),
                               .step = strcmp(name, "step") == 0,
                               .number = (uint64_t)number,
                               .begin = begin,
                               .end = begin + length};
}

static weir_timeline_frame_kind_t kind_of(const char *id, size_t size) {
    static const char *const names[] = {[WEIR_TIMELINE_PULL_REQ] = "pull_req",
                                        [WEIR_TIMELINE_PULL_REP] = "pull_rep",
                                        [WEIR_TIMELINE_PUSH_REQ] = "push_req",
                                        [WEIR_TIMELINE_REDUCE] = "reduce"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i]) == size && memcmp(names[i], id, size) == 0) {
            return (weir_timeline_frame_kind_t)i;
        }
    }
    return size == 6 && memcmp("gather", id, size) == 0 ? WEIR_TIMELINE_REDUCE
                                                        : WEIR_TIMELINE_OTHER;
}

/* "type/step/sequence/flags/from>to" */
static bool parse_id(const char *id, weir_timeline_frame_t *frame) {
    char *end = NULL;
    const char *slash = strchr(id, '/');
    if (slash == NULL) {
        return false;
    }
    frame->kind = kind_of(id, (size_t)(slash - id));
    frame->number = strtoull(slash + 1, &end, 10);
    const char *last = strrchr(id, '/');
    unsigned long from = strtoul(last + 1, &end, 10);
    if (*end != '>') {
        return false;
    }
    unsigned long to = strtoul(end + 1, &end, 10);
    frame->from = (uint32_t)from;
    frame->to = (uint32_t)to;
    return *end == '\0' && from < RANKS_MOST && to < RANKS_MOST;
}

static int compare_ends(const void *left, const void *right) {
    const frame_end_t *a = left, *b = right;
    int order = strcmp(a->id, b->id);
    return order != 0 ? order : (int)b->left - (int)a->left; /* where it left first */
}

/* Frames whose name both ends have, once each. */
static void join_ends(reader_t *reader) {
    weir_timeline_events_t *events = reader->events;
    qsort(reader->ends, reader->end_count, sizeof *reader->ends, compare_ends);
    for (size_t i = 0; i + 1 < reader->end_count; i++) {
        const frame_end_t *a = &reader->ends[i], *b = a + 1;
        weir_timeline_frame_t frame = {.posted = a->at, .taken = b->at};
        if (a->left && !b->left && strcmp(a->id, b->id) == 0 && b->at >= a->at &&
            parse_id(a->id, &frame)) {
            events->frames[events->frame_count++] = frame;
        }
    }
}

static int compare_spans(const void *left, const void *right) {
    const weir_timeline_span_t *a = left, *b = right;
    if (a->rank != b->rank) {
        return a->rank < b->rank ? -1 : 1;
    }
    if (a->begin < b->begin || a->begin > b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    return (a->end < b->end) - (a->end > b->end);
}

static void take_events(reader_t *reader, const json_t *array) {
    size_t i;
    json_t *event;
    json_array_foreach(array, i, event) {
        const char *phase = get_text(event, "ph");
        int64_t rank = get_whole(event, "pid", (int64_t)reader->events->rank_count - 1);
        if (rank < 0) {
            continue;
        }
        if (strcmp(phase, "M") == 0) {
            take_name(reader, event, rank);
        } else if (strcmp(phase, "X") == 0) {
            take_span(reader, event, rank);
        } else if (strcmp(phase, "s") == 0 || strcmp(phase, "f") == 0) {
            reader->ends[reader->end_count++] =
                (frame_end_t){.id = get_text(event, "id"),
                              .left = phase[0] == 's',
                              .at = json_number_value(json_object_get(event, "ts"))};
        }
    }
    qsort(reader->events->spans, reader->events->span_count, sizeof *reader->events->spans,
          compare_spans);
    join_ends(reader);
}

static size_t count_ranks(const json_t *array) {
    size_t i, count = 0;
    json_t *event;
    json_array_foreach(array, i, event) {
        int64_t rank = get_whole(event, "pid", RANKS_MOST - 1);
        count = rank >= 0 && (size_t)rank >= count ? (size_t)rank + 1 : count;
    }
    return count;
}

weir_err_t weir_timeline_parse_events(const char *text, size_t size, const char *name,
                                      weir_timeline_events_t *events, weir_error_t *error) {
    json_error_t json_error;
    json_t *array = json_loadb(text, size, 0, &json_error);
    size_t count = json_array_size(array);
    weir_timeline_events_t read = {.rank_count = count_ranks(array)};
    reader_t reader = {.events = &read};
    weir_err_t err = WEIR_OK;
    if (!json_is_array(array) || read.rank_count == 0) {
        json_decref(array);
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s is no timeline", name);
    }
    for (size_t i = 0; i < RANKS_MOST; i++) {
        reader.main_threads[i] = -1;
    }
    read.ranks = calloc(read.rank_count, sizeof *read.ranks);
    read.spans = calloc(count, sizeof *read.spans);
    read.frames = calloc(count, sizeof *read.frames);
    reader.ends = calloc(count, sizeof *reader.ends);
    if (read.ranks == NULL || read.spans == NULL || read.frames == NULL || reader.ends == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the %zu events of %s", count,
                          name);
        weir_timeline_fini_events(&read);
    } else {
        take_events(&reader, array);
        *events = read;
    }
    free(reader.ends);
    json_decref(array);
    return err;
}

void weir_timeline_fini_events(weir_timeline_events_t *events) {
    free(events->ranks);
    free(events->spans);
    free(events->frames);
    memset(events, 0, sizeof *events);
}
