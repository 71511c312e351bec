#include "ps/schedule.h"

#include "tests/suite.h"

#include <math.h>
#include <string.h>

static const double base = 0.4;

static double rate_at(weir_schedule_kind_t kind, uint64_t warmup, double floor, uint64_t step) {
    weir_schedule_t schedule = {
        .kind = kind, .warmup_steps = warmup, .decay_steps = 100, .floor = floor, .rate = 0.25};
    ck_assert_int_eq(weir_schedule_check(&schedule, "item", NULL), WEIR_OK);
    return weir_schedule_rate(&schedule, base, step);
}

START_TEST(the_warm_up_is_linear_and_the_same_for_all) {
    for (int k = 0; k < WEIR_SCHEDULE_COUNT; k++) {
        weir_schedule_kind_t kind = (weir_schedule_kind_t)k;
        ck_assert_double_eq_tol(rate_at(kind, 10, 0.5, 1), 0.04, 1e-15);
        ck_assert_double_eq_tol(rate_at(kind, 10, 0.5, 9), 0.36, 1e-15);
        ck_assert_double_eq(rate_at(kind, 10, 0.5, 10), base);
        ck_assert_double_eq(rate_at(kind, 0, 0.0, 1), base);
        ck_assert_double_eq(rate_at(kind, 1, 0.0, 1), base);
    }
}
END_TEST

START_TEST(each_kind_falls_as_its_formula_says) {
    ck_assert_double_eq(rate_at(WEIR_SCHEDULE_CONSTANT, 10, 0.0, 1000000000), base);
    ck_assert_double_eq_tol(rate_at(WEIR_SCHEDULE_COSINE, 10, 0.0, 60), 0.2, 1e-15);
    ck_assert_double_eq_tol(rate_at(WEIR_SCHEDULE_COSINE, 10, 0.0, 35), 0.2 * (1.0 + sqrt(0.5)),
                            1e-15);
    ck_assert_double_eq_tol(rate_at(WEIR_SCHEDULE_COSINE, 10, 0.0, 110), 0.0, 1e-15);
    ck_assert_double_eq_tol(rate_at(WEIR_SCHEDULE_COSINE, 10, 0.0, 5000), 0.0, 1e-15);
    ck_assert_double_eq_tol(rate_at(WEIR_SCHEDULE_INVERSE_SQRT, 10, 0.0, 40), 0.2, 1e-15);
    ck_assert_double_eq_tol(rate_at(WEIR_SCHEDULE_INVERSE_SQRT, 0, 0.0, 16), 0.1, 1e-15);
    ck_assert_double_eq_tol(rate_at(WEIR_SCHEDULE_EXPONENTIAL, 10, 0.0, 60), 0.2, 1e-15);
    ck_assert_double_eq_tol(rate_at(WEIR_SCHEDULE_EXPONENTIAL, 10, 0.0, 210), 0.025, 1e-15);
    ck_assert_double_eq(rate_at(WEIR_SCHEDULE_STEP, 10, 0.0, 109), base);
    ck_assert_double_eq_tol(rate_at(WEIR_SCHEDULE_STEP, 10, 0.0, 110), 0.1, 1e-15);
    ck_assert_double_eq_tol(rate_at(WEIR_SCHEDULE_STEP, 10, 0.0, 210), 0.025, 1e-15);
}
END_TEST

START_TEST(no_kind_falls_below_the_floor_or_rises_after_the_warm_up) {
    for (int k = 0; k < WEIR_SCHEDULE_COUNT; k++) {
        weir_schedule_kind_t kind = (weir_schedule_kind_t)k;
        double before = base;
        for (uint64_t step = 10; step < 3000; step++) {
            double rate = rate_at(kind, 10, 0.125, step);
            ck_assert(rate <= before && rate >= 0.05);
            before = rate;
        }
        ck_assert(kind == WEIR_SCHEDULE_CONSTANT || before < 0.06);
        ck_assert(isfinite(rate_at(kind, 10, 0.0, UINT64_MAX)));
    }
}
END_TEST

static void refuse(weir_schedule_t schedule, const char *word) {
    weir_error_t error = {0};
    ck_assert_int_eq(weir_schedule_check(&schedule, "item", &error), WEIR_ERR_INVALID);
    ck_assert_msg(strstr(error.message, word) != NULL, "%s", error.message);
}

START_TEST(numbers_out_of_range_are_refused) {
    refuse((weir_schedule_t){.kind = WEIR_SCHEDULE_COUNT}, "number");
    refuse((weir_schedule_t){.floor = 1.5}, "floor");
    refuse((weir_schedule_t){.floor = (double)NAN}, "floor");
    refuse((weir_schedule_t){.kind = WEIR_SCHEDULE_COSINE}, "decay_steps");
    refuse((weir_schedule_t){.kind = WEIR_SCHEDULE_STEP, .rate = 0.5}, "decay_steps");
    refuse((weir_schedule_t){.kind = WEIR_SCHEDULE_STEP, .decay_steps = 1}, "rate");
    refuse((weir_schedule_t){.kind = WEIR_SCHEDULE_EXPONENTIAL, .decay_steps = 1, .rate = 1.1},
           "rate");
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("schedule");
    TCase *t = tcase_create("schedule");
    tcase_add_test(t, the_warm_up_is_linear_and_the_same_for_all);
    tcase_add_test(t, each_kind_falls_as_its_formula_says);
    tcase_add_test(t, no_kind_falls_below_the_floor_or_rises_after_the_warm_up);
    tcase_add_test(t, numbers_out_of_range_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
