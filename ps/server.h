/* The server's protocol as a state machine without I/O: frames in, frames out.
 *
 * bsp: pull of step t from worker w is answered once step t-1 has been applied; when the pushes of
 * step t of all W workers are in, gradients are summed per row in worker order and the optimiser
 * runs once per row. Results do not depend on the number of servers, nor on the order of arrival.
 * Pulls of later steps wait; rows of step t+1 that step t does not change are answered ahead. Rows
 * that a worker has kept right itself are not sent (ps/server_copy.c).
 *
 * ssp: the same, but `staleness` more steps may be pulled before a step is applied. asp: every
 * worker by itself: pulls are answered, pushes applied as they come.
 *
 * peek_req is answered with the rows as they are, which is the state after the last step applied,
 * never one between. cut_req is answered when all workers have sent it. Payloads and order:
 * docs/files/ps-frames.md. */
#ifndef WEIR_PS_SERVER_H
#define WEIR_PS_SERVER_H

#include "common/comm.h"
#include "common/error.h"
#include "ps/table.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct weir_server weir_server_t;

enum {
    WEIR_SERVER_MAX_STALENESS = 62,
    WEIR_SERVER_ASP_PULLS = 64,
    WEIR_SERVER_MAX_WAITING = 10 /* pulls of one worker that wait for their turns */
};

typedef struct {
    uint32_t index, ps;            /* this server of P: owns slots first(index) .. first(index+1) */
    weir_rank_t first_worker_rank; /* workers are the ranks first .. first + workers - 1 */
    uint32_t workers;              /* W */
    uint64_t step;                 /* steps already applied (0, or that of the checkpoint) */
    weir_consistency_t consistency;
    uint32_t staleness;    /* ssp: 1 to WEIR_SERVER_MAX_STALENESS */
    bool not_finite_fatal; /* a gradient with a NaN or an infinity is an error, not skipped */
    /* Gives an answer to the caller for sending; takes over the payload, also on failure. */
    weir_err_t (*send)(void *argument, weir_rank_t to, weir_frame_t frame, weir_error_t *error);
    /* All workers have pushed `step`, nothing is under way, and they wait: the tables are to be
     * saved as they are now. NULL: cut_req is refused. */
    weir_err_t (*cut)(void *argument, uint64_t step, weir_error_t *error);
    void *argument;
} weir_server_options_t;

/* `tables`: table_count (1 to WEIR_MODEL_MAX_TABLES) of them, not owned; the array is copied. */
WEIR_MUST_USE weir_err_t weir_server_create(const weir_server_options_t *options,
                                            weir_table_t *const *tables, uint32_t table_count,
                                            weir_server_t **server, weir_error_t *error);
void weir_server_destroy(weir_server_t *server);

/* Handle one frame (payload taken over in every case): pull_req, push_req, peek_req, cut_req.
 * Anything else,
 * a key of another server's slots or named twice, a wrong step, length or order is an error that
 * names the sender. After any error the server answers every frame with an error: the step cannot
 * be completed. Call: local; may read and write cold rows. Threads: apply. */
WEIR_MUST_USE weir_err_t weir_server_handle(weir_server_t *server, weir_frame_t frame,
                                            weir_error_t *error);

/* Steps applied so far; asp: of the slowest worker. Between two calls of handle the tables are at
 * the state of this step (asp: or beyond it). */
uint64_t weir_server_step(const weir_server_t *server);

/* True when a step has been pulled and its pushes are not all in: *worker is the first that the
 * server waits for. Never in asp, where no worker waits for another. Call: local. Threads: apply.
 */
bool weir_server_waits_for(const weir_server_t *server, uint32_t *worker);

typedef struct {
    uint64_t keys_pulled, keys_peeked;
    uint64_t rows_early;    /* answered before the step before theirs was applied */
    uint64_t rows_left_out; /* of pulls: their worker's copies were right */
    uint64_t rows_copied;   /* sent whole, for a worker to keep */
    uint64_t rows_updated;
    uint64_t
        gradients_not_finite;   /* rows that a step left as they were, for a NaN or an infinity */
    uint64_t gradients_dropped; /* rows of keys that were not admitted */
    uint64_t pulls;
    uint64_t staleness_sum, staleness_max; /* over pulls: steps pulled and not yet applied, of the
                                              worker's own group, before this one */
} weir_server_counters_t;
weir_server_counters_t weir_server_counters(const weir_server_t *server);

#endif
