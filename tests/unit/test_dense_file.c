/* A checkpoint's dense files: what comes back, and what is refused. */
#include "common/file.h"
#include "common/hash.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "worker/dense_file.h"
#include "worker/encoder.h"

#include <math.h>
#include <string.h>

static const weir_encoder_config_t model = {.embedding_dim = 6,
                                            .blocks = 2,
                                            .heads = 2,
                                            .dqk = 3,
                                            .dv = 5,
                                            .max_sequence_length = 4,
                                            .attention_length = 7,
                                            .position_bias = true,
                                            .time_bias = true};

static const weir_trainer_state_t state = {.step = 12345678901234567890u,
                                           .best_step = 7,
                                           .best_value = 0.1234567890123456789,
                                           .best_of = "validation ndcg@10",
                                           .evaluations_since_best = 3,
                                           .seconds = 1e-300,
                                           .dataset_digest = UINT64_MAX};

enum { PARTS = 3 }; /* parameters, m, v */

static weir_scratch_t scratch;
static size_t elements;
static float *written[PARTS], *loaded[PARTS];
static weir_checkpoint_file_t files[WEIR_DENSE_FILES];
static weir_error_t error;

static void begin(void) {
    weir_scratch_init(&scratch);
    elements = weir_encoder_parameter_elements(&model);
    for (size_t part = 0; part < PARTS; part++) {
        written[part] = calloc(elements, sizeof(float));
        loaded[part] = calloc(elements, sizeof(float));
        ck_assert(written[part] != NULL && loaded[part] != NULL);
        for (size_t i = 0; i < elements; i++) {
            written[part][i] = (float)(1 + part) * ldexpf(1.0f + (float)i, -(int)(i % 120));
        }
    }
    written[0][0] = -0.0f;
    memset(files, 0, sizeof files);
    error = (weir_error_t){0};
}

static void end(void) {
    for (size_t part = 0; part < PARTS; part++) {
        free(written[part]);
        free(loaded[part]);
    }
    weir_scratch_fini(&scratch);
}

static weir_err_t write_into(const char *folder) {
    weir_parameters_t *parameters = weir_encoder_parameters(&model);
    weir_err_t err = weir_dense_file_write(folder, parameters, written[0], written[1], written[2],
                                           &state, files, &error);
    free(parameters);
    return err;
}

static weir_err_t write_all(void) {
    return write_into(scratch.path);
}

static weir_err_t load_as(const weir_encoder_config_t *config, weir_trainer_state_t *into) {
    weir_parameters_t *parameters = weir_encoder_parameters(config);
    weir_err_t err = weir_dense_file_load(scratch.path, parameters, loaded[0], loaded[1], loaded[2],
                                          into, &error);
    free(parameters);
    return err;
}

static char *read_whole(const char *name, size_t *size) {
    char *bytes = NULL;
    ck_assert_int_eq(weir_file_read(weir_scratch_path(&scratch, name), 1 << 24, &bytes, size, NULL),
                     WEIR_OK);
    return bytes;
}

static void put_whole(const char *name, const char *bytes, size_t size) {
    ck_assert_int_eq(weir_file_replace(weir_scratch_path(&scratch, name), bytes, size, NULL),
                     WEIR_OK);
}

/* Loading fails with one of the codes for what files hold, and the state is as it was. */
static void refuse(void) {
    weir_trainer_state_t into = {.step = 99};
    weir_err_t err = load_as(&model, &into);
    ck_assert_msg(err == WEIR_ERR_CORRUPT || err == WEIR_ERR_INVALID || err == WEIR_ERR_NOT_FOUND,
                  "%d: %s", (int)err, error.message);
    ck_assert_uint_gt(strlen(error.message), 10);
    ck_assert_uint_eq(into.step, 99);
    ck_assert_uint_eq(into.best_step, 0);
}

START_TEST(what_was_written_comes_back_bit_for_bit) {
    weir_trainer_state_t into = {0};
    ck_assert_msg(write_all() == WEIR_OK, "%s", error.message);
    ck_assert_msg(load_as(&model, &into) == WEIR_OK, "%s", error.message);
    for (size_t part = 0; part < PARTS; part++) {
        ck_assert_mem_eq(loaded[part], written[part], elements * sizeof(float));
    }
    ck_assert_uint_eq(into.step, state.step);
    ck_assert_uint_eq(into.best_step, state.best_step);
    ck_assert_mem_eq(&into.best_value, &state.best_value, sizeof(double));
    ck_assert_mem_eq(&into.seconds, &state.seconds, sizeof(double));
    ck_assert_str_eq(into.best_of, state.best_of);
    ck_assert_uint_eq(into.evaluations_since_best, state.evaluations_since_best);
    ck_assert_uint_eq(into.dataset_digest, state.dataset_digest);
}
END_TEST

START_TEST(the_report_of_the_files_agrees_with_them) {
    const char *const names[] = {"dense.safetensors", "trainer.safetensors"};
    ck_assert_msg(write_all() == WEIR_OK, "%s", error.message);
    for (size_t i = 0; i < WEIR_DENSE_FILES; i++) {
        size_t size = 0;
        char *bytes = read_whole(names[i], &size);
        ck_assert_str_eq(files[i].name, names[i]);
        ck_assert_uint_eq(files[i].size, size);
        ck_assert_uint_eq(files[i].checksum, weir_checksum(bytes, size, 0));
        free(bytes);
    }
}
END_TEST

START_TEST(a_value_that_is_not_finite_is_neither_saved_nor_loaded) {
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t part = 0; part < PARTS; part++) {
        float good = written[part][elements - 1];
        written[part][elements - 1] = bad[part];
        ck_assert_int_eq(write_all(), WEIR_ERR_INVALID);
        ck_assert_ptr_nonnull(strstr(error.message, "layer.1.output_bias holds NaN"));
        written[part][elements - 1] = good;
    }
    ck_assert_msg(write_all() == WEIR_OK, "%s", error.message);
    for (size_t i = 0; i < WEIR_DENSE_FILES; i++) {
        const char *const names[] = {"dense.safetensors", "trainer.safetensors"};
        size_t size = 0;
        char *bytes = read_whole(names[i], &size);
        char *spoilt = malloc(size);
        ck_assert_ptr_nonnull(spoilt);
        memcpy(spoilt, bytes, size);
        memcpy(spoilt + size - sizeof(float), &bad[i], sizeof(float));
        put_whole(names[i], spoilt, size);
        refuse();
        ck_assert_ptr_nonnull(strstr(error.message, "holds NaN or infinity"));
        ck_assert_ptr_nonnull(strstr(error.message, names[i]));
        put_whole(names[i], bytes, size);
        free(bytes);
        free(spoilt);
    }
}
END_TEST

START_TEST(a_file_of_another_model_is_refused_by_the_tensor) {
    weir_encoder_config_t others[] = {model, model, model, model};
    const char *const tensors[] = {"layer.0.uvqk", "position_embedding", "layer.2.uvqk",
                                   "layer.0.uvqk"};
    weir_trainer_state_t into = {.step = 99};
    others[0].dv = 4;
    others[1].attention_length = 6;
    others[2].blocks = 3;
    others[3].heads = 1;
    ck_assert_msg(write_all() == WEIR_OK, "%s", error.message);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        size_t needed = weir_encoder_parameter_elements(&others[i]);
        for (size_t part = 0; part < PARTS; part++) {
            free(loaded[part]);
            loaded[part] = calloc(needed, sizeof(float));
            ck_assert_ptr_nonnull(loaded[part]);
        }
        ck_assert_int_ne(load_as(&others[i], &into), WEIR_OK);
        ck_assert_msg(strstr(error.message, tensors[i]) != NULL, "%s", error.message);
        ck_assert_uint_eq(into.step, 99);
    }
}
END_TEST

START_TEST(a_file_that_is_missing_or_cut_anywhere_is_refused) {
    const char *const names[] = {"dense.safetensors", "trainer.safetensors"};
    for (size_t i = 0; i < WEIR_DENSE_FILES; i++) {
        size_t size = 0;
        ck_assert_msg(write_all() == WEIR_OK, "%s", error.message);
        char *bytes = read_whole(names[i], &size);
        for (size_t cut = 0; cut < size; cut += cut < 64 ? 1 : size / 40) {
            put_whole(names[i], bytes, cut);
            refuse();
        }
        ck_assert_int_eq(remove(weir_scratch_path(&scratch, names[i])), 0);
        refuse();
        free(bytes);
    }
}
END_TEST

/* Replace a piece of trainer.safetensors' header by another of the same length. */
static void spoil_header(const char *from, const char *to) {
    size_t size = 0, length = strlen(from);
    ck_assert_uint_eq(strlen(to), length);
    ck_assert_msg(write_all() == WEIR_OK, "%s", error.message);
    char *bytes = read_whole("trainer.safetensors", &size);
    char *at = NULL;
    for (size_t i = 0; i + length <= size && at == NULL; i++) {
        at = memcmp(bytes + i, from, length) == 0 ? bytes + i : NULL;
    }
    ck_assert_msg(at != NULL, "the header has no %s", from);
    memcpy(at, to, length);
    put_whole("trainer.safetensors", bytes, size);
    free(bytes);
}

START_TEST(metadata_that_is_no_number_is_refused_by_its_key) {
    static const char *const cases[][3] = {
        {"12345678901234567890", "123456789012345678x0", "\"step\""},
        {"12345678901234567890", "99999999999999999999", "\"step\""},
        {"12345678901234567890", "-1345678901234567890", "\"step\""},
        {"12345678901234567890", " 2345678901234567890", "\"step\""},
        {"\"best_step\"", "\"best_stop\"", "\"best_step\""},
        {"0.12345678901", "nan(345678901", "\"best_value\""},
        {"\"best_value\"", "\"best_volue\"", "\"best_value\""},
        {"\"seconds\"", "\"secunds\"", "\"seconds\""},
        {"18446744073709551615", "18446744073709551616", "\"dataset_digest\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spoil_header(cases[i][0], cases[i][1]);
        refuse();
        ck_assert_msg(strstr(error.message, cases[i][2]) != NULL, "case %zu: %s", i, error.message);
    }
}
END_TEST

START_TEST(a_file_from_before_best_of_is_of_no_contest) {
    weir_trainer_state_t into = {.best_of = "test mrr"};
    spoil_header("\"best_of\"", "\"best_if\"");
    ck_assert_msg(load_as(&model, &into) == WEIR_OK, "%s", error.message);
    ck_assert_str_eq(into.best_of, "");
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_an_error_of_its_name) {
    char missing[600];
    (void)snprintf(missing, sizeof missing, "%s/none", scratch.path);
    ck_assert_int_ne(write_into(missing), WEIR_OK);
    ck_assert_ptr_nonnull(strstr(error.message, "none"));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("dense_file");
    TCase *t = tcase_create("dense_file");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, what_was_written_comes_back_bit_for_bit);
    tcase_add_test(t, the_report_of_the_files_agrees_with_them);
    tcase_add_test(t, a_value_that_is_not_finite_is_neither_saved_nor_loaded);
    tcase_add_test(t, a_file_of_another_model_is_refused_by_the_tensor);
    tcase_add_test(t, a_file_that_is_missing_or_cut_anywhere_is_refused);
    tcase_add_test(t, metadata_that_is_no_number_is_refused_by_its_key);
    tcase_add_test(t, a_file_from_before_best_of_is_of_no_contest);
    tcase_add_test(t, a_folder_that_is_not_there_is_an_error_of_its_name);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
