/* weir top: a running job, live in the terminal. */
#include "common/clock.h"
#include "common/log.h"
#include "common/signals.h"
#include "tools/control_call.h"
#include "tools/top_view.h"
#include "tools/verbs.h"

#include <argp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { OPTION_ONCE = 256, OPTION_JSON };

typedef struct {
    const char *run;
    bool once, json;
    double interval;
} arguments_t;

static const struct argp_option options[] = {
    {"run", 'r', "DIR", 0, "folder of the run", 0},
    {"interval", 'i', "SECONDS", 0, "between two looks (default 2)", 0},
    {"once", OPTION_ONCE, NULL, 0, "print two looks' difference and leave", 0},
    {"json", OPTION_JSON, NULL, 0, "as --once, in JSON", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    char *end = NULL;
    switch (key) {
    case 'r':
        arguments->run = value;
        return 0;
    case 'i':
        arguments->interval = strtod(value, &end);
        if (end == value || *end != '\0' || !(arguments->interval >= 0.1) ||
            arguments->interval > 3600.0) {
            argp_error(state, "--interval wants seconds from 0.1 on, not \"%s\"", value);
        }
        return 0;
    case OPTION_JSON:
        arguments->json = arguments->once = true;
        return 0;
    case OPTION_ONCE:
        arguments->once = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return 0;
    case ARGP_KEY_END:
        if (arguments->run == NULL) {
            argp_error(state, "--run DIR is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Ask the job; *top is replaced, what it was gives the rates. */
static weir_err_t look(const char *run, weir_top_t **top, weir_error_t *error) {
    weir_control_address_t address = {.endpoint = ""};
    Weir__Control__StatusRequest request = WEIR__CONTROL__STATUS_REQUEST__INIT;
    Weir__Control__Envelope question = WEIR__CONTROL__ENVELOPE__INIT, *answer = NULL;
    weir_top_t *taken = NULL;
    request.metrics = true;
    question.body_case = WEIR__CONTROL__ENVELOPE__BODY_STATUS_REQUEST;
    question.status_request = &request;
    weir_err_t err = weir_control_address_read(run, &address, error);
    if (err == WEIR_OK) {
        err = weir_control_call(&address, &question, 10.0, &answer, error);
    }
    if (err == WEIR_OK && answer->body_case == WEIR__CONTROL__ENVELOPE__BODY_REPLY) {
        err = weir_errorf(error, WEIR_ERR_PEER, "%s", answer->reply->message);
    } else if (err == WEIR_OK && answer->body_case != WEIR__CONTROL__ENVELOPE__BODY_STATUS) {
        err = weir_errorf(error, WEIR_ERR_CORRUPT, "the coordinator answered something else");
    }
    if (err == WEIR_OK) {
        err = weir_top_take(answer->status, weir_clock_seconds(), *top, &taken, error);
    }
    weir_envelope_free(answer);
    if (err == WEIR_OK) {
        free(*top);
        *top = taken;
    }
    return err;
}

static weir_err_t look_once(const arguments_t *arguments, weir_error_t *error) {
    weir_top_t *top = NULL;
    weir_err_t err = look(arguments->run, &top, error);
    if (err == WEIR_OK) {
        weir_clock_sleep(arguments->interval);
        err = look(arguments->run, &top, error);
    }
    if (err == WEIR_OK && !arguments->json) {
        weir_top_print(top, stdout);
    } else if (err == WEIR_OK) {
        json_t *object = weir_top_to_json(top);
        char *text = object != NULL ? json_dumps(object, JSON_INDENT(2)) : NULL;
        (void)printf("%s\n", text != NULL ? text : "null");
        free(text);
        json_decref(object);
    }
    free(top);
    return err;
}

/* ---- the terminal ---- */

/* As many lines and columns as there are; what stood there before is overwritten, not cleared. */
static weir_err_t draw(const char *run, const weir_top_t *top, weir_error_t *error) {
    struct winsize window = {.ws_row = 24, .ws_col = 80};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to draw");
    }
    (void)fprintf(out, "weir top: %s  (q leaves)\n", run);
    weir_top_print(top, out);
    if (fclose(out) != 0) {
        free(text);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to draw");
    }
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
    int rows = window.ws_row > 0 ? window.ws_row : 24,
        columns = window.ws_col > 0 ? window.ws_col : 80;
    (void)fputs("\033[H", stdout);
    char *rest = text;
    for (int row = 0; row < rows && *rest != '\0'; row++) {
        int length = (int)strcspn(rest, "\n");
        (void)printf("%s%.*s\033[K", row > 0 ? "\r\n" : "", length < columns ? length : columns,
                     rest);
        rest += length + (rest[length] == '\n' ? 1 : 0);
    }
    (void)fputs("\033[J", stdout);
    (void)fflush(stdout);
    free(text);
    return WEIR_OK;
}

/* True: somebody pressed q, or asked to stop. */
static bool wait_for_end(double seconds) {
    struct pollfd keys = {.fd = STDIN_FILENO, .events = POLLIN};
    char key = 0;
    int ready = poll(&keys, 1, (int)(seconds * 1000.0));
    if (ready > 0 && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q')) {
        return true;
    }
    return weir_signals_stop_requested() != 0;
}

static weir_err_t show_live(const arguments_t *arguments, weir_error_t *error) {
    struct termios before, raw;
    weir_top_t *top = NULL;
    weir_err_t err = look(arguments->run, &top, error);
    if (err != WEIR_OK) {
        return err;
    }
    bool changed = tcgetattr(STDIN_FILENO, &before) == 0;
    if (changed) {
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    (void)fputs("\033[?1049h\033[?25l", stdout); /* another screen, no cursor */
    do {
        err = draw(arguments->run, top, error);
        if (err != WEIR_OK || wait_for_end(arguments->interval)) {
            break;
        }
        err = look(arguments->run, &top, error);
    } while (err == WEIR_OK);
    (void)fputs("\033[?25h\033[?1049l", stdout);
    (void)fflush(stdout);
    if (changed) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
    }
    free(top);
    if (weir_signals_stop_requested() != 0) { /* also in the middle of a question */
        return WEIR_OK;
    }
    if (err == WEIR_ERR_NOT_FOUND) { /* it was there before */
        (void)printf("the job has ended\n");
        return WEIR_OK;
    }
    return err;
}

int weir_verb_top(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "A running job in the terminal: steps and tokens a second, where each worker's time goes, "
        "rows, memory and requests of each server, who waits for whom.\v"
        "compute, pull, push and reduce are parts of the time; copies: rows that need not be sent, "
        "of those named; stale: steps that rows missed; queues: frames to send and received; "
        "heard: "
        "seconds since a sign of life. Without a terminal it prints once.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {.interval = 2.0};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    bool live = !arguments.once && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    weir_err_t err = WEIR_OK;
    if (live) {
        weir_signals_init();
        err = show_live(&arguments, &error);
    } else {
        err = look_once(&arguments, &error);
    }
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}
