/* The worker's side of the parameter servers.
 *
 * A client belongs to one worker and one table. A pull for step t names distinct keys; it is split
 * by owner (slot ranges), sent, and answered in the caller's order. The push of step t carries
 * gradients alone, in the same order. begin sends and returns; finish waits, so that the transfer
 * hides behind computation. One pull is under way at a time: begin, finish, push, begin, ..
 *
 * An answer that does not fit its request, or none within the timeout, is an error that names the
 * server's rank; after an error the step cannot be completed and the client is only destroyed. */
#ifndef WEIR_PS_CLIENT_H
#define WEIR_PS_CLIENT_H

#include "common/comm_thread.h"
#include "common/error.h"
#include "common/hash.h"

#include <stddef.h>
#include <stdint.h>

typedef struct weir_ps_client weir_ps_client_t;

typedef struct {
    weir_comm_thread_t *comm_thread; /* not owned */
    weir_rank_t first_ps_rank;       /* servers are the ranks first .. first + ps - 1 */
    uint32_t ps;                     /* P */
    uint32_t dim;                    /* D of the table */
    double timeout;                  /* seconds a wait for the next answer may last */
} weir_ps_client_options_t;

WEIR_MUST_USE weir_err_t weir_ps_client_create(const weir_ps_client_options_t *options,
                                               weir_ps_client_t **client, weir_error_t *error);
void weir_ps_client_destroy(weir_ps_client_t *client);

/* Send the pull of `step` (1, 2, ...): `keys` distinct, read before it returns. Every server gets a
 * request, an empty one too: the step's barrier counts them. Call: blocks while the ring of posts
 * is full. Threads: compute, as for all that follow. */
WEIR_MUST_USE weir_err_t weir_ps_client_pull_begin(weir_ps_client_t *client, uint64_t step,
                                                   const weir_key_t *keys, size_t count,
                                                   weir_error_t *error);
/* `values`: count x dim, in the order of keys. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_ps_client_pull_finish(weir_ps_client_t *client, float *values,
                                                    weir_error_t *error);

/* Send the gradients of the last pull: count x dim in the same order. Does not wait. */
WEIR_MUST_USE weir_err_t weir_ps_client_push(weir_ps_client_t *client, const float *gradients,
                                             weir_error_t *error);

/* Values of any keys, repeated or not, outside the step protocol; no row is born. They are those
 * after the step that this client pushed last: a server that still waits for other workers' pushes
 * of it answers when it has applied it. Sent in pieces. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_ps_client_peek(weir_ps_client_t *client, const weir_key_t *keys,
                                             size_t count, float *values, weir_error_t *error);

typedef struct {
    uint64_t keys_pulled, bytes_pulled, bytes_pushed;
    double seconds_waited; /* in pull_finish and peek */
} weir_ps_client_counters_t;
weir_ps_client_counters_t weir_ps_client_counters(const weir_ps_client_t *client);

#endif
