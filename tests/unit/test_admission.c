#include "common/rng.h"
#include "ps/admission.h"
#include "tests/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const weir_admission_options_t frequency = {.kind = WEIR_ADMISSION_FREQUENCY,
                                                   .threshold = 3,
                                                   .counters = 4096,
                                                   .seed = 5,
                                                   .end_slot = WEIR_SLOT_COUNT};

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

/* Against a dictionary: never admitted late, and early only where counters are shared. */
START_TEST(a_narrow_sketch_never_admits_late) {
    static uint32_t seen[KEYS];
    memset(seen, 0, sizeof seen);
    weir_admission_options_t options = frequency;
    options.threshold = 6;
    options.counters = 16;
    weir_admission_t *narrow = create(&options);
    options.counters = 65536;
    weir_admission_t *wide = create(&options);
    weir_rng_key_t dice = weir_rng_key(1, WEIR_STREAM_TEST);
    size_t early = 0;
    for (uint32_t step = 1; step <= STEPS; step++) {
        for (uint32_t i = 0; i < KEYS; i++) {
            if (weir_philox(dice, step, i, 0, 0).word[0] % 3 != 0) {
                continue;
            }
            bool exact = seen[i] + 1 >= options.threshold;
            ck_assert(decides(wide, key_of(i), step) == exact);
            ck_assert(decides(narrow, key_of(i), step) || !exact);
            early += decides(narrow, key_of(i), step) && !exact;
            seen[i] += exact ? 0 : 1;
            ck_assert(exact || (weir_admission_note(wide, key_of(i)) &&
                                weir_admission_note(narrow, key_of(i))));
        }
        weir_admission_end_step(wide, step);
        weir_admission_end_step(narrow, step);
    }
    ck_assert_uint_lt(early, KEYS); /* 0.2 keys a slot: few share all four counters */
    weir_admission_destroy(narrow);
    weir_admission_destroy(wide);
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
    tcase_add_test(t, counts_are_halved_with_every_window_and_never_wrap);
    tcase_add_test(t, counters_move_between_servers_with_their_slots);
    tcase_add_test(t, chance_admits_its_part_and_draws_anew_in_every_step);
    tcase_add_test(t, what_cannot_be_counted_is_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
