/* A rank as a member of a job: the start and the end that all three roles share.
 *
 * A job is MPI_COMM_WORLD: rank 0 the coordinator, then P servers, then W workers. Joining: parse
 * the options, load the configuration, start MPI, exchange cards (common/comm.h). Every rank checks
 * all cards: versions, configurations, counts and roles must fit, and every rank's own start must
 * have succeeded; else all end, and one of them says why. */
#ifndef WEIR_PROTO_JOB_H
#define WEIR_PROTO_JOB_H

#include "common/comm.h"
#include "common/comm_thread.h"
#include "common/config.h"
#include "common/error.h"
#include "common/file.h"
#include "proto/control_client.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum { WEIR_ROLE_COORDINATOR, WEIR_ROLE_PS, WEIR_ROLE_WORKER } weir_role_t;
const char *weir_role_name(weir_role_t role); /* "coordinator", "ps", "worker" */

/* What the command line of a role says. */
typedef struct {
    const char *config; /* file, or NULL */
    const char *run;    /* folder */
    const char **sets;  /* "key=value", owned by the job */
    size_t set_count;
    bool resume;
    bool eval_only;       /* load a checkpoint, evaluate, leave */
    const char *requests; /* with eval_only: a folder of requests to answer instead; NULL: none */
    bool best;            /* with resume or eval_only: `best` instead of `latest` */
    bool has_step;
    uint64_t step; /* with has_step: the checkpoint of this step */
} weir_job_options_t;

typedef struct {
    weir_role_t role;
    uint32_t index;       /* within the role */
    uint32_t ps, workers; /* P, W */
    weir_rank_t first_ps_rank, first_worker_rank;
    weir_job_options_t options;
    weir_config_t config;
    char checkpoint[WEIR_PATH_MAX]; /* folder to load; empty: start from nothing */
    uint64_t id;                    /* of this run of the job */
    char endpoint[128];             /* of the coordinator's control socket */
    weir_curve_keys_t keys;         /* of this rank, for the control plane */
    char coordinator_key[WEIR_CURVE_KEY];
    char (*rank_keys)[WEIR_CURVE_KEY]; /* coordinator: the public keys of all ranks; owned */
    bool refused; /* the cards went round and were refused, by all ranks alike */
    weir_comm_t *comm;
    weir_comm_t *faulty; /* between the comm thread and `comm`, where faults were asked for */
    weir_comm_thread_t *comm_thread; /* NULL in the coordinator */
    weir_control_client_t *control;  /* NULL in the coordinator */
    weir_waiting_t waiting;          /* of the main thread; heartbeats tell it */
} weir_job_t;

/* Parse the command line of a role (argp: --help and --version end the process here, without MPI),
 * load the configuration, start MPI. A failure after MPI is up is kept in the job's card for join,
 * so that all ranks learn of it; `*started` says how this rank's start went so far. */
WEIR_MUST_USE weir_err_t weir_job_start(weir_role_t role, int argc, char **argv, weir_job_t *job,
                                        weir_err_t *started, weir_error_t *start_error,
                                        weir_error_t *error);

/* Exchange cards and check them. `endpoint` and `id`: of the coordinator; NULL and 0 in others.
 * `started`, `start_error`: how this rank's own start went. Servers and workers then connect to the
 * control socket and start their comm thread. When it fails, all ranks fail; `*speaks` is true on
 * the one that should tell. Call: collective(world). */
WEIR_MUST_USE weir_err_t weir_job_join(weir_job_t *job, const char *endpoint, uint64_t id,
                                       weir_err_t started, const weir_error_t *start_error,
                                       bool *speaks, weir_error_t *error);

/* End of a rank that could not join. Where all ranks refused the cards: quietly unless it speaks,
 * and together; else by ending the whole job. Does not return. */
_Noreturn void weir_job_refuse(weir_job_t *job, bool speaks, const weir_error_t *error);

/* Start and join in one, for servers and workers; a failure ends the process. */
void weir_job_enter(weir_role_t role, int argc, char **argv, weir_job_t *job);

/* A clean end: send what is queued, stop the comm thread, finalize MPI. Call: collective(world). */
void weir_job_leave(weir_job_t *job);

/* Flush denormals to zero in the calling thread: they cost a compute thread ten times and more. */
void weir_job_flush_denormals(void);

/* ---- job_options.c ---- */

/* Parse options of a role; ends the process on --help, --version and usage errors. */
void weir_job_parse_options(weir_role_t role, int argc, char **argv, weir_job_options_t *options);

#endif
