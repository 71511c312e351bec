/* From the mapped data to a worker's part of a global batch.
 *
 * The global batch of step t is a pure function of (seed, t): users in the epoch's shuffled order,
 * or parts of users in that of a stream (worker/windows.h), whose predictions are those of its
 * window alone.
 * Its users are dealt to the W workers by cost; token numbers are those of the global batch, so
 * that negatives and dropout, and with them the result, do not depend on W beyond rounding. Keys of
 * a part are deduplicated: history, targets and negatives refer to rows 0 .. U-1. With
 * loss.sharing: catalogue the rows are the catalogue, row r of item r + 1, and nothing is drawn. */
#ifndef WEIR_WORKER_BATCH_H
#define WEIR_WORKER_BATCH_H

#include "common/config.h"
#include "common/dataset.h"
#include "common/error.h"
#include "common/hash.h"
#include "worker/encoder.h"
#include "worker/loss.h"
#include "worker/windows.h"

typedef struct {
    weir_sequence_batch_t sequence; /* B, T, offsets, times, next_times, global_tokens */
    const uint64_t *users;          /* B: user numbers in the data, distinct */
    const uint32_t *item_rows;      /* T: row of each event's item */
    const uint32_t *target_rows;    /* T: row of the next event's item */
    const uint32_t *negative_rows;  /* T x R, or R; of the catalogue: 0 .. C-1 */
    const weir_key_t *keys;         /* U distinct keys of items, in order of first use */
    size_t key_count;               /* U */
    const uint8_t *predicted;       /* T: 1 where the next event is predicted; NULL: everywhere */
    uint64_t predictions;           /* tokens with one */
    uint64_t global_tokens;         /* T over all workers */
    uint64_t global_users;          /* B over all workers */
    uint64_t global_predictions;    /* over all workers */
    uint64_t step, epoch;           /* step counts from 1; epoch from 0 */
} weir_train_batch_t;

typedef struct weir_batch_reader weir_batch_reader_t;

typedef struct {
    weir_dataset_t *dataset; /* not owned */
    uint32_t worker, workers;
    uint32_t alive; /* batches that are valid at a time, 1 or more */
} weir_batch_reader_options_t;

WEIR_MUST_USE weir_err_t weir_batch_reader_create(const weir_config_t *config,
                                                  const weir_batch_reader_options_t *options,
                                                  weir_batch_reader_t **reader,
                                                  weir_error_t *error);
void weir_batch_reader_destroy(weir_batch_reader_t *reader);

/* Steps in one epoch. */
uint64_t weir_batch_steps_per_epoch(const weir_batch_reader_t *reader);

/* Users with enough events to be trained on. */
uint64_t weir_batch_users_per_epoch(const weir_batch_reader_t *reader);

/* NULL: users come in shuffled order. */
const weir_windows_t *weir_batch_windows(const weir_batch_reader_t *reader);

/* This worker's part of the batch of `step`; valid until it has been called `alive` times more. May
 * be empty (T = 0, and then U = 0) when there are fewer users than workers. */
WEIR_MUST_USE weir_err_t weir_batch_read(weir_batch_reader_t *reader, uint64_t step,
                                         const weir_train_batch_t **batch, weir_error_t *error);

#endif
