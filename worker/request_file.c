#include "worker/request_file.h"

#include "common/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "weir-requests"
#define VERSION "1"

static const char *const kinds[] = {
    [WEIR_REQUEST_RECOMMEND] = "recommend", [WEIR_REQUEST_RANK] = "rank"};

/* ---- writing ---- */

static weir_err_t write_metadata(weir_tensor_writer_t *file, const weir_requests_t *requests,
                                 weir_error_t *error) {
    char k[24], microbatch[24], cache_bytes[24];
    (void)snprintf(k, sizeof k, "%zu", requests->k);
    (void)snprintf(microbatch, sizeof microbatch, "%zu", requests->microbatch);
    (void)snprintf(cache_bytes, sizeof cache_bytes, "%zu", requests->cache_bytes);
    const char *const pairs[][2] = {{"format", FORMAT},
                                    {"version", VERSION},
                                    {"kind", kinds[requests->kind]},
                                    {"k", k},
                                    {"microbatch", microbatch},
                                    {"cache_bytes", cache_bytes},
                                    {"known", requests->keep_known ? "keep" : "leave_out"}};
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0] && err == WEIR_OK; i++) {
        err = weir_tensor_writer_metadata(file, pairs[i][0], pairs[i][1], error);
    }
    return err;
}

weir_err_t weir_requests_write(const char *folder, const weir_requests_t *requests,
                               weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_tensor_writer_t *file = NULL;
    size_t count = requests->count;
    bool rank = requests->kind == WEIR_REQUEST_RANK;
    const struct {
        const char *name;
        const int64_t *values;
        uint64_t count;
    } tensors[] = {{"users", requests->users, count},
                   {"events", requests->events, count},
                   {"times", requests->times, count},
                   {"candidate_offsets", requests->candidate_offsets, count + 1},
                   {"candidates", requests->candidates,
                    rank ? (uint64_t)requests->candidate_offsets[count] : 0}};
    size_t used = rank ? 5 : 3;
    weir_err_t err = weir_path_join(path, sizeof path, folder, WEIR_REQUEST_FILE, error);
    if (err == WEIR_OK) {
        err = weir_tensor_writer_create(path, &file, error);
    }
    if (err == WEIR_OK) {
        err = write_metadata(file, requests, error);
    }
    for (size_t i = 0; i < used && err == WEIR_OK; i++) {
        err = weir_tensor_writer_declare(file, tensors[i].name, WEIR_DTYPE_I64, 1,
                                         &tensors[i].count, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_begin(file, error);
    }
    for (size_t i = 0; i < used && err == WEIR_OK; i++) {
        err = weir_tensor_writer_append(file, tensors[i].values,
                                        (size_t)tensors[i].count * sizeof(int64_t), error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_commit(file, NULL, NULL, error);
    }
    weir_tensor_writer_destroy(file);
    return err;
}

/* ---- reading ---- */

static weir_err_t require(const weir_tensor_file_t *file, const char *name, uint64_t count,
                          const int64_t **values, uint64_t *found, weir_error_t *error) {
    const weir_tensor_t *tensor = NULL;
    weir_err_t err =
        weir_tensor_file_require(file, name, WEIR_DTYPE_I64, 1, &count, &tensor, error);
    if (err == WEIR_OK) {
        *values = tensor->values;
        *found = tensor->shape[0];
    }
    return err;
}

static bool is(const weir_tensor_file_t *file, const char *key, const char *value) {
    const char *found = weir_tensor_file_metadata(file, key);
    return found != NULL && strcmp(found, value) == 0;
}

/* A whole number of `least` to `most` in the metadata. */
static weir_err_t read_number(const weir_tensor_file_t *file, const char *key, uint64_t least,
                              uint64_t most, size_t *number, weir_error_t *error) {
    const char *text = weir_tensor_file_metadata(file, key);
    char *end = NULL;
    errno = 0;
    unsigned long long value = text != NULL ? strtoull(text, &end, 10) : 0;
    if (text == NULL || text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 ||
        value < least || value > most) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: %s is not %llu to %llu",
                           weir_tensor_file_path(file), key, (unsigned long long)least,
                           (unsigned long long)most);
    }
    *number = (size_t)value;
    return WEIR_OK;
}

static weir_err_t read_metadata(const weir_tensor_file_t *file, weir_requests_t *requests,
                                weir_error_t *error) {
    bool rank = is(file, "kind", kinds[WEIR_REQUEST_RANK]);
    if (!is(file, "format", FORMAT) || !is(file, "version", VERSION) ||
        (!rank && !is(file, "kind", kinds[WEIR_REQUEST_RECOMMEND]))) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s does not hold requests",
                           weir_tensor_file_path(file));
    }
    requests->kind = rank ? WEIR_REQUEST_RANK : WEIR_REQUEST_RECOMMEND;
    requests->keep_known = is(file, "known", "keep");
    if (!rank) {
        return read_number(file, "k", 1, WEIR_REQUEST_MOST_ITEMS, &requests->k, error);
    }
    weir_err_t err = read_number(file, "microbatch", 1, WEIR_REQUEST_MOST_MICROBATCH,
                                 &requests->microbatch, error);
    return err == WEIR_OK
               ? read_number(file, "cache_bytes", 0, SIZE_MAX, &requests->cache_bytes, error)
               : err;
}

static weir_err_t check_requests(const weir_requests_t *requests, const weir_dataset_t *dataset,
                                 const char *path, weir_error_t *error) {
    for (size_t i = 0; i < requests->count; i++) {
        int64_t user = requests->users[i], known = requests->events[i];
        bool good = user >= 0 && (uint64_t)user < weir_dataset_users(dataset) && known >= 1;
        if (good) {
            weir_user_events_t events = weir_dataset_user(dataset, (uint64_t)user);
            good = (uint64_t)known <= events.count &&
                   requests->times[i] >= events.times[known - 1] &&
                   requests->times[i] <= WEIR_DATASET_TIME_LIMIT;
        }
        if (!good) {
            return weir_errorf(error, WEIR_ERR_CORRUPT,
                               "%s: request %zu asks for what the data does not have", path, i);
        }
    }
    return WEIR_OK;
}

static weir_err_t check_candidates(const weir_requests_t *requests, uint64_t candidates,
                                   const weir_dataset_t *dataset, const char *path,
                                   weir_error_t *error) {
    const int64_t *offsets = requests->candidate_offsets;
    bool good = offsets[0] == 0 && offsets[requests->count] >= 0 &&
                (uint64_t)offsets[requests->count] == candidates;
    for (size_t i = 0; i < requests->count && good; i++) {
        good = offsets[i] <= offsets[i + 1];
    }
    for (uint64_t i = 0; i < candidates && good; i++) {
        good = requests->candidates[i] >= 1 &&
               (uint64_t)requests->candidates[i] <= weir_dataset_items(dataset);
    }
    return good ? WEIR_OK
                : weir_errorf(error, WEIR_ERR_CORRUPT,
                              "%s: candidates are not those of its requests, or not in the "
                              "catalogue",
                              path);
}

weir_err_t weir_requests_open(const char *folder, const weir_dataset_t *dataset,
                              weir_requests_t *requests, weir_tensor_file_t **file,
                              weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    uint64_t count = 0, candidates = 0;
    weir_tensor_file_t *opened = NULL;
    *requests = (weir_requests_t){.count = 0};
    weir_err_t err = weir_path_join(path, sizeof path, folder, WEIR_REQUEST_FILE, error);
    if (err == WEIR_OK) {
        err = weir_tensor_file_open(path, &opened, error);
    }
    if (err == WEIR_OK) {
        err = read_metadata(opened, requests, error);
    }
    if (err == WEIR_OK) {
        err = require(opened, "users", UINT64_MAX, &requests->users, &count, error);
        requests->count = (size_t)count;
    }
    if (err == WEIR_OK) {
        err = require(opened, "events", count, &requests->events, &count, error);
    }
    if (err == WEIR_OK) {
        err = require(opened, "times", count, &requests->times, &count, error);
    }
    if (err == WEIR_OK) {
        err = check_requests(requests, dataset, path, error);
    }
    if (err == WEIR_OK && requests->kind == WEIR_REQUEST_RANK) {
        err = require(opened, "candidate_offsets", count + 1, &requests->candidate_offsets, &count,
                      error);
        if (err == WEIR_OK) {
            err = require(opened, "candidates", UINT64_MAX, &requests->candidates, &candidates,
                          error);
        }
        if (err == WEIR_OK) {
            err = check_candidates(requests, candidates, dataset, path, error);
        }
    }
    if (err != WEIR_OK) {
        weir_tensor_file_close(opened);
        return err;
    }
    *file = opened;
    return WEIR_OK;
}

/* ---- answers ---- */

weir_err_t weir_answers_path(char *out, size_t capacity, const char *folder, uint32_t worker,
                             weir_error_t *error) {
    char name[48];
    (void)snprintf(name, sizeof name, "answers-%u.safetensors", worker);
    return weir_path_join(out, capacity, folder, name, error);
}
