/* The page of a run: curves, evaluations, timing, checkpoints and configuration in one HTML file
 * that needs no network and no scripts. */
#ifndef WEIR_TOOLS_REPORT_PAGE_H
#define WEIR_TOOLS_REPORT_PAGE_H

#include "common/config.h"
#include "common/error.h"
#include "tools/run_metrics.h"
#include "tools/timeline.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct {
    uint64_t step, bytes;
    uint32_t ps, workers;
    bool latest, best; /* where RUN/checkpoints/latest and best point */
} weir_report_checkpoint_t;

typedef struct {
    const char *name; /* of the run; anything */
    const weir_run_metrics_t *metrics;
    const weir_config_t *config; /* NULL: not readable, as config_error says */
    const char *config_error;
    const weir_report_checkpoint_t *checkpoints; /* on disk, by step */
    size_t checkpoint_count;
    const weir_timeline_t *timeline; /* NULL: the run has none */
} weir_report_t;

/* All of the page. Write failures are left for the caller to find in `out`. Errors: MEMORY.
 * Call: local. */
WEIR_MUST_USE weir_err_t weir_report_write(FILE *out, const weir_report_t *report,
                                           weir_error_t *error);

/* What stands before and behind a page's parts: head and style; the version. Of any page. */
void weir_report_begin_page(FILE *out, const char *title);
void weir_report_end_page(FILE *out);

/* Its parts, in the order of the page. */
WEIR_MUST_USE weir_err_t weir_report_write_plots(FILE *out, const weir_run_metrics_t *metrics,
                                                 weir_error_t *error);
void weir_report_write_timeline(FILE *out, const weir_timeline_t *timeline);
void weir_report_write_evaluations(FILE *out, const weir_run_metrics_t *metrics);
void weir_report_write_checkpoints(FILE *out, const weir_report_t *report);
void weir_report_write_config(FILE *out, const weir_report_t *report);

#endif
