/* What a table promises, one thing at a time; and what other parameter servers got wrong, each a
 * test here. Under random steps: test_table_options.c, test_table_eviction.c, test_table_cold.c. */
#include "ps/table_internal.h"
#include "tests/suite.h"
#include "tests/unit/table_cases.h"
#include "tests/unit/table_model.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

enum { DIM = 3, MANY = 4096 };

static weir_table_options_t options_of(weir_optimizer_kind_t kind) {
    return table_case(kind, DIM, 0.5, 11);
}

static void pull(weir_table_t *table, const weir_key_t *keys, size_t count, uint64_t step,
                 weir_row_handle_t *handles, void *values) {
    weir_error_t error = {0};
    ck_assert_msg(weir_table_pull(table, keys, count, step, handles, values, &error) == WEIR_OK,
                  "%s", error.message);
}

static void end_step(weir_table_t *table, uint64_t step) {
    ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
}

/* ---- one thing at a time ---- */

START_TEST(a_peek_gives_birth_to_nothing) {
    weir_table_options_t options = options_of(WEIR_OPTIMIZER_SGD);
    weir_table_t *table = table_case_create(&options);
    weir_key_t keys[300];
    weir_row_handle_t handles[300];
    float peeked[300][DIM], pulled[300][DIM];
    for (size_t i = 0; i < 300; i++) {
        keys[i] = i * i;
    }
    table_case_peek(table, keys, 300, &peeked[0][0]);
    ck_assert_uint_eq(table_case_rows(table), 0);
    pull(table, keys, 300, 1, handles, pulled);
    ck_assert_uint_eq(table_case_rows(table), 300);
    ck_assert_mem_eq(peeked, pulled, sizeof pulled);
    weir_table_destroy(table);
}
END_TEST

START_TEST(birth_goes_by_seed_and_table_and_key_alone) {
    weir_table_options_t options[4];
    weir_key_t keys[64], backwards[64];
    weir_row_handle_t handles[64];
    float values[4][64][DIM];
    for (size_t i = 0; i < 64; i++) {
        keys[i] = weir_hash64(i);
        backwards[63 - i] = keys[i];
    }
    for (size_t o = 0; o < 4; o++) {
        options[o] = options_of(WEIR_OPTIMIZER_SGD);
        options[o].row.seed += o == 1;
        options[o].row.table_id += o == 2;
        weir_table_t *table = table_case_create(&options[o]);
        pull(table, o == 3 ? backwards : keys, 64, 1 + o, handles, NULL);
        table_case_peek(table, keys, 64, &values[o][0][0]);
        weir_table_destroy(table);
    }
    for (size_t i = 0; i < 64; i++) {
        ck_assert_mem_ne(values[0][i], values[1][i], sizeof values[0][i]);
        ck_assert_mem_ne(values[0][i], values[2][i], sizeof values[0][i]);
        ck_assert(i == 0 || memcmp(values[0][i], values[0][i - 1], sizeof values[0][i]) != 0);
    }
    ck_assert_mem_eq(values[0], values[3], sizeof values[0]);
}
END_TEST

START_TEST(a_step_of_gradient_descent_subtracts_the_gradient) {
    weir_table_options_t options = options_of(WEIR_OPTIMIZER_SGD);
    weir_table_t *table = table_case_create(&options);
    weir_key_t key = 77;
    float before[DIM], after[DIM], gradient[DIM] = {1.0f, -2.0f, 0.25f};
    table_case_peek(table, &key, 1, before);
    ck_assert(table_case_train(table, key, gradient, 1));
    table_case_peek(table, &key, 1, after);
    for (size_t i = 0; i < DIM; i++) {
        ck_assert(after[i] == before[i] - 0.5f * gradient[i]);
    }
    gradient[1] = NAN;
    ck_assert(!table_case_train(table, key, gradient, 2));
    table_case_peek(table, &key, 1, before);
    ck_assert_mem_eq(before, after, sizeof after);
    weir_table_destroy(table);
}
END_TEST

START_TEST(options_that_cannot_be_are_refused) {
    weir_table_options_t wrong[12];
    for (size_t i = 0; i < 12; i++) {
        wrong[i] = options_of(WEIR_OPTIMIZER_SGD);
    }
    wrong[0].row.segments[0].dim = 0;
    wrong[1].row.segments[0].dim = 65537;
    wrong[2].row.segment_count = 5;
    wrong[3].row.segments[0].initial_scale = (double)NAN;
    wrong[4].row.name[0] = '\0';
    wrong[5].memory_budget = 1 << 20;
    wrong[6].first_slot = wrong[6].end_slot = 5;
    wrong[7].row.segments[0].optimizer.learning_rate = (double)INFINITY;
    wrong[8].end_slot = WEIR_SLOT_COUNT + 1;
    wrong[9].eviction = WEIR_EVICTION_COUNT;
    wrong[10].admission = WEIR_ADMISSION_PROBABILITY; /* of 0 */
    wrong[11].admission = WEIR_ADMISSION_COUNT;
    for (size_t i = 0; i < 12; i++) {
        weir_table_t *table = NULL;
        weir_error_t error = {0};
        ck_assert_int_eq(weir_table_create(&wrong[i], &table, &error), WEIR_ERR_INVALID);
        ck_assert_ptr_null(table);
        ck_assert_str_ne(error.message, "");
    }
    weir_table_destroy(NULL);
}
END_TEST

START_TEST(rows_that_cannot_be_are_not_restored) {
    weir_table_options_t options = options_of(WEIR_OPTIMIZER_ADAGRAD);
    weir_table_t *table = table_case_create(&options);
    float record[2 * DIM] = {0};
    weir_table_row_t row = {.key = 5, .value = record, .rest = record + DIM};
    row.count = (uint64_t)UINT32_MAX + 1;
    ck_assert_int_eq(weir_table_restore(table, &row, NULL), WEIR_ERR_CORRUPT);
    row.count = 1;
    row.last_step = (uint64_t)UINT32_MAX + 1;
    ck_assert_int_eq(weir_table_restore(table, &row, NULL), WEIR_ERR_CORRUPT);
    ck_assert_uint_eq(table_case_rows(table), 0);
    row.last_step = 1;
    ck_assert_int_eq(weir_table_restore(table, &row, NULL), WEIR_OK);
    ck_assert_int_eq(weir_table_restore(table, &row, NULL), WEIR_ERR_CORRUPT);
    ck_assert_int_eq(weir_table_end_restore(table, NULL), WEIR_OK);
    ck_assert_uint_eq(table_case_rows(table), 1);
    weir_table_destroy(table);
}
END_TEST

/* ---- what others got wrong ---- */

/* A row that was evicted gives its place to another; who holds on to a row in use keeps it. */
START_TEST(evicted_memory_is_used_again_and_never_while_in_use) {
    weir_table_options_t options = options_of(WEIR_OPTIMIZER_SGD);
    weir_key_t keys[64];
    weir_row_handle_t held[2], handles[2];
    float value[2][DIM], again[2][DIM];
    options.end_slot = 1;
    options.memory_budget = weir_table_budget_for(&options.row, WEIR_SLOT_COUNT * 33 / 2);
    weir_table_t *table = table_case_create(&options);
    table_model_keys(3, 0, 1, keys, 64);
    pull(table, keys, 2, 1, held, value);
    for (uint64_t step = 1; step < 2000; step++) {
        pull(table, keys, 2, step, handles, again); /* in use in every step */
        ck_assert_mem_eq(handles, held, sizeof held);
        ck_assert_mem_eq(again, value, sizeof value);
        for (size_t i = 0; i < 4; i++) {
            pull(table, keys + 2 + (step * 4 + i) % 62, 1, step, handles, NULL);
            ck_assert(handles[0] != held[0] && handles[0] != held[1]);
        }
        ck_assert_int_eq(weir_table_end_step(table, step, step, NULL), WEIR_OK);
    }
    ck_assert_uint_ge(weir_table_stats(table).evicted, 7000);
    ck_assert_uint_le(table->store.places, 16 + 2 * 4);
    weir_table_destroy(table);
}
END_TEST

/* Counters are as wide as the largest threshold, and what is too much is refused. */
START_TEST(no_counter_is_too_narrow_for_its_threshold) {
    weir_table_options_t options = options_of(WEIR_OPTIMIZER_SGD);
    weir_table_t *table = NULL;
    weir_key_t key = 9;
    weir_row_handle_t handle = 0;
    options.first_slot = weir_slot_of_hash(weir_hash64(key));
    options.end_slot = options.first_slot + 1;
    options.admission = WEIR_ADMISSION_FREQUENCY;
    options.admission_counters = 16;
    options.admission_threshold = WEIR_ADMISSION_MAX_THRESHOLD + 1;
    ck_assert_int_eq(weir_table_create(&options, &table, NULL), WEIR_ERR_INVALID);
    for (uint32_t threshold = 1; threshold <= WEIR_ADMISSION_MAX_THRESHOLD;
         threshold = threshold * 16 + 15) {
        options.admission_threshold = threshold;
        table = table_case_create(&options);
        for (uint64_t step = 1; step <= threshold; step++) {
            pull(table, &key, 1, step, &handle, NULL);
            if ((handle == WEIR_ROW_NONE) != (step < threshold)) {
                ck_abort_msg("threshold %u: step %llu", threshold, (unsigned long long)step);
            }
            end_step(table, step);
        }
        weir_table_destroy(table);
    }
}
END_TEST

/* The number of a row's updates stops at the largest it can hold. */
START_TEST(a_count_of_updates_does_not_wrap) {
    weir_table_options_t options = options_of(WEIR_OPTIMIZER_ADAM);
    weir_table_t *table = table_case_create(&options);
    float record[3 * DIM] = {0}, gradient[DIM] = {1.0f, 1.0f, 1.0f};
    weir_key_t key = 4;
    weir_row_handle_t handle;
    weir_table_row_t row = {.key = key, .value = record, .rest = record + DIM};
    row.count = UINT32_MAX - 1;
    ck_assert_int_eq(weir_table_restore(table, &row, NULL), WEIR_OK);
    for (uint64_t step = 1; step <= 3; step++) {
        ck_assert(table_case_train(table, key, gradient, step));
        weir_table_find(table, &key, 1, &handle);
        ck_assert_uint_eq(weir_row_store_metadata(&table->store, handle)->count, UINT32_MAX);
    }
    weir_table_destroy(table);
}
END_TEST

/* Keys that were not admitted stand between those that were: every gradient finds its own row. */
START_TEST(a_key_without_a_row_does_not_shift_the_gradients_behind_it) {
    weir_table_options_t options = options_of(WEIR_OPTIMIZER_SGD);
    weir_key_t keys[MANY];
    weir_row_handle_t handles[MANY];
    static float before[MANY][DIM], after[MANY][DIM], gradients[MANY][DIM];
    options.admission = WEIR_ADMISSION_PROBABILITY;
    options.admission_probability = 0.5;
    weir_table_t *table = table_case_create(&options);
    for (size_t i = 0; i < MANY; i++) {
        keys[i] = i;
        for (size_t d = 0; d < DIM; d++) {
            gradients[i][d] = (float)(i * DIM + d + 1);
        }
    }
    pull(table, keys, MANY, 1, handles, before);
    weir_table_applied_t applied =
        weir_table_apply(table, keys, handles, &gradients[0][0], MANY, 1);
    ck_assert_uint_eq(applied.updated + applied.dropped, MANY);
    ck_assert_uint_ge(applied.dropped, MANY / 3);
    ck_assert_uint_ge(applied.updated, MANY / 3);
    table_case_peek(table, keys, MANY, &after[0][0]);
    for (size_t i = 0; i < MANY; i++) {
        float rate = handles[i] == WEIR_ROW_NONE ? 0.0f : 0.5f;
        for (size_t d = 0; d < DIM; d++) {
            ck_assert(after[i][d] == before[i][d] - rate * gradients[i][d]);
        }
    }
    weir_table_destroy(table);
}
END_TEST

/* Where a row finds no place the pull fails; it never answers zeros. */
START_TEST(a_row_without_a_place_is_an_error_and_the_pull_can_be_made_again) {
    weir_table_options_t options = options_of(WEIR_OPTIMIZER_SGD);
    weir_table_t *table = table_case_create(&options);
    static weir_key_t keys[MANY];
    static weir_row_handle_t handles[MANY], again[MANY];
    static float values[MANY][DIM], expected[MANY][DIM];
    size_t failures = 0;
    for (size_t i = 0; i < MANY; i++) {
        keys[i] = i << i % 3 * 20;
    }
    table_case_peek(table, keys, MANY, &expected[0][0]);
    for (uint64_t room = 0;; room += 37) { /* rows, and index, by small pieces */
        weir_error_t error = {0};
        table->store.place_limit = room;
        table->arena.limit = table->arena.in_use + room % 3 * 4096;
        weir_err_t err = weir_table_pull(table, keys, MANY, 1, handles, values, &error);
        if (err == WEIR_OK) {
            break;
        }
        ck_assert_int_eq(err, WEIR_ERR_MEMORY);
        ck_assert_ptr_nonnull(strstr(error.message, "out of memory"));
        ck_assert_uint_eq(weir_table_stats(table).rows, table->index.entries);
        failures++;
    }
    ck_assert_uint_gt(failures, 20);
    ck_assert_mem_eq(values, expected, sizeof expected);
    ck_assert_uint_eq(weir_table_stats(table).rows, table->index.entries);
    weir_table_find(table, keys, MANY, again);
    ck_assert_mem_eq(handles, again, sizeof handles);
    weir_table_destroy(table);
}
END_TEST

/* Sharding by the low bits of ids is uneven by construction. */
START_TEST(sequential_and_strided_keys_spread_evenly_over_slots) {
    for (uint64_t stride = 1; stride != 0; stride <<= 9) {
        enum { PER_SLOT = 32 };
        static uint32_t counts[WEIR_SLOT_COUNT];
        double chi = 0.0;
        memset(counts, 0, sizeof counts);
        for (uint64_t i = 0; i < (uint64_t)PER_SLOT * WEIR_SLOT_COUNT; i++) {
            counts[weir_slot_of_hash(weir_hash64(i * stride + (i >> 1 << 20)))]++;
        }
        for (size_t slot = 0; slot < WEIR_SLOT_COUNT; slot++) {
            double off = (double)counts[slot] - PER_SLOT;
            chi += off * off / PER_SLOT;
        }
        /* Mean 16,383, deviation 181. */
        ck_assert_double_eq_tol(chi, WEIR_SLOT_COUNT - 1, 5.0 * 181.0);
    }
}
END_TEST

/* ---- memory made ready ---- */

/* Pages of [start, start + size) that the kernel has not committed. */
static size_t absent_pages(const char *start, size_t size) {
    static unsigned char present[1 << 16];
    const char *page = start - (uintptr_t)start % 4096;
    size_t count = ((size_t)(start + size - page) + 4095) / 4096, absent = 0;
    ck_assert_uint_le(count, sizeof present);
    ck_assert_int_eq(mincore((void *)(uintptr_t)page, count * 4096, present), 0);
    for (size_t i = 0; i < count; i++) {
        absent += (present[i] & 1) == 0;
    }
    return absent;
}

/* Steps that bear some 5 MB of rows each, into the second slab; the memory of the rows of the next
 * step is there when it comes, and nothing else is other than without. */
START_TEST(memory_of_the_next_births_is_there_before_they_come) {
    enum { WIDE = 1024, BORN = 600, STEPS = 20 };
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_SGD, WIDE, 0.5, 11);
    weir_table_t *tables[2] = {table_case_create(&options), table_case_create(&options)};
    const weir_row_store_t *store = &tables[0]->store;
    weir_key_t keys[BORN];
    weir_row_handle_t handles[BORN];
    static float values[2][BORN * WIDE];
    ck_assert(!weir_table_prepare(tables[0]));
    for (uint64_t step = 1; step <= STEPS; step++) {
        uint64_t first = store->places;
        for (size_t i = 0; i < BORN; i++) {
            keys[i] = step * BORN + i;
        }
        if (first >> store->slab_bits > 0) { /* the first slab is committed as rows are born */
            size_t slab_rows = (size_t)1 << store->slab_bits, place = first % slab_rows;
            size_t rows = slab_rows - place < BORN ? slab_rows - place : BORN;
            const char *slab = store->slabs[first / slab_rows];
            ck_assert_uint_ge(store->ready, first + BORN);
            ck_assert_uint_eq(
                absent_pages(slab + place * store->value_stride, rows * store->value_stride), 0);
            ck_assert_uint_eq(absent_pages(slab + (store->value_stride << store->slab_bits) +
                                               place * store->rest_stride,
                                           rows * store->rest_stride),
                              0);
        }
        for (size_t t = 0; t < 2; t++) {
            pull(tables[t], keys, BORN, step, handles, values[t]);
            end_step(tables[t], step);
        }
        ck_assert_mem_eq(values[0], values[1], sizeof values[0]);
        size_t pieces = 0;
        while (weir_table_prepare(tables[0])) {
            pieces++;
        }
        ck_assert_uint_le(pieces, 2 * BORN * (WIDE * sizeof(float) + 8) / (2 << 20) + 4);
    }
    ck_assert_uint_ge(store->slab_count, 2);
    ck_assert_uint_le(store->ready, store->places + 2 * BORN + 600);
    ck_assert_uint_gt(weir_table_stats(tables[0]).bytes, weir_table_stats(tables[1]).bytes);
    weir_table_destroy(tables[0]);
    weir_table_destroy(tables[1]);
}
END_TEST

static Suite *table_suite(void) {
    Suite *suite = suite_create("table");
    TCase *tests = tcase_create("table");
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, a_peek_gives_birth_to_nothing);
    tcase_add_test(tests, birth_goes_by_seed_and_table_and_key_alone);
    tcase_add_test(tests, a_step_of_gradient_descent_subtracts_the_gradient);
    tcase_add_test(tests, options_that_cannot_be_are_refused);
    tcase_add_test(tests, rows_that_cannot_be_are_not_restored);
    tcase_add_test(tests, evicted_memory_is_used_again_and_never_while_in_use);
    tcase_add_test(tests, no_counter_is_too_narrow_for_its_threshold);
    tcase_add_test(tests, a_count_of_updates_does_not_wrap);
    tcase_add_test(tests, a_key_without_a_row_does_not_shift_the_gradients_behind_it);
    tcase_add_test(tests, a_row_without_a_place_is_an_error_and_the_pull_can_be_made_again);
    tcase_add_test(tests, memory_of_the_next_births_is_there_before_they_come);
    tcase_add_test(tests, sequential_and_strided_keys_spread_evenly_over_slots);
    suite_add_tcase(suite, tests);
    return suite;
}

WEIR_TEST_MAIN(table_suite())
