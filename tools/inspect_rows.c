/* weir inspect get, grep: rows by their keys, or by what the dictionary calls them. */
#include "common/file.h"
#include "common/log.h"
#include "tools/inspect.h"

#include <inttypes.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double norm_of(const float *values, uint32_t dim) {
    double squares = 0;
    for (uint32_t i = 0; i < dim; i++) {
        squares += (double)values[i] * (double)values[i];
    }
    return sqrt(squares);
}

/* A float as JSON; what JSON has no number for is null. */
static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *row_json(const weir_reader_table_t *table, const weir_reader_row_t *row,
                        const float *values, weir_dataset_t *names, bool whole) {
    char id[WEIR_INSPECT_NAME], name[WEIR_INSPECT_NAME];
    json_t *entry = json_pack(
        "{s:o, s:I, s:I, s:I, s:o}", "key", weir_inspect_json_number(row->key), "last_step",
        (json_int_t)row->last_step, "count", (json_int_t)row->count, "checkpoint",
        (json_int_t)row->saved, "norm", number(norm_of(values, table->dim)));
    weir_inspect_item_id(names, row->key, id);
    weir_inspect_item_name(names, row->key, name);
    if (id[0] != '\0') {
        (void)json_object_set_new(entry, "id", json_string(id));
    }
    if (name[0] != '\0') {
        (void)json_object_set_new(entry, "name", json_string(name));
    }
    if (whole) {
        json_t *list = json_array();
        for (uint32_t i = 0; i < table->dim; i++) {
            (void)json_array_append_new(list, number((double)values[i]));
        }
        (void)json_object_set_new(entry, "value", list);
    }
    return entry;
}

static void print_row(const weir_reader_table_t *table, const weir_reader_row_t *row,
                      const float *values, weir_dataset_t *names) {
    char id[WEIR_INSPECT_NAME], name[WEIR_INSPECT_NAME];
    weir_inspect_item_id(names, row->key, id);
    weir_inspect_item_name(names, row->key, name);
    (void)printf("key %" PRIu64 "%s%s%s%s: %" PRIu64 " updates, last used in step %" PRIu64
                 ", norm %.5g, in the file of step %" PRIu64 "\n",
                 row->key, id[0] == '\0' ? "" : ", id ", id, name[0] == '\0' ? "" : ", ", name,
                 row->count, row->last_step, norm_of(values, table->dim), row->saved);
}

/* ---- get ---- */

/* The columns that are floats, as they are. */
static void print_columns(const weir_reader_table_t *table, const weir_reader_row_t *row,
                          const float *values, json_t *entry) {
    if (entry == NULL) {
        (void)printf("  value");
        for (uint32_t i = 0; i < table->dim; i++) {
            (void)printf(" %.6g", (double)values[i]);
        }
        (void)putchar('\n');
    }
    for (uint32_t c = 0; c < table->column_count; c++) {
        const weir_reader_column_t *column = &table->columns[c];
        json_t *list = json_array();
        if (strcmp(column->dtype, "F32") != 0 || strcmp(column->name, "value") == 0) {
            json_decref(list);
            continue;
        }
        if (entry == NULL) {
            char name[64];
            weir_file_printable(column->name, name, sizeof name);
            (void)printf("  %s", name);
        }
        for (uint64_t i = 0; i < column->width; i++) {
            float value;
            memcpy(&value, (const char *)row->columns[c] + i * sizeof value, sizeof value);
            if (entry == NULL) {
                (void)printf(" %.6g", (double)value);
            } else {
                (void)json_array_append_new(list, number((double)value));
            }
        }
        if (entry == NULL) {
            (void)putchar('\n');
            json_decref(list);
        } else {
            (void)json_object_set_new(entry, column->name, list);
        }
    }
}

int weir_inspect_get(int argc, char **argv) {
    static const struct argp_option options[] = {
        WEIR_INSPECT_OPTION_JSON, WEIR_INSPECT_OPTION_TABLE, WEIR_INSPECT_OPTION_DATA, {0}};
    weir_inspect_t arguments;
    const weir_reader_table_t *table = NULL;
    weir_reader_error_t error = {0};
    bool missing = false;
    weir_inspect_parse(argc, argv, options, "WHERE KEY...",
                       "Rows by their keys: values, the optimiser's state, age and count. Reads a "
                       "few blocks of the files, and checks them, however large these are."
                       "\vA key that has no row is said so, with exit status 8.",
                       2, WEIR_INSPECT_WORDS, &arguments);
    weir_reader_t *reader = weir_inspect_open(arguments.words[0], arguments.table, &table);
    weir_dataset_t *names = weir_inspect_names(&arguments, reader);
    float *values = calloc(table->dim, sizeof *values);
    json_t *all = json_array();
    for (size_t i = 1; i < arguments.word_count && values != NULL; i++) {
        weir_reader_row_t row;
        uint64_t key = weir_inspect_key(arguments.words[i]);
        int code = weir_reader_get(reader, table, key, &row, &error);
        if (code == WEIR_READER_NOT_FOUND) {
            missing = true;
            (void)fprintf(stderr, "%s\n", error.message);
            continue;
        }
        weir_inspect_check(code, &error);
        weir_reader_values(table, &row, values);
        if (arguments.json) {
            json_t *entry = row_json(table, &row, values, names, true);
            print_columns(table, &row, values, entry);
            (void)json_array_append_new(all, entry);
        } else {
            print_row(table, &row, values, names);
            print_columns(table, &row, values, NULL);
        }
    }
    if (arguments.json) {
        weir_inspect_print_json(json_pack("{s:O, s:I}", "rows", all, "blocks_checked",
                                          (json_int_t)weir_reader_blocks_checked(reader)));
    }
    json_decref(all);
    free(values);
    weir_dataset_close(names);
    weir_reader_close(reader);
    return missing ? weir_exit_status(WEIR_ERR_NOT_FOUND) : 0;
}

/* ---- grep ---- */

static regex_t compile(const char *pattern, bool ignore_case) {
    regex_t regex;
    int code = regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB | (ignore_case ? REG_ICASE : 0));
    if (code != 0) {
        char why[128];
        weir_error_t error = {0};
        (void)regerror(code, &regex, why, sizeof why);
        (void)weir_errorf(&error, WEIR_ERR_INVALID, "the pattern \"%.64s\" is none: %s", pattern,
                          why);
        weir_fatal(&error);
    }
    return regex;
}

int weir_inspect_grep(int argc, char **argv) {
    static const struct argp_option options[] = {
        WEIR_INSPECT_OPTION_JSON,
        WEIR_INSPECT_OPTION_DATA,
        {"ignore-case", WEIR_INSPECT_IGNORE_CASE, NULL, 0, "upper and lower case are the same", 0},
        {"limit", WEIR_INSPECT_LIMIT, "N", 0, "at most N rows (default 100)", 0},
        {0}};
    weir_inspect_t arguments;
    const weir_reader_table_t *table = NULL;
    weir_inspect_parse(argc, argv, options, "WHERE PATTERN",
                       "Rows of items whose id or name in the dictionary matches PATTERN, an "
                       "extended regular expression.",
                       2, 2, &arguments);
    weir_reader_t *reader = weir_inspect_open(arguments.words[0], arguments.table, &table);
    weir_dataset_t *names = weir_inspect_names(&arguments, reader);
    regex_t regex = compile(arguments.words[1], arguments.ignore_case);
    uint64_t limit = arguments.limit == 0 ? 100 : arguments.limit, matched = 0, rows = 0;
    float *values = calloc(table->dim, sizeof *values);
    json_t *all = json_array();
    if (names == NULL || values == NULL) {
        weir_error_t error = {0};
        (void)weir_errorf(&error, WEIR_ERR_NOT_FOUND, "there is no dictionary to look into");
        weir_error_hint(&error, "--data names the folder of the prepared data");
        weir_fatal(&error);
    }
    for (uint64_t key = 1; key <= weir_dataset_items(names) && rows < limit; key++) {
        char id[WEIR_INSPECT_NAME], name[WEIR_INSPECT_NAME];
        weir_reader_row_t row;
        weir_reader_error_t error = {0};
        weir_inspect_item_id(names, key, id);
        weir_inspect_item_name(names, key, name);
        if (regexec(&regex, id, 0, NULL, 0) != 0 && regexec(&regex, name, 0, NULL, 0) != 0) {
            continue;
        }
        matched++;
        int code = weir_reader_get(reader, table, key, &row, &error);
        if (code == WEIR_READER_NOT_FOUND) {
            continue; /* never trained */
        }
        weir_inspect_check(code, &error);
        rows++;
        weir_reader_values(table, &row, values);
        if (arguments.json) {
            (void)json_array_append_new(all, row_json(table, &row, values, names, false));
        } else {
            print_row(table, &row, values, names);
        }
    }
    if (arguments.json) {
        weir_inspect_print_json(
            json_pack("{s:I, s:O}", "matched", (json_int_t)matched, "rows", all));
    } else {
        (void)printf("%" PRIu64 " items match, %" PRIu64 " of them have rows%s\n", matched, rows,
                     rows == limit ? " (there may be more: --limit)" : "");
    }
    json_decref(all);
    regfree(&regex);
    free(values);
    weir_dataset_close(names);
    weir_reader_close(reader);
    return 0;
}
