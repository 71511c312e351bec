/* A checkpoint written anew: the rows of a chain, for another number of servers, with rows from
 * elsewhere among them. What comes out is a full checkpoint of the same step, its files those that
 * as many servers would have written, byte for byte. */
#ifndef WEIR_TOOLS_REWRITE_H
#define WEIR_TOOLS_REWRITE_H

#include "common/checkpoint.h"
#include "common/error.h"
#include "common/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A row from elsewhere. */
typedef struct {
    weir_key_t key;
    const float *values; /* the first segment's; not owned */
} weir_rewrite_row_t;

typedef struct {
    uint32_t servers;         /* 1 .. WEIR_SLOT_COUNT */
    const char *table;        /* of `rows`; NULL: none */
    weir_rewrite_row_t *rows; /* sorted here; of a key once. A key that has a row gets the value,
                                 and the optimiser's state of a new one */
    size_t row_count;
    uint32_t dim; /* floats of each */
    bool replace; /* the checkpoint of that step that `run` has */
} weir_rewrite_options_t;

typedef struct {
    uint64_t step;
    uint64_t rows;     /* written, of all tables */
    uint64_t replaced; /* of options->rows, those whose key had a row */
} weir_rewrite_result_t;

/* Write the newest checkpoint of `run` anew in its place, full where it was a delta, by as many
 * servers: what it builds on is needed for it no more. The run's lock is held meanwhile. Until the
 * new one is published the old one stays. *result: 0 rows when it was full, and nothing is done.
 * Errors: those of weir_rewrite; EXISTS when a job runs. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_rewrite_fold(const char *run, weir_rewrite_result_t *result,
                                           weir_error_t *error);

/* Write the checkpoint that `where` means into the run folder `run`, which is made; it must have no
 * checkpoint of that step. Every byte of the source is compared with its checksums first. Errors:
 * those of reading and writing, EXISTS, INVALID (the rows do not fit the table, or a key is given
 * twice); then nothing is published. Cost: the source is read three times; memory of some
 * megabytes, and the rows' keys. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_rewrite(const char *where, const char *run,
                                      const weir_rewrite_options_t *options,
                                      weir_rewrite_result_t *result, weir_error_t *error);

#endif
