/* The timeline of a run, for a page and for a terminal: where the time of a step goes on each rank,
 * who waits for whom, what is hidden behind computation. */
#include "tools/plot.h"
#include "tools/report_page.h"

#include <math.h>

static bool is_shown(const weir_timeline_rank_t *rank) {
    return rank->name[0] != '\0' && rank->steps > 0;
}

static double total_of(const weir_timeline_rank_t *rank) {
    double total = 0.0;
    for (int i = 0; i < WEIR_TIMELINE_PART_COUNT; i++) {
        total += rank->parts[i];
    }
    return total;
}

/* A part that some rank has. */
static bool is_used(const weir_timeline_t *timeline, int part) {
    for (size_t r = 0; r < timeline->rank_count; r++) {
        if (is_shown(&timeline->ranks[r]) && timeline->ranks[r].parts[part] >= 0.005) {
            return true;
        }
    }
    return false;
}

static double hidden_share(const weir_timeline_hidden_t *hidden) {
    return hidden->time > 0.0 ? 1.0 - hidden->exposed / hidden->time : (double)NAN;
}

/* ---- a page ---- */

static void write_parts(FILE *out, const weir_timeline_t *timeline) {
    (void)fputs("<div class=\"card\"><table>\n<tr><th>ms a step</th><th>in all</th>", out);
    for (int i = 0; i < WEIR_TIMELINE_PART_COUNT; i++) {
        if (is_used(timeline, i)) {
            (void)fprintf(out, "<th>%s</th>", weir_timeline_part_title((weir_timeline_part_t)i));
        }
    }
    (void)fputs("</tr>\n", out);
    for (size_t r = 0; r < timeline->rank_count; r++) {
        const weir_timeline_rank_t *rank = &timeline->ranks[r];
        if (!is_shown(rank)) {
            continue;
        }
        (void)fputs("<tr><td>", out);
        weir_html_text(out, rank->name);
        (void)fprintf(out, "</td><td>%.2f</td>", total_of(rank));
        for (int i = 0; i < WEIR_TIMELINE_PART_COUNT; i++) {
            if (is_used(timeline, i)) {
                (void)fprintf(out, "<td>%.2f</td>", rank->parts[i]);
            }
        }
        (void)fputs("</tr>\n", out);
    }
    (void)fputs("</table></div>\n", out);
}

static void write_waits(FILE *out, const weir_timeline_t *timeline) {
    size_t n = timeline->rank_count;
    (void)fputs("<h3>Who waits for whom</h3>\n<div class=\"card\"><table>\n<tr><th>ms a step</th>",
                out);
    for (size_t peer = 0; peer < n; peer++) {
        if (is_shown(&timeline->ranks[peer])) {
            (void)fputs("<th>for ", out);
            weir_html_text(out, timeline->ranks[peer].name);
            (void)fputs("</th>", out);
        }
    }
    (void)fputs("</tr>\n", out);
    for (size_t r = 0; r < n; r++) {
        if (!is_shown(&timeline->ranks[r]) || !timeline->ranks[r].worker) {
            continue;
        }
        (void)fputs("<tr><td>", out);
        weir_html_text(out, timeline->ranks[r].name);
        (void)fputs("</td>", out);
        for (size_t peer = 0; peer < n; peer++) {
            if (is_shown(&timeline->ranks[peer])) {
                (void)fprintf(out, "<td>%.2f</td>", timeline->waits[r * n + peer]);
            }
        }
        (void)fputs("</tr>\n", out);
    }
    (void)fputs("</table></div>\n", out);
}

static void write_hidden_row(FILE *out, const char *name, const char *what,
                             const weir_timeline_hidden_t *hidden) {
    double share = hidden_share(hidden);
    if (isfinite(share)) {
        (void)fputs("<tr><td>", out);
        weir_html_text(out, name);
        (void)fprintf(out,
                      "</td><td class=\"split\">%s</td><td>%.2f</td><td>%.2f</td><td>%.1f%%</td>"
                      "<td>%.2f</td></tr>\n",
                      what, hidden->time, hidden->exposed, 100.0 * share,
                      hidden->waited - hidden->exposed);
    }
}

static const char what_rows[] = "rows and their gradients";
static const char what_dense[] = "sums of dense gradients";

void weir_report_write_timeline(FILE *out, const weir_timeline_t *timeline) {
    (void)fprintf(out,
                  "<h2>Timeline</h2>\n<p class=\"soft\">steps %llu to %llu, by rank; trace.json "
                  "has all of it%s</p>\n",
                  (unsigned long long)timeline->first_step,
                  (unsigned long long)(timeline->first_step + timeline->steps - 1),
                  timeline->turned_away > 0 ? "; buffers were full: the numbers are too low" : "");
    write_parts(out, timeline);
    write_waits(out, timeline);
    (void)fputs("<h3>Hidden behind computation</h3>\n<p class=\"soft\">An operation's time is that "
                "in which its frames are on their way or at a server. Waiting beyond that is for "
                "the work of others.</p>\n<div class=\"card\"><table>\n<tr><th>ms a step</th>"
                "<th class=\"split\">operation</th><th>takes</th><th>exposed</th><th>hidden</th>"
                "<th>waiting for others</th></tr>\n",
                out);
    for (size_t r = 0; r < timeline->rank_count; r++) {
        const weir_timeline_rank_t *rank = &timeline->ranks[r];
        if (is_shown(rank) && rank->worker) {
            write_hidden_row(out, rank->name, what_rows, &rank->rows);
            write_hidden_row(out, rank->name, what_dense, &rank->dense);
        }
    }
    (void)fputs("</table></div>\n", out);
}

/* ---- a terminal ---- */

static void print_hidden(FILE *out, const char *name, const char *what,
                         const weir_timeline_hidden_t *hidden) {
    double share = hidden_share(hidden);
    if (isfinite(share)) {
        (void)fprintf(
            out, "%-10s  %-24s  takes %8.2f  exposed %8.2f  hidden %5.1f%%  others %8.2f\n", name,
            what, hidden->time, hidden->exposed, 100.0 * share, hidden->waited - hidden->exposed);
    }
}

void weir_timeline_print(FILE *out, const weir_timeline_t *timeline) {
    (void)fprintf(out, "ms a step, steps %llu to %llu%s\n",
                  (unsigned long long)timeline->first_step,
                  (unsigned long long)(timeline->first_step + timeline->steps - 1),
                  timeline->turned_away > 0 ? " (buffers were full: too low)" : "");
    (void)fprintf(out, "%-12s", "");
    for (size_t r = 0; r < timeline->rank_count; r++) {
        if (is_shown(&timeline->ranks[r])) {
            (void)fprintf(out, "  %10s", timeline->ranks[r].name);
        }
    }
    for (int i = 0; i < WEIR_TIMELINE_PART_COUNT; i++) {
        if (!is_used(timeline, i)) {
            continue;
        }
        (void)fprintf(out, "\n%-12s", weir_timeline_part_title((weir_timeline_part_t)i));
        for (size_t r = 0; r < timeline->rank_count; r++) {
            if (is_shown(&timeline->ranks[r])) {
                (void)fprintf(out, "  %10.2f", timeline->ranks[r].parts[i]);
            }
        }
    }
    (void)fputc('\n', out);
    for (size_t r = 0; r < timeline->rank_count; r++) {
        const weir_timeline_rank_t *rank = &timeline->ranks[r];
        if (is_shown(rank) && rank->worker) {
            print_hidden(out, rank->name, what_rows, &rank->rows);
            print_hidden(out, rank->name, what_dense, &rank->dense);
        }
    }
}
