#include "tools/csv.h"

#include <stdlib.h>
#include <string.h>

enum { FIELD_LIMIT = 65536 };

weir_err_t weir_csv_init(weir_csv_t *csv, weir_input_t *input, char delimiter,
                         weir_error_t *error) {
    if (delimiter == '"' || delimiter == '\r' || delimiter == '\n') {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "the delimiter must not be a quote or an end of line");
    }
    *csv = (weir_csv_t){.input = input, .delimiter = delimiter};
    return WEIR_OK;
}

void weir_csv_fini(weir_csv_t *csv) {
    free(csv->fields);
    *csv = (weir_csv_t){0};
}

static weir_err_t grow_fields(weir_csv_t *csv, weir_error_t *error) {
    size_t capacity = csv->capacity == 0 ? 32 : csv->capacity * 2;
    weir_csv_field_t *fields = realloc(csv->fields, capacity * sizeof *fields);
    if (fields == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "%s: out of memory", csv->input->name);
    }
    csv->fields = fields;
    csv->capacity = capacity;
    return WEIR_OK;
}

/* ---- where a record ends ---- */

typedef struct {
    size_t size;     /* bytes of the record without its end of line */
    size_t after;    /* bytes to take, its end of line included */
    uint64_t lines;  /* ends of lines to take */
    bool quoted;     /* some field is in quotes */
    bool unfinished; /* the bytes at hand do not show the end */
    const char *bad;
} extent_t;

/* Step over a quoted field that begins at `at`; the offset behind its closing quote, or `size` with
 * `*open` when it is not closed within the bytes at hand. */
static size_t skip_quoted(const char *bytes, size_t at, size_t size, bool *open) {
    for (at++;;) {
        const char *quote = at < size ? memchr(bytes + at, '"', size - at) : NULL;
        if (quote == NULL) {
            *open = true;
            return size;
        }
        at = (size_t)(quote - bytes) + 1;
        if (at >= size || bytes[at] != '"') {
            return at; /* at the end of the bytes the quote may yet turn out to be doubled */
        }
        at++;
    }
}

static uint64_t count_newlines(const char *bytes, size_t size) {
    uint64_t count = 0;
    for (size_t i = 0; i < size; i++) {
        count += bytes[i] == '\n';
    }
    return count;
}

/* Find the end of a record whose first line has quotes. */
static extent_t find_quoted_end(const weir_csv_t *csv, const char *bytes, size_t size,
                                bool at_end) {
    extent_t extent = {.quoted = true};
    size_t at = 0;
    for (;;) { /* at the beginning of a field */
        bool open = false;
        if (at < size && bytes[at] == '"') {
            at = skip_quoted(bytes, at, size, &open);
            if (open || (at >= size && !at_end)) {
                extent.unfinished = !at_end;
                extent.bad = at_end ? "a quote is never closed" : NULL;
                return extent;
            }
            size_t rest = at;
            if (rest < size && bytes[rest] == '\r') {
                if (rest + 1 >= size && !at_end) {
                    extent.unfinished = true;
                    return extent;
                }
                rest += rest + 1 >= size || bytes[rest + 1] == '\n';
            }
            if (rest >= size || bytes[rest] == '\n') {
                extent.size = at;
                extent.after = rest < size ? rest + 1 : size;
                break;
            }
            if (bytes[at] != csv->delimiter) {
                extent.bad = "text follows a closing quote";
                return extent;
            }
        } else {
            while (at < size && bytes[at] != csv->delimiter && bytes[at] != '\n') {
                at++;
            }
            if (at >= size && !at_end) {
                extent.unfinished = true;
                return extent;
            }
            if (at >= size || bytes[at] == '\n') {
                extent.size = at > 0 && bytes[at - 1] == '\r' ? at - 1 : at;
                extent.after = at < size ? at + 1 : size;
                break;
            }
        }
        at++; /* the delimiter */
    }
    extent.lines = count_newlines(bytes, extent.after) +
                   (extent.after == size && at_end && bytes[size - 1] != '\n');
    return extent;
}

/* Find the end of the record at `begin` within the bytes at hand. */
static extent_t find_end(const weir_csv_t *csv) {
    const weir_input_t *input = csv->input;
    const char *bytes = input->buffer + input->begin;
    size_t size = input->end - input->begin;
    const char *newline = memchr(bytes, '\n', size);
    size_t line = newline != NULL ? (size_t)(newline - bytes) : size;
    if (newline == NULL && !input->at_end) {
        return (extent_t){.unfinished = true};
    }
    if (memchr(bytes, '"', line) == NULL) {
        return (extent_t){.size = line > 0 && bytes[line - 1] == '\r' ? line - 1 : line,
                          .after = newline != NULL ? line + 1 : line,
                          .lines = 1};
    }
    return find_quoted_end(csv, bytes, size, input->at_end);
}

/* ---- the fields of a record whose end is known ---- */

static weir_err_t append_field(weir_csv_t *csv, const char *bytes, size_t size, size_t *count,
                               weir_error_t *error) {
    if (*count == csv->capacity) {
        weir_err_t code = grow_fields(csv, error);
        if (code != WEIR_OK) {
            return code;
        }
    }
    csv->fields[(*count)++] = (weir_csv_field_t){.bytes = bytes, .size = size};
    return WEIR_OK;
}

/* Undo doubled quotes in place from `at` (behind the opening quote): the field's size, and the
 * offset of the delimiter or end behind it. */
static size_t unquote(char *bytes, size_t at, size_t size, size_t *behind) {
    size_t to = at, from = at;
    while (from < size) {
        if (bytes[from] == '"') {
            if (from + 1 >= size || bytes[from + 1] != '"') {
                break;
            }
            from++;
        }
        bytes[to++] = bytes[from++];
    }
    *behind = from + 1;
    return to - at;
}

static weir_err_t split_fields(weir_csv_t *csv, char *bytes, size_t size, size_t *count,
                               weir_error_t *error) {
    size_t limit = csv->wanted > 0 ? csv->wanted : FIELD_LIMIT;
    size_t at = 0;
    *count = 0;
    while (*count < limit) {
        size_t begin = at, length = 0, behind = 0;
        if (at < size && bytes[at] == '"') {
            begin = at + 1;
            length = unquote(bytes, begin, size, &behind);
        } else {
            const char *delimiter =
                at < size ? memchr(bytes + at, csv->delimiter, size - at) : NULL;
            behind = delimiter != NULL ? (size_t)(delimiter - bytes) : size;
            length = behind - at;
        }
        weir_err_t code = append_field(csv, bytes + begin, length, count, error);
        if (code != WEIR_OK || behind >= size) {
            return code;
        }
        at = behind + 1;
    }
    return WEIR_OK;
}

/* See the whole record at `begin`, reading more as needed. */
static weir_err_t complete_record(weir_csv_t *csv, extent_t *extent, weir_error_t *error) {
    for (;;) {
        *extent = find_end(csv);
        size_t size = extent->unfinished ? csv->input->end - csv->input->begin : extent->size;
        if (size > WEIR_INPUT_LINE_LIMIT) {
            extent->bad = "the record is longer than 1 MiB";
        }
        if (extent->bad != NULL || !extent->unfinished) {
            return WEIR_OK;
        }
        weir_err_t code = weir_input_fill(csv->input, error);
        if (code != WEIR_OK) {
            return code;
        }
    }
}

weir_err_t weir_csv_read(weir_csv_t *csv, weir_csv_record_t *record, bool *more,
                         weir_error_t *error) {
    weir_input_t *input = csv->input;
    for (;;) {
        extent_t extent;
        weir_err_t code = complete_record(csv, &extent, error);
        if (code != WEIR_OK) {
            return code;
        }
        if (input->begin == input->end) {
            *more = false;
            return WEIR_OK;
        }
        *record = (weir_csv_record_t){.line = input->line, .bad = extent.bad};
        *more = true;
        if (extent.bad != NULL) {
            return weir_input_skip_line(input, error);
        }
        char *bytes = input->buffer + input->begin;
        weir_input_take(input, extent.after, extent.lines);
        if (extent.size > 0) {
            code = split_fields(csv, bytes, extent.size, &record->count, error);
            record->fields = csv->fields;
            return code;
        }
    }
}
