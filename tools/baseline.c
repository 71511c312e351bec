/* weir baseline: simple models by the same protocol, to see what the transducer adds. A new one is
 * a row of the table of verbs. */
#include "analysis/baseline_options.h"
#include "common/config.h"
#include "common/log.h"
#include "tools/analysis_job.h"
#include "tools/baseline_popularity.h"
#include "tools/verbs.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_JSON = 256, OPTION_VALIDATION, OPTION_MAX_LENGTH, OPTION_TEST_FROM, OPTION_PER_USER };

typedef struct {
    const char *folder;
    weir_popularity_options_t popularity;
    bool json;
    const char *per_user; /* file; NULL: none */
} arguments_t;

static const struct argp_option options[] = {
    {"data", 'd', "DIR", 0, "folder that `weir prepare` or `weir synth` wrote", 0},
    {"validation", OPTION_VALIDATION, NULL, 0,
     "hold out the event before the last one too, and show both", 0},
    {"test-from", OPTION_TEST_FROM, "TIME", 0,
     "split by time: tests are the first events from then on (seconds since 1970), as "
     "eval.test_from",
     0},
    {"max-sequence-length", OPTION_MAX_LENGTH, "N", 0,
     "events of history, whose items are not ranked (default: model.max_sequence_length's)", 0},
    {"per-user", OPTION_PER_USER, "FILE", 0,
     "write each user's target and its rank to FILE, as `weir eval --per-user`", 0},
    {"json", OPTION_JSON, NULL, 0, "print the metrics as JSON", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    unsigned long long length = 0;
    char *end = NULL;
    switch (key) {
    case 'd':
        arguments->folder = value;
        return 0;
    case OPTION_VALIDATION:
        arguments->popularity.validation = true;
        return 0;
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case OPTION_MAX_LENGTH:
        errno = 0;
        length = strtoull(value, NULL, 10);
        if (value[0] == '\0' || value[strspn(value, "0123456789")] != '\0' || errno != 0 ||
            length < 1 || length > SIZE_MAX) {
            argp_error(state, "--max-sequence-length wants a whole number from 1, not \"%s\"",
                       value);
        }
        arguments->popularity.max_sequence_length = (size_t)length;
        return 0;
    case OPTION_PER_USER:
        arguments->per_user = value;
        return 0;
    case OPTION_TEST_FROM:
        errno = 0;
        arguments->popularity.test_from = strtoll(value, &end, 10);
        if (end == value || *end != '\0' || errno != 0) {
            argp_error(state, "--test-from wants a whole number, not \"%s\"", value);
        }
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
        return ARGP_ERR_UNKNOWN;
    }
}

/* The same shape as `weir eval`, so that one reader serves both. */
static void print_metrics(const char *name, const arguments_t *arguments,
                          const weir_metrics_t *test, const weir_metrics_t *validation) {
    bool both = arguments->popularity.validation;
    if (arguments->json) {
        char values[2][1024];
        weir_metrics_to_json(test, values[0], sizeof values[0]);
        weir_metrics_to_json(validation, values[1], sizeof values[1]);
        (void)printf("{\"baseline\": \"%s\", \"splits\": {\"test\": %s%s%s}}\n", name, values[0],
                     both ? ", \"validation\": " : "", both ? values[1] : "");
        return;
    }
    weir_baseline_print_header(name);
    weir_baseline_print_row("test", test);
    if (both) {
        weir_baseline_print_row("validation", validation);
    }
}

static weir_err_t write_users(const arguments_t *arguments, const weir_dataset_t *dataset,
                              weir_error_t *error) {
    weir_user_result_t *results = NULL;
    size_t count = 0;
    weir_err_t err =
        weir_popularity_users(dataset, &arguments->popularity, &results, &count, error);
    if (err == WEIR_OK) {
        err = weir_user_results_write(arguments->per_user, "test", "weir baseline popularity",
                                      results, count, error);
    }
    free(results);
    return err;
}

static int run_popularity(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Rank the catalogue by the number of training events of each item, by the protocol of "
        "`weir eval`: the target is a user's last event (or, by time, its first later one), the "
        "items of the history are left out, "
        "ties count against the target.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    weir_config_t defaults;
    weir_dataset_t *dataset = NULL;
    weir_metrics_t test, validation;
    weir_config_defaults(&defaults);
    arguments_t arguments = {.popularity.max_sequence_length =
                                 (size_t)defaults.model.max_sequence_length};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    weir_err_t err = weir_dataset_open(arguments.folder, &dataset, &error);
    if (err == WEIR_OK) {
        err = weir_popularity_evaluate(dataset, &arguments.popularity, &test, &validation, &error);
    }
    if (err == WEIR_OK && arguments.per_user != NULL) {
        err = write_users(&arguments, dataset, &error);
    }
    weir_dataset_close(dataset);
    if (err == WEIR_OK) {
        print_metrics("popularity", &arguments, &test, &validation);
        if (fflush(stdout) != 0) {
            err = weir_error_from_errno(&error, errno, "write to standard output");
        }
    }
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}

static int run_method(weir_baseline_method_t method, int argc, char **argv) {
    weir_baseline_options_t own;
    char about[256];
    weir_baseline_options_init(method, &own);
    (void)snprintf(about, sizeof about,
                   "Rank the catalogue by %s, computed by a job of N processes.",
                   weir_baseline_summary(method));
    weir_analysis_job_t job = {.about = about,
                               .program = "weir-baseline",
                               .method = weir_baseline_name(method),
                               .argp = weir_baseline_argp(method),
                               .input = &own,
                               .words = own.words,
                               .word_count = &own.word_count,
                               .json = &own.json};
    int status = weir_analysis_job_run(&job, argc, argv);
    weir_baseline_options_fini(&own);
    return status;
}

static int run_ease(int argc, char **argv) {
    return run_method(WEIR_BASELINE_EASE, argc, argv);
}

static int run_knn(int argc, char **argv) {
    return run_method(WEIR_BASELINE_KNN, argc, argv);
}

static int run_markov(int argc, char **argv) {
    return run_method(WEIR_BASELINE_MARKOV, argc, argv);
}

int weir_verb_baseline(int argc, char **argv) {
    static const weir_verb_t table[] = {
        {"popularity", "rank the catalogue by the number of training events", run_popularity},
        {"ease", "a linear model of items by items in closed form (EASE)", run_ease},
        {"knn", "nearest neighbours of items, by the cosine of their users", run_knn},
        {"markov", "what follows the last item most often (first-order Markov chain)", run_markov},
        {"logistic", "ranking: logistic regression over ids and features, for each action",
         weir_baseline_run_logistic},
        {"rates", "ranking: the item's rate of each action", weir_baseline_run_rates},
        {NULL, NULL, NULL},
    };
    return weir_verbs_run(table, "weir baseline",
                          "Simple models by the same protocol, to see what a trained one adds.",
                          argc, argv);
}
