#include "tools/analysis_job.h"

#include "common/log.h"
#include "tools/launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPTION_LAUNCHER = 1024, OPTION_DRY_RUN, MOST_WORDS = 96 };

typedef struct {
    const weir_analysis_job_t *job;
    long ranks;
    bool dry_run;
    weir_launcher_t launcher;
} arguments_t;

static const struct argp_option options[] = {
    {"processes", 'n', "N", 0,
     "processes of the job (default: one for each core, or Slurm's tasks)", 0},
    {"launcher", OPTION_LAUNCHER, "NAME", 0, "mpirun, srun or auto (default)", 0},
    {"dry-run", OPTION_DRY_RUN, NULL, 0, "show the line that would run, and stop", 0},
    {0},
};

static long parse_ranks(const char *text) {
    char *end = NULL;
    errno = 0;
    long ranks = text == NULL ? 0 : strtol(text, &end, 10);
    return text == NULL || end == text || *end != '\0' || errno != 0 || ranks < 1 || ranks > 1 << 20
               ? 0
               : ranks;
}

static error_t parse_option(int key, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (key) {
    case 'n':
        arguments->ranks = parse_ranks(value);
        if (arguments->ranks == 0) {
            argp_error(state, "--processes wants a whole number from 1, not \"%s\"", value);
        }
        return 0;
    case OPTION_LAUNCHER:
        if (!weir_launcher_parse(value, &arguments->launcher)) {
            argp_error(state, "--launcher is mpirun, srun or auto, not \"%s\"", value);
        }
        return 0;
    case OPTION_DRY_RUN:
        arguments->dry_run = true;
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = arguments->job->input;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static long default_ranks(void) {
    long tasks = parse_ranks(getenv("SLURM_NTASKS")), cores = sysconf(_SC_NPROCESSORS_ONLN);
    return tasks > 0 ? tasks : cores > 0 ? cores : 1;
}

int weir_analysis_job_run(const weir_analysis_job_t *job, int argc, char **argv) {
    const struct argp_child children[] = {{job->argp, 0, NULL, 0}, {0}};
    const struct argp argp = {options, parse_option, NULL, job->about, children, NULL, NULL};
    arguments_t arguments = {.job = job};
    const char *words[MOST_WORDS];
    size_t count = 0;
    weir_error_t error = {0};
    weir_launch_end_t end = {.status = 0};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (job->method != NULL) {
        words[count++] = job->method;
    }
    for (size_t i = 0; i < *job->word_count && count < MOST_WORDS; i++) {
        words[count++] = job->words[i];
    }
    weir_launch_t launch = {.launcher = arguments.launcher,
                            .program = job->program,
                            .ranks = arguments.ranks > 0 ? arguments.ranks : default_ranks(),
                            .arguments = words,
                            .argument_count = count,
                            .quiet = *job->json,
                            .dry_run = arguments.dry_run};
    weir_err_t err = weir_launch(&launch, &end, &error);
    if (err == WEIR_OK && end.asked) {
        err = weir_errorf(&error, WEIR_ERR_STOPPED, "stopped on request");
    }
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    return end.status;
}
