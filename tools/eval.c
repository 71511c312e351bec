/* weir eval: the metrics of a checkpoint, computed by a job. */
#include "common/file.h"
#include "common/log.h"
#include "tools/eval_bootstrap.h"
#include "tools/eval_full.h"
#include "tools/resample.h"
#include "tools/saved_job.h"
#include "tools/verbs.h"
#include "worker/list_metrics.h"
#include "worker/user_results.h"

#include <argp.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPTION_JSON = 256, OPTION_FULL, OPTION_AT, OPTION_PER_USER, OPTION_BOOTSTRAP, OPTION_SEED };

typedef struct {
    weir_saved_job_t job;
    bool json;
    const char *per_user; /* file; NULL: none */
    size_t samples;       /* of the bootstrap; 0: none */
    uint64_t seed;
    char cutoffs[160]; /* the setting that --at is */
} arguments_t;

static const struct argp_option options[] = {
    {"json", OPTION_JSON, NULL, 0, "print the metrics as JSON", 1},
    {"full", OPTION_FULL, NULL, 0,
     "measure lists of recommended items too: precision, coverage, popularity, diversity and more",
     1},
    {"at", OPTION_AT, "K,...", 0, "with --full: lengths of these lists (default: eval.cutoffs)", 1},
    {"per-user", OPTION_PER_USER, "FILE", 0,
     "write each user's target and its rank to FILE (safetensors)", 1},
    {"bootstrap", OPTION_BOOTSTRAP, "N", 0,
     "95% intervals of the metrics, from N drawings of the users with replacement", 1},
    {"seed", OPTION_SEED, "SEED", 0, "with --bootstrap: of the drawings (default: 1)", 1},
    {0},
};

/* There is room: each comes from a word of the command line. */
static void add_setting(arguments_t *arguments, const char *setting) {
    arguments->job.sets[arguments->job.set_count++] = setting;
}

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    uint64_t number = 0;
    switch (key) {
    case OPTION_FULL:
        add_setting(arguments, "eval.full=true");
        return 0;
    case OPTION_AT:
        (void)snprintf(arguments->cutoffs, sizeof arguments->cutoffs, "eval.cutoffs=%s", value);
        add_setting(arguments, arguments->cutoffs);
        return 0;
    case OPTION_PER_USER:
        arguments->per_user = value;
        add_setting(arguments, "eval.users=true");
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->job;
        return 0;
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case OPTION_BOOTSTRAP:
        if (!weir_eval_parse_whole(value, 1, WEIR_RESAMPLE_MOST, &number)) {
            argp_error(state, "--bootstrap wants a number from 1 to %d, not \"%s\"",
                       WEIR_RESAMPLE_MOST, value);
        }
        arguments->samples = (size_t)number;
        add_setting(arguments, "eval.users=true");
        return 0;
    case OPTION_SEED:
        if (!weir_eval_parse_whole(value, 0, UINT64_MAX, &arguments->seed)) {
            argp_error(state, "--seed wants a whole number, not \"%s\"", value);
        }
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return ARGP_ERR_UNKNOWN;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Of a ranking model: the means, and a line a task. */
static void print_ranking(const char *name, const json_t *metrics) {
    static const char *const columns[] = {"ne", "auc", "grouped_auc", "accuracy", "calibration"};
    const json_t *tasks = json_object_get(metrics, "tasks");
    (void)printf("%-11s  %8s  %8s  %11s  %8s  %11s  %9s\n", name, "NE", "AUC", "grouped AUC",
                 "accuracy", "calibration", "samples");
    for (size_t k = 0; k <= json_array_size(tasks); k++) {
        const json_t *line = k == 0 ? metrics : json_array_get(tasks, k - 1);
        const char *title = json_string_value(json_object_get(line, "name"));
        const json_t *mse = json_object_get(line, "mse"), *mae = json_object_get(line, "mae");
        (void)printf("  %-9s", k == 0 ? "mean" : title != NULL ? title : "?");
        if (json_is_number(mse) && json_is_number(mae)) { /* a number */
            (void)printf("  mean squared error %.4g, absolute %.4g  %9lld\n",
                         json_number_value(mse), json_number_value(mae),
                         (long long)json_integer_value(json_object_get(line, "samples")));
            continue;
        }
        for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
            const json_t *value = json_object_get(line, columns[i]);
            int width = i == 2 || i == 4 ? 11 : 8;
            if (json_is_number(value)) {
                (void)printf("  %*.4f", width, json_number_value(value));
            } else {
                (void)printf("  %*s", width, "-"); /* of one label alone */
            }
        }
        (void)printf("  %9lld\n", (long long)json_integer_value(json_object_get(line, "samples")));
    }
}

static void print_split(const char *name, const json_t *metrics) {
    static const char *const columns[] = {"hr@1",    "hr@10",   "hr@50",    "hr@200",
                                          "ndcg@10", "ndcg@50", "ndcg@200", "mrr"};
    (void)printf("%-11s", name);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        (void)printf("  %8.4f", json_number_value(json_object_get(metrics, columns[i])));
    }
    (void)printf("  %8lld\n", (long long)json_integer_value(json_object_get(metrics, "users")));
}

static weir_err_t print_metrics(const arguments_t *arguments, weir_error_t *error) {
    const char *run = arguments->job.run;
    char path[WEIR_PATH_MAX], *text = NULL;
    size_t size = 0;
    json_error_t ignored;
    weir_err_t err = weir_path_join(path, sizeof path, run, "eval.json", error);
    if (err == WEIR_OK) {
        err = weir_file_read(path, 65536, &text, &size, error);
    }
    json_t *object = err == WEIR_OK ? json_loadb(text, size, 0, &ignored) : NULL;
    const char *name;
    json_t *metrics;
    if (err == WEIR_OK && !json_is_object(json_object_get(object, "splits"))) {
        err = weir_errorf(error, WEIR_ERR_CORRUPT, "%s is not what an evaluation writes", path);
    }
    if (err == WEIR_OK && arguments->samples > 0) {
        err =
            weir_eval_bootstrap(run, arguments->samples, arguments->seed,
                                json_object_get(json_object_get(object, "splits"), "test"), error);
    }
    if (err == WEIR_OK && arguments->json && arguments->samples > 0) {
        (void)json_dumpf(object, stdout, JSON_REAL_PRECISION(10));
        (void)putchar('\n');
    } else if (err == WEIR_OK && arguments->json) {
        (void)fputs(text, stdout);
    } else if (err == WEIR_OK) {
        (void)printf("step %lld, epoch %.2f\n",
                     (long long)json_integer_value(json_object_get(object, "step")),
                     json_number_value(json_object_get(object, "epoch")));
        bool titled = false;
        json_object_foreach(json_object_get(object, "splits"), name, metrics) {
            if (json_object_get(metrics, "ne") != NULL) {
                print_ranking(name, metrics);
                continue;
            }
            if (!titled) {
                (void)printf("%-11s  %8s  %8s  %8s  %8s  %8s  %8s  %8s  %8s  %8s\n", "", "HR@1",
                             "HR@10", "HR@50", "HR@200", "NDCG@10", "NDCG@50", "NDCG@200", "MRR",
                             "users");
                titled = true;
            }
            print_split(name, metrics);
        }
        json_object_foreach(json_object_get(object, "splits"), name, metrics) {
            weir_eval_print_full(name, metrics);
            weir_eval_print_intervals(name, metrics);
        }
    }
    json_decref(object);
    free(text);
    return err;
}

/* What the job would refuse after it has started is refused before. */
static weir_err_t check(const arguments_t *arguments, weir_error_t *error) {
    const weir_config_t *config = &arguments->job.config;
    weir_list_cutoffs_t ignored;
    if (config->model.kind == WEIR_MODEL_RANKING &&
        (config->eval.full || arguments->per_user != NULL || arguments->samples > 0)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a ranking model does not score the catalogue: --full, --per-user and "
                           "--bootstrap are for models that do");
    }
    if (arguments->cutoffs[0] != '\0' && !config->eval.full) {
        return weir_errorf(error, WEIR_ERR_INVALID, "--at is of the lists that --full measures");
    }
    weir_err_t err =
        weir_list_cutoffs_parse(config->eval.cutoffs, WEIR_LIST_LONGEST, &ignored, error);
    return err == WEIR_OK && arguments->per_user != NULL
               ? weir_file_check_place(arguments->per_user, error)
               : err;
}

/* The file that the job left in the run's folder, to where it was asked for. */
static weir_err_t take_users(const arguments_t *arguments, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err =
        weir_path_join(path, sizeof path, arguments->job.run, "eval-users-test.safetensors", error);
    return err == WEIR_OK ? weir_user_results_copy(path, arguments->per_user, error) : err;
}

int weir_verb_eval(int argc, char **argv) {
    static const struct argp_child children[] = {{&weir_saved_job_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Evaluate a checkpoint of a run: the rank of every user's last event among the whole "
        "catalogue, computed by a job of P servers and W workers.",
        children,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {.seed = 1};
    int status = 0;
    weir_err_t err = weir_saved_job_init(&arguments.job, argc, &error);
    if (err == WEIR_OK) {
        (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
        err = weir_saved_job_choose(&arguments.job, &error);
    }
    if (err == WEIR_OK) {
        err = check(&arguments, &error);
    }
    if (err == WEIR_OK) {
        err = weir_saved_job_run(&arguments.job, NULL, &status, &error);
    }
    if (err == WEIR_OK && status == 0 && arguments.per_user != NULL) {
        err = take_users(&arguments, &error);
    }
    if (err == WEIR_OK && status == 0) {
        err = print_metrics(&arguments, &error);
    }
    weir_saved_job_fini(&arguments.job);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return status;
}
