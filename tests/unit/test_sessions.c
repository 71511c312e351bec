#include "tests/suite.h"
#include "worker/sessions.h"

static const int64_t times[] = {0, 10, 20, 200, 201, 202, 203, 204, 900, 900};
enum { COUNT = sizeof times / sizeof times[0] };

static void check(const weir_session_rule_t *rule, const size_t *ends, size_t sessions) {
    size_t first = 0;
    ck_assert_uint_eq(weir_sessions_count(rule, times, COUNT), sessions);
    for (size_t i = 0; i < sessions; i++) {
        weir_session_t session = weir_sessions_at(rule, times, COUNT, i);
        ck_assert_uint_eq(session.first, first);
        ck_assert_uint_eq(session.end, ends[i]);
        first = ends[i];
    }
}

START_TEST(a_session_ends_at_a_gap) {
    const weir_session_rule_t rule = {.gap = 100, .most = 100, .cut = INT64_MIN};
    check(&rule, (const size_t[]){3, 8, 10}, 3);
    const weir_session_rule_t exact = {
        .gap = 180, .most = 100, .cut = INT64_MIN}; /* 20 to 200 is not more */
    check(&exact, (const size_t[]){8, 10}, 2);
}
END_TEST

START_TEST(a_session_has_no_more_events_than_it_may) {
    const weir_session_rule_t rule = {.gap = 100, .most = 2, .cut = INT64_MIN};
    check(&rule, (const size_t[]){2, 3, 5, 7, 8, 10}, 6);
    const weir_session_rule_t single = {.gap = 1000, .most = 1, .cut = INT64_MIN};
    check(&single, (const size_t[]){1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 10);
}
END_TEST

START_TEST(a_session_ends_where_the_tests_begin) {
    const weir_session_rule_t rule = {.gap = 100, .most = 100, .cut = 202};
    check(&rule, (const size_t[]){3, 5, 8, 10}, 4);
    ck_assert_uint_eq(weir_sessions_before_cut(&rule, times, COUNT), 2);
    const weir_session_rule_t between = {.gap = 100, .most = 100, .cut = 300};
    check(&between, (const size_t[]){3, 8, 10}, 3);
    ck_assert_uint_eq(weir_sessions_before_cut(&between, times, COUNT), 2);
    const weir_session_rule_t late = {.gap = 100, .most = 100, .cut = 901};
    ck_assert_uint_eq(weir_sessions_before_cut(&late, times, COUNT), 3);
}
END_TEST

START_TEST(no_events_are_no_session) {
    const weir_session_rule_t rule = {.gap = 100, .most = 2, .cut = INT64_MIN};
    ck_assert_uint_eq(weir_sessions_count(&rule, times, 0), 0);
    ck_assert_uint_eq(weir_sessions_count(&rule, times, 1), 1);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("sessions");
    TCase *t = tcase_create("sessions");
    tcase_add_test(t, a_session_ends_at_a_gap);
    tcase_add_test(t, a_session_has_no_more_events_than_it_may);
    tcase_add_test(t, a_session_ends_where_the_tests_begin);
    tcase_add_test(t, no_events_are_no_session);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
