/* The main of a Check program: WEIR_TEST_MAIN(suite). No fork (MPI and sanitizers dislike it)
 * unless CK_FORK says otherwise; a run of zero tests is a failure. */
#ifndef WEIR_TESTS_SUITE_H
#define WEIR_TESTS_SUITE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static inline int weir_suite_run(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    if (getenv("CK_FORK") == NULL) {
        srunner_set_fork_status(runner, CK_NOFORK);
    }
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    int run = srunner_ntests_run(runner);
    srunner_free(runner);
    if (run == 0) {
        (void)fprintf(stderr, "no test was run\n");
        return EXIT_FAILURE;
    }
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define WEIR_TEST_MAIN(suite)                                                                      \
    int main(void) {                                                                               \
        return weir_suite_run(suite);                                                              \
    }

#endif
