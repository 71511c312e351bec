/* A table as a checkpoint says it is: the full checkpoint at the end of its chain and the deltas on
 * it, of any number of servers each, merged in the order of hash64(key).
 *
 * Of each key the newest file that speaks of it counts: its row, or that it was removed. Rows that
 * have expired at the step of any newer file (by that file's ttl) are left out too. Only what
 * belongs to the slots wanted is read: `bytes_read` counts it. */
#ifndef WEIR_PS_SNAPSHOT_CHAIN_H
#define WEIR_PS_SNAPSHOT_CHAIN_H

#include "common/checkpoint.h"
#include "ps/snapshot_file.h"

typedef struct weir_snapshot_chain weir_snapshot_chain_t;

/* Slots [first, end) of `table` of the checkpoint in `folder`, whose manifest this is. Errors:
 * NOT_FOUND when it has no such table, CORRUPT, INVALID, memory; sentences name the file.
 * Ownership: caller closes. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_snapshot_chain_open(const char *folder,
                                                  const weir_manifest_t *manifest,
                                                  const char *table, weir_slot_t first,
                                                  weir_slot_t end, weir_snapshot_chain_t **chain,
                                                  weir_error_t *error);
void weir_snapshot_chain_close(weir_snapshot_chain_t *chain);

/* One file of the chain, for what all of a table have in common; of the newest checkpoint. */
const weir_snapshot_file_t *weir_snapshot_chain_first(const weir_snapshot_chain_t *chain);

/* Checkpoints of the chain: itself, and those that its rows need. */
size_t weir_snapshot_chain_depth(const weir_snapshot_chain_t *chain);

typedef struct {
    const weir_snapshot_file_t *file;
    uint64_t keep_from; /* its rows last used before that step have expired */
} weir_snapshot_level_t;

/* The files that say what a slot of the chain holds, the newest first, the last one full; returns
 * how many, at most the depth. Of a key the first that has it, or has it removed, counts. Call:
 * local. */
size_t weir_snapshot_chain_levels(const weir_snapshot_chain_t *chain, weir_slot_t slot,
                                  weir_snapshot_level_t *levels);

/* Go to a slot; slots come in order, each once. `newest`: the newest checkpoint's file that it is
 * in (its admission counters). Errors: CORRUPT. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_snapshot_chain_enter(weir_snapshot_chain_t *chain, weir_slot_t slot,
                                                   const weir_snapshot_file_t **newest,
                                                   weir_error_t *error);

typedef struct {
    const weir_snapshot_file_t *file;
    uint64_t row;
} weir_snapshot_place_t;

/* Where the slot's next row lies; false: it has no more. Call: local. */
bool weir_snapshot_chain_next(weir_snapshot_chain_t *chain, weir_snapshot_place_t *place);

/* Bytes of the files that were looked at so far: headers, offsets, rows, removed keys. */
uint64_t weir_snapshot_chain_bytes_read(const weir_snapshot_chain_t *chain);

#endif
