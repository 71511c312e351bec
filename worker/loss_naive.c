/* The oracle of the loss: every logit by its formula, in float64, one token after the other. */
#include "worker/loss.h"
#include "worker/loss_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Doubles of one call. */
typedef struct {
    size_t width;         /* columns of a row: D, and its bias */
    double *normalised;   /* U x D */
    double *norms;        /* U: max(|row|, 1e-6) */
    double *d_normalised; /* U x D */
    double *d_biases;     /* U */
    double *logits;       /* 1 + R: target first; then their gradients */
} naive_t;

static void free_naive(naive_t *naive) {
    free(naive->normalised);
    free(naive->norms);
    free(naive->d_normalised);
    free(naive->d_biases);
    free(naive->logits);
}

static weir_err_t allocate_naive(const weir_loss_batch_t *batch, naive_t *naive,
                                 weir_error_t *error) {
    size_t cells = batch->rows * batch->dim;
    naive->normalised = calloc(cells + 1, sizeof(double));
    naive->norms = calloc(batch->rows + 1, sizeof(double));
    naive->d_normalised = calloc(cells + 1, sizeof(double));
    naive->d_biases = calloc(batch->rows + 1, sizeof(double));
    naive->logits = calloc(batch->negatives + 1, sizeof(double));
    if (naive->normalised == NULL || naive->norms == NULL || naive->d_normalised == NULL ||
        naive->d_biases == NULL || naive->logits == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the loss of %zu rows",
                           batch->rows);
    }
    return WEIR_OK;
}

static void normalise(const weir_loss_batch_t *batch, const weir_real_t *rows, naive_t *naive) {
    for (size_t row = 0; row < batch->rows; row++) {
        double sum = 0.0;
        for (size_t d = 0; d < batch->dim; d++) {
            double value = (double)rows[row * naive->width + d];
            sum += value * value;
        }
        naive->norms[row] = fmax(sqrt(sum), WEIR_LOSS_NORM_FLOOR);
        for (size_t d = 0; d < batch->dim; d++) {
            naive->normalised[row * batch->dim + d] =
                (double)rows[row * naive->width + d] / naive->norms[row];
        }
    }
}

/* Logits to their gradients, in place; returns the token's loss. */
static double softmax_token(double *logits, size_t classes, double scale) {
    double highest = logits[0], sum = 0.0, target = logits[0];
    for (size_t c = 1; c < classes; c++) {
        highest = fmax(highest, logits[c]);
    }
    for (size_t c = 0; c < classes; c++) {
        sum += exp(logits[c] - highest);
    }
    double log_sum = highest + log(sum);
    for (size_t c = 0; c < classes; c++) {
        logits[c] = scale * (exp(logits[c] - log_sum) - (c == 0 ? 1.0 : 0.0));
    }
    return log_sum - target;
}

static double run_token(const weir_loss_batch_t *batch, const weir_real_t *encoded,
                        const weir_real_t *rows, size_t token, naive_t *naive,
                        weir_real_t *d_encoded) {
    const weir_real_t *e = encoded + token * batch->dim;
    const uint32_t *negatives = batch->negative_rows + token * batch->negatives;
    uint32_t target = batch->targets[token];
    for (size_t c = 0; c <= batch->negatives; c++) {
        size_t row = c == 0 ? target : negatives[c - 1];
        double dot = 0.0;
        for (size_t d = 0; d < batch->dim; d++) {
            dot += (double)e[d] * naive->normalised[row * batch->dim + d];
        }
        double bias = batch->biased ? (double)rows[row * naive->width + batch->dim] : 0.0;
        naive->logits[c] =
            c > 0 && row == target ? WEIR_LOSS_MASKED_LOGIT : dot / batch->temperature + bias;
    }
    double loss = softmax_token(naive->logits, batch->negatives + 1, batch->scale);
    for (size_t c = 0; c <= batch->negatives; c++) {
        size_t row = c == 0 ? target : negatives[c - 1];
        naive->d_biases[row] += c > 0 && row == target ? 0.0 : naive->logits[c];
    }
    for (size_t d = 0; d < batch->dim; d++) {
        double sum = 0.0;
        for (size_t c = 0; c <= batch->negatives; c++) {
            size_t row = c == 0 ? target : negatives[c - 1];
            if (c > 0 && row == target) {
                continue; /* the mask is a constant */
            }
            double weight = naive->logits[c] / batch->temperature;
            sum += weight * naive->normalised[row * batch->dim + d];
            naive->d_normalised[row * batch->dim + d] += weight * (double)e[d];
        }
        d_encoded[token * batch->dim + d] = (weir_real_t)sum;
    }
    return loss;
}

/* Through row / max(|row|, floor): below the floor the divisor is a constant. */
static void differentiate_norms(const weir_loss_batch_t *batch, const naive_t *naive,
                                weir_real_t *d_rows) {
    for (size_t row = 0; row < batch->rows; row++) {
        const double *n = naive->normalised + row * batch->dim;
        const double *d_n = naive->d_normalised + row * batch->dim;
        double along = 0.0;
        if (naive->norms[row] > WEIR_LOSS_NORM_FLOOR) {
            for (size_t d = 0; d < batch->dim; d++) {
                along += n[d] * d_n[d];
            }
        }
        for (size_t d = 0; d < batch->dim; d++) {
            d_rows[row * naive->width + d] =
                (weir_real_t)((d_n[d] - along * n[d]) / naive->norms[row]);
        }
        if (batch->biased) {
            d_rows[row * naive->width + batch->dim] = (weir_real_t)naive->d_biases[row];
        }
    }
}

weir_err_t weir_loss_per_token_naive(const weir_loss_batch_t *batch, const weir_real_t *encoded,
                                     const weir_real_t *rows, double *loss_sum,
                                     weir_real_t *d_encoded, weir_real_t *d_rows,
                                     weir_error_t *error) {
    naive_t naive = {.width = weir_loss_width(batch)};
    double sum = 0.0;
    weir_err_t err = weir_loss_check(batch, batch->tokens * batch->negatives, error);
    if (err != WEIR_OK) {
        return err;
    }
    err = allocate_naive(batch, &naive, error);
    if (err != WEIR_OK) {
        goto out;
    }
    normalise(batch, rows, &naive);
    for (size_t token = 0; token < batch->tokens; token++) {
        sum += run_token(batch, encoded, rows, token, &naive, d_encoded);
    }
    differentiate_norms(batch, &naive, d_rows);
    *loss_sum = sum;
out:
    free_naive(&naive);
    return err;
}
