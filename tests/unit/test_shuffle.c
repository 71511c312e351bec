#include "tests/suite.h"
#include "worker/shuffle.h"

#include <string.h>

enum { USERS = 1000, STEP = 64, TAKEN = 667 };

/* Two of three: users 0, 1, 3, 4, 6, .. */
static bool is_taken(const void *argument, uint64_t user) {
    (void)argument;
    return user % 3 != 2;
}

static bool takes_none(const void *argument, uint64_t user) {
    (void)argument;
    (void)user;
    return false;
}

static weir_shuffle_t *create(uint64_t seed) {
    weir_shuffle_t *shuffle = NULL;
    ck_assert_int_eq(weir_shuffle_create(seed, USERS, STEP, is_taken, NULL, &shuffle, NULL),
                     WEIR_OK);
    return shuffle;
}

/* All steps of an epoch, one after the other. */
static void read_epoch(weir_shuffle_t *shuffle, uint64_t epoch, uint32_t users[TAKEN]) {
    size_t total = 0, count = 0;
    for (uint64_t step = 0; step < weir_shuffle_steps(shuffle); step++) {
        const uint32_t *chosen = weir_shuffle_step(shuffle, epoch, step, &count);
        ck_assert_uint_le(total + count, TAKEN);
        memcpy(users + total, chosen, count * sizeof *users);
        total += count;
    }
    ck_assert_uint_eq(total, TAKEN);
}

START_TEST(an_epoch_has_every_user_that_is_taken_once) {
    weir_shuffle_t *shuffle = create(5);
    uint32_t users[TAKEN];
    int seen[USERS] = {0};
    ck_assert_uint_eq(weir_shuffle_users(shuffle), TAKEN);
    ck_assert_uint_eq(weir_shuffle_steps(shuffle), (TAKEN + STEP - 1) / STEP);
    read_epoch(shuffle, 2, users);
    for (size_t i = 0; i < TAKEN; i++) {
        seen[users[i]]++;
    }
    for (uint32_t user = 0; user < USERS; user++) {
        ck_assert_int_eq(seen[user], is_taken(NULL, user) ? 1 : 0);
    }
    weir_shuffle_destroy(shuffle);
}
END_TEST

START_TEST(the_order_is_of_seed_and_epoch_whatever_was_read_before) {
    weir_shuffle_t *a = create(5), *b = create(5), *other = create(6);
    uint32_t first[TAKEN], second[TAKEN], again[TAKEN];
    size_t count = 0;
    read_epoch(a, 0, first);
    read_epoch(a, 1, second);
    ck_assert_mem_ne(first, second, sizeof first);
    ck_assert_mem_eq(weir_shuffle_step(b, 1, 3, &count), second + (size_t)3 * STEP,
                     STEP * sizeof *second);
    read_epoch(b, 0, again);
    ck_assert_mem_eq(first, again, sizeof first);
    read_epoch(other, 0, again);
    ck_assert_mem_ne(first, again, sizeof first);
    weir_shuffle_destroy(a);
    weir_shuffle_destroy(b);
    weir_shuffle_destroy(other);
}
END_TEST

START_TEST(the_last_step_is_short_and_beyond_it_is_nothing) {
    weir_shuffle_t *shuffle = create(5);
    size_t count = 9;
    (void)weir_shuffle_step(shuffle, 0, weir_shuffle_steps(shuffle) - 1, &count);
    ck_assert_uint_eq(count, TAKEN % STEP);
    (void)weir_shuffle_step(shuffle, 0, weir_shuffle_steps(shuffle), &count);
    ck_assert_uint_eq(count, 0);
    weir_shuffle_destroy(shuffle);
}
END_TEST

START_TEST(none_is_no_error_and_too_many_are) {
    weir_shuffle_t *shuffle = NULL;
    ck_assert_int_eq(weir_shuffle_create(1, USERS, STEP, takes_none, NULL, &shuffle, NULL),
                     WEIR_OK);
    ck_assert_uint_eq(weir_shuffle_users(shuffle), 0);
    ck_assert_uint_eq(weir_shuffle_steps(shuffle), 0);
    weir_shuffle_destroy(shuffle);
    shuffle = NULL;
    ck_assert_int_eq(weir_shuffle_create(1, UINT32_MAX, STEP, is_taken, NULL, &shuffle, NULL),
                     WEIR_ERR_UNSUPPORTED);
    ck_assert_ptr_null(shuffle);
    weir_shuffle_destroy(NULL);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("shuffle");
    TCase *t = tcase_create("shuffle");
    tcase_add_test(t, an_epoch_has_every_user_that_is_taken_once);
    tcase_add_test(t, the_order_is_of_seed_and_epoch_whatever_was_read_before);
    tcase_add_test(t, the_last_step_is_short_and_beyond_it_is_nothing);
    tcase_add_test(t, none_is_no_error_and_too_many_are);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
