/* Rows at the edges of time: pulled by a step under way while others are far ahead (ssp, asp),
 * after more steps than 32 bits count, and restored into less memory than they need. */
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

START_TEST(rows_live_on_after_four_thousand_million_steps) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_SGD, 2, 0.5, 3);
    const float gradient[2] = {1.0F, 1.0F};
    const weir_key_t key = 7;
    weir_row_handle_t handle;
    float before[2], after[2];
    uint64_t step = (1ull << 32) + 10;
    options.ttl = 4;
    weir_table_t *table = table_case_create(&options);
    ck_assert_int_eq(weir_table_pull(table, &key, 1, step, &handle, before, NULL), WEIR_OK);
    ck_assert_uint_eq(weir_table_apply(table, &key, &handle, gradient, 1, step).updated, 1);
    ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
    ck_assert_int_eq(weir_table_pull(table, &key, 1, step + 1, &handle, after, NULL), WEIR_OK);
    ck_assert(after[0] == before[0] - 0.5F);
    weir_table_destroy(table);
}
END_TEST

enum { BUDGET_ROWS = 4 * WEIR_SLOT_COUNT + 64, SAVED_ROWS = 3 * BUDGET_ROWS, SERVERS = 3 };

static uint64_t add_key(uint64_t sum, weir_key_t key) {
    return sum * 31 + key;
}

static weir_err_t sum_keys(void *argument, const weir_table_row_t *rows, size_t count,
                           weir_error_t *error) {
    uint64_t *sum = argument;
    (void)error;
    for (size_t i = 0; i < count; i++) {
        *sum = add_key(*sum, rows[i].key);
    }
    return WEIR_OK;
}

/* Restore the rows of all, in parts for `servers`, and end a step; what then is there. */
static uint64_t sum_restored(const weir_table_options_t *options, uint32_t servers) {
    uint64_t sum = 0, rows = 0;
    const char zeros[8] = {0};
    for (uint32_t index = 0; index < servers; index++) {
        weir_table_options_t part = *options;
        part.first_slot = weir_slot_first(index, servers);
        part.end_slot = weir_slot_first(index + 1, servers);
        weir_table_t *table = table_case_create(&part);
        for (weir_key_t key = 0; key < SAVED_ROWS; key++) {
            weir_table_row_t row = {
                .key = key, .value = zeros, .rest = zeros, .last_step = key % 50, .count = 1};
            if (weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), servers) == index) {
                ck_assert_int_eq(weir_table_restore(table, &row, NULL), WEIR_OK);
            }
        }
        ck_assert_int_eq(weir_table_end_restore(table, NULL), WEIR_OK);
        ck_assert_int_eq(weir_table_end_step(table, 51, 52, NULL), WEIR_OK);
        ck_assert_int_eq(weir_table_scan(table, 52, sum_keys, &sum, NULL), WEIR_OK);
        rows += weir_table_stats(table).rows;
        weir_table_destroy(table);
    }
    ck_assert_uint_le(rows, BUDGET_ROWS);
    ck_assert_uint_gt(rows, BUDGET_ROWS / 2);
    return sum;
}

START_TEST(rows_restored_beyond_the_budget_leave_with_the_first_step) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_SGD, 2, 0.5, 3);
    options.memory_budget = weir_table_budget_for(&options.row, BUDGET_ROWS);
    ck_assert_uint_eq(sum_restored(&options, 1), sum_restored(&options, SERVERS));
    /* Half of them expire as they come. */
    options.ttl = 25;
    ck_assert_uint_eq(sum_restored(&options, 1), sum_restored(&options, SERVERS));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("table_time");
    TCase *t = tcase_create("table_time");
    tcase_add_test(t, a_row_in_use_neither_expires_nor_gets_older);
    tcase_add_test(t, rows_live_on_after_four_thousand_million_steps);
    tcase_add_test(t, rows_restored_beyond_the_budget_leave_with_the_first_step);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
