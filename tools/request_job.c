#include "tools/request_job.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void remove_folder(weir_request_job_t *job) {
    weir_error_t error = {0};
    if (job->folder[0] == '\0') {
        return;
    }
    if (weir_file_remove_directory(job->folder, &error) != WEIR_OK) {
        (void)fprintf(stderr, "'%s' stays behind: %s\n", job->folder, error.message);
    }
    weir_run_dir_release(job->folder, &job->lock);
    job->folder[0] = '\0';
}

void weir_request_job_fini(weir_request_job_t *job) {
    for (uint32_t worker = 0; job->answers != NULL && worker < job->workers; worker++) {
        weir_tensor_file_close(job->answers[worker]);
    }
    free(job->answers);
    free(job->rows);
    free(job->users);
    free(job->events);
    free(job->times);
    remove_folder(job);
}

weir_err_t weir_request_job_add(weir_request_job_t *job, int64_t user, size_t events, int64_t time,
                                weir_error_t *error) {
    if (job->count == job->room) {
        size_t room = job->room == 0 ? 1024 : 2 * job->room;
        int64_t **const arrays[] = {&job->users, &job->events, &job->times};
        for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
            int64_t *grown = realloc(*arrays[i], room * sizeof *grown);
            if (grown == NULL) {
                return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu requests", room);
            }
            *arrays[i] = grown;
        }
        job->room = room;
    }
    job->users[job->count] = user;
    job->events[job->count] = (int64_t)events;
    job->times[job->count++] = time;
    return WEIR_OK;
}

static const char folder_name[] = "requests-XXXXXX";

/* Folders of verbs that were killed. What cannot be removed does no harm. */
static void remove_abandoned(const char *run) {
    const size_t prefix = sizeof "requests-" - 1;
    DIR *entries = opendir(run);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        char path[WEIR_PATH_MAX];
        struct stat found;
        if (strlen(entry->d_name) == sizeof folder_name - 1 &&
            strncmp(entry->d_name, folder_name, prefix) == 0 &&
            weir_path_join(path, sizeof path, run, entry->d_name, NULL) == WEIR_OK &&
            lstat(path, &found) == 0 && S_ISDIR(found.st_mode) && weir_run_dir_is_free(path)) {
            (void)!weir_file_remove_directory(path, NULL);
        }
    }
    if (entries != NULL) {
        (void)closedir(entries);
    }
}

static weir_err_t make_folder(weir_request_job_t *job, const char *run, weir_error_t *error) {
    remove_abandoned(run);
    weir_err_t err = weir_path_join(job->folder, sizeof job->folder, run, folder_name, error);
    if (err == WEIR_OK && mkdtemp(job->folder) == NULL) {
        err = weir_error_from_errno(error, errno, "create a folder for requests in '%s'", run);
        weir_error_hint(error, "a job on a run writes into its folder; a copy (cp -r) will do");
        job->folder[0] = '\0';
    }
    job->lock.fd = -1;
    return err == WEIR_OK ? weir_run_dir_acquire(job->folder, true, &job->lock, error) : err;
}

static weir_err_t open_answers(weir_request_job_t *job, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = WEIR_OK;
    job->answers = calloc(job->workers, sizeof(*job->answers));
    job->rows = calloc(job->workers, sizeof *job->rows);
    if (job->answers == NULL || job->rows == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    }
    for (uint32_t worker = 0; worker < job->workers && err == WEIR_OK; worker++) {
        err = weir_answers_path(path, sizeof path, job->folder, worker, error);
        if (err == WEIR_OK) {
            err = weir_tensor_file_open(path, &job->answers[worker], error);
        }
    }
    return err;
}

weir_err_t weir_request_job_run(weir_request_job_t *job, const weir_saved_job_t *saved,
                                weir_requests_t *requests, int *status, weir_error_t *error) {
    requests->count = job->count;
    requests->users = job->users;
    requests->events = job->events;
    requests->times = job->times;
    job->workers = (uint32_t)saved->config.cluster.workers;
    weir_err_t err = make_folder(job, saved->run, error);
    if (err == WEIR_OK) {
        err = weir_requests_write(job->folder, requests, error);
    }
    if (err == WEIR_OK) {
        err = weir_saved_job_run(saved, job->folder, status, error);
    }
    if (err == WEIR_OK && *status == 0) {
        err = open_answers(job, error);
    }
    remove_folder(job); /* the answers stay mapped: a reader of ours that goes leaves nothing */
    return err;
}

weir_err_t weir_request_job_take(weir_request_job_t *job, size_t request, const char *tensor,
                                 weir_dtype_t dtype, size_t rows, size_t columns, bool last,
                                 const void **values, weir_error_t *error) {
    uint32_t worker = weir_request_worker(job->users[request], job->workers);
    const uint64_t shape[2] = {UINT64_MAX, columns};
    const weir_tensor_t *found = NULL;
    weir_err_t err =
        weir_tensor_file_require(job->answers[worker], tensor, dtype, 2, shape, &found, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (found->shape[0] < rows || job->rows[worker] > found->shape[0] - rows) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s has too few answers",
                           weir_tensor_file_path(job->answers[worker]));
    }
    *values = (const char *)found->values + job->rows[worker] * columns * weir_dtype_size(dtype);
    job->rows[worker] += last ? rows : 0;
    return WEIR_OK;
}
