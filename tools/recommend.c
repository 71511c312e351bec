/* weir recommend: the best items of the whole catalogue for users, by a job on a checkpoint. */
#include "common/dataset_split.h"
#include "common/log.h"
#include "tools/answer_list.h"
#include "tools/id_lookup.h"
#include "tools/request_job.h"
#include "tools/verbs.h"
#include "worker/protocol.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_USERS = 256,
    OPTION_AT,
    OPTION_AS_TEST,
    OPTION_KNOWN,
    OPTION_FORMAT,
    OPTION_JSON,
    OPTION_OUT
};

typedef struct {
    weir_saved_job_t job;
    const char **users; /* of --user; owned */
    size_t user_count;
    const char *users_file, *out;
    size_t k;
    bool as_test, keep_known, has_time;
    int64_t time;
    weir_answers_format_t format;
} arguments_t;

static const struct argp_option options[] = {
    {"top", 'k', "K", 0, "items for each user (default 10)", 1},
    {"user", 'u', "ID", 0, "a user, by its id in the source; may be repeated (default: all users)",
     1},
    {"users", OPTION_USERS, "FILE", 0, "users, an id a line; - is standard input", 1},
    {"at", OPTION_AT, "TIME", 0,
     "ask at TIME (seconds since 1970): later events are not known (default: after each user's "
     "last event)",
     1},
    {"as-test", OPTION_AS_TEST, NULL, 0,
     "ask as `weir eval` does: the last event is not known, and its time is when is asked", 1},
    {"with-known", OPTION_KNOWN, NULL, 0, "give items that the user knows, too", 1},
    {"format", OPTION_FORMAT, "FORMAT", 0, "text (default), json (an object a line) or csv", 1},
    {"json", OPTION_JSON, NULL, 0, "the same as --format json", 1},
    {"out", OPTION_OUT, "FILE", 0, "write to FILE", 1},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    char *end = NULL;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->job;
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
    case 'u':
        arguments->users[arguments->user_count++] = value;
        return 0;
    case OPTION_USERS:
        arguments->users_file = value;
        return 0;
    case OPTION_AT:
        errno = 0;
        arguments->time = strtoll(value, &end, 10);
        arguments->has_time = true;
        if (end == value || *end != '\0' || errno != 0 ||
            llabs(arguments->time) > WEIR_DATASET_TIME_LIMIT) {
            argp_error(state, "--at wants seconds since 1970, not \"%s\"", value);
        }
        return 0;
    case OPTION_AS_TEST:
        arguments->as_test = true;
        return 0;
    case OPTION_KNOWN:
        arguments->keep_known = true;
        return 0;
    case OPTION_JSON:
        arguments->format = WEIR_ANSWERS_JSON;
        return 0;
    case OPTION_FORMAT:
        if (!weir_answers_format_parse(value, &arguments->format)) {
            argp_error(state, "--format is text, json or csv, not \"%s\"", value);
        }
        return 0;
    case OPTION_OUT:
        arguments->out = value;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return ARGP_ERR_UNKNOWN;
    case ARGP_KEY_END:
        if (arguments->has_time && arguments->as_test) {
            argp_error(state, "--at and --as-test exclude each other");
        }
        if (arguments->users_file != NULL && arguments->user_count > 0) {
            argp_error(state, "--user and --users exclude each other");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- which users, and what is known of them ---- */

/* The request of a user; `*known` false: nothing is known of it then, and it is left out. */
static weir_err_t add_user(const arguments_t *arguments, const weir_dataset_t *dataset,
                           uint64_t user, weir_request_job_t *job, bool *known,
                           weir_error_t *error) {
    weir_user_events_t events = weir_dataset_user(dataset, user);
    size_t count = events.count, target = 0;
    int64_t time = events.times[count - 1];
    *known = true;
    if (arguments->as_test) {
        *known = weir_protocol_target(events.count, 0, &target);
        count = target;
        time = events.times[target];
    } else if (arguments->has_time) {
        count = weir_dataset_first_test(events, arguments->time + 1);
        time = arguments->time;
        *known = count > 0;
    }
    return *known ? weir_request_job_add(job, (int64_t)user, count, time, error) : WEIR_OK;
}

typedef struct {
    uint32_t *handles; /* owned */
    size_t count, room;
} handles_t;

static weir_err_t want(weir_id_lookup_t *lookup, handles_t *handles, const char *id, size_t size,
                       weir_error_t *error) {
    if (handles->count == handles->room) {
        size_t room = handles->room == 0 ? 256 : 2 * handles->room;
        uint32_t *grown = realloc(handles->handles, room * sizeof *grown);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu users", room);
        }
        handles->handles = grown;
        handles->room = room;
    }
    return weir_id_lookup_want(lookup, id, size, &handles->handles[handles->count++], error);
}

/* The ids of --user and of the file. */
static weir_err_t collect_ids(const arguments_t *arguments, weir_id_lookup_t *lookup,
                              handles_t *handles, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < arguments->user_count && err == WEIR_OK; i++) {
        err = want(lookup, handles, arguments->users[i], strlen(arguments->users[i]), error);
    }
    if (arguments->users_file == NULL || err != WEIR_OK) {
        return err;
    }
    bool standard = strcmp(arguments->users_file, "-") == 0;
    FILE *file = standard ? stdin : fopen(arguments->users_file, "r");
    char *line = NULL;
    size_t capacity = 0;
    if (file == NULL) {
        return weir_error_from_errno(error, errno, "open '%s'", arguments->users_file);
    }
    for (ssize_t length = 0; err == WEIR_OK && length >= 0;) {
        length = getline(&line, &capacity, file);
        size_t size = length >= 0 ? strcspn(line, "\r\n") : 0;
        if (size > 0) {
            err = want(lookup, handles, line, size, error);
        }
    }
    free(line);
    if (!standard) {
        (void)fclose(file);
    }
    if (err == WEIR_OK && handles->count == 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "'%s' has no users", arguments->users_file);
    }
    return err;
}

static weir_err_t add_named(const arguments_t *arguments, weir_dataset_t *dataset,
                            weir_request_job_t *job, size_t *unknown, weir_error_t *error) {
    weir_id_lookup_t *lookup = NULL;
    handles_t handles = {.count = 0};
    weir_err_t err = weir_id_lookup_create(WEIR_ID_USER, &lookup, error);
    if (err == WEIR_OK) {
        err = collect_ids(arguments, lookup, &handles, error);
    }
    if (err == WEIR_OK) {
        err = weir_id_lookup_resolve(lookup, dataset, error);
    }
    for (size_t i = 0; i < handles.count && err == WEIR_OK; i++) {
        int64_t user = 0;
        bool known = false;
        err = weir_id_lookup_find(lookup, handles.handles[i], &user, error);
        if (err == WEIR_OK) {
            err = add_user(arguments, dataset, (uint64_t)user, job, &known, error);
            *unknown += known ? 0 : 1;
        }
    }
    free(handles.handles);
    weir_id_lookup_destroy(lookup);
    return err;
}

static weir_err_t add_users(const arguments_t *arguments, weir_dataset_t *dataset,
                            weir_request_job_t *job, weir_error_t *error) {
    size_t unknown = 0;
    weir_err_t err = WEIR_OK;
    if (arguments->user_count > 0 || arguments->users_file != NULL) {
        err = add_named(arguments, dataset, job, &unknown, error);
    } else {
        for (uint64_t user = 0; user < weir_dataset_users(dataset) && err == WEIR_OK; user++) {
            bool known = false;
            err = add_user(arguments, dataset, user, job, &known, error);
            unknown += known ? 0 : 1;
        }
    }
    if (err == WEIR_OK && unknown > 0) {
        (void)fprintf(stderr, "weir recommend: %zu users left out: nothing is known of them %s\n",
                      unknown, arguments->as_test ? "before their last event" : "at that time");
    }
    if (err == WEIR_OK && job->count == 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "there is no user to recommend anything to");
    }
    return err;
}

/* ---- the answers ---- */

static weir_err_t print_answers(const arguments_t *arguments, weir_dataset_t *dataset,
                                weir_request_job_t *job, weir_error_t *error) {
    static const char *const columns[] = {"score"};
    weir_answer_list_t *list = NULL;
    weir_err_t err = weir_answer_list_create(arguments->out, arguments->format, dataset, columns, 1,
                                             &list, error);
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
        err = add_users(arguments, dataset, job, error);
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
    static const struct argp_child children[] = {{&weir_saved_job_argp, 0, NULL, 0}, {0}};
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
    arguments_t arguments = {.k = 10, .users = calloc((size_t)argc + 1, sizeof(char *))};
    weir_request_job_t job = {.count = 0};
    int status = 0;
    weir_err_t err = weir_saved_job_init(&arguments.job, argc, &error);
    if (err == WEIR_OK && arguments.users == NULL) {
        err = weir_errorf(&error, WEIR_ERR_MEMORY, "out of memory");
    }
    if (err == WEIR_OK) {
        (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
        err = recommend(&arguments, &job, &status, &error);
    }
    weir_request_job_fini(&job);
    weir_saved_job_fini(&arguments.job);
    free(arguments.users);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return status;
}
