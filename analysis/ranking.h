/* Simple models by the protocol of `weir eval` (docs/model.md): the rank of every user's target
 * among the whole catalogue, the items of the history left out, ties counted against the target.
 *
 * The catalogue is dealt to the processes; each scores its items for the same users at the same
 * time, and the counts of better items are summed. All processes read all histories. */
#ifndef WEIR_ANALYSIS_RANKING_H
#define WEIR_ANALYSIS_RANKING_H

#include "analysis/grid.h"
#include "common/dataset.h"
#include "worker/rank.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Histories of some users, as the protocol cuts them. */
typedef struct {
    size_t users;
    const size_t *offsets; /* users + 1, into items */
    const int64_t *items;  /* in order of time */
    const size_t *distinct_offsets;
    const int64_t *distinct; /* ascending, each once */
} weir_ranking_histories_t;

typedef struct {
    size_t count;         /* items of this process */
    const int64_t *items; /* count: their ids; each item of the catalogue is with one process that
                             counts, and with no other that does */
    bool counts;          /* false: another process has the same items and scores */
    /* scores: users x count, zeros before. Call: collective(grid). */
    void (*score)(void *model, const weir_ranking_histories_t *histories, double *scores);
    void *model;
} weir_ranking_scorer_t;

typedef struct {
    const weir_grid_t *grid;
    const weir_dataset_t *dataset;
    size_t max_sequence_length; /* events of history; >= 1 */
    size_t after;               /* events that follow the target: 0 test, 1 validation */
} weir_ranking_options_t;

/* Bytes that evaluation takes of one process that has `items` of the catalogue. */
double weir_ranking_bytes(const weir_dataset_t *dataset, size_t items, size_t max_sequence_length);

/* Metrics over all users, the same on every process. Errors: STOPPED, on all processes, after a
 * signal to any; MEMORY. Call: collective(grid). */
WEIR_MUST_USE weir_err_t weir_ranking_evaluate(const weir_ranking_options_t *options,
                                               const weir_ranking_scorer_t *scorer,
                                               weir_metrics_t *metrics, weir_error_t *error);

#endif
