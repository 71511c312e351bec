#include "tests/suite.h"
#include "tools/requeue.h"

#include <stdlib.h>

/* As scontrol of Slurm 22.05 writes it, without what does not matter here. */
START_TEST(a_preemption_counts_in_the_start_of_the_job_that_it_met) {
    ck_assert(weir_requeue_was_preempted("JobId=7 JobName=weir Restarts=0 "
                                         "StartTime=2026-01-31T23:59:58 EndTime=Unknown "
                                         "PreemptEligibleTime=2026-01-31T23:59:58 "
                                         "PreemptTime=2026-02-01T00:00:03 SuspendTime=None"));
    ck_assert(!weir_requeue_was_preempted("JobId=7 StartTime=2026-02-01T00:02:00 EndTime=Unknown "
                                          "PreemptTime=2026-02-01T00:00:03 SuspendTime=None"));
    ck_assert(!weir_requeue_was_preempted("JobId=7 StartTime=2026-02-01T00:02:00 "
                                          "PreemptEligibleTime=2026-02-01T00:02:01 "
                                          "PreemptTime=None"));
    ck_assert(!weir_requeue_was_preempted("slurm_load_jobs error: Invalid job id specified"));
    ck_assert(!weir_requeue_was_preempted(""));
    ck_assert(!weir_requeue_was_preempted(" PreemptTime="));
}
END_TEST

START_TEST(only_a_job_of_slurm_can_go_back_into_the_queue) {
    weir_error_t error = {0};
    ck_assert_int_eq(unsetenv("SLURM_JOB_ID"), 0);
    ck_assert_int_eq(weir_requeue_check(&error), WEIR_ERR_INVALID);
    ck_assert_int_eq(setenv("SLURM_JOB_ID", "7; rm -r x", 1), 0);
    ck_assert_int_eq(weir_requeue_check(&error), WEIR_ERR_INVALID);
    ck_assert_int_eq(setenv("SLURM_JOB_ID", "7", 1), 0);
    ck_assert_int_eq(weir_requeue_check(&error), WEIR_OK);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("requeue");
    TCase *tests = tcase_create("requeue");
    tcase_add_test(tests, a_preemption_counts_in_the_start_of_the_job_that_it_met);
    tcase_add_test(tests, only_a_job_of_slurm_can_go_back_into_the_queue);
    suite_add_tcase(s, tests);
    return s;
}

WEIR_TEST_MAIN(suite())
