/* weir inspect diff: what is different between two checkpoints: rows, dense parameters,
 * configuration. Both tables are read once, side by side in the order of hashes. */
#include "common/hash.h"
#include "common/log.h"
#include "tools/inspect.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    weir_reader_t *reader;
    const weir_reader_table_t *table;
    weir_reader_rows_t *rows;
    weir_reader_row_t row;
    bool more;
    float *values; /* of row; owned */
} side_t;

typedef struct {
    uint64_t born, gone, same, changed; /* rows: in the second alone, in the first alone, in both */
    uint64_t most_key;                  /* of the row that changed most */
    double squares, most;               /* of all differences; norm of the largest */
} rows_diff_t;

static void advance(side_t *side) {
    weir_reader_error_t error = {0};
    int code = weir_reader_rows_next(side->rows, &side->row, &error);
    weir_inspect_check(code, &error);
    side->more = code == 1;
    if (side->more) {
        weir_reader_values(side->table, &side->row, side->values);
    }
}

static void begin(side_t *side) {
    weir_reader_error_t error = {0};
    weir_error_t own = {0};
    side->values = calloc(side->table->dim, sizeof *side->values);
    if (side->values == NULL) {
        (void)weir_errorf(&own, WEIR_ERR_MEMORY, "out of memory");
        weir_fatal(&own);
    }
    weir_inspect_check(
        weir_reader_rows_open(side->reader, side->table, 0, WEIR_READER_SLOTS, &side->rows, &error),
        &error);
    advance(side);
}

static void end(side_t *side) {
    weir_reader_rows_close(side->rows);
    free(side->values);
}

/* All bits of the two rows are the same: values, state, last use and count. */
static bool same_row(const side_t *a, const side_t *b) {
    bool same = a->row.last_step == b->row.last_step && a->row.count == b->row.count &&
                a->table->column_count == b->table->column_count;
    for (uint32_t c = 0; same && c < a->table->column_count; c++) {
        same = a->table->columns[c].bytes == b->table->columns[c].bytes &&
               memcmp(a->row.columns[c], b->row.columns[c], a->table->columns[c].bytes) == 0;
    }
    return same;
}

static void compare_row(const side_t *a, const side_t *b, rows_diff_t *diff) {
    double squares = 0;
    if (same_row(a, b)) {
        diff->same++;
        return;
    }
    for (uint32_t i = 0; i < a->table->dim; i++) {
        double difference = (double)b->values[i] - (double)a->values[i];
        squares += difference * difference;
    }
    diff->changed++;
    diff->squares += squares;
    if (sqrt(squares) > diff->most) {
        diff->most = sqrt(squares);
        diff->most_key = a->row.key;
    }
}

static rows_diff_t compare_rows(side_t *a, side_t *b) {
    rows_diff_t diff = {0};
    begin(a);
    begin(b);
    while (a->more || b->more) {
        uint64_t left = a->more ? weir_hash64(a->row.key) : UINT64_MAX;
        uint64_t right = b->more ? weir_hash64(b->row.key) : UINT64_MAX;
        if (!b->more || (a->more && left < right)) {
            diff.gone++;
            advance(a);
        } else if (!a->more || right < left) {
            diff.born++;
            advance(b);
        } else {
            compare_row(a, b, &diff);
            advance(a);
            advance(b);
        }
    }
    end(a);
    end(b);
    return diff;
}

/* ---- tables ---- */

static json_t *diff_table(side_t *a, side_t *b, const char *name, bool json) {
    a->table = weir_reader_find_table(a->reader, name);
    b->table = weir_reader_find_table(b->reader, name);
    if (a->table == NULL || b->table == NULL || a->table->dim != b->table->dim) {
        const char *how = a->table == NULL   ? "in the second alone"
                          : b->table == NULL ? "in the first alone"
                                             : "of another width in each";
        if (!json) {
            (void)printf("table %s: %s\n", name, how);
        }
        return json_pack("{s:s, s:s}", "name", name, "problem", how);
    }
    rows_diff_t diff = compare_rows(a, b);
    if (!json) {
        (void)printf("table %s: %" PRIu64 " rows born, %" PRIu64 " gone, %" PRIu64
                     " changed, %" PRIu64 " the same\n",
                     name, diff.born, diff.gone, diff.changed, diff.same);
    }
    if (!json && diff.changed > 0) {
        (void)printf("  difference of values: norm %.6g; of the row of key %" PRIu64
                     ", the largest, %.6g\n",
                     sqrt(diff.squares), diff.most_key, diff.most);
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:o}", "name", name, "born",
                     (json_int_t)diff.born, "gone", (json_int_t)diff.gone, "changed",
                     (json_int_t)diff.changed, "same", (json_int_t)diff.same, "norm",
                     sqrt(diff.squares), "largest", diff.most, "largest_key",
                     weir_inspect_json_number(diff.most_key));
}

static json_t *diff_tables(weir_reader_t *first, weir_reader_t *second, bool json) {
    json_t *all = json_array();
    side_t a = {.reader = first}, b = {.reader = second};
    for (size_t i = 0; i < weir_reader_table_count(first); i++) {
        const char *name = weir_reader_table(first, i)->name;
        (void)json_array_append_new(all, diff_table(&a, &b, name, json));
    }
    for (size_t i = 0; i < weir_reader_table_count(second); i++) {
        const char *name = weir_reader_table(second, i)->name;
        if (weir_reader_find_table(first, name) == NULL) {
            (void)json_array_append_new(all, diff_table(&a, &b, name, json));
        }
    }
    return all;
}

/* ---- dense ---- */

static bool find_tensor(weir_reader_t *reader, const char *name, weir_reader_tensor_t *tensor) {
    weir_reader_error_t error = {0};
    for (size_t i = 0; i < weir_reader_dense_count(reader, false); i++) {
        weir_inspect_check(weir_reader_dense(reader, false, i, tensor, &error), &error);
        if (strcmp(tensor->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static json_t *diff_tensor(const weir_reader_tensor_t *a, weir_reader_t *second, bool json) {
    weir_reader_tensor_t b;
    double squares = 0, base = 0;
    if (!find_tensor(second, a->name, &b) || b.bytes != a->bytes || strcmp(a->dtype, "F32") != 0 ||
        strcmp(b.dtype, "F32") != 0) {
        if (!json) {
            (void)printf("  %-24s not in both with one shape\n", a->name);
        }
        return json_pack("{s:s, s:s}", "name", a->name, "problem", "not in both with one shape");
    }
    const float *left = a->values, *right = b.values;
    for (uint64_t i = 0; i < a->bytes / sizeof *left; i++) {
        double difference = (double)right[i] - (double)left[i];
        squares += difference * difference;
        base += (double)left[i] * (double)left[i];
    }
    if (!json) {
        (void)printf("  %-24s norm of the difference %.6g, of the first %.6g\n", a->name,
                     sqrt(squares), sqrt(base));
    }
    return json_pack("{s:s, s:f, s:f}", "name", a->name, "norm", sqrt(squares), "first",
                     sqrt(base));
}

static json_t *diff_dense(weir_reader_t *first, weir_reader_t *second, bool json) {
    json_t *all = json_array();
    weir_reader_error_t error = {0};
    if (!json && weir_reader_dense_count(first, false) > 0) {
        (void)puts("dense parameters:");
    }
    for (size_t i = 0; i < weir_reader_dense_count(first, false); i++) {
        weir_reader_tensor_t tensor;
        weir_inspect_check(weir_reader_dense(first, false, i, &tensor, &error), &error);
        (void)json_array_append_new(all, diff_tensor(&tensor, second, json));
    }
    return all;
}

/* ---- configuration ---- */

static bool has_line(const char *text, const char *line, size_t size) {
    for (const char *at = text; *at != '\0';) {
        size_t length = strcspn(at, "\n");
        if (length == size && memcmp(at, line, size) == 0) {
            return true;
        }
        at += length + (at[length] == '\n' ? 1 : 0);
    }
    return false;
}

/* The lines of one text that the other lacks. */
static json_t *lines_of(const char *text, const char *other, char sign, bool json) {
    json_t *lines = json_array();
    for (const char *at = text; *at != '\0';) {
        size_t length = strcspn(at, "\n");
        if (length > 0 && !has_line(other, at, length)) {
            (void)json_array_append_new(lines, json_stringn(at, length));
            if (!json) {
                (void)printf("%c %.*s\n", sign, (int)length, at);
            }
        }
        at += length + (at[length] == '\n' ? 1 : 0);
    }
    return lines;
}

int weir_inspect_diff(int argc, char **argv) {
    static const struct argp_option options[] = {WEIR_INSPECT_OPTION_JSON, {0}};
    weir_inspect_t arguments;
    weir_inspect_parse(argc, argv, options, "FIRST SECOND",
                       "What is different between two checkpoints: rows born, gone and changed, "
                       "and by how much; dense parameters by layer; lines of the configuration. "
                       "Each is read once.",
                       2, 2, &arguments);
    weir_reader_t *first = weir_inspect_open(arguments.words[0], NULL, NULL);
    weir_reader_t *second = weir_inspect_open(arguments.words[1], NULL, NULL);
    const weir_reader_checkpoint_t *a = weir_reader_about(first), *b = weir_reader_about(second);
    bool json = arguments.json;
    if (!json) {
        (void)printf("step %" PRIu64 " against step %" PRIu64 "\n", a->step, b->step);
    }
    json_t *tables = diff_tables(first, second, json);
    json_t *dense = diff_dense(first, second, json);
    json_t *removed = lines_of(a->config, b->config, '-', json);
    json_t *added = lines_of(b->config, a->config, '+', json);
    if (json) {
        weir_inspect_print_json(json_pack(
            "{s:[I,I], s:O, s:O, s:{s:O, s:O}}", "steps", (json_int_t)a->step, (json_int_t)b->step,
            "tables", tables, "dense", dense, "config", "removed", removed, "added", added));
    }
    json_decref(tables);
    json_decref(dense);
    json_decref(removed);
    json_decref(added);
    weir_reader_close(first);
    weir_reader_close(second);
    return 0;
}
