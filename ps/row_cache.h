/* A worker's copies of rows that it pulls often: whole records, kept right by the worker itself.
 *
 * A row that a pull names may get a *place*, which stays its own at least until all pulls that
 * pinned it have unpinned it. A place holds a record or nothing; whether that record is what the
 * server has is not known here: the server says so in its answers (docs/files/ps-frames.md). The
 * owner's own gradients are applied with the server's arithmetic (ps/row_update.h).
 *
 * A key gets a place when it has been seen before (a small table of hashes remembers which ones
 * were; it may forget, and rarely err), so that keys named once do not drive out others. Who
 * leaves: CLOCK, places that were of use lately stay for another round. */
#ifndef WEIR_PS_ROW_CACHE_H
#define WEIR_PS_ROW_CACHE_H

#include "common/error.h"
#include "common/hash.h"
#include "ps/row.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_row_cache weir_row_cache_t;
typedef uint32_t weir_row_place_t;

#define WEIR_ROW_CACHE_NONE UINT32_MAX
enum { WEIR_ROW_CACHE_MAX_ROWS = 1000000000 /* below 2^30: room for two marks in a place */ };

/* Room for `rows` (1 to MAX_ROWS) records of a checked schema, which is copied. Errors: INVALID,
 * memory. */
WEIR_MUST_USE weir_err_t weir_row_cache_create(const weir_row_schema_t *schema, size_t rows,
                                               weir_row_cache_t **cache, weir_error_t *error);
void weir_row_cache_destroy(weir_row_cache_t *cache);

/* The place of a key, pinned once more. *fresh: it is new, and empty; else it has been the key's
 * since an earlier pin. NONE: the key has no place and gets none now. Call: local. Cost: a probe,
 * and a few steps of the clock when it is fresh. */
weir_row_place_t weir_row_cache_pin(weir_row_cache_t *cache, weir_key_t key, bool *fresh);
void weir_row_cache_unpin(weir_row_cache_t *cache, weir_row_place_t place);

/* The record at a place and its number of updates. */
void weir_row_cache_store(weir_row_cache_t *cache, weir_row_place_t place, const void *record,
                          uint64_t count);
/* What the place holds is not the row any more. */
void weir_row_cache_forget(weir_row_cache_t *cache, weir_row_place_t place);
/* The record, or NULL when there is none; it has been of use. */
const void *weir_row_cache_read(weir_row_cache_t *cache, weir_row_place_t place);

/* The gradients that follow are of `step`. */
void weir_row_cache_begin_step(weir_row_cache_t *cache, uint64_t step);
/* Apply a gradient (dim floats) to the record, if there is one and all of the gradient is finite:
 * as a server does with the sum of the step. */
void weir_row_cache_update(weir_row_cache_t *cache, weir_row_place_t place, const float *gradient);

/* Keys that have a place. */
size_t weir_row_cache_rows(const weir_row_cache_t *cache);

#endif
