/* Negatives of every token's own. The normalised rows of the batch (U x D, for ML-1M under a
 * megabyte) stay in the second-level cache; per token, the R rows it meets go through the first
 * level once for the logits and are still there for the gradients.
 *
 * With several threads, tokens are dealt in blocks and keep the weights of their rows; then each
 * thread adds the gradients of a range of the rows, over all tokens in order. So every sum has one
 * order, and the result the same bits for any number of threads. */
#include "worker/loss.h"
#include "worker/loss_internal.h"
#include "worker/parallel.h"

#include <math.h>
#include <string.h>

enum { BLOCK_TOKENS = 64 };

/* What a thread works with: e of a token, its gradient, and the weights of its R + 1 rows, the
 * target first. */
typedef struct {
    weir_real_t *encoded, *d_encoded, *weights;
} scratch_t;

static size_t row_stride(const weir_loss_t *loss, const weir_loss_batch_t *batch) {
    return weir_loss_stride(loss, weir_loss_width(batch));
}

/* Numbers of a token's weights, rounded up so that the logits are aligned. */
static size_t weights_size(const weir_loss_batch_t *batch) {
    return (batch->negatives + 31) / 16 * 16;
}

static weir_real_t *logits_of(weir_real_t *weights) {
    return weights + 16;
}

static scratch_t scratch_of(const weir_loss_t *loss, const weir_loss_batch_t *batch,
                            uint32_t thread) {
    size_t stride = row_stride(loss, batch);
    return (scratch_t){loss->encoded + thread * stride, loss->d_encoded + thread * stride,
                       loss->logits + thread * weights_size(batch)};
}

/* Logits of the negatives, the target's returned; a negative that is the target is masked. */
static weir_real_t compute_logits(const weir_loss_t *loss, const weir_loss_batch_t *batch,
                                  const weir_real_t *encoded, const uint32_t *rows, uint32_t target,
                                  weir_real_t *logits) {
    size_t stride = row_stride(loss, batch), negatives = batch->negatives;
    const weir_real_t inverse_temperature = (weir_real_t)(1.0 / batch->temperature);
    weir_real_t target_dot;
    loss->kernels->gather_dot(encoded, loss->normalised, stride, &target, 1, &target_dot);
    loss->kernels->gather_dot(encoded, loss->normalised, stride, rows, negatives, logits);
    for (size_t r = 0; r < negatives; r++) {
        weir_real_t logit = logits[r] * inverse_temperature;
        logits[r] = rows[r] == target ? (weir_real_t)WEIR_LOSS_MASKED_LOGIT : logit;
    }
    return target_dot * inverse_temperature;
}

/* One token, whose e is in `scratch`: its loss; the gradient of e there, and the weights of e in
 * those of its rows: the target's in weights[0], the negatives' where the logits were. */
static double weigh_token(const weir_loss_t *loss, const weir_loss_batch_t *batch, size_t token,
                          const scratch_t *scratch, weir_real_t *weights) {
    size_t stride = row_stride(loss, batch), negatives = batch->negatives;
    const weir_kernels_t *kernels = loss->kernels;
    const uint32_t *rows = batch->negative_rows + token * negatives;
    uint32_t target = batch->targets[token];
    weir_real_t *logits = logits_of(weights);
    weir_real_t target_logit = compute_logits(loss, batch, scratch->encoded, rows, target, logits);
    weir_real_t highest = weir_loss_maximum(logits, negatives);
    highest = highest > target_logit ? highest : target_logit;
    double margin = (double)(highest - target_logit);
    double sum = exp(-margin) + (double)weir_loss_exponentiate(kernels, logits, negatives, highest);
    double token_loss = margin + log(sum);
    double factor = batch->scale / batch->temperature;
    weights[0] = (weir_real_t)(factor * expm1(-token_loss));
    weir_loss_scale(logits, negatives, (weir_real_t)(factor / sum));
    memset(scratch->d_encoded, 0, stride * sizeof(weir_real_t));
    kernels->gather_axpy(weights, loss->normalised, stride, &target, 1, scratch->d_encoded);
    kernels->gather_axpy(logits, loss->normalised, stride, rows, negatives, scratch->d_encoded);
    return token_loss;
}

/* One call. */
typedef struct {
    weir_loss_t *loss;
    const weir_loss_batch_t *batch;
    const weir_real_t *encoded;
    weir_real_t *d_encoded;
    uint32_t threads;
} call_t;

/* What the token after `token` reads and writes first. */
static void fetch_next(const call_t *call, size_t token) {
    enum { LINE = 64 };
    const weir_loss_batch_t *batch = call->batch;
    if (token + 1 == batch->tokens) {
        return;
    }
    const char *encoded = (const char *)(call->encoded + (token + 1) * batch->dim);
    const char *d_encoded = (const char *)(call->d_encoded + (token + 1) * batch->dim);
    const char *rows = (const char *)(batch->negative_rows + (token + 1) * batch->negatives);
    for (size_t i = 0; i < batch->dim * sizeof(weir_real_t); i += LINE) {
        __builtin_prefetch(encoded + i);
        __builtin_prefetch(d_encoded + i, 1);
    }
    for (size_t i = 0; i < batch->negatives * sizeof *batch->negative_rows; i += LINE) {
        __builtin_prefetch(rows + i);
    }
}

static void load_token(const call_t *call, size_t token, const scratch_t *scratch) {
    size_t dim = call->batch->dim;
    memcpy(scratch->encoded, call->encoded + token * dim, dim * sizeof(weir_real_t));
}

static void store_token(const call_t *call, size_t token, const scratch_t *scratch) {
    size_t dim = call->batch->dim;
    memcpy(call->d_encoded + token * dim, scratch->d_encoded, dim * sizeof(weir_real_t));
}

/* One thread: the gradients of a token's rows while these are in the first level. */
static void run_alone(const call_t *call) {
    weir_loss_t *loss = call->loss;
    const weir_loss_batch_t *batch = call->batch;
    size_t stride = row_stride(loss, batch), negatives = batch->negatives;
    scratch_t scratch = scratch_of(loss, batch, 0);
    for (size_t token = 0; token < batch->tokens; token++) {
        const uint32_t *rows = batch->negative_rows + token * negatives;
        load_token(call, token, &scratch);
        fetch_next(call, token);
        loss->token_losses[token] = weigh_token(loss, batch, token, &scratch, scratch.weights);
        loss->kernels->scatter_axpy(scratch.weights, scratch.encoded, stride,
                                    &batch->targets[token], 1, loss->d_normalised);
        loss->kernels->scatter_axpy(logits_of(scratch.weights), scratch.encoded, stride, rows,
                                    negatives, loss->d_normalised);
        store_token(call, token, &scratch);
    }
}

static void weigh_block(void *argument, size_t task, uint32_t thread) {
    const call_t *call = argument;
    const weir_loss_batch_t *batch = call->batch;
    size_t first = task * BLOCK_TOKENS;
    size_t end = batch->tokens - first < BLOCK_TOKENS ? batch->tokens : first + BLOCK_TOKENS;
    scratch_t scratch = scratch_of(call->loss, batch, thread);
    for (size_t token = first; token < end; token++) {
        load_token(call, token, &scratch);
        fetch_next(call, token);
        call->loss->token_losses[token] = weigh_token(
            call->loss, batch, token, &scratch, call->loss->weights + token * weights_size(batch));
        store_token(call, token, &scratch);
    }
}

/* Of the rows of a token those in [first, end), with their weights. */
static size_t pick_rows(const weir_loss_batch_t *batch, size_t token, weir_real_t *weights,
                        uint32_t first, uint32_t end, uint32_t *picked, weir_real_t *factors) {
    const uint32_t *rows = batch->negative_rows + token * batch->negatives;
    const weir_real_t *logits = logits_of(weights);
    uint32_t target = batch->targets[token];
    size_t count = 0;
    picked[0] = target;
    factors[0] = weights[0];
    count += target - first < end - first ? 1 : 0;
    for (size_t r = 0; r < batch->negatives; r++) {
        picked[count] = rows[r];
        factors[count] = logits[r];
        count += rows[r] - first < end - first ? 1 : 0;
    }
    return count;
}

static void scatter_range(void *argument, size_t task, uint32_t thread) {
    const call_t *call = argument;
    weir_loss_t *loss = call->loss;
    const weir_loss_batch_t *batch = call->batch;
    size_t stride = row_stride(loss, batch);
    uint32_t first = (uint32_t)(batch->rows * task / call->threads);
    uint32_t end = (uint32_t)(batch->rows * (task + 1) / call->threads);
    scratch_t scratch = scratch_of(loss, batch, thread);
    uint32_t *picked = loss->picked + thread * (batch->negatives + 2);
    for (size_t token = 0; token < batch->tokens; token++) {
        weir_real_t *weights = loss->weights + token * weights_size(batch);
        size_t count = pick_rows(batch, token, weights, first, end, picked, scratch.weights);
        load_token(call, token, &scratch);
        loss->kernels->scatter_axpy(scratch.weights, scratch.encoded, stride, picked, count,
                                    loss->d_normalised);
    }
}

static void lay_out(weir_loss_t *loss, const weir_loss_batch_t *batch, uint32_t threads) {
    weir_workspace_t *workspace = &loss->workspace;
    size_t row = row_stride(loss, batch) * sizeof(weir_real_t);
    bool apart = threads > 1;
    weir_loss_lay_out(loss, batch, threads * weights_size(batch));
    loss->encoded = weir_workspace_take(workspace, threads, row);
    loss->d_encoded = weir_workspace_take(workspace, threads, row);
    loss->token_losses = weir_workspace_take(workspace, batch->tokens, sizeof(double));
    loss->weights = weir_workspace_take(workspace, apart ? batch->tokens : 0,
                                        weights_size(batch) * sizeof(weir_real_t));
    loss->picked =
        weir_workspace_take(workspace, threads, (batch->negatives + 2) * sizeof(uint32_t));
}

weir_err_t weir_loss_per_token(weir_loss_t *loss, const weir_loss_batch_t *batch,
                               const weir_real_t *encoded, const weir_real_t *rows,
                               double *loss_sum, weir_real_t *d_encoded, weir_real_t *d_rows,
                               weir_error_t *error) {
    uint32_t threads = weir_parallel_threads();
    call_t call = {loss, batch, encoded, d_encoded, threads};
    double sum = 0.0;
    weir_err_t err = weir_loss_check(batch, batch->tokens * batch->negatives, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_workspace_begin(&loss->workspace);
    lay_out(loss, batch, threads);
    err = weir_workspace_reserve(&loss->workspace, "the loss", error);
    if (err != WEIR_OK) {
        return err;
    }
    lay_out(loss, batch, threads);
    weir_loss_begin(loss, batch, rows);
    size_t stride = row_stride(loss, batch);
    memset(loss->encoded, 0, threads * stride * sizeof(weir_real_t));
    for (uint32_t thread = 0; thread < threads && batch->biased; thread++) {
        loss->encoded[thread * stride + batch->dim] = 1;
    }
    if (threads == 1) {
        run_alone(&call);
    } else {
        weir_parallel_run((batch->tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS, weigh_block, &call);
        weir_parallel_run(threads, scatter_range, &call);
    }
    for (size_t token = 0; token < batch->tokens; token++) {
        sum += loss->token_losses[token];
    }
    weir_loss_end(loss, batch, d_rows);
    *loss_sum = sum;
    return WEIR_OK;
}
