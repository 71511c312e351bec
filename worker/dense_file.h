/* What worker 0 puts into a checkpoint (docs/files/checkpoint.md):
 * dense.safetensors, one F32 tensor a dense parameter by its name; trainer.safetensors, the AdamW
 * state as "m/NAME" and "v/NAME", and in its metadata where the run stands. */
#ifndef WEIR_WORKER_DENSE_FILE_H
#define WEIR_WORKER_DENSE_FILE_H

#include "common/checkpoint.h"
#include "common/error.h"
#include "worker/parameter.h"

#include <stdint.h>

/* Where a run stands. All random numbers are functions of the step: there is no other state. */
typedef struct {
    uint64_t step;      /* steps done */
    uint64_t best_step; /* of the best evaluation; 0: none yet */
    double best_value;  /* of eval.metric there */
    char best_of[48];   /* which values best_value compares with: "validation ndcg@10" */
    uint64_t evaluations_since_best;
    double seconds; /* of training */
    uint64_t dataset_digest;
} weir_trainer_state_t;

enum { WEIR_DENSE_FILES = 2 };

/* Write both files into `folder`; values, m, v are flat buffers of
 * parameters->elements. A value that is not finite is refused by name: load would not
 * take it back. */
WEIR_MUST_USE weir_err_t weir_dense_file_write(const char *folder,
                                               const weir_parameters_t *parameters,
                                               const float *values, const float *m, const float *v,
                                               const weir_trainer_state_t *state,
                                               weir_checkpoint_file_t files[WEIR_DENSE_FILES],
                                               weir_error_t *error);

/* Read them back. A tensor that is missing, of another shape, or not finite is refused by name; the
 * buffers hold anything then, `state` is untouched. */
WEIR_MUST_USE weir_err_t weir_dense_file_load(const char *folder,
                                              const weir_parameters_t *parameters, float *values,
                                              float *m, float *v, weir_trainer_state_t *state,
                                              weir_error_t *error);

#endif
