/* A shard of an embedding table: batch operations only, no I/O, one owner thread.
 *
 * A row lies in a slab, at a place that growth never moves. Its handle stays valid until the next
 * call that can remove rows (none yet). Repeated keys in one batch are allowed and get the same
 * row. */
#ifndef WEIR_PS_TABLE_H
#define WEIR_PS_TABLE_H

#include "common/error.h"
#include "common/hash.h"
#include "ps/row.h"

#include <stddef.h>
#include <stdint.h>

typedef uint32_t weir_row_handle_t;

typedef struct weir_table weir_table_t;

enum { WEIR_TABLE_MAX_DIM = 65536 };

/* An empty table; the schema is checked and copied. */
WEIR_MUST_USE weir_err_t weir_table_create(const weir_table_schema_t *schema, weir_table_t **table,
                                           weir_error_t *error);
void weir_table_destroy(weir_table_t *table);

const weir_table_schema_t *weir_table_schema(const weir_table_t *table);
uint64_t weir_table_rows(const weir_table_t *table);
uint64_t weir_table_bytes(const weir_table_t *table); /* memory held, index included */

/* Find or give birth: `handles` (count) for later calls, `values` (count x dim) gathered; `values`
 * NULL: not wanted. On out-of-memory no row is lost and none half-made; the batch's first keys may
 * have been born. Call: local. Threads: owner. */
WEIR_MUST_USE weir_err_t weir_table_pull(weir_table_t *table, const weir_key_t *keys, size_t count,
                                         weir_row_handle_t *handles, float *values,
                                         weir_error_t *error);

/* Values without birth: a key that was never trained answers with its birth value and is not
 * stored. Call: local. Threads: owner. */
void weir_table_peek(const weir_table_t *table, const weir_key_t *keys, size_t count,
                     float *values);

/* Apply one optimiser step to distinct rows: gradients count x dim, the sum over the batch. `step`
 * becomes the rows' last step; bias correction goes by each row's own count. A row whose gradient
 * holds a NaN or an infinity is left as it is. Returns the number of such rows. Call: local.
 * Threads: owner. */
size_t weir_table_apply(weir_table_t *table, const weir_row_handle_t *handles,
                        const float *gradients, size_t count, uint64_t step);

/* All rows in order of hash64(key), for snapshots: fills `keys` and `handles` (rows() of each).
 * Errors: out of memory (24 bytes a row for the time of the call). */
WEIR_MUST_USE weir_err_t weir_table_ordered(const weir_table_t *table, weir_key_t *keys,
                                            weir_row_handle_t *handles, weir_error_t *error);

/* A row's record: layout.floats floats, then the step of its last update and its number of updates
 * (both 0: never updated; both kept in 32 bits and stopping at the largest). */
const float *weir_table_record(const weir_table_t *table, weir_row_handle_t handle,
                               uint64_t *last_step, uint64_t *count);

/* Restore one row as it was saved. Errors: the key is there already (WEIR_ERR_CORRUPT), last_step
 * or count above 2^32 - 1 (WEIR_ERR_CORRUPT), out of memory. */
WEIR_MUST_USE weir_err_t weir_table_restore(weir_table_t *table, weir_key_t key,
                                            const float *record, uint64_t last_step, uint64_t count,
                                            weir_error_t *error);

#endif
