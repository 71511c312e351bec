#include "tools/records.h"

#include "common/suggest.h"
#include "tools/csv.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_SIZE = 40, KEY_LIMIT = 256 };

struct weir_records {
    weir_input_t *input; /* not owned */
    weir_records_format_t format;
    size_t count;
    char **columns;       /* [count] owned */
    weir_field_t *fields; /* [count] */
    /* CSV */
    weir_csv_t csv;
    bool has_csv;
    size_t *numbers; /* [count] place of each column in a record */
    size_t needed;   /* fields that a record must have */
    /* JSON lines */
    json_t *object;             /* that the fields point into */
    char (*texts)[NUMBER_SIZE]; /* [count] of numbers */
};

void weir_records_close(weir_records_t *records) {
    if (records == NULL) {
        return;
    }
    for (size_t i = 0; records->columns != NULL && i < records->count; i++) {
        free(records->columns[i]);
    }
    if (records->has_csv) {
        weir_csv_fini(&records->csv);
    }
    json_decref(records->object);
    free(records->columns);
    free(records->fields);
    free(records->numbers);
    free(records->texts);
    free(records);
}

/* ---- CSV ---- */

static weir_err_t refuse_column(const weir_records_t *records, const char *column,
                                const weir_csv_record_t *header, weir_error_t *error) {
    weir_suggest_t suggest;
    char names[64][64];
    weir_suggest_init(&suggest, column);
    for (size_t i = 0; i < header->count && i < 64; i++) {
        int size = header->fields[i].size < 63 ? (int)header->fields[i].size : 63;
        (void)snprintf(names[i], sizeof names[i], "%.*s", size, header->fields[i].bytes);
        weir_suggest_offer(&suggest, names[i]);
    }
    return weir_errorf(error, WEIR_ERR_INVALID, "%s: the header has no column %.64s%s%s",
                       records->input->name, column,
                       suggest.nearest != NULL ? "; did you mean " : "",
                       suggest.nearest != NULL ? suggest.nearest : "");
}

static weir_err_t read_header(weir_records_t *records, weir_error_t *error) {
    weir_csv_record_t header;
    bool more = true;
    weir_err_t err = weir_csv_read(&records->csv, &header, &more, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (!more || header.bad != NULL) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s: no header that names the columns%s%s",
                           records->input->name, more ? ": " : "", more ? header.bad : "");
    }
    for (size_t i = 0; i < records->count; i++) {
        const char *column = records->columns[i];
        size_t at = 0;
        while (at < header.count &&
               (header.fields[at].size != strlen(column) ||
                memcmp(header.fields[at].bytes, column, strlen(column)) != 0)) {
            at++;
        }
        if (at == header.count) {
            return refuse_column(records, column, &header, error);
        }
        records->numbers[i] = at;
        records->needed = at + 1 > records->needed ? at + 1 : records->needed;
    }
    records->csv.wanted = records->needed;
    return WEIR_OK;
}

static weir_err_t read_csv(weir_records_t *records, weir_record_t *record, bool *more,
                           weir_error_t *error) {
    weir_csv_record_t read;
    weir_err_t err = weir_csv_read(&records->csv, &read, more, error);
    if (err != WEIR_OK || !*more) {
        return err;
    }
    *record = (weir_record_t){.line = read.line, .bad = read.bad};
    if (read.bad == NULL && read.count < records->needed) {
        record->bad = "the record has too few fields";
    }
    for (size_t i = 0; record->bad == NULL && i < records->count; i++) {
        const weir_csv_field_t *field = &read.fields[records->numbers[i]];
        records->fields[i] = (weir_field_t){field->bytes, field->size};
    }
    record->fields = record->bad == NULL ? records->fields : NULL;
    return WEIR_OK;
}

/* ---- JSON lines ---- */

/* The value of a key, or of keys with dots between. */
static const json_t *find_value(const json_t *object, const char *column) {
    const json_t *value = json_object_get(object, column);
    const char *dot = strchr(column, '.');
    if (value != NULL || dot == NULL || dot - column >= KEY_LIMIT) {
        return value;
    }
    char key[KEY_LIMIT];
    memcpy(key, column, (size_t)(dot - column));
    key[dot - column] = '\0';
    const json_t *inner = json_object_get(object, key);
    return json_is_object(inner) ? find_value(inner, dot + 1) : NULL;
}

/* The fewest digits that give the same double back: 0.1, not 0.10000000000000001. */
static int print_real(double value, char text[NUMBER_SIZE]) {
    int size = 0;
    for (int digits = 15; digits <= 17; digits++) {
        size = snprintf(text, NUMBER_SIZE, "%.*g", digits, value);
        double again = strtod(text, NULL);
        if (memcmp(&again, &value, sizeof value) == 0) {
            break;
        }
    }
    return size;
}

/* False: a list or an object. */
static bool take_value(const json_t *value, char text[NUMBER_SIZE], weir_field_t *field) {
    int size = 0;
    *field = (weir_field_t){0};
    switch (value != NULL ? json_typeof(value) : JSON_NULL) {
    case JSON_STRING:
        *field = (weir_field_t){json_string_value(value), json_string_length(value)};
        return true;
    case JSON_INTEGER:
        size = snprintf(text, NUMBER_SIZE, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        size = print_real(json_real_value(value), text);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        size = snprintf(text, NUMBER_SIZE, "%d", json_is_true(value) ? 1 : 0);
        break;
    case JSON_NULL:
        return true;
    default:
        return false;
    }
    *field = (weir_field_t){text, (size_t)size};
    return true;
}

static weir_err_t read_jsonl(weir_records_t *records, weir_record_t *record, bool *more,
                             weir_error_t *error) {
    weir_line_t line;
    weir_err_t err = WEIR_OK;
    do { /* empty lines are no records */
        err = weir_input_read_line(records->input, &line, more, error);
    } while (err == WEIR_OK && *more && line.size == 0 && !line.too_long);
    if (err != WEIR_OK || !*more) {
        return err;
    }
    json_decref(records->object);
    records->object =
        line.too_long ? NULL : json_loadb(line.bytes, line.size, JSON_REJECT_DUPLICATES, NULL);
    *record = (weir_record_t){.line = line.number};
    if (!json_is_object(records->object)) {
        record->bad = line.too_long             ? "the line is longer than 1 MiB"
                      : records->object == NULL ? "the line is no JSON"
                                                : "the line is no JSON object";
        return WEIR_OK;
    }
    for (size_t i = 0; i < records->count; i++) {
        if (!take_value(find_value(records->object, records->columns[i]), records->texts[i],
                        &records->fields[i])) {
            record->bad = "a value is a list or an object";
            return WEIR_OK;
        }
    }
    record->fields = records->fields;
    return WEIR_OK;
}

/* ---- both ---- */

weir_err_t weir_records_open(weir_input_t *input, weir_records_format_t format, char delimiter,
                             const char *const *columns, size_t count, weir_records_t **records,
                             weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    weir_records_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "%s: out of memory", input->name);
    }
    *made = (weir_records_t){.input = input, .format = format, .count = count};
    made->columns = calloc(count + 1, sizeof *made->columns);
    made->fields = calloc(count + 1, sizeof *made->fields);
    made->numbers = calloc(count + 1, sizeof *made->numbers);
    made->texts = calloc(count + 1, sizeof *made->texts);
    bool copied = made->columns != NULL && made->fields != NULL && made->numbers != NULL &&
                  made->texts != NULL;
    for (size_t i = 0; copied && i < count; i++) {
        made->columns[i] = strdup(columns[i]);
        copied = made->columns[i] != NULL;
    }
    if (!copied) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "%s: out of memory", input->name);
    }
    if (err == WEIR_OK && format == WEIR_RECORDS_CSV) {
        err = weir_csv_init(&made->csv, input, delimiter, error);
        made->has_csv = err == WEIR_OK;
        if (err == WEIR_OK) {
            err = read_header(made, error);
        }
    }
    if (err != WEIR_OK) {
        weir_records_close(made);
        return err;
    }
    *records = made;
    return WEIR_OK;
}

weir_err_t weir_records_read(weir_records_t *records, weir_record_t *record, bool *more,
                             weir_error_t *error) {
    return records->format == WEIR_RECORDS_CSV ? read_csv(records, record, more, error)
                                               : read_jsonl(records, record, more, error);
}
