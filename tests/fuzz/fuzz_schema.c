/* A schema, a NUL, and a log that is read by it, as CSV or JSON lines. Where there is no NUL, a log
 * alone, read by a schema with everything. */
#include "tests/fuzz/target.h"
#include "tools/dataset_writer.h"
#include "tools/tables.h"

#include <stdlib.h>
#include <string.h>

static const char known[] =
    "log: {path: x, user: u, item: i, time: t, rating: r}\nfiles: {f: {path: y, key: i}}\n"
    "actions: {a: c, b: {column: r, at_least: 4}}\nnumbers: {n: {column: w, scale: 2}}\n"
    "context: {k: k, h: {of_time: hour}, d: {of_time: weekday}}\n"
    "item_features: {s: {column: s.t, hash: 7}, z: {from: f, column: z}}\n"
    "user_features: {v: {column: v, bounds: \"0 1\"}}\n";

/* What was read is in range. */
static void check(const weir_tables_t *tables, const weir_event_log_t *log, uint32_t users,
                  uint32_t items) {
    const weir_dataset_columns_t *columns = weir_tables_columns(tables);
    for (size_t row = 0; row < log->count; row++) {
        /* a log of users, items and times alone has no words */
        size_t first =
            row * log->width + (columns->action_count > 0 ? 1 : 0) + columns->number_count;
        for (size_t i = 0; i < columns->context_count; i++) {
            if (log->words[first + i] >= columns->context[i].size) {
                abort();
            }
        }
        if (log->users[row] >= users || log->items[row] >= items) {
            abort();
        }
    }
    for (size_t i = 0; i < columns->item_count; i++) {
        for (uint32_t item = 0; item < items; item++) {
            if (columns->items[i].ids[item] >= columns->items[i].size) {
                abort();
            }
        }
    }
}

static void read_tables(const weir_schema_t *schema, const char *text, size_t size) {
    weir_tables_t *tables = NULL;
    weir_interner_t *users = NULL, *items = NULL;
    weir_event_log_t log = {0};
    weir_bad_lines_t bad = {.total = 1 << 20}; /* shown enough */
    uint64_t lines = 0;
    weir_err_t err = weir_tables_create(schema, &tables, NULL);
    if (err == WEIR_OK) {
        err = weir_interner_create(&users, NULL);
    }
    if (err == WEIR_OK) {
        err = weir_interner_create(&items, NULL);
    }
    if (err == WEIR_OK) {
        weir_tables_out_t out = {users, items, &log, &bad, &lines};
        log.width = weir_dataset_writer_width(weir_tables_columns(tables));
        for (size_t file = 0; file <= schema->file_count && err == WEIR_OK; file++) {
            weir_input_t input;
            if (weir_input_open_memory(text, size, "text", &input, NULL) != WEIR_OK) {
                break;
            }
            weir_err_t read = file == 0 ? weir_tables_read_log(tables, &input, &out, NULL)
                                        : weir_tables_read_file(tables, &schema->files[file - 1],
                                                                &input, &out, NULL);
            (void)read; /* whatever it was, what was read before is sound */
            weir_input_close(&input);
        }
        if (weir_tables_finish(tables, &out, NULL) == WEIR_OK) {
            check(tables, &log, weir_interner_count(users), weir_interner_count(items));
        }
    }
    weir_tables_destroy(tables);
    weir_event_log_fini(&log);
    weir_interner_destroy(users);
    weir_interner_destroy(items);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    const char *text = (const char *)bytes;
    const char *end = size > 0 ? memchr(text, '\0', size) : NULL;
    static weir_schema_t known_or_read;
    weir_schema_t *schema = &known_or_read;
    size_t used = end != NULL ? (size_t)(end - text) + 1 : 0;
    weir_err_t err = end != NULL
                         ? weir_schema_parse(text, used - 1, "schema", schema, NULL)
                         : weir_schema_parse(known, sizeof known - 1, "known", schema, NULL);
    if (err == WEIR_OK) {
        if (end == NULL && size > 0 && text[0] == '{') {
            schema->log.format = schema->files[0].format = WEIR_RECORDS_JSONL;
        }
        read_tables(schema, text + used, size - used);
    }
    return 0;
}
