/* How much a checkpoint holds and how much of it is read: a delta of a popular few is small, and
 * servers of any number read what they own and little more. */
#include "common/file.h"
#include "ps/snapshot.h"
#include "ps/snapshot_chain.h"
#include "ps/table_removed.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/table_cases.h"

#include <math.h>
#include <string.h>

enum { DIM = 32, ROWS = 60000, BATCH = 1000 };

static weir_scratch_t scratch;
static char config_text[] = "a: 1\n";
static uint64_t state;

static void set_up(void) {
    weir_scratch_init(&scratch);
    state = 5;
}

static void tear_down(void) {
    weir_scratch_fini(&scratch);
}

static double draw(void) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(state >> 11) * 0x1p-53;
}

static weir_key_t key_of(size_t row) {
    return row * 0x100000001ull + 5;
}

static weir_table_t *create(uint32_t index, uint32_t servers) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_ADAMW, DIM, 0.01, 3);
    options.first_slot = weir_slot_first(index, servers);
    options.end_slot = weir_slot_first(index + 1, servers);
    return table_case_create(&options);
}

/* Update those of `rows` that the server owns. */
static void update(weir_table_t *table, uint32_t index, uint32_t servers, const size_t *rows,
                   size_t count, uint64_t step) {
    static float gradients[BATCH * DIM];
    weir_key_t keys[BATCH];
    weir_row_handle_t handles[BATCH];
    size_t mine = 0;
    for (size_t i = 0; i < count; i++) {
        weir_key_t key = key_of(rows[i]);
        if (weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), servers) == index) {
            keys[mine++] = key;
        }
    }
    for (size_t i = 0; i < mine * DIM; i++) {
        gradients[i] = 0.01F * (float)(i % 13) - 0.05F;
    }
    ck_assert_int_eq(weir_table_pull(table, keys, mine, step, handles, NULL, NULL), WEIR_OK);
    (void)weir_table_apply(table, keys, handles, gradients, mine, step);
    ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
}

static void update_all(weir_table_t *table, uint32_t index, uint32_t servers) {
    size_t rows[BATCH];
    for (size_t begin = 0; begin < ROWS; begin += BATCH) {
        for (size_t i = 0; i < BATCH; i++) {
            rows[i] = begin + i;
        }
        update(table, index, servers, rows, BATCH, 1 + begin / BATCH);
    }
}

/* A step's rows by popularity, exponent 1.1: each once. */
static size_t draw_popular(size_t rows[BATCH]) {
    static uint32_t seen[ROWS];
    static uint32_t mark;
    size_t count = 0;
    mark++;
    for (int i = 0; i < BATCH; i++) {
        double tail = 1.0 - pow(ROWS, -0.1);
        size_t row = (size_t)(pow(1.0 - draw() * tail, -10.0) - 1.0);
        row = row < ROWS ? row : ROWS - 1;
        if (seen[row] != mark) {
            seen[row] = mark;
            rows[count++] = row;
        }
    }
    return count;
}

START_TEST(a_delta_of_a_popular_few_is_a_tenth_of_a_full_checkpoint) {
    weir_table_t *table = create(0, 1);
    uint64_t step = ROWS / BATCH, sizes[4];
    update_all(table, 0, 1);
    for (int save = 0; save < 4; save++) {
        char folder[600], name[16];
        weir_checkpoint_file_t file;
        uint64_t base = save == 0 ? 0 : step;
        for (int i = 0; i < 12 && save > 0; i++) {
            size_t rows[BATCH], count = draw_popular(rows);
            update(table, 0, 1, rows, count, ++step);
        }
        (void)snprintf(name, sizeof name, "save-%d", save);
        (void)snprintf(folder, sizeof folder, "%s", weir_scratch_path(&scratch, name));
        ck_assert_int_eq(weir_file_make_directories(folder, NULL), WEIR_OK);
        ck_assert_int_eq(weir_snapshot_write_since(table, 0, 1, base, step, folder, &file, NULL),
                         WEIR_OK);
        weir_table_mark_removed(table, step);
        ck_assert_uint_eq(file.base, base);
        sizes[save] = file.size;
        ck_assert_uint_gt(file.size, 20000); /* there is something in it */
    }
    for (int save = 1; save < 4; save++) {
        ck_assert_msg(sizes[save] * 10 <= sizes[0], "delta %d has %llu bytes of %llu", save,
                      (unsigned long long)sizes[save], (unsigned long long)sizes[0]);
    }
    weir_table_destroy(table);
}
END_TEST

/* Bytes of its files, by `servers`. */
static uint64_t save_by(uint32_t servers, const char *run) {
    char folder[WEIR_PATH_MAX];
    weir_checkpoint_file_t files[8];
    uint64_t bytes = 0;
    ck_assert_int_eq(weir_checkpoint_begin(run, 99, folder, sizeof folder, NULL), WEIR_OK);
    for (uint32_t i = 0; i < servers; i++) {
        weir_table_t *table = create(i, servers);
        update_all(table, i, servers);
        ck_assert_int_eq(weir_snapshot_write(table, i, servers, 99, folder, &files[i], NULL),
                         WEIR_OK);
        bytes += files[i].size;
        weir_table_destroy(table);
    }
    weir_manifest_t manifest = {.step = 99,
                                .version = "0.1.0",
                                .ps = servers,
                                .workers = 1,
                                .config_yaml = config_text,
                                .files = files,
                                .file_count = servers};
    ck_assert_int_eq(weir_checkpoint_publish(run, &manifest, false, NULL), WEIR_OK);
    return bytes;
}

static uint64_t read_by(uint32_t index, uint32_t servers, const char *folder,
                        const weir_manifest_t *manifest, uint64_t *rows) {
    weir_snapshot_chain_t *chain = NULL;
    weir_slot_t first = weir_slot_first(index, servers), end = weir_slot_first(index + 1, servers);
    ck_assert_int_eq(weir_snapshot_chain_open(folder, manifest, "item", first, end, &chain, NULL),
                     WEIR_OK);
    for (weir_slot_t slot = first; slot < end; slot++) {
        const weir_snapshot_file_t *newest;
        weir_snapshot_place_t place;
        ck_assert_int_eq(weir_snapshot_chain_enter(chain, slot, &newest, NULL), WEIR_OK);
        while (weir_snapshot_chain_next(chain, &place)) {
            (*rows)++;
        }
    }
    uint64_t bytes = weir_snapshot_chain_bytes_read(chain);
    weir_snapshot_chain_close(chain);
    return bytes;
}

START_TEST(any_number_of_servers_reads_a_checkpoint_about_once) {
    static const uint32_t numbers[] = {1, 2, 3, 5, 8};
    for (size_t n = 0; n < 5; n++) {
        char run[600], folder[WEIR_PATH_MAX], name[16];
        weir_manifest_t manifest = {0};
        (void)snprintf(name, sizeof name, "run-%u", numbers[n]);
        (void)snprintf(run, sizeof run, "%s", weir_scratch_path(&scratch, name));
        uint64_t written = save_by(numbers[n], run);
        ck_assert_int_eq(weir_checkpoint_resolve(run, folder, sizeof folder, NULL), WEIR_OK);
        ck_assert_int_eq(weir_manifest_read(folder, false, &manifest, NULL), WEIR_OK);
        for (size_t m = 0; m < 5; m++) {
            uint64_t read = 0, rows = 0;
            for (uint32_t i = 0; i < numbers[m]; i++) {
                read += read_by(i, numbers[m], folder, &manifest, &rows);
            }
            ck_assert_uint_eq(rows, ROWS);
            ck_assert_msg((double)read <= 1.05 * (double)written,
                          "%u servers read %llu bytes of %llu that %u wrote", numbers[m],
                          (unsigned long long)read, (unsigned long long)written, numbers[n]);
        }
        weir_manifest_fini(&manifest);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("snapshot_sizes");
    TCase *t = tcase_create("snapshot_sizes");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_delta_of_a_popular_few_is_a_tenth_of_a_full_checkpoint);
    tcase_add_test(t, any_number_of_servers_reads_a_checkpoint_about_once);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
