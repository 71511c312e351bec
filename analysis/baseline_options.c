#include "analysis/baseline_options.h"

#include "common/config.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_JSON = 256,
    OPTION_VALIDATION,
    OPTION_MAX_LENGTH,
    OPTION_VALUES,
    OPTION_BLOCK,
    OPTION_GRID,
    OPTION_MEMORY
};

static const struct {
    const char *name, *parameter, *summary;
    double value;  /* default */
    double lowest; /* that the parameter can be */
    bool whole;
} methods[WEIR_BASELINE_METHODS] = {
    /* Steck's for MovieLens 20M */
    {"ease", "lambda", "a linear model of items by items in closed form (EASE)", 500.0, 1e-9,
     false},
    {"knn", "neighbors", "nearest neighbours of items, by the cosine of their users", 100.0, 0.0,
     true},
    {"markov", "smoothing", "what follows the last item most often (first-order Markov chain)", 1.0,
     0.0, false},
};

const char *weir_baseline_name(weir_baseline_method_t method) {
    return methods[method].name;
}

const char *weir_baseline_summary(weir_baseline_method_t method) {
    return methods[method].summary;
}

const char *weir_baseline_parameter(weir_baseline_method_t method) {
    return methods[method].parameter;
}

void weir_baseline_options_init(weir_baseline_method_t method, weir_baseline_options_t *options) {
    weir_config_t defaults;
    weir_config_defaults(&defaults);
    *options =
        (weir_baseline_options_t){.method = method,
                                  .values = {methods[method].value},
                                  .value_count = 1,
                                  .max_sequence_length = (size_t)defaults.model.max_sequence_length,
                                  .block = 64};
}

void weir_baseline_options_fini(weir_baseline_options_t *options) {
    for (size_t i = 0; i < options->word_count; i++) {
        free(options->words[i]);
    }
    options->word_count = 0;
}

#define COMMON_OPTIONS                                                                             \
    {"data", 'd', "DIR", 0, "folder that `weir prepare` or `weir synth` wrote", 0},                \
        {"validation",                                                                             \
         OPTION_VALIDATION,                                                                        \
         NULL,                                                                                     \
         0,                                                                                        \
         "hold out the event before the last one too, and show both",                              \
         0},                                                                                       \
        {"max-sequence-length",                                                                    \
         OPTION_MAX_LENGTH,                                                                        \
         "N",                                                                                      \
         0,                                                                                        \
         "events of history, which are scored and whose items are not ranked (default: "           \
         "model.max_sequence_length's)",                                                           \
         0},                                                                                       \
        {"memory",                                                                                 \
         OPTION_MEMORY,                                                                            \
         "GIB",                                                                                    \
         0,                                                                                        \
         "refuse what takes more of a host (default: the memory it has available)",                \
         0},                                                                                       \
        {"json", OPTION_JSON, NULL, 0, "print the metrics as JSON", 0}, {                          \
        0                                                                                          \
    }

static const struct argp_option ease_options[] = {
    {"lambda", OPTION_VALUES, "L[,L...]", 0,
     "L2 regularisation (default: 500, which Steck 2019 found best on MovieLens 20M); of several "
     "the "
     "one with the best NDCG@10 on the validation target is taken",
     0},
    {"block", OPTION_BLOCK, "N", 0, "rows of a block of the matrix (default: 64)", 0},
    {"grid", OPTION_GRID, "RxC", 0,
     "rows and columns of the grid of processes (default: as square as their number allows)", 0},
    {"output", 'o', "FILE", 0, "write the items x items weights as safetensors", 0},
    COMMON_OPTIONS};

static const struct argp_option knn_options[] = {
    {"neighbors", OPTION_VALUES, "K[,K...]", 0,
     "similar items that each item has (default: 100; 0: all); of several the one with the best "
     "NDCG@10 on the validation target is taken",
     0},
    COMMON_OPTIONS};

static const struct argp_option markov_options[] = {
    {"smoothing", OPTION_VALUES, "A[,A...]", 0,
     "events of the catalogue's popularity added to each item's successors (default: 1); of "
     "several the one with the best NDCG@10 on the validation target is taken",
     0},
    COMMON_OPTIONS};

static size_t parse_count(const char *name, const char *value, struct argp_state *state) {
    errno = 0;
    unsigned long long count = strtoull(value, NULL, 10);
    if (value[0] == '\0' || value[strspn(value, "0123456789")] != '\0' || errno != 0 || count < 1 ||
        count > INT_MAX / 2) {
        argp_error(state, "--%s wants a whole number from 1, not \"%s\"", name, value);
    }
    return (size_t)count;
}

static double parse_number(const char *name, const char *text, char **end,
                           struct argp_state *state) {
    errno = 0;
    double number = strtod(text, end);
    if (*end == text || errno != 0 || !isfinite(number)) {
        argp_error(state, "--%s wants a number, not \"%s\"", name, text);
    }
    return number;
}

static void parse_values(weir_baseline_options_t *options, const char *text,
                         struct argp_state *state) {
    const char *name = methods[options->method].parameter;
    double lowest = methods[options->method].lowest;
    options->value_count = 0;
    for (const char *at = text;; at++) {
        char *end = NULL;
        double value = parse_number(name, at, &end, state);
        bool whole = value <= (double)INT_MAX && floor(value) >= value;
        if (value < lowest || (methods[options->method].whole && !whole) ||
            (*end != '\0' && *end != ',')) {
            argp_error(state, "--%s wants %s%s, not \"%s\"", name,
                       methods[options->method].whole ? "whole numbers" : "numbers",
                       lowest > 0.0 ? " above 0" : " from 0", text);
        }
        if (options->value_count == WEIR_BASELINE_VALUES) {
            argp_error(state, "--%s takes at most %d numbers", name, (int)WEIR_BASELINE_VALUES);
        }
        options->values[options->value_count++] = value;
        if (*end == '\0') {
            return;
        }
        at = end;
    }
}

static void parse_grid(weir_baseline_options_t *options, const char *text,
                       struct argp_state *state) {
    int used = 0;
    if (sscanf(text, "%4dx%4d%n", &options->grid_rows, &options->grid_columns, &used) != 2 ||
        text[used] != '\0' || options->grid_rows < 1 || options->grid_columns < 1) {
        argp_error(state, "--grid wants rows and columns, as 2x3, not \"%s\"", text);
    }
}

/* Keep an option for the command line of the processes. */
static void keep(weir_baseline_options_t *options, const char *name, const char *value,
                 struct argp_state *state) {
    size_t size = strlen(name) + (value != NULL ? strlen(value) : 0) + 4;
    char *word = options->word_count < WEIR_BASELINE_WORDS ? malloc(size) : NULL;
    if (word == NULL) {
        argp_error(state, "too many options");
        return;
    }
    (void)snprintf(word, size, "--%s%s%s", name, value != NULL ? "=" : "",
                   value != NULL ? value : "");
    options->words[options->word_count++] = word;
}

static error_t parse_key(int key, char *value, struct argp_state *state,
                         weir_baseline_options_t *options) {
    char *end = NULL;
    switch (key) {
    case 'd':
        options->folder = value;
        return 0;
    case 'o':
        options->output = value;
        return 0;
    case OPTION_VALIDATION:
        options->validation = true;
        return 0;
    case OPTION_JSON:
        options->json = true;
        return 0;
    case OPTION_VALUES:
        parse_values(options, value, state);
        return 0;
    case OPTION_MAX_LENGTH:
        options->max_sequence_length = parse_count("max-sequence-length", value, state);
        return 0;
    case OPTION_BLOCK:
        options->block = parse_count("block", value, state);
        return 0;
    case OPTION_GRID:
        parse_grid(options, value, state);
        return 0;
    case OPTION_MEMORY:
        options->memory_gib = parse_number("memory", value, &end, state);
        if (*end != '\0' || options->memory_gib <= 0.0) {
            argp_error(state, "--memory wants GiB above 0, not \"%s\"", value);
        }
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return ARGP_ERR_UNKNOWN;
    case ARGP_KEY_END:
        if (options->folder == NULL) {
            argp_error(state, "--data DIR is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_option(int key, char *value, struct argp_state *state) {
    weir_baseline_options_t *options = state->input;
    error_t answer = parse_key(key, value, state, options);
    if (answer == 0 && key != ARGP_KEY_END) {
        for (const struct argp_option *o = weir_baseline_argp(options->method)->options;
             o->name != NULL; o++) {
            if (o->key == key) {
                keep(options, o->name, value, state);
            }
        }
    }
    return answer;
}

const struct argp *weir_baseline_argp(weir_baseline_method_t method) {
    static const char protocol[] =
        " By the protocol of `weir eval`: the target is a user's last event, the items of the "
        "history are left out, ties count against the target.";
    static const struct argp parsers[WEIR_BASELINE_METHODS] = {
        {ease_options, parse_option, NULL, protocol, NULL, NULL, NULL},
        {knn_options, parse_option, NULL, protocol, NULL, NULL, NULL},
        {markov_options, parse_option, NULL, protocol, NULL, NULL, NULL},
    };
    return &parsers[method];
}

/* ---- output ---- */

void weir_baseline_print_header(const char *name) {
    (void)printf("baseline %s\n%-16s  %8s  %8s  %8s  %8s  %8s  %8s  %8s  %8s  %8s\n", name, "",
                 "HR@1", "HR@10", "HR@50", "HR@200", "NDCG@10", "NDCG@50", "NDCG@200", "MRR",
                 "users");
}

void weir_baseline_print_row(const char *name, const weir_metrics_t *metrics) {
    double users = metrics->users > 0 ? (double)metrics->users : 1.0;
    (void)printf("%-16s  %8.4f  %8.4f  %8.4f  %8.4f  %8.4f  %8.4f  %8.4f  %8.4f  %8llu\n", name,
                 metrics->hr[0] / users, metrics->hr[1] / users, metrics->hr[2] / users,
                 metrics->hr[3] / users, metrics->ndcg[1] / users, metrics->ndcg[2] / users,
                 metrics->ndcg[3] / users, metrics->mrr / users,
                 (unsigned long long)metrics->users);
}
