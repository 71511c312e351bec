/* From key to row number: the hash index of a table.
 *
 * The index covers a range of slots in order of hash64(key). A *cell* is a hash prefix of
 * 14 + cell_bits bits; cells are numbered from 0 at the first covered slot, in hash order: the unit
 * in which entries are counted and visited. A *sub-table* is an open-addressing hash of its own for
 * one cell, or for a part of it by the next hash bits: one that would pass about 4,096 entries is
 * split in two (extendible hashing: Fagin, Nievergelt, Pippenger, Strong, TODS 1979). So a growth
 * step moves at most that many entries, at any size of the index. The *directory* has an entry of
 * 16 bytes for every prefix of 14 + depth bits; entries that share a sub-table are copies. It
 * doubles when a sub-table of its depth splits, and has at most an entry for 16 keys: sub-tables
 * of a table so skewed that this binds grow beyond 4,096.
 *
 * A sub-table is an array of groups: 192 bytes, three cache lines, holding 14 entries. The first
 * line starts with one-byte tags, which one vector comparison probes together; a find reads that
 * line and the line of the entry whose tag matches. A full group counts the keys that went past it,
 * of four kinds apart, so that a miss stops at the first group with none of its kind. Removal
 * leaves no tombstone: it moves keys back, and the index is as good as one newly filled. */
#ifndef WEIR_PS_INDEX_H
#define WEIR_PS_INDEX_H

#include "common/hash.h"
#include "ps/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WEIR_INDEX_GROUP_ENTRIES = 14,
    WEIR_INDEX_MAX_DEPTH = 20,         /* also of cell_bits */
    WEIR_INDEX_MAX_PLACES = 1 << 28,   /* entries of the directory */
    WEIR_INDEX_SUBTABLE_ENTRIES = 4096 /* about where a sub-table splits */
};

/* No row: the answer of a find that misses. */
#define WEIR_INDEX_NONE UINT32_MAX

typedef struct weir_index weir_index_t;
typedef struct weir_index_group weir_index_group_t;

typedef void (*weir_index_find_t)(const weir_index_t *index, const weir_key_t *keys, size_t count,
                                  uint32_t *rows);
typedef void (*weir_index_visit_t)(void *argument, weir_key_t key, uint32_t row);

typedef struct {
    weir_index_group_t *groups; /* group_count of them, in the arena */
    uint32_t group_count;       /* 0: empty */
    uint32_t used : 26;         /* entries; counted in the first of the copies only */
    uint32_t depth : 6;         /* prefix bits beyond the slot that all its keys share */
} weir_index_subtable_t;

struct weir_index {
    weir_arena_t *arena; /* not owned; holds the directory and all groups */
    weir_index_subtable_t *directory;
    uint64_t first_hash; /* the smallest that is covered */
    uint32_t places;     /* entries of the directory: slots x 2^depth */
    uint32_t depth;      /* prefix bits beyond the slot that the directory goes by */
    uint32_t shift;      /* from hash to place: 50 - depth */
    uint32_t cell_bits;
    uint32_t slots; /* covered */
    uint64_t entries;
    weir_index_find_t find;
};

/* An empty index of slots [first_slot, end_slot), not empty; cell_bits 0 .. WEIR_INDEX_MAX_DEPTH.
 * false: out of memory, or more than WEIR_INDEX_MAX_PLACES cells. */
bool weir_index_init(weir_index_t *index, weir_arena_t *arena, weir_slot_t first_slot,
                     weir_slot_t end_slot, uint32_t cell_bits);
void weir_index_fini(weir_index_t *index);

/* Use finds with `bits` wide vectors (128, 256, 512) instead of the best; false, and nothing
 * changed, when this CPU or this build has none. For tests and benches. The width is that of the
 * hashing alone: tags are 16 bytes, and directory entries gathered by AVX-512 cost a quarter of the
 * finds on Zen 5. Finds there, in millions a second with 128, 256, 512 bits: 83, 101, 104 of 1 M
 * keys; 53, 56, 56 of 10 M. */
bool weir_index_set_width(weir_index_t *index, uint32_t bits);

/* rows[i] = row of keys[i] or WEIR_INDEX_NONE; any key may be asked for. Memory latency is hidden
 * across the batch: cost is that of about two random cache lines a key. Call: local. Threads:
 * owner. */
static inline void weir_index_find(const weir_index_t *index, const weir_key_t *keys, size_t count,
                                   uint32_t *rows) {
    index->find(index, keys, count, rows);
}

/* Make sure that the next insert of `key` cannot fail; false: out of memory, nothing changed. */
bool weir_index_reserve(weir_index_t *index, weir_key_t key);

/* Insert a key of the covered slots that is not there, after reserve(key). */
void weir_index_insert(weir_index_t *index, weir_key_t key, uint32_t row);

/* Take a key out; its row, or WEIR_INDEX_NONE when it is not there. May give memory back. */
uint32_t weir_index_remove(weir_index_t *index, weir_key_t key);

uint32_t weir_index_cells(const weir_index_t *index);
/* Cell of a key of the covered slots. */
uint32_t weir_index_cell_of(const weir_index_t *index, weir_key_t key);
uint64_t weir_index_cell_entries(const weir_index_t *index, uint32_t cell);

/* Bytes of the smallest sub-table that may hold `entries`, WEIR_INDEX_SUBTABLE_ENTRIES at most. */
size_t weir_index_bytes_for(uint32_t entries);

/* Bytes that the index holds, and whatever else is in its arena. */
uint64_t weir_index_bytes(const weir_index_t *index);

/* Call `visit` for every entry of a cell, in no order that means anything. `visit` must not change
 * the index. */
void weir_index_visit_cell(const weir_index_t *index, uint32_t cell, weir_index_visit_t visit,
                           void *argument);

/* As visit_cell, of the one sub-table in which the covered `hash` lies; entries of smaller hashes
 * too. Returns the first hash beyond it, which belongs to another slot or to the same one; 0: there
 * is none. */
uint64_t weir_index_visit_from(const weir_index_t *index, uint64_t hash, weir_index_visit_t visit,
                               void *argument);
/* The entries of that sub-table. */
uint32_t weir_index_entries_from(const weir_index_t *index, uint64_t hash);

/* How well keys lie. */
typedef struct {
    uint64_t subtables;      /* that hold groups */
    uint64_t groups;         /* of all sub-tables */
    uint64_t hit_groups;     /* groups that finding every entry once would probe */
    uint64_t miss_groups;    /* groups that four misses from every group on would probe */
    uint64_t passed;         /* sum of the groups' counts: hit_groups - entries, unless saturated */
    uint64_t open_groups;    /* that keys went past and that have room: 0, unless saturated */
    uint32_t most_entries;   /* of a sub-table */
    uint32_t longest_probes; /* groups that the worst find of an entry probes */
} weir_index_statistics_t;

/* Walks the whole index. For tests and benches. */
weir_index_statistics_t weir_index_statistics(const weir_index_t *index);

#endif
