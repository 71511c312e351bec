/* Tables whose evicted rows go to disk: nobody can tell (table_model.h), and none is ever lost. */
#include "ps/table_internal.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/table_cases.h"
#include "tests/unit/table_trial.h"

#include <string.h>

enum { SLOT_ROWS = 16, SLOTS = 64, FIRST_SLOT = 700 };

static weir_scratch_t scratch;

static void begin(void) {
    weir_scratch_init(&scratch);
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

/* Some 1,000 rows in memory, and ten times as many keys. */
static table_trial_t trial_of(uint64_t seed, uint64_t steps) {
    table_trial_t trial = {.seed = seed,
                           .options = table_case(WEIR_OPTIMIZER_ADAM, 3, 0.05, seed),
                           .steps = table_trial_steps(steps),
                           .universe = (size_t)10 * SLOT_ROWS * SLOTS,
                           .pulls = 2,
                           .batch = 150,
                           .spoiled = 10,
                           .forgotten = 30};
    trial.options.first_slot = FIRST_SLOT;
    trial.options.end_slot = FIRST_SLOT + SLOTS;
    trial.options.memory_budget =
        weir_table_budget_for(&trial.options.row, SLOT_ROWS * WEIR_SLOT_COUNT);
    trial.options.cold_folder = scratch.path;
    trial.options.cold_cache = 1 << 20;
    return trial;
}

START_TEST(with_a_cold_store_no_row_is_lost_to_the_budget) {
    table_trial_t trial = trial_of(1 + (uint64_t)_i, 300);
    trial.options.eviction = (weir_eviction_kind_t)(_i % 2);
    trial.servers = (uint32_t)_i % 3 + 1;
    trial.rescue = _i < 2 ? 0 : 101;
    table_trial_result_t result = table_trial_run(&trial);
    ck_assert_uint_ge(result.evicted, 1000);
    ck_assert_uint_ge(result.cold_hits, 500);
    ck_assert_uint_ge(result.cold_writes, result.evicted / 2);
    ck_assert_uint_lt(result.most_rows, SLOT_ROWS * SLOTS + 2 * 2 * 150);
}
END_TEST

START_TEST(cold_rows_expire_too) {
    table_trial_t trial = trial_of(10, 250);
    trial.options.ttl = 12;
    trial.hot = 2000;
    trial.drift = 60;
    trial.rescue = 67;
    table_trial_result_t result = table_trial_run(&trial);
    ck_assert_uint_ge(result.cold_hits, 300);
    ck_assert_uint_ge(result.expired, 50);
}
END_TEST

START_TEST(keys_are_admitted_whose_rows_are_cold_later) {
    table_trial_t trial = trial_of(20, 250);
    trial.options.admission = WEIR_ADMISSION_FREQUENCY;
    trial.options.admission_threshold = 2;
    trial.options.admission_counters = 4096;
    trial.hot = 3000;
    trial.drift = 10;
    trial.servers = 2;
    table_trial_result_t result = table_trial_run(&trial);
    ck_assert_uint_ge(result.cold_hits, 300);
    ck_assert_uint_ge(result.rejected, 1000);
}
END_TEST

/* ---- two tiers, one table ---- */

typedef struct {
    char *bytes;
    size_t size, capacity;
} dump_t;

static weir_err_t dump_rows(void *argument, const weir_table_row_t *rows, size_t count,
                            weir_error_t *error) {
    dump_t *dump = argument;
    const size_t value = 3 * sizeof(float), rest = 6 * sizeof(float), row = 24 + value + rest;
    (void)error;
    if (dump->size + count * row > dump->capacity) {
        dump->capacity = 2 * (dump->size + count * row);
        dump->bytes = realloc(dump->bytes, dump->capacity);
        ck_assert_ptr_nonnull(dump->bytes);
    }
    for (size_t i = 0; i < count; i++, dump->size += row) {
        const uint64_t head[3] = {rows[i].key, rows[i].last_step, rows[i].count};
        memcpy(dump->bytes + dump->size, head, sizeof head);
        memcpy(dump->bytes + dump->size + 24, rows[i].value, value);
        memcpy(dump->bytes + dump->size + 24 + value, rows[i].rest, rest);
    }
    return WEIR_OK;
}

static dump_t dump(weir_table_t *table, uint64_t step) {
    dump_t made = {0};
    ck_assert_int_eq(weir_table_scan(table, step, dump_rows, &made, NULL), WEIR_OK);
    return made;
}

/* As a server has them: every row that a step pulls it updates. */
static void train(weir_table_t **tables, uint64_t seed, uint64_t steps, const weir_key_t *universe,
                  size_t count) {
    enum { BATCH = 200 };
    weir_key_t keys[BATCH];
    weir_row_handle_t handles[BATCH];
    static float values[2][BATCH][3], gradients[BATCH][3];
    for (uint64_t step = 1; step <= steps; step++) {
        for (size_t i = 0; i < BATCH; i++) {
            keys[i] = universe[(seed + step * 7919 + i * 104729) % count];
            for (size_t d = 0; d < 3; d++) {
                gradients[i][d] = i % 50 == 49 ? (float)(1.0e38 * 1.0e38) : (float)(i + d) - 99.0f;
            }
        }
        for (size_t t = 0; t < 2; t++) {
            ck_assert_int_eq(
                weir_table_pull(tables[t], keys, BATCH, step, handles, values[t], NULL), WEIR_OK);
            ck_assert_uint_eq(
                weir_table_apply(tables[t], keys, handles, &gradients[0][0], BATCH, step).updated,
                BATCH - BATCH / 50);
            ck_assert_int_eq(weir_table_end_step(tables[t], step, step + 1, NULL), WEIR_OK);
        }
        ck_assert_mem_eq(values[0], values[1], sizeof values[0]);
    }
}

START_TEST(a_small_memory_with_a_disk_is_bit_for_bit_a_large_memory) {
    weir_table_options_t options = trial_of(30, 1).options;
    weir_key_t universe[10 * SLOT_ROWS * SLOTS];
    size_t count = sizeof universe / sizeof *universe;
    char folder[1024];
    (void)snprintf(folder, sizeof folder, "%s/tier", scratch.path);
    options.cold_folder = folder;
    weir_table_t *tables[2];
    tables[0] = table_case_create(&options);
    options.cold_folder = NULL;
    options.memory_budget = 0;
    tables[1] = table_case_create(&options);
    table_model_keys(5, FIRST_SLOT, FIRST_SLOT + SLOTS, universe, count);
    train(tables, 1, table_trial_steps(400), universe, count);
    ck_assert_uint_ge(weir_table_stats(tables[0]).cold_hits, 500);
    ck_assert_uint_eq(weir_table_stats(tables[0]).rows + weir_table_stats(tables[0]).cold_rows,
                      weir_table_stats(tables[1]).rows);
    dump_t cold = dump(tables[0], 1000), plain = dump(tables[1], 1000);
    ck_assert_uint_ge(plain.size, 1 << 16);
    ck_assert_uint_eq(cold.size, plain.size);
    ck_assert_mem_eq(cold.bytes, plain.bytes, plain.size);
    free(cold.bytes);
    free(plain.bytes);
    weir_table_destroy(tables[0]);
    weir_table_destroy(tables[1]);
}
END_TEST

/* ---- rows that expire ---- */

enum { MANY = 40 * SLOT_ROWS };

static weir_key_t many[MANY];

/* A table of four slots, 16 rows of each in memory. */
static weir_table_t *small_table(uint64_t seed, uint64_t ttl) {
    weir_table_options_t options = trial_of(seed, 1).options;
    options.end_slot = FIRST_SLOT + 4;
    options.ttl = ttl;
    table_model_keys(seed, FIRST_SLOT, FIRST_SLOT + 4, many, MANY);
    return table_case_create(&options);
}

/* A step that uses keys [first, end) of `many`. */
static void use(weir_table_t *table, size_t first, size_t end, uint64_t step) {
    weir_row_handle_t handles[MANY];
    ck_assert_int_eq(weir_table_pull(table, many + first, end - first, step, handles, NULL, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
}

static uint64_t rows_of(const weir_table_t *table) {
    return weir_table_stats(table).rows + weir_table_stats(table).cold_rows;
}

START_TEST(a_row_never_used_goes_to_disk_like_any_other) {
    enum { RESTORED = 40 };
    weir_table_t *table = small_table(50, 1000);
    float values[RESTORED][3];
    for (size_t i = 0; i < RESTORED; i++) {
        float record[9] = {(float)i, 1.0f, 2.0f};
        weir_table_row_t row = {.key = many[i * (MANY / RESTORED)], .value = record};
        row.rest = record + 3;
        ck_assert_int_eq(weir_table_restore(table, &row, NULL), WEIR_OK);
    }
    ck_assert_int_eq(weir_table_end_restore(table, NULL), WEIR_OK);
    for (uint64_t step = 1; step < 4; step++) {
        for (size_t i = 1; i < MANY / RESTORED; i++) { /* all but those restored */
            weir_key_t keys[RESTORED];
            weir_row_handle_t handles[RESTORED];
            for (size_t j = 0; j < RESTORED; j++) {
                keys[j] = many[j * (MANY / RESTORED) + i];
            }
            ck_assert_int_eq(weir_table_pull(table, keys, RESTORED, step, handles, NULL, NULL),
                             WEIR_OK);
        }
        ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
    }
    ck_assert_uint_ge(weir_table_stats(table).evicted, RESTORED);
    ck_assert_uint_eq(rows_of(table), MANY);
    for (size_t i = 0; i < RESTORED; i++) {
        ck_assert_int_eq(
            weir_table_peek(table, &many[i * (MANY / RESTORED)], 1, 4, values[i], NULL), WEIR_OK);
        ck_assert(values[i][0] == (float)i);
    }
    weir_table_destroy(table);
}
END_TEST

START_TEST(rows_that_expire_leave_the_disk) {
    static const uint64_t ttls[] = {3, 7, 100}; /* with fewer steps than slots, and more */
    const uint64_t ttl = ttls[_i];
    weir_table_t *table = small_table(60, ttl);
    for (uint64_t step = 1; step <= 3; step++) {
        use(table, 0, MANY, step);
    }
    ck_assert_uint_ge(weir_table_stats(table).cold_rows, MANY / 2);
    uint64_t step = 4;
    for (; step < 3 + ttl; step++) { /* none has expired for the next */
        use(table, 0, 10, step);
        ck_assert_uint_eq(rows_of(table), MANY);
    }
    for (; step <= 4 + 2 * ttl; step++) {
        use(table, 0, 10, step);
    }
    ck_assert_uint_eq(weir_table_stats(table).cold_rows, 0);
    ck_assert_uint_eq(weir_table_stats(table).rows, 10);
    weir_table_destroy(table);
}
END_TEST

/* Some find their row in memory, with an old copy on disk; some were read ahead; some are cold. */
START_TEST(a_key_that_is_born_anew_is_counted_once) {
    enum { TTL = 400 }; /* the sweeps have done a quarter of their work by then */
    weir_table_t *table = small_table(70, TTL);
    weir_row_handle_t handles[MANY];
    use(table, 0, MANY, 1);
    use(table, 0, MANY / 2, 2);
    ck_assert_uint_eq(rows_of(table), MANY);
    ck_assert_uint_ge(weir_table_stats(table).cold_hits, 10);
    const uint64_t step = 2 + TTL + 1;
    ck_assert_int_eq(weir_table_prefetch(table, many, MANY / 4, step, NULL), WEIR_OK);
    uint64_t born = weir_table_stats(table).born;
    ck_assert_int_eq(weir_table_pull(table, many, MANY, step, handles, NULL, NULL), WEIR_OK);
    ck_assert_uint_eq(weir_table_stats(table).born, born + MANY);
    ck_assert_uint_eq(weir_table_stats(table).rows, MANY);
    ck_assert_uint_eq(weir_table_stats(table).cold_rows, 0);
    ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
    ck_assert_uint_eq(rows_of(table), MANY);
    use(table, 0, MANY, step + 1);
    ck_assert_uint_eq(rows_of(table), MANY);
    weir_table_destroy(table);
}
END_TEST

/* ---- the way back ---- */

START_TEST(a_key_that_is_restored_twice_is_found_out_where_its_rows_are_cold) {
    enum { ROWS = 600 };
    weir_table_options_t options = trial_of(40, 1).options;
    weir_key_t keys[ROWS];
    float record[9] = {1.0f, 2.0f, 3.0f};
    for (size_t twice = 0; twice < ROWS; twice += 59) {
        char folder[1024];
        (void)snprintf(folder, sizeof folder, "%s/twice-%zu", scratch.path, twice);
        options.cold_folder = folder;
        options.end_slot = FIRST_SLOT + 1; /* 15 rows in memory */
        weir_table_t *table = table_case_create(&options);
        weir_err_t err = WEIR_OK;
        table_model_keys(6, FIRST_SLOT, FIRST_SLOT + 1, keys, ROWS);
        weir_table_row_t row = {.value = record, .rest = record + 3, .last_step = 1, .count = 1};
        for (size_t i = 0; i < ROWS && err == WEIR_OK; i++) {
            row.key = keys[i];
            err = weir_table_restore(table, &row, NULL);
        }
        ck_assert_int_eq(err, WEIR_OK);
        row.key = keys[twice];
        err = weir_table_restore(table, &row, NULL);
        if (err == WEIR_OK) {
            err = weir_table_end_restore(table, NULL);
        }
        ck_assert_int_eq(err, WEIR_ERR_CORRUPT);
        weir_table_destroy(table);
    }
}
END_TEST

static Suite *table_cold_suite(void) {
    Suite *suite = suite_create("table_cold");
    TCase *tests = tcase_create("cold");
    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_loop_test(tests, with_a_cold_store_no_row_is_lost_to_the_budget, 0, 4);
    tcase_add_test(tests, cold_rows_expire_too);
    tcase_add_test(tests, keys_are_admitted_whose_rows_are_cold_later);
    tcase_add_test(tests, a_small_memory_with_a_disk_is_bit_for_bit_a_large_memory);
    tcase_add_test(tests, a_row_never_used_goes_to_disk_like_any_other);
    tcase_add_loop_test(tests, rows_that_expire_leave_the_disk, 0, 3);
    tcase_add_test(tests, a_key_that_is_born_anew_is_counted_once);
    tcase_add_test(tests, a_key_that_is_restored_twice_is_found_out_where_its_rows_are_cold);
    suite_add_tcase(suite, tests);
    return suite;
}

WEIR_TEST_MAIN(table_cold_suite())
