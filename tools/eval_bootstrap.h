/* Intervals of metrics of ranks, for `weir eval --bootstrap`. */
#ifndef WEIR_TOOLS_EVAL_BOOTSTRAP_H
#define WEIR_TOOLS_EVAL_BOOTSTRAP_H

#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A whole number from `least` to `most`, and nothing else; false: it is none. */
bool weir_eval_parse_whole(const char *text, uint64_t least, uint64_t most, uint64_t *number);

/* From the users' results that the job left in `run`: "intervals" into `metrics`, of the test. */
WEIR_MUST_USE weir_err_t weir_eval_bootstrap(const char *run, size_t samples, uint64_t seed,
                                             json_t *metrics, weir_error_t *error);

/* Nothing where there are none. */
void weir_eval_print_intervals(const char *split, const json_t *metrics);

#endif
