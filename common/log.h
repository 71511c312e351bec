/* Log lines on stderr, logfmt: t= lvl= role= rank= step= mod= msg="..." k=v.
 * One line is one write. Nothing is logged in kernels or per key. "error" never appears in a clean
 * run. */
#ifndef WEIR_COMMON_LOG_H
#define WEIR_COMMON_LOG_H

#include "common/error.h"

#include <stdint.h>

typedef enum { WEIR_LOG_DEBUG, WEIR_LOG_INFO, WEIR_LOG_WARN, WEIR_LOG_ERROR } weir_log_level_t;

/* Set once in main, before threads start. `role` must outlive the process ("ps", "worker", ...);
 * rank < 0: not in a job. */
void weir_log_init(const char *role, int rank, weir_log_level_t level);

/* The step that later lines carry; atomic. Threads: any. */
void weir_log_set_step(uint64_t step);

/* `module` is the file stem. `format` makes msg; append k=v pairs after a newline-free "|":
 * weir_log(WEIR_LOG_INFO, "server", "checkpoint written|rows=%zu bytes=%zu", rows, bytes).
 * Quotes and control characters in msg are escaped. Threads: any. */
void weir_log(weir_log_level_t level, const char *module, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For mains alone: print "PROGRAM: role rank host: sentence" and a HINT line to stderr, then exit
 * with weir_exit_status(error->code); inside an MPI job the abort hook (set by common/comm_mpi.c)
 * ends the other ranks too. */
_Noreturn void weir_fatal(const weir_error_t *error);
void weir_fatal_set_abort_hook(void (*abort_job)(int exit_status));

#endif
