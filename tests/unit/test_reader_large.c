/* A checkpoint of a terabyte, most of it holes in a sparse file: what is read of it does not grow
 * with it. */
#include "common/clock.h"
#include "common/file.h"
#include "common/hash.h"
#include "common/tensor_blocks.h"
#include "reader/reader.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/reader_cases.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ROWS = 1 << 22, DIM = 65536 };
#define ROW_BYTES ((uint64_t)DIM * sizeof(float))

static weir_scratch_t scratch;

/* Evenly over all hashes, so that the first row of a slot is known. */
static uint64_t key_of(uint64_t row) {
    return reader_case_key((row << 42) + (uint64_t)1 * 0x12345);
}

static size_t make_header(char *header, size_t capacity) {
    const uint64_t n = ROWS, offsets = WEIR_SLOT_COUNT + 1, values = n * ROW_BYTES;
    const uint64_t numbers = 8 * n, table = 3 * numbers + 8 * offsets;
    const uint64_t blocks = 3 * weir_tensor_blocks_of(numbers) +
                            weir_tensor_blocks_of(8 * offsets) + weir_tensor_blocks_of(values);
    int length = snprintf(
        header + 8, capacity - 8,
        "{\"__metadata__\":{\"table\":\"item\",\"dim\":\"%u\",\"optimizer\":\"sgd\","
        "\"schema\":\":%u:float32:sgd\",\"first_slot\":\"0\",\"slots\":\"%u\",\"step\":\"10\","
        "\"ttl\":\"0\",\"kind\":\"full\",\"block_bytes\":\"%u\"},"
        "\"keys\":{\"dtype\":\"U64\",\"shape\":[%llu],\"data_offsets\":[0,%llu]},"
        "\"last_step\":{\"dtype\":\"U64\",\"shape\":[%llu],\"data_offsets\":[%llu,%llu]},"
        "\"count\":{\"dtype\":\"U64\",\"shape\":[%llu],\"data_offsets\":[%llu,%llu]},"
        "\"slot_offsets\":{\"dtype\":\"U64\",\"shape\":[%llu],\"data_offsets\":[%llu,%llu]},"
        "\"value\":{\"dtype\":\"F32\",\"shape\":[%llu,%u],\"data_offsets\":[%llu,%llu]},"
        "\"block_checksums\":{\"dtype\":\"U64\",\"shape\":[%llu],\"data_offsets\":[%llu,%llu]}}",
        DIM, DIM, WEIR_SLOT_COUNT, WEIR_TENSOR_BLOCK_BYTES, (unsigned long long)n,
        (unsigned long long)numbers, (unsigned long long)n, (unsigned long long)numbers,
        (unsigned long long)(2 * numbers), (unsigned long long)n, (unsigned long long)(2 * numbers),
        (unsigned long long)(3 * numbers), (unsigned long long)offsets,
        (unsigned long long)(3 * numbers), (unsigned long long)table, (unsigned long long)n, DIM,
        (unsigned long long)table, (unsigned long long)(table + values), (unsigned long long)blocks,
        (unsigned long long)(table + values), (unsigned long long)(table + values + 8 * blocks));
    size_t padded = ((size_t)length + 8 + 63) / 64 * 64 - 8;
    memset(header + 8 + length, ' ', padded - (size_t)length);
    uint64_t size = padded;
    memcpy(header, &size, sizeof size);
    return padded + 8;
}

static void write_at(int fd, const void *bytes, size_t size, uint64_t offset) {
    ck_assert_int_eq(weir_file_write_at(fd, bytes, size, offset, "sparse file", NULL), WEIR_OK);
}

/* Checksums of `size` bytes of a tensor; `bytes` NULL: all zeros. */
static void add_checksums(uint64_t *checksums, size_t *count, const char *bytes, uint64_t size) {
    static char zeros[WEIR_TENSOR_BLOCK_BYTES];
    static uint64_t of_zeros;
    of_zeros = of_zeros == 0 ? weir_checksum(zeros, sizeof zeros, 0) : of_zeros;
    for (uint64_t at = 0; at < size; at += WEIR_TENSOR_BLOCK_BYTES) {
        uint64_t left = size - at;
        size_t length = left < WEIR_TENSOR_BLOCK_BYTES ? left : WEIR_TENSOR_BLOCK_BYTES;
        checksums[(*count)++] = bytes == NULL ? of_zeros : weir_checksum(bytes + at, length, 0);
    }
}

/* False: the file system has no files of a terabyte. */
static bool write_file(const char *path, weir_checkpoint_file_t *file) {
    const uint64_t numbers = 8ull * ROWS, offset_bytes = 8ull * (WEIR_SLOT_COUNT + 1);
    uint64_t *keys = malloc(numbers), *offsets = malloc(offset_bytes);
    size_t capacity = 1 << 21, count = 0;
    uint64_t *checksums = malloc(capacity * sizeof *checksums);
    char header[4096];
    size_t begin = make_header(header, sizeof header);
    for (uint64_t i = 0; i < ROWS; i++) {
        keys[i] = key_of(i);
    }
    for (uint64_t slot = 0; slot <= WEIR_SLOT_COUNT; slot++) {
        offsets[slot] = slot * (ROWS / WEIR_SLOT_COUNT);
    }
    add_checksums(checksums, &count, (const char *)keys, numbers);
    add_checksums(checksums, &count, NULL, 2 * numbers);
    add_checksums(checksums, &count, (const char *)offsets, offset_bytes);
    add_checksums(checksums, &count, NULL, ROWS * ROW_BYTES);
    ck_assert_uint_le(count, capacity);
    uint64_t values = begin + 3 * numbers + offset_bytes, end = values + ROWS * ROW_BYTES;
    file->size = end + count * sizeof *checksums;
    file->blocks = true;
    int fd = open(path, O_CREAT | O_WRONLY, 0666);
    ck_assert_int_ge(fd, 0);
    bool possible = ftruncate(fd, (off_t)file->size) == 0;
    if (possible) {
        write_at(fd, header, begin, 0);
        write_at(fd, keys, numbers, begin);
        write_at(fd, offsets, offset_bytes, begin + 3 * numbers);
        write_at(fd, checksums, count * sizeof *checksums, end);
        char *joined = malloc(begin + count * sizeof *checksums);
        memcpy(joined, header, begin);
        memcpy(joined + begin, checksums, count * sizeof *checksums);
        file->checksum = weir_checksum(joined, begin + count * sizeof *checksums, 0);
        free(joined);
    }
    (void)close(fd);
    free(keys);
    free(offsets);
    free(checksums);
    return possible;
}

static long faults(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

START_TEST(what_is_read_does_not_grow_with_the_checkpoint) {
    static char config[] = "seed: 1\n";
    char folder[WEIR_PATH_MAX], path[WEIR_PATH_MAX + 64];
    weir_checkpoint_file_t file = {.name = "item.ps-0000-of-0001.safetensors"};
    weir_error_t problem = {0};
    weir_reader_error_t error = {0};
    ck_assert_int_eq(weir_checkpoint_begin(scratch.path, 10, folder, sizeof folder, NULL), 0);
    (void)snprintf(path, sizeof path, "%s/%s", folder, file.name);
    if (!write_file(path, &file)) {
        (void)printf("skipped: no file of a terabyte here\n");
        return;
    }
    weir_manifest_t manifest = {.step = 10,
                                .version = "0.1.0",
                                .ps = 1,
                                .workers = 1,
                                .config_yaml = config,
                                .files = &file,
                                .file_count = 1};
    ck_assert_msg(weir_checkpoint_publish(scratch.path, &manifest, false, &problem) == 0, "%s",
                  problem.message);
    weir_reader_t *reader = NULL;
    long before = faults();
    double start = weir_clock_seconds();
    ck_assert_msg(weir_reader_open(scratch.path, &reader, &error) == 0, "%s", error.message);
    double opened = weir_clock_seconds();
    long of_open = faults() - before;
    ck_assert_uint_gt(weir_reader_about(reader)->bytes, UINT64_C(1) << 40);
    const weir_reader_table_t *table = weir_reader_table(reader, 0);
    ck_assert_uint_eq(table->rows, ROWS);
    for (uint64_t i = 0; i < 5; i++) {
        weir_reader_row_t row;
        uint64_t number = i * 777777, already = weir_reader_blocks_checked(reader);
        ck_assert_msg(weir_reader_get(reader, table, key_of(number), &row, &error) == 0, "%s",
                      error.message);
        ck_assert_uint_eq(row.key, key_of(number));
        ck_assert_int_eq(weir_reader_get(reader, table, key_of(number) + 1, &row, NULL),
                         WEIR_READER_NOT_FOUND);
        /* offsets, keys, last_step, count, value, and a neighbour of each; another slot's for the
         * key that is not there */
        ck_assert_uint_le(weir_reader_blocks_checked(reader) - already, 12);
    }
    double read = weir_clock_seconds();
    (void)printf("%.2f TiB: opened in %.1f ms, %ld page faults; 10 keys in %.1f ms, %llu blocks\n",
                 (double)weir_reader_about(reader)->bytes / 0x1p40, 1e3 * (opened - start), of_open,
                 1e3 * (read - opened), (unsigned long long)weir_reader_blocks_checked(reader));
    ck_assert_int_lt(of_open, 65536); /* pages; the file has 268 million */
    weir_reader_close(reader);
}
END_TEST

static void begin(void) {
    weir_scratch_init(&scratch);
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

static Suite *suite(void) {
    Suite *s = suite_create("reader_large");
    TCase *t = tcase_create("reader_large");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, what_is_read_does_not_grow_with_the_checkpoint);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
