#include "tools/schema_yaml.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { TEXT_LIMIT = 1024, DEPTH = 3 };

typedef struct {
    yaml_parser_t parser;
    yaml_event_t event; /* the last one taken; freed by the next */
    bool has_event;
    const char *name;
    char words[DEPTH][TEXT_LIMIT]; /* keys of the maps that are open: section, key, part */
    size_t depth;                  /* maps open */
    bool has_key;                  /* of the innermost map: its value comes next */
} reader_t;

static weir_err_t refuse(const reader_t *reader, size_t line, const char *sentence,
                         weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: %s", reader->name, line, sentence);
}

static weir_err_t take_event(reader_t *reader, weir_error_t *error) {
    if (reader->has_event) {
        yaml_event_delete(&reader->event);
        reader->has_event = false;
    }
    if (!yaml_parser_parse(&reader->parser, &reader->event)) {
        const yaml_parser_t *parser = &reader->parser;
        return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: not YAML: %s", reader->name,
                           parser->problem_mark.line + 1,
                           parser->problem != NULL ? parser->problem : "unknown problem");
    }
    reader->has_event = true;
    const yaml_event_t *event = &reader->event;
    bool marked =
        event->type == YAML_ALIAS_EVENT ||
        (event->type == YAML_SCALAR_EVENT &&
         (event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL)) ||
        (event->type == YAML_MAPPING_START_EVENT &&
         (event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL));
    return marked ? refuse(reader, event->start_mark.line + 1,
                           "anchors, aliases and tags are not allowed", error)
                  : WEIR_OK;
}

typedef weir_err_t take_t(void *argument, const weir_schema_entry_t *entry, weir_error_t *error);

/* A key, or the value of the innermost key. */
static weir_err_t take_scalar(reader_t *reader, take_t *take, void *argument, weir_error_t *error) {
    const char *text = (const char *)reader->event.data.scalar.value;
    size_t size = reader->event.data.scalar.length;
    size_t line = reader->event.start_mark.line + 1;
    if (size >= TEXT_LIMIT || memchr(text, '\0', size) != NULL) {
        return refuse(reader, line, "a word is longer than 1023 bytes, or holds a NUL", error);
    }
    if (!reader->has_key) {
        memcpy(reader->words[reader->depth - 1], text, size + 1);
        reader->has_key = true;
        return WEIR_OK;
    }
    reader->has_key = false;
    if (reader->depth == 1) {
        return refuse(reader, line, "expected a map of keys under a section", error);
    }
    weir_schema_entry_t entry = {.section = reader->words[0],
                                 .key = reader->words[1],
                                 .part = reader->depth == 3 ? reader->words[2] : "",
                                 .value = text,
                                 .line = line};
    return take(argument, &entry, error);
}

static weir_err_t read_map(reader_t *reader, take_t *take, void *argument, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    reader->depth = 1;
    while (err == WEIR_OK && reader->depth > 0) {
        err = take_event(reader, error);
        if (err != WEIR_OK) {
            break;
        }
        size_t line = reader->event.start_mark.line + 1;
        switch (reader->event.type) {
        case YAML_SCALAR_EVENT:
            err = take_scalar(reader, take, argument, error);
            break;
        case YAML_MAPPING_START_EVENT:
            if (!reader->has_key || reader->depth == DEPTH) {
                err = refuse(reader, line, "a map where a word is expected", error);
            }
            reader->depth++;
            reader->has_key = false;
            break;
        case YAML_MAPPING_END_EVENT:
            reader->depth--;
            reader->has_key = false;
            break;
        default:
            err = refuse(reader, line, "lists are not allowed", error);
        }
    }
    return err;
}

static weir_err_t expect(reader_t *reader, yaml_event_type_t type, const char *sentence,
                         weir_error_t *error) {
    weir_err_t err = take_event(reader, error);
    if (err == WEIR_OK && reader->event.type != type) {
        err = refuse(reader, reader->event.start_mark.line + 1, sentence, error);
    }
    return err;
}

weir_err_t weir_schema_yaml_read(const char *text, size_t size, const char *name, take_t *take,
                                 void *argument, weir_error_t *error) {
    static const char empty[] = "a schema is a map of sections; this one is empty";
    reader_t reader = {.name = name};
    if (yaml_parser_initialize(&reader.parser) == 0) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "%s: out of memory", name);
    }
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
    weir_err_t err = expect(&reader, YAML_STREAM_START_EVENT, empty, error);
    if (err == WEIR_OK) {
        err = expect(&reader, YAML_DOCUMENT_START_EVENT, empty, error);
    }
    if (err == WEIR_OK) {
        err = expect(&reader, YAML_MAPPING_START_EVENT, "a schema is a map of sections", error);
    }
    if (err == WEIR_OK) {
        err = read_map(&reader, take, argument, error);
    }
    if (err == WEIR_OK) {
        err = expect(&reader, YAML_DOCUMENT_END_EVENT, "more than one map", error);
    }
    if (err == WEIR_OK) {
        err = expect(&reader, YAML_STREAM_END_EVENT, "a second document", error);
    }
    if (reader.has_event) {
        yaml_event_delete(&reader.event);
    }
    yaml_parser_delete(&reader.parser);
    return err;
}
