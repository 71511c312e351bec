/* Batches are read one step ahead, by a thread of their own: choosing users, drawing negatives and
 * making keys distinct go on while the step before is computed. What a batch is does not change. */
#ifndef WEIR_WORKER_READ_AHEAD_H
#define WEIR_WORKER_READ_AHEAD_H

#include "common/error.h"
#include "worker/batch.h"

#include <stdint.h>

/* The batch of a step, of a reader that keeps one more than is in use. */
typedef weir_err_t (*weir_read_batch_t)(void *reader, uint64_t step,
                                        const weir_train_batch_t **batch, weir_error_t *error);

typedef struct weir_read_ahead weir_read_ahead_t;

/* `reader` belongs to the thread while anything is being read: weir_read_ahead_rest. Nothing is
 * read beyond `last_step`. Errors: MEMORY, or the system gives no thread. */
WEIR_MUST_USE weir_err_t weir_read_ahead_create(weir_read_batch_t read, void *reader,
                                                uint64_t last_step, weir_read_ahead_t **ahead,
                                                weir_error_t *error);
void weir_read_ahead_destroy(weir_read_ahead_t *ahead); /* accepts NULL */

/* The batch of `step`; that of step + 1 is then being read. Call: blocks until it is there. */
WEIR_MUST_USE weir_err_t weir_read_ahead_take(weir_read_ahead_t *ahead, uint64_t step,
                                              const weir_train_batch_t **batch,
                                              weir_error_t *error);

/* Wait until nothing is being read: the reader may then be used for something else, until the next
 * take. Call: blocks. */
void weir_read_ahead_rest(weir_read_ahead_t *ahead);

#endif
