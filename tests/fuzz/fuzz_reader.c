/* libweir over a checkpoint and one that builds on it, whose files hold bytes of anyone's choice
 * where no checksum is (files of format 1). An input is changes to valid files: a byte that says
 * which file, then four bytes each: an offset of three, the lowest first, and a new byte. With bit
 * 7 of the first byte offsets are those of the first 2 KiB, where the header is. */
#include "common/hash.h"
#include "reader/reader.h"
#include "tests/fuzz/target.h"
#include "tests/scratch.h"
#include "tests/unit/reader_cases.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHARDS = 8, DIM = 3, ROWS = 600, CHANGES_MAX = 64, HEADER = 2048 };

typedef struct {
    int fd;
    size_t size;
    char *bytes; /* as it was written */
} valid_t;

static void require(bool holds, const char *what) {
    if (!holds) {
        (void)fprintf(stderr, "fuzz_reader: not so: %s\n", what);
        abort();
    }
}

static weir_scratch_t scratch;
static valid_t valid[2]; /* a shard of the full one, the same of the delta */

static void fill(uint64_t step, uint64_t key, uint32_t column, void *bytes) {
    for (uint32_t i = 0; i < DIM; i++) {
        float value = (float)(key % 977) + (float)(step + column + i);
        memcpy((char *)bytes + i * sizeof value, &value, sizeof value);
    }
}

static void publish(uint64_t step, uint64_t base) {
    static reader_case_row_t rows[ROWS];
    static uint64_t removed[ROWS];
    reader_case_t made = {.table = "item",
                          .schema = ":3:float32:momentum",
                          .optimizer = "momentum",
                          .step = step,
                          .base = base,
                          .shards = SHARDS,
                          .without_blocks = true,
                          .rows = rows,
                          .removed = removed,
                          .columns = {{"value", WEIR_DTYPE_F32, DIM}, {"u", WEIR_DTYPE_F32, DIM}},
                          .column_count = 2,
                          .fill = fill};
    for (uint64_t i = 0; i < ROWS; i++) {
        if (base == 0 || i % 3 == 0) {
            rows[made.row_count++] = (reader_case_row_t){i * 7919 + 3, step, 1};
        } else if (i % 3 == 1) {
            removed[made.removed_count++] = i * 7919 + 3;
        }
    }
    reader_case_write(scratch.path, &made);
}

START_TEST(both_are_written) {
    weir_scratch_init(&scratch);
    publish(5, 0);
    publish(9, 5);
}
END_TEST

static void clean_up(void) {
    weir_scratch_fini(&scratch);
}

/* reader_cases.c asserts, which only a test may. */
static void write_both(void) {
    Suite *s = suite_create("valid");
    TCase *t = tcase_create("valid");
    tcase_add_test(t, both_are_written);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    require(srunner_ntests_failed(runner) == 0, "valid checkpoints are written");
    srunner_free(runner);
    (void)atexit(clean_up);
}

static void prepare(void) {
    write_both();
    for (size_t i = 0; i < 2; i++) {
        char path[800];
        struct stat status;
        (void)snprintf(path, sizeof path,
                       "%s/checkpoints/step-00000000000%d/item.ps-0000-of-0008.safetensors",
                       scratch.path, i == 0 ? 5 : 9);
        valid[i].fd = open(path, O_RDWR | O_CLOEXEC);
        require(valid[i].fd >= 0 && fstat(valid[i].fd, &status) == 0, "a file is there");
        valid[i].size = (size_t)status.st_size;
        valid[i].bytes = malloc(valid[i].size);
        require(valid[i].bytes != NULL &&
                    pread(valid[i].fd, valid[i].bytes, valid[i].size, 0) == (ssize_t)valid[i].size,
                "a file is read");
    }
}

/* Where a change is made; `size` of the input allows it. */
static size_t place_of(const valid_t *file, const uint8_t *bytes, size_t change) {
    const uint8_t *at = bytes + 1 + 4 * change;
    size_t offset = (size_t)at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16;
    size_t within = (bytes[0] & 0x80) != 0 && file->size > HEADER ? HEADER : file->size;
    return offset % within;
}

static void put(const valid_t *file, size_t at, uint8_t byte) {
    require(pwrite(file->fd, &byte, 1, (off_t)at) == 1, "a byte is written");
}

/* Every byte of a row, and the same row by its key. */
static void use_row(weir_reader_t *reader, const weir_reader_table_t *table,
                    const weir_reader_row_t *row) {
    volatile uint8_t sink = 0;
    float values[64];
    weir_reader_row_t found;
    weir_reader_error_t error = {0};
    for (uint32_t c = 0; c < table->column_count; c++) {
        for (size_t byte = 0; byte < table->columns[c].bytes; byte++) {
            sink = (uint8_t)(sink + ((const uint8_t *)row->columns[c])[byte]);
        }
    }
    if (table->dim <= sizeof values / sizeof values[0]) {
        weir_reader_values(table, row, values);
    }
    int code = weir_reader_get(reader, table, row->key, &found, &error);
    require(code == WEIR_READER_OK || error.message[0] != '\0', "a row that is refused says why");
    for (uint32_t c = 0; c < table->column_count && code == WEIR_READER_OK; c++) {
        require(memcmp(found.columns[c], row->columns[c], table->columns[c].bytes) == 0,
                "a row of a scan is that of its key");
    }
}

static void use_table(weir_reader_t *reader, const weir_reader_table_t *table) {
    weir_reader_rows_t *rows = NULL;
    weir_reader_row_t row;
    weir_reader_error_t error = {0};
    int code;
    uint64_t previous = 0, count = 0;
    if (weir_reader_rows_open(reader, table, 0, WEIR_READER_SLOTS / SHARDS, &rows, &error) != 0) {
        require(error.message[0] != '\0', "a scan that is refused says why");
        return;
    }
    while ((code = weir_reader_rows_next(rows, &row, &error)) == 1) {
        uint64_t hash = weir_hash64(row.key);
        require(count++ == 0 || hash > previous, "rows come in the order of hashes");
        previous = hash;
        use_row(reader, table, &row);
    }
    require(code == 0 || error.message[0] != '\0', "a scan that ends early says why");
    weir_reader_rows_close(rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    weir_reader_t *reader = NULL;
    weir_reader_error_t error = {0};
    if (valid[0].bytes == NULL) {
        prepare();
    }
    if (size == 0) {
        return 0;
    }
    const valid_t *file = &valid[bytes[0] & 1];
    size_t changes = (size - 1) / 4 < CHANGES_MAX ? (size - 1) / 4 : CHANGES_MAX;
    for (size_t i = 0; i < changes; i++) {
        put(file, place_of(file, bytes, i), bytes[4 + 4 * i]);
    }
    if (weir_reader_open(scratch.path, &reader, &error) == 0) {
        for (size_t i = 0; i < weir_reader_table_count(reader); i++) {
            use_table(reader, weir_reader_table(reader, i));
        }
        weir_reader_close(reader);
    } else {
        require(error.message[0] != '\0' && changes > 0,
                "what is refused was changed, and says why");
    }
    for (size_t i = 0; i < changes; i++) {
        size_t at = place_of(file, bytes, i);
        put(file, at, (uint8_t)file->bytes[at]);
    }
    return 0;
}
