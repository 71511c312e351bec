#include "common/rng.h"
#include "ps/index.h"
#include "tests/suite.h"

#include <stdlib.h>
#include <string.h>

/* Inverse of weir_hash64, by its three steps backwards: for keys that lie where a test wants. */
static uint64_t inverse_of(uint64_t factor) {
    uint64_t inverse = factor; /* right in the lower 3 bits, and in twice as many each time */
    for (int i = 0; i < 6; i++) {
        inverse *= 2 - factor * inverse;
    }
    return inverse;
}

static weir_key_t key_of_hash(uint64_t hash) {
    uint64_t x = hash ^ hash >> 31 ^ hash >> 62;
    x *= inverse_of(0x94D049BB133111EBull);
    x = x ^ x >> 27 ^ x >> 54;
    x *= inverse_of(0xBF58476D1CE4E5B9ull);
    x = x ^ x >> 30 ^ x >> 60;
    return x - 0x9E3779B97F4A7C15ull;
}

static uint32_t draw_below(uint32_t turn, uint32_t stream, uint32_t bound) {
    return weir_uniform_below(
        weir_philox(weir_rng_key(31, WEIR_STREAM_TEST), turn, stream, 0, 0).word[0], bound);
}

/* Key number i of an index of `slots` slots from `first`. */
static weir_key_t key_number(uint32_t i, weir_slot_t first, uint32_t slots) {
    uint64_t hash = weir_hash64(i) >> WEIR_SLOT_BITS;
    return key_of_hash((uint64_t)(first + i % slots) << (64 - WEIR_SLOT_BITS) | hash);
}

static void insert(weir_index_t *index, weir_key_t key, uint32_t row) {
    ck_assert(weir_index_reserve(index, key));
    weir_index_insert(index, key, row);
}

static uint32_t find_one(const weir_index_t *index, weir_key_t key) {
    uint32_t row = 77;
    weir_index_find(index, &key, 1, &row);
    return row;
}

/* ---- against an array ---- */

enum { KEYS = 30000, TURNS = 200000 };

typedef struct {
    weir_slot_t first;
    uint32_t slots, cell_bits;
} shape_t;

static const shape_t shapes[] = {{0, WEIR_SLOT_COUNT, 0}, {0, 1, 0},    {16380, 4, 3},
                                 {5000, 17, 1},           {100, 1, 10}, {7, 1, 14}};

typedef struct {
    const weir_index_t *index;
    const uint32_t *wanted; /* row by key number */
    weir_key_t *keys;
    uint32_t cell;
    uint64_t seen, wrong;
} walk_t;

static void see_entry(void *argument, weir_key_t key, uint32_t row) {
    walk_t *walk = argument;
    uint32_t number = row % KEYS; /* rows carry the key's number */
    walk->seen++;
    walk->wrong += walk->keys[number] != key || walk->wanted[number] != row ||
                   weir_index_cell_of(walk->index, key) != walk->cell;
}

static void check_all(const weir_index_t *index, const shape_t *shape, const uint32_t *wanted,
                      weir_key_t *keys) {
    static uint32_t found[KEYS];
    for (uint32_t bits = 128; bits <= 512; bits *= 2) {
        weir_index_t other = *index;
        if (weir_index_set_width(&other, bits)) {
            memset(found, 77, sizeof found);
            weir_index_find(&other, keys, KEYS, found);
            ck_assert_int_eq(memcmp(found, wanted, sizeof found), 0);
        }
    }
    uint64_t entries = 0, last = 0;
    walk_t walk = {.index = index, .wanted = wanted, .keys = keys};
    ck_assert_uint_eq(weir_index_cells(index), shape->slots << shape->cell_bits);
    for (; walk.cell < weir_index_cells(index); walk.cell++) {
        weir_index_visit_cell(index, walk.cell, see_entry, &walk);
        last = entries;
        entries += weir_index_cell_entries(index, walk.cell);
        ck_assert_uint_eq(walk.seen, entries);
        ck_assert_uint_le(last, entries);
    }
    ck_assert_uint_eq(walk.wrong, 0);
    ck_assert_uint_eq(entries, index->entries);
    for (uint32_t i = 0; i < KEYS; i++) {
        entries -= wanted[i] != WEIR_INDEX_NONE;
        uint64_t prefix = weir_hash64(keys[i]) >> (64 - WEIR_SLOT_BITS - shape->cell_bits);
        ck_assert_uint_eq(weir_index_cell_of(index, keys[i]),
                          prefix - ((uint64_t)shape->first << shape->cell_bits));
    }
    ck_assert_uint_eq(entries, 0);
    weir_index_statistics_t statistics = weir_index_statistics(index);
    ck_assert_uint_eq(statistics.open_groups, 0);
    ck_assert_uint_eq(statistics.passed + index->entries, statistics.hit_groups);
}

START_TEST(random_operations_agree_with_an_array) {
    const shape_t *shape = &shapes[_i];
    static uint32_t wanted[KEYS];
    static weir_key_t keys[KEYS];
    weir_arena_t arena = {0};
    weir_index_t index;
    ck_assert(weir_index_init(&index, &arena, shape->first, shape->first + shape->slots,
                              shape->cell_bits));
    for (uint32_t i = 0; i < KEYS; i++) {
        wanted[i] = WEIR_INDEX_NONE;
        keys[i] = key_number(i, shape->first, shape->slots);
    }
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        /* Mostly inserts, then mostly removals, then inserts again. */
        uint32_t number = draw_below(turn, 1, KEYS);
        uint32_t inserts = turn / (TURNS / 4) == 2 ? 10 : 80;
        if (draw_below(turn, 2, 100) >= inserts) {
            ck_assert_uint_eq(weir_index_remove(&index, keys[number]), wanted[number]);
            wanted[number] = WEIR_INDEX_NONE;
        } else if (wanted[number] == WEIR_INDEX_NONE) {
            ck_assert_uint_eq(find_one(&index, keys[number]), WEIR_INDEX_NONE);
            wanted[number] = number + KEYS * draw_below(turn, 3, 1000);
            insert(&index, keys[number], wanted[number]);
        }
        if (turn % (TURNS / 8) == TURNS / 16) {
            check_all(&index, shape, wanted, keys);
        }
    }
    check_all(&index, shape, wanted, keys);
    for (uint32_t i = 0; i < KEYS; i++) {
        ck_assert_uint_eq(weir_index_remove(&index, keys[i]), wanted[i]);
    }
    ck_assert_uint_eq(index.entries, 0);
    ck_assert_uint_eq(weir_index_statistics(&index).groups, 0);
    weir_index_fini(&index);
    ck_assert_uint_eq(arena.in_use, 0);
    weir_arena_fini(&arena);
}
END_TEST

START_TEST(a_batch_of_any_size_is_answered_and_no_more_is_written) {
    enum { MOST = 150 };
    weir_arena_t arena = {0};
    weir_index_t index;
    weir_key_t keys[MOST];
    ck_assert(weir_index_init(&index, &arena, 0, WEIR_SLOT_COUNT, 0));
    for (uint32_t i = 0; i < MOST; i++) {
        keys[i] = i * 12345;
        insert(&index, keys[i], i);
    }
    for (uint32_t bits = 128; bits <= 512; bits *= 2) {
        for (size_t count = 0; weir_index_set_width(&index, bits) && count < MOST; count++) {
            /* On the heap and cut to size: a sanitizer sees a read too far. */
            weir_key_t *asked = malloc(count * sizeof *asked + 1);
            uint32_t rows[MOST + 1];
            memset(rows, 77, sizeof rows);
            memcpy(asked, keys, count * sizeof *asked);
            weir_index_find(&index, asked, count, rows);
            for (uint32_t i = 0; i <= MOST; i++) {
                ck_assert_uint_eq(rows[i], i < count ? i : 0x4D4D4D4Du);
            }
            free(asked);
        }
    }
    ck_assert(!weir_index_set_width(&index, 100));
    weir_index_fini(&index);
    weir_arena_fini(&arena);
}
END_TEST

START_TEST(a_key_of_a_slot_that_is_not_covered_is_not_found) {
    weir_arena_t arena = {0};
    weir_index_t index;
    ck_assert(weir_index_init(&index, &arena, 8000, 8002, 2));
    for (uint32_t i = 0; i < 1000; i++) {
        insert(&index, key_number(i, 8000, 2), i);
    }
    for (uint32_t bits = 128; bits <= 512; bits *= 2) {
        for (uint32_t i = 0; weir_index_set_width(&index, bits) && i < 20000; i++) {
            weir_key_t key = key_of_hash(weir_hash64(i));
            weir_slot_t slot = weir_slot_of_hash(weir_hash64(key));
            if (slot < 8000 || slot > 8001) {
                ck_assert_uint_eq(find_one(&index, key), WEIR_INDEX_NONE);
                ck_assert_uint_eq(weir_index_remove(&index, key), WEIR_INDEX_NONE);
            }
        }
    }
    ck_assert_uint_eq(index.entries, 1000);
    weir_index_fini(&index);
    weir_arena_fini(&arena);
}
END_TEST

/* ---- shape ---- */

START_TEST(growth_moves_little_at_a_time_and_keeps_the_load) {
    enum { COUNT = 500000, SLOTS = 32 };
    weir_arena_t arena = {0};
    weir_index_t index;
    size_t largest = 0;
    ck_assert(weir_index_init(&index, &arena, 0, SLOTS, 0));
    for (uint32_t i = 0; i < COUNT; i++) {
        weir_key_t key = key_number(i, 0, SLOTS);
        size_t before = arena.in_use;
        insert(&index, key, i);
        size_t step = arena.in_use > before ? arena.in_use - before : before - arena.in_use;
        largest = step > largest ? step : largest;
        if (i >= COUNT / 2 && i % 10000 == 0) {
            ck_assert_double_le((double)arena.in_use / i, 20.0);
        }
    }
    weir_index_statistics_t statistics = weir_index_statistics(&index);
    double load = (double)COUNT / (double)(statistics.groups * WEIR_INDEX_GROUP_ENTRIES);
    ck_assert_double_ge(load, 0.78);
    ck_assert_double_le(load, 0.875);
    ck_assert_uint_le(statistics.most_entries, WEIR_INDEX_SUBTABLE_ENTRIES * 9 / 8);
    ck_assert_uint_ge(statistics.subtables, COUNT / WEIR_INDEX_SUBTABLE_ENTRIES);
    ck_assert_uint_le(largest, 40000);
    weir_index_fini(&index);
    weir_arena_fini(&arena);
}
END_TEST

START_TEST(an_empty_index_costs_sixteen_bytes_a_subtable) {
    weir_arena_t arena = {0};
    weir_index_t index;
    ck_assert(weir_index_init(&index, &arena, 0, WEIR_SLOT_COUNT, 2));
    ck_assert_uint_eq(arena.in_use, (size_t)WEIR_SLOT_COUNT * 4 * 16);
    weir_index_fini(&index);
    weir_arena_fini(&arena);
}
END_TEST

START_TEST(keys_of_one_slot_alone_do_not_blow_up_the_directory) {
    enum { COUNT = 60000 };
    weir_arena_t arena = {0};
    weir_index_t index;
    ck_assert(weir_index_init(&index, &arena, 0, WEIR_SLOT_COUNT, 0));
    for (uint32_t i = 0; i < COUNT; i++) {
        insert(&index, key_number(i, 77, 1), i);
    }
    ck_assert_uint_eq(index.places, WEIR_SLOT_COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        ck_assert_uint_eq(find_one(&index, key_number(i, 77, 1)), i);
    }
    weir_index_fini(&index);
    weir_arena_fini(&arena);
}
END_TEST

/* ---- removal ---- */

START_TEST(turnover_at_constant_size_does_not_decay) {
    enum { COUNT = 10000, SLOTS = 2, ROUNDS = 50 };
    weir_arena_t arena = {0};
    weir_index_t fresh, turned;
    ck_assert(weir_index_init(&fresh, &arena, 0, SLOTS, 0));
    ck_assert(weir_index_init(&turned, &arena, 0, SLOTS, 0));
    for (uint32_t i = 0; i < COUNT; i++) {
        insert(&turned, key_number(i, 0, SLOTS), i);
    }
    for (uint32_t i = 0; i < COUNT * ROUNDS; i++) {
        ck_assert_uint_eq(weir_index_remove(&turned, key_number(i, 0, SLOTS)), i);
        insert(&turned, key_number(i + COUNT, 0, SLOTS), i + COUNT);
    }
    for (uint32_t i = COUNT * ROUNDS; i < COUNT * (ROUNDS + 1); i++) {
        insert(&fresh, key_number(i, 0, SLOTS), i);
    }
    weir_index_statistics_t a = weir_index_statistics(&fresh), b = weir_index_statistics(&turned);
    ck_assert_uint_eq(b.open_groups, 0);
    ck_assert_uint_eq(b.passed + COUNT, b.hit_groups);
    ck_assert_double_le((double)b.hit_groups, 1.05 * (double)a.hit_groups);
    ck_assert_double_le((double)b.miss_groups / (double)b.groups,
                        1.05 * (double)a.miss_groups / (double)a.groups);
    ck_assert_double_le((double)b.groups, 1.15 * (double)a.groups);
    weir_index_fini(&fresh);
    weir_index_fini(&turned);
    weir_arena_fini(&arena);
}
END_TEST

START_TEST(a_group_that_every_key_starts_at_is_still_exact) {
    enum { COUNT = 3000 };
    static uint32_t order[COUNT];
    weir_arena_t arena = {0};
    weir_index_t index;
    ck_assert(weir_index_init(&index, &arena, 0, 1, 0));
    for (uint32_t i = 0; i < COUNT; i++) {
        insert(&index, key_of_hash((uint64_t)0x3FF << 20 | (uint64_t)i << 8 | (i & 3)), i);
        order[i] = i;
    }
    ck_assert_uint_gt(weir_index_statistics(&index).longest_probes, 200);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t other = i + draw_below(i, 5, COUNT - i), number = order[other];
        order[other] = order[i];
        weir_key_t key = key_of_hash((uint64_t)0x3FF << 20 | (uint64_t)number << 8 | (number & 3));
        ck_assert_uint_eq(find_one(&index, key), number);
        ck_assert_uint_eq(weir_index_remove(&index, key), number);
        ck_assert_uint_eq(find_one(&index, key), WEIR_INDEX_NONE);
    }
    ck_assert_uint_eq(index.entries, 0);
    weir_index_fini(&index);
    weir_arena_fini(&arena);
}
END_TEST

/* ---- out of memory ---- */

START_TEST(an_insert_that_finds_no_memory_changes_nothing) {
    enum { COUNT = 30000, SLOTS = 2 };
    static uint32_t rows[COUNT];
    static weir_key_t keys[COUNT];
    weir_arena_t arena = {0};
    weir_index_t index;
    uint32_t refused = 0, doubled = 0;
    ck_assert(weir_index_init(&index, &arena, 3, 3 + SLOTS, 0));
    for (uint32_t i = 0; i < COUNT; i++) {
        keys[i] = key_number(i, 3, SLOTS);
        /* More memory each time, so that each acquisition of a step is the one that fails. */
        for (arena.limit = arena.in_use;; arena.limit += 2048) {
            weir_index_t before = index;
            size_t in_use = arena.in_use;
            if (weir_index_reserve(&index, keys[i])) {
                doubled += index.places != before.places;
                break;
            }
            refused++;
            ck_assert_int_eq(memcmp(&index, &before, sizeof index), 0);
            ck_assert_uint_eq(arena.in_use, in_use);
        }
        weir_index_insert(&index, keys[i], i);
    }
    weir_index_find(&index, keys, COUNT, rows);
    for (uint32_t i = 0; i < COUNT; i++) {
        ck_assert_uint_eq(rows[i], i);
    }
    ck_assert_uint_gt(refused, 500);
    ck_assert_uint_ge(doubled, 2);
    /* Removal needs memory to become smaller, but none to remove. */
    arena.limit = 1;
    for (uint32_t i = 0; i < COUNT; i++) {
        ck_assert_uint_eq(weir_index_remove(&index, keys[i]), i);
    }
    ck_assert_uint_eq(index.entries, 0);
    ck_assert(!weir_index_init(&index, &arena, 0, 1, 0));
    ck_assert(!weir_index_init(&index, &arena, 0, WEIR_SLOT_COUNT, 20));
    arena.limit = 0;
    weir_arena_fini(&arena);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("index");
    TCase *t = tcase_create("index");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, random_operations_agree_with_an_array, 0,
                        (int)(sizeof shapes / sizeof shapes[0]));
    tcase_add_test(t, a_batch_of_any_size_is_answered_and_no_more_is_written);
    tcase_add_test(t, a_key_of_a_slot_that_is_not_covered_is_not_found);
    tcase_add_test(t, growth_moves_little_at_a_time_and_keeps_the_load);
    tcase_add_test(t, an_empty_index_costs_sixteen_bytes_a_subtable);
    tcase_add_test(t, keys_of_one_slot_alone_do_not_blow_up_the_directory);
    tcase_add_test(t, turnover_at_constant_size_does_not_decay);
    tcase_add_test(t, a_group_that_every_key_starts_at_is_still_exact);
    tcase_add_test(t, an_insert_that_finds_no_memory_changes_nothing);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
