/* What the table of keys prints: a whole configuration as YAML, and the reference of all keys. */
#include "common/config.h"
#include "common/config_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t section_size(const weir_config_key_t *key) {
    return strcspn(key->name, ".");
}

/* The key begins another section than the one before it in the table. */
static bool begins_section(const weir_config_key_t *keys, size_t index) {
    size_t size = section_size(&keys[index]);
    return index == 0 || size != section_size(&keys[index - 1]) ||
           strncmp(keys[index].name, keys[index - 1].name, size) != 0;
}

/* Texts hold no control characters (config_keys.c), so that two escapes are enough. */
static void write_quoted(FILE *stream, const char *text) {
    (void)fputc('"', stream);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            (void)fputc('\\', stream);
        }
        (void)fputc(*text, stream);
    }
    (void)fputc('"', stream);
}

static void write_yaml(FILE *stream, const weir_config_t *config) {
    size_t count = 0;
    const weir_config_key_t *keys = weir_config_keys(&count);
    for (size_t i = 0; i < count; i++) {
        char value[WEIR_CONFIG_TEXT];
        size_t section = section_size(&keys[i]);
        if (begins_section(keys, i)) {
            (void)fprintf(stream, "%.*s:\n", (int)section, keys[i].name);
        }
        weir_config_keys_format(&keys[i], config, value, sizeof value);
        (void)fprintf(stream, "  %s: ", keys[i].name + section + 1);
        if (keys[i].type == WEIR_KEY_TEXT) {
            write_quoted(stream, value);
        } else {
            (void)fputs(value, stream);
        }
        (void)fputc('\n', stream);
    }
}

weir_err_t weir_config_to_yaml(const weir_config_t *config, char **yaml, weir_error_t *error) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL) {
        return weir_error_from_errno(error, errno, "write the configuration as YAML");
    }
    write_yaml(stream, config);
    bool failed = ferror(stream) != 0;
    if (fclose(stream) != 0 || failed) {
        free(text);
        return weir_errorf(error, WEIR_ERR_MEMORY,
                           "write the configuration as YAML: out of memory");
    }
    *yaml = text;
    return WEIR_OK;
}

/* "|" would end a cell. */
static void write_cell(FILE *stream, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '|') {
            (void)fputc('\\', stream);
        }
        (void)fputc(*text, stream);
    }
}

static void write_markdown(FILE *stream) {
    size_t count = 0;
    const weir_config_key_t *keys = weir_config_keys(&count);
    (void)fputs("# Configuration\n\n"
                "Made by `weir config --markdown` from the table of keys in "
                "`common/config_keys.def`; do not edit.\n\n"
                "Sources, later over earlier: default, YAML file, environment "
                "(`WEIR_MODEL_HEADS` for `model.heads`),\n"
                "`--set model.heads=2`. An unknown key, a wrong type or a value out of range is "
                "refused before any process starts.\n"
                "Keys marked * belong to the model: a checkpoint can only be resumed with the same "
                "values.\n",
                stream);
    for (size_t i = 0; i < count; i++) {
        char expected[256];
        size_t section = section_size(&keys[i]);
        if (begins_section(keys, i)) {
            (void)fprintf(stream,
                          "\n## %.*s\n\n| key | default | value | read by | meaning |\n"
                          "|---|---|---|---|---|\n",
                          (int)section, keys[i].name);
        }
        weir_config_keys_expect(&keys[i], expected, sizeof expected);
        (void)fprintf(stream, "| `%s`%s | %s%s%s | ", keys[i].name, keys[i].model ? " *" : "",
                      keys[i].initial[0] != '\0' ? "`" : "", keys[i].initial,
                      keys[i].initial[0] != '\0' ? "`" : "");
        write_cell(stream, expected);
        (void)fprintf(stream, " | %s | ", keys[i].roles);
        write_cell(stream, keys[i].help);
        (void)fputs(" |\n", stream);
    }
}

static void write_plain(FILE *stream) {
    size_t count = 0;
    const weir_config_key_t *keys = weir_config_keys(&count);
    for (size_t i = 0; i < count; i++) {
        char expected[256];
        if (begins_section(keys, i)) {
            (void)fprintf(stream, "%s%.*s\n", i == 0 ? "" : "\n", (int)section_size(&keys[i]),
                          keys[i].name);
        }
        weir_config_keys_expect(&keys[i], expected, sizeof expected);
        (void)fprintf(stream, "  %s%s\n      %s\n      %s (default %s)\n", keys[i].name,
                      keys[i].model ? " *" : "", keys[i].help, expected,
                      keys[i].initial[0] != '\0' ? keys[i].initial : "empty");
    }
    (void)fputs("\n* belongs to the model: a checkpoint can only be resumed with the same value.\n",
                stream);
}

void weir_config_print_reference(FILE *stream, bool markdown) {
    if (markdown) {
        write_markdown(stream);
    } else {
        write_plain(stream);
    }
}
