#include "common/signals.h"
#include "tests/suite.h"

#include <signal.h>
#include <unistd.h>

START_TEST(a_broken_pipe_does_not_end_the_process) {
    int ends[2];
    weir_signals_init();
    ck_assert_int_eq(pipe(ends), 0);
    (void)close(ends[0]);
    ck_assert_int_eq(write(ends[1], "x", 1), -1);
    (void)close(ends[1]);
    ck_assert_int_eq(weir_signals_stop_requested(), 0);
}
END_TEST

START_TEST(a_stop_signal_is_remembered_by_its_number) {
    static const int stops[] = {SIGINT, SIGTERM, SIGUSR1};
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
        ck_assert_int_eq(raise(stops[i]), 0);
        ck_assert_int_eq(weir_signals_stop_requested(), stops[i]);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("signals");
    TCase *t = tcase_create("signals");
    tcase_add_test(t, a_broken_pipe_does_not_end_the_process);
    tcase_add_test(t, a_stop_signal_is_remembered_by_its_number);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
