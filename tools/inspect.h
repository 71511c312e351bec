/* What the verbs of `weir inspect` share: arguments, opening through libweir, names of items. */
#ifndef WEIR_TOOLS_INSPECT_H
#define WEIR_TOOLS_INSPECT_H

#include "common/dataset.h"
#include "common/error.h"
#include "reader/reader.h"

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIR_INSPECT_WORDS = 256 };

/* Arguments of any of them; what a verb does not take stays zero. */
typedef struct {
    const char *words[WEIR_INSPECT_WORDS]; /* not options */
    size_t word_count;
    bool json, dry_run, state, ignore_case;
    const char *table; /* --table, "item" */
    const char *data, *out, *keys, *format, *metric, *values;
    uint64_t limit, keep, servers; /* 0: not given */
    uint64_t first_slot, end_slot; /* --slots; all without it */
} weir_inspect_t;

enum {
    WEIR_INSPECT_JSON = 256,
    WEIR_INSPECT_TABLE,
    WEIR_INSPECT_DATA,
    WEIR_INSPECT_LIMIT,
    WEIR_INSPECT_KEEP,
    WEIR_INSPECT_DRY_RUN,
    WEIR_INSPECT_STATE,
    WEIR_INSPECT_IGNORE_CASE,
    WEIR_INSPECT_OUT,
    WEIR_INSPECT_KEYS,
    WEIR_INSPECT_FORMAT,
    WEIR_INSPECT_METRIC,
    WEIR_INSPECT_VALUES,
    WEIR_INSPECT_SERVERS,
    WEIR_INSPECT_SLOTS
};

#define WEIR_INSPECT_OPTION_JSON                                                                   \
    { "json", WEIR_INSPECT_JSON, NULL, 0, "print it as JSON", 0 }
#define WEIR_INSPECT_OPTION_TABLE                                                                  \
    { "table", WEIR_INSPECT_TABLE, "NAME", 0, "of this table (default item)", 0 }
#define WEIR_INSPECT_OPTION_DATA                                                                   \
    {                                                                                              \
        "data", WEIR_INSPECT_DATA, "DIR", 0,                                                       \
            "prepared data, for the items' ids and names (default: where the checkpoint's "        \
            "configuration says, if it is there)",                                                 \
            0                                                                                      \
    }

/* Parse, between `least` and `most` words; exits on a usage error, as argp does. */
void weir_inspect_parse(int argc, char **argv, const struct argp_option *options,
                        const char *arguments_doc, const char *doc, size_t least, size_t most,
                        weir_inspect_t *arguments);

/* The checkpoint that `where` means, and the table asked for (NULL: not wanted); exits when it
 * cannot be read. */
weir_reader_t *weir_inspect_open(const char *where, const char *table_name,
                                 const weir_reader_table_t **table);
/* End with a reader's error, when there is one. */
void weir_inspect_check(int code, const weir_reader_error_t *error);

/* A key from the command line; exits on what is none. */
uint64_t weir_inspect_key(const char *text);

/* The data that `arguments` or the checkpoint's configuration name; NULL: none can be opened (exits
 * where --data said so). */
weir_dataset_t *weir_inspect_names(const weir_inspect_t *arguments, const weir_reader_t *reader);
/* The id, or the name, of the item with this key, printable; "" where there is none. */
enum { WEIR_INSPECT_NAME = 96 };
void weir_inspect_item_id(weir_dataset_t *names, uint64_t key, char out[WEIR_INSPECT_NAME]);
void weir_inspect_item_name(weir_dataset_t *names, uint64_t key, char out[WEIR_INSPECT_NAME]);

/* All rows of the slots asked for; `visit` returns false to end. Exits on an error. */
typedef bool weir_inspect_visit_t(void *argument, const weir_reader_row_t *row,
                                  const float *values);
void weir_inspect_each(weir_reader_t *reader, const weir_reader_table_t *table, uint32_t first,
                       uint32_t end, weir_inspect_visit_t *visit, void *argument);

/* Print, and free, a JSON value (indented, with a line end); exits when there is no memory. */
void weir_inspect_print_json(json_t *value);

/* A key as JSON: an integer, or, past 2^63, where JSON readers lose digits, a text. */
json_t *weir_inspect_json_number(uint64_t number);

int weir_inspect_ls(int argc, char **argv);
int weir_inspect_info(int argc, char **argv);
int weir_inspect_tables(int argc, char **argv);
int weir_inspect_get(int argc, char **argv);
int weir_inspect_grep(int argc, char **argv);
int weir_inspect_stats(int argc, char **argv);
int weir_inspect_diff(int argc, char **argv);
int weir_inspect_top(int argc, char **argv);
int weir_inspect_export(int argc, char **argv);
int weir_inspect_prune(int argc, char **argv);
int weir_inspect_reshard(int argc, char **argv);
int weir_inspect_fold(int argc, char **argv);
int weir_inspect_import(int argc, char **argv);

#endif
