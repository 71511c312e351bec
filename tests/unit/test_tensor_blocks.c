#include "common/file.h"
#include "common/tensor_blocks.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <string.h>
#include <xxhash.h>

enum { FIRST = (1 << 20) + 8, SECOND = 3 * (1 << 20), THIRD = 7, BYTES = FIRST + SECOND + THIRD };

static weir_scratch_t scratch;
static char content[BYTES];

static void begin(void) {
    weir_scratch_init(&scratch);
    for (size_t i = 0; i < BYTES; i++) {
        content[i] = (char)(i * 2654435761u >> 13);
    }
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

/* Four tensors, one of them empty, appended in odd pieces. */
static const char *write_file(uint64_t *checksum, uint64_t *size) {
    static const uint64_t first[1] = {FIRST / 8}, none[1] = {0}, second[1] = {SECOND},
                          third[1] = {THIRD};
    const char *path = weir_scratch_path(&scratch, "blocks.safetensors");
    weir_tensor_writer_t *writer = NULL;
    ck_assert_int_eq(weir_tensor_writer_create(path, &writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "a", WEIR_DTYPE_U64, 1, first, NULL), 0);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "b", WEIR_DTYPE_U64, 1, none, NULL), 0);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "c", WEIR_DTYPE_U8, 1, second, NULL), 0);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "d", WEIR_DTYPE_U8, 1, third, NULL), 0);
    ck_assert_int_eq(weir_tensor_writer_blocks(writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    for (size_t at = 0; at < BYTES;) {
        size_t piece = at % 3 == 0 ? 70001 : 2500000;
        piece = piece < BYTES - at ? piece : BYTES - at;
        ck_assert_int_eq(weir_tensor_writer_append(writer, content + at, piece, NULL), WEIR_OK);
        at += piece;
    }
    ck_assert_int_eq(weir_tensor_writer_commit(writer, checksum, size, NULL), WEIR_OK);
    weir_tensor_writer_destroy(writer);
    return path;
}

START_TEST(checksums_are_those_of_the_library_over_each_block) {
    static const size_t cuts[] = {
        0, 1 << 20, FIRST, FIRST + (1 << 20), FIRST + (2 << 20), FIRST + SECOND, BYTES};
    uint64_t checksum = 0, size = 0, expected[6];
    const char *path = write_file(&checksum, &size);
    char *bytes = NULL;
    size_t read = 0;
    ck_assert_int_eq(weir_file_read(path, 1 << 24, &bytes, &read, NULL), WEIR_OK);
    ck_assert_uint_eq(read, size);
    for (size_t i = 0; i < 6; i++) {
        expected[i] = XXH3_64bits(content + cuts[i], cuts[i + 1] - cuts[i]);
    }
    ck_assert_mem_eq(bytes + read - sizeof expected, expected, sizeof expected);
    ck_assert_mem_eq(bytes + read - sizeof expected - BYTES, content, BYTES);
    size_t header = read - sizeof expected - BYTES;
    memmove(bytes + header, expected, sizeof expected);
    ck_assert_uint_eq(checksum, XXH3_64bits(bytes, header + sizeof expected));
    free(bytes);
    uint64_t again = 0;
    ck_assert_int_eq(weir_tensor_blocks_check_path(path, true, &again, &size, NULL), WEIR_OK);
    ck_assert_uint_eq(again, checksum);
}
END_TEST

typedef struct {
    size_t count;
    char name[8];
    uint64_t begin, end;
} found_t;

static void note(void *argument, const weir_tensor_t *tensor, uint64_t first, uint64_t last) {
    found_t *found = argument;
    found->count++;
    (void)snprintf(found->name, sizeof found->name, "%s", tensor->name);
    found->begin = first;
    found->end = last;
}

START_TEST(one_bit_anywhere_is_found_and_named) {
    uint64_t checksum = 0, size = 0;
    char *bytes = NULL;
    size_t read = 0;
    ck_assert_int_eq(weir_file_read(write_file(&checksum, &size), 1 << 24, &bytes, &read, NULL),
                     WEIR_OK);
    const size_t values = read - 6 * 8 - BYTES;
    for (size_t at = 0; at<read; at += at> values ? 104729 : 13) {
        weir_tensor_file_t *file = NULL;
        weir_error_t error = {0};
        found_t found = {0};
        uint64_t now = checksum;
        bytes[at] = (char)(bytes[at] ^ 4);
        weir_err_t err = weir_tensor_file_open_memory(bytes, read, "f", &file, &error);
        if (err == WEIR_OK) {
            err = weir_tensor_blocks_checksum(file, &now, &error);
        }
        if (err == WEIR_OK) {
            err = weir_tensor_blocks_verify(file, note, &found, &error);
        }
        ck_assert_msg(err != WEIR_OK || now != checksum, "byte %zu", at);
        if (at >= values && at < values + BYTES) {
            size_t of = at - values;
            ck_assert_uint_eq(now, checksum); /* of the header: values are the blocks' affair */
            ck_assert_uint_eq(found.count, 1);
            ck_assert_str_eq(found.name, of < FIRST ? "a" : of < FIRST + SECOND ? "c" : "d");
            size_t base = of < FIRST ? 0 : of < FIRST + SECOND ? FIRST : FIRST + SECOND;
            ck_assert(found.begin <= of - base && of - base < found.end);
            ck_assert_uint_le(found.end - found.begin, 1 << 20);
        }
        weir_tensor_file_close(file);
        bytes[at] = (char)(bytes[at] ^ 4);
    }
    free(bytes);
}
END_TEST

START_TEST(a_file_without_checksums_is_said_to_have_none) {
    static const uint64_t shape[1] = {1};
    static const uint64_t value = 7;
    const char *path = weir_scratch_path(&scratch, "plain.safetensors");
    weir_tensor_writer_t *writer = NULL;
    weir_error_t error = {0};
    uint64_t checksum, size;
    ck_assert_int_eq(weir_tensor_writer_create(path, &writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_declare(writer, "a", WEIR_DTYPE_U64, 1, shape, NULL), 0);
    ck_assert_int_eq(weir_tensor_writer_begin(writer, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_append(writer, &value, 8, NULL), WEIR_OK);
    ck_assert_int_eq(weir_tensor_writer_commit(writer, NULL, NULL, NULL), WEIR_OK);
    weir_tensor_writer_destroy(writer);
    ck_assert_int_eq(weir_tensor_blocks_check_path(path, true, &checksum, &size, &error),
                     WEIR_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "does not end in the checksums"));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("tensor_blocks");
    TCase *t = tcase_create("tensor_blocks");
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, checksums_are_those_of_the_library_over_each_block);
    tcase_add_test(t, one_bit_anywhere_is_found_and_named);
    tcase_add_test(t, a_file_without_checksums_is_said_to_have_none);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
