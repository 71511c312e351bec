/* A ranking model: tokens of a user's past and of candidates through production layers, and for
 * each candidate the chance of several actions (Zhai et al., ICML 2024, section 2.2; docs/model.md,
 * "Ranking").
 *
 *   x_t = dropout(sqrt(D) * sum of the token's rows + actions_t + position[p_t] + time[b_t])
 *   e = layer_norm(x after the layers)       body = silu(e Wb + bb)       logits = body Wt + bt
 *   and, with the direct path, + x_t Wd without dropout: a weight for each row that the token has
 *
 * loss = sum over predicted tokens and tasks of weight * scale * loss of (logit, label): binary
 * cross entropy, or half the squared error of a regression. A label that is NaN does not count.
 *
 * T tokens, U rows, D width, K tasks, Q predicted tokens, F action flags. Matrices are row-major.
 * This file is compiled for float32 and float64. */
#ifndef WEIR_WORKER_RANKING_H
#define WEIR_WORKER_RANKING_H

#include "worker/stu.h"
#include "worker/task_metrics.h"

#include <stddef.h>
#include <stdint.h>

enum { WEIR_RANKING_MAX_TASKS = WEIR_TASK_LIMIT };
#define WEIR_RANKING_NO_ACTIONS UINT32_MAX

typedef struct {
    weir_stu_config_t layers;
    size_t positions;     /* rows of the position table, 1 or more */
    size_t time_buckets;  /* rows of the time table, 1 or more */
    size_t action_flags;  /* F, 0 to 32 */
    size_t hidden;        /* width of the body, 1 or more */
    size_t tasks;         /* K, 1 to WEIR_RANKING_MAX_TASKS */
    double input_dropout; /* in [0, 1) */
    bool direct;          /* the input of a predicted token goes to its logits too */
    weir_task_kind_t kinds[WEIR_RANKING_MAX_TASKS];
    double weights[WEIR_RANKING_MAX_TASKS]; /* not negative */
} weir_ranking_config_t;

/* position_embedding, time_embedding, action_embedding (F + 1) x D (its last row for a past event
 * without any action), "layer.l.*" of worker/stu.h, body_weight D x hidden, body_bias, task_weight
 * hidden x K, task_bias, and with `direct` direct_weight D x K. */
size_t weir_ranking_parameter_count(const weir_ranking_config_t *config);
size_t weir_ranking_parameter_elements(const weir_ranking_config_t *config);
weir_parameter_t weir_ranking_parameter(const weir_ranking_config_t *config, size_t index);
/* All of them; NULL: no memory. */
weir_parameters_t *weir_ranking_parameters(const weir_ranking_config_t *config);

typedef struct {
    weir_stu_batch_t sequence; /* users, tokens, offsets, targets, global_tokens */
    const size_t *row_offsets; /* T + 1: the rows of token t are rows[row_offsets[t]] .. */
    const uint32_t *rows;      /* numbers below U, as many as row_offsets[T] */
    size_t row_count;          /* U */
    const uint32_t *actions;   /* T: flags as bits; WEIR_RANKING_NO_ACTIONS: nothing is added */
    const uint32_t *positions; /* T: below config.positions */
    const uint32_t *times;     /* T: below config.time_buckets */
    const uint32_t *predicted; /* Q tokens, ascending */
    size_t predictions;        /* Q */
} weir_ranking_batch_t;

typedef struct weir_ranking weir_ranking_t;

/* Errors: a configuration out of range, out of memory, unknown WEIR_KERNELS. */
WEIR_MUST_USE weir_err_t weir_ranking_create(const weir_ranking_config_t *config,
                                             weir_ranking_t **ranking, weir_error_t *error);
void weir_ranking_destroy(weir_ranking_t *ranking);

/* rows: U x D. logits: Q x K. The batch and `parameters` stay until backward. Errors: those of
 * weir_stu_forward; an index of the batch out of range. Call: local. */
WEIR_MUST_USE weir_err_t weir_ranking_forward(weir_ranking_t *ranking,
                                              const weir_real_t *parameters,
                                              const weir_ranking_batch_t *batch,
                                              const weir_real_t *rows, weir_forward_mode_t mode,
                                              weir_real_t *logits, weir_error_t *error);

/* Loss and all gradients of the last forward. labels: Q x K, in [0, 1] for a binary task. d_rows:
 * U x D and d_parameters, overwritten. `ready` as in worker/hstu.h: heads first, embeddings last.
 * Sums run in a fixed order. */
WEIR_MUST_USE weir_err_t weir_ranking_backward(weir_ranking_t *ranking, const weir_real_t *labels,
                                               double scale, double *loss, weir_real_t *d_rows,
                                               weir_real_t *d_parameters,
                                               weir_gradient_ready_t ready, void *argument,
                                               weir_error_t *error);

/* Chance of a binary task, or the number of a regression, of a logit. */
double weir_ranking_score(weir_task_kind_t kind, double logit);

/* Bucket of the time before the query: trunc(sqrt(max(seconds, 1e-6) / 60)), at most buckets - 1.
 */
uint32_t weir_ranking_time_bucket(int64_t seconds, size_t buckets);

#endif
