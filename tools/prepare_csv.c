/* weir prepare csv: any log with one event a record. Columns are numbers from 0, or names of the
 * header. */
#include "common/log.h"
#include "common/suggest.h"
#include "tools/csv.h"
#include "tools/prepare.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum {
    COLUMN_USER,
    COLUMN_ITEM,
    COLUMN_TIME,
    COLUMN_RATING,
    COLUMNS,
    COLUMN_LIMIT = 65536,
    OPTION_USER = 256,
    OPTION_ITEM,
    OPTION_TIME,
    OPTION_RATING,
    OPTION_HEADER,
    OPTION_DELIMITER,
    OPTION_TIME_UNIT
};

typedef enum { HEADER_AUTO, HEADER_YES, HEADER_NO } header_t;

typedef struct {
    const char *file;
    const char *columns[COLUMNS]; /* as given: a number or a name; rating may be NULL */
    header_t header;
    char delimiter;
    int64_t per_second;
    weir_prepare_options_t common;
} arguments_t;

static const char *const column_options[COLUMNS] = {"--user", "--item", "--time", "--rating"};

static const struct argp_option options[] = {
    {"file", 'f', "FILE", 0, "the log; - is standard input", 0},
    {"user", OPTION_USER, "COLUMN", 0, "column of the user, a number from 0 or a header's name", 0},
    {"item", OPTION_ITEM, "COLUMN", 0, "column of the item", 0},
    {"time", OPTION_TIME, "COLUMN", 0, "column of the time, a number since 1970", 0},
    {"rating", OPTION_RATING, "COLUMN", 0, "column of a rating; without it every action is 1", 0},
    {"header", OPTION_HEADER, "yes|no|auto", 0,
     "the first record names the columns; auto: when its time is a word", 0},
    {"delimiter", OPTION_DELIMITER, "CHARACTER", 0, "between fields, default a comma; or: tab", 0},
    {"time-unit", OPTION_TIME_UNIT, "s|ms|us", 0, "unit of the time column, default s", 0},
    {0},
};

static char parse_delimiter(const char *value, struct argp_state *state) {
    if (strcmp(value, "tab") == 0 || strcmp(value, "\\t") == 0) {
        return '\t';
    }
    if (strlen(value) != 1 || strchr("\"\r\n", value[0]) != NULL) {
        argp_error(state, "--delimiter %s: expected one character, or tab", value);
    }
    return value[0];
}

static error_t parse_option(int option, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (option) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        return 0;
    case 'f':
        arguments->file = value;
        return 0;
    case OPTION_USER:
    case OPTION_ITEM:
    case OPTION_TIME:
    case OPTION_RATING:
        arguments->columns[option - OPTION_USER] = value;
        return 0;
    case OPTION_HEADER:
        if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0 && strcmp(value, "auto") != 0) {
            argp_error(state, "--header %s: expected yes, no or auto", value);
        }
        arguments->header = value[0] == 'y'   ? HEADER_YES
                            : value[0] == 'n' ? HEADER_NO
                                              : HEADER_AUTO;
        return 0;
    case OPTION_DELIMITER:
        arguments->delimiter = parse_delimiter(value, state);
        return 0;
    case OPTION_TIME_UNIT:
        if (strcmp(value, "s") != 0 && strcmp(value, "ms") != 0 && strcmp(value, "us") != 0) {
            argp_error(state, "--time-unit %s: expected s, ms or us", value);
        }
        arguments->per_second = value[0] == 's' ? 1 : value[0] == 'm' ? 1000 : 1000000;
        return 0;
    case ARGP_KEY_END:
        if (arguments->file == NULL) {
            argp_error(state, "--file FILE is missing");
        }
        for (int i = 0; i < COLUMN_RATING; i++) {
            if (arguments->columns[i] == NULL) {
                argp_error(state, "%s COLUMN is missing%s", column_options[i],
                           i == COLUMN_TIME ? ": the model learns from times and needs them" : "");
            }
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- columns ---- */

/* "12" is a column's number; false when it is a name. */
static bool parse_number(const char *text, size_t *number) {
    size_t size = strlen(text);
    if (size == 0 || size > 5 || text[strspn(text, "0123456789")] != '\0') {
        return false;
    }
    *number = (size_t)strtoul(text, NULL, 10);
    return *number < COLUMN_LIMIT;
}

static weir_err_t refuse_name(const char *name, const char *option, const char *file,
                              const weir_csv_record_t *header, weir_error_t *error) {
    weir_suggest_t suggest;
    char names[64][64], listed[192] = "";
    weir_suggest_init(&suggest, name);
    for (size_t i = 0; i < header->count && i < 64; i++) {
        int size = header->fields[i].size < 63 ? (int)header->fields[i].size : 63;
        (void)snprintf(names[i], sizeof names[i], "%.*s", size, header->fields[i].bytes);
        weir_suggest_offer(&suggest, names[i]);
        if (suggest.nearest == NULL && strstr(names[i], name) != NULL) {
            suggest.nearest = names[i]; /* "user" for "user_id" */
        }
        size_t used = strlen(listed);
        (void)snprintf(listed + used, sizeof listed - used, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
    weir_err_t code =
        weir_errorf(error, WEIR_ERR_INVALID, "%s: the header has no column %.64s (%s)%s%s", file,
                    name, option, suggest.nearest != NULL ? "; did you mean " : "",
                    suggest.nearest != NULL ? suggest.nearest : "");
    weir_error_hint(error, "it has: %s", listed);
    return code;
}

/* Numbers of the columns; `header` NULL: there is none. COLUMN_LIMIT: no rating. */
static weir_err_t find_columns(const arguments_t *arguments, const char *file,
                               const weir_csv_record_t *header, size_t columns[COLUMNS],
                               weir_error_t *error) {
    for (int i = 0; i < COLUMNS; i++) {
        const char *given = arguments->columns[i];
        columns[i] = COLUMN_LIMIT;
        if (given == NULL || parse_number(given, &columns[i])) {
            continue;
        }
        if (header == NULL) {
            return weir_errorf(
                error, WEIR_ERR_INVALID,
                "%s %.64s is no column number, and without a header there are no names",
                column_options[i], given);
        }
        for (size_t k = 0; k < header->count && columns[i] == COLUMN_LIMIT; k++) {
            if (header->fields[k].size == strlen(given) &&
                memcmp(header->fields[k].bytes, given, strlen(given)) == 0) {
                columns[i] = k;
            }
        }
        if (columns[i] == COLUMN_LIMIT) {
            return refuse_name(given, column_options[i], file, header, error);
        }
    }
    return WEIR_OK;
}

/* auto: a header is there when a column is given by name, or when the first time is a word. */
static bool has_header(const arguments_t *arguments, const weir_csv_record_t *first) {
    size_t time = COLUMN_LIMIT, other = 0;
    if (arguments->header != HEADER_AUTO) {
        return arguments->header == HEADER_YES;
    }
    for (int i = 0; i < COLUMNS; i++) {
        if (arguments->columns[i] != NULL && !parse_number(arguments->columns[i], &other)) {
            return true;
        }
    }
    (void)parse_number(arguments->columns[COLUMN_TIME], &time);
    if (time >= first->count) {
        return false; /* a bad line, whatever it is */
    }
    /* a word; something like 2020-01-01 is a bad time, reported, and not taken for a name */
    const weir_csv_field_t *field = &first->fields[time];
    unsigned char begin = field->size > 0 ? (unsigned char)field->bytes[0] : '0';
    return isalpha(begin) || begin == '_' || begin >= 0x80;
}

/* ---- records ---- */

static weir_prepare_field_t take_field(const weir_csv_record_t *record, size_t column) {
    return column < record->count ? (weir_prepare_field_t){.bytes = record->fields[column].bytes,
                                                           .size = record->fields[column].size}
                                  : (weir_prepare_field_t){0};
}

static weir_err_t add_record(weir_prepare_t *prepare, const weir_csv_record_t *record,
                             const size_t columns[COLUMNS], size_t needed, const char *file,
                             int64_t per_second, weir_error_t *error) {
    prepare->lines++;
    const char *reason = record->bad;
    if (reason == NULL && record->count < needed) {
        reason = "the record has too few fields";
    }
    if (reason != NULL) {
        return weir_bad_lines_add(&prepare->bad, file, record->line, reason, NULL, 0, error);
    }
    return weir_prepare_add_event(
        prepare, file, record->line, take_field(record, columns[COLUMN_USER]),
        take_field(record, columns[COLUMN_ITEM]), take_field(record, columns[COLUMN_TIME]),
        take_field(record, columns[COLUMN_RATING]), per_second, error);
}

static weir_err_t read_records(weir_prepare_t *prepare, const arguments_t *arguments,
                               weir_csv_t *csv, weir_error_t *error) {
    const char *file = csv->input->name;
    size_t columns[COLUMNS] = {0}, needed = 0;
    weir_progress_t progress;
    weir_csv_record_t record;
    bool more = true, first = true;
    weir_progress_begin(&progress, "reading", "records", csv->input->total);
    prepare->bad.progress = &progress;
    weir_err_t code = WEIR_OK;
    while (code == WEIR_OK) {
        code = weir_csv_read(csv, &record, &more, error);
        if (code != WEIR_OK || !more) {
            break;
        }
        if (first && record.bad == NULL) {
            bool header = has_header(arguments, &record);
            first = false;
            code = find_columns(arguments, file, header ? &record : NULL, columns, error);
            for (int i = 0; i < COLUMNS; i++) {
                needed =
                    columns[i] != COLUMN_LIMIT && columns[i] + 1 > needed ? columns[i] + 1 : needed;
            }
            csv->wanted = needed;
            if (code != WEIR_OK || header) {
                continue;
            }
        }
        code = add_record(prepare, &record, columns, needed, file, arguments->per_second, error);
        if (prepare->lines % 8192 == 0) {
            weir_progress_update(&progress, csv->input->taken, prepare->lines);
        }
    }
    weir_progress_clear(&progress);
    prepare->bad.progress = NULL;
    return code;
}

static weir_err_t read_log(weir_prepare_t *prepare, const arguments_t *arguments,
                           weir_error_t *error) {
    weir_input_t input;
    weir_csv_t csv;
    weir_err_t code = weir_input_open(arguments->file, &input, error);
    if (code != WEIR_OK) {
        return code;
    }
    code = weir_csv_init(&csv, &input, arguments->delimiter, error);
    if (code == WEIR_OK) {
        code = read_records(prepare, arguments, &csv, error);
        weir_csv_fini(&csv);
    }
    weir_input_close(&input);
    return code;
}

int weir_prepare_csv(int argc, char **argv) {
    static const struct argp_child children[] = {{&weir_prepare_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Prepare a log in CSV (RFC 4180): users, items, times, optionally ratings. Compressed logs "
        "come through a pipe: zstd -dc log.csv.zst | weir prepare csv --file - ...",
        children,
        NULL,
        NULL};
    arguments_t arguments = {.delimiter = ',', .per_second = 1};
    weir_error_t error = {0};
    weir_prepare_t prepare = {0};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);

    const weir_prepare_options_t *common = &arguments.common;
    weir_err_t code = weir_dataset_writer_check(common->out, common->force, &error);
    if (code == WEIR_OK) {
        code = weir_prepare_init(&prepare, common->strict, &error);
    }
    if (code == WEIR_OK) {
        code = read_log(&prepare, &arguments, &error);
    }
    if (code == WEIR_OK) {
        code = weir_prepare_finish(&prepare, common, arguments.file, &error);
    }
    weir_prepare_fini(&prepare);
    if (code != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}
