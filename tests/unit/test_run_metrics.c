#include "tests/suite.h"
#include "tools/run_metrics.h"

#include <math.h>
#include <string.h>

static weir_error_t error;

static weir_err_t parse(const char *text, FILE *complaints, weir_run_metrics_t *metrics) {
    return weir_run_metrics_parse(text, strlen(text), "m", complaints, metrics, &error);
}

START_TEST(every_kind_of_line_is_read) {
    weir_run_metrics_t m = {0};
    const char *text =
        "{\"kind\":\"start\",\"t\":0.1,\"step\":0,\"time\":\"2026-01-02T03:04:05Z\",\"ps\":2,"
        "\"workers\":3,\"parameters\":77,\"total_steps\":40,\"steps_per_epoch\":20}\n"
        "{\"kind\":\"train\",\"t\":1.5,\"step\":10,\"epoch\":0.5,\"loss\":null,"
        "\"tokens_per_second\":9e4,\"pull_wait\":0.25}\n"
        "{\"kind\":\"eval\",\"t\":2,\"step\":10,\"epoch\":0.5,\"split\":\"validation\",\"users\":5,"
        "\"hr@10\":0.5,\"ndcg@10\":0.25,\"mrr\":0.125,\"best\":true}\n"
        "{\"kind\":\"checkpoint\",\"t\":3,\"step\":10,\"seconds\":0.5,\"best\":true}\n"
        "{\"kind\":\"of the future\",\"t\":3,\"step\":10}\n"
        "{\"kind\":\"end\",\"t\":4,\"step\":10,\"reason\":\"stopped\"}\n";
    ck_assert_int_eq(parse(text, NULL, &m), WEIR_OK);
    ck_assert_uint_eq(m.lines, 6);
    ck_assert_uint_eq(m.bad_lines, 0);
    ck_assert_uint_eq(m.starts, 1);
    ck_assert_str_eq(m.started, "2026-01-02T03:04:05Z");
    ck_assert_double_eq(m.workers, 3.0);
    ck_assert_double_eq(m.steps_per_epoch, 20.0);
    ck_assert_uint_eq(m.train_count, 1);
    ck_assert(isnan(m.train[0].loss));
    ck_assert(isnan(m.train[0].compute));
    ck_assert_double_eq(m.train[0].tokens_per_second, 9e4);
    ck_assert_double_eq(m.train[0].pull_wait, 0.25);
    ck_assert_uint_eq(m.eval_count, 1);
    ck_assert_int_eq(m.evals[0].split, WEIR_RUN_VALIDATION);
    ck_assert_double_eq(m.evals[0].values[WEIR_RUN_NDCG_10], 0.25);
    ck_assert(isnan(m.evals[0].values[WEIR_RUN_HR_50]));
    ck_assert(m.evals[0].best);
    ck_assert_uint_eq(m.checkpoint_count, 1);
    ck_assert(m.ended);
    ck_assert_str_eq(m.reason, "stopped");
    ck_assert_double_eq(m.last_step, 10.0);
    ck_assert_double_eq(m.last_t, 4.0);
    weir_run_metrics_fini(&m);
}
END_TEST

START_TEST(bad_lines_are_told_by_number_and_skipped) {
    weir_run_metrics_t m = {0};
    char *told = NULL;
    size_t size = 0;
    FILE *complaints = open_memstream(&told, &size);
    const char *text = "{\"kind\":\"train\",\"step\":1,\"loss\":2}\n"
                       "nonsense\n"
                       "[1, 2]\n"
                       "\n"
                       "{\"kind\":\"train\",\"step\":-1}\n"
                       "{\"kind\":\"eval\",\"step\":1,\"split\":\"<b>\"}\n"
                       "{\"kind\":\"train\",\"step\":2,\"loss\":1}\n"
                       "{\"kind\":\"train\",\"ste";
    ck_assert_int_eq(parse(text, complaints, &m), WEIR_OK);
    (void)fclose(complaints);
    ck_assert_uint_eq(m.lines, 8);
    ck_assert_uint_eq(m.bad_lines, 6);
    ck_assert_uint_eq(m.train_count, 2);
    ck_assert_double_eq(m.train[1].loss, 1.0);
    ck_assert_ptr_nonnull(strstr(told, "m: line 2 skipped: not JSON\n"));
    ck_assert_ptr_nonnull(strstr(told, "m: line 3 skipped: not an object with a kind\n"));
    ck_assert_ptr_nonnull(strstr(told, "m: line 5 skipped: without a step\n"));
    ck_assert_ptr_nonnull(strstr(told, "m: line 6 skipped: the split is neither"));
    ck_assert_ptr_nonnull(strstr(told, "m: line 8 skipped: not JSON\n"));
    ck_assert_ptr_null(strstr(told, "line 7"));
    free(told);
    weir_run_metrics_fini(&m);
}
END_TEST

START_TEST(a_file_without_a_good_line_is_refused) {
    weir_run_metrics_t m = {0};
    ck_assert_int_eq(parse("", NULL, &m), WEIR_ERR_CORRUPT);
    ck_assert_str_eq(error.message, "m is empty");
    ck_assert_int_eq(parse("x\ny\n", NULL, &m), WEIR_ERR_CORRUPT);
    ck_assert_str_eq(error.message, "m: not one of its 2 lines is good");
    ck_assert_int_eq(weir_run_metrics_read("/nonexistent/m", NULL, &m, &error), WEIR_ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_run_that_went_on_has_not_ended) {
    weir_run_metrics_t m = {0};
    const char *text = "{\"kind\":\"start\",\"step\":0,\"time\":\"first\",\"ps\":1}\n"
                       "{\"kind\":\"end\",\"step\":5,\"reason\":\"stopped\"}\n"
                       "{\"kind\":\"start\",\"step\":5,\"time\":\"second\",\"ps\":4}\n";
    ck_assert_int_eq(parse(text, NULL, &m), WEIR_OK);
    ck_assert(!m.ended);
    ck_assert_uint_eq(m.starts, 2);
    ck_assert_str_eq(m.started, "first");
    ck_assert_double_eq(m.ps, 4.0);
    weir_run_metrics_fini(&m);
}
END_TEST

START_TEST(many_lines_are_all_kept) {
    enum { LINES = 1000 };
    weir_run_metrics_t m = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    for (int i = 0; i < LINES; i++) {
        (void)fprintf(stream, "{\"kind\":\"train\",\"step\":%d,\"loss\":%d}\n", i, LINES - i);
    }
    (void)fclose(stream);
    ck_assert_int_eq(weir_run_metrics_parse(text, size, "m", NULL, &m, &error), WEIR_OK);
    ck_assert_uint_eq(m.train_count, LINES);
    for (int i = 0; i < LINES; i++) {
        ck_assert_double_eq(m.train[i].loss, LINES - i);
    }
    free(text);
    weir_run_metrics_fini(&m);
}
END_TEST

/* Beyond what is kept, evenly spaced ones are, and the last. */
START_TEST(a_long_run_is_thinned_out_evenly) {
    enum { LINES = 2 * WEIR_RUN_MOST_TRAIN + 2 };
    weir_run_metrics_t m = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    for (int i = 0; i < LINES; i++) {
        (void)fprintf(stream, "{\"kind\":\"train\",\"step\":%d,\"loss\":%d}\n", i, i);
    }
    (void)fclose(stream);
    ck_assert_int_eq(weir_run_metrics_parse(text, size, "m", NULL, &m, &error), WEIR_OK);
    ck_assert_uint_eq(m.lines, LINES);
    ck_assert_uint_eq(m.train_lines, LINES);
    ck_assert_uint_eq(m.train_stride, 4);
    ck_assert_uint_eq(m.train_count, LINES / 4 + 1 + 1);
    for (size_t i = 0; i + 1 < m.train_count; i++) {
        ck_assert_double_eq(m.train[i].step, 4.0 * (double)i);
    }
    ck_assert_double_eq(m.train[m.train_count - 1].step, LINES - 1);
    free(text);
    weir_run_metrics_fini(&m);
}
END_TEST

/* A line without an end takes no more memory than one that is too long, and the next is read. */
START_TEST(a_line_too_long_is_skipped) {
    enum { LONG = 3 << 20 };
    static const char good[] = "\n{\"kind\":\"train\",\"step\":7,\"loss\":1}\n";
    weir_run_metrics_t m = {0};
    char *text = calloc(1, LONG + sizeof good);
    ck_assert_ptr_nonnull(text);
    memset(text, '{', LONG);
    memcpy(text + LONG, good, sizeof good - 1);
    ck_assert_int_eq(weir_run_metrics_parse(text, LONG + sizeof good - 1, "m", NULL, &m, &error),
                     WEIR_OK);
    ck_assert_uint_eq(m.bad_lines, 1);
    ck_assert_uint_eq(m.train_count, 1);
    ck_assert_double_eq(m.train[0].step, 7);
    free(text);
    weir_run_metrics_fini(&m);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("run_metrics");
    TCase *t = tcase_create("run_metrics");
    tcase_add_test(t, every_kind_of_line_is_read);
    tcase_add_test(t, bad_lines_are_told_by_number_and_skipped);
    tcase_add_test(t, a_file_without_a_good_line_is_refused);
    tcase_add_test(t, a_run_that_went_on_has_not_ended);
    tcase_add_test(t, many_lines_are_all_kept);
    tcase_add_test(t, a_long_run_is_thinned_out_evenly);
    tcase_add_test(t, a_line_too_long_is_skipped);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
