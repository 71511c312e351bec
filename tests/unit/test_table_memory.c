/* Allocations of every call fail, one after the other: the call says so, nothing is lost or half
 * made, and made again it succeeds. What a failure loses for good the address sanitizer finds. */
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/alloc_faults.h"
#include "tests/unit/table_cases.h"
#include "tests/unit/table_model.h"

#include <string.h>

enum { SLOTS = 4, FIRST_SLOT = 40, KEYS = 2400, BATCH = 300, DIM = 2, MOST_FAULTS = 100000 };

typedef struct {
    weir_table_t *tables[2]; /* the same steps; the first one's allocations fail */
    weir_key_t keys[KEYS], batch[BATCH];
    weir_row_handle_t handles[2][BATCH];
    float values[2][BATCH][DIM];
    uint64_t step, failures;
} pair_t;

static weir_scratch_t scratch;
static pair_t pair;

static void begin(void) {
    weir_scratch_init(&scratch);
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

enum { PLAIN, BUDGET, TTL, CHANCE, FREQUENCY, COLD, EVERYTHING, VARIANTS };

static weir_table_options_t options_of(int variant) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_ADAGRAD, DIM, 0.1, 5);
    bool all = variant == EVERYTHING;
    options.first_slot = FIRST_SLOT;
    options.end_slot = FIRST_SLOT + SLOTS;
    if (variant == BUDGET || variant == COLD || all) {
        options.memory_budget = weir_table_budget_for(&options.row, WEIR_SLOT_COUNT * 201 / 2);
    }
    options.ttl = variant == TTL ? 2 : all ? 5 : 0;
    options.admission = variant == CHANCE             ? WEIR_ADMISSION_PROBABILITY
                        : variant == FREQUENCY || all ? WEIR_ADMISSION_FREQUENCY
                                                      : WEIR_ADMISSION_ALL;
    options.admission_probability = 0.5;
    options.admission_threshold = 2;
    options.admission_counters = 4096;
    return options;
}

/* The cold folder is one for each table. */
static weir_table_t *create(int variant, const char *name) {
    weir_table_options_t options = options_of(variant);
    char folder[1024];
    (void)snprintf(folder, sizeof folder, "%s/%s", scratch.path, name);
    options.cold_folder = variant == COLD || variant == EVERYTHING ? folder : NULL;
    return table_case_create(&options);
}

typedef weir_err_t (*call_t)(weir_table_t *table, int which);

/* With the n-th allocation failing, alone or with all that follow. */
static weir_err_t call_poor(call_t call, size_t n) {
    alloc_faults_begin(n, n % 2 == 0 ? MOST_FAULTS : 0);
    weir_err_t err = call(pair.tables[0], 0);
    bool failed = alloc_faults_end();
    ck_assert(err == WEIR_OK || (err == WEIR_ERR_MEMORY && failed));
    pair.failures += err != WEIR_OK;
    return err;
}

/* Call with an allocation failing, a later one each time, until the call succeeds: because it makes
 * no more, or can do without. Then for the second table as it is. */
static void call_both(call_t call) {
    size_t n = 1;
    while (call_poor(call, n) != WEIR_OK) {
        n++;
        ck_assert_uint_lt(n, MOST_FAULTS);
    }
    ck_assert_int_eq(call(pair.tables[1], 1), WEIR_OK);
}

/* ---- what is called ---- */

static weir_err_t call_pull(weir_table_t *table, int which) {
    return weir_table_pull(table, pair.batch, BATCH, pair.step, pair.handles[which],
                           pair.values[which], NULL);
}

static weir_err_t call_prefetch(weir_table_t *table, int which) {
    (void)which;
    return weir_table_prefetch(table, pair.batch, BATCH, pair.step, NULL);
}

static weir_err_t call_take_in(weir_table_t *table, int which) {
    return weir_table_take_in(table, pair.batch, BATCH, pair.step, pair.handles[which], NULL);
}

static weir_err_t call_peek(weir_table_t *table, int which) {
    return weir_table_peek(table, pair.batch, BATCH, pair.step, pair.values[which], NULL);
}

static weir_err_t call_end_step(weir_table_t *table, int which) {
    (void)which;
    return weir_table_end_step(table, pair.step, pair.step + 1, NULL);
}

typedef struct {
    uint64_t rows, sum;
} digest_t;

static digest_t digests[2];

static weir_err_t add_rows(void *argument, const weir_table_row_t *rows, size_t count,
                           weir_error_t *error) {
    digest_t *digest = argument;
    (void)error;
    for (size_t i = 0; i < count; i++) {
        const uint64_t head[3] = {rows[i].key, rows[i].last_step, rows[i].count};
        digest->sum = weir_checksum(head, sizeof head, digest->sum);
        digest->sum = weir_checksum(rows[i].value, DIM * sizeof(float), digest->sum);
        digest->sum = weir_checksum(rows[i].rest, DIM * sizeof(float), digest->sum);
    }
    digest->rows += count;
    return WEIR_OK;
}

static weir_err_t call_scan(weir_table_t *table, int which) {
    digests[which] = (digest_t){.rows = 0};
    return weir_table_scan(table, pair.step + 1, add_rows, &digests[which], NULL);
}

static void check_digests(void) {
    call_both(call_scan);
    ck_assert_uint_eq(digests[0].rows, digests[1].rows);
    ck_assert_uint_eq(digests[0].sum, digests[1].sum);
}

/* ---- steps ---- */

/* Keys of a window that moves on, so that rows are born, evicted, expire and come back. */
static void choose_batch(uint64_t salt) {
    for (size_t i = 0; i < BATCH; i++) {
        size_t number = (size_t)(pair.step * 150 + weir_hash64(salt + i) % 900);
        pair.batch[i] = pair.keys[number % KEYS * 7 % KEYS];
    }
}

static void apply_both(void) {
    float gradients[BATCH][DIM];
    weir_key_t keys[BATCH];
    weir_row_handle_t handles[2][BATCH];
    size_t count = 0;
    for (size_t i = 0; i < BATCH; i++) {
        size_t j = 0;
        while (j < count && keys[j] != pair.batch[i]) {
            j++;
        }
        ck_assert((pair.handles[0][i] == WEIR_ROW_NONE) == (pair.handles[1][i] == WEIR_ROW_NONE));
        if (j == count) {
            keys[count] = pair.batch[i];
            handles[0][count] = pair.handles[0][i];
            handles[1][count] = pair.handles[1][i];
            gradients[count][0] = (float)i - 150.0f;
            gradients[count++][1] = 1.0f;
        }
    }
    weir_table_applied_t applied[2];
    for (size_t t = 0; t < 2; t++) {
        applied[t] =
            weir_table_apply(pair.tables[t], keys, handles[t], &gradients[0][0], count, pair.step);
    }
    ck_assert_uint_eq(applied[0].updated, applied[1].updated);
}

START_TEST(a_call_that_fails_for_want_of_memory_can_be_made_again) {
    memset(&pair, 0, sizeof pair);
    pair.tables[0] = create(_i, "poor");
    pair.tables[1] = create(_i, "rich");
    table_model_keys(9, FIRST_SLOT, FIRST_SLOT + SLOTS, pair.keys, KEYS);
    for (pair.step = 1; pair.step <= 40; pair.step++) {
        choose_batch(pair.step);
        call_both(call_prefetch);
        if (pair.step % 2 == 0) {
            call_both(call_take_in);
        }
        call_both(call_pull);
        ck_assert_mem_eq(pair.values[0], pair.values[1], sizeof pair.values[0]);
        apply_both();
        call_both(call_end_step);
        check_digests();
        choose_batch(1000 + pair.step);
        call_both(call_peek);
        ck_assert_mem_eq(pair.values[0], pair.values[1], sizeof pair.values[0]);
    }
    weir_table_stats_t stats = weir_table_stats(pair.tables[0]);
    weir_table_stats_t expected = weir_table_stats(pair.tables[1]);
    ck_assert_uint_eq(stats.rows + stats.cold_rows, expected.rows + expected.cold_rows);
    ck_assert_uint_eq(stats.born, expected.born);
    ck_assert_uint_ge(pair.failures, 10);
    bool evicts = _i == BUDGET || _i == COLD || _i == EVERYTHING;
    ck_assert_uint_ge(stats.evicted, evicts ? 100 : 0);
    weir_table_destroy(pair.tables[0]);
    weir_table_destroy(pair.tables[1]);
}
END_TEST

START_TEST(a_table_that_cannot_be_created_leaves_nothing) {
    weir_table_options_t options = options_of(_i);
    char folder[1024];
    weir_err_t err = WEIR_ERR_MEMORY;
    size_t n = 1;
    for (; err != WEIR_OK; n++) {
        weir_table_t *table = NULL;
        (void)snprintf(folder, sizeof folder, "%s/%zu", scratch.path, n);
        options.cold_folder = _i == COLD || _i == EVERYTHING ? folder : NULL;
        alloc_faults_begin(n, 0);
        err = weir_table_create(&options, &table, NULL);
        bool failed = alloc_faults_end();
        ck_assert(failed == (err != WEIR_OK));
        ck_assert((table == NULL) == (err != WEIR_OK));
        ck_assert(err == WEIR_OK || err == WEIR_ERR_MEMORY);
        weir_table_destroy(table);
    }
    ck_assert_uint_ge(n, 5);
}
END_TEST

/* ---- restored ---- */

static weir_table_t *restored;
static const weir_table_row_t *to_restore;

static weir_err_t call_restore(weir_table_t *table, int which) {
    (void)which;
    return weir_table_restore(table, to_restore, NULL);
}

static weir_err_t restore_rows(void *argument, const weir_table_row_t *rows, size_t count,
                               weir_error_t *error) {
    (void)argument;
    (void)error;
    for (size_t i = 0; i < count; i++) {
        to_restore = &rows[i];
        for (size_t n = 1; n < 4; n++) {
            alloc_faults_begin(n, 0);
            weir_err_t err = call_restore(restored, 0);
            bool failed = alloc_faults_end();
            if (err == WEIR_OK) {
                break;
            }
            ck_assert(failed);
            ck_assert_int_eq(err, WEIR_ERR_MEMORY);
            pair.failures++;
            if (n == 3) {
                ck_assert_int_eq(call_restore(restored, 0), WEIR_OK);
            }
        }
    }
    return WEIR_OK;
}

START_TEST(a_row_whose_restoring_fails_can_be_restored_again) {
    memset(&pair, 0, sizeof pair);
    pair.tables[0] = create(_i == COLD ? COLD : PLAIN, "old");
    table_model_keys(9, FIRST_SLOT, FIRST_SLOT + SLOTS, pair.keys, KEYS);
    for (pair.step = 1; pair.step <= 12; pair.step++) {
        choose_batch(pair.step);
        ck_assert_int_eq(call_pull(pair.tables[0], 0), WEIR_OK);
        ck_assert_int_eq(call_end_step(pair.tables[0], 0), WEIR_OK);
    }
    restored = create(_i, "new");
    ck_assert_int_eq(weir_table_scan(pair.tables[0], pair.step, restore_rows, NULL, NULL), WEIR_OK);
    ck_assert_int_eq(weir_table_end_restore(restored, NULL), WEIR_OK);
    pair.tables[1] = restored;
    check_digests();
    ck_assert_uint_ge(digests[0].rows, 1000);
    ck_assert_uint_ge(pair.failures, 2);
    weir_table_destroy(pair.tables[0]);
    weir_table_destroy(pair.tables[1]);
}
END_TEST

static Suite *table_memory_suite(void) {
    Suite *suite = suite_create("table_memory");
    TCase *tests = tcase_create("memory");
    tcase_set_timeout(tests, 0);
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_loop_test(tests, a_call_that_fails_for_want_of_memory_can_be_made_again, 0, VARIANTS);
    tcase_add_loop_test(tests, a_table_that_cannot_be_created_leaves_nothing, 0, VARIANTS);
    tcase_add_loop_test(tests, a_row_whose_restoring_fails_can_be_restored_again, PLAIN, PLAIN + 1);
    tcase_add_loop_test(tests, a_row_whose_restoring_fails_can_be_restored_again, COLD, COLD + 1);
    suite_add_tcase(suite, tests);
    return suite;
}

WEIR_TEST_MAIN(table_memory_suite())
