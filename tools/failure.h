/* What a launcher and the ranks say on standard error about how a job failed: which rank was the
 * first, and why. Lines of Open MPI's mpirun, of Slurm's srun, and of weir_fatal are understood. */
#ifndef WEIR_TOOLS_FAILURE_H
#define WEIR_TOOLS_FAILURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    bool named;       /* the launcher said which rank was the first to fail */
    uint32_t rank;    /* then: this one */
    int signal;       /* that killed it; 0: none */
    int status;       /* that it ended with; 0: unknown */
    bool spoke;       /* a rank said why it ends */
    uint32_t speaker; /* the first that did */
    char sentence[512];
} weir_failure_t;

/* Take in a line, without its newline. The first of each kind counts. Call: local. */
void weir_failure_hear(weir_failure_t *failure, const char *line);

/* As a person says it: "rank 2 (worker 0) was killed by signal 9". `ps`: servers of the job;
 * `status`: of the launcher, for when nobody said anything. Call: local. */
void weir_failure_describe(const weir_failure_t *failure, long ps, int status, char *text,
                           size_t capacity);

#endif
