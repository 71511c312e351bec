#include "tests/suite.h"
#include "worker/read_ahead.h"

#include <string.h>

enum { ALIVE = 3 };

/* A reader whose batches say which step they are of; it fails at one of them. */
typedef struct {
    weir_train_batch_t batches[ALIVE];
    uint64_t reads, highest, fails_at;
} reader_t;

static weir_err_t read(void *argument, uint64_t step, const weir_train_batch_t **batch,
                       weir_error_t *error) {
    reader_t *reader = argument;
    weir_train_batch_t *to = &reader->batches[reader->reads++ % ALIVE];
    if (step == reader->fails_at) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "step %d", (int)step);
    }
    reader->highest = step > reader->highest ? step : reader->highest;
    to->step = step;
    *batch = to;
    return WEIR_OK;
}

START_TEST(every_step_gets_its_batch_and_nothing_is_read_beyond_the_last) {
    reader_t reader = {.fails_at = UINT64_MAX};
    weir_read_ahead_t *ahead = NULL;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_read_ahead_create(read, &reader, 50, &ahead, &error), WEIR_OK);
    const weir_train_batch_t *before = NULL;
    for (uint64_t step = 7; step <= 50; step++) {
        const weir_train_batch_t *batch = NULL;
        ck_assert_int_eq(weir_read_ahead_take(ahead, step, &batch, &error), WEIR_OK);
        ck_assert_uint_eq(batch->step, step);
        ck_assert(before == NULL || before->step == step - 1); /* still there */
        before = batch;
    }
    weir_read_ahead_destroy(ahead);
    ck_assert_uint_eq(reader.highest, 50);
    ck_assert_uint_eq(reader.reads, 44);
}
END_TEST

START_TEST(a_step_out_of_turn_is_read_then) {
    reader_t reader = {.fails_at = UINT64_MAX};
    weir_read_ahead_t *ahead = NULL;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_read_ahead_create(read, &reader, 50, &ahead, &error), WEIR_OK);
    static const uint64_t steps[] = {3, 4, 9, 2, 3};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        const weir_train_batch_t *batch = NULL;
        ck_assert_int_eq(weir_read_ahead_take(ahead, steps[i], &batch, &error), WEIR_OK);
        ck_assert_uint_eq(batch->step, steps[i]);
    }
    weir_read_ahead_rest(ahead);
    ck_assert_uint_eq(reader.highest, 10);
    weir_read_ahead_destroy(ahead);
}
END_TEST

START_TEST(an_error_comes_with_the_step_it_is_of) {
    reader_t reader = {.fails_at = 3};
    weir_read_ahead_t *ahead = NULL;
    weir_error_t error = {0};
    const weir_train_batch_t *batch = NULL;
    ck_assert_int_eq(weir_read_ahead_create(read, &reader, 50, &ahead, &error), WEIR_OK);
    ck_assert_int_eq(weir_read_ahead_take(ahead, 1, &batch, &error), WEIR_OK);
    ck_assert_int_eq(weir_read_ahead_take(ahead, 2, &batch, &error), WEIR_OK);
    ck_assert_int_eq(weir_read_ahead_take(ahead, 3, &batch, &error), WEIR_ERR_CORRUPT);
    ck_assert_str_eq(error.message, "step 3");
    ck_assert_int_eq(weir_read_ahead_take(ahead, 4, &batch, &error), WEIR_OK);
    ck_assert_uint_eq(batch->step, 4);
    weir_read_ahead_destroy(ahead);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("read_ahead");
    TCase *t = tcase_create("read_ahead");
    tcase_add_test(t, every_step_gets_its_batch_and_nothing_is_read_beyond_the_last);
    tcase_add_test(t, a_step_out_of_turn_is_read_then);
    tcase_add_test(t, an_error_comes_with_the_step_it_is_of);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
