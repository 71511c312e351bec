/* Negatives shared by the batch: a strip of tokens meets the negatives in tiles, each one matrix
 * product. The first pass keeps a running maximum and sum per token (streaming log-sum-exp); the
 * second turns a tile into gradients. No more than a strip times a tile of logits exists at a time.
 */
#include "worker/blas.h"
#include "worker/dot.h"
#include "worker/loss.h"
#include "worker/loss_internal.h"

#include <math.h>
#include <string.h>

enum { STRIP_TOKENS = 256, TILE_NEGATIVES = 4096 };

/* One call. Numbers of a strip: t from 0; of a tile: c from 0. */
typedef struct {
    const weir_loss_batch_t *batch;
    weir_loss_t *loss;
    const weir_real_t *encoded; /* T x D */
    weir_real_t *d_encoded;     /* T x D */
    size_t strip, strip_tokens; /* first token, count */
    size_t tile, tile_width;    /* first negative, count */
} shared_t;

static void lay_out(weir_loss_t *loss, const weir_loss_batch_t *batch) {
    weir_workspace_t *workspace = &loss->workspace;
    const size_t real = sizeof(weir_real_t);
    size_t tile = batch->negatives < TILE_NEGATIVES ? batch->negatives : TILE_NEGATIVES;
    weir_loss_lay_out(loss, batch, STRIP_TOKENS * tile);
    loss->gathered = weir_workspace_take(workspace, batch->negatives, batch->dim * real);
    loss->d_gathered = weir_workspace_take(workspace, batch->negatives, batch->dim * real);
    loss->highest = weir_workspace_take(workspace, STRIP_TOKENS, real);
    loss->sum = weir_workspace_take(workspace, STRIP_TOKENS, real);
    loss->target = weir_workspace_take(workspace, STRIP_TOKENS, real);
    loss->first_of_row = weir_workspace_take(workspace, batch->rows + 2, sizeof(size_t));
    loss->places = weir_workspace_take(workspace, batch->negatives, sizeof(uint32_t));
}

/* Where each row stands among the negatives (counting sort), so that the mask costs one look-up per
 * token. Places of a row are ascending. */
static void index_negatives(weir_loss_t *loss, const weir_loss_batch_t *batch) {
    size_t *first = loss->first_of_row; /* shifted by two while counting, by one while placing */
    memset(first, 0, (batch->rows + 2) * sizeof *first);
    for (size_t r = 0; r < batch->negatives; r++) {
        first[batch->negative_rows[r] + 2]++;
    }
    for (size_t row = 0; row < batch->rows; row++) {
        first[row + 2] += first[row + 1];
    }
    for (size_t r = 0; r < batch->negatives; r++) {
        loss->places[first[batch->negative_rows[r] + 1]++] = (uint32_t)r;
    }
}

static void gather_negatives(weir_loss_t *loss, const weir_loss_batch_t *batch) {
    size_t dim = batch->dim, stride = weir_loss_stride(loss, dim);
    for (size_t r = 0; r < batch->negatives; r++) {
        memcpy(loss->gathered + r * dim, loss->normalised + batch->negative_rows[r] * stride,
               dim * sizeof(weir_real_t));
    }
    memset(loss->d_gathered, 0, batch->negatives * dim * sizeof(weir_real_t));
}

static void compute_tile(const shared_t *s) {
    const weir_loss_batch_t *batch = s->batch;
    size_t dim = batch->dim;
    weir_real_t *logits = s->loss->logits;
    weir_blas_gemm(WEIR_BLAS_PLAIN, WEIR_BLAS_TRANSPOSED, s->strip_tokens, s->tile_width, dim,
                   (weir_real_t)(1.0 / batch->temperature), s->encoded + s->strip * dim, dim,
                   s->loss->gathered + s->tile * dim, dim, 0, logits, s->tile_width);
    for (size_t t = 0; t < s->strip_tokens; t++) {
        uint32_t target = batch->targets[s->strip + t];
        for (size_t i = s->loss->first_of_row[target]; i < s->loss->first_of_row[target + 1]; i++) {
            size_t place = s->loss->places[i];
            if (place >= s->tile && place < s->tile + s->tile_width) {
                logits[t * s->tile_width + place - s->tile] = (weir_real_t)WEIR_LOSS_MASKED_LOGIT;
            }
        }
    }
}

static void begin_strip(const shared_t *s) {
    size_t dim = s->batch->dim, stride = weir_loss_stride(s->loss, dim);
    for (size_t t = 0; t < s->strip_tokens; t++) {
        const weir_real_t *e = s->encoded + (s->strip + t) * dim;
        const weir_real_t *n = s->loss->normalised + s->batch->targets[s->strip + t] * stride;
        s->loss->target[t] = weir_dot(e, n, dim) * (weir_real_t)(1.0 / s->batch->temperature);
        s->loss->highest[t] = s->loss->target[t];
        s->loss->sum[t] = 1;
    }
}

/* Logits of the tile become exp(logit - highest), the running sum is continued. */
static void stream_tile(const shared_t *s) {
    for (size_t t = 0; t < s->strip_tokens; t++) {
        weir_real_t *logits = s->loss->logits + t * s->tile_width;
        weir_real_t highest = weir_loss_maximum(logits, s->tile_width);
        if (highest > s->loss->highest[t]) {
            s->loss->sum[t] *= (weir_real_t)exp((double)(s->loss->highest[t] - highest));
            s->loss->highest[t] = highest;
        }
        s->loss->sum[t] +=
            weir_loss_exponentiate(s->loss->kernels, logits, s->tile_width, s->loss->highest[t]);
    }
}

/* Exponentials become gradients of the logits, then of e and of the negatives. `exponentiated`: by
 * stream_tile, with the highest logit of the whole row; else the tile holds logits. */
static void differentiate_tile(const shared_t *s, bool exponentiated) {
    const weir_loss_batch_t *batch = s->batch;
    size_t dim = batch->dim;
    weir_real_t *logits = s->loss->logits;
    for (size_t t = 0; t < s->strip_tokens; t++) {
        weir_real_t *row = logits + t * s->tile_width;
        if (!exponentiated) {
            (void)weir_loss_exponentiate(s->loss->kernels, row, s->tile_width, s->loss->highest[t]);
        }
        double factor = batch->scale / (batch->temperature * (double)s->loss->sum[t]);
        weir_loss_scale(row, s->tile_width, (weir_real_t)factor);
    }
    weir_blas_gemm(WEIR_BLAS_PLAIN, WEIR_BLAS_PLAIN, s->strip_tokens, dim, s->tile_width, 1, logits,
                   s->tile_width, s->loss->gathered + s->tile * dim, dim, 1,
                   s->d_encoded + s->strip * dim, dim);
    weir_blas_gemm(WEIR_BLAS_TRANSPOSED, WEIR_BLAS_PLAIN, s->tile_width, dim, s->strip_tokens, 1,
                   logits, s->tile_width, s->encoded + s->strip * dim, dim, 1,
                   s->loss->d_gathered + s->tile * dim, dim);
}

/* The target's part of the strip: sets d_encoded, adds to d_normalised; returns the strip's loss.
 */
static double finish_targets(const shared_t *s) {
    const weir_loss_batch_t *batch = s->batch;
    size_t dim = batch->dim, stride = weir_loss_stride(s->loss, dim);
    double loss = 0.0;
    for (size_t t = 0; t < s->strip_tokens; t++) {
        size_t row = batch->targets[s->strip + t];
        const weir_real_t *e = s->encoded + (s->strip + t) * dim;
        const weir_real_t *n = s->loss->normalised + row * stride;
        weir_real_t *d_e = s->d_encoded + (s->strip + t) * dim;
        weir_real_t *d_n = s->loss->d_normalised + row * stride;
        double margin = (double)(s->loss->highest[t] - s->loss->target[t]);
        double weight =
            expm1(-margin - log((double)s->loss->sum[t])); /* softmax of the target, less 1 */
        weir_real_t factor = (weir_real_t)(weight * batch->scale / batch->temperature);
        for (size_t d = 0; d < dim; d++) {
            d_e[d] = factor * n[d];
            d_n[d] += factor * e[d];
        }
        loss += margin + log((double)s->loss->sum[t]);
    }
    return loss;
}

static double run_strip(shared_t *s) {
    size_t negatives = s->batch->negatives;
    bool kept = negatives <= TILE_NEGATIVES; /* one tile: its exponentials are still there */
    begin_strip(s);
    for (s->tile = 0; s->tile < negatives; s->tile += TILE_NEGATIVES) {
        s->tile_width = negatives - s->tile < TILE_NEGATIVES ? negatives - s->tile : TILE_NEGATIVES;
        compute_tile(s);
        stream_tile(s);
    }
    double loss = finish_targets(s);
    for (s->tile = 0; s->tile < negatives; s->tile += TILE_NEGATIVES) {
        s->tile_width = negatives - s->tile < TILE_NEGATIVES ? negatives - s->tile : TILE_NEGATIVES;
        if (!kept) {
            compute_tile(s);
        }
        differentiate_tile(s, kept);
    }
    return loss;
}

weir_err_t weir_loss_shared(weir_loss_t *loss, const weir_loss_batch_t *batch,
                            const weir_real_t *encoded, const weir_real_t *rows, double *loss_sum,
                            weir_real_t *d_encoded, weir_real_t *d_rows, weir_error_t *error) {
    size_t dim = batch->dim, stride = weir_loss_stride(loss, dim);
    double sum = 0.0;
    weir_err_t err = weir_loss_check(batch, batch->negatives, error);
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
    index_negatives(loss, batch);
    gather_negatives(loss, batch);
    shared_t shared = {.batch = batch, .loss = loss, .encoded = encoded, .d_encoded = d_encoded};
    for (shared.strip = 0; shared.strip < batch->tokens; shared.strip += STRIP_TOKENS) {
        size_t left = batch->tokens - shared.strip;
        shared.strip_tokens = left < STRIP_TOKENS ? left : STRIP_TOKENS;
        sum += run_strip(&shared);
    }
    for (size_t r = 0; r < batch->negatives; r++) {
        weir_real_t *d_n = loss->d_normalised + batch->negative_rows[r] * stride;
        for (size_t d = 0; d < dim; d++) {
            d_n[d] += loss->d_gathered[r * dim + d];
        }
    }
    weir_loss_end(loss, batch, d_rows);
    *loss_sum = sum;
    return WEIR_OK;
}
