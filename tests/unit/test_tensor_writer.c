#include "common/file.h"
#include "common/tensor_file.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static weir_scratch_t scratch;

static void begin(void) {
    weir_scratch_init(&scratch);
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

static weir_tensor_writer_t *create(const char *name) {
    weir_tensor_writer_t *writer = NULL;
    ck_assert_int_eq(weir_tensor_writer_create(weir_scratch_path(&scratch, name), &writer, NULL),
                     WEIR_OK);
    return writer;
}

/* Only the scratch folder's own entry is left: no file, no temporary. */
static void assert_empty(void) {
    ck_assert_int_eq(rmdir(scratch.path), 0);
    ck_assert_int_eq(mkdir(scratch.path, 0700), 0);
}

START_TEST(what_is_written_is_read_back) {
    enum { ROWS = 70001 };
    const uint64_t matrix[] = {ROWS, 5}, vector[] = {3}, nothing[] = {0, 4};
    float *values = malloc(sizeof(float) * ROWS * 5);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < (size_t)ROWS * 5; i++) {
        values[i] = (float)i * 0.5f;
    }
    weir_tensor_writer_t *writer = create("a.safetensors");
    ck_assert_int_eq(weir_tensor_writer_metadata(writer, "kind", "äöü \"quoted\"", NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "m", WEIR_DTYPE_F32, 2, matrix, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "n", WEIR_DTYPE_F32, 2, nothing, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "s", WEIR_DTYPE_I16, 0, NULL, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "v", WEIR_DTYPE_U8, 1, vector, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    /* In pieces that respect no border of rows, tensors or buffers. */
    unsigned char tail[5] = {0x34, 0x12, 1, 2, 3};
    size_t size = sizeof(float) * ROWS * 5, given = 0, piece = 1;
    while (given < size) {
        size_t now = piece < size - given ? piece : size - given;
        ck_assert_int_eq(weir_tensor_writer_append(writer, (const char *)values + given, now, NULL),
                         WEIR_OK);
        given += now;
        piece = piece < 400000 ? piece * 3 : 1050001;
    }
    ck_assert_int_eq(weir_tensor_writer_append(writer, tail, 4, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_append(writer, tail + 4, 1, NULL), WEIR_OK);
    uint64_t checksum = 0, bytes = 0, found_checksum = 1, found_bytes = 1;
    const char *path = weir_scratch_path(&scratch, "a.safetensors");
    ck_assert(!weir_file_exists(path));
    ck_assert_int_eq(weir_tensor_writer_commit(writer, &checksum, &bytes, NULL), WEIR_OK);
    weir_tensor_writer_destroy(writer);
    ck_assert_int_eq(weir_file_checksum(path, &found_checksum, &found_bytes, NULL), WEIR_OK);
    ck_assert(checksum == found_checksum);
    ck_assert_uint_eq(bytes, found_bytes);

    weir_tensor_file_t *file = NULL;
    const weir_tensor_t *tensor = NULL;
    ck_assert_int_eq(weir_tensor_file_open(path, &file, NULL), WEIR_OK);
    weir_tensor_file_advise(file, true);
    ck_assert_str_eq(weir_tensor_file_metadata(file, "kind"), "äöü \"quoted\"");
    ck_assert_int_eq(weir_tensor_file_require(file, "m", WEIR_DTYPE_F32, 2, matrix, &tensor, NULL),
                     WEIR_OK);
    ck_assert_uint_eq((uintptr_t)tensor->values % 64, 0);
    ck_assert(memcmp(tensor->values, values, size) == 0);
    ck_assert_int_eq(weir_tensor_file_require(file, "n", WEIR_DTYPE_F32, 2, nothing, &tensor, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_tensor_file_require(file, "s", WEIR_DTYPE_I16, 0, NULL, &tensor, NULL),
                     WEIR_OK);
    ck_assert_mem_eq(tensor->values, tail, 2);
    ck_assert_int_eq(weir_tensor_file_require(file, "v", WEIR_DTYPE_U8, 1, vector, &tensor, NULL),
                     WEIR_OK);
    ck_assert_mem_eq(tensor->values, tail + 2, 3);
    weir_tensor_file_close(file);
    free(values);
}
END_TEST

START_TEST(a_file_without_tensors_can_be_read) {
    weir_tensor_writer_t *writer = create("a.safetensors");
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_commit(writer, NULL, NULL, NULL), WEIR_OK);
    weir_tensor_writer_destroy(writer);
    weir_tensor_file_t *file = NULL;
    ck_assert_int_eq(
        weir_tensor_file_open(weir_scratch_path(&scratch, "a.safetensors"), &file, NULL), WEIR_OK);
    ck_assert_uint_eq(weir_tensor_file_count(file), 0);
    ck_assert_ptr_null(weir_tensor_file_find(file, "a"));
    weir_tensor_file_close(file);
}
END_TEST

START_TEST(without_a_commit_nothing_stays) {
    const uint64_t shape[] = {4};
    weir_tensor_writer_t *writer = create("a.safetensors");
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "a", WEIR_DTYPE_U8, 1, shape, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_append(writer, "abcd", 4, NULL), WEIR_OK);
    weir_tensor_writer_destroy(writer);
    assert_empty();
}
END_TEST

START_TEST(a_commit_needs_every_declared_byte_and_no_more_are_taken) {
    const uint64_t shape[] = {4};
    weir_error_t error = {0};
    weir_tensor_writer_t *writer = create("a.safetensors");
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "a", WEIR_DTYPE_U8, 1, shape, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_append(writer, "a", 1, NULL), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_tensor_writer_commit(writer, NULL, NULL, NULL), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_tensor_writer_append(writer, "abc", 3, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_commit(writer, NULL, NULL, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "3 of 4"));
    ck_assert_int_eq(weir_tensor_writer_append(writer, "de", 2, NULL), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_tensor_writer_append(writer, "d", 1, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_commit(writer, NULL, NULL, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_commit(writer, NULL, NULL, NULL), WEIR_ERR_INVALID);
    weir_tensor_writer_destroy(writer);
    ck_assert(weir_file_exists(weir_scratch_path(&scratch, "a.safetensors")));
}
END_TEST

START_TEST(bad_declarations_are_refused) {
    const uint64_t three[] = {3}, huge[] = {1ull << 62, 4}, wide[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    weir_error_t error = {0};
    weir_tensor_writer_t *writer = create("a.safetensors");
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "a", WEIR_DTYPE_U8, 1, three, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "a", WEIR_DTYPE_U8, 1, three, NULL),
                     WEIR_ERR_INVALID);
    ck_assert_int_eq(
        weir_tensor_writer_declare(writer, "__metadata__", WEIR_DTYPE_U8, 1, three, NULL),
        WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "h", WEIR_DTYPE_U8, 2, huge, NULL),
                     WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "w", WEIR_DTYPE_U8, 9, wide, NULL),
                     WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "f", WEIR_DTYPE_F32, 1, three, &error),
                     WEIR_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "larger elements first"));
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "\xff", WEIR_DTYPE_U8, 1, three, NULL),
                     WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_tensor_writer_metadata(writer, "k", "\xff", NULL), WEIR_ERR_INVALID);
    weir_tensor_writer_destroy(writer);
    assert_empty();
}
END_TEST

/* The file-size limit stands in for a full disk: both are write() failing in the middle. */
START_TEST(a_write_error_is_final) {
    const uint64_t shape[] = {3 << 20};
    weir_error_t error = {0}, again = {0};
    struct rlimit before, limited;
    char *values = calloc(1, 3 << 20);
    ck_assert_ptr_nonnull(values);
    weir_tensor_writer_t *writer = create("a.safetensors");
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "a", WEIR_DTYPE_U8, 1, shape, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    limited = before;
    limited.rlim_cur = 1 << 20;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limited), 0);
    weir_err_t status = weir_tensor_writer_append(writer, values, 2 << 20, &error);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    ck_assert_int_eq(status, WEIR_ERR_IO);
    ck_assert_ptr_nonnull(strstr(error.message, "a.safetensors"));
    /* There is room again, but bytes are missing: the file may never appear. */
    ck_assert_int_eq(weir_tensor_writer_append(writer, values, 1 << 20, &again), WEIR_ERR_IO);
    ck_assert_str_eq(again.message, error.message);
    ck_assert_int_eq(weir_tensor_writer_commit(writer, NULL, NULL, &again), WEIR_ERR_IO);
    ck_assert_str_eq(again.message, error.message);
    weir_tensor_writer_destroy(writer);
    free(values);
    assert_empty();
}
END_TEST

START_TEST(a_folder_that_is_missing_is_named) {
    weir_error_t error = {0};
    weir_tensor_writer_t *writer = NULL;
    ck_assert_int_eq(
        weir_tensor_writer_create(weir_scratch_path(&scratch, "none/a"), &writer, &error),
        WEIR_ERR_NOT_FOUND);
    ck_assert_ptr_null(writer);
    ck_assert_ptr_nonnull(strstr(error.message, "none/a"));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("tensor_writer");
    TCase *t = tcase_create("tensor_writer");
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, what_is_written_is_read_back);
    tcase_add_test(t, a_file_without_tensors_can_be_read);
    tcase_add_test(t, without_a_commit_nothing_stays);
    tcase_add_test(t, a_commit_needs_every_declared_byte_and_no_more_are_taken);
    tcase_add_test(t, bad_declarations_are_refused);
    tcase_add_test(t, a_write_error_is_final);
    tcase_add_test(t, a_folder_that_is_missing_is_named);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
