/* weir train: check what can be checked before any process starts, then launch the
 * job. */
#include "common/config.h"
#include "common/dataset.h"
#include "common/file.h"
#include "common/log.h"
#include "tools/launch.h"
#include "tools/requeue.h"
#include "tools/restarts.h"
#include "tools/supervisor.h"
#include "tools/timeline.h"
#include "tools/verbs.h"
#include "worker/ranking_tasks.h"

#include <argp.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    OPTION_DRY_RUN = 256,
    OPTION_LAUNCHER,
    OPTION_VALIDATION,
    OPTION_STREAM,
    OPTION_TRACE,
    OPTION_MAX_RESTARTS,
    OPTION_TIME_LIMIT,
    OPTION_REQUEUE,
    OPTION_PS_HOSTS,
    OPTION_WORKER_HOSTS,
    OPTION_INTERFACE,
    OPTION_PORTS,
    OPTION_PROGRESS_CORE
};

/* Options that are short for settings. */
static const struct {
    int option;
    const char *key;
} shorts[] = {{'p', "cluster.ps"},
              {'w', "cluster.workers"},
              {OPTION_STREAM, "train.stream_window"},
              {OPTION_TRACE, "train.trace_steps"},
              {OPTION_MAX_RESTARTS, "cluster.max_restarts"}};
enum { SHORTS = sizeof shorts / sizeof shorts[0] };

typedef struct {
    const char *config, *run, *time_limit;
    const char *ps_hosts, *worker_hosts, *interface, *ports;
    const char *values[SHORTS]; /* of the options that are short for settings */
    const char **sets;          /* "key=value" */
    size_t set_count;
    bool resume, dry_run, progress_core, validation, stream, requeue;
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
    {"stream", OPTION_STREAM, "SECONDS", OPTION_ARG_OPTIONAL,
     "train once through time, in windows of so many seconds, each measured before it is trained "
     "on (train.order=stream, train.stream_window; docs/streams.md)",
     0},
    {"resume", 'R', NULL, 0, "continue the run from its latest checkpoint", 0},
    {"trace", OPTION_TRACE, "N", 0,
     "record the timeline of N steps after the first 5 in RUN/trace.json (train.trace_steps)", 0},
    {"max-restarts", OPTION_MAX_RESTARTS, "K", 0,
     "start a job that failed again, up to K times without a new checkpoint (cluster.max_restarts)",
     0},
    {"time-limit", OPTION_TIME_LIMIT, "DURATION", 0,
     "save and end (exit status 12) before so long has passed: 90s, 30m, 2h, 1d, 1-00:00:00", 0},
    {"requeue", OPTION_REQUEUE, NULL, 0,
     "put the job of Slurm that this runs in back into the queue when its nodes are wanted "
     "(docs/slurm.md)",
     0},
    {"launcher", OPTION_LAUNCHER, "NAME", 0, "mpirun, srun or auto (default)", 0},
    {"ps-hosts", OPTION_PS_HOSTS, "A,B", 0,
     "hosts of the servers, the first one the coordinator's too (cluster.ps_hosts; "
     "docs/cluster.md)",
     0},
    {"worker-hosts", OPTION_WORKER_HOSTS, "C,D", 0, "hosts of the workers (cluster.worker_hosts)",
     0},
    {"interface", OPTION_INTERFACE, "NAMES", 0,
     "interfaces or networks that MPI uses: eth0, 10.1.0.0/16 (cluster.interface)", 0},
    {"ports", OPTION_PORTS, "FIRST-LAST", 0, "ports that MPI listens on (cluster.ports)", 0},
    {"progress-core", OPTION_PROGRESS_CORE, NULL, 0,
     "each worker computes on all its processors but one, which is left to the thread that moves "
     "frames (train.threads=-1)",
     0},
    {"dry-run", OPTION_DRY_RUN, NULL, 0, "show the line that would run, and stop", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    arguments->stream = arguments->stream || key == OPTION_STREAM;
    for (size_t i = 0; i < SHORTS; i++) {
        if (key == shorts[i].option) {
            arguments->values[i] = value;
            return 0;
        }
    }
    switch (key) {
    case 'c':
        arguments->config = value;
        return 0;
    case 'r':
        arguments->run = value;
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
    case OPTION_DRY_RUN:
        arguments->dry_run = true;
        return 0;
    case OPTION_TIME_LIMIT:
        arguments->time_limit = value;
        return 0;
    case OPTION_REQUEUE:
        arguments->requeue = true;
        return 0;
    case OPTION_PS_HOSTS:
        arguments->ps_hosts = value;
        return 0;
    case OPTION_WORKER_HOSTS:
        arguments->worker_hosts = value;
        return 0;
    case OPTION_INTERFACE:
        arguments->interface = value;
        return 0;
    case OPTION_PORTS:
        arguments->ports = value;
        return 0;
    case OPTION_PROGRESS_CORE:
        arguments->progress_core = true;
        return 0;
    case OPTION_LAUNCHER:
        if (!weir_launcher_parse(value, &arguments->launcher)) {
            argp_error(state, "--launcher is mpirun, srun or auto, not \"%s\"", value);
        }
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
    char settings[SHORTS][96]; /* what the options that are short for settings become */
} words_t;

static void add(words_t *words, const char *word) {
    if (words->count < sizeof words->words / sizeof words->words[0]) {
        words->words[words->count++] = word;
    }
}

/* Options that are short for settings come last and so win. */
static weir_err_t collect_sets(arguments_t *arguments, words_t *words, weir_error_t *error) {
    if (arguments->set_count > 1000) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%zu settings are too many",
                           arguments->set_count);
    }
    for (size_t i = 0; i < SHORTS; i++) {
        if (arguments->values[i] != NULL) {
            (void)snprintf(words->settings[i], sizeof words->settings[i], "%s=%s", shorts[i].key,
                           arguments->values[i]);
            arguments->sets[arguments->set_count++] = words->settings[i];
        }
    }
    if (arguments->validation) {
        arguments->sets[arguments->set_count++] = "eval.validation=true";
    }
    if (arguments->progress_core) {
        arguments->sets[arguments->set_count++] = "train.threads=-1";
    }
    if (arguments->stream) {
        arguments->sets[arguments->set_count++] = "train.order=stream";
    }
    return WEIR_OK;
}

static void build_arguments(const arguments_t *arguments, words_t *words) {
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
    if (err == WEIR_OK && config->model.kind == WEIR_MODEL_RANKING) {
        weir_ranking_tasks_t tasks;
        err = weir_ranking_tasks_read(config, dataset, &tasks, error);
    }
    weir_dataset_close(dataset);
    return err;
}

/* The folder, or what of its path there is, may be written: told here and not by a rank amid the
 * launcher's words. */
static weir_err_t check_writable(const char *folder, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    struct stat found;
    (void)snprintf(path, sizeof path, "%s", folder);
    const char *at = path;
    int why = stat(at, &found) == 0 ? 0 : errno;
    while (why == ENOENT && strcmp(at, ".") != 0 && strcmp(at, "/") != 0) {
        at = dirname(path);
        why = stat(at, &found) == 0 ? 0 : errno;
    }
    why = why == 0 && !S_ISDIR(found.st_mode) ? ENOTDIR : why;
    if (why != 0 || access(at, W_OK | X_OK) != 0) {
        weir_err_t err = weir_errorf(error, WEIR_ERR_IO, "%s cannot be written: %s: %s", folder, at,
                                     strerror(why != 0 ? why : errno));
        weir_error_hint(error,
                        "--run names a folder that may be created, on a file system that all "
                        "hosts of the job share");
        return err;
    }
    return WEIR_OK;
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
    return err == WEIR_OK ? check_writable(arguments->run, error) : err;
}

/* An option, or else its setting; NULL: neither. */
static const char *either(const char *option, const char *setting) {
    return option != NULL ? option : setting[0] != '\0' ? setting : NULL;
}

/* Where the job goes: each option wins over its setting. */
static weir_err_t place(arguments_t *arguments, const weir_config_t *config, weir_error_t *error) {
    arguments->ps_hosts = either(arguments->ps_hosts, config->cluster.ps_hosts);
    arguments->worker_hosts = either(arguments->worker_hosts, config->cluster.worker_hosts);
    arguments->interface = either(arguments->interface, config->cluster.interface);
    arguments->ports = either(arguments->ports, config->cluster.ports);
    if ((arguments->ps_hosts == NULL) != (arguments->worker_hosts == NULL)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "--ps-hosts and --worker-hosts (cluster.ps_hosts, cluster.worker_hosts) "
                           "go together");
    }
    return WEIR_OK;
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

/* The job did not finish: for the scheduler's sake? */
static void requeue(bool limited) {
    weir_error_t error = {0};
    if (weir_requeue(weir_launch_asked_by(), limited, &error) != WEIR_OK) {
        (void)fprintf(stderr, "not put back into the queue: %s\n", error.message);
    }
}

/* All has been checked: run it, or show what would run. */
static weir_err_t run_training(const arguments_t *arguments, const words_t *words,
                               const weir_config_t *config, double time_limit, int *status,
                               weir_error_t *error) {
    char saved_config[WEIR_PATH_MAX];
    bool limited = false;
    bool traced = config->train.trace_steps > 0 && !arguments->dry_run;
    weir_launch_end_t end;
    weir_launch_t launch = {.launcher = arguments->launcher,
                            .ps = (long)config->cluster.ps,
                            .workers = (long)config->cluster.workers,
                            .ps_hosts = arguments->ps_hosts,
                            .worker_hosts = arguments->worker_hosts,
                            .interface = arguments->interface,
                            .ports = arguments->ports,
                            .run = arguments->run,
                            .arguments = words->words,
                            .argument_count = words->count,
                            .dry_run = arguments->dry_run,
                            .saves = true};
    weir_err_t err =
        weir_path_join(saved_config, sizeof saved_config, arguments->run, "config.yaml", error);
    if (err == WEIR_OK && traced) {
        err = weir_timeline_clear(arguments->run, error);
    }
    if (err == WEIR_OK && arguments->dry_run) {
        err = weir_launch(&launch, &end, error);
    } else if (err == WEIR_OK) {
        weir_supervisor_options_t options = {
            .max_restarts = config->cluster.max_restarts,
            .time_limit = time_limit,
            .silence = weir_config_hang_seconds(config),
            .again = {"--config", saved_config, "--run", arguments->run, "--resume"}};
        err = weir_supervise(&launch, &options, status, &limited, error);
        if (arguments->requeue && (err != WEIR_OK || *status != 0)) {
            requeue(limited);
        }
    }
    if (traced) {
        merge_timeline(arguments->run);
    }
    return err;
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
    arguments_t arguments = {.sets = calloc((size_t)argc + SHORTS + 2, sizeof *arguments.sets)};
    words_t *words = calloc(1, sizeof *words);
    double time_limit = 0.0;
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
    if (err == WEIR_OK && arguments.time_limit != NULL &&
        !weir_parse_duration(arguments.time_limit, &time_limit)) {
        err = weir_errorf(&error, WEIR_ERR_INVALID,
                          "--time-limit wants 90s, 30m, 2h, 1d, 45:00 or 1-00:00:00, not \"%s\"",
                          arguments.time_limit);
    }
    if (err == WEIR_OK && arguments.requeue) {
        err = weir_requeue_check(&error);
    }
    if (err == WEIR_OK) {
        err = place(&arguments, &config, &error);
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
    build_arguments(&arguments, words);
    if (isatty(STDOUT_FILENO) != 0) {
        (void)setenv("WEIR_TTY", "1", 1);
    }
    err = run_training(&arguments, words, &config, time_limit, &status, &error);
out:
    free(arguments.sets);
    free(words);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return status;
}
