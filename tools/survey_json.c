/* A survey as one JSON object (docs/files/checkpoint.md says what the numbers are). */
#include "tools/survey.h"

#include "common/config.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Take over `value` under `key`; a NULL of either stays NULL, which the caller sees at the end. */
static json_t *put(json_t *object, const char *key, json_t *value) {
    if (object == NULL) {
        json_decref(value);
        return NULL;
    }
    if (json_object_set_new(object, key, value) != 0) { /* fails for a NULL value too */
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *append(json_t *array, json_t *value) {
    if (array == NULL) {
        json_decref(value);
        return NULL;
    }
    if (json_array_append_new(array, value) != 0) {
        json_decref(array);
        return NULL;
    }
    return array;
}

static json_t *whole(uint64_t value) {
    return json_integer((json_int_t)value);
}

/* JSON has no infinity. */
static json_t *real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

/* A name from a file, which may be no UTF-8. */
static json_t *text(const char *name) {
    char printable[1024];
    json_t *string = json_string(name);
    if (string != NULL) {
        return string;
    }
    size_t used = 0;
    for (; name[used] != '\0' && used + 1 < sizeof printable; used++) {
        char c = name[used];
        printable[used] = (char)(c >= ' ' && c <= '~' ? c : '?');
    }
    printable[used] = '\0';
    return json_string(printable);
}

static json_t *hex(uint64_t value) {
    char digits[17];
    (void)snprintf(digits, sizeof digits, "%016" PRIx64, value);
    return json_string(digits);
}

static json_t *make_values(json_t *object, const weir_survey_values_t *values) {
    object = put(object, "norm", real(values->norm));
    object = put(object, "min", real(values->min));
    object = put(object, "max", real(values->max));
    object = put(object, "nan", whole(values->nan));
    return put(object, "inf", whole(values->infinite));
}

static json_t *make_table(const weir_survey_table_t *table) {
    json_t *norms = put(json_object(), "min", real(table->norms.min));
    norms = put(norms, "mean", real(table->norms.mean));
    norms = put(norms, "max", real(table->norms.max));
    json_t *fields = json_object(), *shards = json_array();
    uint64_t nan = 0, infinite = 0;
    for (size_t f = 0; f < table->field_count; f++) {
        const weir_survey_field_t *field = &table->fields[f];
        json_t *made = put(json_object(), "width", whole(field->width));
        fields = put(fields, field->name, make_values(made, &field->values));
        nan += field->values.nan;
        infinite += field->values.infinite;
    }
    for (size_t s = 0; s < table->shard_count; s++) {
        json_t *shard = put(json_object(), "file", text(table->shards[s].file->name));
        shards = append(shards, put(shard, "rows", whole(table->shards[s].rows)));
    }
    json_t *object = put(json_object(), "name", text(table->name));
    object = put(object, "rows", whole(table->rows));
    object = put(object, "dim", whole(table->dim));
    object = put(object, "optimizer", text(table->optimizer));
    object = put(object, "bytes", whole(table->bytes));
    object = put(object, "norm", norms);
    object = put(object, "nan", whole(nan));
    object = put(object, "inf", whole(infinite));
    object = put(object, "fields", fields);
    return put(object, "shards", shards);
}

static json_t *make_dense(const weir_survey_dense_t *dense) {
    json_t *shape = json_array();
    for (uint32_t i = 0; i < dense->tensor->rank; i++) {
        shape = append(shape, whole(dense->tensor->shape[i]));
    }
    json_t *object = put(json_object(), "name", text(dense->tensor->name));
    object = put(object, "dtype", text(weir_dtype_name(dense->tensor->dtype)));
    object = put(object, "shape", shape);
    return dense->measured ? make_values(object, &dense->values) : object;
}

/* A value as its default's type: a number or a truth where the default is one, else text. */
static json_t *make_setting(const char *value, const char *initial) {
    json_error_t ignored;
    json_t *typed = json_loads(initial, JSON_DECODE_ANY, &ignored);
    bool plain = json_is_number(typed) || json_is_boolean(typed);
    json_decref(typed);
    typed = plain ? json_loads(value, JSON_DECODE_ANY, &ignored) : NULL;
    return typed != NULL ? typed : text(value);
}

/* All keys, or the text itself where this weir does not understand it. */
static json_t *make_config(const char *yaml) {
    weir_config_t config, defaults;
    json_t *object = json_object();
    const char *key;
    if (weir_config_load_text(yaml, strlen(yaml), "configuration", NULL, 0, &config, NULL) !=
        WEIR_OK) {
        return put(object, "not_understood", text(yaml));
    }
    weir_config_defaults(&defaults);
    for (size_t i = 0; (key = weir_config_key_name(i)) != NULL; i++) {
        char value[WEIR_CONFIG_TEXT], initial[WEIR_CONFIG_TEXT];
        (void)weir_config_get_text(&config, key, value, sizeof value);
        (void)weir_config_get_text(&defaults, key, initial, sizeof initial);
        object = put(object, key, make_setting(value, initial));
    }
    return object;
}

static json_t *make_manifest(const weir_survey_t *survey) {
    const weir_manifest_t *manifest = &survey->manifest;
    json_error_t ignored;
    json_t *metrics =
        manifest->metrics_json != NULL ? json_loads(manifest->metrics_json, 0, &ignored) : NULL;
    json_t *object = put(json_object(), "folder", text(survey->folder));
    object = put(object, "step", whole(manifest->step));
    object = put(object, "epoch", whole(manifest->epoch));
    object = put(object, "created", real(manifest->created));
    object = put(object, "version", text(manifest->version));
    object = put(object, "job", hex(manifest->job));
    object = put(object, "ps", whole(manifest->ps));
    object = put(object, "workers", whole(manifest->workers));
    return put(object, "metrics", metrics != NULL ? metrics : json_null());
}

static json_t *make_survey(const weir_survey_t *survey) {
    json_t *tables = json_array(), *dense = json_array(), *files = json_array();
    for (size_t t = 0; t < survey->table_count; t++) {
        tables = append(tables, make_table(&survey->tables[t]));
    }
    for (size_t i = 0; i < survey->dense_count; i++) {
        dense = append(dense, make_dense(&survey->dense[i]));
    }
    for (size_t i = 0; i < survey->manifest.file_count; i++) {
        const weir_checkpoint_file_t *file = &survey->manifest.files[i];
        json_t *entry = put(json_object(), "name", text(file->name));
        entry = put(entry, "size", whole(file->size));
        files = append(files, put(entry, "xxh3", hex(file->checksum)));
    }
    json_t *object = put(make_manifest(survey), "tables", tables);
    object = put(object, "dense", dense);
    object = put(object, "config", make_config(survey->manifest.config_yaml));
    object = put(object, "files", files);
    return put(object, "verified", json_boolean(survey->verified));
}

weir_err_t weir_survey_print_json(const weir_survey_t *survey, weir_error_t *error) {
    json_t *object = make_survey(survey);
    char *dumped = object != NULL ? json_dumps(object, JSON_INDENT(2)) : NULL;
    json_decref(object);
    if (dumped == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the survey as JSON");
    }
    bool written = puts(dumped) >= 0 && fflush(stdout) == 0;
    free(dumped);
    return written ? WEIR_OK : weir_errorf(error, WEIR_ERR_IO, "cannot write to standard output");
}
