/* What golden_run.c and golden_evaluate.c share. */
#ifndef WEIR_TESTS_GOLDEN_INTERNAL_H
#define WEIR_TESTS_GOLDEN_INTERNAL_H

#include "tests/golden/golden_run.h"
#include "worker/kernels.h"
#include "worker/loss.h"

#ifdef WEIR_REAL_F64
#define GOLDEN_TOLERANCE 1e-9
#define GOLDEN_TRAJECTORY true
#else
#define GOLDEN_TOLERANCE 1e-4
#define GOLDEN_TRAJECTORY false /* AdamW's first step is a sign: not comparable in float32 */
#endif

#define GOLDEN_ROUNDING 1e-13 /* of a tensor's largest gradient: what is below is rounding */

/* A model at work. V = items + 1 rows of the table, row 0 unused. */
typedef struct {
    const golden_case_t *golden;
    const weir_kernels_t *kernels;
    golden_report_t *report;
    weir_encoder_t *encoder;
    weir_loss_t *loss;
    size_t dim, rows, dense; /* D, V, elements of the dense buffer */
    weir_real_t *parameters, *d_parameters, *moments1, *moments2;   /* dense */
    weir_real_t *table, *d_table, *table_moments1, *table_moments2; /* V x D */
    weir_real_t *items, *d_items, *encoded, *d_encoded;             /* T x D */
    double *expected; /* the largest of all tensors read from the file */
    bool *settled;    /* elements of a parameter that are comparable after the steps */
    bool *touched;    /* V: in the history, a target or a negative */
} golden_model_t;

/* Count and show a difference. `mask`: rows of `width` that are compared; NULL: all. */
void golden_compare(golden_report_t *report, const char *name, const weir_real_t *got,
                    const double *expected, size_t rows, size_t width, const bool *mask);

/* Encode the batch with the present parameters. */
WEIR_MUST_USE weir_err_t golden_encode(golden_model_t *model, weir_error_t *error);

/* Scores and ranks of the present parameters, which are those after the steps. */
WEIR_MUST_USE weir_err_t golden_evaluate(golden_model_t *model, weir_error_t *error);

#endif
