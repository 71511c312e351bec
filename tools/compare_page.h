/* Several runs beside each other: a page with their curves, and the table of their results as HTML,
 * Markdown and JSON. */
#ifndef WEIR_TOOLS_COMPARE_PAGE_H
#define WEIR_TOOLS_COMPARE_PAGE_H

#include "common/config.h"
#include "common/error.h"
#include "tools/run_metrics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct {
    char name[128];  /* of the configuration or the run's folder */
    char path[1024]; /* of the run */
    weir_run_metrics_t metrics;
    bool configured; /* config is that of the run */
    weir_config_t config;
} weir_compare_run_t;

/* The evaluation on the test data that stands for a run: where a validation split chose the epoch,
 * that of its best epoch; else the last. NULL: the run has none. Call: local. */
const weir_run_eval_t *weir_compare_result(const weir_run_metrics_t *metrics);

/* All of the page; the table alone; the same as JSON, with the curves. Write failures are left for
 * the caller to find in `out`. Errors: MEMORY. Call: local. */
WEIR_MUST_USE weir_err_t weir_compare_write_page(FILE *out, const weir_compare_run_t *runs,
                                                 size_t count, weir_error_t *error);
void weir_compare_write_markdown(FILE *out, const weir_compare_run_t *runs, size_t count);
WEIR_MUST_USE weir_err_t weir_compare_write_json(FILE *out, const weir_compare_run_t *runs,
                                                 size_t count, weir_error_t *error);

#endif
