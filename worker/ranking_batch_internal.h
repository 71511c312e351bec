/* The state of a reader of ranking batches, shared by worker/ranking_batch.c (which sessions) and
 * worker/ranking_tokens.c (what tokens). */
#ifndef WEIR_WORKER_RANKING_BATCH_INTERNAL_H
#define WEIR_WORKER_RANKING_BATCH_INTERNAL_H

#include "worker/deal.h"
#include "worker/key_set.h"
#include "worker/ranking_batch.h"
#include "worker/sessions.h"
#include "worker/shuffle.h"
#include "worker/stochastic_length.h"

/* A user of a batch: a session, and how much of what is before it the model sees. */
typedef struct {
    uint64_t user;
    size_t first, end; /* events of the history */
    weir_session_t session;
    size_t kept;          /* of them, those that the model sees */
    int64_t query;        /* when is asked */
    uint32_t first_token; /* number in the global batch */
} weir_ranking_example_t;

/* One batch that the reader has given out, with its arrays. */
typedef struct {
    size_t tokens, rows_room, predictions, users, keys;    /* room */
    size_t *offsets;                                       /* users + 1 */
    uint32_t *targets;                                     /* users */
    uint64_t *user_numbers;                                /* users */
    size_t *row_offsets;                                   /* tokens + 1 */
    int64_t *row_keys;                                     /* rows_room */
    uint32_t *rows;                                        /* rows_room */
    uint32_t *actions, *positions, *times, *global_tokens; /* tokens */
    uint32_t *predicted;                                   /* predictions */
    uint64_t *groups;
    float *labels;
    weir_key_t *key_list;
    weir_ranking_train_batch_t batch;
} weir_ranking_buffer_t;

struct weir_ranking_reader {
    weir_dataset_t *dataset; /* not owned */
    weir_ranking_tasks_t tasks;
    weir_ranking_config_t model;
    weir_session_rule_t rule;
    weir_length_rule_t length;
    weir_length_draw_t *draws; /* max_events */
    uint8_t *keep;             /* max_events for each example */
    const weir_dataset_columns_t *columns;
    bool features, by_time;
    bool user_token, interleaved;
    double positive; /* an action of so much sets the flag, where the data has no flags */
    uint32_t worker, workers, alive;
    uint64_t seed;
    size_t max_events, batch_users, holdout;
    int64_t history_gap; /* seconds */
    double token_cost;

    weir_windows_t *stream;  /* train.order: stream; NULL: users in shuffled order */
    weir_shuffle_t *shuffle; /* of users with a session to train on; NULL: a stream */

    weir_ranking_example_t *examples; /* of the batch under way */
    size_t example_room;
    weir_priced_t *priced;
    uint32_t *owners;
    double *load;
    weir_key_set_t *keys;
    weir_ranking_buffer_t
        *buffers; /* alive of them for training, used in turn, and the last for evaluation */
    uint64_t reads;
};

/* Tokens of an example. */
size_t weir_ranking_tokens_of(const weir_ranking_reader_t *reader,
                              const weir_ranking_example_t *example);

/* The batch of those of the reader's first `count` examples that this worker owns; `owners` NULL:
 * all. Errors: out of memory. */
WEIR_MUST_USE weir_err_t weir_ranking_build(weir_ranking_reader_t *reader,
                                            weir_ranking_buffer_t *buffer, size_t count,
                                            const uint32_t *owners, weir_error_t *error);
/* A batch of candidates of one user: targets alone. */
WEIR_MUST_USE weir_err_t weir_ranking_build_candidates(weir_ranking_reader_t *reader,
                                                       weir_ranking_buffer_t *buffer, uint64_t user,
                                                       const int64_t *items, size_t count,
                                                       weir_error_t *error);
void weir_ranking_release_buffer(weir_ranking_buffer_t *buffer);

/* A key that no item, user or feature reaches. */
uint64_t weir_ranking_key_limit(void);

#endif
