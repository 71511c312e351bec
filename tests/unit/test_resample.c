/* Intervals and paired tests. Chances are those of SciPy 1.17 (ttest_rel, wilcoxon with
 * zero_method "wilcox" and method "asymptotic", t.sf) and of all sign flips, counted one by one. */
#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "tools/resample.h"
#include "tools/user_values.h"

#include <math.h>

enum { SAMPLES = 20000 };

static void check_near(double value, double expected, double tolerance) {
    ck_assert_double_le(fabs(value - expected), tolerance * fabs(expected));
}

START_TEST(student_is_that_of_scipy) {
    static const struct {
        double t, degrees, chance;
    } known[] = {
        {0.1, 1.0, 0.936548965138893},           {2.5, 1.0, 0.24223788318168682},
        {0.3, 2.0, 0.7924856608401776},          {1.7, 5.0, 0.149876786848324},
        {3.2, 9.0, 0.010831302589901321},        {12.0, 9.0, 7.699886222985653e-07},
        {1.96, 30.0, 0.05934231289605049},       {0.01, 100.0, 0.9920412102344285},
        {4.5, 5000.0, 6.9495106555929785e-06},   {2.2, 140000.0, 0.027808522816385736},
        {7.0, 1000000.0, 2.561224111374084e-12},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        check_near(weir_student_two_sided(known[i].t, known[i].degrees), known[i].chance, 1e-8);
        check_near(weir_student_two_sided(-known[i].t, known[i].degrees), known[i].chance, 1e-8);
    }
    ck_assert_double_eq(weir_student_two_sided(0.0, 9.0), 1.0);
    check_near(weir_student_two_sided(1.0, 1.0), 0.5, 1e-12); /* of Cauchy's distribution */
}
END_TEST

/* Differences with zeros and with ties. */
static const double differences[] = {0.16666666666666669,
                                     -0.35714285714285715,
                                     0.0,
                                     0.75,
                                     0.0111111111111111,
                                     0.16666666666666669,
                                     0.0,
                                     -0.16666666666666669,
                                     0.03333333333333334,
                                     0.1090909090909091,
                                     0.5,
                                     -0.08333333333333331,
                                     0.20833333333333331,
                                     -0.14666666666666667,
                                     0.16666666666666669,
                                     0.8,
                                     0.008333333333333331,
                                     0.0,
                                     0.05555555555555555,
                                     0.016666666666666663};
enum { DIFFERENCES = sizeof differences / sizeof differences[0] };

START_TEST(paired_tests_are_those_of_scipy) {
    weir_paired_t test;
    ck_assert_int_eq(weir_paired_test(differences, DIFFERENCES, SAMPLES, 1, &test, NULL), WEIR_OK);
    check_near(test.t, 1.764552628397145, 1e-12);
    check_near(test.t_p, 0.09370958479159933, 1e-9);
    check_near(test.w, 38.5, 1e-12);
    check_near(test.w_p, 0.07164414664804117, 1e-9);
}
END_TEST

START_TEST(sign_flips_come_near_to_all_of_them) {
    weir_paired_t test;
    for (size_t count = 3; count <= 14; count++) {
        double found = 0.0, as_far = 0.0, all = ldexp(1.0, (int)count);
        for (size_t i = 0; i < count; i++) {
            found += differences[i];
        }
        for (uint32_t flips = 0; flips < 1U << count; flips++) {
            double sum = 0.0;
            for (size_t i = 0; i < count; i++) {
                sum += (flips >> i & 1U) != 0 ? -differences[i] : differences[i];
            }
            as_far += fabs(sum) >= fabs(found) - 1e-12 ? 1.0 : 0.0;
        }
        double chance = as_far / all, error = sqrt(chance * (1.0 - chance) / SAMPLES);
        ck_assert_int_eq(weir_paired_test(differences, count, SAMPLES, count, &test, NULL),
                         WEIR_OK);
        ck_assert_double_le(fabs(test.flip_p - chance), 5.0 * error + 2.0 / SAMPLES);
    }
}
END_TEST

START_TEST(where_nothing_differs_no_test_has_anything_to_say) {
    const double same[] = {0.0, 0.0, 0.0}, one[] = {0.5};
    weir_paired_t test;
    ck_assert_int_eq(weir_paired_test(same, 3, 10, 1, &test, NULL), WEIR_OK);
    ck_assert(isnan(test.t_p) && isnan(test.w_p) && isnan(test.flip_p) && test.nonzero == 0);
    ck_assert_int_eq(weir_paired_test(one, 1, 10, 1, &test, NULL), WEIR_OK);
    ck_assert(isnan(test.t_p) && test.flip_p >= 1.0);
}
END_TEST

/* A p value below alpha comes with chance alpha where there is no difference. */
START_TEST(chances_are_uniform_where_neither_is_better) {
    enum { TRIALS = 400, USERS = 40 };
    case_rng_t rng = {.seed = 77};
    double below[3] = {0.0};
    for (size_t trial = 0; trial < TRIALS; trial++) {
        double d[USERS];
        weir_paired_t test;
        for (size_t i = 0; i < USERS; i++) {
            d[i] = weir_normal_quantile(weir_uniform01(case_word(&rng)));
        }
        ck_assert_int_eq(weir_paired_test(d, USERS, 400, trial, &test, NULL), WEIR_OK);
        below[0] += test.t_p < 0.2 ? 1.0 / TRIALS : 0.0;
        below[1] += test.w_p < 0.2 ? 1.0 / TRIALS : 0.0;
        below[2] += test.flip_p < 0.2 ? 1.0 / TRIALS : 0.0;
    }
    for (size_t k = 0; k < 3; k++) {
        ck_assert_double_le(fabs(below[k] - 0.2), 4.0 * sqrt(0.2 * 0.8 / TRIALS));
    }
}
END_TEST

START_TEST(an_interval_is_where_the_normal_distribution_has_it) {
    enum { USERS = 500, METRICS = 2 };
    case_rng_t rng = {.seed = 5};
    double values[USERS * METRICS], mean = 0.0, square = 0.0;
    weir_interval_t intervals[METRICS], again[METRICS], other[METRICS];
    for (size_t i = 0; i < USERS; i++) {
        values[i * METRICS] = 3.0; /* of a constant nothing is unsure */
        values[i * METRICS + 1] = case_below(&rng, 3) == 0 ? 1.0 : 0.0;
        mean += values[i * METRICS + 1] / USERS;
    }
    for (size_t i = 0; i < USERS; i++) {
        square += pow(values[i * METRICS + 1] - mean, 2.0) / USERS;
    }
    double deviation = sqrt(square / USERS);
    ck_assert_int_eq(weir_bootstrap(values, USERS, METRICS, 4000, 1, intervals, NULL), WEIR_OK);
    ck_assert_int_eq(weir_bootstrap(values, USERS, METRICS, 4000, 1, again, NULL), WEIR_OK);
    ck_assert_int_eq(weir_bootstrap(values, USERS, METRICS, 4000, 2, other, NULL), WEIR_OK);
    ck_assert_mem_eq(intervals, again, sizeof intervals);
    ck_assert_mem_ne(intervals, other, sizeof intervals);
    ck_assert_double_eq_tol(intervals[0].low, 3.0, 1e-12);
    ck_assert_double_eq_tol(intervals[0].high, 3.0, 1e-12);
    ck_assert_double_eq_tol(intervals[1].mean, mean, 1e-12);
    check_near(intervals[1].deviation, deviation, 0.06);
    ck_assert_double_eq_tol(intervals[1].low, mean - 1.959964 * deviation, 0.25 * deviation);
    ck_assert_double_eq_tol(intervals[1].high, mean + 1.959964 * deviation, 0.25 * deviation);
}
END_TEST

START_TEST(values_of_users_are_those_that_evaluation_adds_up) {
    for (uint64_t rank = 1; rank <= 60; rank++) {
        weir_metrics_t metrics = {0};
        weir_metrics_add(&metrics, rank);
        for (size_t k = 0; k < WEIR_USER_VALUES; k++) {
            double expected = 0.0;
            ck_assert_int_eq(weir_metrics_value(&metrics, weir_user_value_name(k), &expected, NULL),
                             WEIR_OK);
            ck_assert_double_eq_tol(weir_user_value(rank, k), expected, 1e-15);
        }
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("resample");
    TCase *t = tcase_create("resample");
    tcase_add_test(t, student_is_that_of_scipy);
    tcase_add_test(t, paired_tests_are_those_of_scipy);
    tcase_add_test(t, sign_flips_come_near_to_all_of_them);
    tcase_add_test(t, where_nothing_differs_no_test_has_anything_to_say);
    tcase_add_test(t, chances_are_uniform_where_neither_is_better);
    tcase_add_test(t, an_interval_is_where_the_normal_distribution_has_it);
    tcase_add_test(t, values_of_users_are_those_that_evaluation_adds_up);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
