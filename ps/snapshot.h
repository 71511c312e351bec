/* Tables to and from checkpoint files: TABLE.ps-IIII-of-PPPP.safetensors (docs/files/table.md).
 *
 * Tensors, n rows in order of hash64(key): "keys", "last_step", "count" U64 [n], "slot_offsets" U64
 * [slots + 1], and one for each field of the record (ps/row.h: "value", "m", ..) [n, width] in its
 * own type; "admission" U16 [slots, counters] where keys are counted. slot_offsets is the first row
 * of each slot of this server: any other number of servers reads only its ranges. Metadata: table,
 * dim, optimizer, schema, first_slot, slots, step, kind, ttl. A *delta* has the rows used since its
 * base_step alone, and "removed" U64 [m], the keys that were evicted since. The rows of all shards,
 * one after the other, are the same bytes for any number of servers. */
#ifndef WEIR_PS_SNAPSHOT_H
#define WEIR_PS_SNAPSHOT_H

#include "common/background.h"
#include "common/checkpoint.h"
#include "common/error.h"
#include "ps/snapshot_file.h"
#include "ps/table.h"

/* What a checkpoint must agree with: for each segment NAME:DIM:PRECISION:OPTIMIZER, by commas. */
enum { WEIR_SNAPSHOT_SCHEMA_MAX = 256 };
void weir_snapshot_schema(const weir_row_schema_t *schema, char *text, size_t capacity);

/* ---- saving while the table changes ---- */

typedef struct weir_snapshot weir_snapshot_t;

/* The table as it is now, after `step`: from here on it may change (ps/table_cut.h). It must hold
 * rows of the server's slots alone; one snapshot of a table at a time. Call: local. Threads: owner
 * of the table, as for all that follow. */
WEIR_MUST_USE weir_err_t weir_snapshot_begin(weir_table_t *table, uint32_t index, uint32_t ps,
                                             uint64_t step, weir_snapshot_t **snapshot,
                                             weir_error_t *error);

/* Where to: this server's shard in `folder`. Of what changed since the checkpoint of step `base`
 * alone, where the table knows it (ps/table_removed.h) and base is not 0; else of all rows.
 * `background` (not owned; outlives the snapshot) writes; NULL: advance does. */
WEIR_MUST_USE weir_err_t weir_snapshot_open(weir_snapshot_t *snapshot, uint64_t base,
                                            const char *folder, weir_background_t *background,
                                            weir_error_t *error);

typedef enum {
    WEIR_SNAPSHOT_GOES_ON,
    WEIR_SNAPSHOT_WAITS, /* for the disk, or to be opened */
    WEIR_SNAPSHOT_WRITTEN
} weir_snapshot_state_t;

/* A piece more: some 6,000 rows at the most, about a millisecond. When it is written, the file is
 * on disk under its name. After an error it can be destroyed alone. Call: local; with a background
 * it waits for no disk, but for opening the file. */
WEIR_MUST_USE weir_err_t weir_snapshot_advance(weir_snapshot_t *snapshot,
                                               weir_snapshot_state_t *state, weir_error_t *error);

/* For the manifest, once it is written; file->base says whether it is a delta. */
const weir_checkpoint_file_t *weir_snapshot_file(const weir_snapshot_t *snapshot);

/* Bytes taken by rows that were changed before they were copied, and what finds them. Beside these
 * a snapshot takes 24 MiB for what is being written, more where rows are wider than a kilobyte. */
uint64_t weir_snapshot_copies(const weir_snapshot_t *snapshot);

/* What is not written whole is removed. Accepts NULL. Call: blocks, while a block is written. */
void weir_snapshot_destroy(weir_snapshot_t *snapshot);

/* ---- saving at once ---- */

/* Write this server's shard into `folder` and sync it; fills `file` for the manifest. Call: blocks.
 */
WEIR_MUST_USE weir_err_t weir_snapshot_write(weir_table_t *table, uint32_t index, uint32_t ps,
                                             uint64_t step, const char *folder,
                                             weir_checkpoint_file_t *file, weir_error_t *error);

/* As above, since `base` as in weir_snapshot_open. */
WEIR_MUST_USE weir_err_t weir_snapshot_write_since(weir_table_t *table, uint32_t index, uint32_t ps,
                                                   uint64_t base, uint64_t step, const char *folder,
                                                   weir_checkpoint_file_t *file,
                                                   weir_error_t *error);

/* ---- loading ---- */

/* Load the slots that server `index` of `ps` owns from a checkpoint of any number of servers, and
 * those that it builds on, into an empty table. Files are trusted in nothing: a row out of order or
 * out of its slot, shapes that do not fit, another table, dimension, optimiser or step are
 * WEIR_ERR_CORRUPT or WEIR_ERR_INVALID with the file's name. Values that are not finite are loaded,
 * counted and logged. After a failure the table holds some of the rows and must be destroyed. Call:
 * blocks. Threads: owner of the table. */
WEIR_MUST_USE weir_err_t weir_snapshot_load(weir_table_t *table, uint32_t index, uint32_t ps,
                                            const char *folder, const weir_manifest_t *manifest,
                                            weir_error_t *error);

#endif
