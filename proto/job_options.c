#include "common/version.h"
#include "proto/job.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_EVAL_ONLY = 256, OPTION_BEST, OPTION_STEP, OPTION_REQUESTS };

typedef struct {
    weir_job_options_t *options;
    int argc;
} parse_t;

static const struct argp_option option_table[] = {
    {"config", 'c', "FILE", 0, "configuration (YAML)", 0},
    {"run", 'r', "DIR", 0, "run folder: checkpoints, metrics, control endpoint", 0},
    {"set", 's', "KEY=VALUE", 0, "set a configuration key; may be repeated", 0},
    {"resume", 'R', NULL, 0, "continue the run from its latest checkpoint", 0},
    {"eval-only", OPTION_EVAL_ONLY, NULL, 0, "load a checkpoint, evaluate it, leave", 0},
    {"requests", OPTION_REQUESTS, "DIR", 0,
     "with --eval-only: answer the requests in DIR in place of an evaluation", 0},
    {"best", OPTION_BEST, NULL, 0, "load the best checkpoint instead of the latest", 0},
    {"step", OPTION_STEP, "N", 0, "load the checkpoint of step N", 0},
    {0},
};

static error_t parse_step(const char *text, struct argp_state *state, weir_job_options_t *options) {
    char *end = NULL;
    errno = 0;
    unsigned long long step = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        argp_error(state, "--step wants a whole number, not \"%s\"", text);
        return EINVAL;
    }
    options->has_step = true;
    options->step = step;
    return 0;
}

static error_t parse_option(int key, char *value, struct argp_state *state) {
    parse_t *parse = state->input;
    weir_job_options_t *options = parse->options;
    switch (key) {
    case 'c':
        options->config = value;
        return 0;
    case 'r':
        options->run = value;
        return 0;
    case 's':
        options->sets[options->set_count++] = value; /* at most argc of them */
        return 0;
    case 'R':
        options->resume = true;
        return 0;
    case OPTION_EVAL_ONLY:
        options->eval_only = true;
        return 0;
    case OPTION_REQUESTS:
        options->requests = value;
        return 0;
    case OPTION_BEST:
        options->best = true;
        return 0;
    case OPTION_STEP:
        return parse_step(value, state, options);
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return EINVAL;
    case ARGP_KEY_END:
        if (options->run == NULL) {
            argp_error(state, "--run DIR is missing");
            return EINVAL;
        }
        if (options->requests != NULL && !options->eval_only) {
            argp_error(state, "--requests goes with --eval-only");
            return EINVAL;
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void weir_job_parse_options(weir_role_t role, int argc, char **argv, weir_job_options_t *options) {
    static const char *const about[] = {
        [WEIR_ROLE_COORDINATOR] = "Coordinator of a weir job: rank 0. Owns the run folder and the "
                                  "control socket, publishes "
                                  "checkpoints, ends the job.",
        [WEIR_ROLE_PS] = "Parameter server of a weir job: holds a shard of the embedding tables.",
        [WEIR_ROLE_WORKER] = "Worker of a weir job: computes, with its share of every batch.",
    };
    static const char launch[] =
        "\vThe three roles are one MPI job:\n"
        "  mpirun -n 1 weir-coordinator ARGS : -n P weir-ps ARGS : -n W weir-worker ARGS\n"
        "with the same ARGS for all; P and W are cluster.ps and cluster.workers. `weir train` "
        "builds, shows "
        "and runs this line. Configuration keys: `weir config`.";
    char text[2048], version[64];
    (void)snprintf(text, sizeof text, "%s%s", about[role], launch);
    (void)snprintf(version, sizeof version, "weir-%s %s", weir_role_name(role), WEIR_VERSION);
    argp_program_version = version;
    argp_err_exit_status = 2;
    *options = (weir_job_options_t){.sets = calloc((size_t)argc, sizeof *options->sets)};
    if (options->sets == NULL) {
        (void)fprintf(stderr, "weir-%s: out of memory\n", weir_role_name(role));
        exit(5);
    }
    parse_t parse = {.options = options, .argc = argc};
    const struct argp argp = {option_table, parse_option, NULL, text, NULL, NULL, NULL};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &parse);
    argp_program_version = NULL;
}
