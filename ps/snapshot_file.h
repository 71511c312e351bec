/* One shard file, opened with every check that can be made of it alone (docs/files/table.md).
 *
 * A *full* file holds all rows of its slots. A *delta* holds those used or updated since its base,
 * those never updated, and the keys that were removed since (tensor "removed"). Both in the order
 * of hash64(key). Files are trusted in nothing: opening checks metadata, shapes and slot offsets;
 * that rows are in their places is checked slot by slot (check_slot), so that a reader of some
 * slots reads no more than these. */
#ifndef WEIR_PS_SNAPSHOT_FILE_H
#define WEIR_PS_SNAPSHOT_FILE_H

#include "common/checkpoint.h"
#include "common/hash.h"
#include "common/tensor_file.h"
#include "ps/row.h"

typedef struct {
    const char *name; /* in the file's map, as those below */
    weir_dtype_t dtype;
    uint64_t width; /* elements a row */
    size_t bytes;   /* a row */
    const char *values;
} weir_snapshot_column_t;

typedef struct {
    weir_tensor_file_t *file;
    uint64_t step;
    uint64_t base; /* 0: full */
    uint64_t ttl;  /* rows last used before step + 1 - ttl have expired; 0: none does */
    weir_slot_t first_slot, slots;
    uint64_t rows;
    const uint64_t *keys, *last_steps, *counts, *slot_offsets;
    const uint64_t *removed; /* removed_count keys */
    uint64_t removed_count;
    weir_snapshot_column_t columns[WEIR_ROW_MAX_FIELDS]; /* the record's, as they lie in the file */
    uint32_t column_count;
    size_t row_bytes;          /* of all columns, key, last_step and count */
    const uint16_t *admission; /* slots x counters; NULL: none */
    uint64_t counters;
} weir_snapshot_file_t;

/* The file name of server `index` of `ps`. Call: local. Threads: any. */
void weir_snapshot_name(const char *table, uint32_t index, uint32_t ps,
                        char name[WEIR_CHECKPOINT_NAME_MAX]);

/* Whether `name` is a shard of `table`: exactly what weir_snapshot_name makes. Call: local. */
bool weir_snapshot_parse_name(const char *table, const char *name, uint32_t *index, uint32_t *ps);

/* The shard `index` of `shards`. Errors: those of weir_tensor_file_open, CORRUPT or INVALID; the
 * sentence names the file. Ownership: caller closes. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_snapshot_file_open(const char *path, uint32_t index, uint32_t shards,
                                                 weir_snapshot_file_t *file, weir_error_t *error);
/* As open, of bytes in memory, which must outlive it. */
WEIR_MUST_USE weir_err_t weir_snapshot_file_open_memory(const void *bytes, size_t size,
                                                        uint32_t index, uint32_t shards,
                                                        weir_snapshot_file_t *file,
                                                        weir_error_t *error);
/* Accepts one that is all zeros. */
void weir_snapshot_file_close(weir_snapshot_file_t *file);

/* The rows [*begin, *end) of a slot of the file, and its removed keys [*gone, *gone_end). */
void weir_snapshot_file_slot(const weir_snapshot_file_t *file, weir_slot_t slot, uint64_t *begin,
                             uint64_t *end, uint64_t *gone, uint64_t *gone_end);

/* Every row of a slot: in the slot, each after the one before, none removed too, steps that can be.
 * Errors: CORRUPT, with the row. Call: local. */
WEIR_MUST_USE weir_err_t weir_snapshot_file_check_slot(const weir_snapshot_file_t *file,
                                                       weir_slot_t slot, weir_error_t *error);

#endif
