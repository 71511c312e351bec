/* The curves of a report: loss, metrics by evaluation, speed and waiting. */
#include "tools/report_page.h"

#include "tools/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SERIES_LIMIT = 8 };

/* A plot in the making: columns are copied out of the records, so that a plot needs to know none.
 */
typedef struct {
    weir_plot_t plot;
    weir_plot_series_t series[SERIES_LIMIT];
    double *columns[2 * SERIES_LIMIT]; /* owned */
    size_t columns_count;
    bool failed; /* out of memory */
} builder_t;

static double *add_column(builder_t *builder, size_t count) {
    double *column = calloc(count + 1, sizeof *column);
    if (column == NULL) {
        builder->failed = true;
    } else {
        builder->columns[builder->columns_count++] = column;
    }
    return column;
}

static void add_series(builder_t *builder, weir_plot_series_t series) {
    if (series.count > 0 && builder->plot.series_count < SERIES_LIMIT) {
        builder->series[builder->plot.series_count++] = series;
    }
}

static weir_err_t finish(builder_t *builder, FILE *out, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    builder->plot.series = builder->series;
    if (builder->failed) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a plot");
    } else {
        err = weir_plot_write(out, &builder->plot, error);
    }
    for (size_t i = 0; i < builder->columns_count; i++) {
        free(builder->columns[i]);
    }
    return err;
}

/* ---- intervals of training ---- */

typedef double (*train_value_t)(const weir_run_train_t *train);

static double get_loss(const weir_run_train_t *train) {
    return train->loss;
}
static double get_speed(const weir_run_train_t *train) {
    return train->tokens_per_second;
}
static double get_pull_wait(const weir_run_train_t *train) {
    return train->pull_wait;
}
static double get_push_wait(const weir_run_train_t *train) {
    return train->push_wait;
}
static double get_reduce_wait(const weir_run_train_t *train) {
    return train->reduce_wait;
}
static double get_compute(const weir_run_train_t *train) {
    return train->compute;
}

static double get_pulled(const weir_run_train_t *train) {
    return train->bytes_pulled_per_step / 1024.0;
}
static double get_pushed(const weir_run_train_t *train) {
    return train->bytes_pushed_per_step / 1024.0;
}

/* A curve over the intervals; none where no interval has the value. */
static void add_train(builder_t *builder, const weir_run_metrics_t *metrics, const char *name,
                      train_value_t get, unsigned color) {
    bool any = false;
    double *x = add_column(builder, metrics->train_count);
    double *y = add_column(builder, metrics->train_count);
    if (x == NULL || y == NULL) {
        return;
    }
    for (size_t i = 0; i < metrics->train_count; i++) {
        const weir_run_train_t *train = &metrics->train[i];
        x[i] = train->epoch;
        y[i] = get(train);
        any = any || isfinite(y[i]);
    }
    add_series(builder, (weir_plot_series_t){.name = name,
                                             .x = x,
                                             .y = y,
                                             .count = any ? metrics->train_count : 0,
                                             .color = color,
                                             .dots = metrics->train_count < 40});
}

static weir_err_t plot_loss(FILE *out, const weir_run_metrics_t *metrics, weir_error_t *error) {
    builder_t builder = {.plot = {.title = "Training loss", .x_label = "epoch"}};
    add_train(&builder, metrics, "loss", get_loss, 0);
    return finish(&builder, out, error);
}

static weir_err_t plot_speed(FILE *out, const weir_run_metrics_t *metrics, weir_error_t *error) {
    builder_t builder = {
        .plot = {.title = "Tokens per second", .x_label = "epoch", .from_zero = true}};
    add_train(&builder, metrics, "tokens/s", get_speed, 2);
    return finish(&builder, out, error);
}

static weir_err_t plot_waits(FILE *out, const weir_run_metrics_t *metrics, weir_error_t *error) {
    builder_t builder = {.plot = {.title = "Where the time went",
                                  .x_label = "epoch",
                                  .from_zero = true,
                                  .percent = true}};
    add_train(&builder, metrics, "computing", get_compute, 0);
    add_train(&builder, metrics, "waiting for rows", get_pull_wait, 1);
    add_train(&builder, metrics, "waiting to push", get_push_wait, 3);
    add_train(&builder, metrics, "waiting for other workers", get_reduce_wait, 2);
    return finish(&builder, out, error);
}

static weir_err_t plot_traffic(FILE *out, const weir_run_metrics_t *metrics, weir_error_t *error) {
    builder_t builder = {.plot = {.title = "Rows moved, KiB a step of one worker",
                                  .x_label = "epoch",
                                  .from_zero = true}};
    add_train(&builder, metrics, "pulled", get_pulled, 1);
    add_train(&builder, metrics, "pushed", get_pushed, 3);
    return finish(&builder, out, error);
}

/* ---- evaluations ---- */

static void add_eval(builder_t *builder, const weir_run_metrics_t *metrics, const char *name,
                     weir_run_split_t split, weir_run_metric_t metric, unsigned color) {
    size_t count = 0;
    double *x = add_column(builder, metrics->eval_count);
    double *y = add_column(builder, metrics->eval_count);
    if (x == NULL || y == NULL) {
        return;
    }
    for (size_t i = 0; i < metrics->eval_count; i++) {
        const weir_run_eval_t *eval = &metrics->evals[i];
        if (eval->split == split && isfinite(eval->values[metric])) {
            x[count] = eval->epoch;
            y[count++] = eval->values[metric];
        }
    }
    add_series(builder, (weir_plot_series_t){.name = name,
                                             .x = x,
                                             .y = y,
                                             .count = count,
                                             .color = color,
                                             .dashed = split == WEIR_RUN_VALIDATION,
                                             .dots = true});
}

/* Test is drawn plain, validation dashed in the same colour. */
static weir_err_t plot_metrics(FILE *out, const weir_run_metrics_t *metrics, const char *title,
                               const weir_run_metric_t *which, size_t count, weir_error_t *error) {
    char names[SERIES_LIMIT][40];
    builder_t builder = {.plot = {.title = title, .x_label = "epoch", .from_zero = true}};
    for (size_t i = 0; i < count && i < SERIES_LIMIT / 2; i++) {
        for (int split = 0; split < WEIR_RUN_SPLIT_COUNT; split++) {
            char *name = names[2 * i + (size_t)split];
            (void)snprintf(name, sizeof names[0], "%s %s", weir_run_metric_title(which[i]),
                           weir_run_split_title((weir_run_split_t)split));
            add_eval(&builder, metrics, name, (weir_run_split_t)split, which[i], (unsigned)i);
        }
    }
    return finish(&builder, out, error);
}

weir_err_t weir_report_write_plots(FILE *out, const weir_run_metrics_t *metrics,
                                   weir_error_t *error) {
    static const weir_run_metric_t hits[] = {WEIR_RUN_HR_1, WEIR_RUN_HR_10, WEIR_RUN_HR_50,
                                             WEIR_RUN_HR_200};
    static const weir_run_metric_t gains[] = {WEIR_RUN_NDCG_10, WEIR_RUN_NDCG_50, WEIR_RUN_NDCG_200,
                                              WEIR_RUN_MRR};
    (void)fputs("<section class=\"plots\">\n", out);
    weir_err_t err = plot_loss(out, metrics, error);
    if (err == WEIR_OK) {
        err = plot_speed(out, metrics, error);
    }
    if (err == WEIR_OK) {
        err = plot_metrics(out, metrics, "Ranking quality", gains, 4, error);
    }
    if (err == WEIR_OK) {
        err = plot_metrics(out, metrics, "Hit rate", hits, 4, error);
    }
    if (err == WEIR_OK) {
        err = plot_waits(out, metrics, error);
    }
    if (err == WEIR_OK) {
        err = plot_traffic(out, metrics, error);
    }
    (void)fputs("</section>\n", out);
    return err;
}
