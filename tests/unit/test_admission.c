#include "common/rng.h"
#include "ps/admission.h"
#include "tests/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const weir_admission_options_t frequency = {.kind = WEIR_ADMISSION_FREQUENCY,
                                                   .threshold = 3,
                                                   .counters = 4096,
                                                   .seed = 5,
                                                   .end_slot = WEIR_SLOT_COUNT};

/* ---- memory that runs out: the linker sends the library's calls here (tests/unit/CMakeLists.txt)
 */

static size_t allocations_left = SIZE_MAX;

static bool runs_out(void) {
    if (allocations_left == SIZE_MAX) {
        return false;
    }
    allocations_left -= allocations_left > 0;
    return allocations_left == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size) {
    return runs_out() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return runs_out() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size) {
    return runs_out() ? NULL : __real_realloc(old, size);
}

/* ---- keys ---- */

static weir_admission_t *create(const weir_admission_options_t *options) {
    weir_admission_t *admission = NULL;
    weir_error_t error = {0};
    ck_assert_msg(weir_admission_create(options, &admission, &error) == WEIR_OK, "%s",
                  error.message);
    return admission;
}

static bool decides(const weir_admission_t *admission, weir_key_t key, uint64_t step) {
    bool admitted;
    weir_admission_decide_batch(admission, &key, 1, step, &admitted);
    return admitted;
}

/* One step that sees `key`, if it is not admitted. */
static void see(weir_admission_t *admission, weir_key_t key, uint64_t step) {
    ck_assert(weir_admission_note(admission, key));
    weir_admission_end_step(admission, step);
}

START_TEST(a_key_is_admitted_in_the_step_that_sees_it_for_the_kth_time) {
    for (uint32_t k = 1; k <= 5; k++) {
        weir_admission_options_t options = frequency;
        options.threshold = k;
        weir_admission_t *admission = create(&options);
        for (uint32_t step = 1; step < k; step++) {
            ck_assert(!decides(admission, 77, step));
            see(admission, 77, step);
        }
        ck_assert(decides(admission, 77, k));
        ck_assert(k == 1 || !decides(admission, 78, k));
        weir_admission_destroy(admission);
    }
}
END_TEST

START_TEST(a_step_counts_a_key_once_however_often_it_is_seen) {
    weir_admission_t *admission = create(&frequency);
    for (int i = 0; i < 9; i++) {
        ck_assert(weir_admission_note(admission, 5));
    }
    ck_assert(!decides(admission, 5, 1)); /* nothing counts before the step ends */
    weir_admission_end_step(admission, 1);
    ck_assert(!decides(admission, 5, 2));
    see(admission, 5, 2);
    ck_assert(decides(admission, 5, 3));
    weir_admission_destroy(admission);
}
END_TEST

enum { KEYS = 3000, STEPS = 40 };

static weir_key_t key_of(uint32_t i) {
    return (weir_key_t)i * 0x9E3779B97F4A7C15ull;
}

/* Keys that share slots: the first `count` of each of the first `slots` slots. */
static weir_key_t *keys_of_slots(weir_slot_t slots, size_t count) {
    weir_key_t *keys = malloc(slots * count * sizeof *keys);
    size_t *found = calloc(slots, sizeof *found);
    ck_assert(keys != NULL && found != NULL);
    size_t missing = slots * count;
    for (weir_key_t key = 0; missing > 0; key++) {
        weir_slot_t slot = weir_slot_of_hash(weir_hash64(key));
        if (slot < slots && found[slot] < count) {
            keys[slot * count + found[slot]++] = key;
            missing--;
        }
    }
    free(found);
    return keys;
}

/* Against a dictionary: never admitted late, and early only where counters are shared. */
START_TEST(a_narrow_sketch_never_admits_late) {
    enum { CROWD = 200 };
    uint32_t seen[CROWD] = {0};
    weir_key_t *keys = keys_of_slots(1, CROWD);
    weir_admission_options_t options = frequency;
    options.threshold = 12;
    options.end_slot = 1;
    options.counters = 256;
    weir_admission_t *narrow = create(&options);
    options.counters = 65536;
    weir_admission_t *wide = create(&options);
    weir_rng_key_t dice = weir_rng_key(1, WEIR_STREAM_TEST);
    size_t early = 0;
    for (uint32_t step = 1; step <= STEPS; step++) {
        for (uint32_t i = 0; i < CROWD; i++) {
            if (weir_philox(dice, step, i, 0, 0).word[0] % 3 != 0) {
                continue;
            }
            bool exact = seen[i] + 1 >= options.threshold;
            ck_assert(decides(wide, keys[i], step) == exact);
            ck_assert(decides(narrow, keys[i], step) || !exact);
            early += decides(narrow, keys[i], step) && !exact;
            seen[i] += exact ? 0 : 1;
            ck_assert(exact ||
                      (weir_admission_note(wide, keys[i]) && weir_admission_note(narrow, keys[i])));
        }
        weir_admission_end_step(wide, step);
        weir_admission_end_step(narrow, step);
    }
    ck_assert_uint_gt(early, 0); /* otherwise it was not narrow */
    weir_admission_destroy(narrow);
    weir_admission_destroy(wide);
    free(keys);
}
END_TEST

/* A key that was never seen is taken for one that was where each row has another key in its place:
 * 1 - (1 - 1/c)^n in one row, and its 4th power if the rows do not agree on who collides. */
START_TEST(the_rows_of_a_sketch_do_not_collide_together) {
    enum { SLOTS = 64, SEEN = 32, UNSEEN = 100, C = 64 };
    weir_key_t *keys = keys_of_slots(SLOTS, SEEN + UNSEEN);
    weir_admission_options_t options = frequency;
    options.threshold = 2;
    options.end_slot = SLOTS;
    options.counters = C;
    weir_admission_t *admission = create(&options);
    for (size_t i = 0; i < SLOTS * (SEEN + UNSEEN); i++) {
        ck_assert(i % (SEEN + UNSEEN) >= SEEN || weir_admission_note(admission, keys[i]));
    }
    weir_admission_end_step(admission, 1);
    size_t mistaken = 0;
    for (size_t i = 0; i < SLOTS * (SEEN + UNSEEN); i++) {
        bool admitted = decides(admission, keys[i], 2);
        ck_assert(i % (SEEN + UNSEEN) >= SEEN || admitted);
        mistaken += i % (SEEN + UNSEEN) >= SEEN && admitted;
    }
    double expected = SLOTS * UNSEEN * pow(1.0 - pow(1.0 - 1.0 / C, SEEN), 4);
    ck_assert_msg(fabs((double)mistaken - expected) < 5.0 * sqrt(expected), "%zu, not %g", mistaken,
                  expected);
    weir_admission_destroy(admission);
    free(keys);
}
END_TEST

START_TEST(a_batch_of_any_length_is_decided_key_by_key) {
    enum { MOST = 200 };
    weir_admission_options_t options = frequency;
    options.threshold = 2;
    options.probability = 0.5;
    for (int kind = WEIR_ADMISSION_PROBABILITY; kind <= WEIR_ADMISSION_FREQUENCY; kind++) {
        options.kind = (weir_admission_kind_t)kind;
        weir_admission_t *admission = create(&options);
        weir_key_t keys[MOST];
        for (uint32_t i = 0; i < MOST; i++) {
            keys[i] = key_of(i);
            ck_assert(i % 3 == 0 || weir_admission_note(admission, keys[i]));
        }
        weir_admission_end_step(admission, 1);
        for (size_t count = 0; count <= MOST; count++) {
            unsigned char answers[MOST + 1];
            memset(answers, 7, sizeof answers);
            bool admitted[MOST];
            weir_admission_decide_batch(admission, keys, count, 2, admitted);
            memcpy(answers, admitted, count);
            for (size_t i = 0; i < count; i++) {
                ck_assert_uint_eq(answers[i], decides(admission, keys[i], 2));
                ck_assert(kind == WEIR_ADMISSION_PROBABILITY || admitted[i] == (i % 3 != 0));
            }
        }
        weir_admission_destroy(admission);
    }
}
END_TEST

START_TEST(counts_are_halved_with_every_window_and_never_wrap) {
    weir_admission_options_t options = frequency;
    options.threshold = 9;
    options.window = 100;
    weir_admission_t *admission = create(&options);
    for (uint64_t step = 1; step <= 8; step++) {
        see(admission, 3, step);
    }
    ck_assert(decides(admission, 3, 99));   /* 8 + 1 */
    ck_assert(!decides(admission, 3, 100)); /* 4 + 1 */
    for (uint64_t step = 100; step < 104; step++) {
        see(admission, 3, step);
    }
    ck_assert(decides(admission, 3, 104));
    ck_assert(!decides(admission, 3, 100 + 64 * 100)); /* all gone */
    weir_admission_destroy(admission);
    options = frequency;
    options.threshold = WEIR_ADMISSION_MAX_THRESHOLD;
    admission = create(&options);
    for (uint64_t step = 1; step <= 65534 + 10; step++) {
        ck_assert(decides(admission, 3, step) == (step >= 65535));
        see(admission, 3, step);
    }
    weir_admission_destroy(admission);
}
END_TEST

/* A new sketch with all that `old` knows after `step`. */
static weir_admission_t *save_and_restore(const weir_admission_options_t *options,
                                          weir_admission_t *old, uint64_t step) {
    weir_admission_t *made = create(options);
    weir_admission_set_step(made, step);
    for (weir_slot_t slot = options->first_slot; slot < options->end_slot; slot++) {
        const uint16_t *values;
        size_t count;
        weir_admission_slot(old, slot, &values, &count);
        ck_assert_int_eq(weir_admission_restore_slot(made, slot, values, count, NULL), WEIR_OK);
    }
    weir_admission_destroy(old);
    return made;
}

/* Against a dictionary that halves everything at once; saved and restored after each step, at a
 * window's edge or not. In some steps, up to two windows of them, nothing is seen. */
START_TEST(halving_slot_by_slot_is_halving_at_once_whenever_it_is_saved) {
    enum { SLOTS = 4, CROWD = 12, WINDOW = 5 };
    uint32_t seen[SLOTS * CROWD] = {0};
    weir_key_t *keys = keys_of_slots(SLOTS, CROWD);
    weir_admission_options_t options = frequency;
    options.threshold = 5;
    options.window = WINDOW;
    options.end_slot = SLOTS;
    weir_admission_t *kept = create(&options), *moved = create(&options);
    weir_rng_key_t dice = weir_rng_key(3, WEIR_STREAM_TEST);
    size_t admitted = 0, refused = 0;
    for (uint32_t step = 1; step <= 400; step++) {
        bool quiet = step % 60 >= 46; /* no end of a step is told then, either */
        for (uint32_t i = 0; i < SLOTS * CROWD; i++) {
            seen[i] = step % WINDOW == 0 ? seen[i] / 2 : seen[i];
            if (quiet || weir_philox(dice, step, i, 0, 0).word[0] % 8 >= 1 + i % 8) {
                continue;
            }
            bool exact = seen[i] + 1 >= options.threshold;
            ck_assert(decides(kept, keys[i], step) == exact);
            ck_assert(decides(moved, keys[i], step) == exact);
            admitted += exact;
            refused += !exact;
            ck_assert(weir_admission_note(kept, keys[i]) && weir_admission_note(moved, keys[i]));
            seen[i]++;
        }
        if (!quiet) {
            weir_admission_end_step(kept, step);
            weir_admission_end_step(moved, step);
            moved = save_and_restore(&options, moved, step);
        }
    }
    ck_assert(admitted > 500 && refused > 500);
    weir_admission_destroy(kept);
    weir_admission_destroy(moved);
    free(keys);
}
END_TEST

/* A day of one server, of three that take over, and of two after them. */
START_TEST(counters_move_between_servers_with_their_slots) {
    weir_admission_options_t options = frequency;
    options.threshold = 7;
    options.counters = 32;
    options.window = 4;
    weir_admission_t *whole = create(&options);
    weir_rng_key_t dice = weir_rng_key(2, WEIR_STREAM_TEST);
    uint32_t before = 1;
    weir_admission_t *parts[3] = {create(&options)};
    for (uint32_t turn = 0, step = 1; turn < 3; turn++) {
        static const uint32_t servers[3] = {1, 3, 2};
        weir_admission_t *next[3];
        for (uint32_t s = 0; s < servers[turn]; s++) {
            options.first_slot = weir_slot_first(s, servers[turn]);
            options.end_slot = weir_slot_first(s + 1, servers[turn]);
            next[s] = create(&options);
            weir_admission_set_step(next[s], step - 1);
            for (weir_slot_t slot = options.first_slot; slot < options.end_slot; slot++) {
                const uint16_t *values;
                size_t count;
                weir_admission_slot(parts[weir_slot_owner(slot, before)], slot, &values, &count);
                ck_assert_int_eq(weir_admission_restore_slot(next[s], slot, values, count, NULL),
                                 WEIR_OK);
            }
        }
        for (uint32_t s = 0; s < before; s++) {
            weir_admission_destroy(parts[s]);
        }
        before = servers[turn];
        memcpy(parts, next, sizeof parts);
        for (uint32_t end = step + 7; step < end; step++) {
            for (uint32_t n = 0; n < 2 * KEYS; n++) {
                /* The parts see the keys of a step in another order. */
                bool forth = n < KEYS;
                uint32_t i = forth ? n : 2 * KEYS - 1 - n;
                weir_admission_t *part =
                    parts[weir_slot_owner(weir_slot_of_hash(weir_hash64(key_of(i))), before)];
                if (weir_philox(dice, step, i, 0, 0).word[0] % 2 == 0) {
                    ck_assert(decides(whole, key_of(i), step) == decides(part, key_of(i), step));
                    ck_assert(weir_admission_note(forth ? whole : part, key_of(i)));
                }
            }
            weir_admission_end_step(whole, step);
            for (uint32_t s = 0; s < before; s++) {
                weir_admission_end_step(parts[s], step);
            }
        }
    }
    for (uint32_t s = 0; s < before; s++) {
        weir_admission_destroy(parts[s]);
    }
    weir_admission_destroy(whole);
}
END_TEST

START_TEST(chance_admits_its_part_and_draws_anew_in_every_step) {
    weir_admission_options_t options = frequency;
    options.kind = WEIR_ADMISSION_PROBABILITY;
    options.probability = 0.2;
    weir_admission_t *admission = create(&options);
    enum { N = 20000 };
    uint32_t first = 0, both = 0;
    for (uint32_t i = 0; i < N; i++) {
        bool one = decides(admission, key_of(i), 1), two = decides(admission, key_of(i), 2);
        first += one;
        both += one && two;
        ck_assert(decides(admission, key_of(i), 1) == one);
        ck_assert(weir_admission_note(admission, key_of(i)));
    }
    weir_admission_end_step(admission, 1);
    ck_assert(fabs(first - 0.2 * N) < 4.0 * sqrt(0.16 * N));
    ck_assert(fabs(both - 0.04 * N) < 4.0 * sqrt(0.04 * 0.96 * N));
    weir_admission_destroy(admission);
}
END_TEST

START_TEST(tables_and_seeds_draw_apart) {
    enum { N = 20000 };
    weir_admission_options_t options = frequency;
    options.kind = WEIR_ADMISSION_PROBABILITY;
    options.probability = 0.5;
    weir_admission_t *one = create(&options);
    options.table_id = 1;
    weir_admission_t *table = create(&options);
    options.table_id = 0;
    options.seed++;
    weir_admission_t *seed = create(&options);
    options.probability = 1.0;
    weir_admission_t *always = create(&options);
    uint32_t by_table = 0, by_seed = 0;
    for (uint32_t i = 0; i < N; i++) {
        bool answer = decides(one, key_of(i), 1);
        by_table += decides(table, key_of(i), 1) == answer;
        by_seed += decides(seed, key_of(i), 1) == answer;
        ck_assert(decides(always, key_of(i), 1));
    }
    ck_assert(fabs(by_table - 0.5 * N) < 4.0 * sqrt(0.25 * N));
    ck_assert(fabs(by_seed - 0.5 * N) < 4.0 * sqrt(0.25 * N));
    weir_admission_destroy(one);
    weir_admission_destroy(table);
    weir_admission_destroy(seed);
    weir_admission_destroy(always);
}
END_TEST

START_TEST(memory_that_runs_out_is_told_and_loses_nothing) {
    weir_admission_t *admission = NULL;
    weir_error_t error = {0};
    size_t failures = 0;
    for (weir_err_t err = WEIR_ERR_MEMORY; err != WEIR_OK; failures += err != WEIR_OK) {
        ck_assert_ptr_null(admission);
        allocations_left = failures + 1;
        err = weir_admission_create(&frequency, &admission, &error);
        allocations_left = SIZE_MAX;
        ck_assert(err == WEIR_OK || (err == WEIR_ERR_MEMORY && error.message[0] != '\0'));
    }
    ck_assert_uint_ge(failures, 2);
    uint32_t noted = 0;
    for (allocations_left = 3; weir_admission_note(admission, key_of(noted));) {
        noted++;
    }
    bool again = weir_admission_note(admission, key_of(noted));
    weir_admission_end_step(admission, 1); /* as far as they were noted */
    allocations_left = SIZE_MAX;           /* the assertions allocate, too */
    ck_assert(!again);
    ck_assert_uint_gt(noted, 1000);
    for (uint32_t step = 2; step <= 3; step++) {
        for (uint32_t i = 0; i <= noted; i++) {
            ck_assert(decides(admission, key_of(i), step) == (step == 3 && i < noted));
        }
        see(admission, key_of(noted), step);
        for (uint32_t i = 0; i < noted; i++) {
            ck_assert(weir_admission_note(admission, key_of(i)));
        }
        weir_admission_end_step(admission, step);
    }
    weir_admission_destroy(admission);
}
END_TEST

static size_t resident_pages(void) {
    size_t all, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%zu %zu", &all, &resident), 2);
    (void)fclose(file);
    return resident;
}

/* 128 MiB of counters of which one is not zero. */
START_TEST(counters_take_memory_only_when_their_slot_has_seen_a_key) {
    weir_admission_options_t options = frequency;
    options.threshold = 2;
    options.counters = 1024;
    options.window = 3;
    weir_admission_t *admission = create(&options);
    see(admission, 9, 4);
    size_t before = resident_pages();
    weir_admission_end_step(admission, 5);
    admission = save_and_restore(&options, admission, 5);
    ck_assert_uint_gt(weir_admission_bytes(admission), (uint64_t)128 << 20);
    ck_assert_uint_lt(resident_pages(), before + (((size_t)32 << 20) / 4096));
    ck_assert(decides(admission, 9, 5) && !decides(admission, 9, 6) && !decides(admission, 8, 5));
    weir_admission_destroy(admission);
}
END_TEST

START_TEST(what_cannot_be_counted_is_refused) {
    weir_admission_options_t wrong[6];
    for (size_t i = 0; i < 6; i++) {
        wrong[i] = frequency;
    }
    wrong[0].threshold = 65536; /* more than a counter holds: no key would ever be admitted */
    wrong[1].threshold = 0;
    wrong[2].counters = 1000;
    wrong[3].counters = 8;
    wrong[4].kind = WEIR_ADMISSION_PROBABILITY;
    wrong[4].probability = 1.5;
    wrong[5].first_slot = wrong[5].end_slot;
    for (size_t i = 0; i < 6; i++) {
        weir_admission_t *admission = NULL;
        weir_error_t error = {0};
        ck_assert_int_eq(weir_admission_create(&wrong[i], &admission, &error), WEIR_ERR_INVALID);
        ck_assert_ptr_null(admission);
        ck_assert_str_ne(error.message, "");
    }
    weir_admission_t *admission = create(&frequency);
    uint16_t values[4] = {0};
    ck_assert_int_eq(weir_admission_restore_slot(admission, 0, values, 4, NULL), WEIR_ERR_INVALID);
    weir_admission_destroy(admission);
    weir_admission_destroy(NULL);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("admission");
    TCase *t = tcase_create("admission");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_key_is_admitted_in_the_step_that_sees_it_for_the_kth_time);
    tcase_add_test(t, a_step_counts_a_key_once_however_often_it_is_seen);
    tcase_add_test(t, a_narrow_sketch_never_admits_late);
    tcase_add_test(t, the_rows_of_a_sketch_do_not_collide_together);
    tcase_add_test(t, a_batch_of_any_length_is_decided_key_by_key);
    tcase_add_test(t, halving_slot_by_slot_is_halving_at_once_whenever_it_is_saved);
    tcase_add_test(t, counts_are_halved_with_every_window_and_never_wrap);
    tcase_add_test(t, counters_move_between_servers_with_their_slots);
    tcase_add_test(t, chance_admits_its_part_and_draws_anew_in_every_step);
    tcase_add_test(t, tables_and_seeds_draw_apart);
    tcase_add_test(t, memory_that_runs_out_is_told_and_loses_nothing);
    tcase_add_test(t, counters_take_memory_only_when_their_slot_has_seen_a_key);
    tcase_add_test(t, what_cannot_be_counted_is_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
