#include "tools/schema.h"

#include "tools/schema_yaml.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    weir_schema_t *schema;
} parsing_t;

static weir_err_t refuse(const parsing_t *parsing, const weir_schema_entry_t *entry,
                         const char *sentence, weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: %.40s.%.64s%s%.40s: %s (%.80s)",
                       parsing->name, entry->line, entry->section, entry->key,
                       entry->part[0] != '\0' ? "." : "", entry->part, sentence, entry->value);
}

static bool is(const char *word, const char *other) {
    return strcmp(word, other) == 0;
}

static weir_err_t set_text(const parsing_t *parsing, const weir_schema_entry_t *entry,
                           char out[WEIR_SCHEMA_TEXT], weir_error_t *error) {
    size_t size = strlen(entry->value);
    if (size == 0 || size >= WEIR_SCHEMA_TEXT || out[0] != '\0') {
        return refuse(parsing, entry, out[0] != '\0' ? "given twice" : "expected 1 to 255 bytes",
                      error);
    }
    memcpy(out, entry->value, size + 1);
    return WEIR_OK;
}

static bool parse_number(const char *text, double *value) {
    char *end = NULL;
    double parsed = strtod(text, &end);
    if (text[0] == '\0' || *end != '\0' || text[strspn(text, "0123456789+-.eE")] != '\0' ||
        !isfinite(parsed)) {
        return false;
    }
    *value = parsed;
    return true;
}

/* The entry of a list by its name: the one there is, or a new one at its end. */
static void *find_or_add(void *list, size_t stride, size_t *count, size_t limit, const char *name) {
    char *entries = list;
    for (size_t i = 0; i < *count; i++) {
        if (is(entries + i * stride, name)) { /* the name is the first member */
            return entries + i * stride;
        }
    }
    if (*count == limit || !weir_dataset_name_is_sound(name, strlen(name))) {
        return NULL;
    }
    char *added = entries + (*count)++ * stride;
    memcpy(added, name, strlen(name) + 1);
    return added;
}

/* ---- files ---- */

static weir_err_t set_file(const parsing_t *parsing, const weir_schema_entry_t *entry,
                           const char *word, weir_schema_file_t *file, weir_error_t *error) {
    if (is(word, "path")) {
        weir_err_t err = set_text(parsing, entry, file->path, error);
        const char *end = strrchr(file->path, '.');
        if (err == WEIR_OK && end != NULL && (is(end, ".jsonl") || is(end, ".ndjson"))) {
            file->format = WEIR_RECORDS_JSONL;
        }
        return err;
    }
    if (is(word, "key")) {
        return set_text(parsing, entry, file->key, error);
    }
    if (is(word, "format") && (is(entry->value, "csv") || is(entry->value, "jsonl"))) {
        file->format = is(entry->value, "csv") ? WEIR_RECORDS_CSV : WEIR_RECORDS_JSONL;
        return WEIR_OK;
    }
    bool tab = is(entry->value, "tab") || is(entry->value, "\t");
    if (is(word, "delimiter") &&
        (tab || (strlen(entry->value) == 1 && strchr("\"\r\n", entry->value[0]) == NULL))) {
        file->delimiter = tab ? '\t' : entry->value[0];
        return WEIR_OK;
    }
    return refuse(parsing, entry,
                  is(word, "format")      ? "expected csv or jsonl"
                  : is(word, "delimiter") ? "expected one character, or tab"
                                          : "no such key",
                  error);
}

static weir_err_t set_log(const parsing_t *parsing, const weir_schema_entry_t *entry,
                          weir_error_t *error) {
    weir_schema_t *schema = parsing->schema;
    const struct {
        const char *key;
        char *text;
    } texts[] = {{"user", schema->user},
                 {"item", schema->item},
                 {"time", schema->time},
                 {"rating", schema->rating}};
    for (size_t i = 0; i < 4; i++) {
        if (is(entry->key, texts[i].key)) {
            return set_text(parsing, entry, texts[i].text, error);
        }
    }
    if (is(entry->key, "time_unit")) {
        schema->per_second = is(entry->value, "s")    ? 1
                             : is(entry->value, "ms") ? 1000
                             : is(entry->value, "us") ? 1000000
                                                      : 0;
        return schema->per_second > 0 ? WEIR_OK
                                      : refuse(parsing, entry, "expected s, ms or us", error);
    }
    if (is(entry->key, "key")) {
        return refuse(parsing, entry, "no such key", error);
    }
    return set_file(parsing, entry, entry->key, &schema->log, error);
}

/* ---- columns ---- */

/* NAME: COLUMN, or NAME: {column: COLUMN, at_least: NUMBER} (scale: of numbers). */
static weir_err_t set_column(const parsing_t *parsing, const weir_schema_entry_t *entry,
                             weir_schema_column_t *column, const char *value_word,
                             weir_error_t *error) {
    if (column == NULL) {
        return refuse(parsing, entry, "too many, or a name beyond letters, digits, _ - .", error);
    }
    column->line = column->line == 0 ? entry->line : column->line;
    if (entry->part[0] == '\0' || is(entry->part, "column")) {
        return set_text(parsing, entry, column->column, error);
    }
    if (is(entry->part, value_word)) {
        return parse_number(entry->value, &column->value)
                   ? WEIR_OK
                   : refuse(parsing, entry, "expected a number", error);
    }
    return refuse(parsing, entry, "no such key", error);
}

static weir_err_t set_bounds(const parsing_t *parsing, const weir_schema_entry_t *entry,
                             weir_schema_feature_t *feature, weir_error_t *error) {
    const char *at = entry->value;
    feature->bound_count = 0;
    while (*(at += strspn(at, " ")) != '\0') {
        char text[64];
        size_t size = strcspn(at, " "), count = feature->bound_count;
        if (size >= sizeof text || count == WEIR_SCHEMA_BOUNDS) {
            return refuse(parsing, entry, "more than 64 bounds", error);
        }
        memcpy(text, at, size);
        text[size] = '\0';
        if (!parse_number(text, &feature->bounds[count]) ||
            (count > 0 && feature->bounds[count] <= feature->bounds[count - 1])) {
            return refuse(parsing, entry, "expected rising numbers with blanks between", error);
        }
        feature->bound_count++;
        at += size;
    }
    feature->encoding = WEIR_ENCODING_BOUNDS;
    return feature->bound_count > 0 ? WEIR_OK : refuse(parsing, entry, "no bounds", error);
}

static weir_err_t set_feature(const parsing_t *parsing, const weir_schema_entry_t *entry,
                              weir_schema_feature_t *feature, weir_error_t *error) {
    double number = 0.0;
    if (feature == NULL) {
        return refuse(parsing, entry, "too many, or a name beyond letters, digits, _ - .", error);
    }
    feature->line = feature->line == 0 ? entry->line : feature->line;
    if (entry->part[0] == '\0' || is(entry->part, "column")) {
        return set_text(parsing, entry, feature->column, error);
    }
    if (is(entry->part, "from")) {
        size_t size = strlen(entry->value);
        if (size >= sizeof feature->from) {
            return refuse(parsing, entry, "too long", error);
        }
        memcpy(feature->from, entry->value, size + 1);
        return WEIR_OK;
    }
    if (is(entry->part, "of_time") && (is(entry->value, "hour") || is(entry->value, "weekday"))) {
        feature->encoding = is(entry->value, "hour") ? WEIR_ENCODING_HOUR : WEIR_ENCODING_WEEKDAY;
        return WEIR_OK;
    }
    if (is(entry->part, "hash")) {
        if (!parse_number(entry->value, &number) || number < 1.0 || number > 2147483646.0 ||
            floor(number) < number) {
            return refuse(parsing, entry, "expected a number of buckets from 1", error);
        }
        feature->encoding = WEIR_ENCODING_HASH;
        feature->buckets = (uint32_t)number;
        return WEIR_OK;
    }
    if (is(entry->part, "bounds")) {
        return set_bounds(parsing, entry, feature, error);
    }
    return refuse(parsing, entry,
                  is(entry->part, "of_time") ? "expected hour or weekday" : "no such key", error);
}

static weir_err_t take_entry(void *argument, const weir_schema_entry_t *entry,
                             weir_error_t *error) {
    const parsing_t *parsing = argument;
    weir_schema_t *s = parsing->schema;
    if (is(entry->section, "log") && entry->part[0] == '\0') {
        return set_log(parsing, entry, error);
    }
    if (is(entry->section, "files") && entry->part[0] != '\0') {
        weir_schema_file_t *file =
            find_or_add(s->files, sizeof *s->files, &s->file_count, WEIR_SCHEMA_FILES, entry->key);
        return file == NULL ? refuse(parsing, entry, "more than 8 files, or a bad name", error)
                            : set_file(parsing, entry, entry->part, file, error);
    }
    if (is(entry->section, "actions")) {
        return set_column(parsing, entry,
                          find_or_add(s->actions, sizeof *s->actions, &s->action_count,
                                      WEIR_DATASET_MAX_ACTIONS, entry->key),
                          "at_least", error);
    }
    if (is(entry->section, "numbers")) {
        return set_column(parsing, entry,
                          find_or_add(s->numbers, sizeof *s->numbers, &s->number_count,
                                      WEIR_DATASET_MAX_NUMBERS, entry->key),
                          "scale", error);
    }
    const struct {
        const char *section;
        weir_schema_feature_t *features;
        size_t *count;
    } kinds[] = {{"context", s->context, &s->context_count},
                 {"item_features", s->items, &s->item_count},
                 {"user_features", s->users, &s->user_count}};
    for (size_t i = 0; i < 3; i++) {
        if (is(entry->section, kinds[i].section)) {
            return set_feature(parsing, entry,
                               find_or_add(kinds[i].features, sizeof *kinds[i].features,
                                           kinds[i].count, WEIR_DATASET_MAX_FEATURES, entry->key),
                               error);
        }
    }
    return refuse(parsing, entry,
                  "expected a section of log, files, actions, numbers, context, item_features, "
                  "user_features, with its keys",
                  error);
}

/* ---- what the parts need of each other ---- */

const weir_schema_file_t *weir_schema_find_file(const weir_schema_t *schema, const char *name) {
    for (size_t i = 0; i < schema->file_count; i++) {
        if (is(schema->files[i].name, name)) {
            return &schema->files[i];
        }
    }
    return NULL;
}

static weir_err_t check_features(const parsing_t *parsing, const char *section,
                                 const weir_schema_feature_t *features, size_t count,
                                 weir_error_t *error) {
    for (size_t i = 0; i < count; i++) {
        const weir_schema_feature_t *f = &features[i];
        bool timed = f->encoding == WEIR_ENCODING_HOUR || f->encoding == WEIR_ENCODING_WEEKDAY;
        bool context = is(section, "context");
        const char *sentence =
            timed && !context                 ? "of_time is for context alone"
            : timed != (f->column[0] == '\0') ? "expected a column, or of_time, not both"
            : context && f->from[0] != '\0'   ? "context comes from the log alone"
            : f->from[0] != '\0' && weir_schema_find_file(parsing->schema, f->from) == NULL
                ? "its file is not among the files"
                : NULL;
        if (sentence != NULL) {
            return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: %s.%s: %s", parsing->name, f->line,
                               section, f->name, sentence);
        }
    }
    return WEIR_OK;
}

static weir_err_t check_columns(const parsing_t *parsing, const weir_schema_column_t *columns,
                                size_t count, weir_error_t *error) {
    for (size_t i = 0; i < count; i++) {
        if (columns[i].column[0] == '\0') {
            return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: %s: its column is missing",
                               parsing->name, columns[i].line, columns[i].name);
        }
    }
    return WEIR_OK;
}

static weir_err_t check_schema(const parsing_t *parsing, weir_error_t *error) {
    const weir_schema_t *s = parsing->schema;
    if (s->log.path[0] == '\0' || s->user[0] == '\0' || s->item[0] == '\0' || s->time[0] == '\0') {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s: log.%s is missing", parsing->name,
                           s->log.path[0] == '\0' ? "path"
                           : s->user[0] == '\0'   ? "user"
                           : s->item[0] == '\0'   ? "item"
                                                  : "time");
    }
    for (size_t i = 0; i < s->file_count; i++) {
        if (s->files[i].path[0] == '\0' || s->files[i].key[0] == '\0') {
            return weir_errorf(error, WEIR_ERR_INVALID, "%s: files.%s.%s is missing", parsing->name,
                               s->files[i].name, s->files[i].path[0] == '\0' ? "path" : "key");
        }
    }
    weir_err_t err = check_columns(parsing, s->actions, s->action_count, error);
    if (err == WEIR_OK) {
        err = check_columns(parsing, s->numbers, s->number_count, error);
    }
    if (err == WEIR_OK) {
        err = check_features(parsing, "context", s->context, s->context_count, error);
    }
    if (err == WEIR_OK) {
        err = check_features(parsing, "item_features", s->items, s->item_count, error);
    }
    if (err == WEIR_OK) {
        err = check_features(parsing, "user_features", s->users, s->user_count, error);
    }
    return err;
}

weir_err_t weir_schema_parse(const char *text, size_t size, const char *name, weir_schema_t *schema,
                             weir_error_t *error) {
    parsing_t parsing = {name, schema};
    memset(schema, 0, sizeof *schema);
    schema->per_second = 1;
    schema->log.delimiter = ',';
    for (size_t i = 0; i < WEIR_SCHEMA_FILES; i++) {
        schema->files[i].delimiter = ',';
    }
    weir_err_t err = weir_schema_yaml_read(text, size, name, take_entry, &parsing, error);
    return err != WEIR_OK ? err : check_schema(&parsing, error);
}
