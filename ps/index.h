/* From key to row number: the hash index of a table.
 *
 * 4,096 sub-tables by hash bits, each an open-addressing hash of its own, so that growth rehashes
 * one small sub-table at a time. A sub-table is an array of groups: 192 bytes, three cache lines,
 * holding 14 entries. The first line starts with one-byte tags, which one vector comparison probes
 * together; a find reads that line and the line of the entry whose tag matches. A full group counts
 * the keys that went past it, so that a miss stops at the first group with none.
 *
 * A group probes 16 tags, the width of SSE2, which every x86-64 has: wider vectors would find
 * nothing more to do, so no other path is chosen at run time. */
#ifndef WEIR_PS_INDEX_H
#define WEIR_PS_INDEX_H

#include "common/hash.h"
#include "ps/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIR_INDEX_GROUP_ENTRIES = 14 };

/* No row: the answer of a find that misses. */
#define WEIR_INDEX_NONE UINT32_MAX

typedef struct weir_index_group weir_index_group_t;

typedef struct {
    weir_index_group_t *groups; /* group_count of them, in the arena; NULL when there are none */
    uint32_t group_count;
    uint32_t used; /* entries */
} weir_index_subtable_t;

typedef struct {
    weir_arena_t *arena;              /* not owned */
    weir_index_subtable_t *subtables; /* cells of them */
    uint32_t cells, cell_bits;
    uint64_t first_cell;
    uint64_t entries;
} weir_index_t;

/* false: out of memory. */
bool weir_index_init(weir_index_t *index, weir_arena_t *arena, weir_slot_t first_slot,
                     weir_slot_t end_slot, uint32_t cell_bits);
void weir_index_fini(weir_index_t *index);

/* rows[i] = row of keys[i] or WEIR_INDEX_NONE. Memory latency is hidden across the batch: cost is
 * that of about two random cache lines a key. Call: local. Threads: owner. */
void weir_index_find(const weir_index_t *index, const weir_key_t *keys, size_t count,
                     uint32_t *rows);

/* Make sure that the next insert of `key` cannot fail; false: out of memory, nothing changed. */
bool weir_index_reserve(weir_index_t *index, weir_key_t key);

/* Insert a key that is not there, after reserve(key). */
void weir_index_insert(weir_index_t *index, weir_key_t key, uint32_t row);

uint32_t weir_index_remove(weir_index_t *index, weir_key_t key);
uint32_t weir_index_cells(const weir_index_t *index);
uint32_t weir_index_cell_of(const weir_index_t *index, weir_key_t key);
size_t weir_index_cell_entries(const weir_index_t *index, uint32_t cell);
uint64_t weir_index_bytes(const weir_index_t *index);
void weir_index_visit_cell(const weir_index_t *index, uint32_t cell,
                           void (*visit)(void *argument, weir_key_t key, uint32_t row),
                           void *argument);

#endif
