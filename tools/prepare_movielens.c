/* weir prepare movielens: `user::item::rating::time` (MovieLens-1M, -10M, MovieTweetings) or the
 * same four separated by tabs (MovieLens-100K), and the catalogue `item::name::...` or
 * `item|name|...`. */
#include "common/log.h"
#include "tools/input.h"
#include "tools/prepare.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *ratings, *catalog;
    weir_prepare_options_t common;
} arguments_t;

static const struct argp_option options[] = {
    {"ratings", 'r', "FILE", 0, "ratings.dat or u.data; - is standard input", 0},
    {"catalog", 'c', "FILE", 0, "movies.dat or u.item: all items, with their names", 0},
    {0},
};

static error_t parse_option(int option, char *value, struct argp_state *state) {
    arguments_t *arguments = state->input;
    switch (option) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        return 0;
    case 'r':
        arguments->ratings = value;
        return 0;
    case 'c':
        arguments->catalog = value;
        return 0;
    case ARGP_KEY_END:
        if (arguments->ratings == NULL) {
            argp_error(state, "--ratings FILE is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Split `line` at `separator` into at most `limit` fields; the last one holds the rest. */
static size_t split_line(const weir_line_t *line, const char *separator,
                         weir_prepare_field_t *fields, size_t limit) {
    const char *at = line->bytes, *end = line->bytes + line->size;
    size_t width = strlen(separator), count = 0;
    for (;;) {
        const char *next =
            count + 1 < limit ? memmem(at, (size_t)(end - at), separator, width) : NULL;
        fields[count].bytes = at;
        fields[count].size = (size_t)((next != NULL ? next : end) - at);
        count++;
        if (next == NULL) {
            return count;
        }
        at = next + width;
    }
}

/* ---- the catalogue ---- */

static bool is_utf8(const unsigned char *s, size_t size) {
    for (size_t i = 0; i < size;) {
        size_t more = s[i] < 0x80 ? 0 : s[i] < 0xC2 ? 4 : s[i] < 0xE0 ? 1 : s[i] < 0xF0 ? 2 : 3;
        if (more == 4 || s[i] > 0xF4 || size - i <= more) {
            return false;
        }
        if ((s[i] == 0xE0 && s[i + 1] < 0xA0) || (s[i] == 0xED && s[i + 1] > 0x9F) ||
            (s[i] == 0xF0 && s[i + 1] < 0x90) || (s[i] == 0xF4 && s[i + 1] > 0x8F)) {
            return false;
        }
        for (size_t k = 1; k <= more; k++) {
            if ((s[i + k] & 0xC0) != 0x80) {
                return false;
            }
        }
        i += more + 1;
    }
    return true;
}

enum { NAME_LIMIT = 4096 };

/* A name as UTF-8: what is not, is taken for Latin-1. */
static weir_err_t add_name(weir_prepare_t *prepare, weir_prepare_field_t name, uint32_t *number,
                           weir_error_t *error) {
    char converted[2 * NAME_LIMIT];
    const unsigned char *bytes = (const unsigned char *)name.bytes;
    size_t size = name.size < NAME_LIMIT ? name.size : NAME_LIMIT;
    if (is_utf8(bytes, name.size)) {
        return weir_interner_add(prepare->names, name.bytes, name.size, number, NULL, error);
    }
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] < 0x80) {
            converted[used++] = (char)bytes[i];
        } else {
            converted[used++] = (char)(0xC0 | (bytes[i] >> 6));
            converted[used++] = (char)(0x80 | (bytes[i] & 0x3F));
        }
    }
    return weir_interner_add(prepare->names, converted, used, number, NULL, error);
}

static weir_err_t add_catalogue_line(weir_prepare_t *prepare, const weir_input_t *input,
                                     const weir_line_t *line, const char *separator,
                                     size_t *capacity, weir_error_t *error) {
    weir_prepare_field_t fields[3];
    uint32_t item = 0, name = 0;
    bool fresh = false;
    const char *reason = line->too_long ? "the line is longer than 1 MiB" : NULL;
    if (reason == NULL && split_line(line, separator, fields, 3) < 2) {
        reason = "the line is not item, name";
    }
    if (reason == NULL && (fields[0].size == 0 || fields[0].size > NAME_LIMIT)) {
        reason = "the item is empty or longer than 4096 bytes";
    }
    if (reason != NULL) {
        return weir_bad_lines_add(&prepare->bad, input->name, line->number, reason, line->bytes,
                                  line->size, error);
    }
    weir_err_t code =
        weir_interner_add(prepare->items, fields[0].bytes, fields[0].size, &item, &fresh, error);
    if (code == WEIR_OK && !fresh) {
        return weir_bad_lines_add(&prepare->bad, input->name, line->number,
                                  "the item is in the catalogue already", fields[0].bytes,
                                  fields[0].size, error);
    }
    if (code == WEIR_OK) {
        code = add_name(prepare, fields[1], &name, error);
    }
    if (code == WEIR_OK && item >= *capacity) {
        size_t more = *capacity * 2 + 1024;
        uint32_t *numbers = realloc(prepare->item_names, more * sizeof *numbers);
        if (numbers == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the catalogue");
        }
        prepare->item_names = numbers;
        *capacity = more;
    }
    if (code == WEIR_OK) {
        prepare->item_names[item] = name;
        prepare->catalogue = item + 1;
    }
    return code;
}

static weir_err_t read_catalogue(weir_prepare_t *prepare, const char *path, weir_error_t *error) {
    weir_input_t input;
    weir_line_t line;
    bool more = true;
    size_t capacity = 0;
    const char *separator = NULL;
    weir_err_t code = weir_interner_create(&prepare->names, error);
    if (code == WEIR_OK) {
        code = weir_input_open(path, &input, error);
    }
    if (code != WEIR_OK) {
        return code;
    }
    while (code == WEIR_OK) {
        code = weir_input_read_line(&input, &line, &more, error);
        if (code != WEIR_OK || !more) {
            break;
        }
        if (line.size == 0 && !line.too_long) {
            continue;
        }
        if (separator == NULL) {
            separator = memmem(line.bytes, line.size, "::", 2) != NULL ? "::" : "|";
        }
        code = add_catalogue_line(prepare, &input, &line, separator, &capacity, error);
    }
    if (code == WEIR_OK && prepare->catalogue == 0) {
        code = weir_errorf(error, WEIR_ERR_INVALID, "%s names no item", input.name);
    }
    weir_input_close(&input);
    return code;
}

/* ---- the ratings ---- */

static weir_err_t add_rating_line(weir_prepare_t *prepare, const weir_input_t *input,
                                  const weir_line_t *line, const char *separator,
                                  weir_error_t *error) {
    weir_prepare_field_t fields[5];
    prepare->lines++;
    if (line->too_long) {
        return weir_bad_lines_add(&prepare->bad, input->name, line->number,
                                  "the line is longer than 1 MiB", NULL, 0, error);
    }
    if (split_line(line, separator, fields, 5) != 4) {
        return weir_bad_lines_add(&prepare->bad, input->name, line->number,
                                  "the line is not user, item, rating, time", line->bytes,
                                  line->size, error);
    }
    return weir_prepare_add_event(prepare, input->name, line->number, fields[0], fields[1],
                                  fields[3], fields[2], 1, error);
}

static weir_err_t read_ratings(weir_prepare_t *prepare, const char *path, weir_error_t *error) {
    weir_input_t input;
    weir_line_t line;
    weir_progress_t progress;
    bool more = true;
    const char *separator = NULL;
    weir_err_t code = weir_input_open(path, &input, error);
    if (code != WEIR_OK) {
        return code;
    }
    weir_progress_begin(&progress, "reading", "lines", input.total);
    prepare->bad.progress = &progress;
    while (code == WEIR_OK) {
        code = weir_input_read_line(&input, &line, &more, error);
        if (code != WEIR_OK || !more) {
            break;
        }
        if (line.size == 0 && !line.too_long) {
            continue;
        }
        if (separator == NULL) {
            separator = memmem(line.bytes, line.size, "::", 2) != NULL ? "::" : "\t";
        }
        code = add_rating_line(prepare, &input, &line, separator, error);
        if (prepare->lines % 8192 == 0) {
            weir_progress_update(&progress, input.taken, prepare->lines);
        }
    }
    weir_progress_clear(&progress);
    prepare->bad.progress = NULL;
    weir_input_close(&input);
    return code;
}

int weir_prepare_movielens(int argc, char **argv) {
    static const struct argp_child children[] = {{&weir_prepare_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,
        parse_option,
        NULL,
        "Prepare MovieLens or MovieTweetings ratings. Items of the catalogue come first, in its "
        "order, rated or not.",
        children,
        NULL,
        NULL};
    arguments_t arguments = {0};
    weir_error_t error = {0};
    weir_prepare_t prepare = {0};
    (void)argp_parse(&argp, argc, argv, 0, NULL, &arguments);

    const weir_prepare_options_t *common = &arguments.common;
    weir_err_t code = weir_dataset_writer_check(common->out, common->force, &error);
    if (code == WEIR_OK) {
        code = weir_prepare_init(&prepare, common->strict, &error);
    }
    if (code == WEIR_OK && arguments.catalog != NULL) {
        code = read_catalogue(&prepare, arguments.catalog, &error);
    }
    if (code == WEIR_OK) {
        code = read_ratings(&prepare, arguments.ratings, &error);
    }
    if (code == WEIR_OK) {
        code = weir_prepare_finish(&prepare, common, arguments.ratings, &error);
    }
    weir_prepare_fini(&prepare);
    if (code != WEIR_OK) {
        weir_fatal(&error);
    }
    return 0;
}
