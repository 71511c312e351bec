/* weir compare: trains a list of configurations, and puts their runs beside each other. */
#include "common/file.h"
#include "common/log.h"
#include "common/run_dir.h"
#include "tools/compare_page.h"
#include "tools/launch_run.h"
#include "tools/verbs.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_LIMIT = 1 << 20, RUNS_MOST = 64 };

typedef struct {
    const char *out, *ps, *workers;
    const char **inputs, **sets; /* room for argc each */
    size_t input_count, set_count;
} arguments_t;

static const struct argp_option options[] = {
    {"out", 'o', "DIR", 0, "folder of the page, the tables and the runs that are trained", 0},
    {"ps", 'p', "P", 0, "parameter servers of each job", 0},
    {"workers", 'w', "W", 0, "workers of each job", 0},
    {"set", 's', "KEY=VALUE", 0, "set a configuration key in all; may be repeated", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (key) {
    case 'o':
        arguments->out = value;
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
    case ARGP_KEY_ARG:
        arguments->inputs[arguments->input_count++] = value;
        return 0;
    case ARGP_KEY_END:
        if (arguments->input_count == 0) {
            argp_error(state, "CONFIG is missing: configurations to train, or folders of runs");
        }
        if (arguments->out == NULL) {
            argp_error(state, "--out is missing: the folder of what is made");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static bool is_folder(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* The last name of the path, of a file without its ending. */
static void find_name(const char *path, bool folder, char *name, size_t capacity) {
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') {
        size--;
    }
    size_t first = size;
    while (first > 0 && path[first - 1] != '/') {
        first--;
    }
    (void)snprintf(name, capacity, "%.*s", (int)(size - first), path + first);
    char *dot = strrchr(name, '.');
    if (!folder && dot != NULL && dot != name) {
        *dot = '\0';
    }
}

static char *word_of(const char *text) {
    return (char *)(uintptr_t)text; /* the process started changes none of them */
}

/* `weir train` as a process of its own, so that a job that fails takes nobody along. A signal is
 * passed on once: it saves and stops. */
static weir_err_t train(const arguments_t *arguments, const char *config, const char *run,
                        weir_error_t *error) {
    char path[WEIR_PATH_MAX], self[WEIR_PATH_MAX];
    size_t count = 0;
    weir_launch_end_t end = {.status = 0};
    weir_launch_t launch = {.saves = false}; /* nothing to repeat: each signal counts there */
    weir_err_t err = weir_path_join(path, sizeof path, run, "config.yaml", error);
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (err == WEIR_OK && size < 0) {
        err = weir_error_from_errno(error, errno, "cannot find this program");
    }
    char **words = calloc(16 + 2 * arguments->set_count, sizeof *words);
    if (err == WEIR_OK && words == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a command line");
    }
    if (err != WEIR_OK) {
        free(words);
        return err;
    }
    self[size] = '\0';
    const char *const fixed[] = {self, "train", "--config", config, "--run", run};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        words[count++] = word_of(fixed[i]);
    }
    const char *const given[][2] = {{"--ps", arguments->ps}, {"--workers", arguments->workers}};
    for (size_t i = 0; i < 2; i++) {
        if (given[i][1] != NULL) {
            words[count++] = word_of(given[i][0]);
            words[count++] = word_of(given[i][1]);
        }
    }
    for (size_t i = 0; i < arguments->set_count; i++) {
        words[count++] = word_of("--set");
        words[count++] = word_of(arguments->sets[i]);
    }
    if (weir_file_exists(path)) { /* a run, be it one that has saved nothing yet */
        words[count++] = word_of("--resume");
    }
    err = weir_launch_run(words, &launch, &end, error);
    free(words);
    if (err == WEIR_OK && (end.asked || end.status == weir_exit_status(WEIR_ERR_STOPPED))) {
        err = weir_errorf(error, WEIR_ERR_STOPPED, "stopped on request");
        weir_error_hint(error, "the same command again goes on where it stopped");
    } else if (err == WEIR_OK && end.status != 0) {
        err = weir_errorf(error, WEIR_ERR_PEER, "training of %s ended with status %d", config,
                          end.status);
        weir_error_hint(error, "the same command again goes on where it stopped");
    }
    return err;
}

static weir_err_t read_metrics(const char *run, weir_run_metrics_t *metrics, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, run, "metrics.jsonl", error);
    return err == WEIR_OK ? weir_run_metrics_read(path, stderr, metrics, error) : err;
}

/* A run without a configuration that can be read is shown without its kind. */
static void read_config(weir_compare_run_t *run) {
    char path[WEIR_PATH_MAX], *text = NULL;
    size_t size = 0;
    if (weir_path_join(path, sizeof path, run->path, "config.yaml", NULL) == WEIR_OK &&
        weir_file_read(path, CONFIG_LIMIT, &text, &size, NULL) == WEIR_OK) {
        run->configured = weir_config_load_text(text, size, "config.yaml", NULL, 0, &run->config,
                                                NULL) == WEIR_OK;
    }
    free(text);
}

/* Whether the run has ended; one that has not, or is not there, is trained. */
static bool has_ended(const char *run) {
    weir_run_metrics_t metrics = {0};
    bool ended = false;
    char path[WEIR_PATH_MAX];
    if (weir_path_join(path, sizeof path, run, "metrics.jsonl", NULL) == WEIR_OK &&
        weir_file_exists(path) && weir_run_metrics_read(path, NULL, &metrics, NULL) == WEIR_OK) {
        ended = metrics.ended && (strcmp(metrics.reason, "finished") == 0 ||
                                  strcmp(metrics.reason, "early_stop") == 0);
        weir_run_metrics_fini(&metrics);
    }
    return ended;
}

static weir_err_t obtain_run(const arguments_t *arguments, const char *input,
                             weir_compare_run_t *run, weir_error_t *error) {
    bool folder = is_folder(input);
    weir_err_t err = WEIR_OK;
    find_name(input, folder, run->name, sizeof run->name);
    if (folder) {
        (void)snprintf(run->path, sizeof run->path, "%s", input);
    } else {
        err = weir_path_join(run->path, sizeof run->path, arguments->out, run->name, error);
    }
    if (err == WEIR_OK && !folder && !has_ended(run->path)) {
        (void)printf("training %s\n", run->name);
        (void)fflush(stdout);
        err = train(arguments, input, run->path, error);
    }
    if (err == WEIR_OK) {
        err = read_metrics(run->path, &run->metrics, error);
    }
    if (err == WEIR_OK) {
        read_config(run);
    }
    return err;
}

typedef enum { PAGE, MARKDOWN, JSON } form_t;

static weir_err_t write_form(const arguments_t *arguments, form_t form,
                             const weir_compare_run_t *runs, size_t count, weir_error_t *error) {
    static const char *const names[] = {"compare.html", "compare.md", "compare.json"};
    char path[WEIR_PATH_MAX], *text = NULL;
    size_t size = 0;
    weir_err_t err = weir_path_join(path, sizeof path, arguments->out, names[form], error);
    FILE *out = err == WEIR_OK ? open_memstream(&text, &size) : NULL;
    if (err != WEIR_OK || out == NULL) {
        return err != WEIR_OK ? err
                              : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a page");
    }
    if (form == PAGE) {
        err = weir_compare_write_page(out, runs, count, error);
    } else if (form == MARKDOWN) {
        weir_compare_write_markdown(out, runs, count);
    } else {
        err = weir_compare_write_json(out, runs, count, error);
    }
    bool whole = ferror(out) == 0;
    whole = fclose(out) == 0 && whole;
    if (err == WEIR_OK && !whole) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a page");
    }
    if (err == WEIR_OK) {
        err = weir_file_replace(path, text, size, error);
    }
    if (err == WEIR_OK && form == PAGE) {
        (void)printf("%s\n", path);
    }
    free(text);
    return err;
}

/* Two runs of one name would be one folder, and one line could not be told from another. */
static weir_err_t check_names(const arguments_t *arguments, weir_error_t *error) {
    char name[128], other[128];
    if (arguments->input_count > RUNS_MOST) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%zu runs; at most %d are compared",
                           arguments->input_count, RUNS_MOST);
    }
    for (size_t i = 0; i < arguments->input_count; i++) {
        find_name(arguments->inputs[i], is_folder(arguments->inputs[i]), name, sizeof name);
        for (size_t j = 0; j < i; j++) {
            find_name(arguments->inputs[j], is_folder(arguments->inputs[j]), other, sizeof other);
            if (strcmp(name, other) == 0) {
                return weir_errorf(error, WEIR_ERR_INVALID, "two of them are called %s", name);
            }
        }
    }
    return WEIR_OK;
}

int weir_verb_compare(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        "CONFIG...",
        "Train each configuration, in DIR/NAME, and put the runs beside each other: "
        "DIR/compare.html "
        "with the table and the curves, compare.md and compare.json. A CONFIG that is the folder "
        "of "
        "a run is taken as it is. A run that has ended is not trained again; one that was stopped "
        "goes on.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {.inputs = calloc((size_t)argc + 1, sizeof(char *)),
                             .sets = calloc((size_t)argc + 1, sizeof(char *))};
    weir_compare_run_t *runs = NULL;
    size_t made = 0;
    weir_err_t err = WEIR_OK;
    if (arguments.inputs == NULL || arguments.sets == NULL) {
        err = weir_errorf(&error, WEIR_ERR_MEMORY, "out of memory for the command line");
        weir_fatal(&error);
    }
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    err = check_names(&arguments, &error);
    if (err == WEIR_OK) {
        runs = calloc(arguments.input_count, sizeof *runs);
        err = runs == NULL ? weir_errorf(&error, WEIR_ERR_MEMORY, "out of memory for the runs")
                           : weir_file_make_directories(arguments.out, &error);
    }
    for (; err == WEIR_OK && made < arguments.input_count; made++) {
        err = obtain_run(&arguments, arguments.inputs[made], &runs[made], &error);
    }
    for (int form = PAGE; err == WEIR_OK && form <= JSON; form++) {
        err = write_form(&arguments, (form_t)form, runs, made, &error);
    }
    if (err == WEIR_OK) {
        weir_compare_write_markdown(stdout, runs, made);
    }
    for (size_t r = 0; r < made; r++) {
        weir_run_metrics_fini(&runs[r].metrics);
    }
    free(runs);
    free(arguments.inputs);
    free(arguments.sets);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}
