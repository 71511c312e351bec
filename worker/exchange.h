/* Frames among the workers of a job, received by name.
 *
 * A frame is named by (type, step, sequence, sender). Receiving asks for one name; frames that come
 * early (a faster worker is a step ahead) wait here until they are asked for. So the order in which
 * values are summed is the caller's, never that of arrival. */
#ifndef WEIR_WORKER_EXCHANGE_H
#define WEIR_WORKER_EXCHANGE_H

#include "common/comm_thread.h"
#include "common/error.h"
#include "common/frame.h"
#include "common/waiting.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_exchange weir_exchange_t;

typedef struct {
    weir_comm_thread_t *comm_thread; /* not owned; NULL when workers is 1 */
    weir_rank_t first_worker_rank;   /* workers are the ranks first .. first + workers - 1 */
    uint32_t worker, workers;        /* this worker of W */
    double timeout;                  /* seconds a wait may last */
    weir_waiting_t *waiting;         /* told whom a wait is for; NULL: nobody asks */
} weir_exchange_options_t;

WEIR_MUST_USE weir_err_t weir_exchange_create(const weir_exchange_options_t *options,
                                              weir_exchange_t **exchange, weir_error_t *error);
/* Accepts NULL; releases frames nobody asked for. */
void weir_exchange_destroy(weir_exchange_t *exchange);

uint32_t weir_exchange_worker(const weir_exchange_t *exchange);
uint32_t weir_exchange_workers(const weir_exchange_t *exchange);

/* Send a copy of `payload` to worker `to` (not itself). Call: local. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_exchange_send(weir_exchange_t *exchange, weir_frame_type_t type,
                                            uint64_t step, uint32_t sequence, uint32_t to,
                                            const void *payload, size_t size, weir_error_t *error);

/* Receive the frame of that name, whose payload must have exactly `size` bytes, into a buffer that
 * the caller gives back with weir_buffer_release. Call: blocks up to the timeout. Threads: compute.
 */
WEIR_MUST_USE weir_err_t weir_exchange_receive(weir_exchange_t *exchange, weir_frame_type_t type,
                                               uint64_t step, uint32_t sequence, uint32_t from,
                                               size_t size, void **payload, weir_error_t *error);

/* Take what has come, without waiting. Call: local. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_exchange_look(weir_exchange_t *exchange, weir_error_t *error);

/* Whether the frame of that name has been taken, so that receive does not wait for it. Call: local.
 * Threads: compute. */
bool weir_exchange_has(const weir_exchange_t *exchange, weir_frame_type_t type, uint64_t step,
                       uint32_t sequence, uint32_t from);

/* Every worker gives `size` bytes and gets those of all, in worker order (W x size into `all`).
 * Call: collective(workers). Threads: compute. */
WEIR_MUST_USE weir_err_t weir_exchange_all_gather(weir_exchange_t *exchange, uint64_t step,
                                                  uint32_t sequence, const void *mine, size_t size,
                                                  void *all, weir_error_t *error);

/* The same in two halves, so that other work comes between: begin sends, finish receives. */
WEIR_MUST_USE weir_err_t weir_exchange_all_gather_begin(weir_exchange_t *exchange, uint64_t step,
                                                        uint32_t sequence, const void *mine,
                                                        size_t size, weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_exchange_all_gather_finish(weir_exchange_t *exchange, uint64_t step,
                                                         uint32_t sequence, const void *mine,
                                                         size_t size, void *all,
                                                         weir_error_t *error);

/* Seconds spent waiting in receive so far. */
double weir_exchange_seconds_waited(const weir_exchange_t *exchange);

#endif
