/* EASE (H. Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019): the linear model
 * of items by items that has a closed form. With X the users x items matrix of training events (0
 * or 1), P = (X'X + lambda I)^-1 and B_ij = -P_ij / P_jj, B_jj = 0; the scores of a history x are
 * xB.
 *
 * X'X is made where it lies: every process reads all events and adds the pairs of items that fall
 * into its blocks, so that no pair is sent and no other copy of the matrix is made. Counts are
 * whole, so that X'X is the same to the bit on any grid. */
#ifndef WEIR_ANALYSIS_EASE_H
#define WEIR_ANALYSIS_EASE_H

#include "analysis/grid.h"
#include "analysis/item_set.h"
#include "analysis/ranking.h"

typedef struct {
    const weir_grid_t *grid;
    const weir_item_set_t *set;
    weir_grid_matrix_t inverse; /* P, whole, with zeros for its diagonal; n x n */
    double *diagonal;           /* n: P_jj */
    int64_t *items;             /* ids of the rows of this process, then those without an event */
    size_t item_count;
} weir_ease_t;

/* Bytes of one process at the most. Call: local. */
double weir_ease_bytes(const weir_grid_t *grid, size_t n, size_t block);

/* `lambda` > 0. `set` (not owned) has an item and outlives the model. Errors: STOPPED after a
 * signal to any process; MEMORY; INVALID when X'X + lambda I is not positive definite in double
 * precision. Call: collective(grid). */
WEIR_MUST_USE weir_err_t weir_ease_fit(const weir_grid_t *grid, const weir_item_set_t *set,
                                       double lambda, size_t block, weir_ease_t *ease,
                                       weir_error_t *error);
void weir_ease_fini(weir_ease_t *ease);

/* Valid as long as the model. */
weir_ranking_scorer_t weir_ease_scorer(weir_ease_t *ease);

/* B to a safetensors file, by rank 0: "weights" F64 [n, n], "items" I64 [n] (ids). Errors, on all
 * processes: those of the writer, STOPPED. Call: collective(grid). */
WEIR_MUST_USE weir_err_t weir_ease_write(const weir_ease_t *ease, const char *path,
                                         weir_error_t *error);

#endif
