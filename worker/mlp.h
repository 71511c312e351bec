/* Two layers: y = z Wo + bo,  z = silu(x Wh + bh);  or gated, z = silu(a) * b with [a b] = x Wh +
 * bh (SwiGLU: Shazeer, "GLU variants improve transformer", 2020). bo is there where `biased`.
 *
 * Row-major, n rows; leading dimensions are the distance between rows. `parameters` and its
 * gradient are the net's own: hidden_weight, hidden_bias, output_weight, output_bias, without gaps.
 * This file is compiled for float32 and float64. */
#ifndef WEIR_WORKER_MLP_H
#define WEIR_WORKER_MLP_H

#include "common/real.h"
#include "worker/kernels.h"
#include "worker/parameter.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    size_t in, hidden, out;
    bool gated, biased;
} weir_mlp_t;

/* Rows of a net, and what backward needs of them: `before` n x weir_mlp_before(net), `z` n x
 * hidden. */
typedef struct {
    size_t rows;
    const weir_real_t *x;
    size_t ldx;
    weir_real_t *before, *z;
} weir_mlp_rows_t;

static inline size_t weir_mlp_before(const weir_mlp_t *net) {
    return net->gated ? 2 * net->hidden : net->hidden;
}

size_t weir_mlp_parameter_count(const weir_mlp_t *net);
size_t weir_mlp_elements(const weir_mlp_t *net);
/* index < parameter_count; the offset counts from the net's first; named `prefix`.hidden_weight. */
weir_parameter_t weir_mlp_parameter(const weir_mlp_t *net, const char *prefix, size_t index);

/* y: n x out, overwritten. On the calling thread alone. */
void weir_mlp_forward(const weir_kernels_t *kernels, const weir_mlp_t *net,
                      const weir_real_t *parameters, const weir_mlp_rows_t *rows, weir_real_t *y,
                      size_t ldy);
/* The same by all threads, in blocks of rows. Call: never from within a task. */
void weir_mlp_forward_all(const weir_kernels_t *kernels, const weir_mlp_t *net,
                          const weir_real_t *parameters, const weir_mlp_rows_t *rows,
                          weir_real_t *y, size_t ldy);

/* From d_y (n x out): `before` becomes its gradient, `d_z` is room for n x hidden, d_x (n x in) is
 * added to; d_parameters is added to, its sums in the order of the rows. */
void weir_mlp_backward(const weir_kernels_t *kernels, const weir_mlp_t *net,
                       const weir_real_t *parameters, const weir_mlp_rows_t *rows,
                       const weir_real_t *d_y, size_t ldy, weir_real_t *d_z, weir_real_t *d_x,
                       weir_real_t *d_parameters);
/* The same by all threads; d_x has leading dimension ldx. The same bits for any number of them. */
void weir_mlp_backward_all(const weir_kernels_t *kernels, const weir_mlp_t *net,
                           const weir_real_t *parameters, const weir_mlp_rows_t *rows,
                           const weir_real_t *d_y, size_t ldy, weir_real_t *d_z, weir_real_t *d_x,
                           weir_real_t *d_parameters);

#endif
