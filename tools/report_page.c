#include "tools/report_page.h"

#include "common/version.h"
#include "tools/human.h"
#include "tools/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char style[] =
    ":root{color-scheme:light dark;--page:#fbfbfa;--card:#fff;--ink:#1d2126;--soft:#5d6670;"
    "--rule:#e3e5e8;--s0:#1f6fb4;--s1:#d2691e;--s2:#1a8f6a;--s3:#a4508b;--s4:#8a7a00;--s5:#555}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#15181c;--card:#1d2126;--ink:#e8eaed;"
    "--soft:#9aa4af;--rule:#343a42;--s0:#6cb4f2;--s1:#f2a65e;--s2:#56cfa4;--s3:#dc92c6;"
    "--s4:#d6c54a;--s5:#bbb}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\n"
    "main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}\n"
    "h1{font-size:26px;line-height:1.25;margin:0;overflow-wrap:anywhere}\n"
    "h2{font-size:18px;margin:38px 0 12px}h3{font-size:15px;margin:18px 0 8px}\n"
    "p{margin:6px 0}.soft,figcaption span,footer{color:var(--soft)}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;"
    "margin:22px 0}\n"
    ".tiles div,figure,.card{background:var(--card);border:1px solid var(--rule);"
    "border-radius:8px}\n"
    ".tiles div{padding:10px 14px}.tiles b{display:block;font-size:21px;"
    "font-variant-numeric:tabular-nums}\n"
    ".tiles span{color:var(--soft);font-size:13px}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));"
    "gap:14px}\n"
    "figure{margin:0;padding:14px 14px 8px;display:flex;flex-direction:column;"
    "justify-content:space-between}figure>svg{display:block;width:100%;height:auto}\n"
    "figcaption{display:flex;flex-wrap:wrap;gap:2px 14px;margin-bottom:6px;font-size:13px}\n"
    "figcaption b{font-size:15px;flex-basis:100%}\n"
    ".key{width:22px;height:8px;margin-right:5px}\n"
    ".axes text{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}\n"
    ".grid{stroke:var(--rule)}.base,.tick{stroke:var(--soft)}\n"
    ".line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}\n"
    ".dashed{stroke-dasharray:5 4}.dot{stroke:none}.none{color:var(--soft)}\n"
    ".hover rect{fill:transparent}.hover line{stroke:var(--soft);opacity:0}"
    ".hover:hover line{opacity:.7}\n"
    ".card{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}\n"
    "th,td{padding:6px 12px;text-align:right;border-bottom:1px solid var(--rule);"
    "white-space:nowrap;font-variant-numeric:tabular-nums}\n"
    "th{color:var(--soft);font-weight:500}tr:last-child td{border-bottom:0}\n"
    "th:first-child,td:first-child,.split,.text td,.text th{text-align:left}\n"
    ".text td{white-space:normal;overflow-wrap:anywhere}.changed td{font-weight:600}\n"
    "details{margin-top:12px}summary{cursor:pointer;color:var(--soft)}\n"
    "footer{margin-top:44px;font-size:13px}\n";

static void write_colors(FILE *out) {
    for (int i = 0; i < WEIR_PLOT_COLORS; i++) {
        (void)fprintf(out, ".line.s%d{stroke:var(--s%d)}.dot.s%d{fill:var(--s%d)}\n", i, i, i, i);
    }
}

/* ---- the head: what the run is and how it stands ---- */

static void write_state(FILE *out, const weir_run_metrics_t *metrics) {
    char text[32];
    if (!metrics->ended) {
        (void)fputs("running, or ended without saying so", out);
    } else if (strcmp(metrics->reason, "early_stop") == 0) {
        (void)fputs("stopped early, without further gain", out);
    } else {
        weir_html_text(out, metrics->reason);
    }
    (void)fprintf(out, " at step %s", weir_human_count(metrics->last_step, text));
    if (isfinite(metrics->total_steps)) {
        (void)fprintf(out, " of %s", weir_human_count(metrics->total_steps, text));
    }
    (void)fprintf(out, ", after %s of training", weir_human_seconds(metrics->last_t, text));
    if (metrics->started[0] != '\0') {
        (void)fputs(" begun ", out);
        weir_html_text(out, metrics->started);
    }
    if (metrics->starts > 1) {
        (void)fprintf(out, ", resumed %zu time%s", metrics->starts - 1,
                      metrics->starts > 2 ? "s" : "");
    }
}

static void write_tile(FILE *out, const char *name, const char *value) {
    (void)fputs("<div><b>", out);
    weir_html_text(out, value);
    (void)fputs("</b><span>", out);
    weir_html_text(out, name);
    (void)fputs("</span></div>\n", out);
}

static void write_count_tile(FILE *out, const char *name, double value) {
    char text[32];
    if (isfinite(value)) {
        write_tile(out, name, weir_human_count(value, text));
    }
}

/* The evaluation on the test data that counts: of the best checkpoint, else the last one. */
static const weir_run_eval_t *find_result(const weir_run_metrics_t *metrics) {
    const weir_run_eval_t *result = NULL;
    bool best = false;
    for (size_t i = 0; i < metrics->eval_count; i++) {
        const weir_run_eval_t *eval = &metrics->evals[i];
        if (eval->split == WEIR_RUN_TEST && (eval->best || !best)) {
            result = eval;
            best = eval->best;
        }
    }
    return result;
}

static int compare_reals(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* NaN where there is no interval; the median, since the first intervals are of a cold start. */
static weir_err_t find_median_speed(const weir_run_metrics_t *metrics, double *median,
                                    weir_error_t *error) {
    size_t count = 0;
    double *speeds = calloc(metrics->train_count + 1, sizeof *speeds);
    if (speeds == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a report");
    }
    for (size_t i = 0; i < metrics->train_count; i++) {
        if (isfinite(metrics->train[i].tokens_per_second)) {
            speeds[count++] = metrics->train[i].tokens_per_second;
        }
    }
    qsort(speeds, count, sizeof *speeds, compare_reals);
    *median = count > 0 ? speeds[count / 2] : (double)NAN;
    free(speeds);
    return WEIR_OK;
}

static weir_err_t write_head(FILE *out, const weir_report_t *report, weir_error_t *error) {
    static const weir_run_metric_t shown[] = {WEIR_RUN_HR_10, WEIR_RUN_NDCG_10};
    const weir_run_metrics_t *metrics = report->metrics;
    const weir_run_eval_t *result = find_result(metrics);
    char text[32], name[48];
    double speed = (double)NAN;
    weir_err_t err = find_median_speed(metrics, &speed, error);
    if (err != WEIR_OK) {
        return err;
    }
    (void)fputs("<h1>", out);
    weir_html_text(out, report->name);
    (void)fputs("</h1>\n<p class=\"soft\">", out);
    write_state(out, metrics);
    (void)fputs("</p>\n<section class=\"tiles\">\n", out);
    for (size_t i = 0; i < 2 && result != NULL; i++) {
        if (isfinite(result->values[shown[i]])) {
            (void)snprintf(text, sizeof text, "%.4f", result->values[shown[i]]);
            (void)snprintf(name, sizeof name, "%s, %s", weir_run_metric_title(shown[i]),
                           result->best ? "best" : "last");
            write_tile(out, name, text);
        }
    }
    if (metrics->train_count > 0 && isfinite(metrics->train[metrics->train_count - 1].loss)) {
        (void)snprintf(text, sizeof text, "%.4f", metrics->train[metrics->train_count - 1].loss);
        write_tile(out, "last training loss", text);
    }
    write_count_tile(out, "tokens/s, median", speed);
    write_count_tile(out, "dense parameters", metrics->parameters);
    write_count_tile(out, "workers", metrics->workers);
    write_count_tile(out, "parameter servers", metrics->ps);
    (void)fputs("</section>\n", out);
    return WEIR_OK;
}

void weir_report_begin_page(FILE *out, const char *title) {
    (void)fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                "style-src 'unsafe-inline'\">\n<title>",
                out);
    weir_html_text(out, title);
    (void)fprintf(out, " - weir</title>\n<style>\n%s", style);
    write_colors(out);
    (void)fputs("</style>\n</head>\n<body>\n<main>\n", out);
}

void weir_report_end_page(FILE *out) {
    (void)fputs("<footer>weir " WEIR_VERSION "</footer>\n</main>\n</body>\n</html>\n", out);
}

weir_err_t weir_report_write(FILE *out, const weir_report_t *report, weir_error_t *error) {
    weir_report_begin_page(out, report->name);
    weir_err_t err = write_head(out, report, error);
    if (err == WEIR_OK) {
        err = weir_report_write_plots(out, report->metrics, error);
    }
    if (err == WEIR_OK && report->timeline != NULL) {
        weir_report_write_timeline(out, report->timeline);
    }
    if (err == WEIR_OK) {
        weir_report_write_evaluations(out, report->metrics);
        weir_report_write_checkpoints(out, report);
        weir_report_write_config(out, report);
    }
    (void)fputs("<footer>weir " WEIR_VERSION, out);
    if (report->metrics->bad_lines > 0) {
        (void)fprintf(out, "; %llu of the %llu lines of metrics.jsonl were not readable",
                      (unsigned long long)report->metrics->bad_lines,
                      (unsigned long long)report->metrics->lines);
    }
    (void)fputs("</footer>\n</main>\n</body>\n</html>\n", out);
    return err;
}
