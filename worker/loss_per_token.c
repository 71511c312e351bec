/* Negatives of every token's own. The normalised rows of the batch (U x D, for ML-1M under a
 * megabyte) stay in the second-level cache; per token, the R rows it meets go through the first
 * level once for the logits and are still there for the gradients. */
#include "worker/loss.h"
#include "worker/loss_internal.h"

#include <math.h>
#include <string.h>

static weir_real_t dot(const weir_real_t *a, const weir_real_t *b, size_t count) {
    weir_real_t sum = 0;
    for (size_t d = 0; d < count; d++) {
        sum += a[d] * b[d];
    }
    return sum;
}

/* One token: logits, loss, and gradients of e (set) and of the normalised rows (added). */
static double run_token(weir_loss_t *loss, const weir_loss_batch_t *batch, const weir_real_t *e,
                        size_t token, weir_real_t *d_e) {
    size_t dim = batch->dim, stride = weir_loss_stride(dim), negatives = batch->negatives;
    const uint32_t *rows = batch->negative_rows + token * negatives;
    uint32_t target = batch->targets[token];
    const weir_real_t inverse_temperature = (weir_real_t)(1.0 / batch->temperature);
    weir_real_t *logits = loss->logits;
    const weir_real_t *target_row = loss->normalised + target * stride;
    weir_real_t target_logit = dot(e, target_row, dim) * inverse_temperature;
    for (size_t r = 0; r < negatives; r++) {
        weir_real_t value = dot(e, loss->normalised + rows[r] * stride, dim) * inverse_temperature;
        logits[r] = rows[r] == target ? (weir_real_t)WEIR_LOSS_MASKED_LOGIT : value;
    }
    weir_real_t highest = weir_loss_maximum(logits, negatives);
    highest = highest > target_logit ? highest : target_logit;
    weir_real_t margin = highest - target_logit;
    double sum = (double)weir_loss_sum_exp(logits, negatives, highest) + exp(-(double)margin);
    double token_loss = (double)margin + log(sum);
    double factor = batch->scale / batch->temperature;
    weir_loss_weigh(logits, negatives, highest, (weir_real_t)(factor / sum));
    weir_real_t target_weight = (weir_real_t)(factor * expm1(-token_loss));
    weir_real_t *d_target = loss->d_normalised + target * stride;
    for (size_t d = 0; d < dim; d++) {
        d_e[d] = target_weight * target_row[d];
        d_target[d] += target_weight * e[d];
    }
    for (size_t r = 0; r < negatives; r++) {
        const weir_real_t *row = loss->normalised + rows[r] * stride;
        weir_real_t *d_row = loss->d_normalised + rows[r] * stride, weight = logits[r];
        for (size_t d = 0; d < dim; d++) {
            d_e[d] += weight * row[d];
            d_row[d] += weight * e[d];
        }
    }
    return token_loss;
}

weir_err_t weir_loss_per_token(weir_loss_t *loss, const weir_loss_batch_t *batch,
                               const weir_real_t *encoded, const weir_real_t *rows,
                               double *loss_sum, weir_real_t *d_encoded, weir_real_t *d_rows,
                               weir_error_t *error) {
    double sum = 0.0;
    weir_err_t err = weir_loss_check(batch, batch->tokens * batch->negatives, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_workspace_begin(&loss->workspace);
    weir_loss_lay_out(loss, batch, batch->negatives);
    err = weir_workspace_reserve(&loss->workspace, "the loss", error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_loss_lay_out(loss, batch, batch->negatives);
    weir_loss_begin(loss, batch, rows);
    for (size_t token = 0; token < batch->tokens; token++) {
        sum += run_token(loss, batch, encoded + token * batch->dim, token,
                         d_encoded + token * batch->dim);
    }
    weir_loss_end(loss, batch, d_rows);
    *loss_sum = sum;
    return WEIR_OK;
}
