/* The tables of a report: evaluations, checkpoints, configuration. */
#include "tools/report_page.h"

#include "tools/human.h"
#include "tools/plot.h"

#include <math.h>
#include <string.h>

/* Evaluations listed in full; a run of more has its curves. */
enum { EVALUATIONS_MOST = 1000 };

/* A number that may be missing. */
static void write_real(FILE *out, double value, int decimals) {
    if (isfinite(value)) {
        (void)fprintf(out, "<td>%.*f</td>", decimals, value);
    } else {
        (void)fputs("<td>-</td>", out);
    }
}

static void write_count(FILE *out, double value) {
    char text[32];
    (void)fprintf(out, "<td>%s</td>", isfinite(value) ? weir_human_count(value, text) : "-");
}

/* ---- evaluations ---- */

static void write_evaluation_header(FILE *out) {
    (void)fputs(
        "<div class=\"card\"><table>\n<tr><th></th><th class=\"split\">split</th><th>step</th>"
        "<th>epoch</th>",
        out);
    for (int i = 0; i < WEIR_RUN_METRIC_COUNT; i++) {
        (void)fprintf(out, "<th>%s</th>", weir_run_metric_title((weir_run_metric_t)i));
    }
    (void)fputs("<th>users</th><th>seconds</th></tr>\n", out);
}

static void write_evaluation(FILE *out, const char *label, const weir_run_eval_t *eval) {
    (void)fprintf(out, "<tr><td>%s</td><td class=\"split\">", label);
    if (isfinite(eval->window)) {
        (void)fprintf(out, "window %.0f</td>", eval->window);
    } else {
        (void)fprintf(out, "%s</td>", weir_run_split_title(eval->split));
    }
    write_count(out, eval->step);
    write_real(out, eval->epoch, 2);
    for (size_t i = 0; i < WEIR_RUN_METRIC_COUNT; i++) {
        write_real(out, eval->values[i], 4);
    }
    write_count(out, eval->users);
    write_real(out, eval->seconds, 2);
    (void)fputs("</tr>\n", out);
}

/* The evaluations of the step at which `which` was made: one a split. */
static void write_step(FILE *out, const weir_run_metrics_t *metrics, const char *label,
                       const weir_run_eval_t *which) {
    for (size_t i = 0; i < metrics->eval_count; i++) {
        if (metrics->evals[i].step == which->step) {
            write_evaluation(out, label, &metrics->evals[i]);
        }
    }
}

void weir_report_write_evaluations(FILE *out, const weir_run_metrics_t *metrics) {
    const weir_run_eval_t *best = NULL;
    size_t count = metrics->eval_count;
    (void)fputs("<h2>Evaluation</h2>\n", out);
    if (count == 0) {
        (void)fputs("<p class=\"none\">not evaluated yet</p>\n", out);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        best = metrics->evals[i].best ? &metrics->evals[i] : best;
    }
    const weir_run_eval_t *last = &metrics->evals[count - 1];
    write_evaluation_header(out);
    if (best != NULL) {
        write_step(out, metrics, best->step == last->step ? "best and last" : "best", best);
    }
    if (best == NULL || best->step != last->step) {
        write_step(out, metrics, "last", last);
    }
    (void)fprintf(out, "</table></div>\n<details><summary>all %zu evaluations</summary>\n", count);
    write_evaluation_header(out);
    for (size_t i = count > EVALUATIONS_MOST ? count - EVALUATIONS_MOST : 0; i < count; i++) {
        write_evaluation(out, metrics->evals[i].best ? "best so far" : "", &metrics->evals[i]);
    }
    (void)fputs("</table></div></details>\n", out);
}

/* ---- checkpoints ---- */

/* What the run said of the checkpoint of a step; NULL where it said nothing. */
static const weir_run_checkpoint_t *find_line(const weir_run_metrics_t *metrics, uint64_t step) {
    for (size_t i = metrics->checkpoint_count; i-- > 0;) {
        if (metrics->checkpoints[i].step == (double)step) {
            return &metrics->checkpoints[i];
        }
    }
    return NULL;
}

void weir_report_write_checkpoints(FILE *out, const weir_report_t *report) {
    const weir_run_metrics_t *metrics = report->metrics;
    (void)fprintf(out, "<h2>Checkpoints</h2>\n<p class=\"soft\">%zu written, %zu on disk</p>\n",
                  metrics->checkpoint_count, report->checkpoint_count);
    if (report->checkpoint_count == 0) {
        return;
    }
    (void)fputs("<div class=\"card\"><table>\n<tr><th></th><th>step</th><th>epoch</th>"
                "<th>size</th><th>servers</th><th>workers</th><th>at</th>"
                "<th>seconds to write</th></tr>\n",
                out);
    for (size_t i = 0; i < report->checkpoint_count; i++) {
        const weir_report_checkpoint_t *checkpoint = &report->checkpoints[i];
        const weir_run_checkpoint_t *line = find_line(metrics, checkpoint->step);
        char text[32];
        (void)fprintf(out, "<tr><td>%s%s%s</td>", checkpoint->best ? "best" : "",
                      checkpoint->best && checkpoint->latest ? ", " : "",
                      checkpoint->latest ? "latest" : "");
        write_count(out, (double)checkpoint->step);
        write_real(out, (double)checkpoint->step / metrics->steps_per_epoch, 2);
        (void)fprintf(out, "<td>%s</td>", weir_human_bytes((double)checkpoint->bytes, text));
        write_count(out, checkpoint->ps);
        write_count(out, checkpoint->workers);
        (void)fprintf(out, "<td>%s</td>",
                      line != NULL && isfinite(line->t) ? weir_human_seconds(line->t, text) : "-");
        write_real(out, line != NULL ? line->seconds : (double)NAN, 2);
        (void)fputs("</tr>\n", out);
    }
    (void)fputs("</table></div>\n", out);
}

/* ---- configuration ---- */

/* `strong`: make it stand out. */
static void write_setting(FILE *out, bool strong, const char *key, const char *value,
                          const char *initial) {
    (void)fprintf(out, "<tr%s><td>%s</td><td>", strong ? " class=\"changed\"" : "", key);
    weir_html_text(out, value);
    (void)fputs("</td><td>", out);
    weir_html_text(out, initial);
    (void)fputs("</td></tr>\n", out);
}

/* Keys that differ from their defaults, or all. */
static void write_settings(FILE *out, const weir_config_t *config, bool all) {
    weir_config_t defaults;
    const char *key;
    weir_config_defaults(&defaults);
    (void)fputs("<div class=\"card\"><table class=\"text\">\n"
                "<tr><th>key</th><th>value</th><th>default</th></tr>\n",
                out);
    for (size_t i = 0; (key = weir_config_key_name(i)) != NULL; i++) {
        char value[WEIR_CONFIG_TEXT], initial[WEIR_CONFIG_TEXT];
        (void)weir_config_get_text(config, key, value, sizeof value);
        (void)weir_config_get_text(&defaults, key, initial, sizeof initial);
        bool changed = strcmp(value, initial) != 0;
        if (all || changed) {
            write_setting(out, all && changed, key, value, initial);
        }
    }
    (void)fputs("</table></div>\n", out);
}

void weir_report_write_config(FILE *out, const weir_report_t *report) {
    (void)fputs("<h2>Configuration</h2>\n", out);
    if (report->config == NULL) {
        (void)fputs("<p class=\"none\">", out);
        weir_html_text(out, report->config_error);
        (void)fputs("</p>\n", out);
        return;
    }
    (void)fputs("<p class=\"soft\">where it differs from the defaults</p>\n", out);
    write_settings(out, report->config, false);
    (void)fputs("<details><summary>all keys</summary>\n", out);
    write_settings(out, report->config, true);
    (void)fputs("</details>\n", out);
}
