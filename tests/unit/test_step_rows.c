/* The gradients of a worker that is alone, lent in place of sums, against sums that are added. */
#include "ps/step_rows.h"
#include "tests/suite.h"

enum { DIM = 5, ROWS = 7 };

static const weir_key_t keys[ROWS] = {70, 10, 60, 20, 50, 30, 40};

static void name_rows(weir_step_rows_t *rows, const weir_row_handle_t *handles, uint32_t worker,
                      uint32_t *numbers) {
    ck_assert(weir_step_rows_reserve(rows, ROWS));
    ck_assert_uint_eq(weir_step_rows_name(rows, keys, handles, ROWS, worker, numbers), ROWS);
}

static void make_gradients(float *gradients) {
    for (size_t i = 0; i < (size_t)ROWS * DIM; i++) {
        gradients[i] = 0.1f * (float)i - 1.0f;
    }
}

START_TEST(lent_gradients_are_the_sums_until_the_rows_are_cleared) {
    static const weir_row_handle_t handles[ROWS] = {9, 1, 8, 2, 7, 3, 6};
    weir_step_rows_t lent, added;
    uint32_t numbers[ROWS];
    float gradients[ROWS * DIM];
    make_gradients(gradients);
    weir_step_rows_init(&lent, DIM);
    weir_step_rows_init(&added, DIM);
    for (int step = 0; step < 2; step++) {
        name_rows(&lent, handles, 0, numbers);
        ck_assert(weir_step_rows_lend(&lent, ROWS, gradients));
        ck_assert_ptr_eq(weir_step_rows_sums(&lent), gradients);
        name_rows(&added, handles, 0, numbers);
        ck_assert_uint_eq(weir_step_rows_add(&added, numbers, ROWS, gradients), 0);
        ck_assert_mem_eq(lent.handles, added.handles, sizeof handles);
        ck_assert_mem_eq(weir_step_rows_sums(&lent), weir_step_rows_sums(&added), sizeof gradients);
        weir_step_rows_clear(&lent);
        weir_step_rows_clear(&added);
        ck_assert_ptr_ne(weir_step_rows_sums(&lent), gradients);
    }
    weir_step_rows_fini(&lent);
    weir_step_rows_fini(&added);
}
END_TEST

START_TEST(gradients_with_rows_that_were_dropped_are_not_lent) {
    static const weir_row_handle_t handles[ROWS] = {9, WEIR_ROW_NONE, 8, 2, 7, WEIR_ROW_NONE, 6};
    weir_step_rows_t rows;
    uint32_t numbers[ROWS];
    float gradients[ROWS * DIM];
    make_gradients(gradients);
    weir_step_rows_init(&rows, DIM);
    name_rows(&rows, handles, 0, numbers);
    ck_assert(!weir_step_rows_lend(&rows, ROWS, gradients));
    ck_assert_uint_eq(weir_step_rows_add(&rows, numbers, ROWS, gradients), 2);
    for (size_t i = 0; i < ROWS; i++) {
        if (handles[i] != WEIR_ROW_NONE) {
            ck_assert_mem_eq(weir_step_rows_sums(&rows) + numbers[i] * DIM, gradients + i * DIM,
                             DIM * sizeof *gradients);
        }
    }
    weir_step_rows_fini(&rows);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("step_rows");
    TCase *t = tcase_create("step_rows");
    tcase_add_test(t, lent_gradients_are_the_sums_until_the_rows_are_cleared);
    tcase_add_test(t, gradients_with_rows_that_were_dropped_are_not_lent);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
