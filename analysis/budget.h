/* What fits: memory that an analysis takes of each process, against what its host has to give. */
#ifndef WEIR_ANALYSIS_BUDGET_H
#define WEIR_ANALYSIS_BUDGET_H

#include "common/error.h"

/* Processes of this job on this host, as the launcher says (Open MPI, Slurm); `ranks` where it does
 * not. Call: local. */
int weir_budget_local_ranks(int ranks);

/* Refuse (MEMORY, with `hint`) when `bytes` of each of `local_ranks` processes are more than
 * `limit_gib`, or, where that is 0, more than /proc/meminfo's MemAvailable. `what` is said in the
 * sentence: "3,706 items". Call: local. */
WEIR_MUST_USE weir_err_t weir_budget_check(const char *what, double bytes, int local_ranks,
                                           double limit_gib, const char *hint, weir_error_t *error);

#endif
