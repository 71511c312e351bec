#include "common/rng.h"
#include "ps/table.h"
#include "tests/suite.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 5 };

static weir_table_schema_t schema_of(weir_optimizer_kind_t optimizer, uint32_t dim) {
    return (weir_table_schema_t){.name = "item",
                                 .table_id = 3,
                                 .dim = dim,
                                 .optimizer = optimizer,
                                 .learning_rate = 1.0,
                                 .beta1 = 0.9,
                                 .beta2 = 0.98,
                                 .epsilon = 1e-8,
                                 .initial_sigma = 0.02,
                                 .seed = 17};
}

static weir_table_t *create_table(const weir_table_schema_t *schema) {
    weir_table_t *table = NULL;
    weir_error_t error = {0};
    ck_assert_msg(weir_table_create(schema, &table, &error) == WEIR_OK, "%s", error.message);
    return table;
}

/* The key whose hash is `hash`: hash64 backwards. */
static uint64_t inverse_of(uint64_t odd) {
    uint64_t x = odd;
    for (int i = 0; i < 6; i++) {
        x *= 2 - odd * x;
    }
    return x;
}

static weir_key_t key_of_hash(uint64_t hash) {
    uint64_t x = hash;
    x = x ^ (x >> 31) ^ (x >> 62);
    x *= inverse_of(0x94D049BB133111EBull);
    x = x ^ (x >> 27) ^ (x >> 54);
    x *= inverse_of(0xBF58476D1CE4E5B9ull);
    x = x ^ (x >> 30) ^ (x >> 60);
    return x - 0x9E3779B97F4A7C15ull;
}

/* ---- the model: an array of everything that may be asked for ---- */

typedef struct {
    weir_key_t key;
    bool there;
    float value[DIM];
    uint64_t last_step, count;
    bool in_batch;
} oracle_row_t;

typedef struct {
    uint64_t state;
} dice_t;

static uint32_t roll(dice_t *dice, uint32_t bound) {
    weir_philox_t random = weir_philox(weir_rng_key(99, WEIR_STREAM_TEST), (uint32_t)dice->state,
                                       (uint32_t)(dice->state >> 32), 0, 0);
    dice->state++;
    return weir_uniform_below(random.word[0], bound);
}

/* Keys of every kind: small and dense, far apart, equal in all the bits that the index uses but
 * few. */
static weir_key_t universe_key(size_t i) {
    switch (i % 4) {
    case 0:
        return i;
    case 1:
        return (uint64_t)i << 40;
    case 2:
        return UINT64_MAX - i;
    default:
        return key_of_hash(((uint64_t)(i % 16384) << 50) | (i % 7 << 32) | (i % 3));
    }
}

static oracle_row_t *create_oracle(const weir_table_schema_t *schema, size_t size) {
    oracle_row_t *oracle = calloc(size, sizeof *oracle);
    ck_assert_ptr_nonnull(oracle);
    for (size_t i = 0; i < size; i++) {
        oracle[i].key = universe_key(i);
        weir_row_birth(schema, oracle[i].key, oracle[i].value);
    }
    return oracle;
}

enum { UNIVERSE = 16384, MAX_BATCH = 700 };

typedef struct {
    weir_table_t *table;
    oracle_row_t *oracle;
    uint64_t rows; /* that the oracle holds */
    dice_t dice;
    uint64_t step, operations;
    size_t chosen[MAX_BATCH];
    weir_key_t keys[MAX_BATCH];
    weir_row_handle_t handles[MAX_BATCH];
    float values[MAX_BATCH * DIM], gradients[MAX_BATCH * DIM];
} model_t;

static size_t choose_batch(model_t *model, bool distinct) {
    size_t wanted = roll(&model->dice, MAX_BATCH) + 1, count = 0;
    uint32_t window = 1 + roll(&model->dice, UNIVERSE);
    for (size_t i = 0; i < wanted; i++) {
        size_t pick = roll(&model->dice, window);
        if (distinct && model->oracle[pick].in_batch) {
            continue;
        }
        model->oracle[pick].in_batch = true;
        model->chosen[count] = pick;
        model->keys[count++] = model->oracle[pick].key;
    }
    for (size_t i = 0; i < count; i++) {
        model->oracle[model->chosen[i]].in_batch = false;
    }
    model->operations += count;
    return count;
}

/* Counted and asserted once: an assertion a row would be most of the run. */
static void check_values(const model_t *model, size_t count) {
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        wrong += memcmp(&model->values[i * DIM], model->oracle[model->chosen[i]].value,
                        DIM * sizeof(float)) != 0;
    }
    ck_assert_uint_eq(wrong, 0);
}

static void pull_batch(model_t *model, size_t count) {
    weir_error_t error = {0};
    ck_assert_int_eq(
        weir_table_pull(model->table, model->keys, count, model->handles, model->values, &error),
        WEIR_OK);
    check_values(model, count);
    for (size_t i = 0; i < count; i++) {
        oracle_row_t *row = &model->oracle[model->chosen[i]];
        model->rows += row->there ? 0 : 1;
        row->there = true;
    }
}

static void train_batch(model_t *model) {
    size_t count = choose_batch(model, true);
    pull_batch(model, count);
    model->step++;
    for (size_t i = 0; i < count; i++) {
        oracle_row_t *row = &model->oracle[model->chosen[i]];
        for (size_t d = 0; d < DIM; d++) {
            float gradient = (float)((int)roll(&model->dice, 17) - 8) / 64.0F;
            model->gradients[i * DIM + d] = gradient;
            row->value[d] -= gradient; /* sgd, learning rate 1 */
        }
        row->count++;
        row->last_step = model->step;
    }
    ck_assert_uint_eq(
        weir_table_apply(model->table, model->handles, model->gradients, count, model->step), 0);
}

static void restore_some(model_t *model) {
    size_t count = choose_batch(model, true) / 16;
    for (size_t i = 0; i < count; i++) {
        oracle_row_t *row = &model->oracle[model->chosen[i]];
        weir_err_t expected = row->there ? WEIR_ERR_CORRUPT : WEIR_OK;
        float record[DIM] = {1.0F, -2.0F, 3.0F, (float)i, 0.5F};
        ck_assert_int_eq(weir_table_restore(model->table, row->key, record, 7, i, NULL), expected);
        if (!row->there) {
            memcpy(row->value, record, sizeof record);
            row->there = true;
            row->last_step = 7;
            row->count = i;
            model->rows++;
        }
    }
}

static int compare_by_hash(const void *left, const void *right) {
    uint64_t a = weir_hash64(((const oracle_row_t *)left)->key);
    uint64_t b = weir_hash64(((const oracle_row_t *)right)->key);
    return (a > b) - (a < b);
}

static void check_order(const model_t *model) {
    size_t rows = (size_t)weir_table_rows(model->table);
    ck_assert_uint_eq(rows, model->rows);
    weir_key_t *keys = malloc((rows + 1) * sizeof *keys);
    weir_row_handle_t *handles = malloc((rows + 1) * sizeof *handles);
    oracle_row_t *sorted = malloc(UNIVERSE * sizeof *sorted);
    ck_assert(keys != NULL && handles != NULL && sorted != NULL);
    memcpy(sorted, model->oracle, UNIVERSE * sizeof *sorted);
    qsort(sorted, UNIVERSE, sizeof *sorted, compare_by_hash);
    ck_assert_int_eq(weir_table_ordered(model->table, keys, handles, NULL), WEIR_OK);
    size_t next = 0, wrong = 0;
    for (size_t i = 0; i < UNIVERSE; i++) {
        if (!sorted[i].there || next == rows) {
            wrong += sorted[i].there;
            continue;
        }
        uint64_t last_step, count;
        const float *record = weir_table_record(model->table, handles[next], &last_step, &count);
        wrong += keys[next] != sorted[i].key || last_step != sorted[i].last_step ||
                 count != sorted[i].count ||
                 memcmp(record, sorted[i].value, DIM * sizeof(float)) != 0;
        next++;
    }
    ck_assert_uint_eq(wrong, 0);
    ck_assert_uint_eq(next, rows);
    free(keys);
    free(handles);
    free(sorted);
}

START_TEST(a_million_random_operations_agree_with_a_plain_dictionary) {
    weir_table_schema_t schema = schema_of(WEIR_OPTIMIZER_SGD, DIM);
    model_t *model = calloc(1, sizeof *model);
    ck_assert_ptr_nonnull(model);
    model->table = create_table(&schema);
    model->oracle = create_oracle(&schema, UNIVERSE);
    for (uint64_t turn = 0; model->operations < 1500000; turn++) {
        uint32_t what = roll(&model->dice, 16);
        if (what < 8) {
            train_batch(model);
        } else if (what < 11) {
            pull_batch(model, choose_batch(model, false));
        } else if (what < 15) {
            size_t count = choose_batch(model, false);
            weir_table_peek(model->table, model->keys, count, model->values);
            check_values(model, count);
        } else {
            restore_some(model);
        }
        ck_assert_uint_eq(weir_table_rows(model->table), model->rows);
        if (turn % 256 == 0) {
            check_order(model);
        }
    }
    check_order(model);
    ck_assert_uint_gt(model->rows, UNIVERSE / 2);
    weir_table_destroy(model->table);
    free(model->oracle);
    free(model);
}
END_TEST

START_TEST(keys_that_collide_in_every_bit_the_index_uses_are_all_found) {
    enum { COUNT = 3000 };
    weir_table_schema_t schema = schema_of(WEIR_OPTIMIZER_SGD, 1);
    weir_table_t *table = create_table(&schema);
    weir_key_t keys[COUNT], others[COUNT];
    weir_row_handle_t handles[COUNT], again[COUNT];
    float values[COUNT], expected[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = key_of_hash((uint64_t)i << 50 | 0x123456789ABull);
        others[i] = key_of_hash((uint64_t)(i + COUNT) << 50 | 0x123456789ABull);
        ck_assert_uint_eq(weir_hash64(keys[i]), (uint64_t)i << 50 | 0x123456789ABull);
        weir_row_birth(&schema, others[i], &expected[i]);
    }
    ck_assert_int_eq(weir_table_pull(table, keys, COUNT, handles, values, NULL), WEIR_OK);
    ck_assert_int_eq(weir_table_pull(table, keys, COUNT, again, NULL, NULL), WEIR_OK);
    ck_assert_mem_eq(handles, again, sizeof handles);
    ck_assert_uint_eq(weir_table_rows(table), COUNT);
    weir_table_peek(table, others, COUNT, values);
    ck_assert_mem_eq(values, expected, sizeof values);
    ck_assert_uint_eq(weir_table_rows(table), COUNT);
    weir_table_destroy(table);
}
END_TEST

START_TEST(growth_moves_no_row_and_keeps_the_memory_close) {
    enum { COUNT = 300000, DIM_WIDE = 8 };
    weir_table_schema_t schema = schema_of(WEIR_OPTIMIZER_ADAGRAD, DIM_WIDE);
    weir_table_t *table = create_table(&schema);
    weir_key_t first = 42;
    weir_row_handle_t handle, other;
    float value[DIM_WIDE], kept[DIM_WIDE];
    ck_assert_int_eq(weir_table_pull(table, &first, 1, &handle, kept, NULL), WEIR_OK);
    uint64_t last_step, count;
    const float *record = weir_table_record(table, handle, &last_step, &count);
    size_t failed = 0;
    for (weir_key_t key = 1000; key < 1000 + COUNT; key++) {
        failed += weir_table_pull(table, &key, 1, &other, value, NULL) != WEIR_OK;
    }
    ck_assert_uint_eq(failed, 0);
    ck_assert_int_eq(weir_table_pull(table, &first, 1, &other, value, NULL), WEIR_OK);
    ck_assert_uint_eq(other, handle);
    ck_assert_mem_eq(value, kept, sizeof kept);
    ck_assert_ptr_eq(record, weir_table_record(table, handle, &last_step, &count));
    /* 64 bytes of record, 8 of metadata, and the index: 192 bytes for 14 entries at a load of 0.7
     * at the least. */
    double bytes = (double)weir_table_bytes(table) / (COUNT + 1);
    ck_assert_double_gt(bytes, 64.0 + 8.0 + 13.0);
    ck_assert_double_lt(bytes, 64.0 + 8.0 + 21.0);
    weir_table_destroy(table);
}
END_TEST

START_TEST(rows_are_aligned_so_that_vectors_need_no_care) {
    for (uint32_t dim = 1; dim < 70; dim++) {
        weir_table_schema_t schema = schema_of(WEIR_OPTIMIZER_ADAMW, dim);
        weir_table_t *table = create_table(&schema);
        weir_key_t keys[3] = {1, 2, 3};
        weir_row_handle_t handles[3];
        ck_assert_int_eq(weir_table_pull(table, keys, 3, handles, NULL, NULL), WEIR_OK);
        for (size_t i = 0; i < 3; i++) {
            uint64_t last_step, count;
            const float *record = weir_table_record(table, handles[i], &last_step, &count);
            ck_assert_uint_eq((uintptr_t)record % 16, 0);
            for (uint32_t d = dim; d < 3 * dim; d++) {
                ck_assert(record[d] == 0.0F);
            }
        }
        weir_table_destroy(table);
    }
}
END_TEST

START_TEST(a_gradient_that_is_not_finite_leaves_its_row_and_is_counted) {
    weir_table_schema_t schema = schema_of(WEIR_OPTIMIZER_ADAMW, 19);
    weir_table_t *table = create_table(&schema);
    weir_key_t keys[3] = {5, 6, 7};
    weir_row_handle_t handles[3];
    float values[3 * 19], gradients[3 * 19], after[3 * 19];
    ck_assert_int_eq(weir_table_pull(table, keys, 3, handles, values, NULL), WEIR_OK);
    for (size_t i = 0; i < 3 * 19; i++) {
        gradients[i] = 0.25F;
    }
    gradients[18] = NAN;
    gradients[2 * 19 + 3] = -INFINITY;
    ck_assert_uint_eq(weir_table_apply(table, handles, gradients, 3, 9), 2);
    weir_table_peek(table, keys, 3, after);
    ck_assert_mem_eq(after, values, 19 * sizeof(float));
    ck_assert_mem_eq(after + 38, values + 38, 19 * sizeof(float));
    uint64_t last_step, count;
    const float *record = weir_table_record(table, handles[0], &last_step, &count);
    ck_assert(record[19] == 0.0F);
    ck_assert_uint_eq(last_step, 0);
    ck_assert_uint_eq(count, 0);
    for (size_t d = 19; d < 38; d++) {
        ck_assert(after[d] < values[d]);
    }
    (void)weir_table_record(table, handles[1], &last_step, &count);
    ck_assert_uint_eq(last_step, 9);
    ck_assert_uint_eq(count, 1);
    weir_table_destroy(table);
}
END_TEST

START_TEST(a_birth_depends_on_seed_table_and_key_alone) {
    weir_table_schema_t schema = schema_of(WEIR_OPTIMIZER_SGD, 7);
    float value[7], same[7], other[7];
    weir_row_birth(&schema, 77, value);
    weir_row_birth(&schema, 77, same);
    ck_assert_mem_eq(value, same, sizeof value);
    for (size_t d = 0; d < 7; d++) {
        ck_assert(fabsf(value[d]) <= 0.04F);
    }
    weir_row_birth(&schema, 77 + (1ull << 32), other);
    ck_assert_mem_ne(value, other, sizeof value);
    weir_row_birth(&schema, 78, other);
    ck_assert_mem_ne(value, other, sizeof value);
    schema.table_id++;
    weir_row_birth(&schema, 77, other);
    ck_assert_mem_ne(value, other, sizeof value);
    schema.table_id--;
    schema.seed++;
    weir_row_birth(&schema, 77, other);
    ck_assert_mem_ne(value, other, sizeof value);
}
END_TEST

START_TEST(a_schema_out_of_range_is_refused) {
    weir_table_t *table = NULL;
    weir_error_t error = {0};
    weir_table_schema_t schema = schema_of(WEIR_OPTIMIZER_SGD, 0);
    ck_assert_int_eq(weir_table_create(&schema, &table, &error), WEIR_ERR_INVALID);
    schema = schema_of(WEIR_OPTIMIZER_SGD, WEIR_TABLE_MAX_DIM + 1);
    ck_assert_int_eq(weir_table_create(&schema, &table, &error), WEIR_ERR_INVALID);
    schema = schema_of(WEIR_OPTIMIZER_COUNT, 4);
    ck_assert_int_eq(weir_table_create(&schema, &table, &error), WEIR_ERR_INVALID);
    schema = schema_of(WEIR_OPTIMIZER_ADAMW, 4);
    schema.beta2 = 1.0;
    ck_assert_int_eq(weir_table_create(&schema, &table, &error), WEIR_ERR_INVALID);
    schema = schema_of(WEIR_OPTIMIZER_ADAGRAD, 4);
    schema.epsilon = 0.0;
    ck_assert_int_eq(weir_table_create(&schema, &table, &error), WEIR_ERR_INVALID);
    schema = schema_of(WEIR_OPTIMIZER_SGD, 4);
    schema.initial_sigma = (double)NAN;
    ck_assert_int_eq(weir_table_create(&schema, &table, &error), WEIR_ERR_INVALID);
    schema = schema_of(WEIR_OPTIMIZER_SGD, 4);
    schema.learning_rate = (double)INFINITY;
    ck_assert_int_eq(weir_table_create(&schema, &table, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_null(table);
    ck_assert_str_ne(error.message, "");
}
END_TEST

START_TEST(restore_refuses_what_a_row_cannot_hold) {
    weir_table_schema_t schema = schema_of(WEIR_OPTIMIZER_SGD, 1);
    weir_table_t *table = create_table(&schema);
    float record = 1.0F;
    uint64_t large = (uint64_t)UINT32_MAX + 1;
    ck_assert_int_eq(weir_table_restore(table, 1, &record, large, 1, NULL), WEIR_ERR_CORRUPT);
    ck_assert_int_eq(weir_table_restore(table, 1, &record, 1, large, NULL), WEIR_ERR_CORRUPT);
    ck_assert_uint_eq(weir_table_rows(table), 0);
    ck_assert_int_eq(weir_table_restore(table, 1, &record, UINT32_MAX, UINT32_MAX, NULL), WEIR_OK);
    uint64_t last_step, count;
    (void)weir_table_record(table, 0, &last_step, &count);
    ck_assert_uint_eq(last_step, UINT32_MAX);
    ck_assert_uint_eq(count, UINT32_MAX);
    weir_row_handle_t handle = 0;
    (void)weir_table_apply(table, &handle, &record, 1, large);
    (void)weir_table_record(table, 0, &last_step, &count);
    ck_assert_uint_eq(last_step, UINT32_MAX);
    ck_assert_uint_eq(count, UINT32_MAX);
    weir_table_destroy(table);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("table");
    TCase *t = tcase_create("table");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, a_million_random_operations_agree_with_a_plain_dictionary);
    tcase_add_test(t, keys_that_collide_in_every_bit_the_index_uses_are_all_found);
    tcase_add_test(t, growth_moves_no_row_and_keeps_the_memory_close);
    tcase_add_test(t, rows_are_aligned_so_that_vectors_need_no_care);
    tcase_add_test(t, a_gradient_that_is_not_finite_leaves_its_row_and_is_counted);
    tcase_add_test(t, a_birth_depends_on_seed_table_and_key_alone);
    tcase_add_test(t, a_schema_out_of_range_is_refused);
    tcase_add_test(t, restore_refuses_what_a_row_cannot_hold);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
