/* libweir through its own header, linked as a program of somebody else would: the shared library
 * alone reads; what it should find is in arrays here. */
#include "common/hash.h"
#include "common/tensor_blocks.h"
#include "reader/reader.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/reader_cases.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

enum { KEYS = 3000, DIM = 3, WIDE = 512 };

static weir_scratch_t scratch;

/* What each key should have; live false: no row. */
typedef struct {
    uint64_t key, step, last_step, count; /* step: whose value it has */
    bool live;
} expected_t;
static expected_t expected[KEYS];

static void begin(void) {
    weir_scratch_init(&scratch);
    memset(expected, 0, sizeof expected);
    for (uint64_t i = 0; i < KEYS; i++) {
        expected[i].key = i * i * 7919 + 3;
    }
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

static float value_of(uint64_t step, uint64_t key, uint32_t i) {
    return (float)(key % 10007) * 0.25F + (float)(step * 100 + i);
}

static void fill(uint64_t step, uint64_t key, uint32_t column, void *bytes) {
    for (uint32_t i = 0; i < DIM; i++) {
        float value = value_of(step, key, i) * (column == 0 ? 1.0F : -1.0F);
        memcpy((char *)bytes + i * sizeof value, &value, sizeof value);
    }
}

static reader_case_t two_columns(uint64_t step, uint64_t base, uint32_t shards) {
    return (reader_case_t){.table = "item",
                           .schema = ":3:float32:momentum",
                           .optimizer = "momentum",
                           .step = step,
                           .base = base,
                           .shards = shards,
                           .columns = {{"value", WEIR_DTYPE_F32, DIM}, {"u", WEIR_DTYPE_F32, DIM}},
                           .column_count = 2,
                           .fill = fill};
}

/* A checkpoint with each `every`-th key from `first` on used in its step, and some removed. */
static void publish(reader_case_t c, size_t first, size_t every, size_t remove_every) {
    reader_case_row_t *rows = calloc(KEYS, sizeof *rows);
    uint64_t *removed = calloc(KEYS, sizeof *removed);
    for (size_t i = 0; i < KEYS; i++) {
        expected_t *e = &expected[i];
        if (remove_every > 0 && i % remove_every == 1) {
            removed[c.removed_count++] = e->key;
            e->live = false;
        } else if (i >= first && (i - first) % every == 0) {
            *e = (expected_t){e->key, c.step, c.step - i % 5, e->count + 1, true};
            rows[c.row_count++] = (reader_case_row_t){e->key, e->last_step, e->count};
        }
    }
    c.rows = rows;
    c.removed = removed;
    reader_case_write(scratch.path, &c);
    free(rows);
    free(removed);
}

static weir_reader_t *open_reader(void) {
    weir_reader_t *reader = NULL;
    weir_reader_error_t error = {0};
    ck_assert_msg(weir_reader_open(scratch.path, &reader, &error) == 0, "%s", error.message);
    return reader;
}

static void check_row(const weir_reader_table_t *table, const expected_t *e,
                      const weir_reader_row_t *row) {
    float values[DIM], state[DIM];
    ck_assert_uint_eq(row->key, e->key);
    ck_assert_uint_eq(row->last_step, e->last_step);
    ck_assert_uint_eq(row->count, e->count);
    ck_assert_uint_eq(row->saved, e->step);
    weir_reader_values(table, row, values);
    memcpy(state, row->columns[1], sizeof state);
    for (uint32_t i = 0; i < DIM; i++) {
        ck_assert(values[i] == value_of(e->step, e->key, i));
        ck_assert(state[i] == -value_of(e->step, e->key, i));
    }
}

/* Every key by get, and all rows by the cursor, in the order of hashes, each once. */
static void check_all(weir_reader_t *reader) {
    const weir_reader_table_t *table = weir_reader_find_table(reader, "item");
    weir_reader_rows_t *rows = NULL;
    weir_reader_row_t row;
    weir_reader_error_t error = {0};
    size_t live = 0, found = 0;
    uint64_t before = 0;
    for (size_t i = 0; i < KEYS; i++) {
        int code = weir_reader_get(reader, table, expected[i].key, &row, &error);
        ck_assert_msg(code == (expected[i].live ? 0 : WEIR_READER_NOT_FOUND), "key %zu: %d %s", i,
                      code, error.message);
        if (code == 0) {
            check_row(table, &expected[i], &row);
            live++;
        }
    }
    ck_assert_int_eq(weir_reader_get(reader, table, 12345678901ull, &row, NULL),
                     WEIR_READER_NOT_FOUND);
    ck_assert_int_eq(weir_reader_rows_open(reader, table, 0, WEIR_READER_SLOTS, &rows, NULL), 0);
    int code;
    while ((code = weir_reader_rows_next(rows, &row, &error)) == 1) {
        uint64_t hash = weir_hash64(row.key);
        ck_assert(found == 0 || hash > before);
        before = hash;
        size_t i = 0;
        while (i < KEYS && expected[i].key != row.key) {
            i++;
        }
        ck_assert_uint_lt(i, KEYS);
        ck_assert(expected[i].live);
        check_row(table, &expected[i], &row);
        found++;
    }
    ck_assert_msg(code == 0, "%s", error.message);
    ck_assert_uint_eq(found, live);
    weir_reader_rows_close(rows);
}

START_TEST(a_full_checkpoint_of_any_number_of_servers_is_read_by_key_and_in_order) {
    publish(two_columns(10, 0, (uint32_t)_i), 0, 2, 0);
    weir_reader_t *reader = open_reader();
    const weir_reader_table_t *table = weir_reader_table(reader, 0);
    ck_assert_uint_eq(weir_reader_table_count(reader), 1);
    ck_assert_str_eq(table->name, "item");
    ck_assert_uint_eq(table->rows, KEYS / 2);
    ck_assert_uint_eq(table->dim, DIM);
    ck_assert_uint_eq(table->shards, (uint32_t)_i);
    ck_assert(!table->chained);
    ck_assert_uint_eq(weir_reader_about(reader)->step, 10);
    check_all(reader);
    weir_reader_close(reader);
}
END_TEST

START_TEST(a_chain_is_read_as_the_one_table_it_stands_for) {
    publish(two_columns(10, 0, 2), 0, 2, 0);
    publish(two_columns(20, 10, 3), 1, 3, 7);
    publish(two_columns(30, 20, 1), 4, 5, 11);
    weir_reader_t *reader = open_reader();
    ck_assert(weir_reader_table(reader, 0)->chained);
    ck_assert_uint_eq(weir_reader_about(reader)->chain_count, 2);
    ck_assert_uint_eq(weir_reader_about(reader)->chain[0], 20);
    check_all(reader);
    weir_reader_close(reader);
}
END_TEST

START_TEST(rows_that_expired_are_not_there) {
    publish(two_columns(10, 0, 2), 0, 2, 0);
    reader_case_t c = two_columns(20, 10, 2);
    c.ttl = 4; /* used in step 17 or after */
    publish(c, 0, 6, 0);
    size_t dropped = 0;
    for (size_t i = 0; i < KEYS; i++) {
        dropped += expected[i].live && expected[i].last_step < 17 ? 1 : 0;
        expected[i].live = expected[i].live && expected[i].last_step >= 17;
    }
    ck_assert_uint_gt(dropped, 100);
    weir_reader_t *reader = open_reader();
    check_all(reader);
    weir_reader_close(reader);
}
END_TEST

/* ---- damage ---- */

static void shard_path(char path[1200]) {
    (void)snprintf(path, 1200, "%s/checkpoints/step-000000000010/item.ps-0000-of-0001.safetensors",
                   scratch.path);
}

static void flip(off_t at) {
    char path[1200], byte;
    shard_path(path);
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte = (char)(byte ^ 0x10);
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    (void)close(fd);
}

static void fill_wide(uint64_t step, uint64_t key, uint32_t column, void *bytes) {
    (void)column;
    for (uint32_t i = 0; i < WIDE; i++) {
        float value = value_of(step, key, i);
        memcpy((char *)bytes + i * sizeof value, &value, sizeof value);
    }
}

START_TEST(a_damaged_block_is_said_by_those_who_need_it_and_by_no_others) {
    reader_case_t c = two_columns(10, 0, 1);
    c.schema = ":512:float32:sgd";
    c.columns[0].width = WIDE;
    c.column_count = 1;
    c.fill = fill_wide;
    publish(c, 0, 1, 0);
    weir_reader_t *reader = open_reader();
    const weir_reader_table_t *table = weir_reader_table(reader, 0);
    weir_reader_row_t row;
    weir_reader_error_t error = {0};
    uint64_t bytes = weir_reader_about(reader)->bytes;
    flip((off_t)bytes / 2); /* values are nearly all of it */
    size_t good = 0, bad = 0;
    for (size_t i = 0; i < KEYS; i++) {
        int code = weir_reader_get(reader, table, expected[i].key, &row, &error);
        good += code == 0 ? 1 : 0;
        bad += code == WEIR_READER_CORRUPT ? 1 : 0;
    }
    ck_assert_uint_eq(good + bad, KEYS);
    ck_assert_uint_eq(bad, WEIR_TENSOR_BLOCK_BYTES / (WIDE * sizeof(float)));
    ck_assert_ptr_nonnull(strstr(error.message, "tensor 'value'"));
    weir_reader_rows_t *rows = NULL;
    ck_assert_int_eq(weir_reader_rows_open(reader, table, 0, WEIR_READER_SLOTS, &rows, NULL), 0);
    int code;
    size_t before = 0;
    while ((code = weir_reader_rows_next(rows, &row, &error)) == 1) {
        before++;
    }
    ck_assert_int_eq(code, WEIR_READER_CORRUPT);
    ck_assert_uint_lt(before, KEYS);
    weir_reader_rows_close(rows);
    weir_reader_close(reader);
}
END_TEST

/* Whatever byte is another one, a reader ends with rows or with a sentence. */
START_TEST(no_changed_byte_is_believed) {
    publish(two_columns(10, 0, 1), 0, 16, 0);
    char path[1200];
    shard_path(path);
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    (void)fseek(file, 0, SEEK_END);
    long size = ftell(file);
    (void)fclose(file);
    for (long at = 0; at < size; at += at < 1500 ? 1 : 613) {
        weir_reader_t *reader = NULL;
        weir_reader_row_t row;
        weir_reader_error_t error = {0};
        flip(at);
        int code = weir_reader_open(scratch.path, &reader, &error);
        for (size_t i = 0; code == 0 && i < KEYS; i += 16) {
            code = weir_reader_get(reader, weir_reader_table(reader, 0), expected[i].key, &row,
                                   &error);
        }
        if (code == 0) { /* padding of the header is in its checksum too */
            weir_reader_rows_t *rows = NULL;
            code = weir_reader_rows_open(reader, weir_reader_table(reader, 0), 0, WEIR_READER_SLOTS,
                                         &rows, &error);
            while (code == 0 && (code = weir_reader_rows_next(rows, &row, &error)) == 1) {
                code = 0;
            }
            weir_reader_rows_close(rows);
        }
        ck_assert_msg(code < 0, "byte %ld was changed, and nobody saw", at);
        ck_assert(error.message[0] != '\0');
        weir_reader_close(reader);
        flip(at);
    }
}
END_TEST

/* ---- precisions ---- */

static const char *precision_schema;

static void fill_precision(uint64_t step, uint64_t key, uint32_t column, void *bytes) {
    (void)step;
    (void)key;
    static const uint16_t bf16[2] = {0x3FC0, 0xC000}; /* 1.5, -2 */
    static const uint16_t fp16[2] = {0x3E00, 0x8001}; /* 1.5, -2^-24 */
    static const uint16_t low[2] = {0x8000, 0};
    static const int8_t int8[2] = {3, -127};
    static const float scale = 0.5F, one[2] = {1.5F, -2.0F};
    const void *from = strstr(precision_schema, "fp16") != NULL   ? (const void *)fp16
                       : strstr(precision_schema, "bf16") != NULL ? (const void *)bf16
                                                                  : (const void *)one;
    if (strstr(precision_schema, "int8") != NULL) {
        from = column == 0 ? (const void *)&scale : (const void *)int8;
        memcpy(bytes, from, column == 0 ? 4 : 2);
        return;
    }
    from = column == 1 ? (const void *)low : from;
    memcpy(bytes, from, from == (const void *)one ? 8 : 4);
}

START_TEST(values_are_floats_whatever_they_are_kept_in) {
    static const struct {
        const char *schema;
        weir_dtype_t dtype;
        float values[2];
    } cases[] = {{":2:float32:sgd", WEIR_DTYPE_F32, {1.5F, -2.0F}},
                 {":2:bf16:sgd", WEIR_DTYPE_BF16, {1.5F, -2.0F}},
                 {":2:fp16:sgd", WEIR_DTYPE_F16, {1.5F, -0x1p-24F}},
                 {":2:int8:sgd", WEIR_DTYPE_I8, {1.5F, -63.5F}},
                 {":2:split_bf16:sgd", WEIR_DTYPE_BF16, {1.5F + 0x1p-8F, -2.0F}}};
    reader_case_t c = two_columns(10, 0, 1);
    precision_schema = c.schema = cases[_i].schema;
    bool int8 = cases[_i].dtype == WEIR_DTYPE_I8, split = _i == 4;
    c.column_count = int8 || split ? 2 : 1;
    c.columns[0].name = int8 ? "scale" : "value";
    c.columns[0].dtype = int8 ? WEIR_DTYPE_F32 : cases[_i].dtype;
    c.columns[0].width = int8 ? 1 : 2;
    c.columns[1].name = int8 ? "value" : "low";
    c.columns[1].dtype = int8 ? WEIR_DTYPE_I8 : WEIR_DTYPE_U16;
    c.columns[1].width = 2;
    c.fill = fill_precision;
    publish(c, 0, 1, 0);
    weir_reader_t *reader = open_reader();
    weir_reader_row_t row;
    float values[2];
    ck_assert_int_eq(
        weir_reader_get(reader, weir_reader_table(reader, 0), expected[7].key, &row, NULL), 0);
    weir_reader_values(weir_reader_table(reader, 0), &row, values);
    ck_assert(values[0] == cases[_i].values[0]);
    ck_assert(values[1] == cases[_i].values[1]);
    weir_reader_close(reader);
}
END_TEST

START_TEST(what_is_not_there_is_said) {
    weir_reader_t *reader = NULL;
    weir_reader_error_t error = {0};
    uint64_t *steps = NULL;
    size_t count = 9;
    ck_assert_int_eq(weir_reader_open(scratch.path, &reader, &error), WEIR_READER_NOT_FOUND);
    ck_assert_ptr_null(reader);
    ck_assert_int_eq(weir_reader_open("/no such folder", &reader, &error), WEIR_READER_NOT_FOUND);
    publish(two_columns(10, 0, 2), 0, 2, 0);
    publish(two_columns(20, 10, 2), 0, 2, 0);
    ck_assert_int_eq(weir_reader_list(scratch.path, &steps, &count, &error), 0);
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(steps[1], 20);
    free(steps);
    reader = open_reader();
    weir_reader_tensor_t tensor;
    ck_assert_ptr_null(weir_reader_find_table(reader, "user"));
    ck_assert_ptr_null(weir_reader_table(reader, 1));
    ck_assert_uint_eq(weir_reader_dense_count(reader, false), 0);
    ck_assert_int_eq(weir_reader_dense(reader, false, 0, &tensor, &error), WEIR_READER_NOT_FOUND);
    weir_reader_rows_t *rows = NULL;
    ck_assert_int_eq(weir_reader_rows_open(reader, weir_reader_table(reader, 0), 5,
                                           WEIR_READER_SLOTS + 1, &rows, &error),
                     WEIR_READER_INVALID);
    weir_reader_close(reader);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("reader");
    TCase *t = tcase_create("reader");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_full_checkpoint_of_any_number_of_servers_is_read_by_key_and_in_order,
                        1, 4);
    tcase_add_test(t, a_chain_is_read_as_the_one_table_it_stands_for);
    tcase_add_test(t, rows_that_expired_are_not_there);
    tcase_add_test(t, a_damaged_block_is_said_by_those_who_need_it_and_by_no_others);
    tcase_add_test(t, no_changed_byte_is_believed);
    tcase_add_loop_test(t, values_are_floats_whatever_they_are_kept_in, 0, 5);
    tcase_add_test(t, what_is_not_there_is_said);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
