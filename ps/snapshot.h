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

#include "common/checkpoint.h"
#include "common/error.h"
#include "ps/table.h"

/* The file name of server `index` of `ps`. Call: local. Threads: any. */
void weir_snapshot_name(const char *table, uint32_t index, uint32_t ps,
                        char name[WEIR_CHECKPOINT_NAME_MAX]);

/* What a checkpoint must agree with: for each segment NAME:DIM:PRECISION:OPTIMIZER, by commas. */
enum { WEIR_SNAPSHOT_SCHEMA_MAX = 256 };
void weir_snapshot_schema(const weir_row_schema_t *schema, char *text, size_t capacity);

/* Write this server's shard into `folder` and sync it; fills `file` for the manifest. The table
 * must hold rows of the server's slots alone. Call: blocks. Threads: owner of the table. */
WEIR_MUST_USE weir_err_t weir_snapshot_write(weir_table_t *table, uint32_t index, uint32_t ps,
                                             uint64_t step, const char *folder,
                                             weir_checkpoint_file_t *file, weir_error_t *error);

/* As above, of what changed since the checkpoint of step `base`, where the table knows it
 * (ps/table_removed.h) and base is not 0; else all rows. file->base says which. */
WEIR_MUST_USE weir_err_t weir_snapshot_write_since(weir_table_t *table, uint32_t index, uint32_t ps,
                                                   uint64_t base, uint64_t step, const char *folder,
                                                   weir_checkpoint_file_t *file,
                                                   weir_error_t *error);

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
