/* Item-to-item models with few weights: score of item j after a history = base_j + the sum of
 * w(i, j) over the items i of the history, or over its last event alone. Targets j are dealt to the
 * processes one by one, by number; a process has the weights of its targets.
 *
 * weir_knn_fit: item-based nearest neighbours (B. Sarwar et al., Item-Based Collaborative Filtering
 * Recommendation Algorithms, WWW 2001). w(i, j) is the cosine of the sets of users of i and j, for
 * the `neighbors` items i that are most similar to j (of equal ones the first), and 0 for others.
 *
 * weir_markov_fit: first-order Markov chain of consecutive training events. w(i, j) = transitions
 * from i to j, base_j = smoothing * share of j among all training events: up to a factor that is
 * the same for all j, the transition probabilities under a Dirichlet prior of `smoothing` events of
 * the catalogue's popularity. */
#ifndef WEIR_ANALYSIS_SPARSE_MODEL_H
#define WEIR_ANALYSIS_SPARSE_MODEL_H

#include "analysis/grid.h"
#include "analysis/item_set.h"
#include "analysis/ranking.h"

#include <stdbool.h>

typedef struct {
    const weir_grid_t *grid;
    const weir_item_set_t *set;
    bool last_event;  /* else all of the history */
    size_t *offsets;  /* n + 1: the weights of an item of the history */
    int32_t *targets; /* place among the targets of this process */
    double *weights;
    double *base;   /* target_count; NULL: zeros */
    int64_t *items; /* ids of the targets, then (rank 0) of the items without an event */
    size_t target_count, item_count;
} weir_sparse_model_t;

/* Bytes of one process at the most, events included. Call: local. */
double weir_knn_bytes(const weir_grid_t *grid, const weir_dataset_t *dataset, size_t n,
                      size_t neighbors);
double weir_markov_bytes(const weir_grid_t *grid, const weir_dataset_t *dataset, size_t n);

/* `neighbors` 0: all. `set` (not owned) outlives the model. Errors: MEMORY (this process alone);
 * STOPPED (all). Call: collective(grid). */
WEIR_MUST_USE weir_err_t weir_knn_fit(const weir_grid_t *grid, const weir_item_set_t *set,
                                      size_t neighbors, weir_sparse_model_t *model,
                                      weir_error_t *error);
/* `smoothing` >= 0. Errors as above. Call: local. */
WEIR_MUST_USE weir_err_t weir_markov_fit(const weir_grid_t *grid, const weir_item_set_t *set,
                                         double smoothing, weir_sparse_model_t *model,
                                         weir_error_t *error);
void weir_sparse_model_fini(weir_sparse_model_t *model);

/* Valid as long as the model. */
weir_ranking_scorer_t weir_sparse_model_scorer(weir_sparse_model_t *model);

/* ---- for those that make one ---- */

typedef struct {
    int32_t source; /* number of the item of the history */
    int32_t target; /* place of the target */
    double weight;
} weir_sparse_entry_t;

/* The targets of this process, and these weights: each pair once. Entries are read alone. */
WEIR_MUST_USE weir_err_t weir_sparse_model_init(const weir_grid_t *grid, const weir_item_set_t *set,
                                                const weir_sparse_entry_t *entries, size_t count,
                                                weir_sparse_model_t *model, weir_error_t *error);

/* Targets of this process among n, and the number of the k-th. */
static inline size_t weir_sparse_targets(const weir_grid_t *grid, size_t n) {
    size_t ranks = (size_t)grid->ranks, rank = (size_t)grid->rank;
    return n > rank ? (n - rank - 1) / ranks + 1 : 0;
}

static inline size_t weir_sparse_target(const weir_grid_t *grid, size_t k) {
    return k * (size_t)grid->ranks + (size_t)grid->rank;
}

#endif
