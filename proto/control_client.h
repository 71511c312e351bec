/* A rank's end of the control plane, driven by its comm thread, asked by its main thread.
 *
 * The comm thread calls poll; it sends heartbeats by itself from the state that the main thread
 * publishes. Losing the coordinator's socket stops nothing: ZeroMQ reconnects, messages wait. */
#ifndef WEIR_PROTO_CONTROL_CLIENT_H
#define WEIR_PROTO_CONTROL_CLIENT_H

#include "common/checkpoint.h"
#include "common/comm_thread.h"
#include "common/error.h"
#include "common/waiting.h"
#include "proto/curve.h"
#include "proto/rank_metrics.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct weir_control_client weir_control_client_t;

typedef enum {
    WEIR_PHASE_STARTING,
    WEIR_PHASE_LOADING,
    WEIR_PHASE_TRAINING,
    WEIR_PHASE_EVALUATING,
    WEIR_PHASE_CHECKPOINTING,
    WEIR_PHASE_STOPPING,
    WEIR_PHASE_DONE
} weir_phase_t;
const char *weir_phase_name(weir_phase_t phase);

typedef struct {
    const char *endpoint; /* of the coordinator, "tcp://host:port" */
    uint64_t job;
    uint32_t rank;
    const char *role;
    uint32_t index;         /* within the role */
    const char *server_key; /* of the coordinator, Z85; NULL or empty: not encrypted */
    weir_curve_keys_t keys; /* of this rank */
    double heartbeat_seconds;
    weir_waiting_t *waiting; /* of the main thread, told in heartbeats; outlives the client; NULL:
                                nothing to tell */
} weir_control_client_options_t;

WEIR_MUST_USE weir_err_t weir_control_client_create(const weir_control_client_options_t *options,
                                                    weir_control_client_t **client,
                                                    weir_error_t *error);
void weir_control_client_destroy(weir_control_client_t *client); /* lets queued messages go, 1 s */

/* For weir_comm_thread_options_t.poll_control. Threads: comm. */
bool weir_control_client_poll(void *client);
int weir_control_client_fd(const weir_control_client_t *client);

/* ---- main thread ---- */

typedef struct {
    uint64_t step, epoch;
    weir_phase_t phase;
    double loss, tokens_per_second;
    uint64_t rows, bytes;
} weir_rank_state_t;
/* What the next heartbeats say. Threads: any. */
void weir_control_client_publish(weir_control_client_t *client, const weir_rank_state_t *state);

/* Only the step. Threads: any. */
void weir_control_client_publish_step(weir_control_client_t *client, uint64_t step);

/* Heartbeats tell how much waits in the rings of `thread`, which polls this client. Threads: any.
 */
void weir_control_client_watch(weir_control_client_t *client, weir_comm_thread_t *thread);

/* What the next heartbeats tell beside; those that are not set stay as they were said last. The
 * memory of the process is told without. Threads: any. */
void weir_control_client_publish_metrics(weir_control_client_t *client,
                                         const weir_rank_metrics_t *metrics);

/* A checkpoint or a stop was asked for by the coordinator (edge: cleared by the call). Workers
 * agree among themselves at which step they follow. Threads: any. */
bool weir_control_client_take_checkpoint_wish(weir_control_client_t *client);
bool weir_control_client_stop_wished(weir_control_client_t *client, bool *save);
/* Stop with done = true came: the job is over. */
bool weir_control_client_done(weir_control_client_t *client);

/* Worker 0: all workers stand at `step`. */
WEIR_MUST_USE weir_err_t weir_control_client_request_checkpoint(weir_control_client_t *client,
                                                                uint64_t step, uint64_t epoch,
                                                                bool best, const char *metrics_json,
                                                                weir_error_t *error);
/* The step that the checkpoint begun last may build on; 0: it is full. Threads: any. */
uint64_t weir_control_client_begun_base(weir_control_client_t *client);
/* True once when the coordinator said begin: fills step and folder. Threads: any. */
bool weir_control_client_take_begin(weir_control_client_t *client, uint64_t *step, char *folder,
                                    size_t capacity);
/* Say that this rank's files are on disk, or why not (`failure` NULL: written). */
WEIR_MUST_USE weir_err_t weir_control_client_report_written(
    weir_control_client_t *client, uint64_t step, const weir_checkpoint_file_t *files, size_t count,
    const weir_error_t *failure, weir_error_t *error);
/* Wait until the coordinator published the checkpoint of `step`, or said why it is not: with the
 * code that the rank had which failed. Errors of its own: TIMEOUT.
 * Call: blocks up to `timeout_seconds`. */
WEIR_MUST_USE weir_err_t weir_control_client_wait_published(weir_control_client_t *client,
                                                            uint64_t step, double timeout_seconds,
                                                            weir_error_t *error);
/* Worker 0: training is over (`reason`: "finished", "stopped", ...); the coordinator ends the job.
 */
WEIR_MUST_USE weir_err_t weir_control_client_finish(weir_control_client_t *client,
                                                    const char *reason, weir_error_t *error);

#endif
