#include "analysis/spectrum.h"

#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"
#include "worker/blas.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_AT_ONCE = 256, LOOKS = 32 };

/* ---- rows ---- */

/* The number after the first colon: NAME:DIM:PRECISION:OPTIMIZER. */
static size_t first_dim(const weir_reader_table_t *table) {
    const char *colon = table->schema == NULL ? NULL : strchr(table->schema, ':');
    unsigned long dim = colon == NULL ? 0 : strtoul(colon + 1, NULL, 10);
    return dim < 1 || dim > table->dim ? table->dim : dim;
}

weir_err_t weir_spectrum_source(const weir_grid_t *grid, weir_reader_t *reader, const char *table,
                                weir_spectrum_source_t *source, weir_error_t *error) {
    const weir_reader_table_t *found = weir_reader_find_table(reader, table);
    char names[256] = "";
    if (found == NULL) {
        for (size_t i = 0; i < weir_reader_table_count(reader); i++) {
            size_t used = strlen(names);
            (void)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                           weir_reader_table(reader, i)->name);
        }
        (void)weir_errorf(error, WEIR_ERR_NOT_FOUND, "the checkpoint has no table %.64s", table);
        weir_error_hint(error, "its tables: %s", names);
        return WEIR_ERR_NOT_FOUND;
    }
    *source = (weir_spectrum_source_t){
        .reader = reader,
        .table = found,
        .first_slot = weir_slot_first((uint32_t)grid->rank, (uint32_t)grid->ranks),
        .end_slot = weir_slot_first((uint32_t)grid->rank + 1, (uint32_t)grid->ranks),
        .dim = first_dim(found)};
    return WEIR_OK;
}

typedef struct {
    const weir_spectrum_source_t *source;
    float *values;  /* of a row, all segments */
    double *rows;   /* ROWS_AT_ONCE x D */
    size_t waiting; /* rows of them */
    double *gram;   /* D x D, the lower triangle, column-major; behind it: */
    double *sum;    /* D, rows and skipped */
} sums_t;

static void add_rows(sums_t *sums) {
    size_t dim = sums->source->dim;
    for (size_t r = 0; r < sums->waiting; r++) {
        for (size_t d = 0; d < dim; d++) {
            sums->sum[d] += sums->rows[r * dim + d];
        }
    }
    cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, (int)dim, (int)sums->waiting, 1.0,
                sums->rows, (int)dim, 1.0, sums->gram, (int)dim);
    sums->waiting = 0;
}

static void take_row(sums_t *sums, const weir_reader_row_t *row) {
    size_t dim = sums->source->dim;
    double *out = sums->rows + sums->waiting * dim;
    bool finite = true;
    weir_reader_values(sums->source->table, row, sums->values);
    for (size_t d = 0; d < dim; d++) {
        out[d] = (double)sums->values[d];
        finite = finite && isfinite(out[d]);
    }
    sums->sum[dim] += finite ? 1.0 : 0.0;
    sums->sum[dim + 1] += finite ? 0.0 : 1.0;
    sums->waiting += finite ? 1 : 0;
    if (sums->waiting == ROWS_AT_ONCE) {
        add_rows(sums);
    }
}

static weir_err_t from_reader(int code, const weir_reader_error_t *own, weir_error_t *error) {
    return code >= 0 ? WEIR_OK : weir_errorf(error, (weir_err_t)code, "%s", own->message);
}

static weir_err_t add_slots(sums_t *sums, uint32_t first, uint32_t end, weir_error_t *error) {
    const weir_spectrum_source_t *source = sums->source;
    weir_reader_rows_t *rows = NULL;
    weir_reader_row_t row;
    weir_reader_error_t own = {0};
    int code = weir_reader_rows_open(source->reader, source->table, first, end, &rows, &own);
    while (code >= 0 && (code = weir_reader_rows_next(rows, &row, &own)) > 0) {
        take_row(sums, &row);
    }
    weir_reader_rows_close(rows);
    return from_reader(code, &own, error);
}

/* The sums of all rows of all processes, on all of them. */
static weir_err_t add_all(const weir_grid_t *grid, sums_t *sums, weir_error_t *error) {
    const weir_spectrum_source_t *source = sums->source;
    size_t dim = source->dim;
    uint32_t slots = source->end_slot - source->first_slot;
    weir_err_t err = WEIR_OK;
    for (uint32_t k = 0; k < LOOKS && err == WEIR_OK; k++) {
        uint32_t first = source->first_slot + (uint32_t)((uint64_t)slots * k / LOOKS);
        uint32_t end = source->first_slot + (uint32_t)((uint64_t)slots * (k + 1) / LOOKS);
        err = first < end ? add_slots(sums, first, end, error) : WEIR_OK;
        if (err == WEIR_OK) {
            err = weir_grid_check_stop(grid, error);
        }
    }
    if (err == WEIR_OK) {
        add_rows(sums);
        weir_grid_sum(grid, WEIR_GRID_ALL, sums->gram, dim * dim + dim + 2);
    }
    return err;
}

/* ---- the decomposition ---- */

double weir_spectrum_bytes(const weir_grid_t *grid, size_t dim, size_t block) {
    /* the whole sums on each; matrix, vectors and four times as much to work in, shared out */
    return 8.0 * (double)dim * (double)(dim + ROWS_AT_ONCE + 8) +
           6.0 * weir_grid_matrix_bytes(grid, dim, block);
}

static void fill_matrix(weir_grid_matrix_t *matrix, const sums_t *sums, bool centered) {
    size_t dim = sums->source->dim;
    double rows = sums->sum[dim];
    for (int column = 0; column < matrix->local_columns; column++) {
        for (int row = 0; row < matrix->local_rows; row++) {
            size_t i = (size_t)weir_grid_global_row(matrix, row);
            size_t j = (size_t)weir_grid_global_column(matrix, column);
            double value = i >= j ? sums->gram[i + j * dim] : sums->gram[j + i * dim];
            *weir_grid_element(matrix, row, column) =
                centered ? value - sums->sum[i] / rows * sums->sum[j] : value;
        }
    }
}

static void measure(weir_spectrum_t *spectrum) {
    const double *sigma = spectrum->singular_values;
    double sum = 0.0, entropy = 0.0, largest = sigma[0], smallest = sigma[spectrum->dim - 1];
    spectrum->floor = largest * sqrt(DBL_EPSILON * (double)(spectrum->dim + 16));
    for (size_t k = 0; k < spectrum->dim; k++) {
        sum += sigma[k];
        spectrum->below_floor += sigma[k] <= spectrum->floor ? 1 : 0;
    }
    for (size_t k = 0; k < spectrum->dim; k++) {
        entropy -= sigma[k] > 0.0 ? sigma[k] / sum * log(sigma[k] / sum) : 0.0;
    }
    spectrum->effective_rank = sum > 0.0 ? exp(entropy) : 0.0;
    spectrum->information_abundance = sum > 0.0 ? sum / largest : 0.0;
    spectrum->condition = smallest > spectrum->floor ? largest / smallest : (double)INFINITY;
}

static weir_err_t decompose(const weir_grid_t *grid, const sums_t *sums, size_t block,
                            weir_spectrum_t *spectrum, weir_error_t *error) {
    weir_grid_matrix_t matrix = {.grid = NULL};
    size_t dim = spectrum->dim;
    double *eigenvalues = calloc(dim, sizeof *eigenvalues);
    weir_err_t err = weir_grid_matrix_init(grid, dim, block, &matrix, error);
    if (err == WEIR_OK) {
        err = weir_grid_matrix_init(grid, dim, block, &spectrum->vectors, error);
    }
    if (err == WEIR_OK && eigenvalues == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu eigenvalues", dim);
    }
    if (err == WEIR_OK) {
        fill_matrix(&matrix, sums, spectrum->centered);
        err = weir_grid_matrix_eigen(&matrix, eigenvalues, &spectrum->vectors, error);
    }
    for (size_t k = 0; k < dim && err == WEIR_OK; k++) {
        double value = eigenvalues[dim - 1 - k];
        spectrum->singular_values[k] = value > 0.0 ? sqrt(value) : 0.0;
    }
    weir_grid_matrix_fini(&matrix);
    free(eigenvalues);
    return err;
}

weir_err_t weir_spectrum_make(const weir_grid_t *grid, const weir_spectrum_source_t *source,
                              bool centered, size_t block, weir_spectrum_t *spectrum,
                              weir_error_t *error) {
    size_t dim = source->dim;
    weir_spectrum_t made = {.dim = dim, .centered = centered};
    sums_t sums = {.source = source};
    double since = weir_clock_seconds();
    weir_err_t err = WEIR_OK;
    sums.values = calloc(source->table->dim, sizeof *sums.values);
    sums.rows = calloc(dim * ROWS_AT_ONCE, sizeof *sums.rows);
    sums.gram = calloc(dim * dim + dim + 2, sizeof *sums.gram);
    made.mean = calloc(dim, sizeof *made.mean);
    made.singular_values = calloc(dim, sizeof *made.singular_values);
    if (sums.values == NULL || sums.rows == NULL || sums.gram == NULL || made.mean == NULL ||
        made.singular_values == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the sums of %zu dimensions", dim);
        goto out;
    }
    sums.sum = sums.gram + dim * dim;
    err = add_all(grid, &sums, error);
    if (err != WEIR_OK) {
        goto out;
    }
    made.rows = (uint64_t)sums.sum[dim];
    made.skipped = (uint64_t)sums.sum[dim + 1];
    if (grid->rank == 0) {
        weir_log(WEIR_LOG_INFO, "spectrum", "read the rows|seconds=%.3f rows=%" PRIu64,
                 weir_clock_seconds() - since, made.rows);
    }
    if (made.rows == 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "table %s has no row to measure",
                          source->table->name);
        goto out;
    }
    for (size_t d = 0; d < dim; d++) {
        made.mean[d] = sums.sum[d] / sums.sum[dim];
    }
    err = decompose(grid, &sums, block, &made, error);
    if (err == WEIR_OK) {
        measure(&made);
        *spectrum = made;
        made = (weir_spectrum_t){.dim = 0};
    }
out:
    free(sums.values);
    free(sums.rows);
    free(sums.gram);
    weir_spectrum_fini(&made);
    return err;
}

void weir_spectrum_fini(weir_spectrum_t *spectrum) {
    free(spectrum->mean);
    free(spectrum->singular_values);
    weir_grid_matrix_fini(&spectrum->vectors);
    *spectrum = (weir_spectrum_t){.dim = 0};
}

/* ---- what it says ---- */

double weir_spectrum_energy(const weir_spectrum_t *spectrum, size_t k) {
    double some = 0.0, all = 0.0;
    for (size_t i = 0; i < spectrum->dim; i++) {
        double energy = spectrum->singular_values[i] * spectrum->singular_values[i];
        some += i < k ? energy : 0.0;
        all += energy;
    }
    return all > 0.0 ? some / all : 0.0;
}

size_t weir_spectrum_needed(const weir_spectrum_t *spectrum, double share) {
    size_t k = 1;
    while (k < spectrum->dim && weir_spectrum_energy(spectrum, k) < share) {
        k++;
    }
    return k;
}

const char *weir_spectrum_verdict(const weir_spectrum_t *spectrum) {
    double share = spectrum->effective_rank / (double)spectrum->dim;
    return share >= 0.5 ? "full" : share >= 0.1 ? "partial" : "collapsed";
}
