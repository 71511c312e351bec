#include "worker/loss.h"
#include "worker/blas.h"
#include "worker/dot.h"
#include "worker/loss_internal.h"
#include "worker/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t weir_loss_stride(const weir_loss_t *loss, size_t width) {
    size_t unit = loss->kernels->lanes;
    return (width + unit - 1) / unit * unit;
}

weir_err_t weir_loss_create(weir_loss_t **loss, weir_error_t *error) {
    weir_loss_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the loss");
    }
    weir_blas_use_one_thread();
    weir_err_t err = weir_kernels_select(&created->kernels, error);
    if (err != WEIR_OK) {
        free(created);
        return err;
    }
    *loss = created;
    return WEIR_OK;
}

void weir_loss_destroy(weir_loss_t *loss) {
    if (loss == NULL) {
        return;
    }
    weir_workspace_fini(&loss->workspace);
    free(loss);
}

static weir_err_t check_rows(const uint32_t *numbers, size_t count, size_t rows, const char *what,
                             weir_error_t *error) {
    uint32_t highest = 0;
    for (size_t i = 0; i < count; i++) {
        highest = numbers[i] > highest ? numbers[i] : highest;
    }
    if (count > 0 && highest >= rows) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a %s refers to row %u of a batch with %zu rows", what, highest, rows);
    }
    return WEIR_OK;
}

weir_err_t weir_loss_check(const weir_loss_batch_t *batch, size_t negatives, weir_error_t *error) {
    size_t cells;
    if (batch->dim == 0 || batch->dim > INT32_MAX ||
        __builtin_mul_overflow(batch->rows, (batch->dim + 64) * sizeof(double), &cells) ||
        __builtin_mul_overflow(batch->tokens, batch->dim * sizeof(double), &cells) ||
        __builtin_mul_overflow(batch->tokens, batch->negatives, &cells)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a loss over %zu tokens, %zu rows and %zu negatives of width %zu is not "
                           "possible",
                           batch->tokens, batch->rows, batch->negatives, batch->dim);
    }
    if (!(batch->temperature > 0.0) || !isfinite(batch->temperature) || !isfinite(batch->scale)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "temperature %g must be a positive number and scale %g finite",
                           batch->temperature, batch->scale);
    }
    weir_err_t err = check_rows(batch->targets, batch->tokens, batch->rows, "target", error);
    if (err != WEIR_OK) {
        return err;
    }
    return check_rows(batch->negative_rows, negatives, batch->rows, "negative", error);
}

void weir_loss_lay_out(weir_loss_t *loss, const weir_loss_batch_t *batch, size_t logits) {
    weir_workspace_t *workspace = &loss->workspace;
    size_t row = weir_loss_stride(loss, weir_loss_width(batch)) * sizeof(weir_real_t);
    loss->normalised = weir_workspace_take(workspace, batch->rows, row);
    loss->d_normalised = weir_workspace_take(workspace, batch->rows, row);
    loss->inverse = weir_workspace_take(workspace, batch->rows, sizeof(weir_real_t));
    loss->logits = weir_workspace_take(workspace, logits, sizeof(weir_real_t));
}

enum { BLOCK_ROWS = 512 };

/* begin or end, of a block of rows. */
typedef struct {
    const weir_loss_t *loss;
    const weir_loss_batch_t *batch;
    const weir_real_t *rows;
    weir_real_t *d_rows;
} row_pass_t;

static void begin_block(void *argument, size_t task, uint32_t thread) {
    const row_pass_t *pass = argument;
    const weir_loss_t *loss = pass->loss;
    const weir_loss_batch_t *batch = pass->batch;
    size_t dim = batch->dim, width = weir_loss_width(batch), stride = weir_loss_stride(loss, width);
    size_t first = task * BLOCK_ROWS;
    size_t end = batch->rows - first < BLOCK_ROWS ? batch->rows : first + BLOCK_ROWS;
    (void)thread;
    memset(loss->d_normalised + first * stride, 0, (end - first) * stride * sizeof(weir_real_t));
    for (size_t row = first; row < end; row++) {
        const weir_real_t *from = pass->rows + row * width;
        weir_real_t *to = loss->normalised + row * stride;
        double norm = sqrt((double)weir_dot(from, from, dim));
        double inverse = 1.0 / fmax(norm, WEIR_LOSS_NORM_FLOOR);
        loss->inverse[row] = (weir_real_t)inverse;
        for (size_t d = 0; d < dim; d++) {
            to[d] = from[d] * (weir_real_t)inverse;
        }
        memset(to + dim, 0, (stride - dim) * sizeof(weir_real_t));
        if (batch->biased) {
            to[dim] = from[dim] * (weir_real_t)batch->temperature;
        }
    }
}

static void end_block(void *argument, size_t task, uint32_t thread) {
    const row_pass_t *pass = argument;
    const weir_loss_t *loss = pass->loss;
    const weir_loss_batch_t *batch = pass->batch;
    size_t dim = batch->dim, width = weir_loss_width(batch), stride = weir_loss_stride(loss, width);
    size_t first = task * BLOCK_ROWS;
    size_t end = batch->rows - first < BLOCK_ROWS ? batch->rows : first + BLOCK_ROWS;
    const weir_real_t floor_inverse = (weir_real_t)(1.0 / WEIR_LOSS_NORM_FLOOR);
    (void)thread;
    for (size_t row = first; row < end; row++) {
        const weir_real_t *n = loss->normalised + row * stride;
        const weir_real_t *d_n = loss->d_normalised + row * stride;
        weir_real_t *d_row = pass->d_rows + row * width, inverse = loss->inverse[row], along = 0;
        if (inverse < floor_inverse) { /* at the floor the divisor is a constant */
            along = weir_dot(n, d_n, dim);
        }
        for (size_t d = 0; d < dim; d++) {
            d_row[d] = (d_n[d] - along * n[d]) * inverse;
        }
        if (batch->biased) {
            d_row[dim] = d_n[dim] * (weir_real_t)batch->temperature;
        }
    }
}

static size_t row_blocks(const weir_loss_batch_t *batch) {
    return (batch->rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

void weir_loss_begin(weir_loss_t *loss, const weir_loss_batch_t *batch, const weir_real_t *rows) {
    row_pass_t pass = {.loss = loss, .batch = batch, .rows = rows};
    weir_parallel_run(row_blocks(batch), begin_block, &pass);
}

void weir_loss_end(const weir_loss_t *loss, const weir_loss_batch_t *batch, weir_real_t *d_rows) {
    row_pass_t pass = {.loss = loss, .batch = batch, .d_rows = d_rows};
    weir_parallel_run(row_blocks(batch), end_block, &pass);
}
