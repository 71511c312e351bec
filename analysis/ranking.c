#include "analysis/ranking.h"

#include "worker/protocol.h"

#include <stdlib.h>
#include <string.h>

/* Scores kept at a time, and users: what is summed between processes is at most this. */
enum { SCORE_BYTES = 16 << 20, MOST_USERS = 256 };

typedef struct {
    const weir_ranking_options_t *options;
    const weir_ranking_scorer_t *scorer;
    size_t batch;                       /* users at a time */
    int64_t *place;                     /* items + 1: of an item among those of this process, -1 */
    size_t users;                       /* in the batch so far */
    int64_t *targets;                   /* batch */
    size_t *offsets, *distinct_offsets; /* batch + 1 */
    int64_t *items, *distinct;          /* batch x most events of a history */
    double *target_scores, *better;     /* batch */
    double *scores;                     /* batch x count */
} evaluation_t;

static size_t longest_history(const weir_dataset_t *dataset, size_t max_length) {
    size_t longest = 0;
    for (uint64_t user = 0; user < weir_dataset_users(dataset); user++) {
        size_t count = weir_dataset_user(dataset, user).count;
        longest = count > longest ? count : longest;
    }
    return longest < max_length ? longest : max_length;
}

static size_t users_at_once(size_t items) {
    size_t users = SCORE_BYTES / (items * sizeof(double) + 1);
    return users < 1 ? 1 : users < MOST_USERS ? users : MOST_USERS;
}

double weir_ranking_bytes(const weir_dataset_t *dataset, size_t items, size_t max_sequence_length) {
    size_t users = users_at_once(weir_dataset_items(dataset));
    size_t history = longest_history(dataset, max_sequence_length);
    return 8.0 * ((double)weir_dataset_items(dataset) + (double)users * (double)items +
                  2.0 * (double)users * (double)history);
}

static weir_err_t reserve(evaluation_t *evaluation, weir_error_t *error) {
    const weir_dataset_t *dataset = evaluation->options->dataset;
    uint64_t catalogue = weir_dataset_items(dataset);
    size_t count = evaluation->scorer->count;
    size_t batch = users_at_once(catalogue); /* the same on all processes */
    size_t history =
        longest_history(dataset, evaluation->options->max_sequence_length) + 1; /* never none */
    evaluation->batch = batch;
    evaluation->place = malloc((catalogue + 1) * sizeof *evaluation->place);
    evaluation->targets = calloc(batch, sizeof(int64_t));
    evaluation->offsets = calloc(batch + 1, sizeof(size_t));
    evaluation->distinct_offsets = calloc(batch + 1, sizeof(size_t));
    evaluation->items = calloc(batch * history, sizeof(int64_t));
    evaluation->distinct = calloc(batch * history, sizeof(int64_t));
    evaluation->target_scores = calloc(2 * batch, sizeof(double));
    evaluation->scores = calloc(batch * count + 1, sizeof(double));
    if (evaluation->place == NULL || evaluation->targets == NULL || evaluation->offsets == NULL ||
        evaluation->distinct_offsets == NULL || evaluation->items == NULL ||
        evaluation->distinct == NULL || evaluation->target_scores == NULL ||
        evaluation->scores == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to evaluate %zu users at a time",
                           batch);
    }
    evaluation->better = evaluation->target_scores + batch;
    for (uint64_t item = 0; item <= catalogue; item++) {
        evaluation->place[item] = -1;
    }
    for (size_t i = 0; i < count; i++) {
        evaluation->place[evaluation->scorer->items[i]] = (int64_t)i;
    }
    return WEIR_OK;
}

static void release(evaluation_t *evaluation) {
    free(evaluation->place);
    free(evaluation->targets);
    free(evaluation->offsets);
    free(evaluation->distinct_offsets);
    free(evaluation->items);
    free(evaluation->distinct);
    free(evaluation->target_scores);
    free(evaluation->scores);
}

static void add_user(evaluation_t *evaluation, weir_user_events_t events, size_t target) {
    size_t length = weir_protocol_history(target, evaluation->options->max_sequence_length);
    size_t u = evaluation->users++;
    const int64_t *history = events.items + target - length;
    int64_t *distinct = evaluation->distinct + evaluation->distinct_offsets[u];
    evaluation->targets[u] = events.items[target];
    memcpy(evaluation->items + evaluation->offsets[u], history, length * sizeof *history);
    memcpy(distinct, history, length * sizeof *history);
    evaluation->offsets[u + 1] = evaluation->offsets[u] + length;
    evaluation->distinct_offsets[u + 1] =
        evaluation->distinct_offsets[u] + weir_protocol_distinct(distinct, length);
}

/* Items of this process that are at least as good as the target of user u. A score that is not a
 * number is better: a broken model must not rank well. */
static uint64_t count_better(const evaluation_t *evaluation, size_t u) {
    size_t count = evaluation->scorer->count;
    const double *scores = evaluation->scores + u * count;
    double target = evaluation->target_scores[u];
    uint64_t better = 0;
    for (size_t i = 0; i < count; i++) {
        better += scores[i] < target ? 0 : 1;
    }
    bool target_left = true;
    for (size_t i = evaluation->distinct_offsets[u]; i < evaluation->distinct_offsets[u + 1]; i++) {
        int64_t place = evaluation->place[evaluation->distinct[i]];
        better -= place >= 0 && !(scores[place] < target) ? 1 : 0;
        target_left = target_left && evaluation->distinct[i] != evaluation->targets[u];
    }
    int64_t own = evaluation->place[evaluation->targets[u]];
    return better - (target_left && own >= 0 && !(scores[own] < target) ? 1 : 0);
}

/* Score and rank the users of the batch, and begin the next. */
static void rank_batch(evaluation_t *evaluation, weir_metrics_t *metrics) {
    const weir_ranking_scorer_t *scorer = evaluation->scorer;
    const weir_grid_t *grid = evaluation->options->grid;
    size_t users = evaluation->users;
    weir_ranking_histories_t histories = {.users = users,
                                          .offsets = evaluation->offsets,
                                          .items = evaluation->items,
                                          .distinct_offsets = evaluation->distinct_offsets,
                                          .distinct = evaluation->distinct};
    memset(evaluation->scores, 0, users * scorer->count * sizeof(double));
    scorer->score(scorer->model, &histories, evaluation->scores);
    for (size_t u = 0; u < users; u++) { /* one process has the target: the sum is its score */
        int64_t own = evaluation->place[evaluation->targets[u]];
        evaluation->target_scores[u] =
            scorer->counts && own >= 0 ? evaluation->scores[u * scorer->count + (size_t)own] : 0.0;
    }
    weir_grid_sum(grid, WEIR_GRID_ALL, evaluation->target_scores, users);
    for (size_t u = 0; u < users; u++) {
        evaluation->better[u] = scorer->counts ? (double)count_better(evaluation, u) : 0.0;
    }
    weir_grid_sum(grid, WEIR_GRID_ALL, evaluation->better, users);
    for (size_t u = 0; u < users; u++) {
        weir_metrics_add(metrics, (uint64_t)evaluation->better[u] + 1);
    }
    evaluation->users = 0;
}

weir_err_t weir_ranking_evaluate(const weir_ranking_options_t *options,
                                 const weir_ranking_scorer_t *scorer, weir_metrics_t *metrics,
                                 weir_error_t *error) {
    evaluation_t evaluation = {.options = options, .scorer = scorer};
    weir_metrics_t sums = {0};
    uint64_t users = weir_dataset_users(options->dataset);
    weir_err_t err = reserve(&evaluation, error);
    if (weir_grid_any(options->grid, err != WEIR_OK) && err == WEIR_OK) {
        err = weir_errorf(error, WEIR_ERR_PEER, "another process has no memory to evaluate");
    }
    for (uint64_t user = 0; user < users && err == WEIR_OK; user++) {
        weir_user_events_t events = weir_dataset_user(options->dataset, user);
        size_t target = 0;
        if (weir_protocol_target(events.count, options->after, &target)) {
            add_user(&evaluation, events, target);
        }
        if (evaluation.users == evaluation.batch) {
            rank_batch(&evaluation, &sums);
            err = weir_grid_check_stop(options->grid, error);
        }
    }
    if (err == WEIR_OK && evaluation.users > 0) {
        rank_batch(&evaluation, &sums);
    }
    if (err == WEIR_OK) {
        *metrics = sums;
    }
    release(&evaluation);
    return err;
}
