/* Rows that steps under way have pulled, while other steps are far ahead (ssp, asp). */
#include "tests/suite.h"
#include "tests/unit/table_cases.h"

START_TEST(a_row_in_use_neither_expires_nor_gets_older) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_SGD, 2, 0.5, 3);
    const float gradient[2] = {1.0F, 1.0F};
    const weir_key_t key = 7;
    weir_row_handle_t slow = WEIR_ROW_NONE, fast = WEIR_ROW_NONE, found = WEIR_ROW_NONE;
    float before[2], after[2];
    options.ttl = 4; /* every cell is swept at the end of every step */
    weir_table_t *table = table_case_create(&options);
    /* asp: one worker is at step 1, the other far ahead. */
    ck_assert_int_eq(weir_table_pull(table, &key, 1, 1, &slow, before, NULL), WEIR_OK);
    ck_assert_int_eq(weir_table_pull(table, &key, 1, 50, &fast, NULL, NULL), WEIR_OK);
    ck_assert_uint_eq(slow, fast);
    ck_assert_uint_eq(weir_table_apply(table, &key, &slow, gradient, 1, 1).updated, 1);
    ck_assert_int_eq(weir_table_end_step(table, 49, 2, NULL), WEIR_OK);
    /* A late pull makes it no older than the step that still uses it. */
    ck_assert_int_eq(weir_table_pull(table, &key, 1, 2, &slow, after, NULL), WEIR_OK);
    ck_assert_uint_eq(slow, fast);
    ck_assert(after[0] == before[0] - 0.5F);
    ck_assert_int_eq(weir_table_end_step(table, 49, 3, NULL), WEIR_OK);
    weir_table_find(table, &key, 1, &found);
    ck_assert_uint_eq(found, fast);
    /* Used by nobody any more it expires. */
    ck_assert_int_eq(weir_table_end_step(table, 54, 55, NULL), WEIR_OK);
    weir_table_find(table, &key, 1, &found);
    ck_assert_uint_eq(found, WEIR_ROW_NONE);
    weir_table_destroy(table);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("table_in_use");
    TCase *t = tcase_create("table_in_use");
    tcase_add_test(t, a_row_in_use_neither_expires_nor_gets_older);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
