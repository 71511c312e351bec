/* weir report: one HTML page of a run. */
#include "common/checkpoint.h"
#include "common/config.h"
#include "common/file.h"
#include "common/log.h"
#include "tools/report_page.h"
#include "tools/verbs.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_LIMIT = 1 << 20, CHECKPOINTS_MOST = 1000 };

typedef struct {
    const char *run, *out;
    bool timeline; /* to the terminal */
} arguments_t;

static const struct argp_option options[] = {
    {"out", 'o', "FILE", 0, "where the page goes; default RUN/report.html", 0},
    {"timeline", 't', NULL, 0,
     "print where the time of a step goes, of a run with --trace, instead of making a page", 0},
    {0},
};

static error_t parse_option(int option, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (option) {
    case 'o':
        arguments->out = value;
        return 0;
    case 't':
        arguments->timeline = true;
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->run != NULL) {
            argp_error(state, "one run at a time, not also \"%s\"", value);
        }
        arguments->run = value;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "RUN is missing: the folder of a run");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* All that a page is made of. */
typedef struct {
    char name[256];
    weir_run_metrics_t metrics;
    weir_config_t config;
    weir_error_t config_error;
    weir_report_checkpoint_t *checkpoints; /* owned */
    weir_timeline_t timeline;
    weir_report_t report;
} source_t;

/* The run's last name; a page can do without knowing what "." is called. */
static void find_name(const char *run, char *name, size_t capacity) {
    char *whole = realpath(run, NULL);
    const char *path = whole != NULL ? whole : run, *slash = strrchr(path, '/');
    (void)snprintf(name, capacity, "%s", slash != NULL && slash[1] != '\0' ? slash + 1 : path);
    free(whole);
}

/* A page without the configuration is better than none. */
static void read_config(const char *run, source_t *source) {
    char path[WEIR_PATH_MAX], *text = NULL;
    size_t size = 0;
    weir_error_t *error = &source->config_error;
    weir_err_t err = weir_path_join(path, sizeof path, run, "config.yaml", error);
    if (err == WEIR_OK) {
        err = weir_file_read(path, CONFIG_LIMIT, &text, &size, error);
    }
    if (err == WEIR_OK) {
        err = weir_config_load_text(text, size, "config.yaml", NULL, 0, &source->config, error);
    }
    source->report.config = err == WEIR_OK ? &source->config : NULL;
    source->report.config_error = source->config_error.message;
    free(text);
}

/* The step that RUN/checkpoints/NAME points to; UINT64_MAX: none. */
static uint64_t read_link(const char *run, const char *name) {
    char path[WEIR_PATH_MAX], target[256];
    uint64_t step = UINT64_MAX;
    int length = snprintf(path, sizeof path, "%s/checkpoints/%s", run, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        return UINT64_MAX;
    }
    ssize_t size = readlink(path, target, sizeof target - 1);
    if (size <= 0) {
        return UINT64_MAX;
    }
    target[size] = '\0';
    return weir_checkpoint_parse_step(target, &step) ? step : UINT64_MAX;
}

/* False: damaged, or removed while we looked. */
static bool read_checkpoint(const char *run, uint64_t step, weir_report_checkpoint_t *checkpoint) {
    char folder[WEIR_PATH_MAX], name[32];
    weir_manifest_t manifest = {0};
    weir_checkpoint_step_name(step, name);
    int length = snprintf(folder, sizeof folder, "%s/checkpoints/%s", run, name);
    if (length < 0 || (size_t)length >= sizeof folder ||
        weir_manifest_read(folder, false, &manifest, NULL) != WEIR_OK) {
        return false;
    }
    *checkpoint =
        (weir_report_checkpoint_t){.step = step, .ps = manifest.ps, .workers = manifest.workers};
    for (size_t i = 0; i < manifest.file_count; i++) {
        checkpoint->bytes += manifest.files[i].size;
    }
    weir_manifest_fini(&manifest);
    return true;
}

static weir_err_t read_checkpoints(const char *run, source_t *source, weir_error_t *error) {
    uint64_t *steps = NULL, latest = read_link(run, "latest"), best = read_link(run, "best");
    size_t count = 0;
    weir_err_t err = weir_checkpoint_list(run, &steps, &count, error);
    if (err == WEIR_ERR_NOT_FOUND) { /* a run that has not saved yet */
        return WEIR_OK;
    }
    if (err != WEIR_OK) {
        return err;
    }
    source->checkpoints = calloc(count + 1, sizeof *source->checkpoints);
    if (source->checkpoints == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a list of checkpoints");
    }
    size_t first = count > CHECKPOINTS_MOST ? count - CHECKPOINTS_MOST : 0;
    for (size_t i = first; i < count && err == WEIR_OK; i++) {
        weir_report_checkpoint_t *checkpoint =
            &source->checkpoints[source->report.checkpoint_count];
        if (read_checkpoint(run, steps[i], checkpoint)) {
            checkpoint->latest = steps[i] == latest;
            checkpoint->best = steps[i] == best;
            source->report.checkpoint_count++;
        } else {
            (void)fprintf(stderr, "%s: the checkpoint of step %llu is not readable: left out\n",
                          run, (unsigned long long)steps[i]);
        }
    }
    source->report.checkpoints = source->checkpoints;
    free(steps);
    return err;
}

/* A page without a timeline is better than none. */
static void read_timeline(const char *run, source_t *source) {
    weir_error_t error = {0};
    bool found = false;
    if (weir_timeline_read(run, &found, &source->timeline, &error) != WEIR_OK) {
        (void)fprintf(stderr, "no timeline: %s\n", error.message);
    } else if (found) {
        source->report.timeline = &source->timeline;
    }
}

static weir_err_t print_timeline(const char *run, weir_error_t *error) {
    weir_timeline_t timeline = {0};
    bool found = false;
    weir_err_t err = weir_timeline_read(run, &found, &timeline, error);
    if (err == WEIR_OK && !found) {
        err = weir_errorf(error, WEIR_ERR_NOT_FOUND, "%s has no timeline", run);
        weir_error_hint(error, "`weir train --trace N` records N steps");
    } else if (err == WEIR_OK) {
        weir_timeline_print(stdout, &timeline);
    }
    weir_timeline_fini(&timeline);
    return err;
}

static weir_err_t read_run(const char *run, source_t *source, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(path, sizeof path, run, "metrics.jsonl", error);
    if (err == WEIR_OK) {
        err = weir_run_metrics_read(path, stderr, &source->metrics, error);
    }
    if (err == WEIR_ERR_NOT_FOUND) {
        err = weir_errorf(error, WEIR_ERR_NOT_FOUND, "%s has no metrics.jsonl", run);
        weir_error_hint(error, "name the folder that was --run of `weir train`");
    }
    if (err == WEIR_OK) {
        err = read_checkpoints(run, source, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    read_config(run, source);
    read_timeline(run, source);
    find_name(run, source->name, sizeof source->name);
    source->report.name = source->name;
    source->report.metrics = &source->metrics;
    return WEIR_OK;
}

static weir_err_t write_page(const char *path, const weir_report_t *report, weir_error_t *error) {
    char *page = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&page, &size);
    if (out == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a page");
    }
    weir_err_t err = weir_report_write(out, report, error);
    bool whole = ferror(out) == 0;
    whole = fclose(out) == 0 && whole;
    if (err == WEIR_OK && !whole) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a page");
    }
    if (err == WEIR_OK) {
        err = weir_file_replace(path, page, size, error);
    }
    free(page);
    return err;
}

int weir_verb_report(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse_option,
        "RUN",
        "Write one HTML page of a run: curves of loss, metrics and speed, evaluations, checkpoints "
        "and configuration. It opens nothing from the network. A run that still goes on may be "
        "reported too.",
        NULL,
        NULL,
        NULL};
    weir_error_t error = {0};
    arguments_t arguments = {0};
    char path[WEIR_PATH_MAX];
    source_t source = {.name = ""};
    weir_err_t err = WEIR_OK;
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (arguments.timeline) {
        err = print_timeline(arguments.run, &error);
        if (err != WEIR_OK) {
            weir_fatal(&error);
        }
        return 0;
    }
    if (arguments.out == NULL) {
        err = weir_path_join(path, sizeof path, arguments.run, "report.html", &error);
        arguments.out = path;
    }
    if (err == WEIR_OK) {
        err = read_run(arguments.run, &source, &error);
    }
    if (err == WEIR_OK) {
        err = write_page(arguments.out, &source.report, &error);
        if (err == WEIR_ERR_IO && arguments.out == path) {
            weir_error_hint(&error, "--out FILE puts the page elsewhere");
        }
    }
    if (err == WEIR_OK) {
        (void)printf("%s\n", arguments.out);
    }
    weir_run_metrics_fini(&source.metrics);
    weir_timeline_fini(&source.timeline);
    free(source.checkpoints);
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}
