/* weir ctl: talk to a running job through its coordinator. */
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/run_dir.h"
#include "proto/control_client.h"
#include "tools/control_call.h"
#include "tools/verbs.h"

#include <argp.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef Weir__Control__Envelope envelope_t;

enum { OPTION_JSON = 256, OPTION_TIMEOUT, OPTION_NO_SAVE, OPTION_NO_WAIT };

/* Seconds: a coordinator answers at once, but a checkpoint may be large. */
#define ANSWER_TIMEOUT 10.0
#define CHECKPOINT_TIMEOUT 600.0

typedef struct {
    const char *run, *verb;
    bool json, no_save, no_wait;
    double timeout;
} arguments_t;

static const struct argp_option options[] = {
    {"run", 'r', "DIR", 0, "folder of the run", 0},
    {"timeout", OPTION_TIMEOUT, "SECONDS", 0,
     "how long to wait for an answer (default 10, for a checkpoint 600)", 0},
    {"no-wait", OPTION_NO_WAIT, NULL, 0, "with checkpoint: ask for it and leave", 0},
    {"no-save", OPTION_NO_SAVE, NULL, 0, "with stop: do not save first", 0},
    {"json", OPTION_JSON, NULL, 0, "answer in JSON", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    char *end = NULL;
    switch (key) {
    case 'r':
        arguments->run = value;
        return 0;
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case OPTION_NO_SAVE:
        arguments->no_save = true;
        return 0;
    case OPTION_NO_WAIT:
        arguments->no_wait = true;
        return 0;
    case OPTION_TIMEOUT:
        arguments->timeout = strtod(value, &end);
        if (end == value || *end != '\0' || !(arguments->timeout > 0.0) ||
            arguments->timeout > 1e6) {
            argp_error(state, "--timeout wants seconds, not \"%s\"", value);
        }
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->verb != NULL) {
            argp_error(state, "unexpected argument \"%s\"", value);
        }
        arguments->verb = value;
        return 0;
    case ARGP_KEY_END:
        if (arguments->run == NULL) {
            argp_error(state, "--run DIR is missing");
        }
        if (arguments->verb == NULL ||
            (strcmp(arguments->verb, "status") != 0 && strcmp(arguments->verb, "checkpoint") != 0 &&
             strcmp(arguments->verb, "stop") != 0 && strcmp(arguments->verb, "halt") != 0)) {
            argp_error(state, "say one of status, checkpoint, stop, halt");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void print_status(const Weir__Control__Status *status) {
    (void)printf(
        "step %llu  epoch %llu  %s  loss %.4f  %.0f tokens/s  up %.0f s  last checkpoint: ",
        (unsigned long long)status->step, (unsigned long long)status->epoch,
        weir_phase_name((weir_phase_t)status->phase), status->loss, status->tokens_per_second,
        status->uptime_seconds);
    if (status->last_checkpoint_step > 0) {
        (void)printf("step %llu\n", (unsigned long long)status->last_checkpoint_step);
    } else {
        (void)printf("none\n");
    }
    (void)printf("%4s  %-8s  %5s  %-20s  %8s  %10s  %-13s  %8s  %10s  %s\n", "rank", "role",
                 "index", "host", "pid", "step", "phase", "heard", "rows", "waits for");
    for (size_t i = 0; i < status->n_ranks; i++) {
        const Weir__Control__RankStatus *rank = status->ranks[i];
        (void)printf("%4u  %-8s  %5u  %-20s  %8llu  %10llu  %-13s  %6.1f s  %10llu  %s\n",
                     rank->rank, rank->role, rank->index, rank->host, (unsigned long long)rank->pid,
                     (unsigned long long)rank->step, weir_phase_name((weir_phase_t)rank->phase),
                     rank->age_seconds, (unsigned long long)rank->rows, rank->waits);
    }
}

static json_t *status_to_json(const Weir__Control__Status *status) {
    json_t *ranks = json_array();
    for (size_t i = 0; i < status->n_ranks; i++) {
        const Weir__Control__RankStatus *rank = status->ranks[i];
        (void)json_array_append_new(
            ranks,
            json_pack("{s:i, s:s, s:i, s:s, s:I, s:I, s:s, s:f, s:I, s:I, s:s}", "rank",
                      (int)rank->rank, "role", rank->role, "index", (int)rank->index, "host",
                      rank->host, "pid", (json_int_t)rank->pid, "step", (json_int_t)rank->step,
                      "phase", weir_phase_name((weir_phase_t)rank->phase), "heard_seconds_ago",
                      rank->age_seconds, "rows", (json_int_t)rank->rows, "bytes",
                      (json_int_t)rank->bytes, "waits_for", rank->waits));
    }
    return json_pack("{s:s, s:I, s:I, s:s, s:f, s:f, s:f, s:I, s:o}", "version", status->version,
                     "step", (json_int_t)status->step, "epoch", (json_int_t)status->epoch, "phase",
                     weir_phase_name((weir_phase_t)status->phase), "loss", status->loss,
                     "tokens_per_second", status->tokens_per_second, "uptime_seconds",
                     status->uptime_seconds, "last_checkpoint_step",
                     (json_int_t)status->last_checkpoint_step, "ranks", ranks);
}

static weir_err_t show_answer(const envelope_t *answer, bool as_json, weir_error_t *error) {
    json_t *object = NULL;
    if (answer->body_case == WEIR__CONTROL__ENVELOPE__BODY_STATUS) {
        if (!as_json) {
            print_status(answer->status);
            return WEIR_OK;
        }
        object = status_to_json(answer->status);
    } else if (answer->body_case == WEIR__CONTROL__ENVELOPE__BODY_REPLY) {
        if (!answer->reply->ok) {
            return weir_errorf(error, WEIR_ERR_PEER, "%s", answer->reply->message);
        }
        if (!as_json) {
            (void)printf("%s\n", answer->reply->message);
            return WEIR_OK;
        }
        object = json_pack("{s:b, s:s}", "ok", 1, "message", answer->reply->message);
    } else {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "the coordinator answered something else");
    }
    char *text = json_dumps(object, JSON_INDENT(2));
    (void)printf("%s\n", text != NULL ? text : "null");
    free(text);
    json_decref(object);
    return WEIR_OK;
}

/* RUN/halt, which the coordinator looks for. */
static weir_err_t halt(const char *run, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, run, "config.yaml", error);
    if (err == WEIR_OK && !weir_file_exists(path)) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "%s is not the folder of a run", run);
    }
    if (err == WEIR_OK && weir_run_dir_is_free(run)) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "no job is running in %s", run);
    }
    if (err == WEIR_OK) {
        err = weir_path_join(path, sizeof path, run, "halt", error);
    }
    if (err == WEIR_OK) {
        err = weir_file_replace(path, "", 0, error);
    }
    if (err == WEIR_OK) {
        (void)printf("the job stops at the next step and saves\n");
    }
    return err;
}

int weir_verb_ctl(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        "status|checkpoint|stop|halt",
        "Talk to a running job.\vstatus: every rank, its step and what it is doing. checkpoint: "
        "save at the "
        "next step; answers when it is published. stop: save at the next step and end the job. "
        "halt: "
        "the same by a file, RUN/halt, where the job's socket cannot be reached.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    weir_control_address_t address = {.endpoint = ""};
    arguments_t arguments = {.timeout = 0.0};
    envelope_t question = WEIR__CONTROL__ENVELOPE__INIT, *answer = NULL;
    Weir__Control__StatusRequest status = WEIR__CONTROL__STATUS_REQUEST__INIT;
    Weir__Control__CheckpointRequest checkpoint = WEIR__CONTROL__CHECKPOINT_REQUEST__INIT;
    Weir__Control__Stop stop = WEIR__CONTROL__STOP__INIT;
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (strcmp(arguments.verb, "halt") == 0) {
        if (halt(arguments.run, &error) != WEIR_OK) {
            weir_fatal(&error);
        }
        return 0;
    }
    bool saves = strcmp(arguments.verb, "checkpoint") == 0;
    if (arguments.timeout == 0.0) {
        arguments.timeout = saves ? CHECKPOINT_TIMEOUT : ANSWER_TIMEOUT;
    }
    if (strcmp(arguments.verb, "status") == 0) {
        question.body_case = WEIR__CONTROL__ENVELOPE__BODY_STATUS_REQUEST;
        question.status_request = &status;
    } else if (saves) {
        checkpoint.no_wait = arguments.no_wait;
        question.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST;
        question.checkpoint_request = &checkpoint;
    } else {
        stop.save = !arguments.no_save;
        question.body_case = WEIR__CONTROL__ENVELOPE__BODY_STOP;
        question.stop = &stop;
    }
    weir_err_t err = weir_control_address_read(arguments.run, &address, &error);
    if (err == WEIR_OK) {
        err = weir_control_call(&address, &question, arguments.timeout, &answer, &error);
    }
    if (err == WEIR_OK) {
        err = show_answer(answer, arguments.json, &error);
    }
    weir_envelope_free(answer);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}
