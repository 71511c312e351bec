/* A verb that is a job of one program (analysis/): its options, and those of the launch, from the
 * same command line. */
#ifndef WEIR_TOOLS_ANALYSIS_JOB_H
#define WEIR_TOOLS_ANALYSIS_JOB_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const char *about;       /* for --help */
    const char *program;     /* beside this one: "weir-baseline" */
    const char *method;      /* its first argument; NULL: none */
    const struct argp *argp; /* of its options */
    void *input;             /* of that parser, which fills: */
    char *const *words;      /* the options as they were given */
    const size_t *word_count;
    const bool *json; /* then nothing but JSON goes to standard output */
} weir_analysis_job_t;

/* Parse, launch and wait; the exit status. Ends the process, as weir_fatal does, when the job
 * cannot be launched or was asked to stop. Call: blocks. */
int weir_analysis_job_run(const weir_analysis_job_t *job, int argc, char **argv);

#endif
