#include "ps/index_group.h"

#include "common/assert.h"

enum { KEYS_PER_PLACE = 16 /* at least, in a directory that doubled */ };

weir_index_group_t weir_index_no_groups = {.tags = {0}};

void weir_index_put(weir_index_group_t *groups, uint32_t group_count, uint64_t hash, weir_key_t key,
                    uint32_t row) {
    uint32_t position = position_of(hash, group_count);
    for (;;) {
        weir_index_group_t *group = &groups[position];
        uint32_t empty = match_tags(group, 0);
        if (empty != 0) {
            uint32_t entry = (uint32_t)__builtin_ctz(empty);
            group->tags[entry] = tag_of(hash);
            memcpy((char *)group + key_offsets[entry], &key, sizeof key);
            memcpy((char *)group + row_offsets[entry], &row, sizeof row);
            return;
        }
        change_passed(group, hash, 1);
        position = position_after(position, group_count);
    }
}

static weir_index_group_t *acquire_groups(weir_index_t *index, uint32_t group_count) {
    size_t size = group_count * sizeof(weir_index_group_t);
    weir_index_group_t *groups = weir_arena_acquire(index->arena, size);
    if (groups != NULL) {
        memset(groups, 0, size);
    }
    return groups;
}

static void release_groups(weir_index_t *index, weir_index_group_t *groups, uint32_t group_count) {
    if (group_count > 0) {
        weir_arena_release(index->arena, groups, group_count * sizeof *groups);
    }
}

/* Into what a sub-table turns: `low` for keys whose bit is 0, `high` for the others. */
static void move_entries(const weir_index_subtable_t *from, uint64_t bit,
                         const weir_index_subtable_t *low, const weir_index_subtable_t *high) {
    for (uint32_t i = 0; i < from->group_count; i++) {
        const weir_index_group_t *group = &from->groups[i];
        for (uint32_t full = full_entries(group); full != 0; full &= full - 1) {
            uint32_t entry = (uint32_t)__builtin_ctz(full);
            weir_key_t key = load_key(group, entry);
            uint64_t hash = weir_hash64(key);
            const weir_index_subtable_t *to = (hash & bit) != 0 ? high : low;
            weir_index_put(to->groups, to->group_count, hash, key, load_row(group, entry));
        }
    }
}

bool weir_index_resize(weir_index_t *index, uint32_t place, uint32_t group_count) {
    weir_index_subtable_t *old = &index->directory[place], new = *old;
    new.group_count = group_count;
    new.groups = &weir_index_no_groups;
    if (group_count > 0) {
        new.groups = acquire_groups(index, group_count);
        if (new.groups == NULL) {
            return false;
        }
    }
    move_entries(old, 0, &new, NULL);
    release_groups(index, old->groups, old->group_count);
    for (uint32_t i = shared_places(index, place); i-- > 0;) {
        index->directory[place + i] = new;
    }
    return true;
}

static uint32_t count_high(const weir_index_subtable_t *subtable, uint64_t bit) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < subtable->group_count; i++) {
        const weir_index_group_t *group = &subtable->groups[i];
        for (uint32_t full = full_entries(group); full != 0; full &= full - 1) {
            uint64_t hash = weir_hash64(load_key(group, (uint32_t)__builtin_ctz(full)));
            count += (hash & bit) != 0;
        }
    }
    return count;
}

/* Groups for the entries of `half`, which says how many; false: out of memory. */
static bool equip_half(weir_index_t *index, weir_index_subtable_t *half) {
    half->group_count = groups_for(half->used);
    half->groups = &weir_index_no_groups;
    if (half->group_count > 0) {
        half->groups = acquire_groups(index, half->group_count);
    }
    return half->groups != NULL;
}

static void double_directory(weir_index_t *index, weir_index_subtable_t *directory) {
    for (uint32_t i = 0; i < index->places; i++) {
        directory[2 * (size_t)i] = directory[2 * (size_t)i + 1] = index->directory[i];
    }
    weir_arena_release(index->arena, index->directory, index->places * sizeof *directory);
    index->directory = directory;
    index->places *= 2;
    index->depth++;
    index->shift--;
}

/* By the next bit of the hash. Everything that can fail comes first. */
static bool split_subtable(weir_index_t *index, uint32_t place) {
    weir_index_subtable_t old = index->directory[place], low = old, high = old;
    weir_index_subtable_t *directory = NULL;
    bool doubles = old.depth == index->depth;
    uint64_t bit = (uint64_t)1 << (63 - WEIR_SLOT_BITS - old.depth);
    uint32_t high_entries = count_high(&old, bit);
    low.used = (old.used - high_entries) & ((1u << 26) - 1);
    high.used = high_entries & ((1u << 26) - 1);
    low.depth = high.depth = (old.depth + 1u) & 63u;
    if (!equip_half(index, &low)) {
        return false;
    }
    bool equipped = equip_half(index, &high);
    if (equipped && doubles) {
        directory = weir_arena_acquire(index->arena, 2 * index->places * sizeof *directory);
    }
    if (!equipped || (doubles && directory == NULL)) {
        release_groups(index, low.groups, low.group_count);
        release_groups(index, high.groups, equipped ? high.group_count : 0);
        return false;
    }
    move_entries(&old, bit, &low, &high);
    if (doubles) {
        double_directory(index, directory);
        place *= 2;
    }
    release_groups(index, old.groups, old.group_count);
    uint32_t shared = (uint32_t)1 << (index->depth - low.depth);
    for (uint32_t i = 0; i < shared; i++) {
        index->directory[place + i] = low;
        index->directory[place + shared + i] = high;
    }
    return true;
}

static bool may_split(const weir_index_t *index, const weir_index_subtable_t *subtable) {
    if (subtable->used < WEIR_INDEX_SUBTABLE_ENTRIES || subtable->depth == WEIR_INDEX_MAX_DEPTH) {
        return false;
    }
    return subtable->depth < index->depth ||
           (index->places <= WEIR_INDEX_MAX_PLACES / 2 &&
            index->entries / KEYS_PER_PLACE >= 2 * (uint64_t)index->places);
}

bool weir_index_grow(weir_index_t *index, uint32_t place) {
    const weir_index_subtable_t *subtable = &index->directory[place];
    if (may_split(index, subtable)) {
        return split_subtable(index, place);
    }
    /* An eighth, rounded up or down by place, lest all sub-tables grow at the same time: what one
     * leaves is then where another grows to. */
    uint32_t dice = (place + subtable->group_count) * 0x9E3779B1u >> 29;
    uint32_t step = (subtable->group_count + dice) / 8;
    uint32_t group_count = subtable->group_count + (step == 0 ? 1 : step);
    return limit_of(group_count) < 1u << 26 && weir_index_resize(index, place, group_count);
}
