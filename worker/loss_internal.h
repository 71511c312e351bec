/* What the kinds of negatives share. Not for users of worker/loss.h.
 *
 * Rows are normalised once per distinct row into a matrix whose row stride is a multiple of 16
 * numbers, zero-padded; all gradients with respect to a normalised row are summed before the one
 * pass through the derivative of the normalisation. A bias is one more column: of a normalised row
 * temperature * bias, of an e 1, so that <e, row> / temperature holds it. */
#ifndef WEIR_WORKER_LOSS_INTERNAL_H
#define WEIR_WORKER_LOSS_INTERNAL_H

#include "worker/kernels.h"
#include "worker/loss.h"
#include "worker/workspace.h"

#define WEIR_LOSS_NORM_FLOOR 1e-6     /* divisor of a row is at least this */
#define WEIR_LOSS_MASKED_LOGIT (-5e4) /* of a negative that is the target */

struct weir_loss {
    const weir_kernels_t *kernels;
    weir_workspace_t workspace;
    /* Pieces of the batch under way. */
    weir_real_t *normalised;   /* U x stride */
    weir_real_t *d_normalised; /* U x stride */
    weir_real_t *inverse;      /* U: 1 / max(|row|, floor) */
    weir_real_t *logits;       /* shared: a strip of tokens x a tile of negatives */
    /* Only per token; the first three for each thread. */
    weir_real_t *encoded;   /* stride: e of one token, zero-padded */
    weir_real_t *d_encoded; /* stride */
    uint32_t *picked;       /* R + 2: rows of a thread's range */
    double *token_losses;   /* T */
    weir_real_t *weights; /* T x (R + 1, rounded up): of the rows of each token; several threads */
    /* Only in tiles. */
    weir_real_t *gathered;   /* R x width: normalised rows of the negatives */
    weir_real_t *d_gathered; /* R x width */
    weir_real_t *wide;       /* T x width: e and its 1, where there are biases */
    weir_real_t *d_wide;     /* T x width */
    weir_real_t *highest;    /* per token of a strip: running maximum of the logits */
    weir_real_t *sum;        /* per token of a strip: sum of exp(logit - highest) */
    weir_real_t *target;     /* per token of a strip: logit of the target */
    weir_real_t *warmed;     /* strip x width: e / temperature */
    size_t *first_of_row;    /* U + 2: where a row's places among the negatives begin */
    uint32_t *places;        /* R: places among the negatives, by row */
};

/* Shapes and row numbers in range, temperature and scale finite. `negatives`: length of
 * negative_rows. */
WEIR_MUST_USE weir_err_t weir_loss_check(const weir_loss_batch_t *batch, size_t negatives,
                                         weir_error_t *error);

/* Columns of a row. */
static inline size_t weir_loss_width(const weir_loss_batch_t *batch) {
    return batch->dim + (batch->biased ? 1 : 0);
}

/* Numbers from row to row of a normalised matrix of that width. */
size_t weir_loss_stride(const weir_loss_t *loss, size_t width);

/* Take the pieces that both kinds need. */
void weir_loss_lay_out(weir_loss_t *loss, const weir_loss_batch_t *batch, size_t logits);

/* Fill normalised and inverse; zero d_normalised. */
void weir_loss_begin(weir_loss_t *loss, const weir_loss_batch_t *batch, const weir_real_t *rows);
/* d_rows from d_normalised. */
void weir_loss_end(const weir_loss_t *loss, const weir_loss_batch_t *batch, weir_real_t *d_rows);

/* Over `count` logits: the largest (-inf of none; NaN is passed over, and shows in the sum). */
weir_real_t weir_loss_maximum(const weir_real_t *logits, size_t count);
/* logits become exp(logit - shift); returns their sum. */
weir_real_t weir_loss_exponentiate(const weir_kernels_t *kernels, weir_real_t *logits, size_t count,
                                   weir_real_t shift);
/* values *= factor */
void weir_loss_scale(weir_real_t *values, size_t count, weir_real_t factor);

#endif
