#include "ps/index.h"

#include "common/assert.h"
#include "ps/index_group.h"

bool weir_index_init(weir_index_t *index, weir_arena_t *arena, weir_slot_t first_slot,
                     weir_slot_t end_slot, uint32_t cell_bits) {
    WEIR_ASSERT(first_slot < end_slot && end_slot <= WEIR_SLOT_COUNT);
    WEIR_ASSERT(cell_bits <= WEIR_INDEX_MAX_DEPTH);
    if ((uint64_t)(end_slot - first_slot) << cell_bits > WEIR_INDEX_MAX_PLACES) {
        return false;
    }
    uint32_t places = (end_slot - first_slot) << cell_bits;
    weir_index_subtable_t *directory = weir_arena_acquire(arena, places * sizeof *directory);
    if (directory == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < places; i++) {
        directory[i] =
            (weir_index_subtable_t){.groups = &weir_index_no_groups, .depth = cell_bits & 63u};
    }
    *index = (weir_index_t){.arena = arena,
                            .directory = directory,
                            .first_hash = (uint64_t)first_slot << (64 - WEIR_SLOT_BITS),
                            .places = places,
                            .depth = cell_bits,
                            .shift = 64 - WEIR_SLOT_BITS - cell_bits,
                            .cell_bits = cell_bits,
                            .slots = end_slot - first_slot,
                            .find = weir_index_choose_find()};
    return true;
}

void weir_index_fini(weir_index_t *index) {
    if (index->directory == NULL) {
        return;
    }
    for (uint32_t place = 0; place < index->places; place += shared_places(index, place)) {
        const weir_index_subtable_t *subtable = &index->directory[place];
        if (subtable->group_count > 0) {
            weir_arena_release(index->arena, subtable->groups,
                               subtable->group_count * sizeof(weir_index_group_t));
        }
    }
    weir_arena_release(index->arena, index->directory, index->places * sizeof *index->directory);
    *index = (weir_index_t){.directory = NULL};
}

bool weir_index_reserve(weir_index_t *index, weir_key_t key) {
    uint64_t hash = weir_hash64(key);
    WEIR_ASSERT(covers(index, hash));
    for (;;) {
        uint32_t place = first_place(index, place_of(index, hash));
        const weir_index_subtable_t *subtable = &index->directory[place];
        if (subtable->used < limit_of(subtable->group_count)) {
            return true;
        }
        if (!weir_index_grow(index, place)) {
            return false;
        }
    }
}

void weir_index_insert(weir_index_t *index, weir_key_t key, uint32_t row) {
    uint64_t hash = weir_hash64(key);
    WEIR_ASSERT(covers(index, hash));
    weir_index_subtable_t *subtable = &index->directory[first_place(index, place_of(index, hash))];
    WEIR_ASSERT(subtable->used < limit_of(subtable->group_count));
    weir_index_put(subtable->groups, subtable->group_count, hash, key, row);
    subtable->used++;
    index->entries++;
}

/* ---- removal ---- */

/* A key went past group `from` to group `to` and lies there no more. */
static void uncount_passed(const weir_index_subtable_t *subtable, uint64_t hash, uint32_t from,
                           uint32_t to) {
    for (uint32_t i = from; i != to; i = position_after(i, subtable->group_count)) {
        WEIR_ASSERT(passes_on(&subtable->groups[i], hash));
        change_passed(&subtable->groups[i], hash, -1);
    }
}

/* Groups from `from` forward to `to`, round the end. */
static uint32_t distance(uint32_t from, uint32_t to, uint32_t group_count) {
    return to >= from ? to - from : to + group_count - from;
}

/* A key in group `at` that went past group `hole` on its way; false: none. */
static bool find_passer(const weir_index_subtable_t *subtable, uint32_t hole, uint32_t at,
                        uint32_t *entry) {
    const weir_index_group_t *group = &subtable->groups[at];
    uint32_t count = subtable->group_count, away = distance(hole, at, count);
    for (uint32_t full = full_entries(group); full != 0; full &= full - 1) {
        *entry = (uint32_t)__builtin_ctz(full);
        uint32_t home = position_of(weir_hash64(load_key(group, *entry)), count);
        if (distance(home, at, count) >= away) {
            return true;
        }
    }
    return false;
}

static void copy_entry(weir_index_group_t *to, uint32_t to_entry, const weir_index_group_t *from,
                       uint32_t from_entry) {
    weir_key_t key = load_key(from, from_entry);
    uint32_t row = load_row(from, from_entry);
    to->tags[to_entry] = from->tags[from_entry];
    memcpy((char *)to + key_offsets[to_entry], &key, sizeof key);
    memcpy((char *)to + row_offsets[to_entry], &row, sizeof row);
}

/* Entry `entry` of group `hole` is empty: while keys went past the group, one of them comes back,
 * and its own entry is the next to fill. */
static void fill_hole(const weir_index_subtable_t *subtable, uint32_t hole, uint32_t entry) {
    uint32_t at = hole;
    while (was_passed(&subtable->groups[at])) {
        at = position_after(at, subtable->group_count);
        uint32_t passer = 0;
        if (at == hole) {
            return; /* counts were saturated: no key went past any more */
        }
        if (!find_passer(subtable, hole, at, &passer)) {
            continue;
        }
        copy_entry(&subtable->groups[hole], entry, &subtable->groups[at], passer);
        subtable->groups[at].tags[passer] = 0;
        uint64_t hash = weir_hash64(load_key(&subtable->groups[at], passer));
        uncount_passed(subtable, hash, hole, at);
        hole = at;
        entry = passer;
    }
}

/* The group and entry of a key; false: not there. */
static bool locate_key(const weir_index_subtable_t *subtable, uint64_t hash, weir_key_t key,
                       uint32_t *position, uint32_t *entry) {
    uint32_t at = position_of(hash, subtable->group_count);
    for (uint32_t probed = 0; probed < subtable->group_count; probed++) {
        const weir_index_group_t *group = &subtable->groups[at];
        for (uint32_t mask = match_tags(group, tag_of(hash)); mask != 0; mask &= mask - 1) {
            *entry = (uint32_t)__builtin_ctz(mask);
            if (load_key(group, *entry) == key) {
                *position = at;
                return true;
            }
        }
        if (!passes_on(group, hash)) {
            return false;
        }
        at = position_after(at, subtable->group_count);
    }
    return false;
}

/* Half empty: those that a growth step would have left. Of a few groups each counts: as soon as one
 * less is enough, with an eighth to spare. */
static uint32_t groups_after_removal(const weir_index_subtable_t *subtable) {
    enum { FEW = 4 };
    uint32_t group_count = subtable->group_count, used = subtable->used;
    if (used < limit_of(group_count) / 2 && groups_for(used) < group_count) {
        return groups_for(used);
    }
    bool enough = group_count > 1 && used + used / 8 + 1 <= limit_of(group_count - 1);
    return group_count <= FEW && enough ? group_count - 1 : group_count;
}

uint32_t weir_index_remove(weir_index_t *index, weir_key_t key) {
    uint64_t hash = weir_hash64(key);
    uint32_t place = first_place(index, place_of(index, hash));
    weir_index_subtable_t *subtable = &index->directory[place];
    uint32_t position = 0, entry = 0;
    if (!locate_key(subtable, hash, key, &position, &entry)) {
        return WEIR_INDEX_NONE;
    }
    uint32_t row = load_row(&subtable->groups[position], entry);
    subtable->groups[position].tags[entry] = 0;
    uncount_passed(subtable, hash, position_of(hash, subtable->group_count), position);
    fill_hole(subtable, position, entry);
    subtable->used--;
    index->entries--;
    uint32_t group_count = groups_after_removal(subtable);
    if (group_count < subtable->group_count) { /* if there is memory for the move */
        (void)weir_index_resize(index, place, group_count);
    }
    return row;
}

/* ---- cells ---- */

uint32_t weir_index_cells(const weir_index_t *index) {
    return index->slots << index->cell_bits;
}

uint32_t weir_index_cell_of(const weir_index_t *index, weir_key_t key) {
    uint64_t hash = weir_hash64(key);
    WEIR_ASSERT(covers(index, hash));
    return place_of(index, hash) >> (index->depth - index->cell_bits);
}

uint64_t weir_index_cell_entries(const weir_index_t *index, uint32_t cell) {
    uint32_t bits = index->depth - index->cell_bits;
    uint64_t entries = 0;
    for (uint32_t place = cell << bits; place < (cell + 1) << bits;
         place += shared_places(index, place)) {
        entries += index->directory[place].used;
    }
    return entries;
}

size_t weir_index_bytes_for(uint32_t entries) {
    uint32_t groups = 0;
    while (limit_of(groups) < entries) {
        groups++;
    }
    return groups * sizeof(weir_index_group_t);
}

uint64_t weir_index_bytes(const weir_index_t *index) {
    return index->arena->in_use;
}

static void visit_subtable(const weir_index_subtable_t *subtable, weir_index_visit_t visit,
                           void *argument) {
    for (uint32_t i = 0; i < subtable->group_count; i++) {
        const weir_index_group_t *group = &subtable->groups[i];
        for (uint32_t full = full_entries(group); full != 0; full &= full - 1) {
            uint32_t entry = (uint32_t)__builtin_ctz(full);
            visit(argument, load_key(group, entry), load_row(group, entry));
        }
    }
}

void weir_index_visit_cell(const weir_index_t *index, uint32_t cell, weir_index_visit_t visit,
                           void *argument) {
    uint32_t bits = index->depth - index->cell_bits;
    for (uint32_t place = cell << bits; place < (cell + 1) << bits;
         place += shared_places(index, place)) {
        visit_subtable(&index->directory[place], visit, argument);
    }
}

uint64_t weir_index_visit_from(const weir_index_t *index, uint64_t hash, weir_index_visit_t visit,
                               void *argument) {
    WEIR_ASSERT(covers(index, hash));
    uint32_t place = first_place(index, place_of(index, hash));
    visit_subtable(&index->directory[place], visit, argument);
    uint64_t end = (uint64_t)place + shared_places(index, place);
    return end == index->places ? 0 : index->first_hash + (end << index->shift);
}

uint32_t weir_index_entries_from(const weir_index_t *index, uint64_t hash) {
    return index->directory[first_place(index, place_of(index, hash))].used;
}

/* ---- statistics ---- */

static void add_group(const weir_index_subtable_t *subtable, uint32_t position,
                      weir_index_statistics_t *statistics) {
    const weir_index_group_t *group = &subtable->groups[position];
    uint32_t count = subtable->group_count, full = full_entries(group);
    statistics->open_groups += was_passed(group) && full != ENTRY_MASK;
    for (; full != 0; full &= full - 1) {
        weir_key_t key = load_key(group, (uint32_t)__builtin_ctz(full));
        uint32_t probes = distance(position_of(weir_hash64(key), count), position, count) + 1;
        statistics->hit_groups += probes;
        if (probes > statistics->longest_probes) {
            statistics->longest_probes = probes;
        }
    }
    for (uint32_t shift = 0; shift < KINDS * KIND_BITS; shift += KIND_BITS) {
        uint32_t probed = 1;
        statistics->passed += passed_count(group, shift);
        for (uint32_t at = position;
             probed < count && passed_count(&subtable->groups[at], shift) != 0;
             at = position_after(at, count)) {
            probed++;
        }
        statistics->miss_groups += probed;
    }
}

weir_index_statistics_t weir_index_statistics(const weir_index_t *index) {
    weir_index_statistics_t statistics = {0};
    for (uint32_t place = 0; place < index->places; place += shared_places(index, place)) {
        const weir_index_subtable_t *subtable = &index->directory[place];
        statistics.subtables += subtable->group_count > 0;
        statistics.groups += subtable->group_count;
        if (subtable->used > statistics.most_entries) {
            statistics.most_entries = subtable->used;
        }
        for (uint32_t i = 0; i < subtable->group_count; i++) {
            add_group(subtable, i, &statistics);
        }
    }
    return statistics;
}
