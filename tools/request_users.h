/* Which users a verb asks about, and what is known of each then: options that `weir recommend` and
 * `weir rank` share, as a child parser of argp. */
#ifndef WEIR_TOOLS_REQUEST_USERS_H
#define WEIR_TOOLS_REQUEST_USERS_H

#include "tools/request_job.h"

#include <argp.h>

typedef struct {
    const char **users; /* of --user; owned */
    size_t user_count;
    const char *file; /* of --users */
    bool as_test, has_time;
    int64_t time;
    int64_t test_from; /* of as_test: eval.test_from of the run, set before add */
} weir_request_users_t;

/* --user, --users, --at, --as-test; its input is a weir_request_users_t. */
extern const struct argp weir_request_users_argp;

/* Before parsing. Errors: out of memory. */
WEIR_MUST_USE weir_err_t weir_request_users_init(weir_request_users_t *users, int argc,
                                                 weir_error_t *error);
void weir_request_users_fini(weir_request_users_t *users);

/* Whether --user or --users names some. */
bool weir_request_users_are_named(const weir_request_users_t *users);

/* A request for each: of those named, else of all. Users of whom nothing is known then are left
 * out, and it is said. Errors: NOT_FOUND for an id that the data does not have, INVALID where no
 * user is left. */
WEIR_MUST_USE weir_err_t weir_request_users_add(const weir_request_users_t *users,
                                                weir_dataset_t *dataset, weir_request_job_t *job,
                                                weir_error_t *error);

#endif
