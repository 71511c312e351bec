/* Begin and end of the programs that are an MPI job of themselves alone. */
#ifndef WEIR_ANALYSIS_PROCESS_H
#define WEIR_ANALYSIS_PROCESS_H

#include "common/comm.h"
#include "common/error.h"

/* Signals, one BLAS thread, MPI, log. `role` outlives the process. Call: collective(world). */
WEIR_MUST_USE weir_err_t weir_analysis_begin(int *argc, char ***argv, const char *role,
                                             weir_comm_t **comm, weir_error_t *error);

/* For mains alone: say `error` and end the job. Most failures are of all processes alike: rank 0
 * says so first, and takes the others with it. `comm` may be NULL. */
_Noreturn void weir_analysis_fail(const weir_comm_t *comm, const weir_error_t *error);

#endif
