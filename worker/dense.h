/* Dense parameters: one flat float32 buffer, the same on every worker.
 *
 * The buffer is cut into buckets, each bucket into W slices; worker w owns slice w of every bucket
 * and the AdamW state (m, v) of its slices alone. A step: as backward finishes a bucket, each
 * worker sends every other the slice that the other owns (reduce-scatter); the owner adds the W
 * slices in worker order, updates, and sends the new values to all (all-gather), as soon as they
 * are in: mostly while backward still runs, which reads the old values. So all replicas
 * are equal by construction; the barrier of each step carries a checksum of them, and a difference
 * ends the job.
 *
 * Why not MPI_Reduce_scatter: its order of additions is not ours to fix
 * (docs/design/0001-ordered-reductions.md). */
#ifndef WEIR_WORKER_DENSE_H
#define WEIR_WORKER_DENSE_H

#include "common/error.h"
#include "worker/exchange.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    double learning_rate, beta1, beta2, epsilon;
    double weight_decay; /* decoupled */
} weir_dense_options_t;

typedef struct weir_dense weir_dense_t;

WEIR_MUST_USE weir_err_t weir_dense_create(size_t elements, const weir_dense_options_t *options,
                                           weir_exchange_t *exchange /* not owned */,
                                           weir_dense_t **dense, weir_error_t *error);
void weir_dense_destroy(weir_dense_t *dense);

/* The replicated values (elements); the caller fills them before the first step. The place changes
 * in finish: what was read there before is of the step before. */
float *weir_dense_parameters(weir_dense_t *dense);
/* Where backward leaves this worker's gradients (elements). */
float *weir_dense_gradients(weir_dense_t *dense);

/* Begin step `step` (1, 2, ...: bias correction counts it): no gradient is ready. */
void weir_dense_begin(weir_dense_t *dense, uint64_t step);

/* Gradients [begin, end) are final; buckets that are complete are sent, and those whose slices of
 * all workers have come are updated and given away, as in advance. The replicated values stay as
 * they are until finish. A failure is kept and comes back from finish. Has the type of
 * weir_gradient_ready_t; `dense` is a weir_dense_t *. */
void weir_dense_ready(void *dense, size_t begin, size_t end);

/* Update and give away, without waiting, the buckets for which all slices have come, so that they
 * travel while the caller does something else. Call: local. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_dense_advance(weir_dense_t *dense, weir_error_t *error);

/* Wait for the others, update, distribute. Every gradient must have been ready.
 * Call: collective(workers). Threads: compute. */
WEIR_MUST_USE weir_err_t weir_dense_finish(weir_dense_t *dense, weir_error_t *error);

/* XXH3 of the replicated values. */
uint64_t weir_dense_checksum(const weir_dense_t *dense);

/* The whole AdamW state on worker 0: `m` and `v` (elements each; ignored elsewhere).
 * Call: collective(workers). */
WEIR_MUST_USE weir_err_t weir_dense_collect_state(weir_dense_t *dense, uint64_t step, float *m,
                                                  float *v, weir_error_t *error);

/* Take over this worker's part of a saved state. */
void weir_dense_restore_state(weir_dense_t *dense, const float *m, const float *v);

#endif
