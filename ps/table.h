/* A shard of an embedding table: batch operations only, one owner thread.
 *
 * A row lies at a place that growth never moves. Its handle stays valid until the end of the step
 * that pulled it. Repeated keys in one batch are allowed and get the same row.
 *
 * What a table holds is a pure function of the steps applied to it, never of the number of servers,
 * the order in which pulls of a step arrive, or the size of a cold store:
 *
 * - *Birth*: a key's first pull. Its value is a function of (seed, table, key).
 * - *Admission* (ps/admission.h): a key that is not admitted has no row: it is answered with its
 *   birth value, and its gradient is dropped.
 * - *Expiry*: a row not used for more than `ttl` steps, nor by a step under way, is as if it had
 *   never been born; its memory is taken back by a sweep some time later.
 * - *Eviction*: rows live in *cells*, equal parts of the hash space, each with its equal part of
 *   the memory budget. A cell found full at the end of a step is *due*; at the end of the next one
 *   its least valuable rows go, a sixteenth of the cell. So memory exceeds the budget by the births
 *   of two steps at most. Pulls of that next step may not be answered early (is_settled).
 * - *Cold store* (ps/cold_store.h): evicted rows go to disk instead of into oblivion and come back
 *   when they are pulled. Then eviction changes nothing that can be seen. */
#ifndef WEIR_PS_TABLE_H
#define WEIR_PS_TABLE_H

#include "common/error.h"
#include "common/hash.h"
#include "ps/admission.h"
#include "ps/row.h"
#include "ps/row_store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_table weir_table_t;

typedef struct {
    weir_row_schema_t row;
    weir_slot_t first_slot, end_slot; /* [first, end); both 0: all slots */
    uint64_t memory_budget;           /* bytes of the rows of all servers together; 0: no limit */
    weir_eviction_kind_t eviction;    /* who goes when the budget is spent */
    uint64_t ttl;                     /* steps; 0: rows do not expire */
    weir_admission_kind_t admission;
    double admission_probability;
    uint32_t admission_threshold; /* steps in which a key must have been seen, this one included */
    uint64_t admission_window;    /* steps between halvings of the counters; 0: never */
    uint32_t admission_counters;  /* per slot */
    const char *cold_folder;      /* NULL: evicted rows are forgotten */
    uint64_t cold_cache;          /* bytes of memory that the cold store may use to read */
    bool owners; /* remember who updated a row alone: for workers that keep copies; beside the
                    budget */
} weir_table_options_t;

/* An empty table; the options are checked and copied. Errors: INVALID (also a budget of fewer than
 * 4 rows a slot), memory, the cold folder's. */
WEIR_MUST_USE weir_err_t weir_table_create(const weir_table_options_t *options,
                                           weir_table_t **table, weir_error_t *error);
void weir_table_destroy(weir_table_t *table);

const weir_row_schema_t *weir_table_schema(const weir_table_t *table);
const weir_row_layout_t *weir_table_layout(const weir_table_t *table);

typedef struct {
    uint64_t rows;        /* in memory */
    uint64_t cold_rows;   /* on disk alone */
    uint64_t bytes;       /* memory held, all included but the cold store's own */
    uint64_t index_bytes; /* of these, index and metadata: all but the records */
    uint64_t born, evicted, expired, rejected; /* so far; rejected: keys of pulls */
    uint64_t cold_reads, cold_hits, cold_writes;
} weir_table_stats_t;
weir_table_stats_t weir_table_stats(const weir_table_t *table);

/* Memory that a row takes in a large table, with all that belongs to it. */
double weir_table_row_bytes(const weir_row_schema_t *schema);
/* Rows of all servers that a memory budget of `bytes` holds, with their cells: where those are
 * small a row takes more than in a large table. And the budget for so many rows. */
uint64_t weir_table_rows_in(const weir_row_schema_t *schema, uint64_t bytes);
uint64_t weir_table_budget_for(const weir_row_schema_t *schema, uint64_t rows);

/* Find or give birth at `step`: `handles` (count; WEIR_ROW_NONE where a key was not admitted) and
 * `values` (count x value_bytes, as on the wire; NULL: not wanted). On an error no row is lost and
 * none half-made; the batch's first keys may have been born. Call: local; blocks for rows that are
 * cold. Threads: owner. */
WEIR_MUST_USE weir_err_t weir_table_pull(weir_table_t *table, const weir_key_t *keys, size_t count,
                                         uint64_t step, weir_row_handle_t *handles, void *values,
                                         weir_error_t *error);

/* Start to read the cold rows among `keys`, without waiting; the first pull (or take_in) of `step`
 * or a later one takes them into memory, and no earlier one: a row that came too early would be the
 * first to be evicted. Without a cold store: nothing. Errors: memory, the cold store's. */
WEIR_MUST_USE weir_err_t weir_table_prefetch(weir_table_t *table, const weir_key_t *keys,
                                             size_t count, uint64_t step, weir_error_t *error);

/* Whether nothing but memory hangs on end_step: evicted rows go to a cold store, every key is
 * admitted and no row expires. It may then come after pulls of the next step (not after that step's
 * apply), and every handle that take_in found is settled. */
bool weir_table_ends_late(const weir_table_t *table);

/* Take into memory the rows of `keys` that are cold, of a pull at `step` whose turn has not come:
 * nothing is born, and no row's last step changes. `handles` (count) as found then. Errors: as
 * pull. Call: local; blocks for rows that are cold. Threads: owner. */
WEIR_MUST_USE weir_err_t weir_table_take_in(weir_table_t *table, const weir_key_t *keys,
                                            size_t count, uint64_t step, weir_row_handle_t *handles,
                                            weir_error_t *error);

/* Values at `step` without birth: a key without a row answers with its birth value. */
WEIR_MUST_USE weir_err_t weir_table_peek(weir_table_t *table, const weir_key_t *keys, size_t count,
                                         uint64_t step, void *values, weir_error_t *error);

/* Rows in memory, WEIR_ROW_NONE for the others. */
void weir_table_find(const weir_table_t *table, const weir_key_t *keys, size_t count,
                     weir_row_handle_t *handles);

/* Values at `step` of rows found: of WEIR_ROW_NONE the birth value of its key. */
void weir_table_gather(const weir_table_t *table, const weir_key_t *keys,
                       const weir_row_handle_t *handles, size_t count, uint64_t step, void *values);

/* Whether the key's value at the next step is known now if no gradient of the current step is for
 * it: `handle` as found. */
bool weir_table_is_settled(const weir_table_t *table, weir_key_t key, weir_row_handle_t handle);

typedef struct {
    uint64_t updated, not_finite, dropped; /* rows: updated; NaN or infinity; not admitted */
} weir_table_applied_t;

/* Apply one optimiser step to distinct rows: gradients count x dim, the sum over the batch. `step`
 * becomes the rows' last step, unless they are in use by a later one; bias correction goes by each
 * row's own count. A row whose gradient holds a NaN or an infinity is left as it is, was used, and
 * has no owner. Call: local. Threads: owner. */
weir_table_applied_t weir_table_apply(weir_table_t *table, const weir_key_t *keys,
                                      const weir_row_handle_t *handles, const float *gradients,
                                      size_t count, uint64_t step);

/* `step` has been applied: admission counts, evictions that are due, some sweeping. Rows used at
 * `oldest_in_use` or later stay (bsp: step + 1, nothing is in use). Handles of other rows are not
 * valid any more. Errors: memory, the cold store's. Call: local; may write cold rows. */
WEIR_MUST_USE weir_err_t weir_table_end_step(weir_table_t *table, uint64_t step,
                                             uint64_t oldest_in_use, weir_error_t *error);

/* Make a little of the memory ready that the next births will need, twice as many as in the last
 * step: for when there is nothing else to do. False: nothing is left to do. Call: local; about 0.1
 * ms, where a hypervisor has to find the memory several. */
bool weir_table_prepare(weir_table_t *table);

/* ---- copies that workers keep (ps/table_copy.c) ---- */

/* The worker whose update was the row's last, if it was alone. Without owners, or for
 * WEIR_ROW_NONE: nobody. */
weir_row_owner_t weir_table_owner(const weir_table_t *table, weir_row_handle_t handle);

typedef enum {
    WEIR_ROW_NOT_KEPT,
    WEIR_ROW_HELD,  /* a place for a copy, since its pull before */
    WEIR_ROW_COPIED /* a copy that is right */
} weir_row_kept_t;

/* Before apply: the next update of each row is that of workers[i] alone (WEIR_TABLE_SEVERAL: of
 * several), and what it has of the row as it is now. */
#define WEIR_TABLE_SEVERAL UINT32_MAX
void weir_table_set_owners(weir_table_t *table, const weir_row_handle_t *handles,
                           const uint32_t *workers, const uint8_t *kept, size_t count);

/* A row as it is copied: its record and then its number of updates, copy_bytes in all. */
size_t weir_table_copy_bytes(const weir_table_t *table);
void weir_table_copy(const weir_table_t *table, const weir_row_handle_t *handles, size_t count,
                     void *copies);

/* ---- snapshots ---- */

typedef struct {
    weir_key_t key;
    const void *value, *rest;  /* its record (ps/row.h): value_bytes, and what follows them */
    uint64_t last_step, count; /* 0: never used, never updated */
} weir_table_row_t;

/* All rows, cold ones too, in order of hash64(key), but those expired at `step` (after step t has
 * been applied: t + 1, of which a sweep may have taken some): rows come in
 * batches of one cell; the records stay where they are until `visit` returns. Stops at the first
 * error. */
WEIR_MUST_USE weir_err_t weir_table_scan(weir_table_t *table, uint64_t step,
                                         weir_err_t (*visit)(void *argument,
                                                             const weir_table_row_t *rows,
                                                             size_t count, weir_error_t *error),
                                         void *argument, weir_error_t *error);

/* Restore one row as it was saved; after the last, end_restore. Errors: the key is there already
 * (WEIR_ERR_CORRUPT; of cold rows a later call may say so), last_step or count above 2^32 - 1
 * (WEIR_ERR_CORRUPT), memory, the cold store's. */
WEIR_MUST_USE weir_err_t weir_table_restore(weir_table_t *table, const weir_table_row_t *row,
                                            weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_table_end_restore(weir_table_t *table, weir_error_t *error);

/* Steps after which a row that is not used has expired; 0: never. */
uint64_t weir_table_ttl(const weir_table_t *table);
/* Its counters, to save and restore; NULL: every key is admitted. */
weir_admission_t *weir_table_admission(weir_table_t *table);

#endif
