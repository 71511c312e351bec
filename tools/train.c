/* weir train and weir eval: check what can be checked before any process starts, then launch the
 * job. */
#include "common/checkpoint.h"
#include "common/config.h"
#include "common/dataset.h"
#include "common/file.h"
#include "common/log.h"
#include "tools/launch.h"
#include "tools/timeline.h"
#include "tools/verbs.h"

#include <argp.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPTION_DRY_RUN = 256,
    OPTION_LAUNCHER,
    OPTION_STEP,
    OPTION_BEST,
    OPTION_JSON,
    OPTION_VALIDATION,
    OPTION_TRACE
};

typedef struct {
    const char *config, *run, *ps, *workers, *step, *trace;
    const char **sets; /* "key=value" */
    size_t set_count;
    bool resume, dry_run, best, json, validation;
    char chosen[24]; /* weir eval: the step that `step` then is */
    weir_launcher_t launcher;
} arguments_t;

static const struct argp_option train_options[] = {
    {"config", 'c', "FILE", 0, "configuration (YAML); `weir config` explains the keys", 0},
    {"run", 'r', "DIR", 0, "folder of the run; created, refused when it holds one (see --resume)",
     0},
    {"ps", 'p', "P", 0, "parameter servers (cluster.ps)", 0},
    {"workers", 'w', "W", 0, "workers (cluster.workers)", 0},
    {"set", 's', "KEY=VALUE", 0, "set a configuration key; may be repeated", 0},
    {"validation", OPTION_VALIDATION, NULL, 0,
     "hold out the event before the target and choose the epoch on it (eval.validation=true)", 0},
    {"resume", 'R', NULL, 0, "continue the run from its latest checkpoint", 0},
    {"trace", OPTION_TRACE, "N", 0,
     "record the timeline of N steps after the first 5 in RUN/trace.json (train.trace_steps)", 0},
    {"launcher", OPTION_LAUNCHER, "NAME", 0, "mpirun, srun or auto (default)", 0},
    {"dry-run", OPTION_DRY_RUN, NULL, 0, "show the line that would run, and stop", 0},
    {0},
};

static const struct argp_option eval_options[] = {
    {"run", 'r', "DIR", 0, "folder of the run", 0},
    {"step", OPTION_STEP, "N", 0, "the checkpoint of step N (default: the latest)", 0},
    {"best", OPTION_BEST, NULL, 0, "the best checkpoint", 0},
    {"ps", 'p', "P", 0, "parameter servers", 0},
    {"workers", 'w', "W", 0, "workers", 0},
    {"set", 's', "KEY=VALUE", 0, "set a configuration key; may be repeated", 0},
    {"json", OPTION_JSON, NULL, 0, "print the metrics as JSON", 0},
    {"launcher", OPTION_LAUNCHER, "NAME", 0, "mpirun, srun or auto (default)", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (key) {
    case 'c':
        arguments->config = value;
        return 0;
    case 'r':
        arguments->run = value;
        return 0;
    case 'p':
        arguments->ps = value;
        return 0;
    case 'w':
        arguments->workers = value;
        return 0;
    case 's':
        arguments->sets[arguments->set_count++] = value;
        return 0;
    case 'R':
        arguments->resume = true;
        return 0;
    case OPTION_VALIDATION:
        arguments->validation = true;
        return 0;
    case OPTION_TRACE:
        arguments->trace = value;
        return 0;
    case OPTION_DRY_RUN:
        arguments->dry_run = true;
        return 0;
    case OPTION_BEST:
        arguments->best = true;
        return 0;
    case OPTION_JSON:
        arguments->json = true;
        return 0;
    case OPTION_STEP:
        arguments->step = value;
        return 0;
    case OPTION_LAUNCHER:
        if (strcmp(value, "auto") != 0 && strcmp(value, "mpirun") != 0 &&
            strcmp(value, "srun") != 0) {
            argp_error(state, "--launcher is mpirun, srun or auto, not \"%s\"", value);
        }
        arguments->launcher = strcmp(value, "srun") == 0     ? WEIR_LAUNCHER_SRUN
                              : strcmp(value, "mpirun") == 0 ? WEIR_LAUNCHER_MPIRUN
                                                             : WEIR_LAUNCHER_AUTO;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return ARGP_ERR_UNKNOWN;
    case ARGP_KEY_END:
        if (arguments->run == NULL) {
            argp_error(state, "--run DIR is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the job's arguments ---- */

typedef struct {
    const char *words[4096];
    size_t count;
    char settings[3][64]; /* what --ps, --workers and --trace become */
} words_t;

static void add(words_t *words, const char *word) {
    if (words->count < sizeof words->words / sizeof words->words[0]) {
        words->words[words->count++] = word;
    }
}

/* --ps, --workers, --trace and --validation are short for settings; they come last and so win. */
static weir_err_t collect_sets(arguments_t *arguments, words_t *words, weir_error_t *error) {
    if (arguments->set_count > 1000) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%zu settings are too many",
                           arguments->set_count);
    }
    if (arguments->ps != NULL) {
        (void)snprintf(words->settings[0], sizeof words->settings[0], "cluster.ps=%s",
                       arguments->ps);
        arguments->sets[arguments->set_count++] = words->settings[0];
    }
    if (arguments->workers != NULL) {
        (void)snprintf(words->settings[1], sizeof words->settings[1], "cluster.workers=%s",
                       arguments->workers);
        arguments->sets[arguments->set_count++] = words->settings[1];
    }
    if (arguments->trace != NULL) {
        (void)snprintf(words->settings[2], sizeof words->settings[2], "train.trace_steps=%s",
                       arguments->trace);
        arguments->sets[arguments->set_count++] = words->settings[2];
    }
    if (arguments->validation) {
        arguments->sets[arguments->set_count++] = "eval.validation=true";
    }
    return WEIR_OK;
}

static void build_arguments(const arguments_t *arguments, bool eval, words_t *words) {
    if (arguments->config != NULL) {
        add(words, "--config");
        add(words, arguments->config);
    }
    add(words, "--run");
    add(words, arguments->run);
    for (size_t i = 0; i < arguments->set_count; i++) {
        add(words, "--set");
        add(words, arguments->sets[i]);
    }
    if (arguments->resume) {
        add(words, "--resume");
    }
    if (eval) {
        add(words, "--eval-only");
    }
    if (arguments->best) {
        add(words, "--best");
    }
    if (arguments->step != NULL) {
        add(words, "--step");
        add(words, arguments->step);
    }
}

/* Open the data once, so that a bad folder is told by one process and at once. */
static weir_err_t check_data(const weir_config_t *config, weir_error_t *error) {
    weir_dataset_t *dataset = NULL;
    if (config->data.path[0] == '\0') {
        weir_err_t err = weir_errorf(error, WEIR_ERR_INVALID, "data.path is not set");
        weir_error_hint(error, "name the folder that `weir prepare` or `weir synth` wrote: in the "
                               "configuration, or --set data.path=FOLDER");
        return err;
    }
    weir_err_t err = weir_dataset_open(config->data.path, &dataset, error);
    weir_dataset_close(dataset);
    return err;
}

static weir_err_t check_run(const arguments_t *arguments, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, arguments->run, "config.yaml", error);
    if (err == WEIR_OK && !arguments->resume && weir_file_exists(path)) {
        err = weir_errorf(error, WEIR_ERR_EXISTS, "%s holds a run already", arguments->run);
        weir_error_hint(error, "--resume continues it; or choose another folder");
    }
    if (err == WEIR_OK && arguments->resume && !weir_file_exists(path)) {
        err = weir_errorf(error, WEIR_ERR_NOT_FOUND, "%s holds no run to resume", arguments->run);
    }
    return err;
}

/* ---- how it ended ---- */

/* RUN/outcome.json says how the job ended: without it nothing is believed. */
static weir_err_t read_outcome(const char *run, char *outcome, size_t capacity,
                               weir_error_t *error) {
    char path[WEIR_PATH_MAX], *text = NULL;
    size_t size = 0;
    json_error_t ignored;
    weir_err_t err = weir_path_join(path, sizeof path, run, "outcome.json", error);
    if (err == WEIR_OK) {
        err = weir_file_read(path, 65536, &text, &size, NULL);
    }
    json_t *object = err == WEIR_OK ? json_loadb(text, size, 0, &ignored) : NULL;
    const char *value = json_string_value(json_object_get(object, "outcome"));
    if (value == NULL) {
        err = weir_errorf(error, WEIR_ERR_PEER, "the job did not end as it should");
        weir_error_hint(error,
                        "the lines above say why; `--resume` continues from the last checkpoint");
    } else {
        (void)snprintf(outcome, capacity, "%s", value);
    }
    json_decref(object);
    free(text);
    return err;
}

/* The ranks' timelines as one; a run is none the worse without it. */
static void merge_timeline(const char *run) {
    weir_error_t error = {0};
    bool merged = false;
    if (weir_timeline_merge(run, &merged, &error) != WEIR_OK) {
        (void)fprintf(stderr, "no timeline: %s\n", error.message);
    } else if (merged) {
        (void)printf(
            "timeline  %s/trace.json  (chrome://tracing, Perfetto; weir report shows it)\n", run);
    }
}

int weir_verb_train(int argc, char **argv) {
    static const struct argp argp = {train_options,
                                     parse_option,
                                     NULL,
                                     "Train: one coordinator, P servers and W workers under mpirun."
                                     "\vCtrl-C saves and stops (exit status 12); a second one ends "
                                     "the job without saving. Exit statuses: docs/exit-codes.md.",
                                     NULL,
                                     NULL,
                                     NULL};
    weir_error_t error = {0};
    weir_config_t config;
    arguments_t arguments = {.sets = calloc((size_t)argc + 5, sizeof *arguments.sets)};
    words_t *words = calloc(1, sizeof *words);
    char outcome[64] = "";
    int status = 0;
    weir_err_t err = WEIR_OK;
    if (arguments.sets == NULL || words == NULL) {
        err = weir_errorf(&error, WEIR_ERR_MEMORY, "out of memory");
        goto out;
    }
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    err = collect_sets(&arguments, words, &error);
    if (err == WEIR_OK) {
        err = weir_config_load(arguments.config, arguments.sets, arguments.set_count, &config,
                               &error);
    }
    if (err == WEIR_OK) {
        err = check_run(&arguments, &error);
    }
    if (err == WEIR_OK) {
        err = check_data(&config, &error);
    }
    if (err != WEIR_OK) {
        goto out;
    }
    build_arguments(&arguments, false, words);
    if (isatty(STDOUT_FILENO) != 0) {
        (void)setenv("WEIR_TTY", "1", 1);
    }
    weir_launch_t launch = {.launcher = arguments.launcher,
                            .ps = (long)config.cluster.ps,
                            .workers = (long)config.cluster.workers,
                            .run = arguments.run,
                            .arguments = words->words,
                            .argument_count = words->count,
                            .dry_run = arguments.dry_run,
                            .saves = true};
    bool traced = config.train.trace_steps > 0 && !arguments.dry_run;
    err = traced ? weir_timeline_clear(arguments.run, &error) : WEIR_OK;
    if (err == WEIR_OK) {
        err = weir_launch(&launch, &status, &error);
    }
    if (traced) {
        merge_timeline(arguments.run);
    }
    if (err == WEIR_OK && !arguments.dry_run && status == 0) {
        err = read_outcome(arguments.run, outcome, sizeof outcome, &error);
    }
    if (err == WEIR_OK && strcmp(outcome, "stopped") == 0) {
        status = weir_exit_status(WEIR_ERR_STOPPED);
    }
out:
    free(arguments.sets);
    free(words);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return status;
}

/* ---- weir eval ---- */

static void print_split(const char *name, const json_t *metrics) {
    static const char *const columns[] = {"hr@1",    "hr@10",   "hr@50",    "hr@200",
                                          "ndcg@10", "ndcg@50", "ndcg@200", "mrr"};
    (void)printf("%-11s", name);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        (void)printf("  %8.4f", json_number_value(json_object_get(metrics, columns[i])));
    }
    (void)printf("  %8lld\n", (long long)json_integer_value(json_object_get(metrics, "users")));
}

static weir_err_t print_metrics(const char *run, bool as_json, weir_error_t *error) {
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
    } else if (err == WEIR_OK && as_json) {
        (void)fputs(text, stdout);
    } else if (err == WEIR_OK) {
        (void)printf("step %lld, epoch %.2f\n",
                     (long long)json_integer_value(json_object_get(object, "step")),
                     json_number_value(json_object_get(object, "epoch")));
        (void)printf("%-11s  %8s  %8s  %8s  %8s  %8s  %8s  %8s  %8s  %8s\n", "", "HR@1", "HR@10",
                     "HR@50", "HR@200", "NDCG@10", "NDCG@50", "NDCG@200", "MRR", "users");
        json_object_foreach(json_object_get(object, "splits"), name, metrics) {
            print_split(name, metrics);
        }
    }
    json_decref(object);
    free(text);
    return err;
}

/* The run's own configuration, and a checkpoint that is there. */
static weir_err_t check_eval(arguments_t *arguments, char *config_path, size_t capacity,
                             weir_config_t *config, weir_error_t *error) {
    char where[WEIR_PATH_MAX], folder[WEIR_PATH_MAX], name[32] = "latest", *end = NULL;
    uint64_t found = 0;
    weir_err_t err = weir_path_join(config_path, capacity, arguments->run, "config.yaml", error);
    if (err == WEIR_OK && !weir_file_exists(config_path)) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "%s is not the folder of a run",
                           arguments->run);
    }
    if (err == WEIR_OK) {
        arguments->config = config_path;
        err = weir_config_load(config_path, arguments->sets, arguments->set_count, config, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    if (arguments->best) {
        (void)snprintf(name, sizeof name, "best");
    }
    if (arguments->step != NULL) {
        unsigned long long step = strtoull(arguments->step, &end, 10);
        if (arguments->step[0] < '0' || arguments->step[0] > '9' || *end != '\0') {
            return weir_errorf(error, WEIR_ERR_INVALID, "--step wants a whole number, not \"%s\"",
                               arguments->step);
        }
        weir_checkpoint_step_name(step, name);
    }
    int length = snprintf(where, sizeof where, "%s/checkpoints/%s", arguments->run, name);
    if (length < 0 || (size_t)length >= sizeof where) {
        return weir_errorf(error, WEIR_ERR_INVALID, "the run folder's name is too long");
    }
    err = weir_checkpoint_resolve(where, folder, sizeof folder, error);
    if (err != WEIR_OK) {
        return err;
    }
    /* By number from here on: a job that trains this run may move `latest` between two ranks. */
    const char *slash = strrchr(folder, '/');
    if (slash != NULL && weir_checkpoint_parse_step(slash + 1, &found)) {
        (void)snprintf(arguments->chosen, sizeof arguments->chosen, "%llu",
                       (unsigned long long)found);
        arguments->step = arguments->chosen;
        arguments->best = false;
    }
    return check_data(config, error);
}

int weir_verb_eval(int argc, char **argv) {
    static const struct argp argp = {
        eval_options,
        parse_option,
        NULL,
        "Evaluate a checkpoint of a run: the rank of every user's last event among the whole "
        "catalogue, computed by a job of P servers and W workers.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    weir_config_t config;
    char config_path[WEIR_PATH_MAX];
    arguments_t arguments = {.sets = calloc((size_t)argc + 5, sizeof *arguments.sets)};
    words_t *words = calloc(1, sizeof *words);
    int status = 0;
    weir_err_t err = WEIR_OK;
    if (arguments.sets == NULL || words == NULL) {
        err = weir_errorf(&error, WEIR_ERR_MEMORY, "out of memory");
        goto out;
    }
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    err = collect_sets(&arguments, words, &error);
    if (err == WEIR_OK) {
        err = check_eval(&arguments, config_path, sizeof config_path, &config, &error);
    }
    if (err != WEIR_OK) {
        goto out;
    }
    build_arguments(&arguments, true, words);
    weir_launch_t launch = {.launcher = arguments.launcher,
                            .ps = (long)config.cluster.ps,
                            .workers = (long)config.cluster.workers,
                            .run = arguments.run,
                            .arguments = words->words,
                            .argument_count = words->count,
                            .quiet = true};
    err = weir_launch(&launch, &status, &error);
    if (err == WEIR_OK && status == 0) {
        err = print_metrics(arguments.run, arguments.json, &error);
    }
out:
    free(arguments.sets);
    free(words);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return status;
}
