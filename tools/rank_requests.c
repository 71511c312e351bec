#include "tools/rank_requests.h"

#include "tools/id_lookup.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void weir_rank_requests_fini(weir_rank_requests_t *requests) {
    free(requests->offsets);
    free(requests->items);
}

static weir_err_t no_memory(weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the candidates");
}

/* An array that grows by doubling. */
static bool append(int64_t **array, size_t *count, size_t *room, int64_t value) {
    if (*count == *room) {
        size_t wanted = *room == 0 ? 1024 : 2 * *room;
        int64_t *grown = realloc(*array, wanted * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        *array = grown;
        *room = wanted;
    }
    (*array)[(*count)++] = value;
    return true;
}

static weir_err_t open_lines(const char *path, FILE **file, weir_error_t *error) {
    *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    return *file != NULL ? WEIR_OK : weir_error_from_errno(error, errno, "open '%s'", path);
}

static void close_lines(FILE *file) {
    if (file != NULL && file != stdin) {
        (void)fclose(file);
    }
}

/* ---- the same candidates for all ---- */

static weir_err_t read_items(const char *path, weir_dataset_t *dataset, int64_t **items,
                             size_t *count, weir_error_t *error) {
    weir_id_lookup_t *lookup = NULL;
    FILE *file = NULL;
    char *line = NULL;
    size_t capacity = 0, room = 0;
    uint32_t handle = 0;
    weir_err_t err = weir_id_lookup_create(WEIR_ID_ITEM, &lookup, error);
    if (err == WEIR_OK) {
        err = open_lines(path, &file, error);
    }
    while (err == WEIR_OK && getline(&line, &capacity, file) >= 0) {
        size_t size = strcspn(line, "\r\n");
        if (size > 0) {
            err = weir_id_lookup_want(lookup, line, size, &handle, error);
            if (err == WEIR_OK && !append(items, count, &room, handle)) {
                err = no_memory(error);
            }
        }
    }
    if (err == WEIR_OK && *count == 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "'%s' has no items", path);
    }
    if (err == WEIR_OK) {
        err = weir_id_lookup_resolve(lookup, dataset, error);
    }
    for (size_t i = 0; i < *count && err == WEIR_OK; i++) {
        err = weir_id_lookup_find(lookup, (uint32_t)(*items)[i], &(*items)[i], error);
    }
    close_lines(file);
    free(line);
    weir_id_lookup_destroy(lookup);
    return err;
}

weir_err_t weir_rank_requests_share(weir_rank_requests_t *requests, const char *file,
                                    weir_dataset_t *dataset, const weir_request_job_t *job,
                                    weir_error_t *error) {
    int64_t *items = NULL;
    size_t count = 0, all = 0;
    weir_err_t err = WEIR_OK;
    if (file != NULL) {
        err = read_items(file, dataset, &items, &count, error);
    } else {
        count = (size_t)weir_dataset_items(dataset);
    }
    if (err == WEIR_OK &&
        (__builtin_mul_overflow(count, job->count, &all) || all > SIZE_MAX / sizeof(int64_t) ||
         (requests->items = malloc((all + 1) * sizeof(int64_t))) == NULL ||
         (requests->offsets = malloc((job->count + 1) * sizeof(int64_t))) == NULL)) {
        err = weir_errorf(error, WEIR_ERR_MEMORY,
                          "no memory for %zu candidates of each of %zu users", count, job->count);
        weir_error_hint(error, "fewer users at a time need less");
    }
    for (size_t i = 0; err == WEIR_OK && i <= job->count; i++) {
        requests->offsets[i] = (int64_t)(i * count);
        for (size_t k = 0; i < job->count && k < count; k++) {
            requests->items[i * count + k] = items != NULL ? items[k] : (int64_t)k + 1;
        }
    }
    requests->requests = job->count;
    free(items);
    return err;
}

/* ---- JSON lines ---- */

typedef struct {
    weir_id_lookup_t *users, *items;
    int64_t *lines; /* 4 of each request: user's handle, known or -1, at, whether there is an at */
    size_t line_count, line_room;
    size_t item_count;
    size_t offset_count, offset_room;
} reading_t;

/* An id: a text, or a whole number in its digits. */
static weir_err_t want(weir_id_lookup_t *lookup, const json_t *id, const char *path,
                       unsigned long line, uint32_t *handle, weir_error_t *error) {
    char digits[32];
    if (json_is_string(id)) {
        return weir_id_lookup_want(lookup, json_string_value(id), json_string_length(id), handle,
                                   error);
    }
    if (!json_is_integer(id)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "%s, line %lu: an id is a text or a whole number", path, line);
    }
    int size = snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    return weir_id_lookup_want(lookup, digits, (size_t)size, handle, error);
}

/* A whole number, if it is there. */
static weir_err_t read_integer(const json_t *object, const char *key, const char *path,
                               unsigned long line, int64_t *number, bool *there,
                               weir_error_t *error) {
    const json_t *value = json_object_get(object, key);
    *there = value != NULL && !json_is_null(value);
    if (*there && !json_is_integer(value)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s, line %lu: \"%s\" is not a whole number",
                           path, line, key);
    }
    *number = *there ? json_integer_value(value) : 0;
    return WEIR_OK;
}

/* A key that is misspelt would be a request of something else. */
static weir_err_t check_keys(json_t *object, const char *path, unsigned long line,
                             weir_error_t *error) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (strcmp(key, "user") != 0 && strcmp(key, "items") != 0 && strcmp(key, "known") != 0 &&
            strcmp(key, "at") != 0) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "%s, line %lu: \"%.64s\" is none of user, items, known, at", path,
                               line, key);
        }
    }
    return WEIR_OK;
}

static weir_err_t read_line(weir_rank_requests_t *requests, reading_t *reading, json_t *object,
                            const char *path, unsigned long line, weir_error_t *error) {
    const json_t *items = json_object_get(object, "items");
    uint32_t user = 0, item = 0;
    int64_t known = 0, at = 0;
    bool has_known = false, has_time = false;
    if (!json_is_object(object) || !json_is_array(items)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "%s, line %lu is not {\"user\": .., \"items\": [..]}", path, line);
    }
    weir_err_t err = check_keys(object, path, line, error);
    if (err == WEIR_OK) {
        err = want(reading->users, json_object_get(object, "user"), path, line, &user, error);
    }
    if (err == WEIR_OK) {
        err = read_integer(object, "known", path, line, &known, &has_known, error);
    }
    if (err == WEIR_OK) {
        err = read_integer(object, "at", path, line, &at, &has_time, error);
    }
    const int64_t values[4] = {user, has_known ? known : -1, at, has_time ? 1 : 0};
    if (err == WEIR_OK && has_known && known < 1) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "%s, line %lu: \"known\" is less than 1", path,
                          line);
    }
    for (size_t i = 0; i < 4 && err == WEIR_OK; i++) {
        if (!append(&reading->lines, &reading->line_count, &reading->line_room, values[i])) {
            err = no_memory(error);
        }
    }
    for (size_t i = 0; i < json_array_size(items) && err == WEIR_OK; i++) {
        err = want(reading->items, json_array_get(items, i), path, line, &item, error);
        if (err == WEIR_OK &&
            !append(&requests->items, &reading->item_count, &requests->item_room, item)) {
            err = no_memory(error);
        }
    }
    if (err == WEIR_OK && !append(&requests->offsets, &reading->offset_count, &reading->offset_room,
                                  (int64_t)reading->item_count)) {
        err = no_memory(error);
    }
    return err;
}

static weir_err_t read_lines(weir_rank_requests_t *requests, reading_t *reading, const char *path,
                             weir_error_t *error) {
    FILE *file = NULL;
    char *text = NULL;
    size_t capacity = 0;
    unsigned long line = 0;
    weir_err_t err = open_lines(path, &file, error);
    if (err == WEIR_OK &&
        !append(&requests->offsets, &reading->offset_count, &reading->offset_room, 0)) {
        err = no_memory(error);
    }
    for (ssize_t length = 0; err == WEIR_OK; line++) {
        json_error_t bad;
        length = getline(&text, &capacity, file);
        if (length < 0) {
            break;
        }
        if (strspn(text, " \t\r\n") == (size_t)length) {
            continue;
        }
        json_t *object = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &bad);
        err = object != NULL ? read_line(requests, reading, object, path, line + 1, error)
                             : weir_errorf(error, WEIR_ERR_INVALID, "%s, line %lu: %s", path,
                                           line + 1, bad.text);
        json_decref(object);
    }
    close_lines(file);
    free(text);
    return err;
}

/* From handles to numbers, checked against the data. */
static weir_err_t resolve(weir_rank_requests_t *requests, const reading_t *reading,
                          weir_dataset_t *dataset, weir_request_job_t *job, weir_error_t *error) {
    weir_err_t err = weir_id_lookup_resolve(reading->users, dataset, error);
    if (err == WEIR_OK) {
        err = weir_id_lookup_resolve(reading->items, dataset, error);
    }
    for (size_t i = 0; i < reading->item_count && err == WEIR_OK; i++) {
        err = weir_id_lookup_find(reading->items, (uint32_t)requests->items[i], &requests->items[i],
                                  error);
    }
    for (size_t i = 0; 4 * i < reading->line_count && err == WEIR_OK; i++) {
        const int64_t *line = reading->lines + 4 * i;
        int64_t user = 0;
        err = weir_id_lookup_find(reading->users, (uint32_t)line[0], &user, error);
        if (err != WEIR_OK) {
            return err;
        }
        weir_user_events_t events = weir_dataset_user(dataset, (uint64_t)user);
        uint64_t known = line[1] < 0 ? events.count : (uint64_t)line[1];
        if (known > events.count) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "request %zu: the user has %zu events, not %" PRIu64, i + 1,
                               events.count, known);
        }
        int64_t time = line[3] != 0 ? line[2] : events.times[known - 1];
        if (time < events.times[known - 1] || time > WEIR_DATASET_TIME_LIMIT) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "request %zu is asked before the last event that is known", i + 1);
        }
        err = weir_request_job_add(job, user, (size_t)known, time, error);
    }
    return err;
}

weir_err_t weir_rank_requests_read(weir_rank_requests_t *requests, const char *file,
                                   weir_dataset_t *dataset, weir_request_job_t *job,
                                   weir_error_t *error) {
    reading_t reading = {.lines = NULL};
    weir_err_t err = weir_id_lookup_create(WEIR_ID_USER, &reading.users, error);
    if (err == WEIR_OK) {
        err = weir_id_lookup_create(WEIR_ID_ITEM, &reading.items, error);
    }
    if (err == WEIR_OK) {
        err = read_lines(requests, &reading, file, error);
    }
    if (err == WEIR_OK && reading.line_count == 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "'%s' has no requests", file);
    }
    if (err == WEIR_OK) {
        err = resolve(requests, &reading, dataset, job, error);
        requests->requests = job->count;
    }
    weir_id_lookup_destroy(reading.users);
    weir_id_lookup_destroy(reading.items);
    free(reading.lines);
    return err;
}
