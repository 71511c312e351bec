/* One golden file through the code under test: encode, loss, gradients, AdamW, ranking; each
 * compared with what the file says. */
#ifndef WEIR_TESTS_GOLDEN_RUN_H
#define WEIR_TESTS_GOLDEN_RUN_H

#include "tests/golden/golden_case.h"

#include <stdbool.h>
#include <stddef.h>

/* The error of a tensor is max |got - expected| / max |expected|: the largest error anywhere
 * against the largest value anywhere in this one tensor. A tensor expected to be all zero must be
 * all zero. */
typedef struct {
    double tolerance; /* of a tensor's error */
    size_t compared;  /* tensors */
    size_t failed;
    double worst;         /* error of all tensors compared */
    char worst_name[128]; /* where */
} golden_report_t;

/* Errors are those of the file or of a call that failed; a difference is counted in `report`. */
WEIR_MUST_USE weir_err_t golden_run(const golden_case_t *golden, golden_report_t *report,
                                    weir_error_t *error);

/* A file of model "stu_layer", the production layer: attention, output and all gradients. */
WEIR_MUST_USE weir_err_t golden_run_stu(const weir_tensor_file_t *file, bool bf16,
                                        golden_report_t *report, weir_error_t *error);

#endif
