#include "tests/suite.h"
#include "worker/stochastic_length.h"

#include <math.h>

enum { N = 40, DRAWS = 20000 };

static int64_t times[N];
static weir_length_draw_t draws[N];
static uint8_t keep[N];

static const weir_length_rule_t rules[] = {
    {1.2, 100, WEIR_LENGTH_RECENT}, {1.2, 100, WEIR_LENGTH_RANDOM}, {1.2, 100, WEIR_LENGTH_TIME}};

static size_t choose(const weir_length_rule_t *rule, size_t n, uint32_t draw) {
    return weir_length_choose(rule, times, n, weir_rng_key(4, WEIR_STREAM_TEST), draw, 0, 7, draws,
                              keep);
}

static void make_times(void) {
    for (size_t i = 0; i < N; i++) {
        times[i] = (int64_t)(i * i);
    }
}

START_TEST(the_limit_is_that_of_equation_4) {
    static const struct {
        double alpha;
        size_t longest, limit;
    } cases[] = {{2.0, 100, 100}, {1.0, 64, 8}, {1.6, 4096, 776}, {1.2, 100, 15},
                 {0.0, 77, 77},   {1.0, 1, 1},  {1.8, 1024, 512}, {1.7, 8192, 2120}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const weir_length_rule_t rule = {cases[i].alpha, cases[i].longest, WEIR_LENGTH_RECENT};
        ck_assert_uint_eq(weir_length_limit(&rule), cases[i].limit);
    }
}
END_TEST

START_TEST(a_history_is_kept_whole_as_often_as_it_should) {
    make_times();
    const weir_length_rule_t *rule = &rules[_i];
    size_t limit = weir_length_limit(rule), whole = 0;
    for (uint32_t draw = 0; draw < DRAWS; draw++) {
        size_t kept = choose(rule, N, draw), ones = 0;
        for (size_t i = 0; i < N; i++) {
            ones += keep[i];
        }
        ck_assert(kept == ones && (kept == N || kept == limit));
        whole += kept == N ? 1 : 0;
    }
    double expected = 15.0 * 15.0 / (40.0 * 40.0), got = (double)whole / DRAWS;
    double sigma = sqrt(expected * (1.0 - expected) / DRAWS);
    ck_assert_msg(fabs(got - expected) < 4.5 * sigma, "%g, expected %g", got, expected);
    ck_assert_uint_eq(choose(rule, limit, 3), limit); /* short enough */
}
END_TEST

START_TEST(the_last_events_are_the_last) {
    make_times();
    for (uint32_t draw = 0; draw < 50; draw++) {
        size_t kept = choose(&rules[0], N, draw);
        for (size_t i = 0; i < N; i++) {
            ck_assert_uint_eq(keep[i], i >= N - kept ? 1 : 0);
        }
    }
}
END_TEST

/* How often each event is among those kept, of the draws that do not keep all. */
static void count(const weir_length_rule_t *rule, double *share) {
    size_t cuts = 0, kept[N] = {0};
    for (uint32_t draw = 0; draw < DRAWS; draw++) {
        if (choose(rule, N, draw) < N) {
            cuts++;
            for (size_t i = 0; i < N; i++) {
                kept[i] += keep[i];
            }
        }
    }
    for (size_t i = 0; i < N; i++) {
        share[i] = (double)kept[i] / (double)cuts;
    }
}

START_TEST(random_events_are_equally_likely) {
    double share[N];
    make_times();
    count(&rules[1], share);
    for (size_t i = 0; i < N; i++) {
        ck_assert_msg(fabs(share[i] - 15.0 / N) < 0.02, "event %zu: %g", i, share[i]);
    }
}
END_TEST

/* Against drawing one after the other, by the weights of what is left. */
START_TEST(events_are_weighted_by_their_time) {
    double share[N], expected[N] = {0}, sum = 0.0;
    uint64_t state = 5;
    make_times();
    count(&rules[2], share);
    for (size_t i = 0; i < N; i++) {
        sum += (double)(times[N - 1] - times[i]);
    }
    for (size_t draw = 0; draw < DRAWS; draw++) {
        uint8_t taken[N] = {0};
        for (size_t k = 0; k < 15; k++) {
            double left = 0.0;
            for (size_t i = 0; i < N; i++) {
                left += taken[i] ? 0.0 : 1.0 - (double)(times[N - 1] - times[i]) / sum;
            }
            state = state * 6364136223846793005u + 1442695040888963407u;
            double at = left * (double)(state >> 11) * 0x1p-53;
            size_t chosen = N;
            for (size_t i = 0; i < N; i++) {
                if (!taken[i]) {
                    chosen = i;
                    at -= 1.0 - (double)(times[N - 1] - times[i]) / sum;
                    if (at < 0.0) {
                        break;
                    }
                }
            }
            taken[chosen] = 1;
            expected[chosen] += 1.0 / DRAWS;
        }
    }
    for (size_t i = 0; i < N; i++) {
        ck_assert_msg(fabs(share[i] - expected[i]) < 0.025, "event %zu: %g, expected %g", i,
                      share[i], expected[i]);
    }
    ck_assert(share[N - 1] > share[0]);
}
END_TEST

START_TEST(equal_times_are_no_reason_to_prefer_any) {
    double share[N];
    for (size_t i = 0; i < N; i++) {
        times[i] = 77;
    }
    count(&rules[2], share);
    for (size_t i = 0; i < N; i++) {
        ck_assert(fabs(share[i] - 15.0 / N) < 0.02);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("stochastic_length");
    TCase *t = tcase_create("stochastic_length");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_limit_is_that_of_equation_4);
    tcase_add_loop_test(t, a_history_is_kept_whole_as_often_as_it_should, 0, 3);
    tcase_add_test(t, the_last_events_are_the_last);
    tcase_add_test(t, random_events_are_equally_likely);
    tcase_add_test(t, events_are_weighted_by_their_time);
    tcase_add_test(t, equal_times_are_no_reason_to_prefer_any);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
