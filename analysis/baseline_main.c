/* weir-baseline: simple models over all processes of an MPI job. `weir baseline` runs it. */
#include "analysis/baseline_options.h"
#include "analysis/budget.h"
#include "analysis/ease.h"
#include "analysis/process.h"
#include "analysis/sparse_model.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    weir_baseline_options_t options;
    weir_comm_t *comm;
    weir_grid_t grid;
    weir_dataset_t *dataset;
    weir_item_set_t set; /* of the holdout below */
    size_t holdout;      /* 0: there is no set yet */
} process_t;

/* What was measured: of each value of the parameter on validation, then of the one taken. */
typedef struct {
    weir_metrics_t sweep[WEIR_BASELINE_VALUES];
    weir_metrics_t test, validation;
    double value;        /* taken */
    bool has_validation; /* validation is of the model that test is of */
} outcome_t;

/* ---- what fits ---- */

static weir_err_t check_plan(const process_t *process, weir_error_t *error) {
    const weir_baseline_options_t *options = &process->options;
    const weir_grid_t *grid = &process->grid;
    double bytes = weir_item_set_bytes(process->dataset), share = (double)process->set.items;
    double value = options->values[0];
    size_t n = process->set.n;
    char what[96];
    for (size_t i = 0; i < options->value_count; i++) {
        value = value <= 0.0 || options->values[i] <= 0.0 ? 0.0 /* all */
                : options->values[i] > value              ? options->values[i]
                                                          : value;
    }
    switch (options->method) {
    case WEIR_BASELINE_EASE:
        bytes += weir_ease_bytes(grid, n, options->block);
        share /= (double)grid->rows;
        break;
    case WEIR_BASELINE_KNN:
        bytes += weir_knn_bytes(grid, process->dataset, n, (size_t)value);
        share /= (double)grid->ranks;
        break;
    default:
        bytes += weir_markov_bytes(grid, process->dataset, n);
        share /= (double)grid->ranks;
        break;
    }
    bytes += weir_ranking_bytes(process->dataset, (size_t)share, options->max_sequence_length);
    if (grid->rank == 0) {
        weir_log(WEIR_LOG_INFO, "baseline",
                 "%zu items on %d x %d processes take %.1f MiB of each|items=%zu bytes=%.0f "
                 "processes=%d",
                 n, grid->rows, grid->columns, bytes / 1048576.0, n, bytes, grid->ranks);
    }
    (void)snprintf(what, sizeof what, "%s of %zu items", weir_baseline_name(options->method), n);
    return weir_budget_check(what, bytes, weir_budget_local_ranks(grid->ranks), options->memory_gib,
                             "more hosts: weights are shared out among all processes", error);
}

/* The training items when the last `holdout` events of each user are not training. */
static weir_err_t set_holdout(process_t *process, size_t holdout, weir_error_t *error) {
    if (process->holdout == holdout) {
        return WEIR_OK;
    }
    weir_item_set_fini(&process->set);
    process->holdout = 0;
    weir_err_t err = weir_item_set_init(process->dataset, holdout, &process->set, error);
    if (err == WEIR_OK && process->set.n == 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "no user has an event to learn from");
    }
    if (err == WEIR_OK) {
        process->holdout = holdout;
        err = check_plan(process, error);
    }
    return err;
}

/* ---- fit and evaluate ---- */

static weir_err_t evaluate(const process_t *process, const weir_ranking_scorer_t *scorer,
                           size_t after, weir_metrics_t *metrics, weir_error_t *error) {
    weir_ranking_options_t ranking = {.grid = &process->grid,
                                      .dataset = process->dataset,
                                      .max_sequence_length = process->options.max_sequence_length,
                                      .after = after};
    double since = weir_clock_seconds();
    weir_err_t err = weir_ranking_evaluate(&ranking, scorer, metrics, error);
    if (err == WEIR_OK && process->grid.rank == 0) {
        weir_log(WEIR_LOG_INFO, "baseline", "ranked %s targets|seconds=%.3f users=%llu",
                 after == 0 ? "test" : "validation", weir_clock_seconds() - since,
                 (unsigned long long)metrics->users);
    }
    return err;
}

/* Fit with `value` and measure; `test` or `validation` may be NULL; `output` NULL: no file. */
static weir_err_t measure(process_t *process, double value, weir_metrics_t *test,
                          weir_metrics_t *validation, const char *output, weir_error_t *error) {
    weir_ease_t ease = {.grid = NULL};
    weir_sparse_model_t sparse = {.grid = NULL};
    weir_ranking_scorer_t scorer = {.count = 0};
    const weir_grid_t *grid = &process->grid;
    weir_err_t err = WEIR_OK;
    switch (process->options.method) {
    case WEIR_BASELINE_EASE:
        err = weir_ease_fit(grid, &process->set, value, process->options.block, &ease, error);
        scorer = err == WEIR_OK ? weir_ease_scorer(&ease) : scorer;
        break;
    case WEIR_BASELINE_KNN:
        err = weir_knn_fit(grid, &process->set, (size_t)value, &sparse, error);
        scorer = err == WEIR_OK ? weir_sparse_model_scorer(&sparse) : scorer;
        break;
    default:
        err = weir_markov_fit(grid, &process->set, value, &sparse, error);
        scorer = err == WEIR_OK ? weir_sparse_model_scorer(&sparse) : scorer;
        break;
    }
    if (err == WEIR_OK && validation != NULL) {
        err = evaluate(process, &scorer, 1, validation, error);
    }
    if (err == WEIR_OK && test != NULL) {
        err = evaluate(process, &scorer, 0, test, error);
    }
    if (err == WEIR_OK && output != NULL) {
        err = weir_ease_write(&ease, output, error);
    }
    weir_ease_fini(&ease);
    weir_sparse_model_fini(&sparse);
    return err;
}

/* Measure every value on validation and take the best by NDCG@10; of equal ones the first. */
static weir_err_t choose_value(process_t *process, outcome_t *outcome, weir_error_t *error) {
    const weir_baseline_options_t *options = &process->options;
    double best = -1.0;
    weir_err_t err = set_holdout(process, 2, error);
    for (size_t i = 0; i < options->value_count && err == WEIR_OK; i++) {
        err = measure(process, options->values[i], NULL, &outcome->sweep[i], NULL, error);
        double ndcg = err == WEIR_OK ? outcome->sweep[i].ndcg[1] : 0.0;
        if (ndcg > best) {
            best = ndcg;
            outcome->value = options->values[i];
        }
    }
    return err;
}

static weir_err_t work(process_t *process, outcome_t *outcome, weir_error_t *error) {
    const weir_baseline_options_t *options = &process->options;
    weir_err_t err = weir_dataset_open(options->folder, &process->dataset, error);
    outcome->value = options->values[0];
    outcome->has_validation = options->validation;
    if (err == WEIR_OK) {
        err = weir_grid_init(options->grid_rows, options->grid_columns, &process->grid, error);
    }
    if (err == WEIR_OK && options->value_count > 1) {
        err = choose_value(process, outcome, error);
    }
    if (err == WEIR_OK) {
        err = set_holdout(process, options->validation ? 2 : 1, error);
    }
    if (err == WEIR_OK) {
        err = measure(process, outcome->value, &outcome->test,
                      options->validation ? &outcome->validation : NULL, options->output, error);
    }
    return err;
}

/* ---- output ---- */

static void print_json(const weir_baseline_options_t *options, const outcome_t *outcome) {
    char values[1024];
    const char *parameter = weir_baseline_parameter(options->method);
    (void)printf("{\"baseline\": \"%s\", \"%s\": %.17g, ", weir_baseline_name(options->method),
                 parameter, outcome->value);
    if (options->value_count > 1) {
        (void)printf("\"sweep\": [");
        for (size_t i = 0; i < options->value_count; i++) {
            weir_metrics_to_json(&outcome->sweep[i], values, sizeof values);
            (void)printf("%s{\"%s\": %.17g, \"validation\": %s}", i > 0 ? ", " : "", parameter,
                         options->values[i], values);
        }
        (void)printf("], ");
    }
    weir_metrics_to_json(&outcome->test, values, sizeof values);
    (void)printf("\"splits\": {\"test\": %s", values);
    if (outcome->has_validation) {
        weir_metrics_to_json(&outcome->validation, values, sizeof values);
        (void)printf(", \"validation\": %s", values);
    }
    (void)printf("}}\n");
}

static void print_table(const weir_baseline_options_t *options, const outcome_t *outcome) {
    const char *parameter = weir_baseline_parameter(options->method);
    char name[96];
    (void)snprintf(name, sizeof name, "%s, %s %g", weir_baseline_name(options->method), parameter,
                   outcome->value);
    weir_baseline_print_header(name);
    if (options->value_count > 1) {
        for (size_t i = 0; i < options->value_count; i++) {
            (void)snprintf(name, sizeof name, "%s %g, val.", parameter, options->values[i]);
            weir_baseline_print_row(name, &outcome->sweep[i]);
        }
    }
    weir_baseline_print_row("test", &outcome->test);
    if (outcome->has_validation) {
        weir_baseline_print_row("validation", &outcome->validation);
    }
}

/* ---- process ---- */

static void parse(int argc, char **argv, weir_baseline_options_t *options) {
    static const char usage[] =
        "Usage: weir-baseline ease|knn|markov [OPTION...]\n"
        "Simple models over all processes of an MPI job; `weir baseline` runs it:\n"
        "  mpirun -n P weir-baseline ease --data DIR\n";
    static char name[64];
    argp_err_exit_status = weir_exit_status(WEIR_ERR_INVALID);
    for (int k = 0; argc > 1 && k < WEIR_BASELINE_METHODS; k++) {
        weir_baseline_method_t method = (weir_baseline_method_t)k;
        if (strcmp(argv[1], weir_baseline_name(method)) == 0) {
            (void)snprintf(name, sizeof name, "weir-baseline %s", argv[1]);
            argv[1] = name;
            weir_baseline_options_init(method, options);
            (void)argp_parse(weir_baseline_argp(method), argc - 1, argv + 1, 0, NULL, options);
            return;
        }
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        (void)puts("weir-baseline " WEIR_VERSION);
        exit(0);
    }
    bool asked = argc == 2 && strcmp(argv[1], "--help") == 0;
    (void)fputs(usage, asked ? stdout : stderr);
    exit(asked ? 0 : weir_exit_status(WEIR_ERR_INVALID));
}

int main(int argc, char **argv) {
    process_t process = {.holdout = 0};
    outcome_t outcome = {.value = 0.0};
    weir_error_t error = {0};
    parse(argc, argv, &process.options);
    weir_err_t err = weir_analysis_begin(&argc, &argv, "baseline", &process.comm, &error);
    if (err == WEIR_OK) {
        err = work(&process, &outcome, &error);
    }
    if (err == WEIR_OK && process.comm->rank == 0) {
        (process.options.json ? print_json : print_table)(&process.options, &outcome);
        if (fflush(stdout) != 0) {
            err = weir_errorf(&error, WEIR_ERR_IO, "cannot write to standard output");
        }
    }
    if (err != WEIR_OK) {
        weir_analysis_fail(process.comm, &error);
    }
    weir_item_set_fini(&process.set);
    weir_dataset_close(process.dataset);
    weir_grid_fini(&process.grid);
    weir_comm_mpi_finalize(process.comm);
    weir_baseline_options_fini(&process.options);
    return 0;
}
