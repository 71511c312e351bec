/* A base and deltas must say what a full checkpoint of the same step says, byte for byte, whatever
 * a table evicts, forgets, expires, refuses or keeps on disk. */
#include "common/file.h"
#include "common/rng.h"
#include "ps/snapshot.h"
#include "ps/snapshot_chain.h"
#include "ps/table_removed.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/table_cases.h"

#include <math.h>
#include <string.h>

enum { DIM = 2, BATCH = 600, STEPS_A_SAVE = 6, SAVES = 5, SERVERS = 2 };

static weir_scratch_t scratch;

/* Keys of a few slots, so that these are full. */
enum { UNIVERSE = 3000 };
static weir_key_t universe[UNIVERSE];

static void fill_universe(void) {
    size_t count = 0;
    for (weir_key_t key = 0; count < UNIVERSE; key++) {
        if (weir_slot_of_hash(weir_hash64(key)) % 256 == 3) {
            universe[count++] = key;
        }
    }
}

static void begin(void) {
    weir_scratch_init(&scratch);
    fill_universe();
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

static char config_text[] = "a: 1\n";
static uint64_t state;

static uint64_t draw(void) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return state >> 33;
}

/* A table of server `index` of `servers`, with a cold folder of its own where options have one. */
static weir_table_t *create(const weir_table_options_t *options, const char *where, uint32_t index,
                            uint32_t servers) {
    char folder[900];
    weir_table_options_t own = *options;
    own.first_slot = weir_slot_first(index, servers);
    own.end_slot = weir_slot_first(index + 1, servers);
    if (options->cold_folder != NULL) {
        (void)snprintf(folder, sizeof folder, "%s/cold-%s-%u-of-%u", scratch.path, where, index,
                       servers);
        ck_assert_int_eq(weir_file_make_directories(folder, NULL), WEIR_OK);
        own.cold_folder = folder;
    }
    return table_case_create(&own);
}

/* One step of both servers: keys around a place that moves, some of them anywhere. */
static void train(weir_table_t *tables[SERVERS], uint64_t step) {
    for (uint32_t server = 0; server < SERVERS; server++) {
        weir_key_t keys[BATCH];
        weir_row_handle_t handles[BATCH];
        float gradients[BATCH * DIM];
        size_t count = 0;
        for (size_t i = 0; i < BATCH / 2; i++) {
            weir_key_t key =
                universe[(draw() % 4 == 0 ? draw() : step * 40 + draw() % 300) % UNIVERSE];
            bool again = weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), SERVERS) != server;
            for (size_t j = 0; j < count; j++) {
                again = again || keys[j] == key;
            }
            if (!again) {
                keys[count++] = key;
            }
        }
        weir_error_t error = {0};
        ck_assert_msg(weir_table_pull(tables[server], keys, count, step, handles, NULL, &error) ==
                          WEIR_OK,
                      "%s", error.message);
        size_t pushed = count - count / 8; /* some are pulled and never updated */
        for (size_t i = 0; i < pushed * DIM; i++) {
            gradients[i] = i % 97 == 0 ? NAN : (float)(draw() % 1000) * 0.001F - 0.5F;
        }
        (void)weir_table_apply(tables[server], keys, handles, gradients, pushed, step);
        ck_assert_msg(weir_table_end_step(tables[server], step, step + 1, &error) == WEIR_OK, "%s",
                      error.message);
    }
}

/* Save both servers into a checkpoint of `run`; the bytes of its files. */
static uint64_t save(weir_table_t *tables[], uint32_t servers, const char *run, uint64_t base,
                     uint64_t step) {
    char folder[WEIR_PATH_MAX];
    weir_checkpoint_file_t files[8];
    weir_error_t error = {0};
    uint64_t bytes = 0;
    ck_assert_msg(weir_checkpoint_begin(run, step, folder, sizeof folder, &error) == WEIR_OK, "%s",
                  error.message);
    for (uint32_t i = 0; i < servers; i++) {
        ck_assert_msg(weir_snapshot_write_since(tables[i], i, servers, base, step, folder,
                                                &files[i], &error) == WEIR_OK,
                      "%s", error.message);
        bytes += files[i].size;
    }
    weir_manifest_t manifest = {.step = step,
                                .version = "0.1.0",
                                .ps = servers,
                                .workers = 1,
                                .config_yaml = config_text,
                                .files = files,
                                .file_count = servers};
    ck_assert_msg(weir_checkpoint_publish(run, &manifest, false, &error) == WEIR_OK, "%s",
                  error.message);
    return bytes;
}

static void checkpoint_folder(const char *run, uint64_t step, char folder[WEIR_PATH_MAX]) {
    char name[32];
    weir_checkpoint_step_name(step, name);
    (void)snprintf(folder, WEIR_PATH_MAX, "%s/checkpoints/%s", run, name);
}

static void load(weir_table_t *table, uint32_t index, uint32_t servers, const char *run,
                 uint64_t step) {
    char folder[WEIR_PATH_MAX];
    weir_manifest_t manifest = {0};
    weir_error_t error = {0};
    checkpoint_folder(run, step, folder);
    ck_assert_msg(weir_manifest_read(folder, true, &manifest, &error) == WEIR_OK, "%s",
                  error.message);
    ck_assert_msg(weir_snapshot_load(table, index, servers, folder, &manifest, &error) == WEIR_OK,
                  "%s", error.message);
    weir_manifest_fini(&manifest);
}

static void assert_same_files(const char *left, const char *right, uint64_t step,
                              uint32_t servers) {
    for (uint32_t i = 0; i < servers; i++) {
        char folder[2][WEIR_PATH_MAX], path[2][WEIR_PATH_MAX], name[WEIR_CHECKPOINT_NAME_MAX];
        char *bytes[2] = {NULL, NULL};
        size_t sizes[2];
        checkpoint_folder(left, step, folder[0]);
        checkpoint_folder(right, step, folder[1]);
        weir_snapshot_name("item", i, servers, name);
        for (int k = 0; k < 2; k++) {
            ck_assert_int_eq(weir_path_join(path[k], WEIR_PATH_MAX, folder[k], name, NULL), 0);
            ck_assert_int_eq(weir_file_read(path[k], 1 << 28, &bytes[k], &sizes[k], NULL), 0);
        }
        ck_assert_uint_eq(sizes[0], sizes[1]);
        ck_assert_mem_eq(bytes[0], bytes[1], sizes[0]);
        free(bytes[0]);
        free(bytes[1]);
    }
}

/* How many checkpoints the one of `step` builds on. */
static size_t chain_length(const char *run, uint64_t step) {
    char folder[WEIR_PATH_MAX];
    weir_manifest_t manifest = {0}, *below = NULL;
    size_t count = 0;
    checkpoint_folder(run, step, folder);
    ck_assert_int_eq(weir_manifest_read(folder, true, &manifest, NULL), WEIR_OK);
    ck_assert_int_eq(weir_checkpoint_chain_read(folder, false, &manifest, &below, &count, NULL),
                     WEIR_OK);
    weir_checkpoint_chain_free(below, count);
    weir_manifest_fini(&manifest);
    return count;
}

/* Rows that a reader of the checkpoint sees. */
static uint64_t count_rows(const char *run, uint64_t step) {
    char folder[WEIR_PATH_MAX];
    weir_manifest_t manifest = {0};
    weir_snapshot_chain_t *chain = NULL;
    const weir_snapshot_file_t *newest;
    weir_snapshot_place_t place;
    uint64_t rows = 0;
    checkpoint_folder(run, step, folder);
    ck_assert_int_eq(weir_manifest_read(folder, true, &manifest, NULL), WEIR_OK);
    ck_assert_int_eq(
        weir_snapshot_chain_open(folder, &manifest, "item", 0, WEIR_SLOT_COUNT, &chain, NULL),
        WEIR_OK);
    for (weir_slot_t slot = 0; slot < WEIR_SLOT_COUNT; slot++) {
        ck_assert_int_eq(weir_snapshot_chain_enter(chain, slot, &newest, NULL), WEIR_OK);
        while (weir_snapshot_chain_next(chain, &place)) {
            rows++;
        }
    }
    weir_snapshot_chain_close(chain);
    weir_manifest_fini(&manifest);
    return rows;
}

typedef struct {
    const char *name;
    weir_eviction_kind_t eviction;
    uint64_t budget_rows, ttl;
    weir_admission_kind_t admission;
    bool cold;
    weir_optimizer_kind_t optimizer;
} case_t;

static const case_t cases[] = {
    {"plain", WEIR_EVICTION_LRU, 0, 0, WEIR_ADMISSION_ALL, false, WEIR_OPTIMIZER_ADAM},
    {"lru", WEIR_EVICTION_LRU, 70000, 0, WEIR_ADMISSION_ALL, false, WEIR_OPTIMIZER_SGD},
    {"lfu", WEIR_EVICTION_LFU, 70000, 0, WEIR_ADMISSION_ALL, false, WEIR_OPTIMIZER_ADAGRAD},
    {"ttl", WEIR_EVICTION_LRU, 0, 7, WEIR_ADMISSION_ALL, false, WEIR_OPTIMIZER_SGD},
    {"lru and ttl", WEIR_EVICTION_LRU, 70000, 9, WEIR_ADMISSION_ALL, false, WEIR_OPTIMIZER_SGD},
    {"frequency", WEIR_EVICTION_LRU, 0, 0, WEIR_ADMISSION_FREQUENCY, false, WEIR_OPTIMIZER_SGD},
    {"cold", WEIR_EVICTION_LRU, 70000, 0, WEIR_ADMISSION_ALL, true, WEIR_OPTIMIZER_SGD},
    {"cold and ttl", WEIR_EVICTION_LFU, 70000, 8, WEIR_ADMISSION_ALL, true, WEIR_OPTIMIZER_SGD},
};

static void play(const case_t *c) {
    char chain[600], full[600], again[600];
    weir_table_options_t options = table_case(c->optimizer, DIM, 0.05, 11);
    weir_table_t *tables[SERVERS], *loaded[3];
    options.eviction = c->eviction;
    options.memory_budget =
        c->budget_rows == 0 ? 0 : weir_table_budget_for(&options.row, c->budget_rows);
    options.ttl = c->ttl;
    options.admission = c->admission;
    options.admission_threshold = 2;
    options.admission_counters = 16;
    options.cold_folder = c->cold ? "yes" : NULL;
    (void)snprintf(chain, sizeof chain, "%s/chain-%s", scratch.path, c->name);
    (void)snprintf(full, sizeof full, "%s/full-%s", scratch.path, c->name);
    (void)snprintf(again, sizeof again, "%s/again-%s", scratch.path, c->name);
    for (uint32_t i = 0; i < SERVERS; i++) {
        tables[i] = create(&options, c->name, i, SERVERS);
    }
    uint64_t step = 0, base = 0;
    for (int s = 0; s < SAVES; s++) {
        for (int k = 0; k < STEPS_A_SAVE; k++) {
            train(tables, ++step);
        }
        (void)save(tables, SERVERS, chain, base, step);
        if (s != 2) { /* the third was never published: the next builds on the second */
            base = step;
        }
        for (uint32_t i = 0; i < SERVERS; i++) {
            weir_table_mark_removed(tables[i], step);
        }
    }
    (void)save(tables, SERVERS, full, 0, step);
    weir_table_stats_t stats = weir_table_stats(tables[0]);
    ck_assert(c->budget_rows == 0 || stats.evicted > 100);
    ck_assert(c->ttl == 0 || c->budget_rows != 0 || stats.expired > 100);
    ck_assert(c->cold == (stats.cold_rows > 0));
    ck_assert_uint_eq(chain_length(chain, step), SAVES - 2);
    ck_assert_uint_eq(count_rows(chain, step), count_rows(full, step));
    for (uint32_t i = 0; i < 3; i++) {
        char where[64];
        (void)snprintf(where, sizeof where, "%s-loaded", c->name);
        loaded[i] = create(&options, where, i, 3);
        load(loaded[i], i, 3, chain, step);
    }
    (void)save(loaded, 3, again, 0, step);
    for (uint32_t i = 0; i < 3; i++) { /* what 3 servers read of a full one */
        weir_table_destroy(loaded[i]);
    }
    for (uint32_t i = 0; i < SERVERS; i++) {
        char where[64];
        (void)snprintf(where, sizeof where, "%s-two", c->name);
        weir_table_t *one = create(&options, where, i, SERVERS);
        load(one, i, SERVERS, again, step);
        weir_table_destroy(tables[i]);
        tables[i] = one;
    }
    char two[600];
    (void)snprintf(two, sizeof two, "%s/two-%s", scratch.path, c->name);
    (void)save(tables, SERVERS, two, 0, step);
    for (uint32_t i = 0; i < SERVERS; i++) {
        weir_table_destroy(tables[i]);
    }
    assert_same_files(two, full, step, SERVERS);
}

START_TEST(base_and_deltas_are_a_full_checkpoint_byte_for_byte) {
    state = 77 + (uint64_t)_i;
    play(&cases[_i]);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("snapshot_delta");
    TCase *t = tcase_create("snapshot_delta");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, base_and_deltas_are_a_full_checkpoint_byte_for_byte, 0,
                        (int)(sizeof cases / sizeof cases[0]));
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
