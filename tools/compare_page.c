#include "tools/compare_page.h"

#include "tools/human.h"
#include "tools/plot.h"
#include "tools/report_page.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const weir_run_metric_t shown[] = {WEIR_RUN_HR_10,   WEIR_RUN_NDCG_10, WEIR_RUN_HR_50,
                                          WEIR_RUN_NDCG_50, WEIR_RUN_HR_200,  WEIR_RUN_NDCG_200,
                                          WEIR_RUN_MRR};
enum { SHOWN = sizeof shown / sizeof shown[0] };

const weir_run_eval_t *weir_compare_result(const weir_run_metrics_t *metrics) {
    const weir_run_eval_t *last = NULL, *chosen = NULL;
    double best_step = (double)NAN;
    for (size_t i = 0; i < metrics->eval_count; i++) {
        const weir_run_eval_t *eval = &metrics->evals[i];
        if (eval->split == WEIR_RUN_VALIDATION && eval->best) {
            best_step = eval->step;
        }
    }
    for (size_t i = 0; i < metrics->eval_count; i++) {
        const weir_run_eval_t *eval = &metrics->evals[i];
        if (eval->split == WEIR_RUN_TEST) {
            last = eval;
            chosen = eval->step == best_step ? eval : chosen;
        }
    }
    return chosen != NULL ? chosen : last;
}

static void name_kind(const weir_compare_run_t *run, char *kind, size_t capacity) {
    if (!run->configured || !weir_config_get_text(&run->config, "model.kind", kind, capacity)) {
        (void)snprintf(kind, capacity, "-");
    }
}

static double last_loss(const weir_run_metrics_t *metrics) {
    return metrics->train_count > 0 ? metrics->train[metrics->train_count - 1].loss : (double)NAN;
}

/* ---- the table ---- */

static void write_row(FILE *out, const weir_compare_run_t *run) {
    const weir_run_eval_t *result = weir_compare_result(&run->metrics);
    char text[64];
    name_kind(run, text, sizeof text);
    (void)fputs("<tr><td>", out);
    weir_html_text(out, run->name);
    (void)fputs("</td><td class=\"split\">", out);
    weir_html_text(out, text);
    (void)fprintf(out, "</td><td>%s</td>", weir_human_count(run->metrics.parameters, text));
    if (result == NULL) {
        (void)fputs("<td>-</td>", out);
    } else {
        (void)fprintf(out, "<td>%.1f</td>", result->epoch);
    }
    for (size_t i = 0; i < SHOWN; i++) {
        if (result != NULL && isfinite(result->values[shown[i]])) {
            (void)fprintf(out, "<td>%.4f</td>", result->values[shown[i]]);
        } else {
            (void)fputs("<td>-</td>", out);
        }
    }
    (void)fprintf(out, "<td>%.4f</td><td>%s</td></tr>\n", last_loss(&run->metrics),
                  weir_human_seconds(run->metrics.last_t, text));
}

static void write_table(FILE *out, const weir_compare_run_t *runs, size_t count) {
    (void)fputs("<div class=\"card\"><table>\n<tr><th>run</th><th class=\"split\">kind</th>"
                "<th>dense parameters</th><th>epoch</th>",
                out);
    for (size_t i = 0; i < SHOWN; i++) {
        (void)fprintf(out, "<th>%s</th>", weir_run_metric_title(shown[i]));
    }
    (void)fputs("<th>last loss</th><th>training</th></tr>\n", out);
    for (size_t r = 0; r < count; r++) {
        write_row(out, &runs[r]);
    }
    (void)fputs("</table></div>\n", out);
}

void weir_compare_write_markdown(FILE *out, const weir_compare_run_t *runs, size_t count) {
    char kind[64];
    (void)fputs("| run | kind | epoch |", out);
    for (size_t i = 0; i < SHOWN; i++) {
        (void)fprintf(out, " %s |", weir_run_metric_title(shown[i]));
    }
    (void)fputs("\n|---|---|---|", out);
    for (size_t i = 0; i < SHOWN; i++) {
        (void)fputs("---|", out);
    }
    for (size_t r = 0; r < count; r++) {
        const weir_run_eval_t *result = weir_compare_result(&runs[r].metrics);
        name_kind(&runs[r], kind, sizeof kind);
        (void)fprintf(out, "\n| %s | %s |", runs[r].name, kind);
        if (result == NULL) {
            (void)fputs(" - |", out);
        } else {
            (void)fprintf(out, " %.1f |", result->epoch);
        }
        for (size_t i = 0; i < SHOWN; i++) {
            if (result != NULL && isfinite(result->values[shown[i]])) {
                (void)fprintf(out, " %.4f |", result->values[shown[i]]);
            } else {
                (void)fputs(" - |", out);
            }
        }
    }
    (void)fputc('\n', out);
}

/* ---- the curves ---- */

/* What a curve is of: a metric of the test split, or the training loss. */
typedef struct {
    const char *title;
    bool loss;
    weir_run_metric_t metric;
} curve_t;

static size_t fill_curve(const weir_run_metrics_t *metrics, const curve_t *curve, double *x,
                         double *y) {
    size_t count = 0;
    if (curve->loss) {
        for (; count < metrics->train_count; count++) {
            x[count] = metrics->train[count].epoch;
            y[count] = metrics->train[count].loss;
        }
        return count;
    }
    for (size_t i = 0; i < metrics->eval_count; i++) {
        if (metrics->evals[i].split == WEIR_RUN_TEST) {
            x[count] = metrics->evals[i].epoch;
            y[count++] = metrics->evals[i].values[curve->metric];
        }
    }
    return count;
}

static weir_err_t write_plot(FILE *out, const curve_t *curve, const weir_compare_run_t *runs,
                             size_t count, weir_error_t *error) {
    size_t points = 1, used = 0;
    for (size_t r = 0; r < count; r++) {
        points += runs[r].metrics.train_count + runs[r].metrics.eval_count;
    }
    double *x = calloc(points, sizeof *x), *y = calloc(points, sizeof *y);
    weir_plot_series_t *series = calloc(count, sizeof *series);
    weir_err_t err = WEIR_OK;
    if (x == NULL || y == NULL || series == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a plot");
    }
    for (size_t r = 0; r < count && err == WEIR_OK; r++) {
        series[r] = (weir_plot_series_t){.name = runs[r].name,
                                         .x = x + used,
                                         .y = y + used,
                                         .color = (unsigned)(r % WEIR_PLOT_COLORS),
                                         .dashed = r / WEIR_PLOT_COLORS % 2 == 1,
                                         .dots = !curve->loss};
        series[r].count = fill_curve(&runs[r].metrics, curve, x + used, y + used);
        used += series[r].count;
    }
    if (err == WEIR_OK) {
        const weir_plot_t plot = {
            .title = curve->title, .x_label = "epoch", .series = series, .series_count = count};
        err = weir_plot_write(out, &plot, error);
    }
    free(x);
    free(y);
    free(series);
    return err;
}

weir_err_t weir_compare_write_page(FILE *out, const weir_compare_run_t *runs, size_t count,
                                   weir_error_t *error) {
    static const curve_t curves[] = {{.title = "NDCG@10, test", .metric = WEIR_RUN_NDCG_10},
                                     {.title = "HR@10, test", .metric = WEIR_RUN_HR_10},
                                     {.title = "Training loss", .loss = true}};
    weir_err_t err = WEIR_OK;
    char title[64];
    (void)snprintf(title, sizeof title, "%zu runs compared", count);
    weir_report_begin_page(out, title);
    (void)fprintf(out, "<h1>%s</h1>\n", title);
    (void)fputs("<p class=\"soft\">On the test split: of the epoch that validation chose where a "
                "run has one, else the last.</p>\n<h2>Results</h2>\n",
                out);
    write_table(out, runs, count);
    (void)fputs("<h2>Curves</h2>\n<section class=\"plots\">\n", out);
    for (size_t i = 0; i < sizeof curves / sizeof curves[0] && err == WEIR_OK; i++) {
        err = write_plot(out, &curves[i], runs, count, error);
    }
    (void)fputs("</section>\n", out);
    weir_report_end_page(out);
    return err;
}

/* ---- JSON ---- */

static json_t *real_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *json_of_eval(const weir_run_eval_t *eval) {
    json_t *object = json_object();
    (void)json_object_set_new(object, "step", real_or_null(eval->step));
    (void)json_object_set_new(object, "epoch", real_or_null(eval->epoch));
    for (size_t i = 0; i < SHOWN; i++) {
        (void)json_object_set_new(object, weir_run_metric_title(shown[i]),
                                  real_or_null(eval->values[shown[i]]));
    }
    return object;
}

static json_t *json_of_run(const weir_compare_run_t *run) {
    const weir_run_eval_t *result = weir_compare_result(&run->metrics);
    json_t *object = json_object(), *curve = json_array(), *losses = json_array();
    char kind[64];
    name_kind(run, kind, sizeof kind);
    (void)json_object_set_new(object, "name", json_string(run->name));
    (void)json_object_set_new(object, "run", json_string(run->path));
    (void)json_object_set_new(object, "kind", json_string(kind));
    (void)json_object_set_new(object, "finished", json_boolean(run->metrics.ended));
    (void)json_object_set_new(object, "parameters", real_or_null(run->metrics.parameters));
    (void)json_object_set_new(object, "seconds", real_or_null(run->metrics.last_t));
    (void)json_object_set_new(object, "result",
                              result != NULL ? json_of_eval(result) : json_null());
    for (size_t i = 0; i < run->metrics.eval_count; i++) {
        if (run->metrics.evals[i].split == WEIR_RUN_TEST) {
            (void)json_array_append_new(curve, json_of_eval(&run->metrics.evals[i]));
        }
    }
    for (size_t i = 0; i < run->metrics.train_count; i++) {
        json_t *point = json_array();
        (void)json_array_append_new(point, real_or_null(run->metrics.train[i].epoch));
        (void)json_array_append_new(point, real_or_null(run->metrics.train[i].loss));
        (void)json_array_append_new(losses, point);
    }
    (void)json_object_set_new(object, "test", curve);
    (void)json_object_set_new(object, "loss", losses);
    return object;
}

weir_err_t weir_compare_write_json(FILE *out, const weir_compare_run_t *runs, size_t count,
                                   weir_error_t *error) {
    json_t *root = json_object(), *list = json_array();
    for (size_t r = 0; r < count; r++) {
        (void)json_array_append_new(list, json_of_run(&runs[r]));
    }
    (void)json_object_set_new(root, "runs", list);
    int status = json_dumpf(root, out, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    (void)fputc('\n', out);
    json_decref(root);
    return status == 0 ? WEIR_OK : weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a table");
}
