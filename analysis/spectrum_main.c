/* weir-spectrum: the singular values of an embedding table, over all processes of an MPI job.
 * `weir inspect spectrum` runs it. */
#include "analysis/budget.h"
#include "analysis/process.h"
#include "analysis/spectrum.h"
#include "analysis/spectrum_options.h"
#include "common/log.h"
#include "common/version.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    weir_spectrum_options_t options;
    weir_comm_t *comm;
    weir_grid_t grid;
    weir_reader_t *reader;
    weir_spectrum_source_t source;
    weir_spectrum_t spectrum;
} process_t;

static weir_err_t check_plan(const process_t *process, weir_error_t *error) {
    const weir_spectrum_options_t *options = &process->options;
    const weir_grid_t *grid = &process->grid;
    size_t dim = process->source.dim;
    double bytes = weir_spectrum_bytes(grid, dim, options->block);
    char what[96];
    if (grid->rank == 0) {
        weir_log(WEIR_LOG_INFO, "spectrum",
                 "%" PRIu64 " rows of %zu dimensions on %d x %d processes take %.1f MiB of "
                 "each|bytes=%.0f processes=%d",
                 process->source.table->rows, dim, grid->rows, grid->columns, bytes / 1048576.0,
                 bytes, grid->ranks);
    }
    if (options->components > dim) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%zu principal directions of %zu dimensions",
                           options->components, dim);
    }
    (void)snprintf(what, sizeof what, "the spectrum of %zu dimensions", dim);
    return weir_budget_check(what, bytes, weir_budget_local_ranks(grid->ranks), options->memory_gib,
                             "fewer processes on a host: each has all of a D x D matrix of sums",
                             error);
}

static weir_err_t work(process_t *process, weir_error_t *error) {
    const weir_spectrum_options_t *options = &process->options;
    weir_reader_error_t own = {0};
    weir_err_t err = weir_grid_init(0, 0, &process->grid, error);
    if (err == WEIR_OK) {
        int code = weir_reader_open(options->where, &process->reader, &own);
        err = code < 0 ? weir_errorf(error, (weir_err_t)code, "%s", own.message) : WEIR_OK;
    }
    if (err == WEIR_OK) {
        err = weir_spectrum_source(&process->grid, process->reader, options->table,
                                   &process->source, error);
    }
    if (err == WEIR_OK) {
        err = check_plan(process, error);
    }
    if (err == WEIR_OK) {
        err = weir_spectrum_make(&process->grid, &process->source, options->centered,
                                 options->block, &process->spectrum, error);
    }
    if (err == WEIR_OK && options->output != NULL) {
        err = weir_spectrum_export(&process->grid, &process->source, &process->spectrum,
                                   options->components, options->output, error);
    }
    if (err == WEIR_OK && options->plot != NULL && process->grid.rank == 0) {
        err = weir_spectrum_plot(&process->spectrum, options->table, options->plot, error);
    }
    return err;
}

/* ---- output ---- */

static json_t *number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static weir_err_t print_json(const process_t *process, weir_error_t *error) {
    const weir_spectrum_t *spectrum = &process->spectrum;
    const weir_reader_checkpoint_t *about = weir_reader_about(process->reader);
    json_t *values = json_array(), *energy = json_array();
    for (size_t k = 0; k < spectrum->dim; k++) {
        (void)json_array_append_new(values, json_real(spectrum->singular_values[k]));
        (void)json_array_append_new(energy, json_real(weir_spectrum_energy(spectrum, k + 1)));
    }
    json_t *object =
        json_pack("{ss ss sI sI sI sI sb sf sf so sf sI sI sI ss so so}", "checkpoint",
                  about->folder, "table", process->options.table, "step", (json_int_t)about->step,
                  "rows", (json_int_t)spectrum->rows, "skipped", (json_int_t)spectrum->skipped,
                  "dim", (json_int_t)spectrum->dim, "centered", spectrum->centered,
                  "effective_rank", spectrum->effective_rank, "information_abundance",
                  spectrum->information_abundance, "condition", number_or_null(spectrum->condition),
                  "floor", spectrum->floor, "below_floor", (json_int_t)spectrum->below_floor,
                  "needed_90", (json_int_t)weir_spectrum_needed(spectrum, 0.90), "needed_99",
                  (json_int_t)weir_spectrum_needed(spectrum, 0.99), "verdict",
                  weir_spectrum_verdict(spectrum), "energy", energy, "singular_values", values);
    if (object == NULL || json_dumpf(object, stdout, 0) != 0) {
        json_decref(object);
        return weir_errorf(error, WEIR_ERR_IO, "cannot write the result");
    }
    json_decref(object);
    (void)putchar('\n');
    return WEIR_OK;
}

static void print_text(const process_t *process) {
    const weir_spectrum_t *spectrum = &process->spectrum;
    const weir_reader_checkpoint_t *about = weir_reader_about(process->reader);
    const char *verdict = weir_spectrum_verdict(spectrum);
    (void)printf("table %s, step %" PRIu64 ": %" PRIu64 " rows of %zu dimensions%s\n",
                 process->options.table, about->step, spectrum->rows, spectrum->dim,
                 spectrum->centered ? ", less their mean" : "");
    if (spectrum->skipped > 0) {
        (void)printf("left out: %" PRIu64 " rows with values that are not finite\n",
                     spectrum->skipped);
    }
    (void)printf("effective rank         %.2f (%.0f%% of the dimensions): %s\n",
                 spectrum->effective_rank, 100.0 * spectrum->effective_rank / (double)spectrum->dim,
                 strcmp(verdict, "full") == 0      ? "no dimensional collapse"
                 : strcmp(verdict, "partial") == 0 ? "partial dimensional collapse"
                                                   : "dimensional collapse");
    (void)printf("information abundance  %.2f\n", spectrum->information_abundance);
    if (isfinite(spectrum->condition)) {
        (void)printf("condition              %.4g\n", spectrum->condition);
    } else {
        (void)printf("condition              above %.2g: %zu singular values are 0 but for "
                     "rounding\n",
                     spectrum->singular_values[0] / spectrum->floor, spectrum->below_floor);
    }
    (void)printf("energy                 90%% in %zu, 99%% in %zu dimensions\n\n"
                 "%5s  %14s  %10s  %8s\n",
                 weir_spectrum_needed(spectrum, 0.90), weir_spectrum_needed(spectrum, 0.99), "k",
                 "singular value", "of largest", "energy");
    for (size_t k = 1; k <= spectrum->dim;
         k = k < spectrum->dim && 2 * k > spectrum->dim ? spectrum->dim : 2 * k) {
        double value = spectrum->singular_values[k - 1];
        (void)printf("%5zu  %14.6g  %10.4g  %7.2f%%\n", k, value,
                     value / spectrum->singular_values[0],
                     100.0 * weir_spectrum_energy(spectrum, k));
    }
}

/* ---- process ---- */

int main(int argc, char **argv) {
    static const char about[] =
        "The singular values of an embedding table of a checkpoint, over all processes of an MPI "
        "job; `weir inspect spectrum` runs it: mpirun -n P weir-spectrum WHERE";
    struct argp argp = *weir_spectrum_argp();
    process_t process = {.comm = NULL};
    weir_error_t error = {0};
    argp.doc = about;
    argp_program_version = "weir-spectrum " WEIR_VERSION;
    argp_err_exit_status = weir_exit_status(WEIR_ERR_INVALID);
    weir_spectrum_options_init(&process.options);
    (void)argp_parse(&argp, argc, argv, 0, NULL, &process.options);
    weir_err_t err = weir_analysis_begin(&argc, &argv, "spectrum", &process.comm, &error);
    if (err == WEIR_OK) {
        err = work(&process, &error);
    }
    if (err == WEIR_OK && process.comm->rank == 0) {
        if (process.options.json) {
            err = print_json(&process, &error);
        } else {
            print_text(&process);
        }
        if (err == WEIR_OK && fflush(stdout) != 0) {
            err = weir_errorf(&error, WEIR_ERR_IO, "cannot write to standard output");
        }
    }
    if (err != WEIR_OK) {
        weir_analysis_fail(process.comm, &error);
    }
    weir_spectrum_fini(&process.spectrum);
    weir_reader_close(process.reader);
    weir_grid_fini(&process.grid);
    weir_comm_mpi_finalize(process.comm);
    weir_spectrum_options_fini(&process.options);
    return 0;
}
