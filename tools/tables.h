/* A log and tables of features, read as a schema says, into what `weir prepare` writes. */
#ifndef WEIR_TOOLS_TABLES_H
#define WEIR_TOOLS_TABLES_H

#include "tools/bad_lines.h"
#include "tools/dataset_writer.h"
#include "tools/event_log.h"
#include "tools/feature_ids.h"

/* What the log is read into; not owned. */
typedef struct {
    weir_interner_t *users, *items;
    weir_event_log_t *log; /* its width is weir_dataset_writer_width of the columns */
    weir_bad_lines_t *bad;
    uint64_t *lines; /* of events, bad ones included */
} weir_tables_out_t;

typedef struct weir_tables weir_tables_t;

/* `schema` (not owned) must outlive it. Ownership: caller destroys. */
WEIR_MUST_USE weir_err_t weir_tables_create(const weir_schema_t *schema, weir_tables_t **tables,
                                            weir_error_t *error);
void weir_tables_destroy(weir_tables_t *tables); /* accepts NULL */

/* Names of the columns; after reading also the features' sizes and ids, of users and items as they
 * are numbered by the interners. Valid until destroy. */
const weir_dataset_columns_t *weir_tables_columns(const weir_tables_t *tables);

/* The texts of the ids of features that have a dictionary. Valid until destroy. */
const weir_dataset_values_t *weir_tables_values(const weir_tables_t *tables);

/* Read the log from `input`. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_tables_read_log(weir_tables_t *tables, weir_input_t *input,
                                              const weir_tables_out_t *out, weir_error_t *error);
/* After the log: read one of the schema's files. Of what the log does not have nothing is kept. */
WEIR_MUST_USE weir_err_t weir_tables_read_file(weir_tables_t *tables,
                                               const weir_schema_file_t *file, weir_input_t *input,
                                               const weir_tables_out_t *out, weir_error_t *error);
/* After all files. */
WEIR_MUST_USE weir_err_t weir_tables_finish(weir_tables_t *tables, const weir_tables_out_t *out,
                                            weir_error_t *error);

#endif
