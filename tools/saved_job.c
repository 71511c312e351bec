#include "tools/saved_job.h"

#include "common/checkpoint.h"
#include "common/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_STEP = 512, OPTION_BEST, OPTION_LAUNCHER };

static const struct argp_option options[] = {
    {"run", 'r', "DIR", 0, "folder of the run", 0},
    {"step", OPTION_STEP, "N", 0, "the checkpoint of step N (default: the latest)", 0},
    {"best", OPTION_BEST, NULL, 0, "the best checkpoint", 0},
    {"ps", 'p', "P", 0, "parameter servers", 0},
    {"workers", 'w', "W", 0, "workers", 0},
    {"set", 's', "KEY=VALUE", 0, "set a configuration key; may be repeated", 0},
    {"launcher", OPTION_LAUNCHER, "NAME", 0, "mpirun, srun or auto (default)", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state) {
    weir_saved_job_t *job = state->input;
    switch (key) {
    case 'r':
        job->run = value;
        return 0;
    case 'p':
        job->ps = value;
        return 0;
    case 'w':
        job->workers = value;
        return 0;
    case 's':
        job->sets[job->set_count++] = value; /* there is room for all of the command line */
        return 0;
    case OPTION_STEP:
        job->step = value;
        return 0;
    case OPTION_BEST:
        job->best = true;
        return 0;
    case OPTION_LAUNCHER:
        if (!weir_launcher_parse(value, &job->launcher)) {
            argp_error(state, "--launcher is mpirun, srun or auto, not \"%s\"", value);
        }
        return 0;
    case ARGP_KEY_END:
        if (job->run == NULL) {
            argp_error(state, "--run DIR is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp weir_saved_job_argp = {options, parse_option, NULL, NULL, NULL, NULL, NULL};

weir_err_t weir_saved_job_init(weir_saved_job_t *job, int argc, weir_error_t *error) {
    *job = (weir_saved_job_t){.sets = calloc((size_t)argc + 2, sizeof *job->sets)};
    return job->sets != NULL ? WEIR_OK : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
}

void weir_saved_job_fini(weir_saved_job_t *job) {
    free(job->sets);
}

/* The options that are short for settings come last and so win. */
static void add_shorts(weir_saved_job_t *job) {
    const char *const values[2] = {job->ps, job->workers};
    static const char *const keys[2] = {"cluster.ps", "cluster.workers"};
    for (size_t i = 0; i < 2; i++) {
        if (values[i] != NULL) {
            (void)snprintf(job->settings[i], sizeof job->settings[i], "%s=%s", keys[i], values[i]);
            job->sets[job->set_count++] = job->settings[i];
        }
    }
}

/* By number from here on: a job that trains this run may move `latest` between two ranks. */
static weir_err_t choose_checkpoint(weir_saved_job_t *job, weir_error_t *error) {
    char where[WEIR_PATH_MAX], folder[WEIR_PATH_MAX], name[32] = "latest", *end = NULL;
    uint64_t found = 0;
    if (job->best) {
        (void)snprintf(name, sizeof name, "best");
    }
    if (job->step != NULL) {
        unsigned long long step = strtoull(job->step, &end, 10);
        if (job->step[0] < '0' || job->step[0] > '9' || *end != '\0') {
            return weir_errorf(error, WEIR_ERR_INVALID, "--step wants a whole number, not \"%s\"",
                               job->step);
        }
        weir_checkpoint_step_name(step, name);
    }
    int length = snprintf(where, sizeof where, "%s/checkpoints/%s", job->run, name);
    if (length < 0 || (size_t)length >= sizeof where) {
        return weir_errorf(error, WEIR_ERR_INVALID, "the run folder's name is too long");
    }
    weir_err_t err = weir_checkpoint_resolve(where, folder, sizeof folder, error);
    const char *slash = err == WEIR_OK ? strrchr(folder, '/') : NULL;
    if (slash != NULL && weir_checkpoint_parse_step(slash + 1, &found)) {
        (void)snprintf(job->chosen, sizeof job->chosen, "%llu", (unsigned long long)found);
    }
    return err;
}

weir_err_t weir_saved_job_choose(weir_saved_job_t *job, weir_error_t *error) {
    weir_dataset_t *dataset = NULL;
    weir_err_t err =
        weir_path_join(job->config_path, sizeof job->config_path, job->run, "config.yaml", error);
    if (err == WEIR_OK && !weir_file_exists(job->config_path)) {
        return weir_errorf(error, WEIR_ERR_NOT_FOUND, "%s is not the folder of a run", job->run);
    }
    add_shorts(job);
    if (err == WEIR_OK) {
        err = weir_config_load(job->config_path, job->sets, job->set_count, &job->config, error);
    }
    if (err == WEIR_OK) {
        err = choose_checkpoint(job, error);
    }
    if (err == WEIR_OK) { /* a bad folder is told by one process and at once */
        err = weir_dataset_open(job->config.data.path, &dataset, error);
        weir_dataset_close(dataset);
        if (err == WEIR_ERR_NOT_FOUND && job->config.data.path[0] != '/') {
            weir_error_hint(error, "the run was trained from another folder? --set "
                                   "data.path=FOLDER says where its data is");
        }
    }
    return err;
}

/* What the job writes goes into the run's folder. */
static weir_err_t check_run(const char *run, weir_error_t *error) {
    char result[WEIR_PATH_MAX];
    weir_err_t err = weir_path_join(result, sizeof result, run, "eval.json", error);
    if (err == WEIR_OK) {
        err = weir_file_check_place(result, error);
    }
    if (err != WEIR_OK) {
        weir_error_hint(error, "a job on a run writes into its folder; a copy (cp -r) will do");
    }
    return err;
}

weir_err_t weir_saved_job_run(const weir_saved_job_t *job, const char *requests, int *status,
                              weir_error_t *error) {
    weir_launch_end_t end = {.status = 0};
    size_t count = 0;
    weir_err_t err = check_run(job->run, error);
    if (err != WEIR_OK) {
        return err;
    }
    const char **words = calloc(2 * job->set_count + 16, sizeof *words);
    if (words == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    }
    words[count++] = "--config";
    words[count++] = job->config_path;
    words[count++] = "--run";
    words[count++] = job->run;
    for (size_t i = 0; i < job->set_count; i++) {
        words[count++] = "--set";
        words[count++] = job->sets[i];
    }
    words[count++] = "--eval-only";
    if (job->chosen[0] != '\0') {
        words[count++] = "--step";
        words[count++] = job->chosen;
    } else if (job->best) {
        words[count++] = "--best";
    }
    if (requests != NULL) {
        words[count++] = "--requests";
        words[count++] = requests;
    }
    weir_launch_t launch = {.launcher = job->launcher,
                            .ps = (long)job->config.cluster.ps,
                            .workers = (long)job->config.cluster.workers,
                            .run = job->run,
                            .arguments = words,
                            .argument_count = count,
                            .quiet = true};
    err = weir_launch(&launch, &end, error);
    *status = end.status;
    if (err == WEIR_OK && end.asked && (end.status != 0 || !end.begun)) {
        err = weir_errorf(error, WEIR_ERR_STOPPED, "stopped on request; nothing was written");
    } else if (err == WEIR_OK && end.status > 128) {
        (void)fprintf(stderr,
                      "weir: a process of the job was killed by signal %d; nothing was "
                      "written\n",
                      end.status - 128);
    }
    free(words);
    return err;
}
