#include "worker/mlp.h"

#include "common/assert.h"
#include "worker/parallel.h"
#include "worker/product.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HIDDEN_WEIGHT, HIDDEN_BIAS, OUTPUT_WEIGHT, OUTPUT_BIAS, PARAMETERS };

/* Rows of a task of forward and of the first half of backward. */
enum { BLOCK_ROWS = 256 };

size_t weir_mlp_parameter_count(const weir_mlp_t *net) {
    return net->biased ? PARAMETERS : OUTPUT_BIAS;
}

weir_parameter_t weir_mlp_parameter(const weir_mlp_t *net, const char *prefix, size_t index) {
    size_t before = weir_mlp_before(net);
    const struct {
        const char *name;
        size_t rows, cols;
        weir_init_t init;
        double scale;
    } table[PARAMETERS] = {
        {"hidden_weight", net->in, before, WEIR_INIT_XAVIER_UNIFORM, 1.0},
        {"hidden_bias", before, 1, WEIR_INIT_CONSTANT, 0.0},
        {"output_weight", net->hidden, net->out, WEIR_INIT_XAVIER_UNIFORM, 1.0},
        {"output_bias", net->out, 1, WEIR_INIT_CONSTANT, 0.0},
    };
    WEIR_ASSERT(index < weir_mlp_parameter_count(net));
    weir_parameter_t parameter = {.rows = table[index].rows,
                                  .cols = table[index].cols,
                                  .init = table[index].init,
                                  .scale = table[index].scale};
    for (size_t i = 0; i < index; i++) {
        parameter.offset += table[i].rows * table[i].cols;
    }
    (void)snprintf(parameter.name, sizeof parameter.name, "%s.%s", prefix, table[index].name);
    return parameter;
}

static size_t offset_of(const weir_mlp_t *net, size_t which) {
    size_t before = weir_mlp_before(net), weights = net->in * before;
    return which == HIDDEN_WEIGHT   ? 0
           : which == HIDDEN_BIAS   ? weights
           : which == OUTPUT_WEIGHT ? weights + before
                                    : weights + before + net->hidden * net->out;
}

size_t weir_mlp_elements(const weir_mlp_t *net) {
    return offset_of(net, OUTPUT_BIAS) + (net->biased ? net->out : 0);
}

/* ---- forward ---- */

static void set_rows(weir_real_t *to, size_t ld, size_t rows, const weir_real_t *row,
                     size_t width) {
    for (size_t i = 0; i < rows; i++) {
        if (row != NULL) {
            memcpy(to + i * ld, row, width * sizeof *row);
        } else {
            memset(to + i * ld, 0, width * sizeof *to);
        }
    }
}

void weir_mlp_forward(const weir_kernels_t *kernels, const weir_mlp_t *net,
                      const weir_real_t *parameters, const weir_mlp_rows_t *rows, weir_real_t *y,
                      size_t ldy) {
    size_t before = weir_mlp_before(net), hidden = net->hidden;
    weir_product_t first = {.m = rows->rows,
                            .n = before,
                            .k = net->in,
                            .a = rows->x,
                            .lda = rows->ldx,
                            .b = parameters,
                            .ldb = before,
                            .add = true,
                            .c = rows->before,
                            .ldc = before};
    weir_product_t second = {.m = rows->rows,
                             .n = net->out,
                             .k = hidden,
                             .a = rows->z,
                             .lda = hidden,
                             .b = parameters + offset_of(net, OUTPUT_WEIGHT),
                             .ldb = net->out,
                             .add = net->biased,
                             .c = y,
                             .ldc = ldy};
    set_rows(rows->before, before, rows->rows, parameters + offset_of(net, HIDDEN_BIAS), before);
    weir_product_run(kernels, false, &first);
    if (!net->gated) {
        kernels->silu_forward(rows->before, rows->z, rows->rows * hidden);
    }
    for (size_t i = 0; net->gated && i < rows->rows; i++) {
        const weir_real_t *gate = rows->before + i * before + hidden;
        weir_real_t *z = rows->z + i * hidden;
        kernels->silu_forward(rows->before + i * before, z, hidden);
        for (size_t h = 0; h < hidden; h++) {
            z[h] *= gate[h];
        }
    }
    if (net->biased) {
        set_rows(y, ldy, rows->rows, parameters + offset_of(net, OUTPUT_BIAS), net->out);
    }
    weir_product_run(kernels, false, &second);
}

/* ---- backward ---- */

/* d_before, and from it d_x. */
static void backward_rows(const weir_kernels_t *kernels, const weir_mlp_t *net,
                          const weir_real_t *parameters, const weir_mlp_rows_t *rows,
                          const weir_real_t *d_y, size_t ldy, weir_real_t *d_z, weir_real_t *d_x) {
    size_t before = weir_mlp_before(net), hidden = net->hidden;
    weir_product_t second = {.form_b = WEIR_BLAS_TRANSPOSED,
                             .m = rows->rows,
                             .n = hidden,
                             .k = net->out,
                             .a = d_y,
                             .lda = ldy,
                             .b = parameters + offset_of(net, OUTPUT_WEIGHT),
                             .ldb = net->out,
                             .c = d_z,
                             .ldc = hidden};
    weir_product_t first = {.form_b = WEIR_BLAS_TRANSPOSED,
                            .m = rows->rows,
                            .n = net->in,
                            .k = before,
                            .a = rows->before,
                            .lda = before,
                            .b = parameters,
                            .ldb = before,
                            .add = true,
                            .c = d_x,
                            .ldc = rows->ldx};
    weir_product_run(kernels, false, &second);
    if (!net->gated) {
        kernels->silu_backward(rows->before, d_z, rows->before, rows->rows * hidden);
    }
    for (size_t i = 0; net->gated && i < rows->rows; i++) {
        weir_real_t *a = rows->before + i * before, *b = a + hidden;
        weir_real_t *d_row = d_z + i * hidden;
        for (size_t h = 0; h < hidden; h++) { /* d_b = d_z * silu(a); z = silu(a) * b */
            weir_real_t d = d_row[h], gate = b[h];
            weir_real_t sigmoid = 1 / (1 + (weir_real_t)exp(-(double)a[h]));
            b[h] = d * a[h] * sigmoid;
            d_row[h] = d * gate;
        }
        kernels->silu_backward(a, d_row, a, hidden);
    }
    weir_product_run(kernels, false, &first);
}

static void add_columns(const weir_real_t *values, size_t ld, size_t rows, size_t width,
                        weir_real_t *sums) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t c = 0; c < width; c++) {
            sums[c] += values[i * ld + c];
        }
    }
}

/* Gradients of one of the two layers, `rows->before` holding that of before. */
static void backward_layer(const weir_kernels_t *kernels, const weir_mlp_t *net,
                           const weir_mlp_rows_t *rows, const weir_real_t *d_y, size_t ldy,
                           bool output, weir_real_t *d_parameters) {
    size_t before = weir_mlp_before(net);
    size_t width = output ? net->out : before, ld = output ? ldy : before;
    const weir_real_t *right = output ? d_y : rows->before;
    weir_product_t product = {.form_a = WEIR_BLAS_TRANSPOSED,
                              .m = output ? net->hidden : net->in,
                              .n = width,
                              .k = rows->rows,
                              .a = output ? rows->z : rows->x,
                              .lda = output ? net->hidden : rows->ldx,
                              .b = right,
                              .ldb = ld,
                              .add = true,
                              .c = d_parameters + offset_of(net, output ? OUTPUT_WEIGHT : 0),
                              .ldc = width};
    weir_product_run(kernels, false, &product);
    if (!output || net->biased) {
        add_columns(right, ld, rows->rows, width,
                    d_parameters + offset_of(net, output ? OUTPUT_BIAS : HIDDEN_BIAS));
    }
}

void weir_mlp_backward(const weir_kernels_t *kernels, const weir_mlp_t *net,
                       const weir_real_t *parameters, const weir_mlp_rows_t *rows,
                       const weir_real_t *d_y, size_t ldy, weir_real_t *d_z, weir_real_t *d_x,
                       weir_real_t *d_parameters) {
    backward_rows(kernels, net, parameters, rows, d_y, ldy, d_z, d_x);
    backward_layer(kernels, net, rows, d_y, ldy, true, d_parameters);
    backward_layer(kernels, net, rows, d_y, ldy, false, d_parameters);
}

/* ---- by all threads ---- */

typedef struct {
    const weir_kernels_t *kernels;
    const weir_mlp_t *net;
    const weir_real_t *parameters;
    const weir_mlp_rows_t *rows;
    weir_real_t *y; /* forward */
    const weir_real_t *d_y;
    size_t ldy;
    weir_real_t *d_z, *d_x, *d_parameters;
} pass_t;

static weir_mlp_rows_t block_of(const pass_t *pass, size_t task) {
    const weir_mlp_rows_t *all = pass->rows;
    size_t first = task * BLOCK_ROWS, left = all->rows - first;
    return (weir_mlp_rows_t){.rows = left < BLOCK_ROWS ? left : BLOCK_ROWS,
                             .x = all->x + first * all->ldx,
                             .ldx = all->ldx,
                             .before = all->before + first * weir_mlp_before(pass->net),
                             .z = all->z + first * pass->net->hidden};
}

static void forward_block(void *argument, size_t task, uint32_t thread) {
    const pass_t *pass = argument;
    weir_mlp_rows_t rows = block_of(pass, task);
    (void)thread;
    weir_mlp_forward(pass->kernels, pass->net, pass->parameters, &rows,
                     pass->y + task * BLOCK_ROWS * pass->ldy, pass->ldy);
}

static void backward_block(void *argument, size_t task, uint32_t thread) {
    const pass_t *pass = argument;
    weir_mlp_rows_t rows = block_of(pass, task);
    size_t first = task * BLOCK_ROWS;
    (void)thread;
    backward_rows(pass->kernels, pass->net, pass->parameters, &rows, pass->d_y + first * pass->ldy,
                  pass->ldy, pass->d_z + first * pass->net->hidden, pass->d_x + first * rows.ldx);
}

static void backward_parameters(void *argument, size_t task, uint32_t thread) {
    const pass_t *pass = argument;
    (void)thread;
    backward_layer(pass->kernels, pass->net, pass->rows, pass->d_y, pass->ldy, task == 0,
                   pass->d_parameters);
}

void weir_mlp_forward_all(const weir_kernels_t *kernels, const weir_mlp_t *net,
                          const weir_real_t *parameters, const weir_mlp_rows_t *rows,
                          weir_real_t *y, size_t ldy) {
    pass_t pass = {
        .kernels = kernels, .net = net, .parameters = parameters, .rows = rows, .y = y, .ldy = ldy};
    weir_parallel_run((rows->rows + BLOCK_ROWS - 1) / BLOCK_ROWS, forward_block, &pass);
}

void weir_mlp_backward_all(const weir_kernels_t *kernels, const weir_mlp_t *net,
                           const weir_real_t *parameters, const weir_mlp_rows_t *rows,
                           const weir_real_t *d_y, size_t ldy, weir_real_t *d_z, weir_real_t *d_x,
                           weir_real_t *d_parameters) {
    pass_t pass = {.kernels = kernels,
                   .net = net,
                   .parameters = parameters,
                   .rows = rows,
                   .d_y = d_y,
                   .ldy = ldy,
                   .d_z = d_z,
                   .d_x = d_x,
                   .d_parameters = d_parameters};
    weir_parallel_run((rows->rows + BLOCK_ROWS - 1) / BLOCK_ROWS, backward_block, &pass);
    weir_parallel_run(2, backward_parameters, &pass);
}
