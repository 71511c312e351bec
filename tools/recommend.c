/* weir recommend: the best items of the whole catalogue for users, by a job on a checkpoint. */
#include "common/log.h"
#include "tools/answer_list.h"
#include "tools/request_users.h"
#include "tools/verbs.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_KNOWN = 256 };

typedef struct {
    weir_saved_job_t job;
    weir_request_users_t users;
    size_t k;
    bool keep_known;
    weir_answer_options_t answers;
} arguments_t;

static const struct argp_option options[] = {
    {"top", 'k', "K", 0, "items for each user (default 10)", 1},
    {"with-known", OPTION_KNOWN, NULL, 0, "give items that the user knows, too", 1},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    char *end = NULL;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->job;
        state->child_inputs[1] = &arguments->users;
        state->child_inputs[2] = &arguments->answers;
        return 0;
    case 'k':
        errno = 0;
        arguments->k = strtoull(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || arguments->k == 0 ||
            arguments->k > WEIR_REQUEST_MOST_ITEMS) {
            argp_error(state, "--top wants a whole number from 1 to %d, not \"%s\"",
                       WEIR_REQUEST_MOST_ITEMS, value);
        }
        return 0;
    case OPTION_KNOWN:
        arguments->keep_known = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the answers ---- */

static weir_err_t print_answers(const arguments_t *arguments, weir_dataset_t *dataset,
                                weir_request_job_t *job, weir_error_t *error) {
    static const char *const columns[] = {"score"};
    weir_answer_list_t *list = NULL;
    weir_err_t err =
        weir_answer_list_create(&arguments->answers, dataset, columns, 1, &list, error);
    for (size_t i = 0; i < job->count && err == WEIR_OK; i++) {
        const void *items = NULL, *scores = NULL;
        err = weir_request_job_take(job, i, "items", WEIR_DTYPE_I64, 1, arguments->k, false, &items,
                                    error);
        if (err == WEIR_OK) {
            err = weir_request_job_take(job, i, "scores", WEIR_DTYPE_F32, 1, arguments->k, true,
                                        &scores, error);
        }
        if (err == WEIR_OK) {
            err = weir_answer_list_add(list, job->users[i], items, scores, arguments->k, error);
        }
    }
    if (err == WEIR_OK) {
        err = weir_answer_list_commit(list, error);
    }
    weir_answer_list_destroy(list);
    return err;
}

static weir_err_t recommend(arguments_t *arguments, weir_request_job_t *job, int *status,
                            weir_error_t *error) {
    weir_dataset_t *dataset = NULL;
    weir_requests_t requests = {
        .kind = WEIR_REQUEST_RECOMMEND, .k = arguments->k, .keep_known = arguments->keep_known};
    weir_err_t err = weir_saved_job_choose(&arguments->job, error);
    if (err == WEIR_OK && arguments->answers.out != NULL) {
        err = weir_file_check_place(arguments->answers.out, error);
    }
    if (err == WEIR_OK && arguments->job.config.model.kind == WEIR_MODEL_RANKING) {
        err = weir_errorf(error, WEIR_ERR_INVALID,
                          "the model of %s ranks candidates and does not score the catalogue",
                          arguments->job.run);
        weir_error_hint(error, "weir rank scores candidates with it");
    }
    if (err == WEIR_OK) {
        err = weir_dataset_open(arguments->job.config.data.path, &dataset, error);
    }
    if (err == WEIR_OK) {
        arguments->users.test_from = arguments->job.config.eval.test_from;
        err = weir_request_users_add(&arguments->users, dataset, job, error);
    }
    if (err == WEIR_OK) {
        err = weir_request_job_run(job, &arguments->job, &requests, status, error);
    }
    if (err == WEIR_OK && *status == 0) {
        err = print_answers(arguments, dataset, job, error);
    }
    weir_dataset_close(dataset);
    return err;
}

int weir_verb_recommend(int argc, char **argv) {
    static const struct argp_child children[] = {{&weir_saved_job_argp, 0, NULL, 0},
                                                 {&weir_request_users_argp, 0, NULL, 0},
                                                 {&weir_answers_argp, 0, NULL, 0},
                                                 {0}};
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "The best items of the whole catalogue for users, exact, by a job of P servers and W "
        "workers on a checkpoint of a run. Items that a user knows are left out.",
        children,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {.k = 10};
    weir_request_job_t job = {.count = 0};
    int status = 0;
    weir_err_t err = weir_saved_job_init(&arguments.job, argc, &error);
    if (err == WEIR_OK) {
        err = weir_request_users_init(&arguments.users, argc, &error);
    }
    if (err == WEIR_OK) {
        (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
        err = recommend(&arguments, &job, &status, &error);
    }
    weir_request_job_fini(&job);
    weir_saved_job_fini(&arguments.job);
    weir_request_users_fini(&arguments.users);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return status;
}
