#include "tests/suite.h"
#include "worker/hstu.h"
#include "worker/time_bucket.h"

#include <math.h>

/* The formula of the model, in float64. */
static uint32_t formula(uint64_t distance) {
    double value = log((double)(distance < 1 ? 1 : distance)) / 0.301;
    return value >= 128.0 ? 128u : (uint32_t)value;
}

START_TEST(buckets_agree_with_the_formula_around_every_threshold) {
    for (uint32_t bucket = 1; bucket <= 128; bucket++) {
        uint64_t near = (uint64_t)exp(0.301 * bucket);
        uint64_t width = near / 1000000000000u + 50u; /* float64 is coarser than one second there */
        uint64_t from = near > width ? near - width : 0;
        for (uint64_t distance = from; distance <= near + width; distance += 1 + width / 2000) {
            ck_assert_uint_eq(weir_time_bucket_of_distance(distance), formula(distance));
        }
    }
}
END_TEST

START_TEST(buckets_agree_with_the_formula_for_small_and_random_distances) {
    for (uint64_t distance = 0; distance < 300000; distance++) {
        ck_assert_uint_eq(weir_time_bucket_of_distance(distance), formula(distance));
    }
    uint64_t state = 1;
    for (int draw = 0; draw < 200000; draw++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t distance = state >> (state & 63u);
        ck_assert_uint_eq(weir_time_bucket_of_distance(distance), formula(distance));
    }
}
END_TEST

START_TEST(the_extremes_of_time_do_not_overflow) {
    ck_assert_uint_eq(weir_time_bucket(INT64_MIN), 128);
    ck_assert_uint_eq(weir_time_bucket(INT64_MAX), 128);
    ck_assert_uint_eq(weir_time_bucket(0), 0);
    ck_assert_uint_eq(weir_time_bucket(-1), 0);
    ck_assert_uint_eq(weir_time_bucket(-100), weir_time_bucket(100));
    ck_assert_uint_eq(weir_time_distance(INT64_MAX, INT64_MIN), UINT64_MAX);
    ck_assert_uint_eq(weir_time_distance(INT64_MIN, INT64_MAX), UINT64_MAX);
    ck_assert_uint_eq(weir_time_distance(-5, 7), 12);
    ck_assert_uint_eq(weir_time_bucket_of_distance(UINT64_MAX), 128);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("time_bucket");
    TCase *t = tcase_create("time_bucket");
    tcase_add_test(t, buckets_agree_with_the_formula_around_every_threshold);
    tcase_add_test(t, buckets_agree_with_the_formula_for_small_and_random_distances);
    tcase_add_test(t, the_extremes_of_time_do_not_overflow);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
