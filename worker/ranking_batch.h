/* From the mapped data to batches of a ranking model: for training this worker's part of a global
 * batch, for evaluation any users' last sessions.
 *
 * The global batch of step t is a pure function of (seed, t): users in the epoch's shuffled order,
 * of each one session, drawn from those that are not held out. Its last session is the test, with
 * eval.validation the one before it the validation. A user's tokens: itself (ranking.user_token),
 * the history before the session, the session's events as targets. */
#ifndef WEIR_WORKER_RANKING_BATCH_H
#define WEIR_WORKER_RANKING_BATCH_H

#include "common/config.h"
#include "common/dataset.h"
#include "worker/batch.h"
#include "worker/ranking.h"

typedef struct {
    weir_train_batch_t train; /* of it: sequence.users and tokens, users, keys, key_count, step,
                                 epoch; global_tokens are those of all workers */
    weir_ranking_batch_t ranking;
    const float *labels;         /* Q x K */
    const uint64_t *groups;      /* Q: the user of each prediction */
    uint64_t global_predictions; /* Q over all workers */
} weir_ranking_train_batch_t;

/* Of the model that the configuration and the data make. */
weir_ranking_config_t weir_ranking_of_config(const weir_config_t *config);

typedef struct weir_ranking_reader weir_ranking_reader_t;

WEIR_MUST_USE weir_err_t weir_ranking_reader_create(const weir_config_t *config,
                                                    const weir_batch_reader_options_t *options,
                                                    weir_ranking_reader_t **reader,
                                                    weir_error_t *error);
void weir_ranking_reader_destroy(weir_ranking_reader_t *reader);

/* Steps in one epoch, and users with a session to train on. */
uint64_t weir_ranking_steps_per_epoch(const weir_ranking_reader_t *reader);
uint64_t weir_ranking_users_per_epoch(const weir_ranking_reader_t *reader);

/* This worker's part of the batch of `step`; valid until it has been called `alive` times more. */
WEIR_MUST_USE weir_err_t weir_ranking_read(weir_ranking_reader_t *reader, uint64_t step,
                                           const weir_ranking_train_batch_t **batch,
                                           weir_error_t *error);

/* The session of each of these users that `after` others follow (0: test, 1: validation); users who
 * have none before it are left out. Valid until the next read of any kind. */
WEIR_MUST_USE weir_err_t weir_ranking_read_last(weir_ranking_reader_t *reader,
                                                const uint64_t *users, size_t count, size_t after,
                                                const weir_ranking_train_batch_t **batch,
                                                weir_error_t *error);

#endif
