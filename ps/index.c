#include "ps/index.h"

#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Which bits of the hash do what: the upper 14 are the slot, equal for many keys of a server and so
 * not used here; 38..49 choose the sub-table; the lower 32, as a fraction, the group; 0..7 tag. */
enum {
    ENTRIES = WEIR_INDEX_GROUP_ENTRIES,
    ENTRY_MASK = (1 << ENTRIES) - 1,
    OVERFLOW_TAG = 14, /* tags[14] counts keys that went past this group; 255 stays 255 */
    CHUNK = 32         /* keys whose cache misses are in flight together */
};

struct weir_index_group {
    uint8_t tags[16]; /* 14 tags (0: empty), overflow count, unused */
    uint64_t keys0[4];
    uint32_t rows0[4];
    uint64_t keys1[5];
    uint32_t rows1[5], unused1;
    uint64_t keys2[5];
    uint32_t rows2[5], unused2;
};
_Static_assert(sizeof(weir_index_group_t) == 192, "a group is three cache lines");

/* Where entry i lies in its group: a key and its row are always in one cache line. */
static const uint8_t key_offsets[ENTRIES] = {16, 24, 32,  40,  64,  72,  80,
                                             88, 96, 128, 136, 144, 152, 160};
static const uint8_t row_offsets[ENTRIES] = {48,  52,  56,  60,  104, 108, 112,
                                             116, 120, 168, 172, 176, 180, 184};

static const weir_index_group_t empty_group = {.tags = {0}};

typedef struct {
    uint64_t hash;
    const weir_index_group_t *group; /* the first to probe */
    uint32_t subtable;
    uint32_t position; /* of that group */
} probe_t;

static uint64_t key_at(const weir_index_group_t *group, uint32_t entry) {
    uint64_t key;
    memcpy(&key, (const char *)group + key_offsets[entry], sizeof key);
    return key;
}

static uint32_t row_at(const weir_index_group_t *group, uint32_t entry) {
    uint32_t row;
    memcpy(&row, (const char *)group + row_offsets[entry], sizeof row);
    return row;
}

static void put_entry(weir_index_group_t *group, uint32_t entry, uint8_t tag, uint64_t key,
                      uint32_t row) {
    group->tags[entry] = tag;
    memcpy((char *)group + key_offsets[entry], &key, sizeof key);
    memcpy((char *)group + row_offsets[entry], &row, sizeof row);
}

static uint8_t tag_of(uint64_t hash) {
    uint8_t tag = (uint8_t)hash;
    return tag == 0 ? 1 : tag;
}

/* A bit for each of the 14 entries whose tag is `tag`. */
static uint32_t match_tags(const weir_index_group_t *group, uint8_t tag) {
#ifdef __SSE2__
    __m128i tags = _mm_load_si128((const __m128i *)(const void *)group->tags);
    __m128i equal = _mm_cmpeq_epi8(tags, _mm_set1_epi8((char)tag));
    return (uint32_t)_mm_movemask_epi8(equal) & ENTRY_MASK;
#else
    uint32_t mask = 0;
    for (uint32_t i = 0; i < ENTRIES; i++) {
        mask |= (uint32_t)(group->tags[i] == tag) << i;
    }
    return mask;
#endif
}

static uint32_t subtable_of(const weir_index_t *index, uint64_t hash) {
    return (uint32_t)((hash >> (64 - WEIR_SLOT_BITS - index->cell_bits)) - index->first_cell);
}

static uint32_t position_of(uint64_t hash, uint32_t group_count) {
    return (uint32_t)(((hash & UINT32_MAX) * group_count) >> 32);
}

/* Entries that a sub-table may hold: seven eighths. */
static uint32_t limit_of(uint32_t group_count) {
    return (uint32_t)((uint64_t)group_count * ENTRIES * 7 / 8);
}

bool weir_index_init(weir_index_t *index, weir_arena_t *arena, weir_slot_t first_slot,
                     weir_slot_t end_slot, uint32_t cell_bits) {
    uint32_t cells = (end_slot - first_slot) << cell_bits;
    weir_index_subtable_t *subtables = calloc(cells, sizeof *subtables);
    if (subtables == NULL) {
        return false;
    }
    *index = (weir_index_t){.arena = arena,
                            .subtables = subtables,
                            .cells = cells,
                            .cell_bits = cell_bits,
                            .first_cell = (uint64_t)first_slot << cell_bits};
    return true;
}

void weir_index_fini(weir_index_t *index) {
    if (index->subtables == NULL) {
        return;
    }
    for (size_t i = 0; i < index->cells; i++) {
        weir_arena_release(index->arena, index->subtables[i].groups,
                           index->subtables[i].group_count * sizeof(weir_index_group_t));
    }
    free(index->subtables);
    *index = (weir_index_t){.subtables = NULL};
}

static void locate_keys(const weir_index_t *index, const weir_key_t *keys, size_t count,
                        probe_t *probes) {
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = weir_hash64(keys[i]);
        uint32_t number = subtable_of(index, hash);
        const weir_index_subtable_t *subtable = &index->subtables[number];
        uint32_t position = position_of(hash, subtable->group_count);
        const weir_index_group_t *group =
            subtable->group_count == 0 ? &empty_group : &subtable->groups[position];
        __builtin_prefetch(group);
        probes[i] = (probe_t){hash, group, number, position};
    }
}

static uint32_t resolve_key(const weir_index_t *index, const probe_t *probe, weir_key_t key,
                            uint32_t mask) {
    const weir_index_group_t *group = probe->group;
    const weir_index_subtable_t *subtable = &index->subtables[probe->subtable];
    uint32_t position = probe->position;
    uint8_t tag = tag_of(probe->hash);
    for (uint32_t probed = 0;;) {
        while (mask != 0) {
            uint32_t entry = (uint32_t)__builtin_ctz(mask);
            if (key_at(group, entry) == key) {
                return row_at(group, entry);
            }
            mask &= mask - 1;
        }
        if (group->tags[OVERFLOW_TAG] == 0 || ++probed >= subtable->group_count) {
            return WEIR_INDEX_NONE;
        }
        position = position + 1 == subtable->group_count ? 0 : position + 1;
        group = &subtable->groups[position];
        mask = match_tags(group, tag);
    }
}

void weir_index_find(const weir_index_t *index, const weir_key_t *keys, size_t count,
                     uint32_t *rows) {
    probe_t probes[2][CHUNK];
    uint32_t masks[CHUNK];
    size_t now = count < CHUNK ? count : CHUNK;
    locate_keys(index, keys, now, probes[0]);
    for (size_t begin = 0, turn = 0; begin < count; turn ^= 1) {
        /* The lines of the next chunk travel while this one is compared. */
        size_t left = count - begin - now;
        size_t next = left < CHUNK ? left : CHUNK;
        locate_keys(index, keys + begin + now, next, probes[turn ^ 1]);
        const probe_t *current = probes[turn];
        for (size_t i = 0; i < now; i++) {
            uint32_t mask = match_tags(current[i].group, tag_of(current[i].hash));
            masks[i] = mask;
            if (mask != 0) {
                __builtin_prefetch((const char *)current[i].group +
                                   key_offsets[__builtin_ctz(mask)]);
            }
        }
        for (size_t i = 0; i < now; i++) {
            rows[begin + i] = resolve_key(index, &current[i], keys[begin + i], masks[i]);
        }
        begin += now;
        now = next;
    }
}

static void insert_hash(weir_index_group_t *groups, uint32_t group_count, uint64_t hash,
                        weir_key_t key, uint32_t row) {
    uint32_t position = position_of(hash, group_count);
    for (;;) {
        weir_index_group_t *group = &groups[position];
        uint32_t empty = match_tags(group, 0);
        if (empty != 0) {
            put_entry(group, (uint32_t)__builtin_ctz(empty), tag_of(hash), key, row);
            return;
        }
        if (group->tags[OVERFLOW_TAG] < UINT8_MAX) {
            group->tags[OVERFLOW_TAG]++;
        }
        position = position + 1 == group_count ? 0 : position + 1;
    }
}

/* By a quarter, so that the load stays between 0.7 and 0.875 and the peak is one small copy. */
static bool grow_subtable(weir_index_t *index, weir_index_subtable_t *subtable) {
    uint64_t step = subtable->group_count / 4;
    uint64_t group_count = (uint64_t)subtable->group_count + (step == 0 ? 1 : step);
    if (group_count > UINT32_MAX / (2 * ENTRIES)) {
        return false;
    }
    size_t size = (size_t)group_count * sizeof(weir_index_group_t);
    weir_index_group_t *groups = weir_arena_acquire(index->arena, size);
    if (groups == NULL) {
        return false;
    }
    memset(groups, 0, size);
    for (uint32_t i = 0; i < subtable->group_count; i++) {
        const weir_index_group_t *old = &subtable->groups[i];
        for (uint32_t full = ~match_tags(old, 0) & ENTRY_MASK; full != 0; full &= full - 1) {
            uint32_t entry = (uint32_t)__builtin_ctz(full);
            weir_key_t key = key_at(old, entry);
            insert_hash(groups, (uint32_t)group_count, weir_hash64(key), key, row_at(old, entry));
        }
    }
    weir_arena_release(index->arena, subtable->groups,
                       subtable->group_count * sizeof(weir_index_group_t));
    subtable->groups = groups;
    subtable->group_count = (uint32_t)group_count;
    return true;
}

bool weir_index_reserve(weir_index_t *index, weir_key_t key) {
    weir_index_subtable_t *subtable = &index->subtables[subtable_of(index, weir_hash64(key))];
    return subtable->used < limit_of(subtable->group_count) || grow_subtable(index, subtable);
}

void weir_index_insert(weir_index_t *index, weir_key_t key, uint32_t row) {
    uint64_t hash = weir_hash64(key);
    weir_index_subtable_t *subtable = &index->subtables[subtable_of(index, hash)];
    WEIR_ASSERT(subtable->used < limit_of(subtable->group_count));
    insert_hash(subtable->groups, subtable->group_count, hash, key, row);
    subtable->used++;
    index->entries++;
}

uint32_t weir_index_remove(weir_index_t *index, weir_key_t key) {
    uint64_t hash = weir_hash64(key);
    weir_index_subtable_t *subtable = &index->subtables[subtable_of(index, hash)];
    if (subtable->group_count == 0) {
        return WEIR_INDEX_NONE;
    }
    uint32_t position = position_of(hash, subtable->group_count), home = position;
    for (uint32_t probed = 0; probed < subtable->group_count; probed++) {
        weir_index_group_t *group = &subtable->groups[position];
        for (uint32_t mask = match_tags(group, tag_of(hash)); mask != 0; mask &= mask - 1) {
            uint32_t entry = (uint32_t)__builtin_ctz(mask);
            if (key_at(group, entry) == key) {
                uint32_t row = row_at(group, entry);
                group->tags[entry] = 0;
                for (; home != position; home = home + 1 == subtable->group_count ? 0 : home + 1) {
                    uint8_t *count = &subtable->groups[home].tags[OVERFLOW_TAG];
                    *count = *count < UINT8_MAX ? (uint8_t)(*count - 1) : *count;
                }
                subtable->used--;
                index->entries--;
                return row;
            }
        }
        if (group->tags[OVERFLOW_TAG] == 0) {
            break;
        }
        position = position + 1 == subtable->group_count ? 0 : position + 1;
    }
    return WEIR_INDEX_NONE;
}

uint32_t weir_index_cells(const weir_index_t *index) {
    return index->cells;
}

uint32_t weir_index_cell_of(const weir_index_t *index, weir_key_t key) {
    return subtable_of(index, weir_hash64(key));
}

size_t weir_index_cell_entries(const weir_index_t *index, uint32_t cell) {
    return index->subtables[cell].used;
}

uint64_t weir_index_bytes(const weir_index_t *index) {
    return index->cells * sizeof(weir_index_subtable_t) + index->arena->in_use;
}

void weir_index_visit_cell(const weir_index_t *index, uint32_t cell,
                           void (*visit)(void *argument, weir_key_t key, uint32_t row),
                           void *argument) {
    const weir_index_subtable_t *subtable = &index->subtables[cell];
    for (uint32_t i = 0; i < subtable->group_count; i++) {
        const weir_index_group_t *group = &subtable->groups[i];
        for (uint32_t full = ~match_tags(group, 0) & ENTRY_MASK; full != 0; full &= full - 1) {
            uint32_t entry = (uint32_t)__builtin_ctz(full);
            visit(argument, key_at(group, entry), row_at(group, entry));
        }
    }
}
