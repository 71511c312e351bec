/* Tables under every option that has no budget, against the oracle (table_model.h). */
#include "tests/suite.h"
#include "tests/unit/table_cases.h"
#include "tests/unit/table_trial.h"

static weir_segment_t segment_of(const char *name, uint32_t dim, weir_optimizer_kind_t kind,
                                 weir_precision_t precision) {
    weir_segment_t segment = table_case(kind, dim, 0.01, 0).row.segments[0];
    (void)snprintf(segment.name, sizeof segment.name, "%s", name);
    segment.precision = precision;
    return segment;
}

/* Few slots, so that many keys share one. */
static table_trial_t trial_of(uint64_t seed, uint64_t steps) {
    table_trial_t trial = {.seed = seed,
                           .options = table_case(WEIR_OPTIMIZER_ADAGRAD, 4, 0.05, seed),
                           .steps = table_trial_steps(steps),
                           .universe = 2000,
                           .pulls = 3,
                           .batch = 300,
                           .spoiled = 20,
                           .forgotten = 50};
    trial.options.first_slot = 1000;
    trial.options.end_slot = 1040;
    return trial;
}

START_TEST(every_optimizer_in_every_precision_makes_the_records_of_single_updates) {
    for (weir_optimizer_kind_t kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        table_trial_t trial = trial_of((uint64_t)_i * 100 + (uint64_t)kind, 24);
        trial.universe = 500;
        trial.options.row.segments[0] = segment_of("", 7, kind, (weir_precision_t)_i);
        (void)table_trial_run(&trial);
    }
}
END_TEST

START_TEST(every_optimizer_makes_them_with_clipping_and_a_schedule) {
    table_trial_t trial = trial_of(600 + (uint64_t)_i, 24);
    weir_segment_t *segment = &trial.options.row.segments[0];
    *segment = segment_of("", 5, (weir_optimizer_kind_t)_i, WEIR_PRECISION_SPLIT_BF16);
    segment->optimizer.clip_value = 0.8;
    segment->optimizer.clip_norm = 1.0;
    segment->optimizer.schedule = (weir_schedule_t){
        .kind = WEIR_SCHEDULE_COSINE, .warmup_steps = 5, .decay_steps = 40, .floor = 0.1};
    (void)table_trial_run(&trial);
}
END_TEST

START_TEST(segments_of_one_row_have_their_own_optimizer_and_precision) {
    table_trial_t trial = trial_of(700, 120);
    weir_row_schema_t *row = &trial.options.row;
    row->segment_count = 4;
    row->segments[0] = segment_of("wide", 33, WEIR_OPTIMIZER_ADAMW, WEIR_PRECISION_INT8);
    row->segments[1] = segment_of("bias", 1, WEIR_OPTIMIZER_SGD, WEIR_PRECISION_F32);
    row->segments[2] = segment_of("half", 6, WEIR_OPTIMIZER_FTRL, WEIR_PRECISION_F16);
    row->segments[3] = segment_of("split", 9, WEIR_OPTIMIZER_GROUP_ADAM, WEIR_PRECISION_SPLIT_BF16);
    row->segments[1].initializer = WEIR_INITIALIZER_CONSTANT;
    row->segments[2].initializer = WEIR_INITIALIZER_UNIFORM;
    trial.servers = 2;
    trial.rescue = 11;
    (void)table_trial_run(&trial);
}
END_TEST

START_TEST(one_two_and_three_servers_hold_the_same_rows) {
    table_trial_t trial = trial_of(800, 300);
    trial.universe = 8000;
    trial.servers = (uint32_t)_i;
    trial.rescue = 37;
    trial.options.owners = _i == 2; /* which changes nothing */
    table_trial_result_t result = table_trial_run(&trial);
    ck_assert_uint_ge(result.born, 6000);
}
END_TEST

START_TEST(rows_expire_by_their_last_use_whoever_sweeps) {
    table_trial_t trial = trial_of(900 + (uint64_t)_i, 400);
    trial.options.ttl = (uint64_t)_i;
    trial.universe = 6000;
    trial.hot = 500;
    trial.drift = 40;
    trial.batch = 200;
    trial.rescue = 29;
    trial.servers = (uint32_t)_i % 3 + 1;
    table_trial_result_t result = table_trial_run(&trial);
    ck_assert_uint_ge(result.expired, 200);
    ck_assert_uint_lt(result.most_rows, 6000 - 1000); /* their memory comes back */
}
END_TEST

START_TEST(keys_are_admitted_by_chance_each_step_anew) {
    table_trial_t trial = trial_of(1000 + (uint64_t)_i, 200);
    trial.options.admission = WEIR_ADMISSION_PROBABILITY;
    trial.options.admission_probability = 0.1;
    trial.options.ttl = _i == 0 ? 0 : 5;
    trial.rescue = 31;
    table_trial_result_t result = table_trial_run(&trial);
    ck_assert_uint_ge(result.rejected, 5000);
    ck_assert_uint_ge(result.born, 1000);
}
END_TEST

START_TEST(keys_are_admitted_when_they_were_seen_in_enough_steps) {
    table_trial_t trial = trial_of(1100 + (uint64_t)_i, 200);
    trial.options.admission = WEIR_ADMISSION_FREQUENCY;
    trial.options.admission_threshold = 4;
    trial.options.admission_counters = 8192;
    trial.options.admission_window = _i % 2 == 0 ? 0 : 7;
    trial.options.ttl = _i < 2 ? 0 : 6;
    trial.universe = 3000;
    trial.batch = 120;
    trial.rescue = 23;
    table_trial_result_t result = table_trial_run(&trial);
    ck_assert_uint_ge(result.rejected, 2000);
    ck_assert_uint_ge(result.born, 100);
}
END_TEST

static Suite *table_options_suite(void) {
    Suite *suite = suite_create("table_options");
    TCase *tests = tcase_create("options");
    tcase_set_timeout(tests, 0);
    tcase_add_loop_test(tests,
                        every_optimizer_in_every_precision_makes_the_records_of_single_updates, 0,
                        WEIR_PRECISION_COUNT);
    tcase_add_loop_test(tests, every_optimizer_makes_them_with_clipping_and_a_schedule, 0,
                        WEIR_OPTIMIZER_COUNT);
    tcase_add_test(tests, segments_of_one_row_have_their_own_optimizer_and_precision);
    tcase_add_loop_test(tests, one_two_and_three_servers_hold_the_same_rows, 1, 4);
    tcase_add_loop_test(tests, rows_expire_by_their_last_use_whoever_sweeps, 1, 7);
    tcase_add_loop_test(tests, keys_are_admitted_by_chance_each_step_anew, 0, 2);
    tcase_add_loop_test(tests, keys_are_admitted_when_they_were_seen_in_enough_steps, 0, 4);
    suite_add_tcase(suite, tests);
    return suite;
}

WEIR_TEST_MAIN(table_options_suite())
