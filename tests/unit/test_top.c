#include "tests/suite.h"
#include "tools/top_view.h"

#include <math.h>
#include <string.h>

static char worker[] = "worker", server[] = "ps", host[] = "node", empty[] = "", version[] = "0";

static weir_top_t *take(uint64_t job, uint64_t pid, uint64_t step, double tokens, double at,
                        const weir_top_t *before) {
    uint32_t numbers[] = {WEIR_METRIC_TOKENS, WEIR_METRIC_RESIDENT_BYTES};
    double values[] = {tokens, 1048576.0};
    Weir__Control__RankStatus rows[2] = {WEIR__CONTROL__RANK_STATUS__INIT,
                                         WEIR__CONTROL__RANK_STATUS__INIT};
    Weir__Control__RankStatus *pointers[2] = {&rows[0], &rows[1]};
    Weir__Control__Status status = WEIR__CONTROL__STATUS__INIT;
    weir_top_t *top = NULL;
    for (uint32_t i = 0; i < 2; i++) {
        rows[i].rank = i + 1;
        rows[i].role = i == 0 ? server : worker;
        rows[i].host = host;
        rows[i].waits = empty;
        rows[i].pid = pid + i;
        rows[i].step = step;
    }
    rows[1].n_metric = rows[1].n_value = 2;
    rows[1].metric = numbers;
    rows[1].value = values;
    status.job = job;
    status.version = version;
    status.step = step;
    status.n_ranks = 2;
    status.ranks = pointers;
    ck_assert_int_eq(weir_top_take(&status, at, before, &top, NULL), WEIR_OK);
    return top;
}

START_TEST(rates_are_differences_by_time) {
    weir_top_t *before = take(1, 100, 50, 1000.0, 10.0, NULL);
    weir_top_t *now = take(1, 100, 60, 3000.0, 14.0, before);
    ck_assert(isnan(before->steps_per_second));
    ck_assert(!before->ranks[1].rates.set[WEIR_METRIC_TOKENS]);
    ck_assert_double_eq(now->steps_per_second, 2.5);
    ck_assert_double_eq(now->ranks[1].steps_per_second, 2.5);
    ck_assert(now->ranks[1].rates.set[WEIR_METRIC_TOKENS]);
    ck_assert_double_eq(now->ranks[1].rates.values[WEIR_METRIC_TOKENS], 500.0);
    ck_assert(!now->ranks[1].rates.set[WEIR_METRIC_RESIDENT_BYTES]);
    ck_assert(!now->ranks[0].rates.set[WEIR_METRIC_TOKENS]);
    free(before);
    free(now);
}
END_TEST

START_TEST(another_job_or_process_has_no_rate_nor_has_a_count_that_fell) {
    weir_top_t *before = take(1, 100, 50, 1000.0, 10.0, NULL);
    weir_top_t *job = take(2, 100, 60, 3000.0, 14.0, before);
    weir_top_t *process = take(1, 200, 60, 3000.0, 14.0, before);
    weir_top_t *fell = take(1, 100, 40, 900.0, 14.0, before);
    weir_top_t *same_time = take(1, 100, 60, 3000.0, 10.0, before);
    weir_top_t *const all[] = {job, process, fell, same_time};
    for (size_t i = 0; i < 4; i++) {
        ck_assert(!all[i]->ranks[1].rates.set[WEIR_METRIC_TOKENS]);
        ck_assert(isnan(all[i]->ranks[1].steps_per_second));
        free(all[i]);
    }
    free(before);
}
END_TEST

START_TEST(a_server_has_its_columns) {
    uint32_t numbers[] = {WEIR_METRIC_ROWS, WEIR_METRIC_COLD_ROWS, WEIR_METRIC_TABLE_BYTES,
                          WEIR_METRIC_RESIDENT_BYTES};
    double values[] = {1234.0, 5678.0, 2097152.0, 3145728.0};
    char *text = NULL;
    size_t size = 0;
    weir_top_t *top = take(1, 100, 50, 1000.0, 10.0, NULL);
    ck_assert(weir_rank_metrics_unpack(numbers, 4, values, 4, &top->ranks[0].metrics));
    FILE *out = open_memstream(&text, &size);
    weir_top_print(top, out);
    (void)fclose(out);
    char rows[32], cold[32], tables[32], tables_unit[8], resident[32], resident_unit[8];
    const char *line = strstr(strstr(text, "\nserver"), "\n     0 node");
    ck_assert_ptr_nonnull(line);
    ck_assert_int_eq(sscanf(line, " 0 node 50 %31s %31s %31s %7s - - - - - - %31s %7s", rows, cold,
                            tables, tables_unit, resident, resident_unit),
                     6);
    ck_assert_str_eq(rows, "1,234");
    ck_assert_str_eq(cold, "5,678");
    ck_assert_str_eq(tables, "2.0");
    ck_assert_str_eq(resident, "3.0");
    ck_assert_str_eq(resident_unit, "MiB");
    free(text);
    free(top);
}
END_TEST

START_TEST(what_is_not_known_is_a_dash_and_null) {
    char *text = NULL;
    size_t size = 0;
    weir_top_t *top = take(1, 100, 50, 1000.0, 10.0, NULL);
    FILE *out = open_memstream(&text, &size);
    weir_top_print(top, out);
    (void)fclose(out);
    ck_assert_ptr_nonnull(strstr(text, " - steps/s"));
    ck_assert_ptr_nonnull(strstr(text, "1.0 MiB"));
    ck_assert_ptr_null(strstr(text, "nan"));
    json_t *object = weir_top_to_json(top);
    ck_assert(json_is_null(json_object_get(object, "steps_per_second")));
    json_decref(object);
    free(text);
    free(top);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("top");
    TCase *t = tcase_create("top");
    tcase_add_test(t, rates_are_differences_by_time);
    tcase_add_test(t, another_job_or_process_has_no_rate_nor_has_a_count_that_fell);
    tcase_add_test(t, a_server_has_its_columns);
    tcase_add_test(t, what_is_not_known_is_a_dash_and_null);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
