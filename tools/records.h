/* Records of named columns from a text: CSV with a header, or JSON lines (an object a line). The
 * columns wanted are named once; of each record their fields are given as text.
 *
 * JSON: a column is a key, or keys with dots between for objects inside; strings as they are,
 * numbers in decimal, true and false as 1 and 0; null and what is not there is no field. A record
 * that is not an object, or whose wanted value is a list or an object, is *bad*. */
#ifndef WEIR_TOOLS_RECORDS_H
#define WEIR_TOOLS_RECORDS_H

#include "tools/input.h"

typedef enum { WEIR_RECORDS_CSV, WEIR_RECORDS_JSONL } weir_records_format_t;

typedef struct {
    const char *bytes; /* NULL: not there; valid until the next read */
    size_t size;
} weir_field_t;

typedef struct {
    const weir_field_t *fields; /* as many as columns are wanted; NULL when bad */
    uint64_t line;              /* where the record begins */
    const char *bad;            /* NULL, or the reason as a short phrase */
} weir_record_t;

typedef struct weir_records weir_records_t;

/* `input` (not owned) is at its beginning; `columns` (copied) are wanted. Errors: INVALID when a
 * CSV header lacks one. Ownership: caller closes. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_records_open(weir_input_t *input, weir_records_format_t format,
                                           char delimiter, const char *const *columns, size_t count,
                                           weir_records_t **records, weir_error_t *error);
void weir_records_close(weir_records_t *records); /* accepts NULL */

/* Read the next record. `*more` false: there is none. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_records_read(weir_records_t *records, weir_record_t *record,
                                           bool *more, weir_error_t *error);

#endif
