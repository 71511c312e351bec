/* A shard of an embedding table: batch operations only, no I/O, one owner thread.
 *
 * A row handle stays valid until the next call that can remove rows (none yet); growth does not move
 * rows. */
#ifndef WEIR_PS_TABLE_H
#define WEIR_PS_TABLE_H

#include "common/error.h"
#include "common/hash.h"
#include "ps/row.h"

#include <stddef.h>
#include <stdint.h>

typedef uint32_t weir_row_handle_t;

typedef struct weir_table weir_table_t;

WEIR_MUST_USE weir_err_t weir_table_create(const weir_table_schema_t *schema, weir_table_t **table,
                                           weir_error_t *error);
void weir_table_destroy(weir_table_t *table);

const weir_table_schema_t *weir_table_schema(const weir_table_t *table);
uint64_t weir_table_rows(const weir_table_t *table);
uint64_t weir_table_bytes(const weir_table_t *table); /* memory held, index included */

/* Find or give birth: `handles` (count) for later calls, `values` (count x dim) gathered.
 * On out-of-memory no row is lost and none half-made. */
WEIR_MUST_USE weir_err_t weir_table_pull(weir_table_t *table, const weir_key_t *keys, size_t count,
                                         weir_row_handle_t *handles, float *values,
                                         weir_error_t *error);

/* Values without birth: a key that was never trained answers with its birth value and is not stored. */
void weir_table_peek(const weir_table_t *table, const weir_key_t *keys, size_t count,
                     float *values);

/* Apply one optimiser step to distinct rows: gradients count x dim, the sum over the batch. `step`
 * counts from 1 and is the table's (bias correction of AdamW uses it). */
void weir_table_apply(weir_table_t *table, const weir_row_handle_t *handles,
                      const float *gradients, size_t count, uint64_t step);

/* All rows in order of hash64(key), for snapshots: fills `keys` and `handles` (rows() of each). */
void weir_table_ordered(const weir_table_t *table, weir_key_t *keys, weir_row_handle_t *handles);

/* A row's record: layout.floats floats, then its last step and count. */
const float *weir_table_record(const weir_table_t *table, weir_row_handle_t handle,
                               uint64_t *last_step, uint64_t *count);

/* Restore one row as it was saved; the key must not be there yet. */
WEIR_MUST_USE weir_err_t weir_table_restore(weir_table_t *table, weir_key_t key,
                                            const float *record, uint64_t last_step,
                                            uint64_t count, weir_error_t *error);

#endif
