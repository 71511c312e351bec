/* Negatives shared by the batch, or all rows as the catalogue: a strip of tokens meets the
 * negatives in tiles, each one matrix product. The first pass keeps a running maximum and sum per
 * token (streaming log-sum-exp); the second turns a tile into gradients. No more than a strip times
 * a tile of logits exists at a time.
 *
 * Drawn negatives are gathered into a matrix of their own. The catalogue's are the normalised rows
 * as they stand: row number and place are one. */
#include "worker/dot.h"
#include "worker/loss.h"
#include "worker/loss_internal.h"
#include "worker/parallel.h"
#include "worker/product.h"

#include <math.h>
#include <string.h>

enum { STRIP_TOKENS = 256, TILE_NEGATIVES = 4096 };

/* What a thread takes at a time, whatever their number. */
enum { TASK_TOKENS = 32, TASK_NEGATIVES = 256 };

/* One call. Numbers of a strip: t from 0; of a tile: c from 0. */
typedef struct {
    const weir_loss_batch_t *batch;
    weir_loss_t *loss;
    size_t width;               /* columns of the next two and of a row */
    const weir_real_t *encoded; /* T x width */
    weir_real_t *d_encoded;     /* T x width */
    size_t strip, strip_tokens; /* first token, count */
    bool exponentiated;         /* the tile holds exponentials, not logits */
    size_t tile, tile_width;    /* first negative, count */
    bool catalogue;             /* the negatives are the rows */
    size_t negatives;           /* R, or U */
    size_t stride;              /* numbers from negative to negative in the next two */
    const weir_real_t *items;   /* R or U x stride: normalised rows of the negatives */
    weir_real_t *d_items;       /* R or U x stride */
} shared_t;

static void lay_out(const shared_t *s) {
    const weir_loss_batch_t *batch = s->batch;
    weir_loss_t *loss = s->loss;
    weir_workspace_t *workspace = &loss->workspace;
    const size_t real = sizeof(weir_real_t);
    size_t tile = s->negatives < TILE_NEGATIVES ? s->negatives : TILE_NEGATIVES;
    size_t gathered = s->catalogue ? 0 : batch->negatives;
    weir_loss_lay_out(loss, batch, STRIP_TOKENS * tile);
    size_t wide = batch->biased ? batch->tokens : 0;
    loss->gathered = weir_workspace_take(workspace, gathered, s->width * real);
    loss->d_gathered = weir_workspace_take(workspace, gathered, s->width * real);
    loss->wide = weir_workspace_take(workspace, wide, s->width * real);
    loss->d_wide = weir_workspace_take(workspace, wide, s->width * real);
    loss->highest = weir_workspace_take(workspace, STRIP_TOKENS, real);
    loss->sum = weir_workspace_take(workspace, STRIP_TOKENS, real);
    loss->target = weir_workspace_take(workspace, STRIP_TOKENS, real);
    loss->warmed = weir_workspace_take(workspace, STRIP_TOKENS, s->width * real);
    loss->first_of_row =
        weir_workspace_take(workspace, s->catalogue ? 0 : batch->rows + 2, sizeof(size_t));
    loss->places = weir_workspace_take(workspace, gathered, sizeof(uint32_t));
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
    size_t width = weir_loss_width(batch), stride = weir_loss_stride(loss, width);
    for (size_t r = 0; r < batch->negatives; r++) {
        memcpy(loss->gathered + r * width, loss->normalised + batch->negative_rows[r] * stride,
               width * sizeof(weir_real_t));
    }
    memset(loss->d_gathered, 0, batch->negatives * width * sizeof(weir_real_t));
}

/* The logit of token t against a negative that is its target, if that stands in the tile. */
static void mask_place(const shared_t *s, size_t t, size_t place) {
    if (place >= s->tile && place < s->tile + s->tile_width) {
        s->loss->logits[t * s->tile_width + place - s->tile] = (weir_real_t)WEIR_LOSS_MASKED_LOGIT;
    }
}

static void mask_token(const shared_t *s, size_t t) {
    const weir_loss_t *loss = s->loss;
    uint32_t target = s->batch->targets[s->strip + t];
    if (s->catalogue) {
        mask_place(s, t, target);
        return;
    }
    for (size_t i = loss->first_of_row[target]; i < loss->first_of_row[target + 1]; i++) {
        mask_place(s, t, loss->places[i]);
    }
}

/* ---- tasks: some of the tile's negatives, or of the strip's tokens ---- */

static size_t task_end(size_t first, size_t most, size_t all) {
    return all - first < most ? all : first + most;
}

static void run_negatives(const shared_t *s, weir_parallel_task_t task) {
    size_t tasks = (s->tile_width + TASK_NEGATIVES - 1) / TASK_NEGATIVES;
    weir_parallel_run(tasks, task, (void *)(uintptr_t)s);
}

static void run_tokens(const shared_t *s, weir_parallel_task_t task) {
    size_t tasks = (s->strip_tokens + TASK_TOKENS - 1) / TASK_TOKENS;
    weir_parallel_run(tasks, task, (void *)(uintptr_t)s);
}

/* Logits of all tokens, not masked. */
static void compute_logits(void *argument, size_t task, uint32_t thread) {
    const shared_t *s = argument;
    size_t first = task * TASK_NEGATIVES, end = task_end(first, TASK_NEGATIVES, s->tile_width);
    const weir_product_t product = {.form_b = WEIR_BLAS_TRANSPOSED,
                                    .m = s->strip_tokens,
                                    .n = end - first,
                                    .k = s->width,
                                    .a = s->loss->warmed,
                                    .lda = s->width,
                                    .b = s->items + (s->tile + first) * s->stride,
                                    .ldb = s->stride,
                                    .c = s->loss->logits + first,
                                    .ldc = s->tile_width};
    (void)thread;
    weir_product_run(s->loss->kernels, false, &product);
}

static void begin_strip(const shared_t *s) {
    size_t width = s->width, stride = weir_loss_stride(s->loss, width);
    for (size_t i = 0; i < s->strip_tokens * width; i++) {
        s->loss->warmed[i] =
            s->encoded[s->strip * width + i] * (weir_real_t)(1.0 / s->batch->temperature);
    }
    for (size_t t = 0; t < s->strip_tokens; t++) {
        const weir_real_t *e = s->encoded + (s->strip + t) * width;
        const weir_real_t *n = s->loss->normalised + s->batch->targets[s->strip + t] * stride;
        s->loss->target[t] = weir_dot(e, n, width) * (weir_real_t)(1.0 / s->batch->temperature);
        s->loss->highest[t] = s->loss->target[t];
        s->loss->sum[t] = 1;
    }
}

/* Logits of the tile become exp(logit - highest), the running sum is continued. */
static void stream_logits(void *argument, size_t task, uint32_t thread) {
    const shared_t *s = argument;
    size_t first = task * TASK_TOKENS, end = task_end(first, TASK_TOKENS, s->strip_tokens);
    (void)thread;
    for (size_t t = first; t < end; t++) {
        mask_token(s, t);
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

/* Exponentials become gradients of the logits, then of e. Not `exponentiated`: the tile holds
 * logits, and the highest one of the whole row is known. */
static void differentiate_tokens(void *argument, size_t task, uint32_t thread) {
    const shared_t *s = argument;
    const weir_loss_batch_t *batch = s->batch;
    size_t first = task * TASK_TOKENS, end = task_end(first, TASK_TOKENS, s->strip_tokens);
    weir_real_t *logits = s->loss->logits + first * s->tile_width;
    (void)thread;
    for (size_t t = first; t < end; t++) {
        weir_real_t *row = s->loss->logits + t * s->tile_width;
        if (!s->exponentiated) {
            mask_token(s, t);
            (void)weir_loss_exponentiate(s->loss->kernels, row, s->tile_width, s->loss->highest[t]);
        }
        double factor = batch->scale / (batch->temperature * (double)s->loss->sum[t]);
        weir_loss_scale(row, s->tile_width, (weir_real_t)factor);
    }
    const weir_product_t product = {.m = end - first,
                                    .n = s->width,
                                    .k = s->tile_width,
                                    .a = logits,
                                    .lda = s->tile_width,
                                    .b = s->items + s->tile * s->stride,
                                    .ldb = s->stride,
                                    .add = true,
                                    .c = s->d_encoded + (s->strip + first) * s->width,
                                    .ldc = s->width};
    weir_product_run(s->loss->kernels, false, &product);
}

/* And of the negatives. */
static void differentiate_negatives(void *argument, size_t task, uint32_t thread) {
    const shared_t *s = argument;
    size_t first = task * TASK_NEGATIVES, end = task_end(first, TASK_NEGATIVES, s->tile_width);
    const weir_product_t product = {.form_a = WEIR_BLAS_TRANSPOSED,
                                    .m = end - first,
                                    .n = s->width,
                                    .k = s->strip_tokens,
                                    .a = s->loss->logits + first,
                                    .lda = s->tile_width,
                                    .b = s->encoded + s->strip * s->width,
                                    .ldb = s->width,
                                    .add = true,
                                    .c = s->d_items + (s->tile + first) * s->stride,
                                    .ldc = s->stride};
    (void)thread;
    weir_product_run(s->loss->kernels, false, &product);
}

/* The target's part of the strip: sets d_encoded, adds to d_normalised; returns the strip's loss.
 */
static double finish_targets(const shared_t *s) {
    const weir_loss_batch_t *batch = s->batch;
    size_t width = s->width, stride = weir_loss_stride(s->loss, width);
    double loss = 0.0;
    for (size_t t = 0; t < s->strip_tokens; t++) {
        size_t row = batch->targets[s->strip + t];
        const weir_real_t *e = s->encoded + (s->strip + t) * width;
        const weir_real_t *n = s->loss->normalised + row * stride;
        weir_real_t *d_e = s->d_encoded + (s->strip + t) * width;
        weir_real_t *d_n = s->loss->d_normalised + row * stride;
        double margin = (double)(s->loss->highest[t] - s->loss->target[t]);
        double weight =
            expm1(-margin - log((double)s->loss->sum[t])); /* softmax of the target, less 1 */
        weir_real_t factor = (weir_real_t)(weight * batch->scale / batch->temperature);
        for (size_t d = 0; d < width; d++) {
            d_e[d] = factor * n[d];
            d_n[d] += factor * e[d];
        }
        loss += margin + log((double)s->loss->sum[t]);
    }
    return loss;
}

static double run_strip(shared_t *s) {
    size_t negatives = s->negatives;
    bool kept = negatives <= TILE_NEGATIVES; /* one tile: its exponentials are still there */
    begin_strip(s);
    for (s->tile = 0; s->tile < negatives; s->tile += TILE_NEGATIVES) {
        s->tile_width = negatives - s->tile < TILE_NEGATIVES ? negatives - s->tile : TILE_NEGATIVES;
        run_negatives(s, compute_logits);
        run_tokens(s, stream_logits);
    }
    double loss = finish_targets(s);
    for (s->tile = 0; s->tile < negatives; s->tile += TILE_NEGATIVES) {
        s->tile_width = negatives - s->tile < TILE_NEGATIVES ? negatives - s->tile : TILE_NEGATIVES;
        s->exponentiated = kept;
        if (!kept) {
            run_negatives(s, compute_logits);
        }
        run_tokens(s, differentiate_tokens);
        run_negatives(s, differentiate_negatives);
    }
    return loss;
}

/* Drawn negatives get a matrix of their own, for the products; the catalogue has one. */
static void begin_items(shared_t *s) {
    weir_loss_t *loss = s->loss;
    if (s->catalogue) {
        s->stride = weir_loss_stride(loss, s->width);
        s->items = loss->normalised;
        s->d_items = loss->d_normalised;
        return;
    }
    index_negatives(loss, s->batch);
    gather_negatives(loss, s->batch);
    s->stride = s->width;
    s->items = loss->gathered;
    s->d_items = loss->d_gathered;
}

/* Each e with a 1 behind it: what a bias is multiplied by. */
static void widen(shared_t *s) {
    size_t dim = s->batch->dim;
    weir_real_t *wide = s->loss->wide;
    for (size_t t = 0; t < s->batch->tokens; t++) {
        memcpy(wide + t * s->width, s->encoded + t * dim, dim * sizeof *wide);
        wide[t * s->width + dim] = 1;
    }
    s->encoded = wide;
    s->d_encoded = s->loss->d_wide;
}

static void narrow(const shared_t *s, weir_real_t *d_encoded) {
    size_t dim = s->batch->dim;
    for (size_t t = 0; t < s->batch->tokens; t++) {
        memcpy(d_encoded + t * dim, s->d_encoded + t * s->width, dim * sizeof *d_encoded);
    }
}

static void scatter_negatives(weir_loss_t *loss, const weir_loss_batch_t *batch) {
    size_t width = weir_loss_width(batch), stride = weir_loss_stride(loss, width);
    for (size_t r = 0; r < batch->negatives; r++) {
        weir_real_t *d_n = loss->d_normalised + batch->negative_rows[r] * stride;
        for (size_t d = 0; d < width; d++) {
            d_n[d] += loss->d_gathered[r * width + d];
        }
    }
}

static weir_err_t run(shared_t *s, const weir_real_t *rows, double *loss_sum, weir_real_t *d_rows,
                      weir_error_t *error) {
    const weir_loss_batch_t *batch = s->batch;
    weir_loss_t *loss = s->loss;
    weir_real_t *d_encoded = s->d_encoded;
    double sum = 0.0;
    s->width = weir_loss_width(batch);
    weir_err_t err = weir_loss_check(batch, s->catalogue ? 0 : batch->negatives, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_workspace_begin(&loss->workspace);
    lay_out(s);
    err = weir_workspace_reserve(&loss->workspace, "the loss", error);
    if (err != WEIR_OK) {
        return err;
    }
    lay_out(s);
    weir_loss_begin(loss, batch, rows);
    begin_items(s);
    if (batch->biased) {
        widen(s);
    }
    for (s->strip = 0; s->strip < batch->tokens; s->strip += STRIP_TOKENS) {
        size_t left = batch->tokens - s->strip;
        s->strip_tokens = left < STRIP_TOKENS ? left : STRIP_TOKENS;
        sum += run_strip(s);
    }
    if (!s->catalogue) {
        scatter_negatives(loss, batch);
    }
    if (batch->biased) {
        narrow(s, d_encoded);
    }
    weir_loss_end(loss, batch, d_rows);
    *loss_sum = sum;
    return WEIR_OK;
}

weir_err_t weir_loss_shared(weir_loss_t *loss, const weir_loss_batch_t *batch,
                            const weir_real_t *encoded, const weir_real_t *rows, double *loss_sum,
                            weir_real_t *d_encoded, weir_real_t *d_rows, weir_error_t *error) {
    shared_t s = {.batch = batch,
                  .loss = loss,
                  .encoded = encoded,
                  .d_encoded = d_encoded,
                  .negatives = batch->negatives};
    return run(&s, rows, loss_sum, d_rows, error);
}

weir_err_t weir_loss_catalogue(weir_loss_t *loss, const weir_loss_batch_t *batch,
                               const weir_real_t *encoded, const weir_real_t *rows,
                               double *loss_sum, weir_real_t *d_encoded, weir_real_t *d_rows,
                               weir_error_t *error) {
    shared_t s = {.batch = batch,
                  .loss = loss,
                  .encoded = encoded,
                  .d_encoded = d_encoded,
                  .catalogue = true,
                  .negatives = batch->rows};
    return run(&s, rows, loss_sum, d_rows, error);
}
