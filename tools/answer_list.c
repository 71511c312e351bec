#include "tools/answer_list.h"

#include "common/file.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct weir_answer_list {
    weir_answers_format_t format;
    weir_dataset_t *dataset;
    const char *const *columns;
    size_t column_count, added;
    FILE *out;
    char path[WEIR_PATH_MAX];      /* empty: standard output */
    char temporary[WEIR_PATH_MAX]; /* empty: nothing to remove */
};

/* ---- options ---- */

enum { OPTION_FORMAT = 768, OPTION_JSON, OPTION_OUT };

static const struct argp_option options[] = {
    {"format", OPTION_FORMAT, "FORMAT", 0, "text (default), json (an object a line) or csv", 1},
    {"json", OPTION_JSON, NULL, 0, "the same as --format json", 1},
    {"out", OPTION_OUT, "FILE", 0, "write to FILE", 1},
    {0},
};

static bool parse_format(const char *text, weir_answers_format_t *format) {
    static const char *const names[] = {"text", "json", "csv"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *format = (weir_answers_format_t)i;
            return true;
        }
    }
    return false;
}

static error_t parse_option(int key, char *value, struct argp_state *state) {
    weir_answer_options_t *chosen = state->input;
    switch (key) {
    case OPTION_JSON:
        chosen->format = WEIR_ANSWERS_JSON;
        return 0;
    case OPTION_FORMAT:
        if (!parse_format(value, &chosen->format)) {
            argp_error(state, "--format is text, json or csv, not \"%s\"", value);
        }
        return 0;
    case OPTION_OUT:
        chosen->out = value;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument \"%s\"", value);
        return ARGP_ERR_UNKNOWN;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp weir_answers_argp = {options, parse_option, NULL, NULL, NULL, NULL, NULL};

/* ---- the file ---- */

static void print_header(const weir_answer_list_t *list) {
    if (list->format == WEIR_ANSWERS_CSV) {
        (void)fputs("user,place,item", list->out);
        for (size_t i = 0; i < list->column_count; i++) {
            (void)fprintf(list->out, ",%s", list->columns[i]);
        }
        (void)fputs(",name\n", list->out);
    }
}

weir_err_t weir_answer_list_create(const weir_answer_options_t *chosen, weir_dataset_t *dataset,
                                   const char *const *columns, size_t column_count,
                                   weir_answer_list_t **list, weir_error_t *error) {
    weir_answer_list_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    }
    const char *path = chosen->out;
    made->format = chosen->format;
    made->dataset = dataset;
    made->columns = columns;
    made->column_count = column_count;
    made->out = stdout;
    if (path != NULL) {
        int length =
            snprintf(made->temporary, sizeof made->temporary, "%s.tmp.%ld", path, (long)getpid());
        if (length < 0 || (size_t)length >= sizeof made->temporary) {
            free(made);
            return weir_errorf(error, WEIR_ERR_INVALID, "the name of the file is too long");
        }
        (void)snprintf(made->path, sizeof made->path, "%s", path);
        made->out = fopen(made->temporary, "w");
        if (made->out == NULL) {
            made->temporary[0] = '\0';
            weir_err_t err = weir_error_from_errno(error, errno, "create '%s'", path);
            free(made);
            return err;
        }
    }
    print_header(made);
    *list = made;
    return WEIR_OK;
}

/* ---- ids and names ---- */

typedef struct {
    const char *bytes;
    size_t size;
    char digits[24]; /* of one that the source has no id for */
} text_t;

static weir_err_t id_of(const weir_answer_list_t *list, bool user, int64_t number, text_t *id,
                        weir_error_t *error) {
    weir_err_t err =
        user ? weir_dataset_user_id(list->dataset, (uint64_t)number, &id->bytes, &id->size, error)
             : weir_dataset_item_id(list->dataset, number, &id->bytes, &id->size, error);
    if (err == WEIR_OK && id->size == 0) {
        id->size = (size_t)snprintf(id->digits, sizeof id->digits, "%" PRId64, number);
        id->bytes = id->digits;
    }
    return err;
}

static weir_err_t describe(const weir_answer_list_t *list, int64_t item, text_t *id, text_t *name,
                           weir_error_t *error) {
    weir_err_t err = id_of(list, false, item, id, error);
    return err == WEIR_OK
               ? weir_dataset_item_name(list->dataset, item, &name->bytes, &name->size, error)
               : err;
}

/* Control characters would let a name of the data write to a terminal what it likes. */
static void print_text(FILE *out, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)bytes[i];
        (void)fputc(c < 32 || c == 127 ? '?' : c, out);
    }
}

static void print_quoted(FILE *out, const char *bytes, size_t size) {
    bool quotes = false;
    for (size_t i = 0; i < size; i++) {
        quotes = quotes || strchr(",\"\r\n", bytes[i]) != NULL;
    }
    if (!quotes) {
        (void)fwrite(bytes, 1, size, out);
        return;
    }
    (void)fputc('"', out);
    for (size_t i = 0; i < size; i++) {
        (void)fputc(bytes[i], out);
        if (bytes[i] == '"') {
            (void)fputc('"', out);
        }
    }
    (void)fputc('"', out);
}

/* As JSON wants it, UTF-8: bytes of another encoding become question marks. */
static json_t *json_text(const char *bytes, size_t size) {
    json_t *text = json_stringn(bytes, size);
    if (text == NULL) {
        char *ascii = malloc(size + 1);
        for (size_t i = 0; ascii != NULL && i < size; i++) {
            ascii[i] = '?';
            if ((unsigned char)bytes[i] < 128) {
                ascii[i] = bytes[i];
            }
        }
        text = ascii != NULL ? json_stringn(ascii, size) : NULL;
        free(ascii);
    }
    return text;
}

/* ---- a list ---- */

static size_t length_of(const int64_t *items, size_t count) {
    size_t length = 0;
    while (length < count && items[length] != 0) {
        length++;
    }
    return length;
}

/* Nine digits give the bits of a float back. */
static void print_score(FILE *out, float score) {
    (void)fprintf(out, "%.9g", (double)score);
}

static weir_err_t add_text(const weir_answer_list_t *list, const text_t *user, const int64_t *items,
                           const float *scores, size_t length, weir_error_t *error) {
    (void)fputs("user ", list->out);
    print_text(list->out, user->bytes, user->size);
    (void)fputs(length == 0 ? ": nothing to give\n" : "\n", list->out);
    if (length > 0 && list->column_count > 1) { /* which is which */
        (void)fputs("    ", list->out);
        for (size_t c = 0; c < list->column_count; c++) {
            (void)fprintf(list->out, "  %9s", list->columns[c]);
        }
        (void)fputs("  item\n", list->out);
    }
    for (size_t i = 0; i < length; i++) {
        text_t item, name;
        weir_err_t err = describe(list, items[i], &item, &name, error);
        if (err != WEIR_OK) {
            return err;
        }
        (void)fprintf(list->out, "%4zu", i + 1);
        for (size_t c = 0; c < list->column_count; c++) {
            int width = (int)strnlen(list->columns[c], 64);
            (void)fprintf(list->out, "  %*.6f", width > 9 ? width : 9,
                          (double)scores[i * list->column_count + c]);
        }
        (void)fputs("  ", list->out);
        print_text(list->out, item.bytes, item.size);
        if (name.size > 0) {
            (void)fputs("  ", list->out);
            print_text(list->out, name.bytes, name.size);
        }
        (void)fputc('\n', list->out);
    }
    return WEIR_OK;
}

static weir_err_t add_csv(const weir_answer_list_t *list, const text_t *user, const int64_t *items,
                          const float *scores, size_t length, weir_error_t *error) {
    for (size_t i = 0; i < length; i++) {
        text_t item, name;
        weir_err_t err = describe(list, items[i], &item, &name, error);
        if (err != WEIR_OK) {
            return err;
        }
        print_quoted(list->out, user->bytes, user->size);
        (void)fprintf(list->out, ",%zu,", i + 1);
        print_quoted(list->out, item.bytes, item.size);
        for (size_t c = 0; c < list->column_count; c++) {
            (void)fputc(',', list->out);
            print_score(list->out, scores[i * list->column_count + c]);
        }
        (void)fputc(',', list->out);
        print_quoted(list->out, name.bytes, name.size);
        (void)fputc('\n', list->out);
    }
    return WEIR_OK;
}

static weir_err_t add_json(const weir_answer_list_t *list, const text_t *user, const int64_t *items,
                           const float *scores, size_t length, weir_error_t *error) {
    json_t *line = json_object(), *array = json_array();
    weir_err_t err = WEIR_OK;
    (void)json_object_set_new(line, "user", json_text(user->bytes, user->size));
    for (size_t i = 0; i < length && err == WEIR_OK; i++) {
        text_t item, name;
        err = describe(list, items[i], &item, &name, error);
        json_t *entry = err == WEIR_OK ? json_object() : NULL;
        if (entry != NULL) {
            (void)json_object_set_new(entry, "item", json_text(item.bytes, item.size));
            if (name.size > 0) {
                (void)json_object_set_new(entry, "name", json_text(name.bytes, name.size));
            }
            for (size_t c = 0; c < list->column_count; c++) {
                double score = (double)scores[i * list->column_count + c];
                (void)json_object_set_new(entry, list->columns[c],
                                          isfinite(score) ? json_real(score) : json_null());
            }
            (void)json_array_append_new(array, entry);
        }
    }
    (void)json_object_set_new(line, "items", array);
    if (err == WEIR_OK &&
        (json_dumpf(line, list->out, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0 ||
         fputc('\n', list->out) == EOF)) {
        err = weir_errorf(error, WEIR_ERR_IO, "a list cannot be written");
    }
    json_decref(line);
    return err;
}

weir_err_t weir_answer_list_add(weir_answer_list_t *list, int64_t user, const int64_t *items,
                                const float *scores, size_t count, weir_error_t *error) {
    size_t length = length_of(items, count);
    text_t id;
    weir_err_t err = id_of(list, true, user, &id, error);
    if (err != WEIR_OK) {
        return err;
    }
    list->added++;
    switch (list->format) {
    case WEIR_ANSWERS_JSON:
        return add_json(list, &id, items, scores, length, error);
    case WEIR_ANSWERS_CSV:
        return add_csv(list, &id, items, scores, length, error);
    case WEIR_ANSWERS_TEXT:
    default:
        return add_text(list, &id, items, scores, length, error);
    }
}

weir_err_t weir_answer_list_commit(weir_answer_list_t *list, weir_error_t *error) {
    const char *name = list->path[0] != '\0' ? list->path : "standard output";
    if (fflush(list->out) != 0 || ferror(list->out) != 0) {
        return weir_error_from_errno(error, errno, "write to '%s'", name);
    }
    if (list->temporary[0] == '\0') {
        return WEIR_OK;
    }
    if (fsync(fileno(list->out)) != 0 || rename(list->temporary, list->path) != 0) {
        return weir_error_from_errno(error, errno, "write '%s'", name);
    }
    list->temporary[0] = '\0';
    (void)printf("%s: %zu lists\n", list->path, list->added);
    return weir_file_sync_parent(list->path, error);
}

void weir_answer_list_destroy(weir_answer_list_t *list) {
    if (list != NULL) {
        if (list->path[0] != '\0') {
            (void)fclose(list->out);
        }
        if (list->temporary[0] != '\0') {
            (void)unlink(list->temporary);
        }
        free(list);
    }
}
