#include "common/file.h"
#include "common/run_dir.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static weir_scratch_t scratch;
static char run[600];

static void begin(void) {
    weir_scratch_init(&scratch);
    (void)snprintf(run, sizeof run, "%s/deep/run", scratch.path);
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

/* A second process that takes the lock, says so through the pipe, and lives until it is killed. */
static pid_t start_owner(void) {
    int ready[2];
    char byte = 0;
    ck_assert_int_eq(pipe(ready), 0);
    pid_t owner = fork();
    ck_assert_int_ge(owner, 0);
    if (owner == 0) {
        weir_run_lock_t lock = {-1};
        byte = weir_run_dir_acquire(run, false, &lock, NULL) == WEIR_OK ? 'y' : 'n';
        if (write(ready[1], &byte, 1) == 1) {
            (void)close(ready[1]);
            (void)pause();
        }
        _exit(0);
    }
    (void)close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    ck_assert_int_eq(byte, 'y');
    return owner;
}

START_TEST(a_second_process_is_refused_and_told_whose_the_run_is) {
    weir_run_lock_t lock = {-1};
    weir_error_t error = {0};
    char named[64], host[64];
    pid_t owner = start_owner();
    ck_assert_int_eq(weir_run_dir_acquire(run, true, &lock, &error), WEIR_ERR_EXISTS);
    ck_assert_int_eq(lock.fd, -1);
    (void)snprintf(named, sizeof named, "pid %ld ", (long)owner);
    ck_assert_msg(strstr(error.message, named) != NULL, "%s", error.message);
    ck_assert_int_eq(gethostname(host, sizeof host), 0);
    ck_assert_ptr_nonnull(strstr(error.message, host));
    ck_assert_str_ne(error.hint, "");
    /* The lock goes with its process, also when that is killed. */
    ck_assert_int_eq(kill(owner, SIGKILL), 0);
    ck_assert_int_eq(waitpid(owner, NULL, 0), owner);
    ck_assert_int_eq(weir_run_dir_acquire(run, false, &lock, &error), WEIR_OK);
    weir_run_dir_release(run, &lock);
}
END_TEST

START_TEST(a_second_acquire_in_one_process_is_refused_and_release_frees) {
    weir_run_lock_t lock = {-1}, second = {-1};
    ck_assert_int_eq(weir_run_dir_acquire(run, false, &lock, NULL), WEIR_OK);
    ck_assert_int_eq(weir_run_dir_acquire(run, false, &second, NULL), WEIR_ERR_EXISTS);
    ck_assert(!weir_run_dir_is_free(run));
    weir_run_dir_release(run, &second); /* never taken: nothing happens */
    ck_assert_int_eq(weir_run_dir_acquire(run, false, &second, NULL), WEIR_ERR_EXISTS);
    weir_run_dir_release(run, &lock);
    ck_assert_int_eq(lock.fd, -1);
    ck_assert(weir_run_dir_is_free(run));
    ck_assert_int_eq(weir_run_dir_acquire(run, false, &second, NULL), WEIR_OK);
    weir_run_dir_release(run, &second);
}
END_TEST

START_TEST(a_folder_that_holds_a_run_needs_resume) {
    static const char *const marks[] = {"config.yaml", "checkpoints"};
    for (size_t i = 0; i < 2; i++) {
        weir_run_lock_t lock = {-1};
        weir_error_t error = {0};
        char mark[700];
        (void)snprintf(run, sizeof run, "%s/run-%zu", scratch.path, i);
        (void)snprintf(mark, sizeof mark, "%s/%s", run, marks[i]);
        ck_assert_int_eq(weir_file_make_directories(mark, NULL), WEIR_OK);
        ck_assert_int_eq(weir_run_dir_acquire(run, false, &lock, &error), WEIR_ERR_EXISTS);
        ck_assert_ptr_nonnull(strstr(error.message, "holds a run already"));
        ck_assert_ptr_nonnull(strstr(error.hint, "--resume continues it"));
        ck_assert_int_eq(weir_run_dir_acquire(run, true, &lock, &error), WEIR_OK);
        weir_run_dir_release(run, &lock);
    }
}
END_TEST

START_TEST(a_file_in_the_way_is_named) {
    weir_run_lock_t lock = {-1};
    weir_error_t error = {0};
    (void)snprintf(run, sizeof run, "%s/file", scratch.path);
    ck_assert_int_eq(weir_file_replace(run, "", 0, NULL), WEIR_OK);
    ck_assert_int_eq(weir_run_dir_acquire(run, false, &lock, &error), WEIR_ERR_EXISTS);
    ck_assert_ptr_nonnull(strstr(error.message, "not a folder"));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("run_dir");
    TCase *t = tcase_create("run_dir");
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, a_second_process_is_refused_and_told_whose_the_run_is);
    tcase_add_test(t, a_second_acquire_in_one_process_is_refused_and_release_frees);
    tcase_add_test(t, a_folder_that_holds_a_run_needs_resume);
    tcase_add_test(t, a_file_in_the_way_is_named);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
