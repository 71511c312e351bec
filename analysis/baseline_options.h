/* The command line of `weir baseline ease|knn|markov` and of weir-baseline, which it runs; and what
 * they print. */
#ifndef WEIR_ANALYSIS_BASELINE_OPTIONS_H
#define WEIR_ANALYSIS_BASELINE_OPTIONS_H

#include "common/error.h"
#include "worker/rank.h"

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum {
    WEIR_BASELINE_EASE,
    WEIR_BASELINE_KNN,
    WEIR_BASELINE_MARKOV,
    WEIR_BASELINE_METHODS
} weir_baseline_method_t;

enum { WEIR_BASELINE_VALUES = 32, WEIR_BASELINE_WORDS = 64 };

typedef struct {
    weir_baseline_method_t method;
    const char *folder, *output;         /* output NULL: none */
    double values[WEIR_BASELINE_VALUES]; /* of the method's parameter */
    size_t value_count;                  /* 1, or more: chosen on the validation target */
    size_t max_sequence_length, block;
    int grid_rows, grid_columns; /* 0: as square as can be */
    double memory_gib;           /* of a host; 0: what it has */
    bool validation, json;
    char *words[WEIR_BASELINE_WORDS]; /* owned: the options, as they were given */
    size_t word_count;
} weir_baseline_options_t;

/* "ease"; what it is; the name of its parameter: "lambda". */
const char *weir_baseline_name(weir_baseline_method_t method);
const char *weir_baseline_summary(weir_baseline_method_t method);
const char *weir_baseline_parameter(weir_baseline_method_t method);

void weir_baseline_options_init(weir_baseline_method_t method, weir_baseline_options_t *options);
void weir_baseline_options_fini(weir_baseline_options_t *options);

/* A parser of the method's options, whose input is a weir_baseline_options_t; for use by itself or
 * as a child. It ends the process at what it does not understand, as argp does. */
const struct argp *weir_baseline_argp(weir_baseline_method_t method);

/* ---- output: the same shape as `weir eval`, so that one reader serves both ---- */

void weir_baseline_print_header(const char *name);
void weir_baseline_print_row(const char *name, const weir_metrics_t *metrics);

#endif
