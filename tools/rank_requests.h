/* What `weir rank` asks for: candidates for users, from lists of ids or from JSON lines. */
#ifndef WEIR_TOOLS_RANK_REQUESTS_H
#define WEIR_TOOLS_RANK_REQUESTS_H

#include "tools/request_users.h"

typedef struct {
    int64_t *offsets, *items; /* of weir_requests_t; owned */
    size_t requests, item_room;
} weir_rank_requests_t;

void weir_rank_requests_fini(weir_rank_requests_t *requests);

/* The items of `file` (an id a line, - is standard input; NULL: the whole catalogue) for each
 * request that `job` has. Errors: NOT_FOUND for an item that the data does not have. */
WEIR_MUST_USE weir_err_t weir_rank_requests_share(weir_rank_requests_t *requests, const char *file,
                                                  weir_dataset_t *dataset,
                                                  const weir_request_job_t *job,
                                                  weir_error_t *error);

/* Users and candidates from JSON lines: {"user": ID, "items": [ID, ..]} and, if wanted, "known":
 * how many of the user's events are known (default: all), "at": when is asked (default: after the
 * last of them). Requests are added to `job`. Errors name the line. */
WEIR_MUST_USE weir_err_t weir_rank_requests_read(weir_rank_requests_t *requests, const char *file,
                                                 weir_dataset_t *dataset, weir_request_job_t *job,
                                                 weir_error_t *error);

#endif
