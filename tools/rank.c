/* weir rank: scores of candidates for users by a ranking model, by a job on a checkpoint. */
#include "common/log.h"
#include "tools/answer_list.h"
#include "tools/rank_requests.h"
#include "tools/verbs.h"
#include "worker/ranking_tasks.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_CANDIDATES = 256,
    OPTION_REQUESTS,
    OPTION_BY,
    OPTION_IN_ORDER,
    OPTION_MICROBATCH,
    OPTION_CACHE
};

typedef struct {
    weir_saved_job_t job;
    weir_request_users_t users;
    const char *candidates, *requests, *by;
    bool in_order;
    size_t top, microbatch, cache_mib; /* top 0: all */
    weir_answer_options_t answers;
} arguments_t;

static const struct argp_option options[] = {
    {"candidates", OPTION_CANDIDATES, "FILE", 0,
     "items to score for each user, an id a line; - is standard input (default: the whole "
     "catalogue)",
     1},
    {"requests", OPTION_REQUESTS, "FILE", 0,
     "JSON lines {\"user\": .., \"items\": [..]} with candidates of their own, and if wanted "
     "\"known\": events that are known, \"at\": when is asked",
     1},
    {"top", 'k', "K", 0,
     "the K best of each request (default: all that are named, 10 of the whole catalogue)", 1},
    {"by", OPTION_BY, "TASK", 0, "the action whose chance orders them (default: the first)", 1},
    {"in-order", OPTION_IN_ORDER, NULL, 0, "leave candidates in the order they were given in", 1},
    {"microbatch", OPTION_MICROBATCH, "N", 0, "candidates scored at a time (default 1024)", 1},
    {"cache-mib", OPTION_CACHE, "N", 0,
     "memory of each worker for histories between requests (default 256)", 1},
    {0},
};

static size_t parse_number(const char *name, const char *text, size_t least, size_t most,
                           struct argp_state *state) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < least ||
        value > most) {
        argp_error(state, "%s wants a whole number from %zu to %zu, not \"%s\"", name, least, most,
                   text);
    }
    return (size_t)value;
}

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->job;
        state->child_inputs[1] = &arguments->users;
        state->child_inputs[2] = &arguments->answers;
        return 0;
    case OPTION_CANDIDATES:
        arguments->candidates = value;
        return 0;
    case OPTION_REQUESTS:
        arguments->requests = value;
        return 0;
    case 'k':
        arguments->top = parse_number("--top", value, 1, WEIR_REQUEST_MOST_ITEMS, state);
        return 0;
    case OPTION_BY:
        arguments->by = value;
        return 0;
    case OPTION_IN_ORDER:
        arguments->in_order = true;
        return 0;
    case OPTION_MICROBATCH:
        arguments->microbatch =
            parse_number("--microbatch", value, 1, WEIR_REQUEST_MOST_MICROBATCH, state);
        return 0;
    case OPTION_CACHE:
        arguments->cache_mib = parse_number("--cache-mib", value, 0, 1 << 30, state);
        return 0;
    case ARGP_KEY_END:
        if (arguments->requests != NULL &&
            (arguments->candidates != NULL || arguments->users.has_time ||
             arguments->users.as_test || weir_request_users_are_named(&arguments->users))) {
            argp_error(state, "--requests says itself which users and candidates, and when");
        }
        if (arguments->in_order && (arguments->by != NULL || arguments->top > 0)) {
            argp_error(state, "--in-order excludes --by and --top");
        }
        if (arguments->requests == NULL && arguments->candidates == NULL && arguments->top == 0 &&
            !arguments->in_order) {
            arguments->top = 10;
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the answers ---- */

typedef struct {
    weir_ranking_tasks_t list;
    const char *columns[WEIR_TASK_LIMIT];
    size_t count, by; /* the column that orders */
} tasks_t;

static weir_err_t name_tasks(const arguments_t *arguments, const weir_dataset_t *dataset,
                             tasks_t *tasks, weir_error_t *error) {
    weir_err_t err = weir_ranking_tasks_read(&arguments->job.config, dataset, &tasks->list, error);
    if (err != WEIR_OK) {
        return err;
    }
    tasks->count = tasks->list.count;
    for (size_t k = 0; k < tasks->count; k++) {
        tasks->columns[k] = tasks->list.list[k].name;
    }
    for (tasks->by = 0; arguments->by != NULL && tasks->by < tasks->count; tasks->by++) {
        if (strcmp(tasks->columns[tasks->by], arguments->by) == 0) {
            return WEIR_OK;
        }
    }
    return arguments->by == NULL ? WEIR_OK
                                 : weir_errorf(error, WEIR_ERR_INVALID,
                                               "the model predicts no \"%s\"", arguments->by);
}

typedef struct {
    float by; /* what is not a number comes last */
    size_t place;
} sorted_t;

static int compare_sorted(const void *a, const void *b) {
    const sorted_t *x = a, *y = b;
    if (x->by != y->by && !isnan(x->by) && !isnan(y->by)) {
        return x->by < y->by ? 1 : -1;
    }
    if (isnan(x->by) != isnan(y->by)) {
        return isnan(x->by) ? 1 : -1;
    }
    return (x->place > y->place) - (x->place < y->place);
}

/* Room for the longest list, in its order. */
typedef struct {
    sorted_t *sorted;
    int64_t *items;
    float *scores;
} room_t;

static void order(const arguments_t *arguments, const tasks_t *tasks, const int64_t *items,
                  const float *scores, size_t count, room_t *room) {
    for (size_t i = 0; i < count; i++) {
        room->sorted[i] = (sorted_t){scores[i * tasks->count + tasks->by], i};
    }
    if (!arguments->in_order) {
        qsort(room->sorted, count, sizeof *room->sorted, compare_sorted);
    }
    for (size_t i = 0; i < count; i++) {
        size_t from = room->sorted[i].place;
        room->items[i] = items[from];
        memcpy(room->scores + i * tasks->count, scores + from * tasks->count,
               tasks->count * sizeof *scores);
    }
}

static weir_err_t print_lists(const arguments_t *arguments, const tasks_t *tasks,
                              weir_answer_list_t *list, const weir_rank_requests_t *requests,
                              weir_request_job_t *job, room_t *room, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < requests->requests && err == WEIR_OK; i++) {
        const int64_t *items = requests->items + requests->offsets[i];
        size_t count = (size_t)(requests->offsets[i + 1] - requests->offsets[i]);
        const void *scores = NULL;
        err = weir_request_job_take(job, i, "scores", WEIR_DTYPE_F32, count, tasks->count, true,
                                    &scores, error);
        if (err == WEIR_OK) {
            order(arguments, tasks, items, scores, count, room);
            count = arguments->top > 0 && arguments->top < count ? arguments->top : count;
            err =
                weir_answer_list_add(list, job->users[i], room->items, room->scores, count, error);
        }
    }
    return err == WEIR_OK ? weir_answer_list_commit(list, error) : err;
}

static weir_err_t print_answers(const arguments_t *arguments, const tasks_t *tasks,
                                weir_dataset_t *dataset, const weir_rank_requests_t *requests,
                                weir_request_job_t *job, weir_error_t *error) {
    weir_answer_list_t *list = NULL;
    size_t longest = 0;
    for (size_t i = 0; i < requests->requests; i++) {
        size_t count = (size_t)(requests->offsets[i + 1] - requests->offsets[i]);
        longest = count > longest ? count : longest;
    }
    room_t room = {.sorted = calloc(longest + 1, sizeof *room.sorted),
                   .items = calloc(longest + 1, sizeof *room.items),
                   .scores = calloc((longest + 1) * tasks->count, sizeof *room.scores)};
    weir_err_t err =
        room.sorted != NULL && room.items != NULL && room.scores != NULL
            ? weir_answer_list_create(&arguments->answers, dataset, tasks->columns, tasks->count,
                                      &list, error)
            : weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu candidates", longest);
    if (err == WEIR_OK) {
        err = print_lists(arguments, tasks, list, requests, job, &room, error);
    }
    weir_answer_list_destroy(list);
    free(room.sorted);
    free(room.items);
    free(room.scores);
    return err;
}

/* ---- the verb ---- */

static weir_err_t gather(const arguments_t *arguments, weir_dataset_t *dataset,
                         weir_rank_requests_t *wanted, weir_request_job_t *job,
                         weir_error_t *error) {
    if (arguments->requests != NULL) {
        return weir_rank_requests_read(wanted, arguments->requests, dataset, job, error);
    }
    weir_err_t err = weir_request_users_add(&arguments->users, dataset, job, error);
    return err == WEIR_OK
               ? weir_rank_requests_share(wanted, arguments->candidates, dataset, job, error)
               : err;
}

static weir_err_t rank(arguments_t *arguments, weir_rank_requests_t *wanted,
                       weir_request_job_t *job, int *status, weir_error_t *error) {
    weir_dataset_t *dataset = NULL;
    tasks_t tasks;
    weir_err_t err = weir_saved_job_choose(&arguments->job, error);
    if (err == WEIR_OK && arguments->answers.out != NULL) {
        err = weir_file_check_place(arguments->answers.out, error);
    }
    if (err == WEIR_OK && arguments->job.config.model.kind != WEIR_MODEL_RANKING) {
        err = weir_errorf(error, WEIR_ERR_INVALID,
                          "the model of %s scores the catalogue, it does not rank candidates",
                          arguments->job.run);
        weir_error_hint(error, "weir recommend gives the best items of the catalogue");
    }
    if (err == WEIR_OK) {
        err = weir_dataset_open(arguments->job.config.data.path, &dataset, error);
    }
    if (err == WEIR_OK) {
        err = name_tasks(arguments, dataset, &tasks, error);
    }
    if (err == WEIR_OK) {
        err = gather(arguments, dataset, wanted, job, error);
    }
    if (err == WEIR_OK) {
        weir_requests_t requests = {.kind = WEIR_REQUEST_RANK,
                                    .candidate_offsets = wanted->offsets,
                                    .candidates = wanted->items,
                                    .microbatch = arguments->microbatch,
                                    .cache_bytes = arguments->cache_mib << 20};
        err = weir_request_job_run(job, &arguments->job, &requests, status, error);
    }
    if (err == WEIR_OK && *status == 0) {
        err = print_answers(arguments, &tasks, dataset, wanted, job, error);
    }
    weir_dataset_close(dataset);
    return err;
}

int weir_verb_rank(int argc, char **argv) {
    static const struct argp_child children[] = {{&weir_saved_job_argp, 0, NULL, 0},
                                                 {&weir_request_users_argp, 0, NULL, 0},
                                                 {&weir_answers_argp, 0, NULL, 0},
                                                 {0}};
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "The chance of each action of a user on candidates, by a ranking model: a job of P servers "
        "and W workers on a checkpoint of a run. A user's history is computed once and kept for "
        "all of its candidates and later requests.",
        children,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {.microbatch = 1024, .cache_mib = 256};
    weir_rank_requests_t wanted = {.requests = 0};
    weir_request_job_t job = {.count = 0};
    int status = 0;
    weir_err_t err = weir_saved_job_init(&arguments.job, argc, &error);
    if (err == WEIR_OK) {
        err = weir_request_users_init(&arguments.users, argc, &error);
    }
    if (err == WEIR_OK) {
        (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
        err = rank(&arguments, &wanted, &job, &status, &error);
    }
    weir_request_job_fini(&job);
    weir_rank_requests_fini(&wanted);
    weir_request_users_fini(&arguments.users);
    weir_saved_job_fini(&arguments.job);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return status;
}
