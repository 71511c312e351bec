/* Requests to a trained model, and its answers, as files in a folder that all hosts see: what
 * `weir recommend` and `weir rank` write, and what the workers of their job read and answer.
 *
 * requests.safetensors, R requests:
 *   "users" I64 [R], "events" I64 [R]: how many of the user's events are known, from the first on,
 *   "times" I64 [R]: when is asked, not before the last known event; and of ranking
 *   "candidate_offsets" I64 [R + 1] and "candidates" I64: items of the catalogue.
 *   Metadata: format weir-requests, version 1, kind recommend or rank; of recommending k, and known
 *   "keep" when known items may be recommended again, else "leave_out"; of ranking microbatch and
 *   cache_bytes.
 * answers-W.safetensors, of worker W: its requests are those of users u with u mod workers = W, in
 *   their order, A of them. Recommending: "items" I64 [A, k], 0 where there were too few, and
 *   "scores" F32 [A, k]. Ranking: "scores" F32 [candidates of its requests, tasks].
 * Both files are mapped and treated as hostile. */
#ifndef WEIR_WORKER_REQUEST_FILE_H
#define WEIR_WORKER_REQUEST_FILE_H

#include "common/dataset.h"
#include "common/error.h"
#include "common/tensor_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEIR_REQUEST_FILE "requests.safetensors"

enum {
    WEIR_REQUEST_MOST_ITEMS = 1 << 20,     /* k */
    WEIR_REQUEST_MOST_MICROBATCH = 1 << 20 /* candidates at a time */
};

typedef enum { WEIR_REQUEST_RECOMMEND, WEIR_REQUEST_RANK } weir_request_kind_t;

typedef struct {
    weir_request_kind_t kind;
    size_t count; /* R */
    const int64_t *users, *events, *times;
    size_t k;        /* recommending: items wanted */
    bool keep_known; /* recommending: items that the user knows may be given */
    const int64_t *candidate_offsets, *candidates; /* ranking; else NULL */
    size_t microbatch;                             /* ranking: candidates scored at a time */
    size_t cache_bytes;                            /* ranking: of histories kept between requests */
} weir_requests_t;

/* Write them to FOLDER. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_requests_write(const char *folder, const weir_requests_t *requests,
                                             weir_error_t *error);

/* Map and check those of FOLDER against the data: users, events and candidates are there, a user
 * with a request knows an event at least, times do not lie before it. `requests` points into
 * `*file`, which the caller closes. Errors: NOT_FOUND, CORRUPT. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_requests_open(const char *folder, const weir_dataset_t *dataset,
                                            weir_requests_t *requests, weir_tensor_file_t **file,
                                            weir_error_t *error);

/* Whose request it is. */
static inline uint32_t weir_request_worker(int64_t user, uint32_t workers) {
    return (uint32_t)((uint64_t)user % workers);
}

/* Path of the answers of a worker. */
WEIR_MUST_USE weir_err_t weir_answers_path(char *out, size_t capacity, const char *folder,
                                           uint32_t worker, weir_error_t *error);

#endif
