/* weir inspect export: rows of a table for other programs, in one or two passes. */
#include "common/file.h"
#include "common/log.h"
#include "tools/export.h"
#include "tools/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void stop_on(weir_err_t err, const weir_error_t *error) {
    if (err != WEIR_OK) {
        weir_fatal(error);
    }
}

/* Whatever ends the process takes what is not whole with it. */
static weir_export_t *unfinished;

static void discard(void) {
    weir_export_destroy(unfinished);
    unfinished = NULL;
}

/* What is exported, and where to. */
typedef struct {
    const weir_inspect_t *arguments;
    weir_reader_t *reader;
    const weir_reader_table_t *table;
    uint64_t *keys; /* wanted, in this order; NULL: all of the slots; owned */
    size_t key_count;
    weir_export_t *out; /* NULL: count alone */
    uint64_t rows;
    weir_error_t error;
} job_t;

static bool take_row(void *argument, const weir_reader_row_t *row, const float *values) {
    job_t *job = argument;
    job->rows++;
    if (job->out != NULL) {
        stop_on(weir_export_row(job->out, row, values, &job->error), &job->error);
    }
    return true;
}

/* The rows of the keys asked for; *missing of these have none. */
static void each_key(job_t *job, uint64_t *missing) {
    float *values = calloc(job->table->dim, sizeof *values);
    if (values == NULL) {
        stop_on(weir_errorf(&job->error, WEIR_ERR_MEMORY, "out of memory"), &job->error);
    }
    *missing = 0;
    for (size_t i = 0; i < job->key_count && values != NULL; i++) {
        weir_reader_row_t row;
        weir_reader_error_t error = {0};
        int code = weir_reader_get(job->reader, job->table, job->keys[i], &row, &error);
        if (code == WEIR_READER_NOT_FOUND) {
            (*missing)++;
            continue;
        }
        weir_inspect_check(code, &error);
        weir_reader_values(job->table, &row, values);
        (void)take_row(job, &row, values);
    }
    free(values);
}

static void each_row(job_t *job, uint64_t *missing) {
    job->rows = 0;
    *missing = 0;
    if (job->keys != NULL) {
        each_key(job, missing);
        return;
    }
    weir_inspect_each(job->reader, job->table, (uint32_t)job->arguments->first_slot,
                      (uint32_t)job->arguments->end_slot, take_row, job);
}

/* One key a line. */
static void read_keys(job_t *job, const char *path) {
    char *line = NULL;
    size_t size = 0, capacity = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        stop_on(weir_error_from_errno(&job->error, errno, "open '%s'", path), &job->error);
        return;
    }
    for (;;) {
        ssize_t length = getline(&line, &size, file);
        if (length < 0) {
            break;
        }
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0') {
            continue;
        }
        if (job->key_count == capacity) {
            capacity = capacity == 0 ? 1024 : 2 * capacity;
            uint64_t *grown = realloc(job->keys, capacity * sizeof *grown);
            if (grown == NULL) {
                stop_on(weir_errorf(&job->error, WEIR_ERR_MEMORY, "out of memory for the keys"),
                        &job->error);
            }
            job->keys = grown;
        }
        job->keys[job->key_count++] = weir_inspect_key(line);
    }
    free(line);
    (void)fclose(file);
    if (job->keys == NULL) {
        stop_on(weir_errorf(&job->error, WEIR_ERR_INVALID, "'%s' has no keys", path), &job->error);
    }
}

static weir_export_format_t format_of(const weir_inspect_t *arguments) {
    static const char *const names[] = {"safetensors", "npy", "csv"};
    weir_error_t error = {0};
    for (int i = 0; i < 3; i++) {
        if (arguments->format == NULL || strcmp(arguments->format, names[i]) == 0) {
            return (weir_export_format_t)i;
        }
    }
    stop_on(weir_errorf(&error, WEIR_ERR_INVALID, "--format is safetensors, npy or csv"), &error);
    return WEIR_EXPORT_CSV;
}

/* How many rows there will be, which the header says before them. */
static uint64_t count_rows(job_t *job) {
    bool whole = job->keys == NULL && job->arguments->first_slot == 0 &&
                 job->arguments->end_slot == WEIR_READER_SLOTS;
    uint64_t missing;
    if (whole && !job->table->chained && job->table->ttl == 0) {
        return job->table->rows;
    }
    each_row(job, &missing);
    return job->rows;
}

int weir_inspect_export(int argc, char **argv) {
    static const struct argp_option options[] = {
        WEIR_INSPECT_OPTION_JSON,
        WEIR_INSPECT_OPTION_TABLE,
        {"out", WEIR_INSPECT_OUT, "FILE", 0,
         "the file to write; of npy the beginning of FILE.keys.npy and FILE.values.npy", 0},
        {"format", WEIR_INSPECT_FORMAT, "NAME", 0, "safetensors (default), npy or csv", 0},
        {"keys", WEIR_INSPECT_KEYS, "FILE", 0,
         "only these keys, one a line, in this order; those without a row are left out", 0},
        {"slots", WEIR_INSPECT_SLOTS, "FIRST-END", 0, "only slots FIRST to END - 1 of 16384", 0},
        {"state", WEIR_INSPECT_STATE, NULL, 0,
         "safetensors alone: the optimiser's state too, as it is kept", 0},
        {0}};
    weir_inspect_t arguments;
    job_t job = {.arguments = &arguments};
    uint64_t missing = 0;
    weir_inspect_parse(argc, argv, options, "WHERE",
                       "Write rows of a table for other programs: keys, last use and count, and "
                       "values as floats whatever precision they are kept in. In memory is one "
                       "row at a time, and some megabytes.",
                       1, 1, &arguments);
    weir_export_format_t format = format_of(&arguments);
    if (arguments.out == NULL || (arguments.state && format != WEIR_EXPORT_SAFETENSORS)) {
        stop_on(weir_errorf(&job.error, WEIR_ERR_INVALID,
                            arguments.out == NULL ? "--out is missing: the file to write"
                                                  : "--state is for safetensors alone"),
                &job.error);
    }
    job.reader = weir_inspect_open(arguments.words[0], arguments.table, &job.table);
    if (arguments.keys != NULL) {
        read_keys(&job, arguments.keys);
    }
    uint64_t rows = count_rows(&job);
    (void)atexit(discard);
    stop_on(weir_export_create(arguments.out, format, job.table, arguments.state, rows,
                               weir_reader_about(job.reader)->step, &unfinished, &job.error),
            &job.error);
    job.out = unfinished;
    each_row(&job, &missing);
    stop_on(weir_export_commit(unfinished, &job.error), &job.error);
    discard();
    if (arguments.json) {
        weir_inspect_print_json(json_pack("{s:s, s:I, s:I}", "out", arguments.out, "rows",
                                          (json_int_t)job.rows, "missing", (json_int_t)missing));
    } else {
        (void)printf("%s: %" PRIu64 " rows\n", arguments.out, job.rows);
        if (missing > 0) {
            (void)printf("%" PRIu64 " keys have no row\n", missing);
        }
    }
    free(job.keys);
    weir_reader_close(job.reader);
    return 0;
}
