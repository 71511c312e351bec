/* Inside the index: what a group of entries looks like and how a key finds its group. Included by
 * the index_*.c files and by nothing else.
 *
 * Which bits of hash64(key) do what: the upper 14 + depth choose the sub-table (at most 34: bits
 * 30 .. 63), the others as a fraction the group (so that the upper of them matter most), and bits
 * 0 .. 7 are the tag.
 *
 * Probing is linear, group after group, round the end. A group counts the keys that went past it,
 * those of each kind apart (bits 8 and 9 of the hash), so that a miss goes on only where a key of
 * its kind did: of a well filled index one in four does, with two kinds it would be one in two.
 * Invariant: a group that keys went past is full. Removal keeps it by moving keys back, so
 * that the sums of a group's counts depend on the keys alone and not on their history (unless one
 * was saturated). */
#ifndef WEIR_PS_INDEX_GROUP_H
#define WEIR_PS_INDEX_GROUP_H

#include "ps/index.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    GROUP_ENTRIES = WEIR_INDEX_GROUP_ENTRIES,
    ENTRY_MASK = (1 << GROUP_ENTRIES) - 1,
    KINDS = 4,     /* of keys that went past a group */
    KIND_BITS = 4, /* of the count of each; the largest stays */
    KIND_MOST = (1 << KIND_BITS) - 1,
    POSITION_SHIFT = 2 /* the lower 30 bits of the hash, as a fraction of 32 */
};

struct weir_index_group {
    _Alignas(64) uint8_t tags[GROUP_ENTRIES]; /* 0: empty */
    uint16_t passed;                          /* by kind: keys that went past this group */
    uint64_t keys0[4];
    uint32_t rows0[4];
    uint64_t keys1[5];
    uint32_t rows1[5], unused1;
    uint64_t keys2[5];
    uint32_t rows2[5], unused2;
};
_Static_assert(sizeof(weir_index_group_t) == 192, "a group is three cache lines");

/* Where entry i lies in its group: a key and its row are always in one cache line. */
static const uint8_t key_offsets[GROUP_ENTRIES + 1] = {16, 24,  32,  40,  64,  72,  80, 88,
                                                       96, 128, 136, 144, 152, 160, 0};
static const uint8_t row_offsets[GROUP_ENTRIES] = {48,  52,  56,  60,  104, 108, 112,
                                                   116, 120, 168, 172, 176, 180, 184};

static inline uint64_t load_key(const weir_index_group_t *group, uint32_t entry) {
    uint64_t key;
    memcpy(&key, (const char *)group + key_offsets[entry], sizeof key);
    return key;
}

static inline uint32_t load_row(const weir_index_group_t *group, uint32_t entry) {
    uint32_t row;
    memcpy(&row, (const char *)group + row_offsets[entry], sizeof row);
    return row;
}

static inline uint8_t tag_of(uint64_t hash) {
    uint8_t tag = (uint8_t)hash;
    return tag == 0 ? 1 : tag;
}

/* A bit for each of the 14 entries whose tag is `tag`. Sixteen tags are the width of SSE2, which
 * every x86-64 has: wider vectors have nothing more to compare. */
static inline uint32_t match_tags(const weir_index_group_t *group, uint8_t tag) {
#ifdef __SSE2__
    __m128i tags = _mm_load_si128((const __m128i *)(const void *)group); /* and `passed` */
    __m128i equal = _mm_cmpeq_epi8(tags, _mm_set1_epi8((char)tag));
    return (uint32_t)_mm_movemask_epi8(equal) & ENTRY_MASK;
#else
    uint32_t mask = 0;
    for (uint32_t i = 0; i < GROUP_ENTRIES; i++) {
        mask |= (uint32_t)(group->tags[i] == tag) << i;
    }
    return mask;
#endif
}

/* Where a group counts the keys of this hash's kind that went past. */
static inline uint32_t kind_shift(uint64_t hash) {
    return (uint32_t)(hash >> 8) % KINDS * KIND_BITS;
}

static inline uint32_t passed_count(const weir_index_group_t *group, uint32_t shift) {
    return (uint32_t)group->passed >> shift & KIND_MOST;
}

/* Whether a key of this hash's kind went past the group. */
static inline bool passes_on(const weir_index_group_t *group, uint64_t hash) {
    return passed_count(group, kind_shift(hash)) != 0;
}

/* One more, or less, of this hash's kind. A count that was ever the largest says nothing more. */
static inline void change_passed(weir_index_group_t *group, uint64_t hash, int change) {
    uint32_t shift = kind_shift(hash), count = passed_count(group, shift);
    if (count != KIND_MOST) {
        uint32_t others = group->passed & ~((uint32_t)KIND_MOST << shift);
        group->passed = (uint16_t)(others | (uint32_t)((int)count + change) << shift);
    }
}

static inline bool was_passed(const weir_index_group_t *group) {
    return group->passed != 0;
}

/* A bit for each entry that holds a key. */
static inline uint32_t full_entries(const weir_index_group_t *group) {
    return ~match_tags(group, 0) & ENTRY_MASK;
}

/* Where in the directory; a key that the index does not cover gets the last place. */
static inline uint32_t place_of(const weir_index_t *index, uint64_t hash) {
    uint64_t place = (hash - index->first_hash) >> index->shift;
    return place < index->places ? (uint32_t)place : index->places - 1;
}

/* Whether the key belongs here. */
static inline bool covers(const weir_index_t *index, uint64_t hash) {
    return (hash - index->first_hash) >> index->shift < index->places;
}

/* The first group to probe. */
static inline uint32_t position_of(uint64_t hash, uint32_t group_count) {
    return (uint32_t)(((uint64_t)(uint32_t)(hash << POSITION_SHIFT) * group_count) >> 32);
}

static inline uint32_t position_after(uint32_t position, uint32_t group_count) {
    return position + 1 == group_count ? 0 : position + 1;
}

/* ---- index_find.c ---- */

/* The finds that measured best of what this CPU has. */
weir_index_find_t weir_index_choose_find(void);

/* ---- index_grow.c ---- */

/* What empty sub-tables point to: one group without entries, never written. */
extern weir_index_group_t weir_index_no_groups;

/* Entries that a sub-table may hold before it grows: seven eighths, and all 14 of a single group,
 * so that many small sub-tables do not cost much more. */
static inline uint32_t limit_of(uint32_t group_count) {
    return group_count == 0 ? 0 : (uint32_t)(((uint64_t)group_count * GROUP_ENTRIES + 2) * 7 / 8);
}

/* Groups for `entries` at the load that follows a growth step: 7/8 x 8/9. */
static inline uint32_t groups_for(uint32_t entries) {
    return (uint32_t)(((uint64_t)entries * 9 + 97) / 98);
}

/* The first of the directory's entries that share a sub-table: the one whose `used` counts. */
static inline uint32_t first_place(const weir_index_t *index, uint32_t place) {
    return place >> (index->depth - index->directory[place].depth)
                        << (index->depth - index->directory[place].depth);
}

/* Directory entries that share the sub-table. */
static inline uint32_t shared_places(const weir_index_t *index, uint32_t place) {
    return (uint32_t)1 << (index->depth - index->directory[place].depth);
}

/* Room for one more key in the sub-table at `place` (its first): a larger sub-table, or two; false:
 * out of memory, nothing changed. */
bool weir_index_grow(weir_index_t *index, uint32_t place);

/* The same entries in `group_count` groups, enough for them; false as above. */
bool weir_index_resize(weir_index_t *index, uint32_t place, uint32_t group_count);

/* Put a key into groups that have an empty entry. */
void weir_index_put(weir_index_group_t *groups, uint32_t group_count, uint64_t hash, weir_key_t key,
                    uint32_t row);

#endif
