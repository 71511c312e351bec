/* What a checkpoint takes in memory while every row is updated beside it and nobody gives it time:
 * the bound of ps/table_saver.h, by its own count and by malloc's, and the bytes of a save at once.
 */
#include "common/file.h"
#include "ps/table_saver.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/table_cases.h"

#include <malloc.h>

enum { DIM = 128, ROWS = 120000, BATCH = 4000 };
#define MIB ((uint64_t)1 << 20)

static weir_scratch_t scratch;
static weir_key_t keys[BATCH];
static weir_row_handle_t handles[BATCH];
static float gradients[BATCH * DIM];

static void set_up(void) {
    weir_scratch_init(&scratch);
    for (size_t i = 0; i < (size_t)BATCH * DIM; i++) {
        gradients[i] = 0.01F * (float)(i % 13) - 0.05F;
    }
}

static void tear_down(void) {
    weir_scratch_fini(&scratch);
}

static void update(weir_table_t *table, size_t first, uint64_t step) {
    for (size_t i = 0; i < BATCH; i++) {
        keys[i] = (first + i) * 0x100000001ull + 5;
    }
    ck_assert_int_eq(weir_table_pull(table, keys, BATCH, step, handles, NULL, NULL), WEIR_OK);
    (void)weir_table_apply(table, keys, handles, gradients, BATCH, step);
    ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
}

/* Bytes that malloc has handed out; 0 where a sanitizer stands in for it. */
static uint64_t allocated(void) {
    struct mallinfo2 now = mallinfo2();
    return now.uordblks + now.hblkhd;
}

static void make_folder(const char *name, char folder[600]) {
    (void)snprintf(folder, 600, "%s", weir_scratch_path(&scratch, name));
    ck_assert_int_eq(weir_file_make_directories(folder, NULL), WEIR_OK);
}

START_TEST(a_save_stays_within_its_memory_though_every_row_changes) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_ROWWISE_ADAGRAD, DIM, 0.01, 3);
    weir_table_t *table = table_case_create(&options);
    weir_table_saver_options_t saves = {.tables = &table, .table_count = 1, .ps = 1};
    weir_table_saver_t *saver = NULL;
    weir_snapshot_state_t now = WEIR_SNAPSHOT_GOES_ON;
    weir_checkpoint_file_t at_once, file;
    char once[600], beside[600];
    uint64_t step = 0;
    for (size_t first = 0; first < ROWS; first += BATCH) {
        update(table, first, ++step);
    }
    make_folder("once", once);
    make_folder("beside", beside);
    ck_assert_int_eq(weir_snapshot_write(table, 0, 1, step, once, &at_once, NULL), WEIR_OK);
    ck_assert_int_eq(weir_table_saver_create(&saves, &saver, NULL), WEIR_OK);
    uint64_t before = allocated(), most = before;
    ck_assert_int_eq(weir_table_saver_cut(saver, step, NULL), WEIR_OK);
    ck_assert_int_eq(weir_table_saver_open(saver, step, 0, beside, NULL), WEIR_OK);
    for (size_t i = 0; now != WEIR_SNAPSHOT_WRITTEN; i++) {
        if (i < ROWS / BATCH) { /* from the end: what will be written last changes first */
            update(table, ROWS - (i + 1) * BATCH, ++step);
            most = allocated() > most ? allocated() : most;
        }
        ck_assert_int_eq(weir_table_saver_advance(saver, &now, &file, NULL), WEIR_OK);
    }
    uint64_t part = weir_table_stats(table).bytes / 100;
    uint64_t of_a_step = (uint64_t)BATCH * (DIM * sizeof(float) + 64);
    uint64_t copies = weir_table_saver_last(saver).most_copies;
    ck_assert_uint_gt((uint64_t)ROWS * DIM * sizeof(float), 2 * 24 * MIB); /* it could be more */
    ck_assert_uint_gt(copies, 20 * MIB);                                   /* and was held back */
    ck_assert_uint_le(copies, 24 * MIB + part + of_a_step);
    ck_assert_uint_le(most - before, 48 * MIB + part + of_a_step);
    ck_assert_uint_eq(file.size, at_once.size);
    ck_assert_uint_eq(file.checksum, at_once.checksum);
    weir_table_saver_destroy(saver);
    weir_table_destroy(table);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("table_saver");
    TCase *t = tcase_create("table_saver");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_save_stays_within_its_memory_though_every_row_changes);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
