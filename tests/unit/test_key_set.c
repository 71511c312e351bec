#include "tests/suite.h"
#include "worker/key_set.h"

static void number_keys(uint64_t max_key) {
    weir_key_set_t *set = NULL;
    int64_t big = (int64_t)max_key;
    int64_t keys[6] = {big, 3, big, 7, 3, 0};
    uint32_t rows[6];
    size_t count = 0;
    ck_assert_int_eq(weir_key_set_create(max_key, &set, NULL), WEIR_OK);
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(weir_key_set_begin(set, 6, NULL), WEIR_OK);
        weir_key_set_rows(set, keys, 6, rows);
        const weir_key_t *distinct = weir_key_set_keys(set, &count);
        ck_assert_uint_eq(count, 4);
        ck_assert_uint_eq(distinct[0], max_key);
        ck_assert_uint_eq(distinct[1], 3);
        for (size_t i = 0; i < 6; i++) {
            ck_assert_uint_eq(distinct[rows[i]], (weir_key_t)keys[i]);
        }
    }
    weir_key_set_destroy(set);
}

START_TEST(keys_are_numbered_in_order_of_first_use) {
    number_keys(1000);
}
END_TEST

START_TEST(a_range_too_large_to_index_is_hashed) {
    number_keys((uint64_t)1 << 60);
}
END_TEST

START_TEST(many_hashed_keys_keep_their_numbers) {
    enum { COUNT = 100000 };
    weir_key_set_t *set = NULL;
    int64_t *keys = calloc(COUNT, sizeof *keys);
    uint32_t *rows = calloc(COUNT, sizeof *rows);
    size_t count = 0;
    ck_assert_int_eq(weir_key_set_create((uint64_t)1 << 62, &set, NULL), WEIR_OK);
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = (int64_t)((i % 30000) * 1099511627776u);
    }
    ck_assert_int_eq(weir_key_set_begin(set, COUNT, NULL), WEIR_OK);
    weir_key_set_rows(set, keys, COUNT, rows);
    (void)weir_key_set_keys(set, &count);
    ck_assert_uint_eq(count, 30000);
    for (size_t i = 0; i < COUNT; i++) {
        ck_assert_uint_eq(rows[i], i % 30000);
    }
    free(keys);
    free(rows);
    weir_key_set_destroy(set);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("key_set");
    TCase *t = tcase_create("key_set");
    tcase_add_test(t, keys_are_numbered_in_order_of_first_use);
    tcase_add_test(t, a_range_too_large_to_index_is_hashed);
    tcase_add_test(t, many_hashed_keys_keep_their_numbers);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
