/* The state of a trainer, shared by trainer.c (its life), trainer_step.c (a step) and
 * trainer_boundary.c (what happens between steps: lines, evaluation, checkpoints). */
#ifndef WEIR_WORKER_TRAINER_INTERNAL_H
#define WEIR_WORKER_TRAINER_INTERNAL_H

#include "worker/batch.h"
#include "worker/dense.h"
#include "worker/evaluate.h"
#include "worker/loss.h"
#include "worker/mixture.h"
#include "worker/ranking_batch.h"
#include "worker/read_ahead.h"
#include "worker/run_log.h"
#include "worker/saver.h"
#include "worker/trainer.h"

/* Numbers of the small exchanges within a step. */
enum {
    SEQUENCE_AGREE = 0,
    SEQUENCE_TEST = 1,       /* and 2 */
    SEQUENCE_VALIDATION = 3, /* and 4 */
    SEQUENCE_SAVED = 5,
    SEQUENCE_SAVED_BEFORE = 6, /* a save of an earlier step */
    SEQUENCE_ROUND = 7,        /* of workers that answer requests */
    SEQUENCE_FULL = 8          /* and up to 15: weir_evaluate_full of two splits */
};

/* What any worker may be asked for, as bits that all workers combine. */
enum { WISH_STOP = 1, WISH_CHECKPOINT = 2, WISH_DISCARD = 4, WISH_SETTLE = 8 };

/* What each worker tells the others in every step. */
typedef struct {
    double loss_sum;      /* over what is predicted */
    uint64_t predictions; /* tokens, or targets of sessions */
    uint64_t tokens;
    uint64_t parameters_checksum; /* of the replicas, before this step's update */
    uint32_t wishes;
    uint32_t reserved;
} agreement_t;

/* Sums since the last line. */
typedef struct {
    double started, loss_sum, compute, pull_wait, push_wait, reduce_wait; /* seconds */
    uint64_t tokens, predictions, own_tokens, steps, keys, bytes_pulled, bytes_pushed, rows_early,
        missed;
    uint64_t rows_left_out, rows_copied;
    int64_t bytes_saved;
} interval_t;

/* Sums of the intervals that have ended, since the process started. */
typedef struct {
    double compute, push_wait; /* seconds */
    uint64_t steps, tokens, keys, missed;
    double published; /* when the heartbeats last got them */
} totals_t;

/* A pull under way: sent, its step not done. */
typedef struct {
    const weir_train_batch_t *batch; /* whose rows it asks for */
    uint64_t missed;                 /* steps that they may miss, at the most */
} pull_t;

struct weir_trainer {
    weir_trainer_options_t options;
    weir_parameters_t *parameters; /* dense ones */
    weir_encoder_config_t model;
    weir_encoder_t *encoder; /* NULL of a ranking model */
    weir_mixture_t *mixture; /* with model.similarity: mixture */
    size_t mixture_offset;   /* of its parameters, which come last */
    weir_ranking_t *ranking; /* NULL of the others */
    weir_ranking_reader_t *ranking_reader;
    float *logits;
    size_t logit_capacity, tasks;
    weir_loss_t *loss;
    weir_dense_t *dense;
    weir_batch_reader_t *reader;
    weir_read_ahead_t *read_ahead; /* of it, or of the ranking reader */
    weir_run_log_t *log;           /* worker 0, while training */
    uint32_t worker, workers;
    weir_trainer_state_t state;
    uint64_t total_steps, steps_per_epoch;
    uint64_t checkpoint_step; /* that was saved last, or is being saved; UINT64_MAX: none */
    uint64_t saving_step;     /* of the save under way; UINT64_MAX: none is */
    weir_saver_t *saver;      /* of it, worker 0; NULL: none */
    bool save_logged;
    uint32_t wishes;       /* agreed, not yet followed */
    char metrics[1024];    /* of the evaluation of metrics_step, JSON */
    uint64_t metrics_step; /* 0: none in this start */

    uint32_t ahead;   /* pulls that may be under way beyond that of the step in work */
    uint64_t begun;   /* the last step that has been pulled; at a boundary the step done */
    pull_t *pulls;    /* ahead + 1 of them: step t at t % (ahead + 1) */
    bool over_budget; /* train.activation_mib was too little for a history, and it was said */
    size_t token_capacity, key_capacity, user_capacity;
    float *rows, *d_rows;                         /* U x D, or D + 1: an item's row */
    float *user_rows, *d_user_rows;               /* B x D, with model.user_embedding */
    float *items, *encoded, *d_encoded, *d_items; /* T x D */
    uint32_t *scored_rows;   /* targets, numbers, negatives of the tokens with a prediction */
    size_t scored_capacity;  /* of them */
    agreement_t *agreements; /* W */
    interval_t interval;
    totals_t totals;
};

/* ---- trainer_ranking.c: what is another's of a ranking model ---- */

WEIR_MUST_USE weir_err_t weir_trainer_create_ranking(weir_trainer_t *trainer, weir_error_t *error);
/* Forward, loss and backward; `batch` is that of a weir_ranking_train_batch_t. */
WEIR_MUST_USE weir_err_t weir_trainer_rank(weir_trainer_t *trainer, const weir_train_batch_t *batch,
                                           double *loss_sum, weir_error_t *error);
/* Of a split, over all workers. Call: collective(workers). */
WEIR_MUST_USE weir_err_t weir_trainer_measure_ranking(weir_trainer_t *trainer, weir_split_t split,
                                                      weir_ranking_metrics_t *metrics,
                                                      weir_error_t *error);
/* Predictions of a batch, of this worker. */
uint64_t weir_trainer_predictions(const weir_trainer_t *trainer, const weir_train_batch_t *batch);

/* One step: train on the batch of the step after state.step. `*boundary`: something happens now,
 * and no pull is under way. Call: collective(workers). */
WEIR_MUST_USE weir_err_t weir_trainer_step(weir_trainer_t *trainer, bool *boundary,
                                           weir_error_t *error);

/* Start counting a new interval; show the one that ends. */
void weir_trainer_begin_interval(weir_trainer_t *trainer);
void weir_trainer_end_interval(weir_trainer_t *trainer);

/* ---- trainer_loss.c ---- */

/* Loss of the batch's tokens, from `encoded` and `rows`: d_encoded and d_rows. */
WEIR_MUST_USE weir_err_t weir_trainer_loss(weir_trainer_t *trainer, const weir_train_batch_t *batch,
                                           double *loss_sum, weir_error_t *error);

/* ---- trainer_metrics.c ---- */

/* The interval ends: it is counted. */
void weir_trainer_add_totals(weir_trainer_t *trainer);
/* What this worker counts, for the next heartbeats; twice a second at the most. */
void weir_trainer_publish_metrics(weir_trainer_t *trainer);

/* What the next heartbeats say. */
void weir_trainer_publish(weir_trainer_t *trainer, weir_phase_t phase, double loss, double rate);

/* Epochs up to the step reached, with their part. */
double weir_trainer_epochs_done(const weir_trainer_t *trainer);

/* The window of a stream after the one that the last step was in; 0 where there is no stream. */
size_t weir_trainer_next_window(const weir_trainer_t *trainer);

/* What evaluates: of a stream, the window after the one that the last step was in. */
weir_evaluate_parts_t weir_trainer_evaluate_parts(const weir_trainer_t *trainer);

/* Which values compare: "validation ndcg@10". */
void weir_trainer_name_best(const weir_config_t *config, char *name, size_t capacity);

/* Why training ends at the step reached ("finished", "early_stop"); NULL: it goes on. */
const char *weir_trainer_reason_to_end(const weir_trainer_t *trainer);

/* The first step from `step` on after which an evaluation, a checkpoint or the end is due, as far
 * as it is known beforehand. */
uint64_t weir_trainer_next_boundary(const weir_trainer_t *trainer, uint64_t step);

/* Whether an evaluation is due after `step`; whether `step` is a multiple of `of` (never of 0). */
bool weir_trainer_evaluates_after(const weir_trainer_t *trainer, uint64_t step);
bool weir_trainer_is_multiple(uint64_t step, uint64_t of);

/* Worker 0: tell of a save that has ended. True: it failed, which all workers must hear of. */
bool weir_trainer_look_at_save(weir_trainer_t *trainer);

/* Evaluate and save as due after the step just done; `*reason` is set when training ends here.
 * Call: collective(workers). */
WEIR_MUST_USE weir_err_t weir_trainer_handle_boundary(weir_trainer_t *trainer, const char **reason,
                                                      weir_error_t *error);

#endif
