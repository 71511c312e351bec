/* A survey as text. Names come from files and may hold anything: they are made printable first. */
#include "tools/survey.h"

#include "common/config.h"
#include "tools/human.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_WIDTH_MAX = 40 };

static void print_head(const weir_survey_t *survey) {
    const weir_manifest_t *manifest = &survey->manifest;
    char when[64], folder[WEIR_PATH_MAX];
    weir_file_printable(survey->folder, folder, sizeof folder);
    weir_human_time(manifest->created, when, sizeof when);
    (void)printf("%s\n", folder);
    (void)printf("  step     %" PRIu64 ", epoch %" PRIu64 "\n", manifest->step, manifest->epoch);
    (void)printf("  written  %s by weir %s, %u servers, %u workers, job %016" PRIx64 "\n", when,
                 manifest->version, manifest->ps, manifest->workers, manifest->job);
}

/* Metrics are numbers by name, whatever the names. */
static void print_metrics(const char *json) {
    json_error_t ignored;
    const char *name;
    json_t *value, *metrics = json != NULL ? json_loads(json, 0, &ignored) : NULL;
    if (json_object_size(metrics) == 0) {
        (void)printf("  metrics  none: not evaluated yet\n");
    } else {
        const char *gap = "  metrics  ";
        json_object_foreach(metrics, name, value) {
            char shown[32];
            weir_file_printable(name, shown, sizeof shown);
            if (json_is_integer(value)) {
                (void)printf("%s%s %lld", gap, shown, (long long)json_integer_value(value));
            } else if (json_is_real(value)) {
                (void)printf("%s%s %.4f", gap, shown, json_real_value(value));
            }
            gap = "  ";
        }
        (void)putchar('\n');
    }
    json_decref(metrics);
}

static void print_tables(const weir_survey_t *survey) {
    (void)printf("\n%-12s %12s %5s  %-16s %10s  %10s %10s %10s  %6s %6s\n", "table", "rows", "dim",
                 "optimizer", "size", "norm min", "mean", "max", "NaN", "Inf");
    for (size_t t = 0; t < survey->table_count; t++) {
        const weir_survey_table_t *table = &survey->tables[t];
        char name[WEIR_SURVEY_TABLE_NAME], rows[32], size[32];
        uint64_t nan = 0, infinite = 0;
        for (size_t f = 0; f < table->field_count; f++) {
            nan += table->fields[f].values.nan;
            infinite += table->fields[f].values.infinite;
        }
        weir_file_printable(table->name, name, sizeof name);
        (void)printf("%-12s %12s %5" PRIu64 "  %-16s %10s  %10.4g %10.4g %10.4g  %6" PRIu64
                     " %6" PRIu64 "\n",
                     name, weir_human_count((double)table->rows, rows), table->dim,
                     table->optimizer, weir_human_bytes((double)table->bytes, size),
                     table->norms.min, table->norms.mean, table->norms.max, nan, infinite);
        for (size_t s = 0; s < table->shard_count; s++) {
            (void)printf("  server %-3u %12s\n", table->shards[s].index,
                         weir_human_count((double)table->shards[s].rows, rows));
        }
    }
}

static void format_shape(const weir_tensor_t *tensor, char *out, size_t capacity) {
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < tensor->rank && used < capacity; i++) {
        int length = snprintf(out + used, capacity - used, "%s%" PRIu64, i > 0 ? " x " : "",
                              tensor->shape[i]);
        used += length > 0 ? (size_t)length : 0;
    }
    if (tensor->rank == 0) {
        (void)snprintf(out, capacity, "scalar");
    }
}

static void print_dense(const weir_survey_t *survey) {
    int width = 9;
    double total = 0.0;
    char shape[128], name[NAME_WIDTH_MAX + 1], count[32];
    for (size_t i = 0; i < survey->dense_count; i++) {
        weir_file_printable(survey->dense[i].tensor->name, name, sizeof name);
        width = (int)strlen(name) > width ? (int)strlen(name) : width;
        total += (double)survey->dense[i].tensor->elements;
    }
    (void)printf("\n%-*s  %-14s %10s %10s %10s  %6s %6s\n", width, "parameter", "shape", "norm",
                 "min", "max", "NaN", "Inf");
    for (size_t i = 0; i < survey->dense_count; i++) {
        const weir_survey_dense_t *dense = &survey->dense[i];
        const weir_survey_values_t *values = &dense->values;
        weir_file_printable(dense->tensor->name, name, sizeof name);
        format_shape(dense->tensor, shape, sizeof shape);
        if (dense->measured) {
            (void)printf("%-*s  %-14s %10.4g %10.4g %10.4g  %6" PRIu64 " %6" PRIu64 "\n", width,
                         name, shape, values->norm, values->min, values->max, values->nan,
                         values->infinite);
        } else {
            (void)printf("%-*s  %-14s (%s, not measured)\n", width, name, shape,
                         weir_dtype_name(dense->tensor->dtype));
        }
    }
    (void)printf("%-*s  %s\n", width, "together", weir_human_count(total, count));
}

static void print_config(const weir_survey_t *survey, bool all) {
    const char *yaml = survey->manifest.config_yaml;
    weir_config_t config, defaults;
    weir_error_t error = {0};
    const char *key;
    if (weir_config_load_text(yaml, strlen(yaml), "configuration of the checkpoint", NULL, 0,
                              &config, &error) != WEIR_OK) {
        (void)printf("\nconfiguration that this weir does not understand: %s\n", error.message);
        return;
    }
    weir_config_defaults(&defaults);
    (void)printf("\nconfiguration%s\n", all ? "" : ", where it differs from the defaults");
    for (size_t i = 0; (key = weir_config_key_name(i)) != NULL; i++) {
        char value[WEIR_CONFIG_TEXT], initial[WEIR_CONFIG_TEXT];
        (void)weir_config_get_text(&config, key, value, sizeof value);
        (void)weir_config_get_text(&defaults, key, initial, sizeof initial);
        bool differs = strcmp(value, initial) != 0;
        if (differs && initial[0] != '\0') {
            (void)printf("  %-28s %s  (default %s)\n", key, value, initial);
        } else if (all || differs) {
            (void)printf("  %-28s %s\n", key, value);
        }
    }
}

static void print_files(const weir_survey_t *survey) {
    (void)printf("\n%-40s %10s  %s\n", "file", "size",
                 survey->verified ? "xxh3              checksum" : "xxh3");
    for (size_t i = 0; i < survey->manifest.file_count; i++) {
        const weir_checkpoint_file_t *file = &survey->manifest.files[i];
        char size[32];
        (void)printf("%-40s %10s  %016" PRIx64 "%s\n", file->name,
                     weir_human_bytes((double)file->size, size), file->checksum,
                     survey->verified ? "  ok" : "");
    }
    if (!survey->verified) {
        (void)printf("sizes are as the manifest says; --verify compares the checksums too\n");
    }
}

weir_err_t weir_survey_print(const weir_survey_t *survey, bool all, weir_error_t *error) {
    print_head(survey);
    print_metrics(survey->manifest.metrics_json);
    print_tables(survey);
    print_dense(survey);
    print_config(survey, all);
    print_files(survey);
    if (fflush(stdout) != 0) {
        return weir_errorf(error, WEIR_ERR_IO, "cannot write to standard output");
    }
    return WEIR_OK;
}
