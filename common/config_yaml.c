#include "common/config_yaml.h"

#include "common/config_keys.h"
#include "common/suggest.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum { SECTION_LIMIT = 32, NAME_LIMIT = 64 };

typedef struct {
    yaml_parser_t parser;
    yaml_event_t event; /* the last one taken; freed by the next */
    bool has_event;
    const char *file;
    weir_config_t *config;
    size_t key_lines[WEIR_CONFIG_KEY_LIMIT]; /* where a key was set; 0: not yet */
    char sections[SECTION_LIMIT][NAME_LIMIT];
    size_t section_lines[SECTION_LIMIT];
    size_t section_count;
} reader_t;

static size_t event_line(const reader_t *reader) {
    return reader->event.start_mark.line + 1;
}

/* The event's own words for a person. */
static const char *describe_event(const yaml_event_t *event) {
    switch (event->type) {
    case YAML_SEQUENCE_START_EVENT:
        return "a list";
    case YAML_MAPPING_START_EVENT:
        return "a map of keys";
    case YAML_ALIAS_EVENT:
        return "an alias (*name)";
    case YAML_SCALAR_EVENT:
        return "a single value";
    case YAML_DOCUMENT_START_EVENT:
        return "a second document";
    default:
        return "the end";
    }
}

static weir_err_t refuse_syntax(const reader_t *reader, weir_error_t *error) {
    const yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "%s: out of memory", reader->file);
    }
    size_t line = parser->error == YAML_READER_ERROR ? 0 : parser->problem_mark.line + 1;
    const char *problem = parser->problem != NULL ? parser->problem : "unknown problem";
    if (line == 0) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s: not readable as text: %s at byte %zu",
                           reader->file, problem, parser->problem_offset);
    }
    return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: not YAML: %s%s%s", reader->file, line,
                       problem, parser->context != NULL ? " " : "",
                       parser->context != NULL ? parser->context : "");
}

/* Take the next event; anchors, aliases and tags are refused wherever they stand. */
static weir_err_t take_event(reader_t *reader, weir_error_t *error) {
    if (reader->has_event) {
        yaml_event_delete(&reader->event);
        reader->has_event = false;
    }
    if (!yaml_parser_parse(&reader->parser, &reader->event)) {
        return refuse_syntax(reader, error);
    }
    reader->has_event = true;
    const yaml_event_t *event = &reader->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_ALIAS_EVENT) {
        anchor = event->data.alias.anchor;
    }
    if (anchor != NULL || tag != NULL) {
        return weir_errorf(
            error, WEIR_ERR_INVALID, "%s:%zu: anchors, aliases and tags are not allowed (%.64s)",
            reader->file, event_line(reader), (const char *)(anchor != NULL ? anchor : tag));
    }
    return WEIR_OK;
}

/* The scalar's text into `out`; a NUL inside it or a longer one is refused. */
static weir_err_t copy_scalar(const reader_t *reader, const char *what, char *out, size_t capacity,
                              weir_error_t *error) {
    const char *text = (const char *)reader->event.data.scalar.value;
    size_t size = reader->event.data.scalar.length;
    if (size >= capacity || memchr(text, '\0', size) != NULL) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: %s %s", reader->file,
                           event_line(reader), what,
                           size >= capacity ? "is too long" : "contains a NUL byte");
    }
    memcpy(out, text, size);
    out[size] = '\0';
    return WEIR_OK;
}

/* The value of SECTION.KEY is the next event. */
static weir_err_t read_value(reader_t *reader, const char *dotted, size_t line,
                             weir_error_t *error) {
    char text[WEIR_CONFIG_TEXT];
    size_t count = 0;
    const weir_config_key_t *keys = weir_config_keys(&count);
    const weir_config_key_t *key = weir_config_keys_find(dotted);
    if (key == NULL) {
        weir_err_t code = weir_config_keys_unknown(dotted, error);
        weir_error_prefix(error, "%s:%zu", reader->file, line);
        return code;
    }
    size_t *set_at = &reader->key_lines[key - keys];
    if (*set_at != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: %s was already set on line %zu",
                           reader->file, line, dotted, *set_at);
    }
    *set_at = line;
    weir_err_t code = take_event(reader, error);
    if (code != WEIR_OK) {
        return code;
    }
    if (reader->event.type != YAML_SCALAR_EVENT) {
        char expected[256];
        weir_config_keys_expect(key, expected, sizeof expected);
        return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: %s is %s; expected %s", reader->file,
                           event_line(reader), dotted, describe_event(&reader->event), expected);
    }
    code = copy_scalar(reader, dotted, text, sizeof text, error);
    if (code != WEIR_OK) {
        return code;
    }
    bool quoted = reader->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (!quoted && (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0)) {
        char expected[256];
        weir_config_keys_expect(key, expected, sizeof expected);
        return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: %s has no value; expected %s",
                           reader->file, line, dotted, expected);
    }
    code = weir_config_keys_store(key, text, quoted, reader->config, error);
    if (code != WEIR_OK) {
        weir_error_prefix(error, "%s:%zu", reader->file, line);
    }
    return code;
}

/* The keys of a section, up to the end of its map. */
static weir_err_t read_section(reader_t *reader, const char *section, weir_error_t *error) {
    for (;;) {
        char name[NAME_LIMIT], dotted[2 * NAME_LIMIT];
        weir_err_t code = take_event(reader, error);
        if (code != WEIR_OK || reader->event.type == YAML_MAPPING_END_EVENT) {
            return code;
        }
        size_t line = event_line(reader);
        if (reader->event.type != YAML_SCALAR_EVENT) {
            return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: expected a key of %s, found %s",
                               reader->file, line, section, describe_event(&reader->event));
        }
        code = copy_scalar(reader, "a key", name, sizeof name, error);
        if (code != WEIR_OK) {
            return code;
        }
        (void)snprintf(dotted, sizeof dotted, "%s.%s", section, name);
        code = read_value(reader, dotted, line, error);
        if (code != WEIR_OK) {
            return code;
        }
    }
}

static weir_err_t refuse_section(const reader_t *reader, const char *name, size_t line,
                                 weir_error_t *error) {
    weir_suggest_t suggest;
    char sections[WEIR_CONFIG_KEY_LIMIT][NAME_LIMIT];
    size_t count = 0;
    const weir_config_key_t *keys = weir_config_keys(&count);
    weir_suggest_init(&suggest, name);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(sections[i], sizeof sections[i], "%.*s", (int)strcspn(keys[i].name, "."),
                       keys[i].name);
        weir_suggest_offer(&suggest, sections[i]);
    }
    if (suggest.nearest != NULL) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: unknown section %s; did you mean %s?",
                           reader->file, line, name, suggest.nearest);
    }
    weir_err_t code = weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: unknown section %s",
                                  reader->file, line, name);
    weir_error_hint(error, "a file is made of sections (\"model:\") with indented keys "
                           "(\"  heads: 2\"); `weir config` lists them");
    return code;
}

/* Note a section, known and not seen before. */
static weir_err_t note_section(reader_t *reader, const char *name, size_t line,
                               weir_error_t *error) {
    if (name[0] == '\0' || !weir_config_keys_has_section(name, strlen(name))) {
        return refuse_section(reader, name, line, error);
    }
    for (size_t i = 0; i < reader->section_count; i++) {
        if (strcmp(reader->sections[i], name) == 0) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "%s:%zu: section %s already began on line %zu", reader->file, line,
                               name, reader->section_lines[i]);
        }
    }
    /* known names alone come here, each once: fewer than SECTION_LIMIT */
    if (reader->section_count < SECTION_LIMIT) {
        (void)snprintf(reader->sections[reader->section_count], NAME_LIMIT, "%s", name);
        reader->section_lines[reader->section_count++] = line;
    }
    return WEIR_OK;
}

/* The sections, up to the end of the outer map. */
static weir_err_t read_sections(reader_t *reader, weir_error_t *error) {
    for (;;) {
        char section[NAME_LIMIT];
        weir_err_t code = take_event(reader, error);
        if (code != WEIR_OK || reader->event.type == YAML_MAPPING_END_EVENT) {
            return code;
        }
        size_t line = event_line(reader);
        if (reader->event.type != YAML_SCALAR_EVENT) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "%s:%zu: expected the name of a section, found %s", reader->file,
                               line, describe_event(&reader->event));
        }
        code = copy_scalar(reader, "the name of a section", section, sizeof section, error);
        if (code == WEIR_OK) {
            code = note_section(reader, section, line, error);
        }
        if (code == WEIR_OK) {
            code = take_event(reader, error);
        }
        if (code != WEIR_OK) {
            return code;
        }
        if (reader->event.type == YAML_SCALAR_EVENT && reader->event.data.scalar.length == 0 &&
            reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
            continue; /* a section whose keys are all commented out */
        }
        if (reader->event.type != YAML_MAPPING_START_EVENT) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "%s:%zu: section %s must hold indented keys, found %s", reader->file,
                               line, section, describe_event(&reader->event));
        }
        code = read_section(reader, section, error);
        if (code != WEIR_OK) {
            return code;
        }
    }
}

static weir_err_t read_stream(reader_t *reader, weir_error_t *error) {
    weir_err_t code = take_event(reader, error); /* begin of the stream */
    if (code == WEIR_OK) {
        code = take_event(reader, error);
    }
    if (code != WEIR_OK || reader->event.type == YAML_STREAM_END_EVENT) {
        return code; /* nothing but comments: all defaults */
    }
    code = take_event(reader, error);
    if (code != WEIR_OK) {
        return code;
    }
    if (reader->event.type != YAML_MAPPING_START_EVENT) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: expected sections of keys, found %s",
                           reader->file, event_line(reader), describe_event(&reader->event));
    }
    code = read_sections(reader, error);
    if (code == WEIR_OK) {
        code = take_event(reader, error); /* end of the document */
    }
    if (code == WEIR_OK) {
        code = take_event(reader, error);
    }
    if (code == WEIR_OK && reader->event.type != YAML_STREAM_END_EVENT) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%s:%zu: found %s; a file holds one",
                           reader->file, event_line(reader), describe_event(&reader->event));
    }
    return code;
}

/* libyaml accepts tabs in some places and complains about others in words that do not help. */
static weir_err_t refuse_tabs(const char *yaml, size_t size, const char *name,
                              weir_error_t *error) {
    size_t line = 1;
    bool indentation = true;
    for (size_t i = 0; i < size; i++) {
        if (yaml[i] == '\n') {
            line++;
            indentation = true;
        } else if (indentation && yaml[i] == '\t') {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "%s:%zu: indented with a tab; YAML is indented with spaces", name,
                               line);
        } else if (yaml[i] != ' ') {
            indentation = false;
        }
    }
    return WEIR_OK;
}

weir_err_t weir_config_yaml_apply(const char *yaml, size_t size, const char *name,
                                  weir_config_t *config, weir_error_t *error) {
    weir_err_t code = refuse_tabs(yaml, size, name, error);
    if (code != WEIR_OK) {
        return code;
    }
    reader_t reader = {.file = name, .config = config};
    if (!yaml_parser_initialize(&reader.parser)) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "%s: out of memory", name);
    }
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)yaml, size);
    code = read_stream(&reader, error);
    if (reader.has_event) {
        yaml_event_delete(&reader.event);
    }
    yaml_parser_delete(&reader.parser);
    return code;
}
