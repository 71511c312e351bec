/* CSV by RFC 4180: fields between delimiters; a field in double quotes may hold delimiters, line
 * ends and doubled quotes. Ends of lines are LF or CRLF; empty lines are no records. A quote inside
 * a field that does not begin with one is an ordinary character.
 *
 * A *bad* record (text after a closing quote, a quote never closed, a record over the limit) costs
 * the line it begins on alone: reading goes on with the next line. */
#ifndef WEIR_TOOLS_CSV_H
#define WEIR_TOOLS_CSV_H

#include "tools/input.h"

typedef struct {
    const char *bytes; /* unquoted; valid until the next read */
    size_t size;
} weir_csv_field_t;

typedef struct {
    weir_input_t *input; /* not owned */
    char delimiter;
    size_t wanted; /* fields that are split off; the rest of the record is only checked. 0: all */
    weir_csv_field_t *fields; /* owned */
    size_t capacity;
} weir_csv_t;

typedef struct {
    const weir_csv_field_t *fields; /* valid until the next read */
    size_t count;                   /* 0 when bad */
    uint64_t line;                  /* where the record begins */
    const char *bad;                /* NULL, or the reason as a short phrase */
} weir_csv_record_t;

/* `delimiter` is any byte but '"', CR, LF. Fails out of memory only when reading. */
WEIR_MUST_USE weir_err_t weir_csv_init(weir_csv_t *csv, weir_input_t *input, char delimiter,
                                       weir_error_t *error);
void weir_csv_fini(weir_csv_t *csv);

/* Read the next record. `*more` false: there is none. Cost: two searches of the line when it has no
 * quotes. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_csv_read(weir_csv_t *csv, weir_csv_record_t *record, bool *more,
                                       weir_error_t *error);

#endif
