#include "tools/inspect.h"

#include "common/config.h"
#include "common/file.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- arguments ---- */

typedef struct {
    weir_inspect_t *arguments;
    size_t least, most;
} parsing_t;

static bool parse_number(const char *text, uint64_t *number) {
    char *end;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        return false;
    }
    *number = parsed;
    return true;
}

static void set_number(struct argp_state *state, const char *text, uint64_t *number) {
    if (!parse_number(text, number) || *number == 0) {
        argp_error(state, "\"%s\" is no number above 0", text);
    }
}

/* FIRST-END */
static void set_slots(struct argp_state *state, const char *text, weir_inspect_t *arguments) {
    unsigned first, end;
    char rest;
    if (sscanf(text, "%u-%u%c", &first, &end, &rest) != 2 || first >= end ||
        end > WEIR_READER_SLOTS) {
        argp_error(state, "\"%s\" is no range of slots: FIRST-END, below or at %d", text,
                   WEIR_READER_SLOTS);
    }
    arguments->first_slot = first;
    arguments->end_slot = end;
}

static bool set_text(int option, const char *value, weir_inspect_t *arguments) {
    switch (option) {
    case WEIR_INSPECT_TABLE:
        arguments->table = value;
        return true;
    case WEIR_INSPECT_DATA:
        arguments->data = value;
        return true;
    case WEIR_INSPECT_OUT:
        arguments->out = value;
        return true;
    case WEIR_INSPECT_KEYS:
        arguments->keys = value;
        return true;
    case WEIR_INSPECT_FORMAT:
        arguments->format = value;
        return true;
    case WEIR_INSPECT_METRIC:
        arguments->metric = value;
        return true;
    case WEIR_INSPECT_VALUES:
        arguments->values = value;
        return true;
    default:
        return false;
    }
}

static bool set_flag(int option, weir_inspect_t *arguments) {
    bool *flag = option == WEIR_INSPECT_JSON          ? &arguments->json
                 : option == WEIR_INSPECT_DRY_RUN     ? &arguments->dry_run
                 : option == WEIR_INSPECT_STATE       ? &arguments->state
                 : option == WEIR_INSPECT_IGNORE_CASE ? &arguments->ignore_case
                                                      : NULL;
    if (flag != NULL) {
        *flag = true;
    }
    return flag != NULL;
}

static error_t parse_option(int option, char *value, struct argp_state *state) {
    parsing_t *parsing = state->input;
    weir_inspect_t *arguments = parsing->arguments;
    if (set_flag(option, arguments) || set_text(option, value, arguments)) {
        return 0;
    }
    switch (option) {
    case WEIR_INSPECT_LIMIT:
        set_number(state, value, &arguments->limit);
        return 0;
    case WEIR_INSPECT_KEEP:
        set_number(state, value, &arguments->keep);
        return 0;
    case WEIR_INSPECT_SERVERS:
        set_number(state, value, &arguments->servers);
        return 0;
    case WEIR_INSPECT_SLOTS:
        set_slots(state, value, arguments);
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->word_count == parsing->most) {
            argp_error(state, "one argument too many: \"%s\"", value);
        }
        arguments->words[arguments->word_count++] = value;
        return 0;
    case ARGP_KEY_END:
        if (arguments->word_count < parsing->least) {
            argp_error(state, "an argument is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void weir_inspect_parse(int argc, char **argv, const struct argp_option *options,
                        const char *arguments_doc, const char *doc, size_t least, size_t most,
                        weir_inspect_t *arguments) {
    const struct argp argp = {options, parse_option, arguments_doc, doc, NULL, NULL, NULL};
    *arguments = (weir_inspect_t){.table = "item", .end_slot = WEIR_READER_SLOTS};
    parsing_t parsing = {arguments, least, most < WEIR_INSPECT_WORDS ? most : WEIR_INSPECT_WORDS};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &parsing);
}

uint64_t weir_inspect_key(const char *text) {
    uint64_t key = 0;
    weir_error_t error = {0};
    if (!parse_number(text, &key)) {
        (void)weir_errorf(&error, WEIR_ERR_INVALID, "\"%.64s\" is no key: a number below 2^64",
                          text);
        weir_fatal(&error);
    }
    return key;
}

/* ---- opening ---- */

void weir_inspect_check(int code, const weir_reader_error_t *error) {
    if (code < 0) {
        weir_error_t own = {0};
        (void)weir_errorf(&own, (weir_err_t)code, "%s", error->message);
        weir_fatal(&own);
    }
}

weir_reader_t *weir_inspect_open(const char *where, const char *table_name,
                                 const weir_reader_table_t **table) {
    weir_reader_t *reader = NULL;
    weir_reader_error_t error = {0};
    weir_inspect_check(weir_reader_open(where, &reader, &error), &error);
    if (table != NULL) {
        *table = weir_reader_find_table(reader, table_name);
        if (*table == NULL) {
            weir_error_t own = {0};
            (void)weir_errorf(&own, WEIR_ERR_NOT_FOUND, "'%s' has no table %.64s", where,
                              table_name);
            weir_error_hint(&own, "`weir inspect tables` lists them");
            weir_reader_close(reader);
            weir_fatal(&own);
        }
    }
    return reader;
}

/* ---- names ---- */

weir_dataset_t *weir_inspect_names(const weir_inspect_t *arguments, const weir_reader_t *reader) {
    weir_dataset_t *names = NULL;
    weir_error_t error = {0};
    const char *yaml = weir_reader_about(reader)->config;
    if (strcmp(arguments->table, "item") != 0) {
        return NULL;
    }
    if (arguments->data != NULL) {
        if (weir_dataset_open(arguments->data, &names, &error) != WEIR_OK) {
            weir_fatal(&error);
        }
        return names;
    }
    weir_config_t config;
    if (weir_config_load_text(yaml, strlen(yaml), "checkpoint", NULL, 0, &config, NULL) !=
            WEIR_OK ||
        weir_dataset_open(config.data.path, &names, NULL) != WEIR_OK) {
        return NULL;
    }
    return names;
}

static bool is_item(weir_dataset_t *names, uint64_t key) {
    return names != NULL && key >= 1 && key <= weir_dataset_items(names);
}

static void show(const char *bytes, size_t size, char out[WEIR_INSPECT_NAME]) {
    char text[WEIR_INSPECT_NAME];
    (void)snprintf(text, sizeof text, "%.*s", (int)(size < sizeof text ? size : sizeof text),
                   bytes);
    weir_file_printable(text, out, WEIR_INSPECT_NAME);
}

void weir_inspect_item_id(weir_dataset_t *names, uint64_t key, char out[WEIR_INSPECT_NAME]) {
    const char *bytes;
    size_t size = 0;
    out[0] = '\0';
    if (is_item(names, key) &&
        weir_dataset_item_id(names, (int64_t)key, &bytes, &size, NULL) == WEIR_OK && size > 0) {
        show(bytes, size, out);
    }
}

void weir_inspect_item_name(weir_dataset_t *names, uint64_t key, char out[WEIR_INSPECT_NAME]) {
    const char *bytes;
    size_t size = 0;
    out[0] = '\0';
    if (is_item(names, key) &&
        weir_dataset_item_name(names, (int64_t)key, &bytes, &size, NULL) == WEIR_OK && size > 0) {
        show(bytes, size, out);
    }
}

/* ---- rows and output ---- */

void weir_inspect_each(weir_reader_t *reader, const weir_reader_table_t *table, uint32_t first,
                       uint32_t end, weir_inspect_visit_t *visit, void *argument) {
    weir_reader_rows_t *rows = NULL;
    weir_reader_row_t row;
    weir_reader_error_t error = {0};
    float *values = calloc(table->dim, sizeof *values);
    if (values == NULL) {
        error.code = WEIR_READER_MEMORY;
        (void)snprintf(error.message, sizeof error.message, "out of memory for a row");
        weir_inspect_check(error.code, &error);
        return;
    }
    int code = weir_reader_rows_open(reader, table, first, end, &rows, &error);
    weir_inspect_check(code, &error);
    while ((code = weir_reader_rows_next(rows, &row, &error)) == 1) {
        weir_reader_values(table, &row, values);
        if (!visit(argument, &row, values)) {
            break;
        }
    }
    weir_inspect_check(code, &error);
    weir_reader_rows_close(rows);
    free(values);
}

void weir_inspect_print_json(json_t *value) {
    char *text = value == NULL ? NULL : json_dumps(value, JSON_INDENT(2));
    json_decref(value);
    if (text == NULL) {
        weir_error_t error = {0};
        (void)weir_errorf(&error, WEIR_ERR_MEMORY, "no memory to print, or a text is not UTF-8");
        weir_fatal(&error);
    }
    (void)puts(text);
    free(text);
}

json_t *weir_inspect_json_number(uint64_t number) {
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return number <= INT64_MAX ? json_integer((json_int_t)number) : json_string(text);
}
