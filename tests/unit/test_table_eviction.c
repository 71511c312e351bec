/* Tables with a memory budget: who leaves, what that costs, and that nothing in use does. */
#include "ps/table_internal.h"
#include "tests/suite.h"
#include "tests/unit/table_cases.h"
#include "tests/unit/table_trial.h"

#include <malloc.h>
#include <math.h>

/* A budget of `rows` for all slots, of which the tables have `slots`. */
static table_trial_t trial_of(uint64_t seed, uint64_t rows, weir_slot_t slots, uint64_t steps) {
    table_trial_t trial = {.seed = seed,
                           .options = table_case(WEIR_OPTIMIZER_ADAGRAD, 3, 0.05, seed),
                           .steps = table_trial_steps(steps),
                           .pulls = 3,
                           .batch = 100,
                           .spoiled = 10,
                           .forgotten = 50};
    trial.options.first_slot = 5000;
    trial.options.end_slot = 5000 + slots;
    trial.options.memory_budget = weir_table_budget_for(&trial.options.row, rows);
    return trial;
}

/* Ten times as many keys as the budget holds. */
static table_trial_t overcommitted(uint64_t seed, uint64_t slot_rows, weir_slot_t slots,
                                   uint64_t steps) {
    /* Not as many for every slot: two in five have one row more. */
    const uint64_t rows = slot_rows * WEIR_SLOT_COUNT + WEIR_SLOT_COUNT * 2 / 5;
    table_trial_t trial = trial_of(seed, rows, slots, steps);
    trial.universe = 10 * slot_rows * slots;
    return trial;
}

START_TEST(the_least_valuable_rows_of_a_cell_leave) {
    for (uint64_t slot_rows = 4; slot_rows <= 256; slot_rows *= 4) {
        table_trial_t trial = overcommitted(10 * slot_rows + (uint64_t)_i, slot_rows,
                                            (weir_slot_t)(2048 / slot_rows), 600);
        trial.options.eviction = (weir_eviction_kind_t)_i;
        trial.rescue = 41;
        table_trial_result_t result = table_trial_run(&trial);
        ck_assert_uint_ge(result.evicted, 3000);
        ck_assert_uint_ge(result.settled, 1000);
    }
}
END_TEST

START_TEST(a_slot_of_many_rows_has_several_cells) {
    table_trial_t trial = trial_of(2000 + (uint64_t)_i, (uint64_t)8200 * WEIR_SLOT_COUNT, 3, 300);
    trial.options.eviction = (weir_eviction_kind_t)_i;
    trial.universe = 40000;
    trial.batch = 1000;
    trial.rescue = 51;
    table_trial_result_t result = table_trial_run(&trial);
    ck_assert_uint_ge(result.evicted, 3000);
}
END_TEST

START_TEST(a_budget_and_a_ttl_together_do_not_depend_on_servers_or_restarts) {
    table_trial_t trial = overcommitted(3000 + (uint64_t)_i, 64, 32, 800);
    trial.options.ttl = 4 + (uint64_t)_i;
    trial.options.eviction = (weir_eviction_kind_t)(_i % 2);
    trial.hot = 1500;
    trial.drift = 200 - 20 * (size_t)_i;
    trial.batch = 250;
    trial.servers = (uint32_t)_i % 3 + 1;
    trial.rescue = 23;
    table_trial_result_t result = table_trial_run(&trial);
    /* Trials are shorter under sanitizers. */
    ck_assert_uint_ge(result.evicted, 50);
    ck_assert_uint_ge(result.expired, 50);
}
END_TEST

START_TEST(keys_are_admitted_and_evicted) {
    table_trial_t trial = overcommitted(4000 + (uint64_t)_i, 64, 32, 600);
    trial.options.eviction = WEIR_EVICTION_LFU;
    trial.options.admission = _i == 0 ? WEIR_ADMISSION_PROBABILITY : WEIR_ADMISSION_FREQUENCY;
    trial.options.admission_probability = 0.3;
    trial.options.admission_threshold = 3;
    trial.options.admission_counters = 8192;
    trial.options.admission_window = 50;
    trial.hot = 2500;
    trial.drift = 20;
    trial.batch = 300;
    trial.rescue = 37;
    trial.servers = 2;
    table_trial_result_t result = table_trial_run(&trial);
    ck_assert_uint_ge(result.evicted, 500);
    ck_assert_uint_ge(result.rejected, 5000);
}
END_TEST

START_TEST(rows_of_steps_that_are_not_over_stay) {
    table_trial_t trial = overcommitted(5000 + (uint64_t)_i, 64, 16, 600);
    trial.options.eviction = (weir_eviction_kind_t)(_i % 2);
    trial.lag = 2 + (uint64_t)_i;
    trial.options.ttl = _i < 2 ? 0 : 3;
    trial.batch = 60 + 60 * (size_t)_i;
    table_trial_result_t result = table_trial_run(&trial);
    ck_assert_uint_ge(result.evicted, 1000);
}
END_TEST

/* A later step pulls the row before an earlier one is applied to it, as bounded staleness allows.
 */
START_TEST(an_earlier_step_does_not_make_a_row_of_a_later_one_old) {
    table_trial_t trial = trial_of(1, 4 * WEIR_SLOT_COUNT, 1, 1);
    weir_table_t *table = table_case_create(&trial.options);
    weir_key_t keys[8];
    weir_row_handle_t first, again, others[7];
    float gradient[3] = {1.0f, 2.0f, 3.0f};
    table_model_keys(1, 5000, 5001, keys, 8);
    ck_assert_int_eq(weir_table_pull(table, keys, 1, 1, &first, NULL, NULL), WEIR_OK);
    ck_assert_int_eq(weir_table_pull(table, keys, 1, 2, &first, NULL, NULL), WEIR_OK);
    ck_assert_int_eq(weir_table_pull(table, keys + 1, 7, 1, others, NULL, NULL), WEIR_OK);
    ck_assert_uint_eq(weir_table_apply(table, keys, &first, gradient, 1, 1).updated, 1);
    ck_assert_int_eq(weir_table_end_step(table, 1, 2, NULL), WEIR_OK); /* due */
    ck_assert_uint_eq(weir_table_stats(table).evicted, 0);
    ck_assert_int_eq(weir_table_end_step(table, 1, 2, NULL), WEIR_OK);
    ck_assert_uint_ge(weir_table_stats(table).evicted, 4);
    weir_table_find(table, keys, 1, &again);
    ck_assert_uint_eq(again, first);
    weir_table_destroy(table);
}
END_TEST

/* ---- memory ---- */

/* New keys, ten times what the budget holds, a quarter of a hundredth in each step; the table has a
 * sixteenth of the slots, 64 rows each. */
START_TEST(memory_stays_at_the_budget_through_ten_times_overcommit) {
    enum { SHARE = 16, ROWS = (1 << 20) / SHARE, BORN = ROWS / 400, STEPS = 4000 };
    weir_table_options_t options = trial_of(7, (uint64_t)ROWS * SHARE, 1, 1).options;
    options.first_slot = 3;
    options.end_slot = 3 + WEIR_SLOT_COUNT / SHARE;
    options.eviction = (weir_eviction_kind_t)_i;
    options.row.segments[0].dim = _i == 0 ? 16 : 5;
    double budget = ROWS * weir_table_row_bytes(&options.row);
    options.memory_budget = (uint64_t)(SHARE * budget) + 1;
    weir_table_t *table = table_case_create(&options);
    weir_key_t keys[BORN];
    weir_row_handle_t handles[BORN];
    float gradients[BORN * 16] = {0};
    uint64_t places = 0;
    for (uint64_t step = 1; step <= STEPS; step++) {
        table_model_keys(step, options.first_slot, options.end_slot, keys, BORN);
        ck_assert_int_eq(weir_table_pull(table, keys, BORN, step, handles, NULL, NULL), WEIR_OK);
        (void)weir_table_apply(table, keys, handles, gradients, BORN, step);
        ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
        double share = (double)weir_table_stats(table).bytes / budget;
        ck_assert_double_le(share, 1.02);
        if (step == STEPS / 4) {
            places = table->store.places;
        } else if (step > STEPS / 4) { /* evicted memory is used again */
            ck_assert_double_ge(share, 0.92);
            ck_assert_uint_le(table->store.places, places + places / 100);
        }
    }
    ck_assert_uint_ge(weir_table_stats(table).evicted, (uint64_t)STEPS * BORN - ROWS);
    weir_table_destroy(table);
}
END_TEST

/* Rows of 12 bytes and fewer than a group of the index holds, just as many, and more. */
START_TEST(memory_stays_at_the_budget_where_rows_and_cells_are_small) {
    static const uint32_t slot_rows[] = {4, 13, 14, 27};
    /* So many slots that the scratch of evictions counts for little. */
    enum { SHARE = 4, SLOTS = WEIR_SLOT_COUNT / SHARE };
    table_trial_t trial = trial_of(9, (uint64_t)slot_rows[_i] * WEIR_SLOT_COUNT, 1, 1);
    trial.options.row.segments[0].dim = 1;
    trial.options.row.segments[0].optimizer.kind = WEIR_OPTIMIZER_SGD;
    trial.options.memory_budget =
        weir_table_budget_for(&trial.options.row, (uint64_t)slot_rows[_i] * WEIR_SLOT_COUNT);
    trial.options.first_slot = 3;
    trial.options.end_slot = 3 + SLOTS;
    weir_table_t *table = table_case_create(&trial.options);
    const size_t born = (size_t)SLOTS * slot_rows[_i] / 50;
    weir_key_t *keys = malloc(born * sizeof *keys);
    weir_row_handle_t *handles = malloc(born * sizeof *handles);
    ck_assert(keys != NULL && handles != NULL);
    double budget = (double)trial.options.memory_budget / SHARE, highest = 0.0, share = 0.0;
    for (uint64_t step = 1; step <= 130; step++) {
        table_model_keys(step, 3, 3 + SLOTS, keys, born);
        ck_assert_int_eq(weir_table_pull(table, keys, born, step, handles, NULL, NULL), WEIR_OK);
        ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
        share = (double)weir_table_stats(table).bytes / budget;
        highest = share > highest ? share : highest;
    }
    ck_assert_uint_ge(weir_table_stats(table).evicted, (uint64_t)SLOTS * slot_rows[_i]);
    ck_assert_double_le(highest, 1.04); /* what two steps bear comes on top: 1/25 of the rows */
    ck_assert_double_ge(share, 0.8);
    free(keys);
    free(handles);
    weir_table_destroy(table);
}
END_TEST

static size_t heap_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* What the allocator says has been taken: all but the mappings of records and index. */
START_TEST(bytes_are_what_is_held) {
    enum { SLOT_ROWS = 8, SHARE = 4, BORN = 5000, STEPS = 12 };
    table_trial_t trial = trial_of(8, (uint64_t)SLOT_ROWS * WEIR_SLOT_COUNT, 1, 1);
    trial.options.first_slot = 0;
    trial.options.end_slot = WEIR_SLOT_COUNT / SHARE;
    size_t before = heap_bytes();
    weir_table_t *table = table_case_create(&trial.options);
    static weir_key_t keys[BORN];
    static weir_row_handle_t handles[BORN];
    for (uint64_t step = 1; step <= STEPS; step++) {
        table_model_keys(step, 0, trial.options.end_slot, keys, BORN);
        ck_assert_int_eq(weir_table_pull(table, keys, BORN, step, handles, NULL, NULL), WEIR_OK);
        ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
    }
    ck_assert_uint_ge(weir_table_stats(table).evicted, 1000);
    double heap = (double)heap_bytes() - (double)before;
    double mapped = (double)(table->store.places * weir_row_store_row_bytes(&table->store)) +
                    (double)table->store.places / 8 + (double)weir_index_bytes(&table->index);
    double bytes = (double)weir_table_stats(table).bytes;
    bool knows = heap > 0.0;             /* sanitizers' allocators do not say */
    ck_assert(!knows || heap > 40000.0); /* the cells' flags alone */
    ck_assert(!knows || fabs(bytes - mapped - heap) < 0.2 * heap);
    weir_table_destroy(table);
}
END_TEST

START_TEST(a_budget_below_four_rows_a_slot_is_refused) {
    table_trial_t trial = trial_of(1, 4 * WEIR_SLOT_COUNT - 1, 1, 1);
    weir_table_t *table = NULL;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_table_create(&trial.options, &table, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_null(table);
    ck_assert_ptr_nonnull(strstr(error.message, "65535 rows"));
    ck_assert_ptr_nonnull(strstr(error.hint, "bytes"));
}
END_TEST

static Suite *table_eviction_suite(void) {
    Suite *suite = suite_create("table_eviction");
    TCase *tests = tcase_create("eviction");
    tcase_set_timeout(tests, 0);
    tcase_add_loop_test(tests, the_least_valuable_rows_of_a_cell_leave, 0, WEIR_EVICTION_COUNT);
    tcase_add_loop_test(tests, a_slot_of_many_rows_has_several_cells, 0, WEIR_EVICTION_COUNT);
    tcase_add_loop_test(tests, a_budget_and_a_ttl_together_do_not_depend_on_servers_or_restarts, 0,
                        6);
    tcase_add_loop_test(tests, keys_are_admitted_and_evicted, 0, 2);
    tcase_add_loop_test(tests, rows_of_steps_that_are_not_over_stay, 0, 4);
    tcase_add_test(tests, an_earlier_step_does_not_make_a_row_of_a_later_one_old);
    tcase_add_loop_test(tests, memory_stays_at_the_budget_through_ten_times_overcommit, 0, 2);
    tcase_add_loop_test(tests, memory_stays_at_the_budget_where_rows_and_cells_are_small, 0, 4);
    tcase_add_test(tests, bytes_are_what_is_held);
    tcase_add_test(tests, a_budget_below_four_rows_a_slot_is_refused);
    suite_add_tcase(suite, tests);
    return suite;
}

WEIR_TEST_MAIN(table_eviction_suite())
