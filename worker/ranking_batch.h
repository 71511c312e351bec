/* From the mapped data to batches of a ranking model: for training this worker's part of a global
 * batch, for evaluation any users' last sessions.
 *
 * The global batch of step t is a pure function of (seed, t): users in the epoch's shuffled order,
 * of each one session, drawn from those that are not held out. Its last session is the test, or,
 * with ranking.test_from, all that begin then or later; with eval.validation the one before them is
 * the validation. With train.order: stream steps are those of worker/windows.h, whose entries are
 * sessions, and a window is the test before it is trained on. The history of a session ends
 * ranking.history_gap seconds before it begins. A user's tokens: itself (ranking.user_token), the
 * history before the session, the session's events as targets. Features of the data are rows beside
 * those of users and items. */
#ifndef WEIR_WORKER_RANKING_BATCH_H
#define WEIR_WORKER_RANKING_BATCH_H

#include "common/config.h"
#include "common/dataset.h"
#include "worker/batch.h"
#include "worker/ranking.h"
#include "worker/ranking_tasks.h"
#include "worker/sessions.h"
#include "worker/windows.h"

typedef struct {
    weir_train_batch_t train; /* of it: sequence.users and tokens, users, keys, key_count, step,
                                 epoch; global_tokens are those of all workers */
    weir_ranking_batch_t ranking;
    const float *labels;         /* Q x K; a number is (y - offset) / scale of its task */
    const uint64_t *groups;      /* Q: the user of each prediction */
    uint64_t global_predictions; /* Q over all workers */
} weir_ranking_train_batch_t;

/* Of the model that the configuration and the data make. */
weir_ranking_config_t weir_ranking_of_config(const weir_config_t *config,
                                             const weir_dataset_t *dataset,
                                             const weir_ranking_tasks_t *tasks);

typedef struct weir_ranking_reader weir_ranking_reader_t;

WEIR_MUST_USE weir_err_t weir_ranking_reader_create(const weir_config_t *config,
                                                    const weir_batch_reader_options_t *options,
                                                    weir_ranking_reader_t **reader,
                                                    weir_error_t *error);
void weir_ranking_reader_destroy(weir_ranking_reader_t *reader);

/* What is predicted. Valid until destroy. */
const weir_ranking_tasks_t *weir_ranking_reader_tasks(const weir_ranking_reader_t *reader);

/* Steps in one epoch, and users with a session to train on. */
uint64_t weir_ranking_steps_per_epoch(const weir_ranking_reader_t *reader);
uint64_t weir_ranking_users_per_epoch(const weir_ranking_reader_t *reader);

/* This worker's part of the batch of `step`; valid until it has been called `alive` times more. */
WEIR_MUST_USE weir_err_t weir_ranking_read(weir_ranking_reader_t *reader, uint64_t step,
                                           const weir_ranking_train_batch_t **batch,
                                           weir_error_t *error);

/* The stream, with train.order: stream; NULL else. Valid until destroy. */
const weir_windows_t *weir_ranking_windows(const weir_ranking_reader_t *reader);

/* A session that is held out. */
typedef struct {
    uint64_t user;
    weir_session_t session;
} weir_ranking_test_t;

/* Call `visit` with the sessions that are held out for a split and are this worker's, in a fixed
 * order; of a stream, those of `window`. Ends at its first error. */
typedef weir_err_t (*weir_ranking_visit_t)(void *argument, const weir_ranking_test_t *test,
                                           weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_ranking_tests(const weir_ranking_reader_t *reader, bool validation,
                                            size_t window, weir_ranking_visit_t visit,
                                            void *argument, weir_error_t *error);

/* A batch of any sessions, at most eval.batch_users or train.batch_users of them, whichever is
 * more. Valid until the next. */
WEIR_MUST_USE weir_err_t weir_ranking_read_tests(weir_ranking_reader_t *reader,
                                                 const weir_ranking_test_t *tests, size_t count,
                                                 const weir_ranking_train_batch_t **batch,
                                                 weir_error_t *error);

/* For worker/ranking_cache.h: the history of a user that knows its first `events` events (1 or
 * more) and is asked at `time`; and candidates for it, of whose context nothing is known. Valid
 * until the next of either or of read_tests. */
WEIR_MUST_USE weir_err_t weir_ranking_read_history(weir_ranking_reader_t *reader, uint64_t user,
                                                   size_t events, int64_t time,
                                                   const weir_ranking_train_batch_t **batch,
                                                   weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_ranking_read_candidates(weir_ranking_reader_t *reader, uint64_t user,
                                                      const int64_t *items, size_t count,
                                                      const weir_ranking_train_batch_t **batch,
                                                      weir_error_t *error);

#endif
