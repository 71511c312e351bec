#include "tools/plot.h"

#include "tools/human.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* The drawing in its own units; the page scales it. */
enum { WIDTH = 640, HEIGHT = 270, LEFT = 58, RIGHT = 18, TOP = 12, BOTTOM = 40 };
/* A line is thinned to two points for each of these stretches; so many places show their values. */
enum { STRETCHES = 400, HOVERS = 160, DOTS_MOST = 120 };

void weir_html_text(FILE *out, const char *text) {
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            (void)fputs("&amp;", out);
            break;
        case '<':
            (void)fputs("&lt;", out);
            break;
        case '>':
            (void)fputs("&gt;", out);
            break;
        case '"':
            (void)fputs("&quot;", out);
            break;
        case '\'':
            (void)fputs("&#39;", out);
            break;
        default:
            (void)fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text, out);
        }
    }
}

/* ---- scales ---- */

/* Too narrow a range to tell its numbers apart. */
static bool is_flat(double low, double high) {
    return !(high - low > 1e-9 * fmax(fabs(low), fabs(high)));
}

weir_plot_ticks_t weir_plot_ticks(double low, double high, size_t most) {
    static const double mantissas[] = {1.0, 2.0, 5.0, 10.0};
    weir_plot_ticks_t ticks = {.count = 0};
    double span = high - low;
    if (is_flat(low, high) || !isfinite(span)) {
        ticks.values[ticks.count++] = low;
        return ticks;
    }
    /* The largest count that fits: try steps from small to large. */
    double power = pow(10.0, floor(log10(span / (double)most)));
    for (size_t i = 0; i < sizeof mantissas / sizeof mantissas[0]; i++) {
        ticks.step = mantissas[i] * power;
        double first = ceil(low / ticks.step - 1e-9), last = floor(high / ticks.step + 1e-9);
        if (last - first + 1.0 > (double)most) {
            continue;
        }
        for (double k = first; k <= last && ticks.count < WEIR_PLOT_TICKS; k += 1.0) {
            ticks.values[ticks.count++] = k * ticks.step + 0.0; /* + 0.0: never -0 */
        }
        break;
    }
    return ticks;
}

typedef struct {
    const weir_plot_t *plot;
    FILE *out;
    double x_low, x_high, y_low, y_high;
    double y_step; /* between the lines of the grid */
} drawing_t;

static double place_x(const drawing_t *drawing, double x) {
    double part = (x - drawing->x_low) / (drawing->x_high - drawing->x_low);
    return LEFT + part * (WIDTH - LEFT - RIGHT);
}

static double place_y(const drawing_t *drawing, double y) {
    double part = (y - drawing->y_low) / (drawing->y_high - drawing->y_low);
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM);
}

static bool is_point(const weir_plot_series_t *series, size_t i) {
    /* Beyond this, differences would overflow. */
    return fabs(series->x[i]) < 1e300 && fabs(series->y[i]) < 1e300;
}

/* The range of all points; false: there is none. */
static bool find_range(drawing_t *drawing) {
    const weir_plot_t *plot = drawing->plot;
    bool any = false;
    for (size_t s = 0; s < plot->series_count; s++) {
        const weir_plot_series_t *series = &plot->series[s];
        for (size_t i = 0; i < series->count; i++) {
            if (!is_point(series, i)) {
                continue;
            }
            double x = series->x[i], y = series->y[i];
            drawing->x_low = any ? fmin(drawing->x_low, x) : x;
            drawing->x_high = any ? fmax(drawing->x_high, x) : x;
            drawing->y_low = any ? fmin(drawing->y_low, y) : y;
            drawing->y_high = any ? fmax(drawing->y_high, y) : y;
            any = true;
        }
    }
    return any;
}

/* Round limits around the range, so that the outermost ticks are the edges. */
static void widen_range(drawing_t *drawing) {
    if (drawing->plot->from_zero && drawing->y_high > 0.0) {
        drawing->y_low = fmin(drawing->y_low, 0.0);
    }
    if (is_flat(drawing->x_low, drawing->x_high)) {
        double margin = fmax(0.5, fabs(drawing->x_high) * 0.1);
        drawing->x_low -= margin;
        drawing->x_high += margin;
    }
    if (is_flat(drawing->y_low, drawing->y_high)) {
        double margin = drawing->y_high != 0.0 ? fabs(drawing->y_high) * 0.1 : 0.5;
        bool from_zero = drawing->plot->from_zero && drawing->y_low >= 0.0;
        drawing->y_low = from_zero ? 0.0 : drawing->y_low - margin;
        drawing->y_high += margin;
    }
    weir_plot_ticks_t ticks = weir_plot_ticks(drawing->y_low, drawing->y_high, 6);
    drawing->y_step = ticks.step;
    drawing->y_low = floor(drawing->y_low / ticks.step + 1e-9) * ticks.step;
    drawing->y_high = ceil(drawing->y_high / ticks.step - 1e-9) * ticks.step;
}

/* ---- numbers ---- */

/* A tick's number with as many decimals as its step needs. */
static void format_tick(double value, double step, bool percent, char text[32]) {
    double shown = percent ? value * 100.0 : value, by = percent ? step * 100.0 : step;
    if (fabs(shown) >= 1e6 || (by < 1e-5 && by > 0.0)) {
        (void)snprintf(text, 32, fabs(shown) >= 1e15 || by < 1e-5 ? "%.3g" : "%.4gM",
                       fabs(shown) >= 1e15 || by < 1e-5 ? shown : shown / 1e6);
    } else if (by >= 1.0 || !(by > 0.0)) {
        (void)weir_human_count(shown, text);
    } else {
        (void)snprintf(text, 32, "%.*f", (int)ceil(-log10(by) - 1e-9), shown);
    }
}

static void format_value(double value, bool percent, char text[32]) {
    if (percent) {
        (void)snprintf(text, 32, "%.1f%%", value * 100.0);
    } else if (fabs(value) >= 1000.0) {
        (void)weir_human_count(value, text);
    } else {
        (void)snprintf(text, 32, "%.4g", value);
    }
}

/* ---- drawing ---- */

static void draw_axes(const drawing_t *drawing) {
    FILE *out = drawing->out;
    char text[32];
    weir_plot_ticks_t x = weir_plot_ticks(drawing->x_low, drawing->x_high, 8);
    int lines = (int)((drawing->y_high - drawing->y_low) / drawing->y_step + 1.5); /* at most 8 */
    (void)fputs("<g class=\"axes\">\n", out);
    for (int i = 0; i < lines; i++) {
        double value = drawing->y_low + i * drawing->y_step, at;
        value = fabs(value) < drawing->y_step * 1e-6 ? 0.0 : value;
        at = place_y(drawing, value);
        format_tick(value, drawing->y_step, drawing->plot->percent, text);
        (void)fprintf(out,
                      "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>"
                      "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s%s</text>\n",
                      LEFT, at, WIDTH - RIGHT, at, LEFT - 8, at + 4.0, text,
                      drawing->plot->percent ? "%" : "");
    }
    for (size_t i = 0; i < x.count; i++) {
        double at = place_x(drawing, x.values[i]);
        format_tick(x.values[i], x.step, false, text);
        (void)fprintf(out,
                      "<line class=\"tick\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>"
                      "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                      at, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 5, at, HEIGHT - BOTTOM + 18, text);
    }
    (void)fprintf(out, "<line class=\"base\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n", LEFT,
                  HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM);
    (void)fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">",
                  LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 5);
    weir_html_text(out, drawing->plot->x_label);
    (void)fputs("</text>\n</g>\n", out);
}

static void draw_point(const drawing_t *drawing, const weir_plot_series_t *series, size_t i,
                       bool *pen_down) {
    (void)fprintf(drawing->out, "%c%.1f %.1f", *pen_down ? 'L' : 'M',
                  place_x(drawing, series->x[i]), place_y(drawing, series->y[i]));
    *pen_down = true;
}

/* The points [begin, end) as the first lowest and highest among them, in their order. */
static void draw_stretch(const drawing_t *drawing, const weir_plot_series_t *series, size_t begin,
                         size_t end, bool *pen_down) {
    size_t low = end, high = end;
    for (size_t i = begin; i < end; i++) {
        if (!is_point(series, i)) {
            continue;
        }
        low = low == end || series->y[i] < series->y[low] ? i : low;
        high = high == end || series->y[i] > series->y[high] ? i : high;
    }
    if (low == end) { /* nothing but gaps */
        *pen_down = false;
        return;
    }
    draw_point(drawing, series, low < high ? low : high, pen_down);
    if (low != high) {
        draw_point(drawing, series, low < high ? high : low, pen_down);
    }
}

static void draw_series(const drawing_t *drawing, const weir_plot_series_t *series) {
    bool pen_down = false;
    size_t stretches = series->count > 2 * STRETCHES ? STRETCHES : series->count;
    (void)fprintf(drawing->out, "<path class=\"line s%u%s\" d=\"", series->color,
                  series->dashed ? " dashed" : "");
    for (size_t i = 0; i < stretches; i++) {
        size_t begin = (size_t)((double)series->count * (double)i / (double)stretches);
        size_t end = (size_t)((double)series->count * (double)(i + 1) / (double)stretches);
        draw_stretch(drawing, series, begin, end, &pen_down);
    }
    (void)fputs("\"/>\n", drawing->out);
    if (series->dots && series->count <= DOTS_MOST) {
        for (size_t i = 0; i < series->count; i++) {
            if (is_point(series, i)) {
                (void)fprintf(
                    drawing->out, "<circle class=\"dot s%u\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\"/>\n",
                    series->color, place_x(drawing, series->x[i]), place_y(drawing, series->y[i]));
            }
        }
    }
}

/* The point of a series nearest to x; `count` where it has none. */
static size_t find_nearest(const weir_plot_series_t *series, double x) {
    size_t begin = 0, end = series->count;
    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;
        if (series->x[middle] < x) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    size_t nearest = begin < series->count ? begin : series->count - 1;
    if (begin > 0 && begin < series->count && x - series->x[begin - 1] < series->x[begin] - x) {
        nearest = begin - 1;
    }
    return series->count > 0 && is_point(series, nearest) ? nearest : series->count;
}

/* One strip of the plot: under the pointer a line stands at x, with the values there. */
static void draw_hover(const drawing_t *drawing, double x, double left, double right) {
    const weir_plot_t *plot = drawing->plot;
    char text[32];
    double at = place_x(drawing, x);
    (void)fprintf(drawing->out,
                  "<g class=\"hover\"><rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>"
                  "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/><title>",
                  left, TOP, fmax(right - left, 0.1), HEIGHT - TOP - BOTTOM, at, TOP, at,
                  HEIGHT - BOTTOM);
    weir_html_text(drawing->out, plot->x_label);
    (void)fprintf(drawing->out, " %.6g", x);
    for (size_t s = 0; s < plot->series_count; s++) {
        const weir_plot_series_t *series = &plot->series[s];
        size_t i = find_nearest(series, x);
        if (i < series->count) {
            (void)fputc('\n', drawing->out);
            weir_html_text(drawing->out, series->name);
            format_value(series->y[i], plot->percent, text);
            (void)fprintf(drawing->out, ": %s", text);
        }
    }
    (void)fputs("</title></g>\n", drawing->out);
}

/* Strips around the points of the longest series, thinned. */
static weir_err_t draw_hovers(const drawing_t *drawing, weir_error_t *error) {
    const weir_plot_series_t *longest = &drawing->plot->series[0];
    for (size_t s = 1; s < drawing->plot->series_count; s++) {
        const weir_plot_series_t *series = &drawing->plot->series[s];
        longest = series->count > longest->count ? series : longest;
    }
    size_t strips = longest->count < HOVERS ? longest->count : HOVERS, count = 0;
    double *places = calloc(strips + 1, sizeof *places);
    if (places == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a plot");
    }
    for (size_t i = 0; i < strips; i++) {
        size_t at = (size_t)((double)longest->count * ((double)i + 0.5) / (double)strips);
        if (is_point(longest, at)) {
            places[count++] = longest->x[at];
        }
    }
    for (size_t i = 0; i < count; i++) {
        double left = i == 0 ? (double)LEFT : place_x(drawing, (places[i - 1] + places[i]) / 2.0);
        double right = i + 1 == count ? (double)(WIDTH - RIGHT)
                                      : place_x(drawing, (places[i] + places[i + 1]) / 2.0);
        draw_hover(drawing, places[i], left, right);
    }
    free(places);
    return WEIR_OK;
}

static void draw_caption(FILE *out, const weir_plot_t *plot) {
    (void)fputs("<figcaption><b>", out);
    weir_html_text(out, plot->title);
    (void)fputs("</b>", out);
    for (size_t s = 0; s < plot->series_count && plot->series_count > 1; s++) {
        const weir_plot_series_t *series = &plot->series[s];
        (void)fprintf(out,
                      "<span><svg class=\"key\" viewBox=\"0 0 22 8\"><path class=\"line s%u%s\" "
                      "d=\"M1 4L21 4\"/></svg>",
                      series->color, series->dashed ? " dashed" : "");
        weir_html_text(out, series->name);
        (void)fputs("</span>", out);
    }
    (void)fputs("</figcaption>\n", out);
}

weir_err_t weir_plot_write(FILE *out, const weir_plot_t *plot, weir_error_t *error) {
    drawing_t drawing = {.plot = plot, .out = out};
    weir_err_t err = WEIR_OK;
    (void)fputs("<figure>\n", out);
    draw_caption(out, plot);
    if (find_range(&drawing)) {
        widen_range(&drawing);
        (void)fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
        weir_html_text(out, plot->title);
        (void)fputs("\">\n", out);
        draw_axes(&drawing);
        for (size_t s = 0; s < plot->series_count; s++) {
            draw_series(&drawing, &plot->series[s]);
        }
        err = draw_hovers(&drawing, error);
        (void)fputs("</svg>\n", out);
    } else {
        (void)fputs("<p class=\"none\">no values</p>\n", out);
    }
    (void)fputs("</figure>\n", out);
    return err;
}
