/* Worker 0's part of a checkpoint, done by a thread while training goes on: it asks the
 * coordinator, is told where, writes the dense files and waits for publication. */
#ifndef WEIR_WORKER_SAVER_H
#define WEIR_WORKER_SAVER_H

#include "proto/control_client.h"
#include "worker/dense_file.h"

#include <stdbool.h>

typedef struct weir_saver weir_saver_t;

typedef struct {
    weir_control_client_t *control; /* not owned */
    const weir_parameters_t *model; /* copied */
    const float *parameters;        /* copied */
    float *m, *v;                   /* taken over, also on failure; from malloc */
    weir_trainer_state_t state;
    uint64_t epoch;
    bool best;
    const char *metrics; /* of the evaluation at this step, JSON, or empty; copied */
    double timeout;      /* seconds that publication may take, and to be told where */
} weir_saver_options_t;

/* The servers have cut after state.step. Call: local. */
WEIR_MUST_USE weir_err_t weir_saver_begin(const weir_saver_options_t *options, weir_saver_t **saver,
                                          weir_error_t *error);

/* Whether it has ended; then *saved: the checkpoint is published. Call: local. Threads: any. */
bool weir_saver_has_ended(const weir_saver_t *saver, bool *saved);

typedef struct {
    uint64_t step;
    bool best;
    double seconds; /* from begin to publication */
} weir_saver_result_t;

/* Of one that has ended. Call: local. */
weir_saver_result_t weir_saver_result(const weir_saver_t *saver);

/* Wait for the end and free it. Errors: why it was not saved. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_saver_finish(weir_saver_t *saver, weir_saver_result_t *result,
                                           weir_error_t *error);

#endif
