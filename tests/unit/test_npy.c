/* Arrays as NumPy writes them, spelled out by hand; and whatever else claims to be one. */
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tools/npy.h"

#include <string.h>

static weir_scratch_t scratch;

static void begin(void) {
    weir_scratch_init(&scratch);
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

/* The bytes of an array of version 1.0: its header padded to 64 bytes as numpy.save does. */
static size_t make(const char *dictionary, const void *values, size_t size, char *out) {
    size_t length = strlen(dictionary), padded = (10 + length + 1 + 63) / 64 * 64 - 10;
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)(padded & 0xFF);
    out[9] = (char)(padded >> 8);
    memset(out + 10, ' ', padded);
    memcpy(out + 10, dictionary, length);
    out[10 + padded - 1] = '\n';
    memcpy(out + 10 + padded, values, size);
    return 10 + padded + size;
}

static weir_err_t open_bytes(const char *bytes, size_t size, weir_npy_t *array,
                             weir_error_t *error) {
    const char *path = weir_scratch_path(&scratch, "array.npy");
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    (void)fclose(file);
    return weir_npy_open(path, array, error);
}

static const float values[6] = {1.5F, -2, 3, 4, 5, 6};
static const char dictionary[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }";

START_TEST(an_array_is_read_as_it_was_written) {
    char bytes[1024];
    weir_npy_t array;
    size_t size = make(dictionary, values, sizeof values, bytes);
    ck_assert_int_eq(open_bytes(bytes, size, &array, NULL), WEIR_OK);
    ck_assert_int_eq(array.dtype, WEIR_DTYPE_F32);
    ck_assert_uint_eq(array.rank, 2);
    ck_assert_uint_eq(array.shape[0], 3);
    ck_assert_uint_eq(array.shape[1], 2);
    ck_assert_mem_eq(array.values, values, sizeof values);
    weir_npy_close(&array);
    const int64_t keys[2] = {7, -1};
    size =
        make("{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }", keys, sizeof keys, bytes);
    ck_assert_int_eq(open_bytes(bytes, size, &array, NULL), WEIR_OK);
    ck_assert_int_eq(array.dtype, WEIR_DTYPE_I64);
    ck_assert_uint_eq(array.rank, 1);
    ck_assert_mem_eq(array.values, keys, sizeof keys);
    weir_npy_close(&array);
}
END_TEST

START_TEST(a_header_of_ours_is_one_that_can_be_read) {
    char bytes[WEIR_NPY_HEADER + sizeof values];
    weir_npy_t array;
    weir_npy_header(WEIR_DTYPE_F32, 2, 3, bytes);
    memcpy(bytes + WEIR_NPY_HEADER, values, sizeof values);
    ck_assert_int_eq(open_bytes(bytes, sizeof bytes, &array, NULL), WEIR_OK);
    ck_assert_uint_eq(array.shape[0], 2);
    ck_assert_uint_eq(array.shape[1], 3);
    weir_npy_close(&array);
    weir_npy_header(WEIR_DTYPE_U64, 3, 0, bytes);
    ck_assert_int_eq(open_bytes(bytes, sizeof bytes, &array, NULL), WEIR_OK);
    ck_assert_int_eq(array.dtype, WEIR_DTYPE_U64);
    ck_assert_uint_eq(array.rank, 1);
    weir_npy_close(&array);
}
END_TEST

START_TEST(what_is_no_such_array_is_refused_with_a_sentence) {
    static const char *const others[] = {
        "{'descr': '>f4', 'fortran_order': False, 'shape': (3, 2), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 1), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 99999999999999999999999), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 6), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (3, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2",
        "{'descr': '<f4', 'shape': (3, 2), }",
        "",
        "{'descr':",
        "{'descr': '",
        "'fortran_order':'shape':'descr':'"};
    char bytes[1024];
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        weir_npy_t array = {.map = NULL};
        weir_error_t error = {0};
        size_t size = make(others[i], values, sizeof values, bytes);
        ck_assert_msg(open_bytes(bytes, size, &array, &error) != WEIR_OK, "%s", others[i]);
        ck_assert(error.message[0] != '\0');
        ck_assert_ptr_null(array.map);
    }
    weir_npy_t array;
    ck_assert_int_eq(weir_npy_open("no such file.npy", &array, NULL), WEIR_ERR_NOT_FOUND);
}
END_TEST

START_TEST(no_changed_or_missing_byte_ends_in_a_crash) {
    char bytes[1024], changed[1024];
    weir_npy_t array;
    size_t size = make(dictionary, values, sizeof values, bytes);
    for (size_t cut = 0; cut < size; cut++) {
        ck_assert_int_ne(open_bytes(bytes, cut, &array, NULL), WEIR_OK);
    }
    for (size_t at = 0; at < size - sizeof values; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(changed, bytes, size);
            changed[at] = (char)(changed[at] ^ (1 << bit));
            if (open_bytes(changed, size, &array, NULL) == WEIR_OK) { /* padding, names */
                ck_assert_uint_le(array.shape[0] * array.shape[1] * 4, sizeof values * 2);
                weir_npy_close(&array);
            }
        }
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("npy");
    TCase *t = tcase_create("npy");
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, an_array_is_read_as_it_was_written);
    tcase_add_test(t, a_header_of_ours_is_one_that_can_be_read);
    tcase_add_test(t, what_is_no_such_array_is_refused_with_a_sentence);
    tcase_add_test(t, no_changed_or_missing_byte_ends_in_a_crash);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
