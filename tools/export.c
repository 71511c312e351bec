#include "tools/export.h"

#include "common/file.h"
#include "common/tensor_file.h"
#include "tools/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STREAMS = 2 };

struct weir_export {
    weir_export_format_t format;
    const weir_reader_table_t *table;
    uint64_t rows, written;
    weir_tensor_writer_t *writer;        /* safetensors */
    size_t columns[WEIR_READER_COLUMNS]; /* of state, their tensors; 0: not written */
    FILE *streams[STREAMS];              /* the others; NULL: not open */
    char paths[STREAMS][WEIR_PATH_MAX];  /* final */
    char unfinished[STREAMS][WEIR_PATH_MAX];
};

/* ---- safetensors ---- */

static bool parse_dtype(const char *name, weir_dtype_t *dtype) {
    for (int d = 0; d < WEIR_DTYPE_COUNT; d++) {
        if (strcmp(weir_dtype_name((weir_dtype_t)d), name) == 0) {
            *dtype = (weir_dtype_t)d;
            return true;
        }
    }
    return false;
}

/* Every column but the values, the largest elements first, after `declared` tensors. */
static weir_err_t declare_state(weir_export_t *out, size_t declared, size_t size,
                                weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (uint32_t c = 0; c < out->table->column_count && err == WEIR_OK; c++) {
        const weir_reader_column_t *column = &out->table->columns[c];
        const uint64_t shape[2] = {out->rows, column->width};
        weir_dtype_t dtype = WEIR_DTYPE_F32;
        if (strcmp(column->name, "value") == 0 || !parse_dtype(column->dtype, &dtype) ||
            weir_dtype_size(dtype) != size) {
            continue;
        }
        out->columns[c] = declared++;
        err = weir_tensor_writer_declare(out->writer, column->name, dtype, 2, shape, error);
    }
    return err;
}

static size_t count_declared(const weir_export_t *out) {
    size_t count = 4;
    for (uint32_t c = 0; c < out->table->column_count; c++) {
        count += out->columns[c] != 0 ? 1 : 0;
    }
    return count;
}

static weir_err_t begin_tensors(weir_export_t *out, bool state, uint64_t step,
                                weir_error_t *error) {
    static const char *const numbers[] = {"keys", "last_step", "count"};
    const uint64_t shape[2] = {out->rows, out->table->dim};
    char text[32];
    (void)snprintf(text, sizeof text, "%" PRIu64, step);
    weir_err_t err = weir_tensor_writer_create(out->paths[0], &out->writer, error);
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(out->writer, "table", out->table->name, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(out->writer, "step", text, error);
    }
    for (size_t i = 0; i < 3 && err == WEIR_OK; i++) {
        err = weir_tensor_writer_declare(out->writer, numbers[i], WEIR_DTYPE_U64, 1, shape, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_declare(out->writer, "value", WEIR_DTYPE_F32, 2, shape, error);
    }
    for (size_t size = 8; state && size > 0 && err == WEIR_OK; size /= 2) {
        err = declare_state(out, count_declared(out), size, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_blocks(out->writer, error);
    }
    return err == WEIR_OK ? weir_tensor_writer_begin(out->writer, error) : err;
}

static weir_err_t put_tensors(weir_export_t *out, const weir_reader_row_t *row, const float *values,
                              weir_error_t *error) {
    const uint64_t numbers[] = {row->key, row->last_step, row->count};
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < 3 && err == WEIR_OK; i++) {
        err = weir_tensor_writer_fill(out->writer, i, &numbers[i], sizeof numbers[i], error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_fill(out->writer, 3, values, out->table->dim * sizeof *values,
                                      error);
    }
    for (uint32_t c = 0; c < out->table->column_count && err == WEIR_OK; c++) {
        if (out->columns[c] != 0) {
            err = weir_tensor_writer_fill(out->writer, out->columns[c], row->columns[c],
                                          out->table->columns[c].bytes, error);
        }
    }
    return err;
}

/* ---- streams ---- */

static weir_err_t failed(const weir_export_t *out, size_t stream, weir_error_t *error) {
    return weir_error_from_errno(error, errno, "write '%s'", out->unfinished[stream]);
}

static weir_err_t open_stream(weir_export_t *out, size_t stream, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    (void)snprintf(path, sizeof path, "%.4000s.tmp.%ld", out->paths[stream], (long)getpid());
    memcpy(out->unfinished[stream], path, sizeof path);
    out->streams[stream] = fopen(out->unfinished[stream], "wbx");
    return out->streams[stream] != NULL
               ? WEIR_OK
               : weir_error_from_errno(error, errno, "create '%s'", out->unfinished[stream]);
}

static weir_err_t begin_npy(weir_export_t *out, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t s = 0; s < 2 && err == WEIR_OK; s++) {
        char header[WEIR_NPY_HEADER];
        weir_npy_header(s == 0 ? WEIR_DTYPE_U64 : WEIR_DTYPE_F32, out->rows,
                        s == 0 ? 0 : out->table->dim, header);
        err = open_stream(out, s, error);
        if (err == WEIR_OK && fwrite(header, sizeof header, 1, out->streams[s]) != 1) {
            err = failed(out, s, error);
        }
    }
    return err;
}

static weir_err_t begin_csv(weir_export_t *out, weir_error_t *error) {
    weir_err_t err = open_stream(out, 0, error);
    if (err != WEIR_OK) {
        return err;
    }
    (void)fputs("key,last_step,count", out->streams[0]);
    for (uint32_t i = 0; i < out->table->dim; i++) {
        (void)fprintf(out->streams[0], ",v%u", i);
    }
    return putc('\n', out->streams[0]) == EOF ? failed(out, 0, error) : WEIR_OK;
}

static weir_err_t put_npy(weir_export_t *out, const weir_reader_row_t *row, const float *values,
                          weir_error_t *error) {
    if (fwrite(&row->key, sizeof row->key, 1, out->streams[0]) != 1) {
        return failed(out, 0, error);
    }
    return fwrite(values, sizeof *values, out->table->dim, out->streams[1]) == out->table->dim
               ? WEIR_OK
               : failed(out, 1, error);
}

static weir_err_t put_csv(weir_export_t *out, const weir_reader_row_t *row, const float *values,
                          weir_error_t *error) {
    (void)fprintf(out->streams[0], "%" PRIu64 ",%" PRIu64 ",%" PRIu64, row->key, row->last_step,
                  row->count);
    for (uint32_t i = 0; i < out->table->dim; i++) {
        (void)fprintf(out->streams[0], ",%.9g", (double)values[i]);
    }
    return putc('\n', out->streams[0]) == EOF ? failed(out, 0, error) : WEIR_OK;
}

static weir_err_t commit_streams(weir_export_t *out, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t s = 0; s < STREAMS && err == WEIR_OK; s++) {
        if (out->streams[s] != NULL &&
            (fflush(out->streams[s]) != 0 || fsync(fileno(out->streams[s])) != 0)) {
            err = failed(out, s, error);
        }
    }
    for (size_t s = 0; s < STREAMS && err == WEIR_OK; s++) {
        if (out->streams[s] == NULL) {
            continue;
        }
        if (rename(out->unfinished[s], out->paths[s]) != 0) {
            err = weir_error_from_errno(error, errno, "rename '%s'", out->unfinished[s]);
        } else {
            out->unfinished[s][0] = '\0';
            err = weir_file_sync_parent(out->paths[s], error);
        }
    }
    return err;
}

/* ---- any ---- */

weir_err_t weir_export_create(const char *path, weir_export_format_t format,
                              const weir_reader_table_t *table, bool state, uint64_t rows,
                              uint64_t step, weir_export_t **out, weir_error_t *error) {
    if (strlen(path) > 3900) {
        return weir_errorf(error, WEIR_ERR_INVALID, "path too long: '%.100s...'", path);
    }
    weir_export_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to export");
    }
    made->format = format;
    made->table = table;
    made->rows = rows;
    bool npy = format == WEIR_EXPORT_NPY;
    (void)snprintf(made->paths[0], WEIR_PATH_MAX, "%.3900s%s", path, npy ? ".keys.npy" : "");
    (void)snprintf(made->paths[1], WEIR_PATH_MAX, "%.3900s.values.npy", path);
    weir_err_t err = format == WEIR_EXPORT_SAFETENSORS ? begin_tensors(made, state, step, error)
                     : npy                             ? begin_npy(made, error)
                                                       : begin_csv(made, error);
    if (err != WEIR_OK) {
        weir_export_destroy(made);
        return err;
    }
    *out = made;
    return WEIR_OK;
}

weir_err_t weir_export_row(weir_export_t *out, const weir_reader_row_t *row, const float *values,
                           weir_error_t *error) {
    out->written++;
    switch (out->format) {
    case WEIR_EXPORT_SAFETENSORS:
        return put_tensors(out, row, values, error);
    case WEIR_EXPORT_NPY:
        return put_npy(out, row, values, error);
    case WEIR_EXPORT_CSV:
    default:
        return put_csv(out, row, values, error);
    }
}

weir_err_t weir_export_commit(weir_export_t *out, weir_error_t *error) {
    if (out->written != out->rows) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "%" PRIu64 " rows came where %" PRIu64 " were counted", out->written,
                           out->rows);
    }
    return out->writer != NULL ? weir_tensor_writer_commit(out->writer, NULL, NULL, error)
                               : commit_streams(out, error);
}

void weir_export_destroy(weir_export_t *out) {
    if (out == NULL) {
        return;
    }
    weir_tensor_writer_destroy(out->writer);
    for (size_t s = 0; s < STREAMS; s++) {
        if (out->streams[s] != NULL) {
            (void)fclose(out->streams[s]);
            if (out->unfinished[s][0] != '\0') {
                (void)unlink(out->unfinished[s]);
            }
        }
    }
    free(out);
}
