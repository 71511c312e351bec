/* The schema of data for ranking, in YAML (docs/files/schema.md): which columns of which files are
 * users, items, times, actions, numbers and features. */
#ifndef WEIR_TOOLS_SCHEMA_H
#define WEIR_TOOLS_SCHEMA_H

#include "common/dataset_columns.h"
#include "common/error.h"
#include "tools/records.h"

#include <stdbool.h>

enum { WEIR_SCHEMA_FILES = 8, WEIR_SCHEMA_BOUNDS = 64, WEIR_SCHEMA_TEXT = 256 };

typedef struct {
    char name[WEIR_DATASET_NAME];
    char path[WEIR_SCHEMA_TEXT]; /* as written */
    char key[WEIR_SCHEMA_TEXT];  /* column that holds the item's or the user's id */
    weir_records_format_t format;
    char delimiter;
} weir_schema_file_t;

typedef enum {
    WEIR_ENCODING_DICTIONARY, /* ids from 1 in the order of first appearance */
    WEIR_ENCODING_HASH,       /* 1 + hash of the text modulo `buckets` */
    WEIR_ENCODING_BOUNDS,     /* 1 + how many bounds a number has reached */
    WEIR_ENCODING_HOUR,       /* of the event's time, UTC: 1 .. 24 */
    WEIR_ENCODING_WEEKDAY     /* of the event's time, UTC: 1, Monday, .. 7 */
} weir_encoding_t;

typedef struct {
    char name[WEIR_DATASET_NAME];
    char column[WEIR_SCHEMA_TEXT]; /* empty for hour and weekday */
    char from[WEIR_DATASET_NAME];  /* a file's name; empty: the log */
    weir_encoding_t encoding;
    uint32_t buckets;
    double bounds[WEIR_SCHEMA_BOUNDS]; /* rising */
    size_t bound_count;
    size_t line; /* of the schema */
} weir_schema_feature_t;

typedef struct {
    char name[WEIR_DATASET_NAME];
    char column[WEIR_SCHEMA_TEXT];
    double value; /* action: yes from this number on, or 0: above 0; number: its factor */
    size_t line;
} weir_schema_column_t;

typedef struct {
    weir_schema_file_t log; /* its name and key are not used */
    char user[WEIR_SCHEMA_TEXT], item[WEIR_SCHEMA_TEXT], time[WEIR_SCHEMA_TEXT];
    char rating[WEIR_SCHEMA_TEXT]; /* empty: none */
    int64_t per_second;            /* units of time */
    weir_schema_file_t files[WEIR_SCHEMA_FILES];
    weir_schema_column_t actions[WEIR_DATASET_MAX_ACTIONS], numbers[WEIR_DATASET_MAX_NUMBERS];
    weir_schema_feature_t context[WEIR_DATASET_MAX_FEATURES], items[WEIR_DATASET_MAX_FEATURES],
        users[WEIR_DATASET_MAX_FEATURES];
    size_t file_count, action_count, number_count, context_count, item_count, user_count;
} weir_schema_t;

/* Read a schema from text. Errors: INVALID, with a sentence that begins "name:line: ". On failure
 * `schema` may be half filled. Call: local. */
WEIR_MUST_USE weir_err_t weir_schema_parse(const char *text, size_t size, const char *name,
                                           weir_schema_t *schema, weir_error_t *error);

/* The file of that name, or NULL. */
const weir_schema_file_t *weir_schema_find_file(const weir_schema_t *schema, const char *name);

#endif
