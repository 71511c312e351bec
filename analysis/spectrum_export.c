/* Rows on their principal directions: every process projects its own and sends them to rank 0,
 * which writes them in the order of slots. */
#include "analysis/spectrum.h"
#include "common/signals.h"
#include "common/tensor_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_AT_ONCE = 1024, KEY_PARTS = 2 };

typedef struct {
    const weir_grid_t *grid;
    const weir_spectrum_source_t *source;
    const weir_spectrum_t *spectrum;
    size_t k;                     /* components */
    double *components;           /* K x D */
    float *values;                /* of a row, all segments */
    double *piece;                /* rows, then for each: key in two halves, K numbers */
    uint64_t *keys;               /* of a piece */
    float *projected;             /* of a piece */
    weir_tensor_writer_t *writer; /* rank 0 */
} export_t;

static size_t piece_size(const export_t *export) {
    return 1 + ROWS_AT_ONCE * (KEY_PARTS + export->k);
}

static weir_err_t reserve(export_t *export, weir_error_t *error) {
    size_t dim = export->spectrum->dim;
    export->components = calloc(export->k * dim, sizeof(double));
    export->values = calloc(export->source->table->dim, sizeof(float));
    export->piece = calloc(piece_size(export), sizeof(double));
    export->keys = calloc(ROWS_AT_ONCE, sizeof(uint64_t));
    export->projected = calloc(ROWS_AT_ONCE * export->k, sizeof(float));
    return export->components == NULL || export->values == NULL || export->piece == NULL ||
                   export->keys == NULL || export->projected == NULL
               ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu components", export->k)
               : WEIR_OK;
}

/* The directions of the K largest singular values, on every process. A direction's sign means
 * nothing: the largest value of each is made positive. */
static void spread_components(export_t *export) {
    const weir_spectrum_t *spectrum = export->spectrum;
    size_t dim = spectrum->dim, k = export->k;
    weir_grid_matrix_gather(&spectrum->vectors, (int)(dim - k), (int)k, export->components);
    for (size_t a = 0, b = k - 1; a < b; a++, b--) { /* ascending to descending */
        for (size_t d = 0; d < dim; d++) {
            double swapped = export->components[a * dim + d];
            export->components[a * dim + d] = export->components[b * dim + d];
            export->components[b * dim + d] = swapped;
        }
    }
    for (size_t c = 0; c < k; c++) {
        double *component = export->components + c * dim, largest = 0.0;
        for (size_t d = 0; d < dim; d++) {
            largest = fabs(component[d]) > fabs(largest) ? component[d] : largest;
        }
        for (size_t d = 0; d < dim && largest < 0.0; d++) {
            component[d] = -component[d];
        }
    }
    weir_grid_sum(export->grid, WEIR_GRID_ALL, export->components, k * dim); /* others have zeros */
}

/* ---- the file, on rank 0 ---- */

enum { TENSOR_COMPONENTS, TENSOR_MEAN, TENSOR_SINGULAR_VALUES, TENSOR_KEYS, TENSOR_PROJECTION };

static weir_err_t begin_file(export_t *export, const char *path, weir_error_t *error) {
    const weir_spectrum_t *spectrum = export->spectrum;
    uint64_t k = export->k, dim = spectrum->dim;
    const struct {
        const char *name;
        weir_dtype_t dtype;
        uint32_t rank;
        uint64_t shape[2];
    } tensors[] = {{"components", WEIR_DTYPE_F64, 2, {k, dim}},
                   {"mean", WEIR_DTYPE_F64, 1, {dim, 0}},
                   {"singular_values", WEIR_DTYPE_F64, 1, {dim, 0}},
                   {"keys", WEIR_DTYPE_U64, 1, {spectrum->rows, 0}},
                   {"projection", WEIR_DTYPE_F32, 2, {spectrum->rows, k}}};
    weir_err_t err = weir_tensor_writer_create(path, &export->writer, error);
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(export->writer, "format", "weir-pca", error);
    }
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0] && err == WEIR_OK; i++) {
        err = weir_tensor_writer_declare(export->writer, tensors[i].name, tensors[i].dtype,
                                         tensors[i].rank, tensors[i].shape, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_blocks(export->writer, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_begin(export->writer, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_fill(export->writer, TENSOR_COMPONENTS, export->components,
                                      k * dim * sizeof(double), error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_fill(export->writer, TENSOR_MEAN, spectrum->mean,
                                      dim * sizeof(double), error);
    }
    return err == WEIR_OK
               ? weir_tensor_writer_fill(export->writer, TENSOR_SINGULAR_VALUES,
                                         spectrum->singular_values, dim * sizeof(double), error)
               : err;
}

/* A piece of rows into the file. */
static weir_err_t take_piece(export_t *export, weir_error_t *error) {
    size_t rows = (size_t) export->piece[0], k = export->k;
    for (size_t r = 0; r < rows; r++) {
        const double *row = export->piece + 1 + r * (KEY_PARTS + k);
        export->keys[r] = (uint64_t)row[0] << 32 | (uint64_t)row[1];
        for (size_t c = 0; c < k; c++) {
            export->projected[r * k + c] = (float)row[KEY_PARTS + c];
        }
    }
    if (weir_signals_stop_requested() != 0) {
        return weir_errorf(error, WEIR_ERR_STOPPED, "stopped on request; nothing was written");
    }
    weir_err_t err = weir_tensor_writer_fill(export->writer, TENSOR_KEYS, export->keys,
                                             rows * sizeof(uint64_t), error);
    return err == WEIR_OK
               ? weir_tensor_writer_fill(export->writer, TENSOR_PROJECTION, export->projected,
                                         rows * k * sizeof(float), error)
               : err;
}

/* ---- rows ---- */

/* The next row's key and projection into the piece; false: it has a value that is not finite. */
static bool project(export_t *export, const weir_reader_row_t *row) {
    size_t dim = export->spectrum->dim, k = export->k;
    double *out = export->piece + 1 + (size_t) export->piece[0] * (KEY_PARTS + k);
    weir_reader_values(export->source->table, row, export->values);
    for (size_t d = 0; d < dim; d++) {
        if (!isfinite(export->values[d])) {
            return false;
        }
    }
    out[0] = (double)(row->key >> 32);
    out[1] = (double)(row->key & 0xFFFFFFFFu);
    for (size_t c = 0; c < k; c++) {
        const double *component = export->components + c * dim;
        double sum = 0.0;
        for (size_t d = 0; d < dim; d++) {
            double value = (double)export->values[d];
            sum += component[d] *
                   (export->spectrum->centered ? value - export->spectrum->mean[d] : value);
        }
        out[KEY_PARTS + c] = sum;
    }
    return true;
}

/* A piece that is full, or the last: to rank 0, or, there, into the file. */
static weir_err_t pass_piece(export_t *export, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    if (export->grid->rank == 0) {
        err = take_piece(export, error);
    } else {
        weir_grid_send(export->grid, 0, export->piece, piece_size(export));
    }
    export->piece[0] = 0.0;
    return err;
}

static weir_err_t send_rows(export_t *export, weir_error_t *error) {
    const weir_spectrum_source_t *source = export->source;
    weir_reader_rows_t *rows = NULL;
    weir_reader_row_t row;
    weir_reader_error_t own = {0};
    weir_err_t err = WEIR_OK;
    int code = weir_reader_rows_open(source->reader, source->table, source->first_slot,
                                     source->end_slot, &rows, &own);
    export->piece[0] = 0.0;
    while (code >= 0 && err == WEIR_OK && (code = weir_reader_rows_next(rows, &row, &own)) > 0) {
        export->piece[0] += project(export, &row) ? 1.0 : 0.0;
        if (export->piece[0] >= (double)ROWS_AT_ONCE) {
            err = pass_piece(export, error);
        }
    }
    weir_reader_rows_close(rows);
    if (code < 0 && err == WEIR_OK) {
        err = weir_errorf(error, (weir_err_t)code, "%s", own.message);
    }
    return err == WEIR_OK ? pass_piece(export, error) : err; /* less than a full one ends them */
}

/* On rank 0, what another process sends. */
static weir_err_t receive_rows(export_t *export, int rank, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    double rows = (double)ROWS_AT_ONCE;
    while (err == WEIR_OK && rows >= (double)ROWS_AT_ONCE) {
        weir_grid_receive(export->grid, rank, export->piece, piece_size(export));
        rows = export->piece[0];
        err = take_piece(export, error);
    }
    return err;
}

weir_err_t weir_spectrum_export(const weir_grid_t *grid, const weir_spectrum_source_t *source,
                                const weir_spectrum_t *spectrum, size_t components,
                                const char *path, weir_error_t *error) {
    export_t export = {.grid = grid, .source = source, .spectrum = spectrum, .k = components};
    weir_err_t err = reserve(&export, error);
    if (weir_grid_any(grid, err != WEIR_OK)) {
        err = err != WEIR_OK ? err : weir_errorf(error, WEIR_ERR_PEER, "another process failed");
        goto out;
    }
    spread_components(&export);
    if (grid->rank == 0) {
        err = begin_file(&export, path, error);
    }
    if (weir_grid_any(grid, err != WEIR_OK)) {
        err = err != WEIR_OK ? err : weir_errorf(error, WEIR_ERR_PEER, "rank 0 cannot write");
        goto out;
    }
    err = send_rows(&export, error);
    for (int rank = 1; rank < grid->ranks && grid->rank == 0 && err == WEIR_OK; rank++) {
        err = receive_rows(&export, rank, error);
    }
    if (grid->rank == 0 && err == WEIR_OK) {
        err = weir_tensor_writer_commit(export.writer, NULL, NULL, error);
    }
out:
    weir_tensor_writer_destroy(export.writer);
    free(export.components);
    free(export.values);
    free(export.piece);
    free(export.keys);
    free(export.projected);
    return err;
}
