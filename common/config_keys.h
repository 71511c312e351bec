/* The table of configuration keys, one row each: what the parser, the range checks, the reference
 * page and the example files are made of. Private to common/config*.c. */
#ifndef WEIR_COMMON_CONFIG_KEYS_H
#define WEIR_COMMON_CONFIG_KEYS_H

#include "common/config.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    WEIR_KEY_INTEGER, /* int64_t in low .. high */
    WEIR_KEY_REAL,    /* double in low .. high, finite */
    WEIR_KEY_BOOLEAN, /* bool: true or false */
    WEIR_KEY_CHOICE,  /* int64_t: index of a word in choices */
    WEIR_KEY_NAME,    /* char[capacity]: a word of choices */
    WEIR_KEY_TEXT     /* char[capacity]: any UTF-8 text without control characters */
} weir_config_type_t;

typedef struct {
    const char *name; /* "model.heads" */
    weir_config_type_t type;
    size_t offset;       /* in weir_config_t */
    size_t capacity;     /* bytes, of names and texts */
    const char *initial; /* default, as it would be written */
    double low, high;
    bool low_open, high_open;   /* the bound itself is outside */
    bool model;                 /* a checkpoint must agree with it */
    const char *const *choices; /* NULL-terminated */
    const char *roles;          /* who reads it */
    const char *help;           /* one sentence */
} weir_config_key_t;

enum { WEIR_CONFIG_KEY_LIMIT = 192 };

const weir_config_key_t *weir_config_keys(size_t *count);

/* The key of a dotted name, or NULL. */
const weir_config_key_t *weir_config_keys_find(const char *name);

/* A key with this section ("model") exists. */
bool weir_config_keys_has_section(const char *section, size_t size);

/* What a value of the key must be: "an integer from 1 to 8192", "one of: token, batch". */
void weir_config_keys_expect(const weir_config_key_t *key, char *out, size_t capacity);

/* Parse `text` and store it. `quoted`: it was written in quotes, so it is text and nothing else.
 * Errors: INVALID, with a sentence that names key, value and what was expected. */
WEIR_MUST_USE weir_err_t weir_config_keys_store(const weir_config_key_t *key, const char *text,
                                                bool quoted, weir_config_t *config,
                                                weir_error_t *error);

/* The value as it would be written, without quotes; reals in the shortest form that reads back
 * equal. */
void weir_config_keys_format(const weir_config_key_t *key, const weir_config_t *config, char *out,
                             size_t capacity);

/* INVALID with a sentence that suggests the nearest known key. */
weir_err_t weir_config_keys_unknown(const char *name, weir_error_t *error);

#endif
