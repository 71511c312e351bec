/* The server's protocol as a state machine without I/O: frames in, frames out.
 *
 * bsp: pull of step t from worker w is answered once step t-1 has been applied; when the pushes of
 * step t of all W workers are in, gradients are summed per row in worker order and the optimiser
 * runs once per row. Results do not depend on the number of servers, nor on the order of arrival.
 *
 * Per worker and step: one pull_req, then one push_req. The pull of step t+1 may come as soon as
 * the worker's pull of step t was answered; it is kept until step t has been applied. peek_req is
 * answered at once with the rows as they are, which is the state after the last step applied, never
 * one between. Payloads: docs/files/ps-frames.md. */
#ifndef WEIR_PS_SERVER_H
#define WEIR_PS_SERVER_H

#include "common/comm.h"
#include "common/error.h"
#include "ps/table.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct weir_server weir_server_t;

typedef struct {
    uint32_t index, ps;            /* this server of P: owns slots first(index) .. first(index+1) */
    weir_rank_t first_worker_rank; /* workers are the ranks first .. first + workers - 1 */
    uint32_t workers;              /* W */
    uint64_t step;                 /* steps already applied (0, or that of the checkpoint) */
    /* Gives an answer to the caller for sending; takes over the payload, also on failure. */
    weir_err_t (*send)(void *argument, weir_rank_t to, weir_frame_t frame, weir_error_t *error);
    void *argument;
} weir_server_options_t;

WEIR_MUST_USE weir_err_t weir_server_create(const weir_server_options_t *options,
                                            weir_table_t *table /* not owned */,
                                            weir_server_t **server, weir_error_t *error);
void weir_server_destroy(weir_server_t *server);

/* Handle one frame (payload taken over in every case): pull_req, push_req, peek_req. Anything else,
 * a key of another server's slots or named twice, a wrong step, length or order is an error that
 * names the sender. After any error the server answers every frame with an error: the step cannot
 * be completed. Call: local. Threads: apply. */
WEIR_MUST_USE weir_err_t weir_server_handle(weir_server_t *server, weir_frame_t frame,
                                            weir_error_t *error);

/* Steps applied so far. Between two calls of handle the table is at the state of this step. */
uint64_t weir_server_step(const weir_server_t *server);

typedef struct {
    uint64_t keys_pulled, keys_peeked;
    uint64_t rows_updated;
    uint64_t
        gradients_not_finite; /* rows that a step left as they were, for a NaN or an infinity */
} weir_server_counters_t;
weir_server_counters_t weir_server_counters(const weir_server_t *server);

#endif
