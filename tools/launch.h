/* Building, showing and running the one line that is a job: mpirun, or srun inside a Slurm
 * allocation. */
#ifndef WEIR_TOOLS_LAUNCH_H
#define WEIR_TOOLS_LAUNCH_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum { WEIR_LAUNCHER_AUTO, WEIR_LAUNCHER_MPIRUN, WEIR_LAUNCHER_SRUN } weir_launcher_t;

/* "auto", "mpirun" or "srun"; false: none of them. */
bool weir_launcher_parse(const char *text, weir_launcher_t *launcher);

typedef enum {
    WEIR_LAUNCH_GO_ON,
    WEIR_LAUNCH_STOP, /* save and stop, as at a first signal */
    WEIR_LAUNCH_END,  /* as at a second one: end without saving; what does not end is killed */
} weir_launch_wish_t;

typedef struct {
    weir_launcher_t launcher; /* AUTO: srun where SLURM_JOB_ID is set and mpirun is not found */
    const char *program;      /* a job of `ranks` of this one alone; NULL: of the three roles */
    long ranks;
    long ps, workers;
    /* Where mpirun places the roles, "a,b,c"; both or none, NULL: wherever mpirun would. The
     * ranks of a role fill the hosts in blocks of equal size; the coordinator is on the first
     * host of the servers. Of a program alone: ps_hosts. */
    const char *ps_hosts, *worker_hosts;
    const char *interface;        /* "eth0" or "10.1.0.0/16", several with commas; NULL: all */
    const char *ports;            /* "FIRST-LAST" for the connections of MPI; NULL: any */
    const char *run;              /* folder; srun's program file goes there */
    const char *const *arguments; /* the same for all roles */
    size_t argument_count;
    bool quiet;   /* do not show the line */
    bool dry_run; /* show it and do not run it */
    bool saves;   /* the job knows how to save and stop: the first signal asks it to */
    /* A line that the launcher or a rank wrote to standard error, without its newline; it has been
     * passed on. NULL: standard error is the caller's own and nobody listens. */
    void (*hear)(void *argument, const char *line);
    /* Several times a second while the job runs: what to ask it for. NULL: nothing. */
    weir_launch_wish_t (*tick)(void *argument);
    void *argument;
} weir_launch_t;

typedef struct {
    int status;  /* of the launcher; 128 + signal when killed */
    bool begun;  /* there was a job: nobody had asked to stop before */
    bool asked;  /* a signal came, to stop the job */
    bool wished; /* tick wished it to end */
} weir_launch_end_t;

/* Run the job and wait for its end. The first SIGINT, SIGTERM, SIGUSR1 or SIGHUP is passed on as
 * SIGUSR1 (save and stop; SIGTERM for a job that does not save), a second one as SIGTERM, a third
 * as SIGKILL. A job that is asked before it has begun does not begin. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_launch(const weir_launch_t *launch, weir_launch_end_t *end,
                                     weir_error_t *error);

/* The first signal that asked a job of this process to stop; 0: none has. Call: local. */
int weir_launch_asked_by(void);

/* Wait between two jobs, until a signal asks to stop at the latest. Call: blocks. */
void weir_launch_pause(double seconds);

#endif
