/* metrics.jsonl: what is written, and what is left of it after a restart. */
#include "common/file.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "worker/run_log.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_LINES = 64 };

static weir_scratch_t scratch;
static char path[600];
static json_t *lines[MAX_LINES];
static size_t line_count;

static void begin(void) {
    weir_scratch_init(&scratch);
    (void)snprintf(path, sizeof path, "%s/metrics.jsonl", scratch.path);
}

static void forget_lines(void) {
    while (line_count > 0) {
        json_decref(lines[--line_count]);
    }
}

static void end(void) {
    forget_lines();
    weir_scratch_fini(&scratch);
}

static weir_run_log_t *open_log(uint64_t step, double seconds) {
    weir_run_log_t *log = NULL;
    weir_error_t error = {0};
    ck_assert_msg(weir_run_log_open(scratch.path, step, seconds, &log, &error) == WEIR_OK, "%s",
                  error.message);
    return log;
}

/* Every line must be an object. */
static void read_lines(void) {
    char *text = NULL;
    size_t size = 0;
    forget_lines();
    ck_assert_int_eq(weir_file_read(path, 1 << 20, &text, &size, NULL), WEIR_OK);
    for (size_t at = 0; at < size;) {
        const char *newline = memchr(text + at, '\n', size - at);
        json_error_t error;
        ck_assert_ptr_nonnull(newline);
        size_t length = (size_t)(newline - text) - at;
        ck_assert_uint_lt(line_count, MAX_LINES);
        lines[line_count] = json_loadb(text + at, length, 0, &error);
        ck_assert_msg(json_is_object(lines[line_count]), "line %zu: %s", line_count, error.text);
        line_count++;
        at += length + 1;
    }
    free(text);
}

static double real_of(size_t line, const char *name) {
    json_t *value = json_object_get(lines[line], name);
    ck_assert_msg(json_is_number(value), "line %zu: %s", line, name);
    return json_number_value(value);
}

static const char *kind_of(size_t line) {
    const char *kind = json_string_value(json_object_get(lines[line], "kind"));
    ck_assert_ptr_nonnull(kind);
    return kind;
}

static void log_interval(weir_run_log_t *log, uint64_t step, double loss) {
    weir_run_interval_t interval = {
        .step = step, .total_steps = 100, .steps_per_epoch = 10, .loss = loss};
    weir_run_log_interval(log, &interval);
}

START_TEST(every_kind_of_line_says_what_it_was_given) {
    weir_run_log_t *log = open_log(0, 50.0);
    weir_run_start_t start = {
        .ps = 2, .workers = 3, .total_steps = 100, .steps_per_epoch = 10, .parameters = 77};
    weir_metrics_t metrics = {.users = 4, .hr = {1, 2, 3, 4}, .mrr = 1.0};
    weir_run_log_start(log, &start);
    log_interval(log, 20, 3.5);
    const weir_run_evaluation_t of = {
        .step = 20, .epoch = 2.0, .split = "validation", .seconds = 0.5, .best = true};
    weir_run_log_evaluation(log, &of, &metrics);
    weir_run_log_checkpoint(log, 20, 0.25, true);
    weir_run_log_end(log, 20, "finished");
    ck_assert(weir_run_log_seconds(log) >= 50.0);
    weir_run_log_close(log);
    read_lines();
    ck_assert_uint_eq(line_count, 5);
    const char *const kinds[] = {"start", "train", "eval", "checkpoint", "end"};
    for (size_t i = 0; i < 5; i++) {
        ck_assert_str_eq(kind_of(i), kinds[i]);
        ck_assert(real_of(i, "t") >= 50.0);
        ck_assert_int_eq(json_integer_value(json_object_get(lines[i], "step")), i == 0 ? 0 : 20);
    }
    ck_assert_int_eq(json_integer_value(json_object_get(lines[0], "workers")), 3);
    ck_assert_double_eq_tol(real_of(1, "loss"), 3.5, 1e-9);
    ck_assert_double_eq_tol(real_of(1, "epoch"), 2.0, 1e-9);
    ck_assert_double_eq_tol(real_of(2, "hr@10"), 0.5, 1e-9);
    ck_assert_double_eq_tol(real_of(2, "mrr"), 0.25, 1e-9);
    ck_assert(json_is_true(json_object_get(lines[2], "best")));
    ck_assert_str_eq(json_string_value(json_object_get(lines[4], "reason")), "finished");
}
END_TEST

START_TEST(a_number_that_is_not_finite_is_null) {
    weir_run_log_t *log = open_log(0, 0.0);
    log_interval(log, 1, (double)NAN);
    log_interval(log, 2, (double)INFINITY);
    weir_run_log_close(log);
    read_lines();
    ck_assert_uint_eq(line_count, 2);
    ck_assert(json_is_null(json_object_get(lines[0], "loss")));
    ck_assert(json_is_null(json_object_get(lines[1], "loss")));
}
END_TEST

/* Steps 0 (start), 10, 20, 30 are there; training goes on at `_i`. */
START_TEST(a_restart_removes_the_lines_of_steps_that_are_done_again) {
    weir_run_start_t start = {.total_steps = 100, .steps_per_epoch = 10};
    weir_run_log_t *log = open_log(0, 0.0);
    weir_run_log_start(log, &start);
    for (uint64_t step = 10; step <= 30; step += 10) {
        log_interval(log, step, 1.0);
    }
    weir_run_log_close(log);
    log = open_log((uint64_t)_i, 7.0);
    log_interval(log, (uint64_t)_i + 10, 2.0);
    weir_run_log_close(log);
    read_lines();
    size_t kept = 1 + (size_t)_i / 10;
    ck_assert_uint_eq(line_count, kept + 1);
    ck_assert_str_eq(kind_of(0), "start");
    for (size_t i = 1; i < kept; i++) {
        ck_assert_double_eq_tol(real_of(i, "step"), 10.0 * (double)i, 1e-9);
        ck_assert_double_eq_tol(real_of(i, "loss"), 1.0, 1e-9);
    }
    ck_assert_double_eq_tol(real_of(kept, "loss"), 2.0, 1e-9);
}
END_TEST

START_TEST(a_hostile_file_loses_what_is_no_line_of_ours) {
    static const char hostile[] = "{\"step\": 1, \"kind\": \"train\"}\n"
                                  "\n"
                                  "not json\n"
                                  "[1, 2]\n"
                                  "{}\n"
                                  "{\"step\": -1}\n"
                                  "{\"step\": 1.5}\n"
                                  "{\"step\": \"1\"}\n"
                                  "{\"step\": 99999999999999999999999}\n"
                                  "{\"step\": 9223372036854775807}\n"
                                  "\xff\xfe\x00{\"step\": 1}\n"
                                  "{\"step\": 1, \"kind\": \"a\x00z\"}\n"
                                  "{\"step\": 2, \"kind\": \"eval\"} \n"
                                  "{\"step\": 2} {\"step\": 2}\n"
                                  "{\"step\": 2, \"kind\": \"cut";
    ck_assert_int_eq(weir_file_replace(path, hostile, sizeof hostile - 1, NULL), WEIR_OK);
    weir_run_log_t *log = open_log(5, 0.0);
    log_interval(log, 6, 1.0);
    weir_run_log_close(log);
    read_lines();
    ck_assert_uint_eq(line_count, 3);
    ck_assert_double_eq_tol(real_of(0, "step"), 1.0, 1e-9);
    ck_assert_str_eq(kind_of(1), "eval");
    ck_assert_double_eq_tol(real_of(2, "step"), 6.0, 1e-9);
}
END_TEST

START_TEST(deep_nesting_and_an_endless_line_are_survived) {
    size_t size = 3u << 20;
    char *text = malloc(size);
    ck_assert_ptr_nonnull(text);
    memset(text, '[', size);
    text[size / 2] = '\n';
    ck_assert_int_eq(weir_file_replace(path, text, size, NULL), WEIR_OK);
    free(text);
    weir_run_log_close(open_log(5, 0.0));
    read_lines();
    ck_assert_uint_eq(line_count, 0);
}
END_TEST

/* Lines of step 1, a hole of `hole` bytes that is no line of ours, `tail` at the end. */
static void write_long_file(off_t hole, const char *tail) {
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_gt(fputs("{\"step\": 1}\n", file), 0);
    ck_assert_int_eq(fseeko(file, hole, SEEK_CUR), 0);
    ck_assert_int_gt(fprintf(file, "\n%s", tail), 0);
    ck_assert_int_eq(fclose(file), 0);
}

static size_t size_of_file(void) {
    struct stat status;
    ck_assert_int_eq(stat(path, &status), 0);
    return (size_t)status.st_size;
}

START_TEST(a_file_of_any_length_is_cut_after_the_last_line_that_stays) {
    static const char kept[] = "{\"step\": 2}\n{\"step\": 5, \"kind\": \"eval\"}\n";
    const size_t before = strlen("{\"step\": 1}\n"), hole = (size_t)3 << 30;
    char tail[256];
    (void)snprintf(tail, sizeof tail, "%s{\"step\": 6}\nnot json\n{\"step\": 4, \"cut", kept);
    write_long_file((off_t)hole, tail);
    weir_run_log_close(open_log(5, 0.0));
    ck_assert_uint_eq(size_of_file(), before + hole + 1 + strlen(kept));
    weir_run_log_close(open_log(2, 0.0)); /* one line less */
    ck_assert_uint_eq(size_of_file(), before + hole + 1 + strlen("{\"step\": 2}\n"));
}
END_TEST

/* The line that stays lies many windows before the end, and a line may be longer than a window. */
START_TEST(all_of_a_long_file_may_go_but_its_first_line) {
    write_long_file((off_t)100 << 20, "{\"step\": 6}\n{\"step\": 7}\n");
    weir_run_log_close(open_log(5, 0.0));
    ck_assert_uint_eq(size_of_file(), strlen("{\"step\": 1}\n"));
    write_long_file((off_t)100 << 20, "{\"step\": 6}\n");
    weir_run_log_close(open_log(0, 0.0));
    ck_assert_uint_eq(size_of_file(), 0);
}
END_TEST

/* Only the line of step 5 stays, wherever the reads of the file begin and end: it starts at another
 * byte each time. */
START_TEST(a_line_that_lies_across_two_reads_is_met_whole) {
    enum { FROM_END = 8 << 20, LATER = 1 << 16 };
    static const char kept[] = "{\"step\": 5}\n";
    char *later = malloc(FROM_END);
    ck_assert_ptr_nonnull(later);
    for (size_t i = 0; i < FROM_END; i += LATER) {
        memset(later + i, ' ', LATER);
        memcpy(later + i, "{\"step\": 6}", strlen("{\"step\": 6}"));
        later[i + LATER - 1] = '\n';
    }
    for (size_t shift = 0; shift < sizeof kept; shift++) {
        write_long_file((off_t)20 << 20, kept);
        size_t wanted = size_of_file(), more = FROM_END - shift;
        FILE *file = fopen(path, "ab");
        ck_assert_ptr_nonnull(file);
        ck_assert_uint_eq(fwrite(later + shift, 1, more, file), more);
        ck_assert_int_eq(fclose(file), 0);
        weir_run_log_close(open_log(5, 0.0));
        ck_assert_uint_eq(size_of_file(), wanted);
    }
    free(later);
}
END_TEST

START_TEST(a_run_that_is_not_there_is_refused_by_name) {
    char missing[700];
    weir_run_log_t *log = NULL;
    weir_error_t error = {0};
    (void)snprintf(missing, sizeof missing, "%s/none", scratch.path);
    ck_assert_int_eq(weir_run_log_open(missing, 0, 0.0, &log, &error), WEIR_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "none/metrics.jsonl"));
    ck_assert_ptr_null(log);
    weir_run_log_close(NULL);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("run_log");
    TCase *t = tcase_create("run_log");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, every_kind_of_line_says_what_it_was_given);
    tcase_add_test(t, a_number_that_is_not_finite_is_null);
    tcase_add_loop_test(t, a_restart_removes_the_lines_of_steps_that_are_done_again, 0, 1);
    tcase_add_loop_test(t, a_restart_removes_the_lines_of_steps_that_are_done_again, 20, 21);
    tcase_add_loop_test(t, a_restart_removes_the_lines_of_steps_that_are_done_again, 29, 31);
    tcase_add_test(t, a_hostile_file_loses_what_is_no_line_of_ours);
    tcase_add_test(t, deep_nesting_and_an_endless_line_are_survived);
    tcase_add_test(t, a_file_of_any_length_is_cut_after_the_last_line_that_stays);
    tcase_add_test(t, all_of_a_long_file_may_go_but_its_first_line);
    tcase_add_test(t, a_line_that_lies_across_two_reads_is_met_whole);
    tcase_add_test(t, a_run_that_is_not_there_is_refused_by_name);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
