/* Building, showing and running the one line that is a job: mpirun, or srun inside a Slurm
 * allocation. */
#ifndef WEIR_TOOLS_LAUNCH_H
#define WEIR_TOOLS_LAUNCH_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum { WEIR_LAUNCHER_AUTO, WEIR_LAUNCHER_MPIRUN, WEIR_LAUNCHER_SRUN } weir_launcher_t;

typedef struct {
    weir_launcher_t launcher; /* AUTO: srun where SLURM_JOB_ID is set and mpirun is not found */
    long ps, workers;
    const char *run;              /* folder; srun's program file goes there */
    const char *const *arguments; /* the same for all roles */
    size_t argument_count;
    bool quiet;   /* do not show the line */
    bool dry_run; /* show it and do not run it */
    bool saves;   /* the job knows how to save and stop: the first signal asks it to */
} weir_launch_t;

/* Run the job and wait for its end. The first SIGINT, SIGTERM, SIGUSR1 or SIGHUP is passed on as
 * SIGUSR1 (save and stop; SIGTERM for a job that does not save), a second one as SIGTERM, a third
 * as SIGKILL. `*exit_status`: of the launcher (128 + signal when killed). Call: blocks. */
WEIR_MUST_USE weir_err_t weir_launch(const weir_launch_t *launch, int *exit_status,
                                     weir_error_t *error);

#endif
