/* Softmax, sampled or full, over L2-normalised rows (Zhai et al., section 4.1 setup; exact form in
 * docs/model.md).
 *
 * Table rows of the batch stand in one matrix, U x D, each distinct key once ("rows"); targets and
 * negatives are row numbers in it. logit = <e_i, row / max(|row|, 1e-6)> / temperature; a negative
 * equal to the target is masked. Where rows have a bias it stands behind their D columns, U x (D +
 * 1), and is added to the logit; so it is in the rows' gradient. */
#ifndef WEIR_WORKER_LOSS_H
#define WEIR_WORKER_LOSS_H

#include "common/error.h"
#include "common/real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t tokens;                 /* T */
    size_t rows;                   /* U */
    size_t dim;                    /* D, without the bias */
    bool biased;                   /* rows have one */
    size_t negatives;              /* R; not read by weir_loss_catalogue */
    const uint32_t *targets;       /* T: row of each token's target */
    const uint32_t *negative_rows; /* T x R of per-token negatives, or R shared by the batch */
    double temperature;
    double scale; /* of the gradient: 1 / tokens of the global batch */
} weir_loss_batch_t;

typedef struct weir_loss weir_loss_t; /* workspace */

/* Side effect: the BLAS of the process is switched to one thread. */
WEIR_MUST_USE weir_err_t weir_loss_create(weir_loss_t **loss, weir_error_t *error);
void weir_loss_destroy(weir_loss_t *loss);

/* Forward and backward in one. `encoded` T x D (rows of norm 1), `rows` U x D, or
 * U x (D + 1), as in the table. `loss_sum`: sum of the tokens' losses, unscaled, in float64, fixed
 * order. `d_encoded` T x D and `d_rows`, shaped as the rows: overwritten, scaled. Call: local. */
WEIR_MUST_USE weir_err_t weir_loss_per_token(weir_loss_t *loss, const weir_loss_batch_t *batch,
                                             const weir_real_t *encoded, const weir_real_t *rows,
                                             double *loss_sum, weir_real_t *d_encoded,
                                             weir_real_t *d_rows, weir_error_t *error);
/* The same with the R negatives shared by all tokens: logits by matrix product, in tiles. */
WEIR_MUST_USE weir_err_t weir_loss_shared(weir_loss_t *loss, const weir_loss_batch_t *batch,
                                          const weir_real_t *encoded, const weir_real_t *rows,
                                          double *loss_sum, weir_real_t *d_encoded,
                                          weir_real_t *d_rows, weir_error_t *error);
/* The full softmax: the rows are the whole catalogue, each item once, and every row but the target
 * is a negative. In tiles as above: T x U logits never exist. Source: docs/model.md, "Loss". */
WEIR_MUST_USE weir_err_t weir_loss_catalogue(weir_loss_t *loss, const weir_loss_batch_t *batch,
                                             const weir_real_t *encoded, const weir_real_t *rows,
                                             double *loss_sum, weir_real_t *d_encoded,
                                             weir_real_t *d_rows, weir_error_t *error);

/* One of the three above. */
typedef weir_err_t weir_loss_form_t(weir_loss_t *loss, const weir_loss_batch_t *batch,
                                    const weir_real_t *encoded, const weir_real_t *rows,
                                    double *loss_sum, weir_real_t *d_encoded, weir_real_t *d_rows,
                                    weir_error_t *error);

/* The oracles, in plain loops; same contract, slow. */
WEIR_MUST_USE weir_err_t weir_loss_per_token_naive(const weir_loss_batch_t *batch,
                                                   const weir_real_t *encoded,
                                                   const weir_real_t *rows, double *loss_sum,
                                                   weir_real_t *d_encoded, weir_real_t *d_rows,
                                                   weir_error_t *error);

#endif
