#include "tests/suite.h"
#include "tools/failure.h"
#include "tools/restarts.h"
#include "tools/run_files.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool judge(weir_restarts_t *restarts, weir_job_end_t end, double *delay) {
    const char *why = NULL;
    bool again = weir_restarts_judge(restarts, &end, delay, &why);
    ck_assert(again == (why == NULL));
    return again;
}

START_TEST(restarts_in_a_row_are_bounded_and_wait_longer_each_time) {
    weir_restarts_t restarts = {.most = 8};
    double delay = 0.0;
    for (int i = 0; i < 8; i++) {
        double expected = i < 6 ? (double)(1 << i) : 60.0;
        ck_assert(judge(&restarts, (weir_job_end_t){.status = 137, .stepped = true, .reached = 7},
                        &delay));
        ck_assert_double_eq(delay, expected);
    }
    ck_assert(!judge(&restarts, (weir_job_end_t){.status = 137, .stepped = true}, &delay));
}
END_TEST

START_TEST(a_new_checkpoint_begins_a_new_row) {
    weir_restarts_t restarts = {.most = 1};
    double delay = 0.0;
    for (uint64_t checkpoint = 10; checkpoint < 60; checkpoint += 10) {
        weir_job_end_t end = {
            .status = 139, .stepped = true, .reached = checkpoint + 3, .checkpoint = checkpoint};
        ck_assert(judge(&restarts, end, &delay));
        ck_assert_double_eq(delay, 1.0);
    }
    weir_job_end_t same = {.status = 139, .stepped = true, .reached = 53, .checkpoint = 50};
    ck_assert(!judge(&restarts, same, &delay));
}
END_TEST

START_TEST(what_would_fail_again_is_not_started_again) {
    static const int lasting[] = {2, 9, 11, 13, 126, 127}, of_input[] = {3, 4, 7, 8};
    double delay = 0.0;
    for (size_t i = 0; i < sizeof lasting / sizeof lasting[0]; i++) {
        weir_restarts_t restarts = {.most = 5};
        ck_assert(!judge(&restarts,
                         (weir_job_end_t){.status = lasting[i], .stepped = true, .reached = 9},
                         &delay));
    }
    for (size_t i = 0; i < sizeof of_input / sizeof of_input[0]; i++) {
        weir_restarts_t before = {.most = 5}, after = {.most = 5};
        ck_assert(!judge(&before, (weir_job_end_t){.status = of_input[i]}, &delay));
        ck_assert(judge(&after,
                        (weir_job_end_t){.status = of_input[i], .stepped = true, .reached = 9},
                        &delay));
    }
    weir_restarts_t restarts = {.most = 5};
    ck_assert(judge(&restarts, (weir_job_end_t){.status = 4, .damaged = true}, &delay));
    /* The job that was killed may hold the run's lock or its port for a moment. */
    ck_assert(judge(&restarts, (weir_job_end_t){.status = 7}, &delay));
}
END_TEST

START_TEST(the_same_failure_at_the_same_step_is_not_tried_a_third_time) {
    weir_restarts_t restarts = {.most = 5};
    double delay = 0.0;
    weir_job_end_t end = {.status = 10, .stepped = true, .reached = 33, .checkpoint = 20};
    ck_assert(judge(&restarts, end, &delay));
    weir_restarts_t elsewhere = restarts, otherwise = restarts;
    ck_assert(!judge(&restarts, end, &delay));
    end.reached = 34;
    ck_assert(judge(&elsewhere, end, &delay));
    end.reached = 33;
    end.status = 6;
    ck_assert(judge(&otherwise, end, &delay));
}
END_TEST

START_TEST(durations_are_read_as_people_and_slurm_write_them) {
    static const struct {
        const char *text;
        double seconds;
    } good[] = {{"90s", 90},          {"30m", 1800},       {"2h", 7200},
                {"1d", 86400},        {"45:00", 2700},     {"1-00:00:00", 86400},
                {"0:30", 30},         {"12:30:05", 45005}, {"2-03:04:05", 183845},
                {"100:00:00", 360000}};
    static const char *const bad[] = {"",         "90",   "0s",   "-1h",  "1.5h",
                                      "2hh",      "h",    "1:60", "1:2:", "1-2:3",
                                      "1:00:60:", " 90s", "90s ", "1e3s", "9999999999s"};
    double seconds;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_msg(weir_parse_duration(good[i].text, &seconds), "%s", good[i].text);
        ck_assert_double_eq(seconds, good[i].seconds);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!weir_parse_duration(bad[i], &seconds), "%s", bad[i]);
    }
}
END_TEST

static void check_description(const char *const *lines, int status, const char *expected) {
    weir_failure_t failure = {.named = false};
    char text[768];
    while (*lines != NULL) {
        weir_failure_hear(&failure, *lines++);
    }
    weir_failure_describe(&failure, 2, status, text, sizeof text);
    ck_assert_str_eq(text, expected);
}

/* Lines as Open MPI 4.1 and Slurm 22 write them. */
START_TEST(who_failed_is_read_from_what_launchers_and_ranks_write) {
    check_description(
        (const char *const[]){
            "weir-worker: rank 4 on b: worker 1 waited 60 s for the barrier frame 0 of step 3",
            "mpirun noticed that process rank 3 with PID 0 on node a exited on signal 9 (Killed).",
            "mpirun noticed that process rank 1 with PID 0 on node a exited on signal 6 (Aborted).",
            NULL},
        137, "rank 3 (worker 0) was killed by signal 9");
    check_description((const char *const[]){"weir-ps: rank 2 on host-a: a frame: of nobody",
                                            "weir-worker: rank 3 on host-a: ps 1 is gone",
                                            "MPI_ABORT was invoked on rank 2 in communicator "
                                            "MPI_COMM_WORLD",
                                            "with errorcode 10.", NULL},
                      10, "rank 2 (ps 1): a frame: of nobody");
    check_description(
        (const char *const[]){"  Process name: [[54931,1],0]", "  Exit code:    8", NULL}, 8,
        "rank 0 (coordinator) ended with status 8");
    check_description((const char *const[]){"srun: error: n1: task 1: Killed",
                                            "srun: error: n2: task 4: Exited with exit code 1",
                                            NULL},
                      137, "rank 1 (ps 0) was killed by signal 9");
    check_description(
        (const char *const[]){"srun: error: n2: task 4: Exited with exit code 6", NULL}, 6,
        "rank 4 (worker 1) ended with status 6");
    check_description((const char *const[]){"", "weir-", "process rank", "srun: error: task", NULL},
                      1, "the job ended with status 1");
    check_description((const char *const[]){NULL}, 139,
                      "a process of the job was killed by signal 11");
}
END_TEST

START_TEST(the_margin_before_a_time_limit_follows_the_last_checkpoint_and_evaluation) {
    char run[] = "/tmp/weir-restarts-XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(run));
    (void)snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    ck_assert_double_eq(weir_run_seconds_to_stop(run), 0.0);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    (void)fputs("{\"kind\":\"eval\",\"step\":3,\"seconds\":4.0}\n", file);
    (void)fflush(file);
    ck_assert_double_eq(weir_run_seconds_to_stop(run), 0.0); /* it has never saved */
    (void)fputs("{\"kind\":\"checkpoint\",\"seconds\":100.0}\nnonsense\n"
                "{\"kind\":\"checkpoint\",\"seconds\":10.5}\n{\"kind\":\"train\",\"sec",
                file);
    (void)fclose(file);
    ck_assert_double_eq(weir_run_seconds_to_stop(run), 2 * 10.5 + 4.0 + 5.0);
    (void)unlink(path);
    (void)rmdir(run);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("restarts");
    TCase *tests = tcase_create("restarts");
    tcase_add_test(tests, restarts_in_a_row_are_bounded_and_wait_longer_each_time);
    tcase_add_test(tests, a_new_checkpoint_begins_a_new_row);
    tcase_add_test(tests, what_would_fail_again_is_not_started_again);
    tcase_add_test(tests, the_same_failure_at_the_same_step_is_not_tried_a_third_time);
    tcase_add_test(tests, durations_are_read_as_people_and_slurm_write_them);
    tcase_add_test(tests, who_failed_is_read_from_what_launchers_and_ranks_write);
    tcase_add_test(tests,
                   the_margin_before_a_time_limit_follows_the_last_checkpoint_and_evaluation);
    suite_add_tcase(s, tests);
    return s;
}

WEIR_TEST_MAIN(suite())
