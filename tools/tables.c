#include "tools/tables.h"

#include "tools/dataset_writer.h"
#include "tools/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIELD_USER,
    FIELD_ITEM,
    FIELD_TIME,
    FIELD_RATING,
    FIELDS,
    COLUMN_LIMIT = FIELDS + WEIR_DATASET_MAX_ACTIONS + WEIR_DATASET_MAX_NUMBERS +
                   3 * WEIR_DATASET_MAX_FEATURES,
    WORD_LIMIT = 1 + WEIR_DATASET_MAX_NUMBERS + WEIR_DATASET_MAX_FEATURES,
    ID_LIMIT = 4096
};

/* Features of one kind: of the context, of items, or of users. */
typedef struct {
    const weir_schema_feature_t *schemas; /* not owned */
    weir_feature_ids_t ids[WEIR_DATASET_MAX_FEATURES];
    size_t count;
} kind_t;

struct weir_tables {
    const weir_schema_t *schema; /* not owned */
    weir_dataset_columns_t columns;
    weir_dataset_values_t values;
    kind_t context, items, users;
};

static void get_text(void *list, uint64_t index, const char **bytes, size_t *size) {
    weir_interner_get(list, (uint32_t)index, bytes, size);
}

static weir_err_t init_kind(const weir_schema_feature_t *schemas, size_t count, kind_t *kind,
                            weir_feature_t *features, weir_strings_t *texts, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    kind->schemas = schemas;
    for (; kind->count < count && err == WEIR_OK; kind->count++) {
        memcpy(features[kind->count].name, schemas[kind->count].name, WEIR_DATASET_NAME);
        err = weir_feature_ids_init(&schemas[kind->count], &kind->ids[kind->count], error);
        if (err == WEIR_OK && kind->ids[kind->count].dictionary != NULL) {
            texts[kind->count] = (weir_strings_t){get_text, kind->ids[kind->count].dictionary};
        }
    }
    return err;
}

weir_err_t weir_tables_create(const weir_schema_t *schema, weir_tables_t **tables,
                              weir_error_t *error) {
    weir_tables_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the tables of a schema");
    }
    weir_dataset_columns_t *columns = &made->columns;
    made->schema = schema;
    columns->action_count = schema->action_count;
    columns->number_count = schema->number_count;
    columns->context_count = schema->context_count;
    columns->item_count = schema->item_count;
    columns->user_count = schema->user_count;
    for (size_t i = 0; i < schema->action_count; i++) {
        memcpy(columns->actions[i], schema->actions[i].name, WEIR_DATASET_NAME);
    }
    for (size_t i = 0; i < schema->number_count; i++) {
        memcpy(columns->numbers[i].name, schema->numbers[i].name, WEIR_DATASET_NAME);
    }
    weir_err_t err = init_kind(schema->context, schema->context_count, &made->context,
                               columns->context, made->values.lists[WEIR_FEATURE_CONTEXT], error);
    if (err == WEIR_OK) {
        err = init_kind(schema->items, schema->item_count, &made->items, columns->items,
                        made->values.lists[WEIR_FEATURE_ITEM], error);
    }
    if (err == WEIR_OK) {
        err = init_kind(schema->users, schema->user_count, &made->users, columns->users,
                        made->values.lists[WEIR_FEATURE_USER], error);
    }
    if (err != WEIR_OK) {
        weir_tables_destroy(made);
        return err;
    }
    *tables = made;
    return WEIR_OK;
}

static void fini_kind(kind_t *kind) {
    for (size_t i = 0; i < kind->count; i++) {
        weir_feature_ids_fini(&kind->ids[i]);
    }
}

void weir_tables_destroy(weir_tables_t *tables) {
    if (tables != NULL) {
        fini_kind(&tables->context);
        fini_kind(&tables->items);
        fini_kind(&tables->users);
        free(tables);
    }
}

const weir_dataset_columns_t *weir_tables_columns(const weir_tables_t *tables) {
    return &tables->columns;
}

const weir_dataset_values_t *weir_tables_values(const weir_tables_t *tables) {
    return &tables->values;
}

/* ---- reading records ---- */

/* Whether a feature's values come from this file; NULL: the log. */
static bool comes_from(const weir_schema_feature_t *feature, const weir_schema_file_t *file) {
    bool timed =
        feature->encoding == WEIR_ENCODING_HOUR || feature->encoding == WEIR_ENCODING_WEEKDAY;
    return !timed && strcmp(feature->from, file == NULL ? "" : file->name) == 0;
}

/* Add the columns of a kind's features that come from `file`. */
static void want_kind(const kind_t *kind, const weir_schema_file_t *file, const char **wanted,
                      size_t *count) {
    for (size_t i = 0; i < kind->count; i++) {
        if (comes_from(&kind->schemas[i], file)) {
            wanted[(*count)++] = kind->schemas[i].column;
        }
    }
}

/* Set the features of `index` from fields in the order of want_kind. */
static weir_err_t set_kind(kind_t *kind, const weir_schema_file_t *file, size_t index,
                           const weir_field_t **fields, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < kind->count && err == WEIR_OK; i++) {
        if (comes_from(&kind->schemas[i], file)) {
            uint32_t id = 0;
            err = weir_feature_ids_encode(&kind->ids[i], *(*fields)++, &id, error);
            if (err == WEIR_OK && id > 0) {
                err = weir_feature_ids_set(&kind->ids[i], index, id, error);
            }
        }
    }
    return err;
}

typedef struct {
    weir_tables_t *tables;
    const weir_schema_file_t *file; /* NULL: the log */
    const weir_tables_out_t *out;
    const char *name; /* of the input */
} reading_t;

typedef weir_err_t add_t(const reading_t *reading, const weir_record_t *record,
                         weir_error_t *error);

static weir_err_t read_records(const reading_t *reading, weir_records_t *records,
                               const weir_input_t *input, add_t *add, weir_error_t *error) {
    weir_progress_t progress;
    weir_record_t record;
    bool more = true;
    uint64_t count = 0;
    weir_progress_begin(&progress, "reading", "records", input->total);
    reading->out->bad->progress = &progress;
    weir_err_t err = weir_records_read(records, &record, &more, error);
    while (err == WEIR_OK && more) {
        count++;
        err = record.bad == NULL ? add(reading, &record, error)
                                 : weir_bad_lines_add(reading->out->bad, reading->name, record.line,
                                                      record.bad, NULL, 0, error);
        if (count % 8192 == 0) {
            weir_progress_update(&progress, input->taken, count);
        }
        if (err == WEIR_OK) {
            err = weir_records_read(records, &record, &more, error);
        }
    }
    *reading->out->lines += reading->file == NULL ? count : 0;
    weir_progress_clear(&progress);
    reading->out->bad->progress = NULL;
    return err;
}

static weir_err_t read_input(const reading_t *reading, weir_input_t *input,
                             const weir_schema_file_t *form, const char *const *wanted,
                             size_t count, add_t *add, weir_error_t *error) {
    weir_records_t *records = NULL;
    weir_err_t err =
        weir_records_open(input, form->format, form->delimiter, wanted, count, &records, error);
    if (err == WEIR_OK) {
        err = read_records(reading, records, input, add, error);
    }
    weir_records_close(records);
    return err;
}

/* ---- the log ---- */

/* A flag: 0, 1, true, false, nothing (no), or a number to compare. */
static bool parse_flag(weir_field_t field, double at_least, bool *flag) {
    float number = 0.0f;
    if (field.bytes == NULL || field.size == 0 ||
        (field.size == 5 &&
         (memcmp(field.bytes, "false", 5) == 0 || memcmp(field.bytes, "False", 5) == 0))) {
        *flag = false;
        return true;
    }
    if (field.size == 4 &&
        (memcmp(field.bytes, "true", 4) == 0 || memcmp(field.bytes, "True", 4) == 0)) {
        *flag = true;
        return true;
    }
    if (!weir_number_parse_real(field.bytes, field.size, &number)) {
        return false;
    }
    *flag = fabs(at_least) > 0.0 ? (double)number >= at_least : number > 0.0f;
    return true;
}

/* Actions and numbers into words; NULL, or why the record is bad, and `*fields` at the culprit. */
static const char *take_words(const weir_schema_t *schema, const weir_field_t **fields,
                              uint32_t *words, size_t *used) {
    uint32_t bits = 0;
    for (size_t i = 0; i < schema->action_count; i++, (*fields)++) {
        bool flag = false;
        if (!parse_flag(**fields, schema->actions[i].value, &flag)) {
            return "an action is no flag and no number";
        }
        bits |= (uint32_t)flag << i;
    }
    if (schema->action_count > 0) {
        words[(*used)++] = bits;
    }
    for (size_t i = 0; i < schema->number_count; i++, (*fields)++) {
        float number = 0.0f;
        double scale = schema->numbers[i].value;
        if ((*fields)->bytes == NULL ||
            !weir_number_parse_real((*fields)->bytes, (*fields)->size, &number)) {
            return "a number is missing, or is none";
        }
        number = fabs(scale) > 0.0 ? (float)((double)number * scale) : number;
        if (!isfinite(number)) {
            return "a number is beyond every float";
        }
        memcpy(&words[(*used)++], &number, sizeof number);
    }
    return NULL;
}

static const char *take_base(const weir_schema_t *schema, const weir_field_t fields[FIELDS],
                             int64_t *time, float *rating, const weir_field_t **culprit) {
    *culprit = &fields[FIELD_USER];
    if (fields[FIELD_USER].size == 0 || fields[FIELD_USER].size > ID_LIMIT) {
        return "the user is empty, or its id longer than 4096 bytes";
    }
    *culprit = &fields[FIELD_ITEM];
    if (fields[FIELD_ITEM].size == 0 || fields[FIELD_ITEM].size > ID_LIMIT) {
        return "the item is empty, or its id longer than 4096 bytes";
    }
    *culprit = &fields[FIELD_TIME];
    if (fields[FIELD_TIME].bytes == NULL ||
        !weir_number_parse_time(fields[FIELD_TIME].bytes, fields[FIELD_TIME].size,
                                schema->per_second, time)) {
        return "the time is not a number of plausible size";
    }
    *culprit = &fields[FIELD_RATING];
    if (schema->rating[0] != '\0' &&
        (fields[FIELD_RATING].bytes == NULL ||
         !weir_number_parse_real(fields[FIELD_RATING].bytes, fields[FIELD_RATING].size, rating))) {
        return "the rating is not a finite number";
    }
    return NULL;
}

static weir_err_t add_event(const reading_t *reading, const weir_record_t *record,
                            weir_error_t *error) {
    weir_tables_t *tables = reading->tables;
    const weir_tables_out_t *out = reading->out;
    const weir_field_t *culprit = NULL, *next = record->fields + FIELDS;
    uint32_t words[WORD_LIMIT], user = 0, item = 0;
    size_t used = 0;
    int64_t time = 0;
    float rating = 1.0f;
    const char *reason = take_base(tables->schema, record->fields, &time, &rating, &culprit);
    if (reason == NULL) {
        reason = take_words(tables->schema, &next, words, &used);
        culprit = next;
    }
    if (reason != NULL) {
        return weir_bad_lines_add(out->bad, reading->name, record->line, reason, culprit->bytes,
                                  culprit->size, error);
    }
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < tables->context.count && err == WEIR_OK; i++) {
        weir_feature_ids_t *ids = &tables->context.ids[i];
        if (comes_from(ids->schema, NULL)) {
            err = weir_feature_ids_encode(ids, *next++, &words[used++], error);
        } else {
            words[used++] = weir_feature_ids_of_time(ids, time);
        }
    }
    const weir_field_t *fields = record->fields;
    if (err == WEIR_OK) {
        err = weir_interner_add(out->users, fields[FIELD_USER].bytes, fields[FIELD_USER].size,
                                &user, NULL, error);
    }
    if (err == WEIR_OK) {
        err = weir_interner_add(out->items, fields[FIELD_ITEM].bytes, fields[FIELD_ITEM].size,
                                &item, NULL, error);
    }
    if (err == WEIR_OK) {
        err = weir_event_log_add(out->log, user, item, time, rating, error);
    }
    if (err == WEIR_OK && used > 0) {
        memcpy(weir_event_log_last_words(out->log), words, used * sizeof *words);
    }
    if (err == WEIR_OK) {
        err = set_kind(&tables->items, NULL, item, &next, error);
    }
    return err == WEIR_OK ? set_kind(&tables->users, NULL, user, &next, error) : err;
}

weir_err_t weir_tables_read_log(weir_tables_t *tables, weir_input_t *input,
                                const weir_tables_out_t *out, weir_error_t *error) {
    const weir_schema_t *schema = tables->schema;
    /* without a rating its place is held by the time */
    const char *wanted[COLUMN_LIMIT] = {schema->user, schema->item, schema->time,
                                        schema->rating[0] != '\0' ? schema->rating : schema->time};
    size_t count = FIELDS;
    for (size_t i = 0; i < schema->action_count; i++) {
        wanted[count++] = schema->actions[i].column;
    }
    for (size_t i = 0; i < schema->number_count; i++) {
        wanted[count++] = schema->numbers[i].column;
    }
    want_kind(&tables->context, NULL, wanted, &count);
    want_kind(&tables->items, NULL, wanted, &count);
    want_kind(&tables->users, NULL, wanted, &count);
    reading_t reading = {tables, NULL, out, input->name};
    return read_input(&reading, input, &schema->log, wanted, count, add_event, error);
}

/* ---- further files ---- */

static weir_err_t add_features(const reading_t *reading, const weir_record_t *record,
                               weir_error_t *error) {
    const weir_field_t *key = record->fields, *next = record->fields + 1;
    weir_tables_t *tables = reading->tables;
    uint32_t number = 0;
    weir_err_t err = WEIR_OK;
    if (key->bytes == NULL || key->size == 0) {
        return weir_bad_lines_add(reading->out->bad, reading->name, record->line,
                                  "the key is empty", NULL, 0, error);
    }
    size_t of_items = 0;
    const char *unused[WEIR_DATASET_MAX_FEATURES];
    want_kind(&tables->items, reading->file, unused, &of_items);
    const weir_field_t *users_next = next + of_items;
    if (of_items > 0 && weir_interner_find(reading->out->items, key->bytes, key->size, &number)) {
        err = set_kind(&tables->items, reading->file, number, &next, error);
    }
    if (err == WEIR_OK && weir_interner_find(reading->out->users, key->bytes, key->size, &number)) {
        err = set_kind(&tables->users, reading->file, number, &users_next, error);
    }
    return err;
}

weir_err_t weir_tables_read_file(weir_tables_t *tables, const weir_schema_file_t *file,
                                 weir_input_t *input, const weir_tables_out_t *out,
                                 weir_error_t *error) {
    const char *wanted[COLUMN_LIMIT] = {file->key};
    size_t count = 1;
    want_kind(&tables->items, file, wanted, &count);
    want_kind(&tables->users, file, wanted, &count);
    reading_t reading = {tables, file, out, input->name};
    return read_input(&reading, input, file, wanted, count, add_features, error);
}

static weir_err_t finish_kind(kind_t *kind, size_t count, weir_feature_t *features,
                              weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < kind->count && err == WEIR_OK; i++) {
        err = weir_feature_ids_reserve(&kind->ids[i], count, error);
        features[i].size = weir_feature_ids_size(&kind->ids[i]);
        features[i].ids = kind->ids[i].ids;
    }
    return err;
}

weir_err_t weir_tables_finish(weir_tables_t *tables, const weir_tables_out_t *out,
                              weir_error_t *error) {
    weir_dataset_columns_t *columns = &tables->columns;
    weir_err_t err = finish_kind(&tables->context, 0, columns->context, error);
    if (err == WEIR_OK) {
        err = finish_kind(&tables->items, weir_interner_count(out->items), columns->items, error);
    }
    if (err == WEIR_OK) {
        err = finish_kind(&tables->users, weir_interner_count(out->users), columns->users, error);
    }
    return err;
}
