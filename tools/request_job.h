/* Requests of a verb, answered by a job: written into a folder of their own below the run's, which
 * all hosts see, and removed with it. The verb holds the folder's lock; a folder whose verb was
 * killed is free, and the next job of the run removes it. */
#ifndef WEIR_TOOLS_REQUEST_JOB_H
#define WEIR_TOOLS_REQUEST_JOB_H

#include "common/run_dir.h"
#include "tools/saved_job.h"
#include "worker/request_file.h"

typedef struct {
    char folder[WEIR_PATH_MAX];      /* "": none */
    weir_run_lock_t lock;            /* while there is a folder */
    int64_t *users, *events, *times; /* owned; room for `room` requests */
    size_t count, room;
    weir_tensor_file_t **answers; /* of each worker; owned */
    uint32_t workers;
    size_t *rows; /* of each worker's answers, how many have been taken */
} weir_request_job_t;

void weir_request_job_fini(weir_request_job_t *job); /* removes the folder */

/* One more request. */
WEIR_MUST_USE weir_err_t weir_request_job_add(weir_request_job_t *job, int64_t user, size_t events,
                                              int64_t time, weir_error_t *error);

/* Run: `requests` says kind, k and candidates; its users are filled in here. `*status`: of the
 * launcher; answers are there when it is 0. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_request_job_run(weir_request_job_t *job,
                                              const weir_saved_job_t *saved,
                                              weir_requests_t *requests, int *status,
                                              weir_error_t *error);

/* Rows of a tensor of the worker that answered request `request`: the next `rows` of `dtype` x
 * `columns`, in the order of requests. Errors: CORRUPT where they are not there. Take items before
 * scores: `last` moves on to the next request of this worker. */
WEIR_MUST_USE weir_err_t weir_request_job_take(weir_request_job_t *job, size_t request,
                                               const char *tensor, weir_dtype_t dtype, size_t rows,
                                               size_t columns, bool last, const void **values,
                                               weir_error_t *error);

#endif
