/* The server's protocol as a state machine without I/O: frames in, frames out.
 *
 * bsp: pull of step t from worker w is answered once step t-1 has been applied; when the pushes of
 * step t of all W workers are in, gradients are summed per row in worker order and the optimiser
 * runs once per row. Results do not depend on the number of servers, nor on the order of arrival.
 */
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
    /* Gives an answer to the caller for sending; takes over the payload. */
    weir_err_t (*send)(void *argument, weir_rank_t to, weir_frame_t frame, weir_error_t *error);
    void *argument;
} weir_server_options_t;

WEIR_MUST_USE weir_err_t weir_server_create(const weir_server_options_t *options,
                                            weir_table_t *table /* not owned */,
                                            weir_server_t **server, weir_error_t *error);
void weir_server_destroy(weir_server_t *server);

/* Handle one frame (payload taken over in every case): pull_req, push_req, peek_req. Anything else,
 * a key of another server's slots, a wrong step, length or order is an error that names the sender.
 */
WEIR_MUST_USE weir_err_t weir_server_handle(weir_server_t *server, weir_frame_t frame,
                                            weir_error_t *error);

/* Steps applied so far. */
uint64_t weir_server_step(const weir_server_t *server);

typedef struct {
    uint64_t keys_pulled, keys_peeked, rows_updated, gradients_not_finite;
} weir_server_counters_t;
weir_server_counters_t weir_server_counters(const weir_server_t *server);

#endif
