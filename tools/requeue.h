/* A job of Slurm whose nodes are wanted goes back into the queue (weir train --requeue).
 *
 * Slurm says that it wants them in two ways. What `sbatch --signal=B:USR1@SECONDS` asks for reaches
 * this process: before the time limit, and at a preemption where the site has
 * SlurmctldParameters=preempt_send_user_signal. At other sites a preemption sends SIGTERM to the
 * ranks that srun started and to nobody else; it is then found in what Slurm says of the job. */
#ifndef WEIR_TOOLS_REQUEUE_H
#define WEIR_TOOLS_REQUEUE_H

#include "common/error.h"

#include <stdbool.h>

/* Whether this process is of a job of Slurm. Errors: INVALID. Call: local. */
WEIR_MUST_USE weir_err_t weir_requeue_check(weir_error_t *error);

/* Whether what `scontrol show job --oneliner` says of a job tells of a preemption since the job
 * started last; one that an earlier start met is over. Call: local. */
bool weir_requeue_was_preempted(const char *text);

/* Put this job into the queue again if the scheduler wants its nodes: `signal` (0: none) asked this
 * process to stop, or `limited`, its time limit came near. Says so. Not done: a stop that a person
 * asked for. Errors: IO, with what scontrol ended with. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_requeue(int signal, bool limited, weir_error_t *error);

#endif
