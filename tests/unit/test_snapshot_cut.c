/* A snapshot that is written while the table goes on must be, byte for byte, the one that was
 * written at once at the same moment, whatever happens to the table meanwhile. */
#include "common/background.h"
#include "common/file.h"
#include "ps/snapshot.h"
#include "ps/table_removed.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/table_cases.h"

#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    DIM = 6,
    BATCH = 500,
    UNIVERSE = 60000,
    BEFORE = 40,
    ROUNDS = 6,
    MOST_STEPS = 60 /* the log of evicted keys holds so many */
};

static weir_scratch_t scratch;
static weir_key_t universe[UNIVERSE];
static uint64_t state;

/* Keys of a few slots: these are full, and their sub-tables split while they are saved. */
static void set_up(void) {
    weir_scratch_init(&scratch);
    size_t count = 0;
    for (weir_key_t key = 0; count < UNIVERSE; key++) {
        if (weir_slot_of_hash(weir_hash64(key)) % 4096 == 3) {
            universe[count++] = key;
        }
    }
}

static void tear_down(void) {
    weir_scratch_fini(&scratch);
}

static uint64_t draw(void) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return state >> 33;
}

/* Keys around a place that moves, so that some are new, some old, some come back. */
static void train(weir_table_t *table, uint64_t step) {
    weir_key_t keys[BATCH];
    weir_row_handle_t handles[BATCH];
    float gradients[BATCH * DIM];
    weir_error_t error = {0};
    size_t first = (step * 350 + draw() % 50) % UNIVERSE;
    for (size_t i = 0; i < BATCH; i++) { /* distinct: two rows of places that do not meet */
        size_t spread = i % 2 == 0 ? i : UNIVERSE / 2 + i * 7;
        keys[i] = universe[(first + spread) % UNIVERSE];
    }
    ck_assert_msg(weir_table_pull(table, keys, BATCH, step, handles, NULL, &error) == WEIR_OK, "%s",
                  error.message);
    size_t pushed = BATCH - draw() % 40; /* some are pulled and never updated */
    for (size_t i = 0; i < pushed * DIM; i++) {
        gradients[i] = i % 997 == 0 ? NAN : (float)(draw() % 1000) * 0.001F - 0.5F;
    }
    (void)weir_table_apply(table, keys, handles, gradients, pushed, step);
    ck_assert_msg(weir_table_end_step(table, step, step + 1, &error) == WEIR_OK, "%s",
                  error.message);
}

static void make_folder(const char *name, char folder[600]) {
    (void)snprintf(folder, 600, "%s", weir_scratch_path(&scratch, name));
    ck_assert_int_eq(weir_file_make_directories(folder, NULL), WEIR_OK);
}

static void compare_files(const char *left, const char *right, const char *name) {
    char path[WEIR_PATH_MAX], *bytes[2] = {NULL};
    size_t sizes[2];
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(weir_path_join(path, sizeof path, i == 0 ? left : right, name, NULL),
                         WEIR_OK);
        ck_assert_int_eq(weir_file_read(path, (size_t)1 << 30, &bytes[i], &sizes[i], NULL),
                         WEIR_OK);
    }
    ck_assert_uint_eq(sizes[0], sizes[1]);
    ck_assert_mem_eq(bytes[0], bytes[1], sizes[0]);
    free(bytes[0]);
    free(bytes[1]);
}

typedef struct {
    uint64_t step, copies; /* the most that copies took */
} live_t;

/* Go on with the table between the pieces of a snapshot, until it is written; a disk that is slow
 * does not make it more than so many steps. */
static void finish(weir_table_t *table, weir_snapshot_t *snapshot, live_t *live) {
    const struct timespec millisecond = {.tv_nsec = 1000000};
    weir_snapshot_state_t now = WEIR_SNAPSHOT_GOES_ON;
    int steps = 0;
    while (now != WEIR_SNAPSHOT_WRITTEN) {
        weir_error_t error = {0};
        ck_assert_msg(weir_snapshot_advance(snapshot, &now, &error) == WEIR_OK, "%s",
                      error.message);
        uint64_t copies = weir_snapshot_copies(snapshot);
        live->copies = copies > live->copies ? copies : live->copies;
        for (uint64_t i = draw() % 4; i > 0 && steps < MOST_STEPS; i--, steps++) {
            train(table, ++live->step);
        }
        if (now == WEIR_SNAPSHOT_WAITS) {
            (void)nanosleep(&millisecond, NULL);
        }
    }
}

/* Save at once and in pieces, the second after the first and from the same moment; several times,
 * each since the time before where `deltas`. */
static void check_cuts(const weir_table_options_t *options, bool deltas, bool behind,
                       const char *name) {
    char cold[600] = "", at_once[600], pieces[600], folder[64];
    weir_table_options_t own = *options;
    weir_background_t *background = NULL;
    live_t live = {.step = 0};
    uint64_t base = 0;
    if (options->cold_folder != NULL) {
        (void)snprintf(folder, sizeof folder, "cold-%s", name);
        make_folder(folder, cold);
        own.cold_folder = cold;
    }
    weir_table_t *table = table_case_create(&own);
    if (behind) {
        ck_assert_int_eq(weir_background_create(&background, NULL), WEIR_OK);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BEFORE; i++) {
            train(table, ++live.step);
        }
        uint64_t saved = live.step;
        weir_checkpoint_file_t file;
        weir_snapshot_t *snapshot = NULL;
        weir_error_t error = {0};
        (void)snprintf(folder, sizeof folder, "%s-once-%d", name, round);
        make_folder(folder, at_once);
        (void)snprintf(folder, sizeof folder, "%s-pieces-%d", name, round);
        make_folder(folder, pieces);
        ck_assert_msg(weir_snapshot_write_since(table, 0, 1, base, saved, at_once, &file, &error) ==
                          WEIR_OK,
                      "%s", error.message);
        ck_assert_int_eq(weir_snapshot_begin(table, 0, 1, saved, &snapshot, NULL), WEIR_OK);
        weir_table_hold_removed(table, saved);
        for (uint64_t i = draw() % 4; i > 0; i--) { /* before it is known where to */
            train(table, ++live.step);
        }
        ck_assert_int_eq(weir_snapshot_open(snapshot, base, pieces, background, NULL), WEIR_OK);
        finish(table, snapshot, &live);
        ck_assert_uint_eq(weir_snapshot_file(snapshot)->size, file.size);
        ck_assert_uint_eq(weir_snapshot_file(snapshot)->checksum, file.checksum);
        ck_assert_uint_eq(weir_snapshot_file(snapshot)->base, file.base);
        ck_assert_uint_eq(file.base, deltas ? base : 0);
        weir_snapshot_destroy(snapshot);
        compare_files(at_once, pieces, file.name);
        weir_table_mark_removed(table, saved);
        base = deltas ? saved : 0;
    }
    ck_assert_uint_gt(live.step, ROUNDS * BEFORE + 20); /* it did go on */
    ck_assert_uint_gt(live.copies, 100000);             /* and rows were copied for it */
    weir_table_destroy(table);
    weir_background_destroy(background);
}

static weir_table_options_t with_budget(weir_table_options_t options) {
    options.eviction = WEIR_EVICTION_LRU;
    options.memory_budget = weir_table_budget_for(&options.row, (uint64_t)2000 * WEIR_SLOT_COUNT);
    return options;
}

START_TEST(a_plain_table) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_ADAMW, DIM, 0.01, 7);
    check_cuts(&options, false, false, "plain");
    check_cuts(&options, false, true, "behind");
    check_cuts(&options, true, true, "delta");
}
END_TEST

START_TEST(rows_expire_and_are_evicted_meanwhile) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_ROWWISE_ADAGRAD, DIM, 0.01, 8);
    options.ttl = 25;
    check_cuts(&options, false, true, "ttl");
    check_cuts(&options, true, true, "ttl-delta");
    options.ttl = 0;
    options = with_budget(options);
    check_cuts(&options, false, true, "budget");
    check_cuts(&options, true, true, "budget-delta");
}
END_TEST

START_TEST(counters_of_admission_go_on_meanwhile) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_SGD, DIM, 0.01, 9);
    options.admission = WEIR_ADMISSION_FREQUENCY;
    options.admission_threshold = 2;
    options.admission_window = 7; /* halved many times while a snapshot is written */
    options.admission_counters = 16;
    check_cuts(&options, false, true, "admission");
    check_cuts(&options, true, false, "admission-delta");
}
END_TEST

START_TEST(rows_come_from_disk_and_go_there_meanwhile) {
    weir_table_options_t options = with_budget(table_case(WEIR_OPTIMIZER_ADAGRAD, DIM, 0.01, 10));
    options.cold_folder = "below the scratch folder";
    check_cuts(&options, false, true, "cold");
    options.ttl = 60;
    check_cuts(&options, false, false, "cold-ttl");
    check_cuts(&options, true, true, "cold-ttl-delta");
}
END_TEST

START_TEST(a_table_is_saved_once_at_a_time_and_a_save_can_be_given_up) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_ADAMW, DIM, 0.01, 11);
    weir_table_t *table = table_case_create(&options);
    weir_snapshot_t *snapshot = NULL, *second = NULL;
    weir_snapshot_state_t now;
    char folder[600], path[WEIR_PATH_MAX];
    make_folder("given-up", folder);
    for (uint64_t step = 1; step <= 60; step++) {
        train(table, step);
    }
    ck_assert_int_eq(weir_snapshot_begin(table, 0, 1, 60, &snapshot, NULL), WEIR_OK);
    ck_assert_int_eq(weir_snapshot_begin(table, 0, 1, 60, &second, NULL), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_snapshot_advance(snapshot, &now, NULL), WEIR_OK);
    ck_assert_int_eq(now, WEIR_SNAPSHOT_WAITS); /* nobody has said where to */
    ck_assert_int_eq(weir_snapshot_open(snapshot, 0, folder, NULL, NULL), WEIR_OK);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(weir_snapshot_advance(snapshot, &now, NULL), WEIR_OK);
    }
    ck_assert_int_eq(
        weir_path_join(path, sizeof path, folder, weir_snapshot_file(snapshot)->name, NULL),
        WEIR_OK);
    weir_snapshot_destroy(snapshot);
    ck_assert(!weir_file_exists(path));
    ck_assert_int_eq(rmdir(folder), 0); /* and nothing else is left in it */
    train(table, 61);
    ck_assert_int_eq(weir_snapshot_begin(table, 0, 1, 61, &snapshot, NULL), WEIR_OK);
    ck_assert_int_eq(weir_snapshot_open(snapshot, 0, "/no/such/folder", NULL, NULL), WEIR_OK);
    weir_err_t err = WEIR_OK;
    weir_error_t error = {0};
    while (err == WEIR_OK) {
        err = weir_snapshot_advance(snapshot, &now, &error);
    }
    ck_assert_int_eq(err, WEIR_ERR_NOT_FOUND);
    weir_snapshot_destroy(snapshot);
    weir_table_destroy(table);
}
END_TEST

static Suite *suite_of_cuts(void) {
    Suite *suite = suite_create("snapshot_cut");
    TCase *cases = tcase_create("cut");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_set_timeout(cases, 120);
    tcase_add_test(cases, a_plain_table);
    tcase_add_test(cases, rows_expire_and_are_evicted_meanwhile);
    tcase_add_test(cases, counters_of_admission_go_on_meanwhile);
    tcase_add_test(cases, rows_come_from_disk_and_go_there_meanwhile);
    tcase_add_test(cases, a_table_is_saved_once_at_a_time_and_a_save_can_be_given_up);
    suite_add_tcase(suite, cases);
    return suite;
}

WEIR_TEST_MAIN(suite_of_cuts())
