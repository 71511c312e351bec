#include "tools/event_log.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LEFT_OUT UINT32_MAX

static weir_err_t fail_memory(size_t events, weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu events", events);
}

static weir_err_t grow_log(weir_event_log_t *log, weir_error_t *error) {
    size_t capacity = log->capacity == 0 ? 4096 : log->capacity + log->capacity / 2;
    uint32_t *users = realloc(log->users, capacity * sizeof *users);
    log->users = users != NULL ? users : log->users;
    uint32_t *items = realloc(log->items, capacity * sizeof *items);
    log->items = items != NULL ? items : log->items;
    int64_t *times = realloc(log->times, capacity * sizeof *times);
    log->times = times != NULL ? times : log->times;
    float *actions = realloc(log->actions, capacity * sizeof *actions);
    log->actions = actions != NULL ? actions : log->actions;
    uint32_t *words = NULL;
    if (log->width > 0) {
        words = realloc(log->words, capacity * log->width * sizeof *words);
        log->words = words != NULL ? words : log->words;
    }
    if (users == NULL || items == NULL || times == NULL || actions == NULL ||
        (log->width > 0 && words == NULL)) {
        return fail_memory(capacity, error);
    }
    log->capacity = capacity;
    return WEIR_OK;
}

/* Row `from` to row `to`. */
static void move_row(weir_event_log_t *log, size_t to, size_t from) {
    log->users[to] = log->users[from];
    log->items[to] = log->items[from];
    log->times[to] = log->times[from];
    log->actions[to] = log->actions[from];
    if (log->width > 0 && to != from) {
        memcpy(log->words + to * log->width, log->words + from * log->width,
               log->width * sizeof *log->words);
    }
}

weir_err_t weir_event_log_add(weir_event_log_t *log, uint32_t user, uint32_t item, int64_t time,
                              float action, weir_error_t *error) {
    if (log->count == log->capacity) {
        weir_err_t code = grow_log(log, error);
        if (code != WEIR_OK) {
            return code;
        }
    }
    log->users[log->count] = user;
    log->items[log->count] = item;
    log->times[log->count] = time;
    log->actions[log->count] = action;
    if (log->width > 0) {
        memset(log->words + log->count * log->width, 0, log->width * sizeof *log->words);
    }
    log->count++;
    return WEIR_OK;
}

uint32_t *weir_event_log_last_words(weir_event_log_t *log) {
    return log->words + (log->count - 1) * log->width;
}

void weir_event_log_fini(weir_event_log_t *log) {
    free(log->users);
    free(log->items);
    free(log->times);
    free(log->actions);
    free(log->words);
    *log = (weir_event_log_t){0};
}

void weir_renumbering_fini(weir_renumbering_t *renumbering) {
    free(renumbering->number);
    free(renumbering->kept);
    *renumbering = (weir_renumbering_t){0};
}

/* ---- filter ---- */

static void drop_event(uint64_t *user_events, uint64_t *item_events, weir_event_log_t *log,
                       size_t row) {
    user_events[log->users[row]]--;
    item_events[log->items[row]]--;
}

/* One pass: remove the events of users and items below their limits. True when some were removed. A
 * count that falls in this pass is seen by later rows of it; the fixed point is the same in any
 * order. */
static bool remove_rare(weir_event_log_t *log, uint64_t min_user, uint64_t min_item,
                        uint64_t *user_events, uint64_t *item_events) {
    size_t kept = 0;
    for (size_t row = 0; row < log->count; row++) {
        if (user_events[log->users[row]] < min_user || item_events[log->items[row]] < min_item) {
            drop_event(user_events, item_events, log, row);
            continue;
        }
        move_row(log, kept, row);
        kept++;
    }
    bool changed = kept != log->count;
    log->count = kept;
    return changed;
}

/* Number those with at least `least` events, in their old order. */
static weir_err_t renumber(const uint64_t *events, uint32_t count, uint64_t least,
                           weir_renumbering_t *out, weir_error_t *error) {
    weir_renumbering_t made = {.number = malloc(((size_t)count + 1) * sizeof *made.number),
                               .kept = malloc(((size_t)count + 1) * sizeof *made.kept)};
    if (made.number == NULL || made.kept == NULL) {
        weir_renumbering_fini(&made);
        return fail_memory(count, error);
    }
    for (uint32_t k = 0; k < count; k++) {
        made.number[k] = LEFT_OUT;
        if (events[k] >= least) {
            made.number[k] = made.kept_count;
            made.kept[made.kept_count++] = k;
        }
    }
    *out = made;
    return WEIR_OK;
}

weir_err_t weir_event_log_filter(weir_event_log_t *log, uint32_t user_count, uint32_t item_count,
                                 uint64_t min_user, uint64_t min_item, weir_renumbering_t *users,
                                 weir_renumbering_t *items, weir_error_t *error) {
    uint64_t *user_events = calloc((size_t)user_count + 1, sizeof *user_events);
    uint64_t *item_events = calloc((size_t)item_count + 1, sizeof *item_events);
    weir_err_t code = WEIR_OK;
    if (user_events == NULL || item_events == NULL) {
        code = fail_memory(log->count, error);
        goto out;
    }
    for (size_t row = 0; row < log->count; row++) {
        user_events[log->users[row]]++;
        item_events[log->items[row]]++;
    }
    while (remove_rare(log, min_user, min_item, user_events, item_events)) {
    }
    code = renumber(user_events, user_count, min_user > 0 ? min_user : 1, users, error);
    if (code == WEIR_OK) {
        code = renumber(item_events, item_count, min_item, items, error);
        if (code != WEIR_OK) {
            weir_renumbering_fini(users);
        }
    }
out:
    free(user_events);
    free(item_events);
    return code;
}

/* ---- write ---- */

typedef struct {
    int64_t time;
    uint64_t row; /* order of the source: breaks ties, so that the order is total */
} moment_t;

static int compare_moments(const void *left, const void *right) {
    const moment_t *a = left, *b = right;
    if (a->time != b->time) {
        return a->time < b->time ? -1 : 1;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

static int compare_lengths(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

/* Scratch of write; all owned. */
typedef struct {
    uint64_t *begins;  /* [users + 1] first place of a user in rows */
    uint64_t *rows;    /* [events] rows of the log by user, in the order of the source */
    moment_t *moments; /* [longest] */
    int64_t *items, *times;
    float *actions;
    uint32_t *words; /* [longest x width] */
    uint8_t *used;   /* [items] */
} scratch_t;

static void fini_scratch(scratch_t *scratch) {
    free(scratch->begins);
    free(scratch->rows);
    free(scratch->moments);
    free(scratch->items);
    free(scratch->times);
    free(scratch->actions);
    free(scratch->words);
    free(scratch->used);
}

/* Counting sort of the rows by user. */
static weir_err_t group_by_user(const weir_event_log_t *log, const weir_renumbering_t *users,
                                scratch_t *scratch, weir_error_t *error) {
    scratch->begins = calloc((size_t)users->kept_count + 2, sizeof *scratch->begins);
    scratch->rows = malloc((log->count + 1) * sizeof *scratch->rows);
    if (scratch->begins == NULL || scratch->rows == NULL) {
        return fail_memory(log->count, error);
    }
    /* begins[u + 2] counts user u; after the sums begins[u + 1] is where u's next row goes */
    for (size_t row = 0; row < log->count; row++) {
        scratch->begins[users->number[log->users[row]] + (size_t)2]++;
    }
    for (size_t u = 2; u < (size_t)users->kept_count + 2; u++) {
        scratch->begins[u] += scratch->begins[u - 1];
    }
    for (size_t row = 0; row < log->count; row++) {
        scratch->rows[scratch->begins[users->number[log->users[row]] + (size_t)1]++] = row;
    }
    return WEIR_OK;
}

static weir_err_t summarise_lengths(const scratch_t *scratch, uint64_t users,
                                    weir_event_log_summary_t *summary, weir_error_t *error) {
    uint64_t *lengths = malloc((size_t)(users + 1) * sizeof *lengths);
    if (lengths == NULL) {
        return fail_memory((size_t)users, error);
    }
    for (uint64_t u = 0; u < users; u++) {
        lengths[u] = scratch->begins[u + 1] - scratch->begins[u];
        summary->single_users += lengths[u] == 1;
    }
    qsort(lengths, (size_t)users, sizeof *lengths, compare_lengths);
    summary->users = users;
    summary->events = scratch->begins[users];
    if (users > 0) {
        summary->shortest = lengths[0];
        summary->longest = lengths[users - 1];
        summary->median = 0.5 * (double)(lengths[(users - 1) / 2] + lengths[users / 2]);
        summary->mean = (double)summary->events / (double)users;
    }
    free(lengths);
    return WEIR_OK;
}

static weir_err_t reserve_user(scratch_t *scratch, uint64_t longest, uint32_t items, size_t width,
                               weir_error_t *error) {
    size_t count = (size_t)longest + 1;
    scratch->moments = malloc(count * sizeof *scratch->moments);
    scratch->items = malloc(count * sizeof *scratch->items);
    scratch->times = malloc(count * sizeof *scratch->times);
    scratch->actions = malloc(count * sizeof *scratch->actions);
    scratch->words = malloc(count * (width + 1) * sizeof *scratch->words);
    scratch->used = calloc((size_t)items + 1, 1);
    if (scratch->words == NULL || scratch->moments == NULL || scratch->items == NULL ||
        scratch->times == NULL || scratch->actions == NULL || scratch->used == NULL) {
        return fail_memory(count, error);
    }
    return WEIR_OK;
}

/* One user's rows in the order of time. */
static size_t sort_user(const weir_event_log_t *log, const weir_renumbering_t *items,
                        const scratch_t *scratch, uint64_t user) {
    uint64_t begin = scratch->begins[user];
    size_t count = (size_t)(scratch->begins[user + 1] - begin);
    bool sorted = true;
    for (size_t i = 0; i < count; i++) {
        uint64_t row = scratch->rows[begin + i];
        scratch->moments[i] = (moment_t){.time = log->times[row], .row = row};
        sorted = sorted && (i == 0 || scratch->moments[i - 1].time <= scratch->moments[i].time);
    }
    if (!sorted) {
        qsort(scratch->moments, count, sizeof *scratch->moments, compare_moments);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t row = scratch->moments[i].row;
        uint32_t item = items->number[log->items[row]];
        scratch->items[i] = (int64_t)item + 1;
        scratch->times[i] = log->times[row];
        scratch->actions[i] = log->actions[row];
        if (log->width > 0) {
            memcpy(scratch->words + i * log->width, log->words + row * log->width,
                   log->width * sizeof *log->words);
        }
        scratch->used[item] = 1;
    }
    return count;
}

weir_err_t weir_event_log_write(const weir_event_log_t *log, const weir_renumbering_t *users,
                                const weir_renumbering_t *items, weir_dataset_writer_t *writer,
                                weir_event_log_summary_t *summary, weir_error_t *error) {
    scratch_t scratch = {0};
    weir_event_log_summary_t made = {.first_time = INT64_MAX, .last_time = INT64_MIN};
    weir_err_t code = group_by_user(log, users, &scratch, error);
    if (code == WEIR_OK) {
        code = summarise_lengths(&scratch, users->kept_count, &made, error);
    }
    if (code == WEIR_OK) {
        code = reserve_user(&scratch, made.longest, items->kept_count, log->width, error);
    }
    for (uint32_t user = 0; code == WEIR_OK && user < users->kept_count; user++) {
        size_t count = sort_user(log, items, &scratch, user);
        int64_t first = scratch.times[0], last = scratch.times[count - 1];
        made.first_time = first < made.first_time ? first : made.first_time;
        made.last_time = last > made.last_time ? last : made.last_time;
        code = weir_dataset_writer_add_user(writer, scratch.items, scratch.times, scratch.actions,
                                            count, error);
        if (code == WEIR_OK && log->width > 0) {
            code = weir_dataset_writer_add_words(writer, scratch.words, count, error);
        }
    }
    if (code == WEIR_OK) {
        for (uint32_t item = 0; item < items->kept_count; item++) {
            made.items_used += scratch.used[item];
        }
        *summary = made;
    }
    fini_scratch(&scratch);
    return code;
}
