/* What the sources of `weir prepare` share: options, the log being read, and the way from the log
 * to a folder of prepared data with a summary. */
#ifndef WEIR_TOOLS_PREPARE_H
#define WEIR_TOOLS_PREPARE_H

#include "tools/bad_lines.h"
#include "tools/event_log.h"
#include "tools/interner.h"
#include "tools/progress.h"

#include <argp.h>

typedef struct {
    const char *out;
    uint64_t min_user, min_item;
    bool strict, force, json;
} weir_prepare_options_t;

/* The argp child that parses them; its input is a weir_prepare_options_t. */
extern const struct argp weir_prepare_argp;

typedef struct {
    weir_interner_t *users, *items;
    weir_interner_t *names; /* distinct names, or NULL without a catalogue */
    uint32_t *item_names;   /* [catalogue] number in names; owned */
    uint32_t catalogue;     /* items that came from a catalogue: the first ones */
    weir_event_log_t log;
    const weir_dataset_columns_t *columns; /* not owned; features as users and items are numbered
                                              here; NULL: the log has no width */
    const weir_dataset_values_t *values;   /* texts of the features' ids; not owned, may be NULL */
    const char *schema;                    /* text; not owned, may be NULL */
    weir_bad_lines_t bad;
    uint64_t lines; /* of events, bad ones included */
} weir_prepare_t;

WEIR_MUST_USE weir_err_t weir_prepare_init(weir_prepare_t *prepare, bool strict,
                                           weir_error_t *error);
void weir_prepare_fini(weir_prepare_t *prepare);

/* A field as it stood in the line. */
typedef struct {
    const char *bytes;
    size_t size;
} weir_prepare_field_t;

/* Add one event from its fields, or note a bad line. `action.bytes` NULL: 1. */
WEIR_MUST_USE weir_err_t weir_prepare_add_event(weir_prepare_t *prepare, const char *file,
                                                uint64_t line, weir_prepare_field_t user,
                                                weir_prepare_field_t item,
                                                weir_prepare_field_t time,
                                                weir_prepare_field_t action, int64_t per_second,
                                                weir_error_t *error);

/* Filter, sort, write, and print the summary on stdout. `source` is for a person. */
WEIR_MUST_USE weir_err_t weir_prepare_finish(weir_prepare_t *prepare,
                                             const weir_prepare_options_t *options,
                                             const char *source, weir_error_t *error);

/* The sources. */
int weir_prepare_movielens(int argc, char **argv);
int weir_prepare_csv(int argc, char **argv);
int weir_prepare_tables(int argc, char **argv);

#endif
