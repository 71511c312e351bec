#include "common/hash.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tools/survey.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { ROWS = 6, DIM = 2, SERVERS = 2 };

static weir_scratch_t scratch;
static uint64_t
    keys[ROWS]; /* in order of their hashes; half of them in the first half of the slots */
static float rows[ROWS][DIM];

static int compare_hashes(const void *a, const void *b) {
    uint64_t left = weir_hash64(*(const uint64_t *)a), right = weir_hash64(*(const uint64_t *)b);
    return left < right ? -1 : left > right;
}

static void set_up(void) {
    size_t lower = 0, upper = 0;
    weir_scratch_init(&scratch);
    for (uint64_t key = 1; lower + upper < ROWS; key++) {
        bool low = weir_hash64(key) >> 63 == 0;
        size_t *part = low ? &lower : &upper;
        if (*part < ROWS / 2) {
            keys[(low ? 0 : ROWS / 2) + (*part)++] = key;
        }
    }
    qsort(keys, ROWS, sizeof keys[0], compare_hashes);
    for (size_t i = 0; i < ROWS; i++) { /* norms 5, 10, 15, ... */
        rows[i][0] = 3.0f * (float)(i + 1);
        rows[i][1] = -4.0f * (float)(i + 1);
    }
}

static void tear_down(void) {
    weir_scratch_fini(&scratch);
}

static void write_shard(const char *folder, uint32_t index, weir_checkpoint_file_t *file) {
    weir_tensor_writer_t *writer = NULL;
    char path[WEIR_PATH_MAX];
    const uint64_t shape[2] = {ROWS / SERVERS, DIM};
    size_t first = index * (ROWS / SERVERS);
    (void)snprintf(file->name, sizeof file->name, "item.ps-%04u-of-0002.safetensors", index);
    (void)snprintf(path, sizeof path, "%s/%s", folder, file->name);
    ck_assert_int_eq(weir_tensor_writer_create(path, &writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_metadata(writer, "optimizer", "adagrad", NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "keys", WEIR_DTYPE_U64, 1, shape, NULL), 0);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "value", WEIR_DTYPE_F32, 2, shape, NULL),
                     0);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "s", WEIR_DTYPE_F32, 2, shape, NULL), 0);
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_append(writer, keys + first, 8 * (ROWS / SERVERS), NULL),
                     0);
    for (int copy = 0; copy < 2; copy++) {
        ck_assert_int_eq(
            weir_tensor_writer_append(writer, rows[first], 4 * DIM * (ROWS / SERVERS), NULL), 0);
    }
    ck_assert_int_eq(weir_tensor_writer_commit(writer, &file->checksum, &file->size, NULL), 0);
    weir_tensor_writer_destroy(writer);
}

static void write_dense(const char *folder, weir_checkpoint_file_t *file) {
    static const float values[4] = {1.0f, -INFINITY, NAN, -2.0f};
    weir_tensor_writer_t *writer = NULL;
    char path[WEIR_PATH_MAX];
    const uint64_t shape[2] = {2, 2};
    (void)snprintf(file->name, sizeof file->name, "dense.safetensors");
    (void)snprintf(path, sizeof path, "%s/%s", folder, file->name);
    ck_assert_int_eq(weir_tensor_writer_create(path, &writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "w", WEIR_DTYPE_F32, 2, shape, NULL), 0);
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_append(writer, values, sizeof values, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_commit(writer, &file->checksum, &file->size, NULL), 0);
    weir_tensor_writer_destroy(writer);
}

/* A published checkpoint of step 7 with the first `file_count` of: shard 0, dense, shard 1. */
static void publish(size_t file_count) {
    char folder[WEIR_PATH_MAX], config[] = "model:\n  heads: 1\n", metrics[] = "{\"mrr\": 0.5}";
    weir_checkpoint_file_t files[3] = {0};
    weir_manifest_t manifest = {.step = 7,
                                .epoch = 1,
                                .ps = SERVERS,
                                .workers = 1,
                                .created = 1.0,
                                .version = "0.1.0",
                                .config_yaml = config,
                                .metrics_json = metrics,
                                .files = files,
                                .file_count = file_count};
    ck_assert_int_eq(weir_checkpoint_begin(scratch.path, 7, folder, sizeof folder, NULL), WEIR_OK);
    write_shard(folder, 0, &files[0]);
    write_dense(folder, &files[1]);
    write_shard(folder, 1, &files[2]);
    ck_assert_int_eq(weir_checkpoint_publish(scratch.path, &manifest, false, NULL), WEIR_OK);
}

START_TEST(tables_are_measured_over_all_shards) {
    weir_survey_t survey = {0};
    publish(3);
    ck_assert_int_eq(weir_survey_make(scratch.path, true, &survey, NULL), WEIR_OK);
    ck_assert_uint_eq(survey.table_count, 1);
    const weir_survey_table_t *item = &survey.tables[0];
    ck_assert_str_eq(item->name, "item");
    ck_assert_str_eq(item->optimizer, "adagrad");
    ck_assert_uint_eq(item->rows, ROWS);
    ck_assert_uint_eq(item->dim, DIM);
    ck_assert_uint_eq(item->bytes, survey.manifest.files[0].size + survey.manifest.files[2].size);
    ck_assert_uint_eq(item->shard_count, SERVERS);
    ck_assert_uint_eq(item->shards[1].rows, ROWS / SERVERS);
    ck_assert_uint_eq(item->norms.rows, ROWS);
    ck_assert_double_eq(item->norms.min, 5.0);
    ck_assert_double_eq(item->norms.mean, 17.5);
    ck_assert_double_eq(item->norms.max, 30.0);
    ck_assert_uint_eq(item->field_count, 2);
    ck_assert_double_eq(item->fields[1].values.min, -24.0);
    ck_assert_double_eq(item->fields[1].values.max, 18.0);
    ck_assert_double_eq_tol(item->fields[1].values.norm, 5.0 * sqrt(91.0), 1e-9);
    weir_survey_fini(&survey);
}
END_TEST

START_TEST(values_that_are_not_finite_are_counted_and_left_out) {
    weir_survey_t survey = {0};
    rows[0][0] = NAN;
    rows[4][1] = INFINITY;
    publish(3);
    ck_assert_int_eq(weir_survey_make(scratch.path, false, &survey, NULL), WEIR_OK);
    const weir_survey_table_t *item = &survey.tables[0];
    ck_assert_uint_eq(item->norms.rows, ROWS - 2);
    ck_assert_double_eq(item->norms.min, 10.0);
    ck_assert_uint_eq(item->fields[0].values.nan, 1);
    ck_assert_uint_eq(item->fields[0].values.infinite, 1);
    ck_assert_uint_eq(survey.dense_count, 1);
    const weir_survey_values_t *dense = &survey.dense[0].values;
    ck_assert(survey.dense[0].measured);
    ck_assert_uint_eq(dense->count, 4);
    ck_assert_uint_eq(dense->nan, 1);
    ck_assert_uint_eq(dense->infinite, 1);
    ck_assert_double_eq(dense->min, -2.0);
    ck_assert_double_eq(dense->max, 1.0);
    ck_assert_double_eq_tol(dense->norm, sqrt(5.0), 1e-12);
    weir_survey_fini(&survey);
}
END_TEST

START_TEST(a_row_out_of_place_is_found_by_verify) {
    weir_error_t error = {0};
    weir_survey_t survey = {0};
    uint64_t first = keys[0];
    keys[0] = keys[1];
    keys[1] = first;
    publish(3);
    ck_assert_int_eq(weir_survey_make(scratch.path, true, &survey, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "item.ps-0000-of-0002.safetensors"));
    ck_assert_ptr_nonnull(strstr(error.message, "row 1 "));
    ck_assert_int_eq(weir_survey_make(scratch.path, false, &survey, NULL), WEIR_OK);
    weir_survey_fini(&survey);
}
END_TEST

START_TEST(a_shard_of_other_slots_is_found_by_verify) {
    weir_error_t error = {0};
    weir_survey_t survey = {0};
    uint64_t last = keys[ROWS / 2];
    memmove(keys + ROWS / 2, keys, sizeof keys / 2);
    keys[0] = last;
    publish(3);
    ck_assert_int_eq(weir_survey_make(scratch.path, true, &survey, &error), WEIR_ERR_CORRUPT);
}
END_TEST

START_TEST(a_checkpoint_that_lacks_a_shard_is_refused) {
    weir_error_t error = {0};
    weir_survey_t survey = {0};
    publish(2);
    ck_assert_int_eq(weir_survey_make(scratch.path, false, &survey, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "no shard 1 of the 2 of table item"));
    ck_assert_uint_eq(survey.table_count, 0);
}
END_TEST

START_TEST(names_of_shards_are_parsed_and_no_others) {
    static const char *const others[] = {
        "dense.safetensors",
        ".ps-0000-of-0002.safetensors",
        "item.ps-0002-of-0002.safetensors",
        "item.ps-0000-of-0000.safetensors",
        "item.ps-0000-of-99999.safetensors",
        "item.ps-99999999999999999999-of-99999999999999999999.safetensors",
        "item.ps-000x-of-0002.safetensors",
        "item.ps--of-0002.safetensors",
        "item.ps-0000-of-0002.safetensors.tmp",
        ("a_name_of_a_table_that_is_longer_than_any_table_could_ever_be_called.ps-0-of-2."
         "safetensors")};
    char table[WEIR_SURVEY_TABLE_NAME];
    uint32_t index = 0, count = 0;
    ck_assert(weir_survey_parse_shard("user_2.ps-0011-of-0012.safetensors", table, &index, &count));
    ck_assert_str_eq(table, "user_2");
    ck_assert_uint_eq(index, 11);
    ck_assert_uint_eq(count, 12);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        ck_assert_msg(!weir_survey_parse_shard(others[i], table, &index, &count), "%s", others[i]);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("survey");
    TCase *t = tcase_create("survey");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, tables_are_measured_over_all_shards);
    tcase_add_test(t, values_that_are_not_finite_are_counted_and_left_out);
    tcase_add_test(t, a_row_out_of_place_is_found_by_verify);
    tcase_add_test(t, a_shard_of_other_slots_is_found_by_verify);
    tcase_add_test(t, a_checkpoint_that_lacks_a_shard_is_refused);
    tcase_add_test(t, names_of_shards_are_parsed_and_no_others);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
