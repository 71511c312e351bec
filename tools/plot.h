/* Line charts as inline SVG, for a page without scripts: axes with round ticks, a legend, and
 * titles that a browser shows under the pointer. Colours are the classes s0 .. s5 of the page's
 * style (tools/report_page.c), so that light and dark are the page's business. */
#ifndef WEIR_TOOLS_PLOT_H
#define WEIR_TOOLS_PLOT_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { WEIR_PLOT_COLORS = 6, WEIR_PLOT_TICKS = 12 };

typedef struct {
    const char *name;
    const double *x, *y; /* x ascending; a point that is not finite is a gap */
    size_t count;
    unsigned color; /* below WEIR_PLOT_COLORS */
    bool dashed;
    bool dots; /* mark the points */
} weir_plot_series_t;

typedef struct {
    const char *title, *x_label;
    const weir_plot_series_t *series;
    size_t series_count;
    bool from_zero; /* y begins at zero */
    bool percent;   /* y is a fraction, shown as percents */
} weir_plot_t;

/* Write a <figure>. A plot without a single point is a figure that says so. Texts are escaped.
 * Lines of many points are thinned to the lowest and highest of each stretch, so that the page
 * stays small and no peak is lost. Errors: MEMORY. Call: local. */
WEIR_MUST_USE weir_err_t weir_plot_write(FILE *out, const weir_plot_t *plot, weir_error_t *error);

typedef struct {
    double values[WEIR_PLOT_TICKS];
    size_t count;
    double step;
} weir_plot_ticks_t;

/* At most `most` (2 .. WEIR_PLOT_TICKS) multiples of 1, 2 or 5 times a power of ten that lie in
 * low .. high; both finite. Call: local. */
weir_plot_ticks_t weir_plot_ticks(double low, double high, size_t most);

/* Text with what HTML would take for markup escaped, and control characters as spaces. */
void weir_html_text(FILE *out, const char *text);

#endif
