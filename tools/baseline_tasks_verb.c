/* weir baseline logistic and rates: baselines of ranking. */
#include "common/log.h"
#include "tools/baseline_tasks.h"
#include "tools/verbs.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_FROM = 256,
    OPTION_UNTIL,
    OPTION_TASK,
    OPTION_PRIOR,
    OPTION_BITS,
    OPTION_EPOCHS,
    OPTION_RATE,
    OPTION_DECAY,
    OPTION_SEED,
    OPTION_JSON
};

/* NULL: not given. */
typedef struct {
    const char *folder, *task, *from, *until, *prior, *bits, *epochs, *rate, *decay, *seed;
    bool json;
} arguments_t;

#define COMMON_OPTIONS                                                                             \
    {"data", 'd', "DIR", 0, "folder of prepared data with actions", 0},                            \
        {"test-from",                                                                              \
         OPTION_FROM,                                                                              \
         "TIME",                                                                                   \
         0,                                                                                        \
         "seconds since 1970: events before are for training, those from then on are tests "       \
         "(default: the last tenth of the events)",                                                \
         0},                                                                                       \
        {"test-until", OPTION_UNTIL, "TIME", 0, "events from then on are left out", 0},            \
        {"task", OPTION_TASK, "NAME", 0, "show this action alone", 0}, {                           \
        "json", OPTION_JSON, NULL, 0, "print the metrics as JSON", 0                               \
    }

static const struct argp_option logistic_options[] = {
    COMMON_OPTIONS,
    {"bits", OPTION_BITS, "N", 0, "2^N weights a task, values go there by hash; default 20", 0},
    {"epochs", OPTION_EPOCHS, "N", 0, "passes over the training events; default 5", 0},
    {"rate", OPTION_RATE, "X", 0, "Adagrad's step; default 0.05", 0},
    {"decay", OPTION_DECAY, "X", 0, "of weights, as a part of the gradient; default 0.001", 0},
    {"seed", OPTION_SEED, "N", 0, "of the order of events; default 1", 0},
    {0},
};

static const struct argp_option rates_options[] = {
    COMMON_OPTIONS,
    {"prior", OPTION_PRIOR, "X", 0,
     "events at the rate of all items that are added to each item's own; default 20", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    const char **given[] = {&arguments->from,  &arguments->until, &arguments->task,
                            &arguments->prior, &arguments->bits,  &arguments->epochs,
                            &arguments->rate,  &arguments->decay, &arguments->seed};
    switch (key) {
    case 'd':
        arguments->folder = value;
        return 0;
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return ARGP_ERR_UNKNOWN;
    case ARGP_KEY_END:
        if (arguments->folder == NULL) {
            argp_error(state, "--data DIR is missing");
        }
        return 0;
    default:
        if (key >= OPTION_FROM && key <= OPTION_SEED) {
            *given[key - OPTION_FROM] = value;
            return 0;
        }
        return ARGP_ERR_UNKNOWN;
    }
}

/* A number; whole ones have no more digits than an int64 holds for certain. */
static weir_err_t take_whole(const char *name, const char *text, int64_t least, int64_t most,
                             int64_t *value, weir_error_t *error) {
    if (text == NULL) {
        return WEIR_OK;
    }
    char *end = NULL;
    errno = 0;
    long long parsed = strtoll(text, &end, 10);
    if (text[0] == '\0' || *end != '\0' || errno != 0 || parsed < least || parsed > most) {
        return weir_errorf(error, WEIR_ERR_INVALID, "--%s %.40s: expected a whole number", name,
                           text);
    }
    *value = parsed;
    return WEIR_OK;
}

static weir_err_t take_real(const char *name, const char *text, double *value,
                            weir_error_t *error) {
    char *end = NULL;
    double parsed = text != NULL ? strtod(text, &end) : 0.0;
    if (text != NULL && (text[0] == '\0' || *end != '\0')) {
        return weir_errorf(error, WEIR_ERR_INVALID, "--%s %.40s: expected a number", name, text);
    }
    *value = text != NULL ? parsed : *value;
    return WEIR_OK;
}

static weir_err_t take_options(const arguments_t *given, weir_baseline_tasks_options_t *options,
                               weir_error_t *error) {
    const int64_t limit = WEIR_DATASET_TIME_LIMIT;
    int64_t bits = options->bits, epochs = (int64_t)options->epochs, seed = (int64_t)options->seed;
    weir_err_t err =
        take_whole("test-from", given->from, -limit, limit, &options->test_from, error);
    if (err == WEIR_OK) {
        err = take_whole("test-until", given->until, -limit, limit, &options->test_until, error);
    }
    if (err == WEIR_OK) {
        err = take_whole("bits", given->bits, 1, 28, &bits, error);
    }
    if (err == WEIR_OK) {
        err = take_whole("epochs", given->epochs, 0, 1000000, &epochs, error);
    }
    if (err == WEIR_OK) {
        err = take_whole("seed", given->seed, 0, INT64_MAX, &seed, error);
    }
    if (err == WEIR_OK) {
        err = take_real("prior", given->prior, &options->prior, error);
    }
    if (err == WEIR_OK) {
        err = take_real("rate", given->rate, &options->rate, error);
    }
    if (err == WEIR_OK) {
        err = take_real("decay", given->decay, &options->decay, error);
    }
    options->bits = (uint32_t)bits;
    options->epochs = (uint64_t)epochs;
    options->seed = (uint64_t)seed;
    return err;
}

static weir_err_t check_task(const weir_dataset_t *dataset, const char *task, weir_error_t *error) {
    const weir_dataset_columns_t *columns = weir_dataset_columns(dataset);
    for (size_t i = 0; task != NULL && i < columns->action_count; i++) {
        task = strcmp(columns->actions[i], task) == 0 ? NULL : task;
    }
    return task == NULL
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_INVALID, "the data has no action %.64s", task);
}

static weir_err_t print_results(const char *name, const arguments_t *given,
                                const weir_dataset_t *dataset,
                                const weir_baseline_tasks_options_t *options,
                                const weir_baseline_tasks_counts_t *counts,
                                weir_task_metrics_t *metrics, weir_error_t *error) {
    const weir_dataset_columns_t *columns = weir_dataset_columns(dataset);
    const char *between = "";
    if (given->json) {
        (void)printf("{\"baseline\": \"%s\", \"test_from\": %lld, \"train_events\": %llu, "
                     "\"test_events\": %llu, \"tasks\": {",
                     name, (long long)options->test_from, (unsigned long long)counts->train,
                     (unsigned long long)counts->test);
    } else {
        (void)printf("%s: %llu events to train on, %llu tests from %lld on\n%-16s %9s %8s %8s %8s "
                     "%8s %8s %8s\n",
                     name, (unsigned long long)counts->train, (unsigned long long)counts->test,
                     (long long)options->test_from, "", "rate", "NE", "AUC", "by user", "accuracy",
                     "calibr.", "log loss");
    }
    for (size_t task = 0; task < columns->action_count; task++) {
        weir_task_result_t r;
        if (given->task != NULL && strcmp(given->task, columns->actions[task]) != 0) {
            continue;
        }
        weir_err_t err = weir_task_metrics_result(metrics, task, &r, error);
        if (err != WEIR_OK) {
            return err;
        }
        if (given->json) {
            char values[1024];
            weir_task_result_to_json(&r, values, sizeof values);
            (void)printf("%s\"%s\": %s", between, columns->actions[task], values);
            between = ", ";
        } else {
            (void)printf("%-16s %9.5f %8.4f %8.4f %8.4f %8.4f %8.4f %8.5f\n",
                         columns->actions[task], r.label_mean, r.ne, r.auc, r.grouped_auc,
                         r.accuracy, r.calibration, r.log_loss);
        }
    }
    (void)printf("%s", given->json ? "}}\n" : "");
    return fflush(stdout) == 0 ? WEIR_OK
                               : weir_error_from_errno(error, errno, "write to standard output");
}

static int run_model(const char *name, weir_baseline_tasks_model_t *model, const struct argp *argp,
                     int argc, char **argv) {
    arguments_t given = {0};
    weir_error_t error = {0};
    weir_dataset_t *dataset = NULL;
    weir_task_metrics_t *metrics = NULL;
    weir_baseline_tasks_options_t options;
    weir_baseline_tasks_counts_t counts;
    (void)argp_parse(argp, argc, argv, 0, NULL, &given);
    weir_err_t err = weir_dataset_open(given.folder, &dataset, &error);
    if (err == WEIR_OK) {
        err = weir_baseline_tasks_defaults(dataset, &options, &error);
    }
    if (err == WEIR_OK) {
        err = take_options(&given, &options, &error);
    }
    if (err == WEIR_OK) {
        err = check_task(dataset, given.task, &error);
    }
    if (err == WEIR_OK) {
        err = model(dataset, &options, &counts, &metrics, &error);
    }
    if (err == WEIR_OK) {
        err = print_results(name, &given, dataset, &options, &counts, metrics, &error);
    }
    weir_task_metrics_destroy(metrics);
    weir_dataset_close(dataset);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}

int weir_baseline_run_logistic(int argc, char **argv) {
    static const struct argp argp = {
        logistic_options,
        parse_option,
        NULL,
        "How likely each action of an event is, by logistic regression over user, item, context "
        "and features; tests are the events from a time on.",
        NULL,
        NULL,
        NULL};
    return run_model("logistic", weir_baseline_tasks_logistic, &argp, argc, argv);
}

int weir_baseline_run_rates(int argc, char **argv) {
    static const struct argp argp = {
        rates_options,
        parse_option,
        NULL,
        "How likely each action of an event is, by the item's smoothed rate of it: popularity, for "
        "ranking; tests are the events from a time on.",
        NULL,
        NULL,
        NULL};
    return run_model("rates", weir_baseline_tasks_rates, &argp, argc, argv);
}
