/* weir inspect ls, info, tables: what manifests and headers say. No rows are read. */
#include "common/checkpoint.h"
#include "common/file.h"
#include "common/log.h"
#include "tools/human.h"
#include "tools/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- ls ---- */

static bool links_to(const char *run, const char *link, uint64_t step) {
    char path[WEIR_PATH_MAX], real[WEIR_PATH_MAX];
    uint64_t found;
    (void)snprintf(path, sizeof path, "%.3900s/checkpoints/%s", run, link);
    return realpath(path, real) != NULL &&
           weir_checkpoint_parse_step(strrchr(real, '/') + 1, &found) && found == step;
}

/* One checkpoint of the run; one that is damaged has "problem" alone. */
static json_t *list_one(const char *run, uint64_t step) {
    char folder[WEIR_PATH_MAX], name[32];
    weir_manifest_t manifest = {0};
    weir_error_t error = {0};
    weir_checkpoint_step_name(step, name);
    (void)snprintf(folder, sizeof folder, "%.3900s/checkpoints/%s", run, name);
    json_t *entry = json_pack("{s:I, s:b, s:b}", "step", (json_int_t)step, "latest",
                              links_to(run, "latest", step), "best", links_to(run, "best", step));
    if (weir_manifest_read_one(folder, false, &manifest, &error) != WEIR_OK) {
        (void)json_object_set_new(entry, "problem", json_string(error.message));
        return entry;
    }
    uint64_t bytes = 0;
    for (size_t i = 0; i < manifest.file_count; i++) {
        bytes += manifest.files[i].size;
    }
    (void)json_object_set_new(entry, "epoch", json_integer((json_int_t)manifest.epoch));
    (void)json_object_set_new(entry, "bytes", json_integer((json_int_t)bytes));
    (void)json_object_set_new(entry, "created", json_real(manifest.created));
    (void)json_object_set_new(entry, "servers", json_integer(manifest.ps));
    (void)json_object_set_new(
        entry, "base", manifest.base == 0 ? json_null() : json_integer((json_int_t)manifest.base));
    (void)json_object_set_new(
        entry, "metrics",
        manifest.metrics_json == NULL ? json_null() : json_loads(manifest.metrics_json, 0, NULL));
    weir_manifest_fini(&manifest);
    return entry;
}

static void print_metrics(const json_t *metrics) {
    static const char *const wanted[] = {"ndcg@10", "hr@10", "mrr", "ne", "auc"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        const json_t *value = json_object_get(metrics, wanted[i]);
        if (json_is_number(value)) {
            (void)printf("  %s %.4f", wanted[i], json_number_value(value));
        }
    }
}

static void print_entry(const json_t *entry) {
    char size[32], age[32], base[32] = "full";
    const char *problem = json_string_value(json_object_get(entry, "problem"));
    json_int_t step = json_integer_value(json_object_get(entry, "step"));
    if (problem != NULL) {
        (void)printf("%12" PRId64 "  damaged: %s\n", (int64_t)step, problem);
        return;
    }
    const json_t *built_on = json_object_get(entry, "base");
    if (json_is_integer(built_on)) {
        (void)snprintf(base, sizeof base, "on %" PRId64, (int64_t)json_integer_value(built_on));
    }
    double created = json_number_value(json_object_get(entry, "created"));
    (void)printf("%12" PRId64 "  %-12s %10s  %8s ago%s%s", (int64_t)step, base,
                 weir_human_bytes(json_number_value(json_object_get(entry, "bytes")), size),
                 weir_human_seconds((double)time(NULL) - created, age),
                 json_is_true(json_object_get(entry, "latest")) ? "  latest" : "",
                 json_is_true(json_object_get(entry, "best")) ? "  best" : "");
    print_metrics(json_object_get(entry, "metrics"));
    (void)putchar('\n');
}

int weir_inspect_ls(int argc, char **argv) {
    static const struct argp_option options[] = {WEIR_INSPECT_OPTION_JSON, {0}};
    weir_inspect_t arguments;
    weir_reader_error_t error = {0};
    uint64_t *steps = NULL;
    size_t count = 0;
    weir_inspect_parse(argc, argv, options, "RUN",
                       "The checkpoints of a run: step, whether full or built on another, size, "
                       "age, last evaluation. Manifests alone are read.",
                       1, 1, &arguments);
    const char *run = arguments.words[0];
    weir_inspect_check(weir_reader_list(run, &steps, &count, &error), &error);
    json_t *all = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(all, list_one(run, steps[i]));
    }
    free(steps);
    if (arguments.json) {
        weir_inspect_print_json(json_pack("{s:o}", "checkpoints", all));
        return 0;
    }
    if (count > 0) {
        (void)printf("%12s  %-12s %10s  %8s\n", "step", "kind", "size", "written");
    } else {
        (void)printf("no checkpoint in %s\n", run);
    }
    for (size_t i = 0; i < count; i++) {
        print_entry(json_array_get(all, i));
    }
    json_decref(all);
    return 0;
}

/* ---- tables ---- */

static json_t *table_json(const weir_reader_table_t *table) {
    json_t *columns = json_array();
    size_t row_bytes = 3 * sizeof(uint64_t);
    for (uint32_t c = 0; c < table->column_count; c++) {
        const weir_reader_column_t *column = &table->columns[c];
        row_bytes += column->bytes;
        (void)json_array_append_new(columns,
                                    json_pack("{s:s, s:s, s:I}", "name", column->name, "dtype",
                                              column->dtype, "width", (json_int_t)column->width));
    }
    return json_pack("{s:s, s:I, s:b, s:I, s:s, s:s, s:I, s:I, s:I, s:o}", "name", table->name,
                     "rows", (json_int_t)table->rows, "chained", table->chained, "dim",
                     (json_int_t)table->dim, "schema", table->schema, "optimizer", table->optimizer,
                     "shards", (json_int_t)table->shards, "ttl", (json_int_t)table->ttl,
                     "row_bytes", (json_int_t)row_bytes, "columns", columns);
}

static json_t *tables_json(const weir_reader_t *reader) {
    json_t *tables = json_array();
    for (size_t i = 0; i < weir_reader_table_count(reader); i++) {
        (void)json_array_append_new(tables, table_json(weir_reader_table(reader, i)));
    }
    return tables;
}

static void print_tables(const weir_reader_t *reader) {
    for (size_t i = 0; i < weir_reader_table_count(reader); i++) {
        const weir_reader_table_t *table = weir_reader_table(reader, i);
        char rows[32], name[64], optimizer[32];
        weir_file_printable(table->name, name, sizeof name);
        weir_file_printable(table->optimizer, optimizer, sizeof optimizer);
        (void)printf("table %s: %s%s rows of %" PRIu32 " numbers in %u files, optimizer %s\n", name,
                     table->chained ? "at most " : "", weir_human_count((double)table->rows, rows),
                     table->dim, table->shards, optimizer);
        for (uint32_t c = 0; c < table->column_count; c++) {
            const weir_reader_column_t *column = &table->columns[c];
            weir_file_printable(column->name, name, sizeof name);
            (void)printf("  %-16s %-5s x %" PRIu64 "\n", name, column->dtype, column->width);
        }
    }
}

int weir_inspect_tables(int argc, char **argv) {
    static const struct argp_option options[] = {WEIR_INSPECT_OPTION_JSON, {0}};
    weir_inspect_t arguments;
    weir_inspect_parse(argc, argv, options, "WHERE",
                       "The tables of a checkpoint and their columns, as the headers say. WHERE is "
                       "a checkpoint, or a run, whose latest is meant.",
                       1, 1, &arguments);
    weir_reader_t *reader = weir_inspect_open(arguments.words[0], NULL, NULL);
    if (arguments.json) {
        weir_inspect_print_json(json_pack("{s:o}", "tables", tables_json(reader)));
    } else {
        print_tables(reader);
    }
    weir_reader_close(reader);
    return 0;
}

/* ---- info ---- */

static json_t *info_json(const weir_reader_t *reader) {
    const weir_reader_checkpoint_t *about = weir_reader_about(reader);
    json_t *chain = json_array();
    for (size_t i = 0; i < about->chain_count; i++) {
        (void)json_array_append_new(chain, json_integer((json_int_t)about->chain[i]));
    }
    return json_pack(
        "{s:s, s:I, s:I, s:o, s:I, s:I, s:f, s:s, s:I, s:o, s:I, s:s, s:o}", "folder",
        about->folder, "step", (json_int_t)about->step, "epoch", (json_int_t)about->epoch, "chain",
        chain, "servers", (json_int_t)about->servers, "workers", (json_int_t)about->workers,
        "created", about->created, "version", about->version, "bytes", (json_int_t)about->bytes,
        "tables", tables_json(reader), "dense_tensors",
        (json_int_t)weir_reader_dense_count(reader, false), "config", about->config, "metrics",
        about->metrics == NULL ? json_null() : json_loads(about->metrics, 0, NULL));
}

int weir_inspect_info(int argc, char **argv) {
    static const struct argp_option options[] = {WEIR_INSPECT_OPTION_JSON, {0}};
    weir_inspect_t arguments;
    char folder[256], when[64], size[32];
    weir_inspect_parse(argc, argv, options, "WHERE",
                       "What manifests and headers say of a checkpoint, however large: none of its "
                       "rows are read. WHERE is a checkpoint, or a run, whose latest is meant.",
                       1, 1, &arguments);
    weir_reader_t *reader = weir_inspect_open(arguments.words[0], NULL, NULL);
    const weir_reader_checkpoint_t *about = weir_reader_about(reader);
    if (arguments.json) {
        weir_inspect_print_json(info_json(reader));
        weir_reader_close(reader);
        return 0;
    }
    weir_file_printable(about->folder, folder, sizeof folder);
    weir_human_time(about->created, when, sizeof when);
    (void)printf("%s\nstep %" PRIu64 ", epoch %" PRIu64 ", %s, written %s by weir %s, %u servers, "
                 "%u workers\n",
                 folder, about->step, about->epoch, weir_human_bytes((double)about->bytes, size),
                 when, about->version, about->servers, about->workers);
    if (about->chain_count == 0) {
        (void)puts("full: it builds on no other");
    } else {
        (void)printf("builds on");
        for (size_t i = 0; i < about->chain_count; i++) {
            (void)printf("%s step %" PRIu64, i == 0 ? "" : ",", about->chain[i]);
        }
        (void)putchar('\n');
    }
    print_tables(reader);
    (void)printf("dense: %zu tensors\n", weir_reader_dense_count(reader, false));
    weir_reader_close(reader);
    return 0;
}
