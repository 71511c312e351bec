#include "common/file.h"
#include "common/tensor_file.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file in memory: header text, then `size` bytes of data. Caller frees. */
static unsigned char *compose(const char *header, size_t size, size_t *total) {
    size_t length = strlen(header);
    *total = 8 + length + size;
    unsigned char *bytes = calloc(1, *total + 1);
    ck_assert_ptr_nonnull(bytes);
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
    }
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < size; i++) {
        bytes[8 + length + i] = (unsigned char)i;
    }
    return bytes;
}

static weir_err_t open_composed(const char *header, size_t size, weir_error_t *error) {
    size_t total = 0;
    unsigned char *bytes = compose(header, size, &total);
    weir_tensor_file_t *file = NULL;
    weir_err_t status = weir_tensor_file_open_memory(bytes, total, "memory", &file, error);
    ck_assert((file != NULL) == (status == WEIR_OK));
    weir_tensor_file_close(file);
    free(bytes);
    return status;
}

START_TEST(hostile_headers_are_refused_each_with_its_reason) {
    static const struct {
        const char *header;
        size_t size;
        weir_err_t status;
        const char *reason;
    } cases[] = {
        {"", 0, WEIR_ERR_CORRUPT, "bad header"},
        {"{", 0, WEIR_ERR_CORRUPT, "bad header"},
        {"[]", 0, WEIR_ERR_CORRUPT, "no object"},
        {"{} x", 0, WEIR_ERR_CORRUPT, "bad header"},
        {"{\"a\":1}", 0, WEIR_ERR_CORRUPT, "'a' is no object"},
        {"{\"__metadata__\":3}", 0, WEIR_ERR_CORRUPT, "__metadata__ is no object"},
        {"{\"__metadata__\":{\"k\":3}}", 0, WEIR_ERR_CORRUPT, "'k' is no string"},
        {"{}", 1, WEIR_ERR_CORRUPT, "1 bytes after the last tensor"},
        {"{\"a\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4, WEIR_ERR_CORRUPT, "no dtype"},
        {"{\"a\":{\"dtype\":\"F128\",\"shape\":[],\"data_offsets\":[0,16]}}", 16,
         WEIR_ERR_UNSUPPORTED, "'F128'"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, WEIR_ERR_CORRUPT, "no shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, WEIR_ERR_CORRUPT,
         "no count"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, WEIR_ERR_CORRUPT,
         "no count"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         WEIR_ERR_CORRUPT, "overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0,
         WEIR_ERR_CORRUPT, "overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,0]}}", 0,
         WEIR_ERR_CORRUPT, "bad header"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
         WEIR_ERR_UNSUPPORTED, "more dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, WEIR_ERR_CORRUPT, "pair of data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, WEIR_ERR_CORRUPT,
         "pair of data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, WEIR_ERR_CORRUPT,
         "pair of data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, WEIR_ERR_CORRUPT,
         "ends before it begins"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, WEIR_ERR_CORRUPT,
         "past the end of the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9223372036854775807]}}", 8,
         WEIR_ERR_CORRUPT, "past the end of the file"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, WEIR_ERR_CORRUPT,
         "do not fit its shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
         8, WEIR_ERR_CORRUPT, "'b' overlaps another tensor"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
         4, WEIR_ERR_CORRUPT, "overlaps another tensor"},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[5,8]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
         8, WEIR_ERR_CORRUPT, "'b' has a hole before it"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 6, WEIR_ERR_CORRUPT,
         "2 bytes after the last tensor"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         0, WEIR_ERR_CORRUPT, "duplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weir_error_t error = {0};
        weir_err_t status = open_composed(cases[i].header, cases[i].size, &error);
        ck_assert_msg(status == cases[i].status, "%s: %d %s", cases[i].header, status,
                      error.message);
        ck_assert_msg(strstr(error.message, cases[i].reason) != NULL, "%s: %s", cases[i].header,
                      error.message);
        ck_assert_msg(strstr(error.message, "memory") != NULL, "%s", error.message);
    }
}
END_TEST

START_TEST(header_lengths_are_checked_before_use) {
    static const struct {
        unsigned char bytes[12];
        size_t size;
        const char *reason;
    } cases[] = {
        {{0}, 0, "0 bytes: too short"},
        {{2, 0, 0, 0, 0, 0, 0}, 7, "7 bytes: too short"},
        {{0, 0, 0, 0, 0, 0, 0, 0x80}, 8, "header of 9223372036854775808 bytes"},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 12, "header of 18446744073709551615"},
        {{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "ends inside its header of 3 bytes"},
        {{0, 0, 0, 0x10, 0, 0, 0, 0, '{', '}'}, 10, "header of 268435456 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weir_error_t error = {0};
        weir_tensor_file_t *file = NULL;
        ck_assert_int_eq(
            weir_tensor_file_open_memory(cases[i].bytes, cases[i].size, "memory", &file, &error),
            WEIR_ERR_CORRUPT);
        ck_assert_ptr_null(file);
        ck_assert_msg(strstr(error.message, cases[i].reason) != NULL, "%s", error.message);
    }
}
END_TEST

START_TEST(names_in_messages_hold_no_control_characters) {
    weir_error_t error = {0};
    ck_assert_int_eq(open_composed("{\"a\\nlvl=error\":7}", 0, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "'a?lvl=error'"));
    ck_assert_int_eq(open_composed("{\"a\nb\":7}", 0, &error), WEIR_ERR_CORRUPT);
    ck_assert_ptr_null(strchr(error.message, '\n'));
}
END_TEST

START_TEST(deep_nesting_is_refused_and_not_followed) {
    char *header = malloc(100001);
    ck_assert_ptr_nonnull(header);
    memset(header, '[', 100000);
    header[100000] = '\0';
    weir_error_t error = {0};
    ck_assert_int_eq(open_composed(header, 0, &error), WEIR_ERR_CORRUPT);
    free(header);
}
END_TEST

static const char good_header[] =
    "{\"__metadata__\":{\"kind\":\"test\",\"empty\":\"\"},"
    "\"z\":{\"dtype\":\"I16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
    "\"none\":{\"dtype\":\"F64\",\"shape\":[0,7],\"data_offsets\":[8,8]},"
    "\"scalar\":{\"dtype\":\"U64\",\"shape\":[],\"data_offsets\":[0,8]}}   ";

START_TEST(tensors_are_found_in_order_and_by_name) {
    size_t total = 0;
    unsigned char *bytes = compose(good_header, 20, &total);
    weir_tensor_file_t *file = NULL;
    ck_assert_int_eq(weir_tensor_file_open_memory(bytes, total, "memory", &file, NULL), WEIR_OK);
    ck_assert_uint_eq(weir_tensor_file_count(file), 3);
    ck_assert_str_eq(weir_tensor_file_at(file, 0)->name, "scalar");
    ck_assert_str_eq(weir_tensor_file_at(file, 1)->name, "none");
    ck_assert_str_eq(weir_tensor_file_at(file, 2)->name, "z");
    ck_assert_ptr_null(weir_tensor_file_at(file, 3));
    const weir_tensor_t *z = weir_tensor_file_find(file, "z");
    ck_assert_ptr_eq(z, weir_tensor_file_at(file, 2));
    ck_assert_uint_eq(z->rank, 2);
    ck_assert_uint_eq(z->elements, 6);
    ck_assert_uint_eq(z->bytes, 12);
    ck_assert_uint_eq(((const unsigned char *)z->values)[0], 8);
    ck_assert_uint_eq(weir_tensor_file_find(file, "scalar")->elements, 1);
    ck_assert_ptr_null(weir_tensor_file_find(file, "__metadata__"));
    ck_assert_ptr_null(weir_tensor_file_find(file, "y"));
    ck_assert_str_eq(weir_tensor_file_metadata(file, "kind"), "test");
    ck_assert_ptr_null(weir_tensor_file_metadata(file, "z"));
    const char *key = NULL, *value = NULL;
    ck_assert(weir_tensor_file_metadata_at(file, 1, &key, &value));
    ck_assert_str_eq(key, "empty");
    ck_assert_str_eq(value, "");
    ck_assert(!weir_tensor_file_metadata_at(file, 2, &key, &value));
    weir_tensor_file_close(file);
    free(bytes);
}
END_TEST

START_TEST(a_required_tensor_must_match_and_the_difference_is_told) {
    size_t total = 0;
    unsigned char *bytes = compose(good_header, 20, &total);
    weir_tensor_file_t *file = NULL;
    const weir_tensor_t *tensor = NULL;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_tensor_file_open_memory(bytes, total, "memory", &file, NULL), WEIR_OK);
    const uint64_t exact[] = {2, 3}, loose[] = {UINT64_MAX, 3}, wrong[] = {UINT64_MAX, 4};
    ck_assert_int_eq(weir_tensor_file_require(file, "z", WEIR_DTYPE_F32, 2, exact, &tensor, &error),
                     WEIR_ERR_CORRUPT);
    ck_assert_str_eq(error.message, "'memory': tensor 'z' is I16 [2, 3], expected F32 [2, 3]");
    ck_assert_int_eq(weir_tensor_file_require(file, "z", WEIR_DTYPE_I16, 2, wrong, &tensor, &error),
                     WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "expected I16 [*, 4]"));
    ck_assert_int_eq(weir_tensor_file_require(file, "z", WEIR_DTYPE_I16, 1, loose, &tensor, NULL),
                     WEIR_ERR_CORRUPT);
    ck_assert_int_eq(weir_tensor_file_require(file, "y", WEIR_DTYPE_I16, 2, loose, &tensor, NULL),
                     WEIR_ERR_NOT_FOUND);
    ck_assert_ptr_null(tensor);
    weir_tensor_file_close(file);

    /* One byte further, no U64 is aligned; calloc's result is. The header's length decides where.
     */
    const size_t data = total - 20;
    unsigned char *moved = calloc(1, total + 8);
    ck_assert_ptr_nonnull(moved);
    unsigned char *aligned = moved + (8 - data % 8) % 8;
    memcpy(aligned, bytes, total);
    ck_assert_int_eq(weir_tensor_file_open_memory(aligned, total, "memory", &file, NULL), WEIR_OK);
    ck_assert_int_eq(
        weir_tensor_file_require(file, "scalar", WEIR_DTYPE_U64, 0, NULL, &tensor, &error),
        WEIR_OK);
    ck_assert_int_eq(weir_tensor_file_require(file, "z", WEIR_DTYPE_I16, 2, loose, &tensor, NULL),
                     WEIR_OK);
    weir_tensor_file_close(file);
    unsigned char *skewed = moved + (9 - data % 8) % 8;
    memmove(skewed, bytes, total);
    ck_assert_int_eq(weir_tensor_file_open_memory(skewed, total, "memory", &file, NULL), WEIR_OK);
    ck_assert_int_eq(
        weir_tensor_file_require(file, "scalar", WEIR_DTYPE_U64, 0, NULL, &tensor, &error),
        WEIR_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error.message, "multiple of its element's size"));
    weir_tensor_file_close(file);
    free(moved);
    free(bytes);
}
END_TEST

START_TEST(every_file_cut_short_is_refused) {
    size_t total = 0;
    unsigned char *bytes = compose(good_header, 20, &total);
    for (size_t size = 0; size < total; size++) {
        weir_tensor_file_t *file = NULL;
        unsigned char *copy = malloc(size + 1); /* its own block: a read past it is seen */
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, bytes, size);
        ck_assert_int_eq(weir_tensor_file_open_memory(copy, size, "memory", &file, NULL),
                         WEIR_ERR_CORRUPT);
        free(copy);
    }
    free(bytes);
}
END_TEST

START_TEST(what_is_no_file_is_named) {
    weir_scratch_t scratch;
    weir_scratch_init(&scratch);
    weir_error_t error = {0};
    weir_tensor_file_t *file = NULL;
    const char *path = weir_scratch_path(&scratch, "a.safetensors");
    ck_assert_int_eq(weir_tensor_file_open(path, &file, &error), WEIR_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, path));
    ck_assert_int_eq(weir_file_replace(path, "", 0, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_file_open(path, &file, &error), WEIR_ERR_CORRUPT);
    ck_assert_int_eq(weir_tensor_file_open(scratch.path, &file, &error), WEIR_ERR_INVALID);
    path = weir_scratch_path(&scratch, "fifo");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(weir_tensor_file_open(path, &file, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_null(file);
    weir_scratch_fini(&scratch);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("tensor_file");
    TCase *t = tcase_create("tensor_file");
    tcase_add_test(t, hostile_headers_are_refused_each_with_its_reason);
    tcase_add_test(t, header_lengths_are_checked_before_use);
    tcase_add_test(t, names_in_messages_hold_no_control_characters);
    tcase_add_test(t, deep_nesting_is_refused_and_not_followed);
    tcase_add_test(t, tensors_are_found_in_order_and_by_name);
    tcase_add_test(t, a_required_tensor_must_match_and_the_difference_is_told);
    tcase_add_test(t, every_file_cut_short_is_refused);
    tcase_add_test(t, what_is_no_file_is_named);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
