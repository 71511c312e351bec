#include "tools/progress.h"

#include "common/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { BAR = 24 };
static const double redraw_seconds = 0.1, line_seconds = 5.0;

void weir_progress_begin(weir_progress_t *progress, const char *what, const char *unit,
                         uint64_t total) {
    double now = weir_clock_seconds();
    *progress = (weir_progress_t){.what = what,
                                  .unit = unit,
                                  .total = total,
                                  .started = now,
                                  .last = now,
                                  .terminal = isatty(STDERR_FILENO) == 1};
}

static void format_rate(char *out, size_t capacity, double rate) {
    if (rate >= 1e6) {
        (void)snprintf(out, capacity, "%.1f M", rate * 1e-6);
    } else if (rate >= 1e3) {
        (void)snprintf(out, capacity, "%.0f k", rate * 1e-3);
    } else {
        (void)snprintf(out, capacity, "%.0f", rate);
    }
}

void weir_progress_update(weir_progress_t *progress, uint64_t done, uint64_t units) {
    double now = weir_clock_seconds();
    if (now - progress->last < (progress->terminal ? redraw_seconds : line_seconds)) {
        return;
    }
    progress->last = now;
    char rate[32], share[64] = "";
    double elapsed = now - progress->started;
    format_rate(rate, sizeof rate, elapsed > 0 ? (double)units / elapsed : 0);
    double fraction = progress->total > 0 ? (double)done / (double)progress->total : 0;
    fraction = fraction > 1 ? 1 : fraction;
    if (progress->total > 0 && fraction > 0) {
        (void)snprintf(share, sizeof share, " %3.0f%%, %.0f s left", 100 * fraction,
                       elapsed / fraction - elapsed);
    }
    if (!progress->terminal) {
        (void)fprintf(stderr, "%s: %" PRIu64 " %s, %s/s%s\n", progress->what, units, progress->unit,
                      rate, share);
        return;
    }
    char bar[BAR + 3] = "";
    if (progress->total > 0) {
        int filled = (int)(fraction * BAR);
        bar[0] = '[';
        for (int i = 0; i < BAR; i++) {
            bar[i + 1] = i < filled ? '#' : '.';
        }
        bar[BAR + 1] = ']';
    }
    (void)fprintf(stderr, "\r\033[K%s %s %" PRIu64 " %s, %s/s%s", progress->what, bar, units,
                  progress->unit, rate, share);
    (void)fflush(stderr);
    progress->drawn = true;
}

void weir_progress_clear(weir_progress_t *progress) {
    if (progress->drawn) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
        progress->drawn = false;
    }
}
