/* The worker's side of the parameter servers.
 *
 * A client belongs to one worker and all tables of the model. A pull for step t names distinct keys
 * of each table; it is split by owner (slot ranges) and sent as one message a server, and answered
 * in the caller's order. The push of step t carries gradients alone, in the same order. begin sends
 * and returns; finish waits, so that the transfer hides behind computation. Up to `ahead` + 1 pulls
 * are under way: steps follow each other, and finish and push are of the oldest. With ahead = 1:
 * begin 1, begin 2, finish 1, push 1, begin 3, finish 2, push 2, ..
 *
 * A client may keep copies of rows (bsp): what it pulls is the same, fewer bytes come. With them a
 * pull is finished after the push before it.
 *
 * An answer that does not fit its request, or none within the timeout, is an error that names the
 * server's rank; after an error the step cannot be completed and the client is only destroyed. */
#ifndef WEIR_PS_CLIENT_H
#define WEIR_PS_CLIENT_H

#include "common/comm_thread.h"
#include "common/error.h"
#include "common/hash.h"
#include "common/waiting.h"
#include "ps/row.h"

#include <stddef.h>
#include <stdint.h>

typedef struct weir_ps_client weir_ps_client_t;

typedef struct {
    weir_comm_thread_t *comm_thread; /* not owned */
    weir_rank_t first_ps_rank;       /* servers are the ranks first .. first + ps - 1 */
    uint32_t ps;                     /* P */
    const weir_row_schema_t *tables; /* table_count of them; copied */
    uint32_t table_count;            /* K, 1 to WEIR_MODEL_MAX_TABLES */
    uint32_t ahead;                  /* pulls that may be sent beyond the one in use; to 64 */
    double timeout;                  /* seconds a wait for the next answer may last */
    const size_t *cache_rows; /* by table: rows whose copies are kept, 0: none; or NULL: none of any
                                 table. Copied */
    weir_waiting_t *waiting;  /* told whom a pull or a peek waits for; NULL: nobody asks */
} weir_ps_client_options_t;

WEIR_MUST_USE weir_err_t weir_ps_client_create(const weir_ps_client_options_t *options,
                                               weir_ps_client_t **client, weir_error_t *error);
void weir_ps_client_destroy(weir_ps_client_t *client);

/* The keys of one table in a pull. */
typedef struct {
    const weir_key_t *keys; /* count of them, distinct */
    size_t count;
} weir_ps_keys_t;

/* Send the pull of `step` (after that of step - 1): `keys`, one for each table, is read before it
 * returns. Every server gets a request, an empty one too: the step's barrier counts them. Errors:
 * INVALID when ahead + 1 pulls are under way. Call: blocks while the ring of posts is full.
 * Threads: compute, as for all that follow. */
WEIR_MUST_USE weir_err_t weir_ps_client_pull_begin(weir_ps_client_t *client, uint64_t step,
                                                   const weir_ps_keys_t *keys, weir_error_t *error);

/* Wait for the oldest pull that is not finished. `values`, one for each table: count x dim floats,
 * in the order of its keys. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_ps_client_pull_finish(weir_ps_client_t *client, float *const *values,
                                                    weir_error_t *error);

/* Send the gradients of the oldest pull, which has been finished: for each table count x dim in the
 * same order. Does not wait. */
WEIR_MUST_USE weir_err_t weir_ps_client_push(weir_ps_client_t *client,
                                             const float *const *gradients, weir_error_t *error);

/* Values of any keys of a table, repeated or not, outside the step protocol; no row is born. They
 * are those after the step that this client pushed last: a server that still waits for other
 * workers' pushes of it answers when it has applied it. Sent in pieces. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_ps_client_peek(weir_ps_client_t *client, uint32_t table,
                                             const weir_key_t *keys, size_t count, float *values,
                                             weir_error_t *error);

/* After the push of a step, when no pull is under way: every server is to remember its tables as
 * they are then, to be saved. Returns when all have; all workers call it. What it costs is a round
 * trip and what is left of the step's update. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_ps_client_cut(weir_ps_client_t *client, weir_error_t *error);

typedef struct {
    uint64_t keys_pulled, bytes_pulled, bytes_pushed;
    uint64_t rows_early;    /* rows answered before the step before theirs was applied: in a first
                               part, or taken before this worker had pushed that step */
    uint64_t rows_left_out; /* not sent: the copy was right */
    uint64_t rows_copied;   /* sent as copies */
    int64_t bytes_saved;    /* of bytes_pulled, by the copies; below 0: they took more */
    double seconds_waited;  /* in pull_finish and peek */
} weir_ps_client_counters_t;
weir_ps_client_counters_t weir_ps_client_counters(const weir_ps_client_t *client);

#endif
