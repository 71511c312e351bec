#include "tools/request_users.h"

#include "common/dataset_split.h"
#include "tools/id_lookup.h"
#include "worker/protocol.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_USERS = 768, OPTION_AT, OPTION_AS_TEST };

static const struct argp_option options[] = {
    {"user", 'u', "ID", 0, "a user, by its id in the source; may be repeated (default: all users)",
     0},
    {"users", OPTION_USERS, "FILE", 0, "users, an id a line; - is standard input", 0},
    {"at", OPTION_AT, "TIME", 0,
     "ask at TIME (seconds since 1970): later events are not known (default: after each user's "
     "last event)",
     0},
    {"as-test", OPTION_AS_TEST, NULL, 0,
     "the last event is not known, and its time is when is asked, as of the test of a model of the "
     "catalogue",
     0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    weir_request_users_t *users = state->input;
    char *end = NULL;
    switch (key) {
    case 'u':
        users->users[users->user_count++] = value; /* there is room for all of the command line */
        return 0;
    case OPTION_USERS:
        users->file = value;
        return 0;
    case OPTION_AT:
        errno = 0;
        users->time = strtoll(value, &end, 10);
        users->has_time = true;
        if (end == value || *end != '\0' || errno != 0 ||
            llabs(users->time) > WEIR_DATASET_TIME_LIMIT) {
            argp_error(state, "--at wants seconds since 1970, not \"%s\"", value);
        }
        return 0;
    case OPTION_AS_TEST:
        users->as_test = true;
        return 0;
    case ARGP_KEY_END:
        if (users->has_time && users->as_test) {
            argp_error(state, "--at and --as-test exclude each other");
        }
        if (users->file != NULL && users->user_count > 0) {
            argp_error(state, "--user and --users exclude each other");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp weir_request_users_argp = {options, parse_option, NULL, NULL, NULL, NULL, NULL};

weir_err_t weir_request_users_init(weir_request_users_t *users, int argc, weir_error_t *error) {
    *users = (weir_request_users_t){.users = calloc((size_t)argc + 1, sizeof *users->users)};
    return users->users != NULL ? WEIR_OK : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
}

void weir_request_users_fini(weir_request_users_t *users) {
    free(users->users);
}

bool weir_request_users_are_named(const weir_request_users_t *users) {
    return users->user_count > 0 || users->file != NULL;
}

/* The request of a user; `*known` false: nothing is known of it then, and it is left out. */
static weir_err_t add_user(const weir_request_users_t *users, const weir_dataset_t *dataset,
                           uint64_t user, weir_request_job_t *job, bool *known,
                           weir_error_t *error) {
    weir_user_events_t events = weir_dataset_user(dataset, user);
    size_t count = events.count, target = 0;
    int64_t time = events.times[count - 1];
    *known = true;
    if (users->as_test) {
        target = weir_protocol_known(events, users->test_from);
        *known = target > 0 && target < events.count;
        count = target;
        time = *known ? events.times[target] : 0;
    } else if (users->has_time) {
        count = weir_dataset_first_test(events, users->time + 1);
        time = users->time;
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
static weir_err_t collect_ids(const weir_request_users_t *users, weir_id_lookup_t *lookup,
                              handles_t *handles, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < users->user_count && err == WEIR_OK; i++) {
        err = want(lookup, handles, users->users[i], strlen(users->users[i]), error);
    }
    if (users->file == NULL || err != WEIR_OK) {
        return err;
    }
    bool standard = strcmp(users->file, "-") == 0;
    FILE *file = standard ? stdin : fopen(users->file, "r");
    char *line = NULL;
    size_t capacity = 0;
    if (file == NULL) {
        return weir_error_from_errno(error, errno, "open '%s'", users->file);
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
        err = weir_errorf(error, WEIR_ERR_INVALID, "%s has no users",
                          strcmp(users->file, "-") == 0 ? "standard input" : users->file);
    }
    return err;
}

static weir_err_t add_named(const weir_request_users_t *users, weir_dataset_t *dataset,
                            weir_request_job_t *job, size_t *unknown, weir_error_t *error) {
    weir_id_lookup_t *lookup = NULL;
    handles_t handles = {.count = 0};
    weir_err_t err = weir_id_lookup_create(WEIR_ID_USER, &lookup, error);
    if (err == WEIR_OK) {
        err = collect_ids(users, lookup, &handles, error);
    }
    if (err == WEIR_OK) {
        err = weir_id_lookup_resolve(lookup, dataset, error);
    }
    for (size_t i = 0; i < handles.count && err == WEIR_OK; i++) {
        int64_t user = 0;
        bool known = false;
        err = weir_id_lookup_find(lookup, handles.handles[i], &user, error);
        if (err == WEIR_OK) {
            err = add_user(users, dataset, (uint64_t)user, job, &known, error);
            *unknown += known ? 0 : 1;
        }
    }
    free(handles.handles);
    weir_id_lookup_destroy(lookup);
    return err;
}

weir_err_t weir_request_users_add(const weir_request_users_t *users, weir_dataset_t *dataset,
                                  weir_request_job_t *job, weir_error_t *error) {
    size_t unknown = 0;
    weir_err_t err = WEIR_OK;
    if (weir_request_users_are_named(users)) {
        err = add_named(users, dataset, job, &unknown, error);
    } else {
        for (uint64_t user = 0; user < weir_dataset_users(dataset) && err == WEIR_OK; user++) {
            bool known = false;
            err = add_user(users, dataset, user, job, &known, error);
            unknown += known ? 0 : 1;
        }
    }
    if (err == WEIR_OK && unknown > 0) {
        (void)fprintf(stderr, "%zu users left out: nothing is known of them %s\n", unknown,
                      users->as_test ? "before a test, or they have none" : "at that time");
    }
    if (err == WEIR_OK && job->count == 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "there is no user to ask about");
    }
    return err;
}
