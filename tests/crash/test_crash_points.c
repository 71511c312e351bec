/* A save is stopped at every call that changes a file; then what is left is loaded. And each of
 * these calls fails once; and a disk is full from there on. And the order of the calls is that
 * which survives a loss of power: nothing has its name before its bytes are on disk. */
#include "common/checkpoint.h"
#include "common/file.h"
#include "common/log.h"
#include "tests/crash/file_faults.h"
#include "tests/crash/saved_run.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Steps of the checkpoints that are there before, of the save in question, and of one after it. */
enum { OLDEST = 10, OLD = 20, NEW = 30, LATER = 40 };

typedef struct {
    const char *name;
    size_t rows;
    bool oldest; /* a checkpoint more is there, which the save prunes */
    bool best;
    uint64_t step; /* OLD: in the place of the one that is there */
    bool delta;    /* it builds on the one of OLD */
} scenario_t;

static const scenario_t scenarios[] = {
    {"first", 50, false, true, NEW, false},          {"next", 50, false, false, NEW, false},
    {"best", 50, false, true, NEW, false},           {"pruning", 50, true, false, NEW, false},
    {"replacing", 50, false, true, OLD, false},      {"empty", 0, true, true, NEW, false},
    {"large", 30000, false, false, NEW, false},      {"delta", 50, true, true, NEW, true},
    {"large delta", 30000, false, false, NEW, true},
};
enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

static weir_scratch_t scratch;
static char run[600];
static size_t points;

static void set_up(void) {
    weir_scratch_init(&scratch);
    weir_log_init("test", -1, WEIR_LOG_ERROR);
}

static void tear_down(void) {
    saved_run_forget();
    weir_scratch_fini(&scratch);
}

static saved_run_t shape_of(const scenario_t *scenario) {
    return (saved_run_t){.rows = scenario->rows};
}

static void save_well(const scenario_t *scenario, uint64_t step, bool best, size_t keep) {
    weir_error_t error = {0};
    saved_run_t shape = shape_of(scenario);
    ck_assert_msg(saved_run_save(&shape, run, step, best, keep, &error) == WEIR_OK, "%s: %s",
                  scenario->name, error.message);
}

static bool has_old(const scenario_t *scenario) {
    return strcmp(scenario->name, "first") != 0;
}

/* A run with what was saved before. */
static void make_run(const scenario_t *scenario) {
    static unsigned number;
    char name[32];
    (void)snprintf(name, sizeof name, "run%u", number++);
    (void)snprintf(run, sizeof run, "%s", weir_scratch_path(&scratch, name));
    if (scenario->oldest) {
        save_well(scenario, OLDEST, false, 9);
    }
    if (has_old(scenario)) {
        save_well(scenario, OLD, true, 9);
    }
    ck_assert_int_eq(weir_file_make_directories(run, NULL), WEIR_OK);
}

static void remove_run(void) {
    (void)nftw(run, weir_scratch_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static weir_err_t save_under_test(const scenario_t *scenario, weir_error_t *error) {
    saved_run_t shape = shape_of(scenario);
    shape.base = scenario->delta ? OLD : 0;
    return saved_run_save(&shape, run, scenario->step, scenario->best, 1, error);
}

/* What `where` leads to; its checkpoint is checked whole. 0: there is none. */
static uint64_t step_there(const scenario_t *scenario, const char *where, const char *when) {
    char path[700], folder[700];
    weir_error_t error = {0};
    uint64_t step = 0;
    saved_run_t shape = shape_of(scenario);
    (void)snprintf(path, sizeof path, "%s%s", run, where);
    if (weir_checkpoint_resolve(path, folder, sizeof folder, &error) != WEIR_OK) {
        return 0;
    }
    ck_assert_msg(saved_run_check(&shape, folder, &step, &error) == WEIR_OK, "%s, %s: %s: %s",
                  scenario->name, when, where, error.message);
    return step;
}

/* Everything that has a name is whole, the newest is the old state or the new one, and the next
 * save goes well and leaves no waste. */
static void check_left(const scenario_t *scenario, bool saved, const char *when) {
    uint64_t *steps = NULL;
    size_t count = 0;
    char name[64];
    ck_assert_int_eq(weir_checkpoint_list(run, &steps, &count, NULL), WEIR_OK);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "/checkpoints/step-%012llu",
                       (unsigned long long)steps[i]);
        ck_assert_uint_eq(step_there(scenario, name, when), steps[i]);
    }
    free(steps);
    uint64_t latest = step_there(scenario, "", when);
    uint64_t best = step_there(scenario, "/checkpoints/best", when);
    ck_assert_msg(latest == scenario->step || (!saved && latest == (has_old(scenario) ? OLD : 0u)),
                  "%s, %s: the latest is of step %llu", scenario->name, when,
                  (unsigned long long)latest);
    ck_assert_msg(best == (scenario->best ? scenario->step : OLD) ||
                      (!saved && best == (has_old(scenario) ? OLD : 0u)),
                  "%s, %s: the best is of step %llu", scenario->name, when,
                  (unsigned long long)best);
}

static void check_next_save(const scenario_t *scenario, const char *when) {
    char path[700];
    save_well(scenario, LATER, false, 2);
    ck_assert_uint_eq(step_there(scenario, "", when), LATER);
    (void)snprintf(path, sizeof path, "%s/checkpoints", run);
    DIR *folder = opendir(path);
    ck_assert_ptr_nonnull(folder);
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        ck_assert_msg(strstr(entry->d_name, "tmp") == NULL, "%s, %s: %s is left", scenario->name,
                      when, entry->d_name);
    }
    (void)closedir(folder);
}

/* ---- crashes ---- */

/* In a process of its own, which stops at call `at`; whether it came so far. */
static bool crash_at(const scenario_t *scenario, file_fault_t fault, size_t at) {
    int status = 0;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        weir_error_t error = {0};
        file_faults_begin(run, fault, at, 0);
        _exit(save_under_test(scenario, &error) == WEIR_OK ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_ne(WEXITSTATUS(status), 1);
    return WEXITSTATUS(status) == FILE_FAULT_EXIT;
}

static void crash_everywhere(const scenario_t *scenario, file_fault_t fault) {
    bool crashed = true;
    for (size_t at = 1; crashed; at++) {
        char when[64];
        make_run(scenario);
        crashed = crash_at(scenario, fault, at);
        (void)snprintf(when, sizeof when, "stopped at call %zu", at);
        check_left(scenario, !crashed, when);
        check_next_save(scenario, when);
        remove_run();
        points += crashed ? 1 : 0;
        ck_assert_uint_lt(at, 2000);
    }
}

START_TEST(a_save_that_is_stopped_anywhere_leaves_the_last_checkpoint_or_the_next) {
    crash_everywhere(&scenarios[_i], FILE_FAULT_CRASH);
}
END_TEST

START_TEST(a_write_that_is_stopped_in_its_middle_is_no_different) {
    crash_everywhere(&scenarios[_i], FILE_FAULT_CRASH_HALF);
}
END_TEST

/* ---- errors ---- */

static void fail_everywhere(const scenario_t *scenario, file_fault_t fault, int number) {
    for (size_t at = 1;; at++) {
        char when[64];
        weir_error_t error = {0};
        make_run(scenario);
        file_faults_begin(run, fault, at, number);
        weir_err_t err = save_under_test(scenario, &error);
        size_t calls = file_faults_end();
        (void)snprintf(when, sizeof when, "%s at call %zu", strerror(number), at);
        if (calls < at) {
            ck_assert_int_eq(err, WEIR_OK);
            remove_run();
            return;
        }
        /* Success may only be said when all is there. */
        check_left(scenario, err == WEIR_OK, when);
        ck_assert_msg(err == WEIR_OK || error.message[0] != '\0', "%s: no sentence", when);
        ck_assert_msg(err == WEIR_OK || number != ENOSPC || err == WEIR_ERR_DISK_FULL, "%s: %s",
                      when, weir_err_name(err));
        check_next_save(scenario, when);
        remove_run();
        points++;
    }
}

START_TEST(a_disk_that_is_full_from_any_call_on_costs_nothing_saved_before) {
    fail_everywhere(&scenarios[_i], FILE_FAULT_ERROR, ENOSPC);
}
END_TEST

START_TEST(a_call_that_fails_once_is_told_or_does_not_matter) {
    fail_everywhere(&scenarios[_i], FILE_FAULT_ERROR_ONCE, EIO);
}
END_TEST

/* ---- order ---- */

static bool is_in(const char *path, const char *folder) {
    size_t size = strlen(folder);
    return strncmp(path, folder, size) == 0 && path[size] == '/';
}

static bool is_of(const file_record_t *record, const char *path) {
    return strcmp(record->path, path) == 0;
}

/* Whether `path` (a file or a folder's entries) was synced after its last change before `end`. */
static bool is_synced(const file_record_t *records, size_t end, const char *path) {
    bool synced = true;
    for (size_t i = 0; i < end; i++) {
        const file_record_t *record = &records[i];
        bool entry = record->call != FILE_WRITE && record->call != FILE_SYNC &&
                     is_in(record->path, path) &&
                     strchr(record->path + strlen(path) + 1, '/') == NULL;
        if (entry || (record->call == FILE_WRITE && strcmp(record->path, path) == 0)) {
            synced = false;
        } else if (record->call == FILE_SYNC && strcmp(record->path, path) == 0) {
            synced = true;
        }
    }
    return synced;
}

/* The bytes of every file in `folder` under the name that it was written by. */
static void expect_files_synced(const file_record_t *records, size_t end, const char *folder) {
    for (size_t i = 0; i < end; i++) {
        if (records[i].call == FILE_WRITE && is_in(records[i].path, folder)) {
            ck_assert_msg(is_synced(records, end, records[i].path), "%s is not on disk",
                          records[i].path);
        }
    }
}

START_TEST(a_name_is_given_when_the_bytes_are_on_disk) {
    const scenario_t *scenario = &scenarios[_i];
    weir_error_t error = {0};
    size_t count, published = 0, named = 0;
    char last[64];
    make_run(scenario);
    file_faults_begin(run, FILE_FAULT_NONE, 0, 0);
    ck_assert_int_eq(save_under_test(scenario, &error), WEIR_OK);
    (void)file_faults_end();
    const file_record_t *records = file_faults_records(&count);
    (void)snprintf(last, sizeof last, "checkpoints/step-%012llu",
                   (unsigned long long)scenario->step);
    for (size_t i = 0; i < count; i++) {
        const file_record_t *record = &records[i];
        if (record->call != FILE_RENAME) {
            continue;
        }
        named = strstr(record->renamed, ".tmp") == NULL ? i : named;
        if (strcmp(record->renamed, last) == 0) { /* the checkpoint gets its name */
            expect_files_synced(records, i, record->path);
            ck_assert_msg(is_synced(records, i, record->path), "entries of %s", record->path);
            published = i;
            ck_assert_msg(!is_synced(records, i + 1, "checkpoints"), "the rule sees renames");
        } else if (strstr(record->renamed, ".safetensors") != NULL) { /* a file gets its name */
            ck_assert_msg(is_synced(records, i, record->path), "%s", record->path);
        }
        if (published > 0 && i > published) { /* what comes later needs the name on disk */
            bool synced = false;
            for (size_t j = published; j < i; j++) {
                synced =
                    synced || (records[j].call == FILE_SYNC && is_of(&records[j], "checkpoints"));
            }
            ck_assert_msg(synced, "%s moves before the checkpoint's name is on disk",
                          record->renamed);
        }
    }
    ck_assert_uint_gt(published, 0);
    bool synced = false;
    for (size_t i = named; i < count; i++) {
        synced = synced || (records[i].call == FILE_SYNC && is_of(&records[i], "checkpoints"));
    }
    ck_assert_msg(synced, "the last name is not on disk");
    remove_run();
}
END_TEST

START_TEST(there_were_enough_points) {
    ck_assert_msg(points >= 1000, "%zu points", points);
    (void)printf("crash points: %zu\n", points);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("crash_points");
    TCase *t = tcase_create("crash_points");
    tcase_set_timeout(t, 600);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, a_name_is_given_when_the_bytes_are_on_disk, 0, SCENARIOS);
    tcase_add_loop_test(t, a_save_that_is_stopped_anywhere_leaves_the_last_checkpoint_or_the_next,
                        0, SCENARIOS);
    tcase_add_loop_test(t, a_write_that_is_stopped_in_its_middle_is_no_different, 0, SCENARIOS);
    tcase_add_loop_test(t, a_disk_that_is_full_from_any_call_on_costs_nothing_saved_before, 0,
                        SCENARIOS);
    tcase_add_loop_test(t, a_call_that_fails_once_is_told_or_does_not_matter, 0, SCENARIOS);
    tcase_add_test(t, there_were_enough_points);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
