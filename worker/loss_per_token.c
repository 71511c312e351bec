/* Negatives of every token's own. The normalised rows of the batch (U x D, for ML-1M under a
 * megabyte) stay in the second-level cache; per token, the R rows it meets go through the first
 * level once for the logits and are still there for the gradients. */
#include "worker/loss.h"
#include "worker/loss_internal.h"

#include <math.h>
#include <string.h>

/* Logits into loss->logits, the target's returned; a negative that is the target is masked. */
static weir_real_t compute_logits(weir_loss_t *loss, const weir_loss_batch_t *batch,
                                  const uint32_t *rows, uint32_t target) {
    size_t stride = weir_loss_stride(loss, weir_loss_width(batch)), negatives = batch->negatives;
    const weir_real_t inverse_temperature = (weir_real_t)(1.0 / batch->temperature);
    weir_real_t target_dot;
    loss->kernels->gather_dot(loss->encoded, loss->normalised, stride, &target, 1, &target_dot);
    loss->kernels->gather_dot(loss->encoded, loss->normalised, stride, rows, negatives,
                              loss->logits);
    for (size_t r = 0; r < negatives; r++) {
        weir_real_t logit = loss->logits[r] * inverse_temperature;
        loss->logits[r] = rows[r] == target ? (weir_real_t)WEIR_LOSS_MASKED_LOGIT : logit;
    }
    return target_dot * inverse_temperature;
}

/* One token, whose e is in loss->encoded: its loss; the gradient of e into loss->d_encoded, those
 * of the normalised rows added. */
static double run_token(weir_loss_t *loss, const weir_loss_batch_t *batch, size_t token) {
    size_t stride = weir_loss_stride(loss, weir_loss_width(batch)), negatives = batch->negatives;
    const weir_kernels_t *kernels = loss->kernels;
    const uint32_t *rows = batch->negative_rows + token * negatives;
    uint32_t target = batch->targets[token];
    weir_real_t target_logit = compute_logits(loss, batch, rows, target);
    weir_real_t highest = weir_loss_maximum(loss->logits, negatives);
    highest = highest > target_logit ? highest : target_logit;
    double margin = (double)(highest - target_logit);
    double sum =
        exp(-margin) + (double)weir_loss_exponentiate(kernels, loss->logits, negatives, highest);
    double token_loss = margin + log(sum);
    double factor = batch->scale / batch->temperature;
    weir_real_t target_weight = (weir_real_t)(factor * expm1(-token_loss));
    weir_loss_scale(loss->logits, negatives, (weir_real_t)(factor / sum));
    memset(loss->d_encoded, 0, stride * sizeof(weir_real_t));
    kernels->gather_axpy(&target_weight, loss->normalised, stride, &target, 1, loss->d_encoded);
    kernels->gather_axpy(loss->logits, loss->normalised, stride, rows, negatives, loss->d_encoded);
    kernels->scatter_axpy(&target_weight, loss->encoded, stride, &target, 1, loss->d_normalised);
    kernels->scatter_axpy(loss->logits, loss->encoded, stride, rows, negatives, loss->d_normalised);
    return token_loss;
}

static void lay_out(weir_loss_t *loss, const weir_loss_batch_t *batch) {
    size_t stride = weir_loss_stride(loss, weir_loss_width(batch));
    weir_loss_lay_out(loss, batch, batch->negatives);
    loss->encoded = weir_workspace_take(&loss->workspace, stride, sizeof(weir_real_t));
    loss->d_encoded = weir_workspace_take(&loss->workspace, stride, sizeof(weir_real_t));
}

weir_err_t weir_loss_per_token(weir_loss_t *loss, const weir_loss_batch_t *batch,
                               const weir_real_t *encoded, const weir_real_t *rows,
                               double *loss_sum, weir_real_t *d_encoded, weir_real_t *d_rows,
                               weir_error_t *error) {
    size_t dim = batch->dim;
    double sum = 0.0;
    weir_err_t err = weir_loss_check(batch, batch->tokens * batch->negatives, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_workspace_begin(&loss->workspace);
    lay_out(loss, batch);
    err = weir_workspace_reserve(&loss->workspace, "the loss", error);
    if (err != WEIR_OK) {
        return err;
    }
    lay_out(loss, batch);
    weir_loss_begin(loss, batch, rows);
    memset(loss->encoded, 0, weir_loss_stride(loss, weir_loss_width(batch)) * sizeof(weir_real_t));
    if (batch->biased) {
        loss->encoded[dim] = 1;
    }
    for (size_t token = 0; token < batch->tokens; token++) {
        memcpy(loss->encoded, encoded + token * dim, dim * sizeof(weir_real_t));
        sum += run_token(loss, batch, token);
        memcpy(d_encoded + token * dim, loss->d_encoded, dim * sizeof(weir_real_t));
    }
    weir_loss_end(loss, batch, d_rows);
    *loss_sum = sum;
    return WEIR_OK;
}
