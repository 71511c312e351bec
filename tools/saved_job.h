/* A job on a checkpoint of a run: what `weir eval`, `weir recommend` and `weir rank` share. Their
 * common options are a child parser of argp; the run's own configuration is loaded and the
 * checkpoint found before any process starts. */
#ifndef WEIR_TOOLS_SAVED_JOB_H
#define WEIR_TOOLS_SAVED_JOB_H

#include "common/config.h"
#include "common/error.h"
#include "common/file.h"
#include "tools/launch.h"

#include <argp.h>

typedef struct {
    const char *run, *step, *ps, *workers;
    bool best;
    const char **sets; /* "key=value", owned; room for all of the command line and two more */
    size_t set_count;
    weir_launcher_t launcher;
    /* after choose */
    weir_config_t config;
    char config_path[WEIR_PATH_MAX];
    char chosen[24];      /* the step, by number */
    char settings[2][96]; /* what --ps and --workers become */
} weir_saved_job_t;

/* --run, --step, --best, --ps, --workers, --set, --launcher; its input is a weir_saved_job_t. */
extern const struct argp weir_saved_job_argp;

/* Before parsing. Errors: out of memory. */
WEIR_MUST_USE weir_err_t weir_saved_job_init(weir_saved_job_t *job, int argc, weir_error_t *error);
void weir_saved_job_fini(weir_saved_job_t *job);

/* After parsing: load the run's configuration, find the checkpoint, open the data once. Errors:
 * NOT_FOUND for a folder that is no run or a step that is not there, those of configuration and
 * data. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_saved_job_choose(weir_saved_job_t *job, weir_error_t *error);

/* Run it: the evaluation, or the requests of a folder. `*status`: of the launcher. Errors: IO
 * for a run that cannot be written to, STOPPED when a signal asked to. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_saved_job_run(const weir_saved_job_t *job, const char *requests,
                                            int *status, weir_error_t *error);

#endif
