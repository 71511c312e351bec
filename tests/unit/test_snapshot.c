#include "common/file.h"
#include "common/log.h"
#include "common/rng.h"
#include "common/tensor_blocks.h"
#include "common/tensor_file.h"
#include "ps/snapshot.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/table_cases.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

enum { DIM = 3, ROWS = 2000, STEP = 40 };

static weir_scratch_t scratch;

static weir_table_t *create_table(weir_optimizer_kind_t optimizer) {
    weir_table_options_t options = table_case(optimizer, DIM, 0.01, 3);
    return table_case_create(&options);
}

static weir_key_t key_of(size_t i) {
    return i * 0x100000001ull + 5;
}

static weir_slot_t slot_of(weir_key_t key) {
    return weir_slot_of_hash(weir_hash64(key));
}

/* Rows of this server's slots, updated now and then up to step STEP. */
static weir_table_t *trained_table(weir_optimizer_kind_t optimizer, uint32_t index, uint32_t ps) {
    weir_table_t *table = create_table(optimizer);
    for (size_t i = 0; i < ROWS; i++) {
        weir_key_t key = key_of(i);
        if (weir_slot_owner(slot_of(key), ps) != index) {
            continue;
        }
        for (uint64_t step = 1 + i % 7; step <= STEP; step += 11) {
            float gradient[DIM] = {(float)i * 0.001F, (float)step, -0.5F};
            ck_assert(table_case_train(table, key, gradient, step));
        }
    }
    return table;
}

/* ---- shards side by side ---- */

typedef struct {
    char folder[600];
    weir_checkpoint_file_t files[16];
    weir_manifest_t manifest;
} saved_t;

static void begin_save(saved_t *saved, const char *name, uint32_t ps) {
    memset(saved, 0, sizeof *saved);
    (void)snprintf(saved->folder, sizeof saved->folder, "%s", weir_scratch_path(&scratch, name));
    ck_assert_int_eq(weir_file_make_directories(saved->folder, NULL), WEIR_OK);
    saved->manifest =
        (weir_manifest_t){.step = STEP, .ps = ps, .files = saved->files, .file_count = ps};
}

static void save_shard(saved_t *saved, weir_table_t *table, uint32_t index, uint32_t ps) {
    weir_error_t error = {0};
    ck_assert_msg(weir_snapshot_write(table, index, ps, STEP, saved->folder, &saved->files[index],
                                      &error) == WEIR_OK,
                  "%s", error.message);
}

typedef struct {
    unsigned char *bytes;
    size_t size;
} bytes_t;

static void append_bytes(bytes_t *all, const void *bytes, size_t size) {
    all->bytes = realloc(all->bytes, all->size + size + 1);
    ck_assert_ptr_nonnull(all->bytes);
    memcpy(all->bytes + all->size, bytes, size);
    all->size += size;
}

/* A tensor of all shards, one after the other. */
static bytes_t join_shards(const saved_t *saved, const char *tensor_name) {
    bytes_t all = {0};
    for (uint32_t i = 0; i < saved->manifest.ps; i++) {
        char path[WEIR_PATH_MAX];
        weir_tensor_file_t *file = NULL;
        ck_assert_int_eq(
            weir_path_join(path, sizeof path, saved->folder, saved->files[i].name, NULL), WEIR_OK);
        ck_assert_int_eq(weir_tensor_file_open(path, &file, NULL), WEIR_OK);
        const weir_tensor_t *tensor = weir_tensor_file_find(file, tensor_name);
        ck_assert_ptr_nonnull(tensor);
        append_bytes(&all, tensor->values, (size_t)tensor->bytes);
        weir_tensor_file_close(file);
    }
    return all;
}

static void check_same_rows(const saved_t *left, const saved_t *right, const char *const *tensors) {
    for (; *tensors != NULL; tensors++) {
        bytes_t a = join_shards(left, *tensors), b = join_shards(right, *tensors);
        ck_assert_uint_eq(a.size, b.size);
        ck_assert_uint_gt(a.size, 0);
        ck_assert_mem_eq(a.bytes, b.bytes, a.size);
        free(a.bytes);
        free(b.bytes);
    }
}

static const char *const adamw_tensors[] = {"keys", "value", "m", "v", "last_step", "count", NULL};

START_TEST(any_servers_read_what_any_other_number_wrote) {
    static const uint32_t sizes[] = {1, 2, 3, 5, 8};
    static saved_t first, again;
    saved_t *one = calloc(1, sizeof *one);
    ck_assert_ptr_nonnull(one);
    begin_save(one, "one", 1);
    weir_table_t *whole = trained_table(WEIR_OPTIMIZER_ADAMW, 0, 1);
    save_shard(one, whole, 0, 1);
    weir_table_destroy(whole);
    for (size_t n = 0; n < 5; n++) {
        begin_save(&first, "first", sizes[n]);
        for (uint32_t i = 0; i < sizes[n]; i++) {
            weir_table_t *table = trained_table(WEIR_OPTIMIZER_ADAMW, i, sizes[n]);
            save_shard(&first, table, i, sizes[n]);
            weir_table_destroy(table);
        }
        check_same_rows(one, &first, adamw_tensors);
        for (size_t m = 0; m < 5; m++) {
            begin_save(&again, "again", sizes[m]);
            for (uint32_t i = 0; i < sizes[m]; i++) {
                weir_table_t *table = create_table(WEIR_OPTIMIZER_ADAMW);
                weir_error_t error = {0};
                ck_assert_msg(weir_snapshot_load(table, i, sizes[m], first.folder, &first.manifest,
                                                 &error) == WEIR_OK,
                              "%s", error.message);
                save_shard(&again, table, i, sizes[m]);
                weir_table_destroy(table);
            }
            check_same_rows(one, &again, adamw_tensors);
        }
    }
    free(one);
}
END_TEST

START_TEST(a_loaded_table_goes_on_as_if_it_had_never_stopped) {
    for (int k = 0; k < WEIR_OPTIMIZER_COUNT; k++) {
        static saved_t saved;
        weir_optimizer_kind_t kind = (weir_optimizer_kind_t)k;
        weir_table_t *table = trained_table(kind, 0, 1), *loaded = create_table(kind);
        begin_save(&saved, weir_optimizer_name(kind), 1);
        save_shard(&saved, table, 0, 1);
        ck_assert_int_eq(weir_snapshot_load(loaded, 0, 1, saved.folder, &saved.manifest, NULL),
                         WEIR_OK);
        ck_assert_uint_eq(table_case_rows(loaded), ROWS);
        weir_table_t *both[2] = {table, loaded};
        static float values[2][ROWS * DIM];
        for (size_t t = 0; t < 2; t++) {
            for (size_t i = 0; i < ROWS; i++) {
                weir_key_t key = key_of(i);
                float gradient[DIM] = {0.5F, -1e-3F, (float)i};
                ck_assert(table_case_train(both[t], key, gradient, STEP + 1));
                table_case_peek(both[t], &key, 1, &values[t][i * DIM]);
            }
        }
        ck_assert_mem_eq(values[0], values[1], sizeof values[0]);
        weir_table_destroy(table);
        weir_table_destroy(loaded);
    }
}
END_TEST

START_TEST(an_empty_table_is_saved_and_loaded) {
    static saved_t saved;
    weir_table_t *table = create_table(WEIR_OPTIMIZER_SGD);
    begin_save(&saved, "empty", 2);
    save_shard(&saved, table, 0, 2);
    save_shard(&saved, table, 1, 2);
    ck_assert_int_eq(weir_snapshot_load(table, 2, 3, saved.folder, &saved.manifest, NULL), WEIR_OK);
    ck_assert_uint_eq(table_case_rows(table), 0);
    weir_table_destroy(table);
}
END_TEST

START_TEST(the_file_is_the_one_that_the_manifest_will_name) {
    static saved_t saved;
    weir_table_t *table = trained_table(WEIR_OPTIMIZER_SGD, 1, 2);
    begin_save(&saved, "named", 2);
    save_shard(&saved, table, 1, 2);
    ck_assert_str_eq(saved.files[1].name, "item.ps-0001-of-0002.safetensors");
    char path[WEIR_PATH_MAX];
    uint64_t checksum, size;
    ck_assert_int_eq(weir_path_join(path, sizeof path, saved.folder, saved.files[1].name, NULL),
                     WEIR_OK);
    ck_assert(saved.files[1].blocks);
    ck_assert_int_eq(weir_tensor_blocks_check_path(path, true, &checksum, &size, NULL), WEIR_OK);
    ck_assert_uint_eq(checksum, saved.files[1].checksum);
    ck_assert_uint_eq(size, saved.files[1].size);
    /* Rows of another server's slots do not belong into its file. */
    ck_assert_int_eq(weir_snapshot_write(table, 0, 2, STEP, saved.folder, &saved.files[0], NULL),
                     WEIR_ERR_INVALID);
    weir_table_destroy(table);
}
END_TEST

/* ---- shards that are not what they claim to be ---- */

/* A file of four rows of sgd on server 0 of 4,096 (slots 0 to 3), as the fields say. */
typedef struct {
    const char *table, *dim, *schema, *first_slot, *slots, *step;
    weir_key_t keys[4];
    uint64_t rows, width, value_rows, last_steps[4], counts[4], slot_offsets[5];
    float values[4 * DIM];
    bool without_counts;
} forgery_t;

enum { FORGED_PS = 4096 };

/* The n-th key in the order of hashes among those of a slot below 4: key order is hash order. */
static void find_keys(weir_key_t keys[4]) {
    size_t count = 0;
    bool taken[4] = {false};
    for (weir_key_t key = 1; count < 4; key++) {
        weir_slot_t slot = slot_of(key);
        if (slot < 4 && !taken[slot]) {
            taken[slot] = true;
            keys[slot] = key;
            count++;
        }
    }
}

static forgery_t honest_file(void) {
    forgery_t forgery = {.table = "item",
                         .dim = "3",
                         .schema = ":3:float32:sgd",
                         .first_slot = "0",
                         .slots = "4",
                         .step = "40",
                         .rows = 4,
                         .width = DIM,
                         .value_rows = 4,
                         .last_steps = {1, 2, 3, 40},
                         .counts = {1, 1, 1, 7},
                         .slot_offsets = {0, 1, 2, 3, 4}};
    find_keys(forgery.keys);
    return forgery;
}

static void write_forgery(const forgery_t *forgery, const char *path) {
    weir_tensor_writer_t *writer = NULL;
    const uint64_t rows[2] = {forgery->rows, 0}, values[2] = {forgery->value_rows, forgery->width};
    const uint64_t slots = 5;
    const char *metadata[][2] = {{"table", forgery->table},           {"dim", forgery->dim},
                                 {"schema", forgery->schema},         {"slots", forgery->slots},
                                 {"first_slot", forgery->first_slot}, {"step", forgery->step}};
    ck_assert_int_eq(weir_tensor_writer_create(path, &writer, NULL), WEIR_OK);
    for (size_t i = 0; i < 6; i++) {
        if (metadata[i][1] != NULL) {
            ck_assert_int_eq(
                weir_tensor_writer_metadata(writer, metadata[i][0], metadata[i][1], NULL), WEIR_OK);
        }
    }
    weir_err_t err = weir_tensor_writer_declare(writer, "keys", WEIR_DTYPE_U64, 1, rows, NULL);
    err |= weir_tensor_writer_declare(writer, "last_step", WEIR_DTYPE_U64, 1, rows, NULL);
    if (!forgery->without_counts) {
        err |= weir_tensor_writer_declare(writer, "count", WEIR_DTYPE_U64, 1, rows, NULL);
    }
    err |= weir_tensor_writer_declare(writer, "slot_offsets", WEIR_DTYPE_U64, 1, &slots, NULL);
    err |= weir_tensor_writer_declare(writer, "value", WEIR_DTYPE_F32, 2, values, NULL);
    err |= weir_tensor_writer_begin(writer, NULL);
    size_t bytes = (size_t)forgery->rows * sizeof(uint64_t);
    err |= weir_tensor_writer_append(writer, forgery->keys, bytes, NULL);
    err |= weir_tensor_writer_append(writer, forgery->last_steps, bytes, NULL);
    if (!forgery->without_counts) {
        err |= weir_tensor_writer_append(writer, forgery->counts, bytes, NULL);
    }
    err |= weir_tensor_writer_append(writer, forgery->slot_offsets, 5 * sizeof(uint64_t), NULL);
    err |= weir_tensor_writer_append(
        writer, forgery->values,
        (size_t)(forgery->value_rows * forgery->width) * sizeof *forgery->values, NULL);
    err |= weir_tensor_writer_commit(writer, NULL, NULL, NULL);
    ck_assert_int_eq(err, WEIR_OK);
    weir_tensor_writer_destroy(writer);
}

static weir_checkpoint_file_t forged_files[FORGED_PS];

static weir_manifest_t forged_manifest(void) {
    for (uint32_t i = 0; i < FORGED_PS; i++) {
        weir_snapshot_name("item", i, FORGED_PS, forged_files[i].name);
    }
    return (weir_manifest_t){
        .step = STEP, .ps = FORGED_PS, .files = forged_files, .file_count = FORGED_PS};
}

static weir_err_t load_forged(weir_error_t *error) {
    weir_manifest_t manifest = forged_manifest();
    weir_table_t *table = create_table(WEIR_OPTIMIZER_SGD);
    weir_err_t err = weir_snapshot_load(table, 0, FORGED_PS, scratch.path, &manifest, error);
    if (err == WEIR_OK) {
        ck_assert_uint_eq(table_case_rows(table), 4);
    }
    weir_table_destroy(table);
    return err;
}

/* One lie each. */
static const char *const lies[] = {"table",       "dim",        "schema",         "first slot",
                                   "slots",       "step",       "step no number", "no metadata",
                                   "row order",   "wrong slot", "key twice",      "step ahead",
                                   "count",       "offset 0",   "offsets fall",   "offset last",
                                   "offset huge", "shape",      "rows",           "no tensor"};

static bool tell_lie(forgery_t *forgery, size_t lie) {
    weir_key_t key = forgery->keys[0];
    switch (lie) {
    case 0:
        return (forgery->table = "user") != NULL;
    case 1:
        return (forgery->dim = "4") != NULL;
    case 2:
        return (forgery->schema = ":3:float32:adamw") != NULL;
    case 3:
        return (forgery->first_slot = "4") != NULL;
    case 4:
        return (forgery->slots = "8") != NULL;
    case 5:
        return (forgery->step = "41") != NULL;
    case 6:
        return (forgery->step = "-40") != NULL;
    case 7:
        forgery->dim = NULL;
        return true;
    case 8: /* two rows of one slot, in the wrong order */
        do {
            key++;
        } while (slot_of(key) != 0 || weir_hash64(key) > weir_hash64(forgery->keys[0]));
        forgery->keys[1] = key;
        memcpy(forgery->slot_offsets, (uint64_t[]){0, 2, 2, 3, 4}, sizeof forgery->slot_offsets);
        return true;
    case 9:
        forgery->keys[2] = key;
        return true;
    case 10:
        forgery->keys[1] = key;
        memcpy(forgery->slot_offsets, (uint64_t[]){0, 2, 2, 3, 4}, sizeof forgery->slot_offsets);
        return true;
    case 11:
        forgery->last_steps[3] = STEP + 1;
        return true;
    case 12:
        forgery->counts[1] = UINT64_MAX;
        return true;
    case 13:
        forgery->slot_offsets[0] = 1;
        return true;
    case 14:
        memcpy(forgery->slot_offsets, (uint64_t[]){0, 3, 2, 3, 4}, sizeof forgery->slot_offsets);
        return true;
    case 15:
        forgery->slot_offsets[4] = 3;
        return true;
    case 16:
        forgery->slot_offsets[3] = UINT64_MAX;
        return true;
    case 17:
        forgery->width = DIM - 1;
        return true;
    case 18:
        forgery->value_rows = 3;
        return true;
    default:
        return (forgery->without_counts = true);
    }
}

START_TEST(every_lie_of_a_shard_is_refused_with_its_file) {
    weir_error_t error = {0};
    char path[WEIR_PATH_MAX];
    forgery_t honest = honest_file();
    (void)snprintf(path, sizeof path, "%s/item.ps-0000-of-%u.safetensors", scratch.path, FORGED_PS);
    write_forgery(&honest, path);
    ck_assert_msg(load_forged(&error) == WEIR_OK, "%s", error.message);
    for (size_t lie = 0; lie < sizeof lies / sizeof *lies; lie++) {
        forgery_t forgery = honest_file();
        ck_assert(tell_lie(&forgery, lie));
        write_forgery(&forgery, path);
        error.message[0] = '\0';
        weir_err_t err = load_forged(&error);
        bool refused =
            err == WEIR_ERR_CORRUPT || err == WEIR_ERR_INVALID || err == WEIR_ERR_NOT_FOUND;
        ck_assert_msg(refused, "%s: %d", lies[lie], err);
        ck_assert_msg(strstr(error.message, "item.ps-0000-of-4096") != NULL, "%s: %s", lies[lie],
                      error.message);
    }
}
END_TEST

START_TEST(no_flipped_byte_and_no_cut_reads_past_the_file) {
    char path[WEIR_PATH_MAX], *bytes = NULL;
    size_t size = 0, refused = 0;
    forgery_t honest = honest_file();
    (void)snprintf(path, sizeof path, "%s/item.ps-0000-of-%u.safetensors", scratch.path, FORGED_PS);
    write_forgery(&honest, path);
    ck_assert_int_eq(weir_file_read(path, 1 << 20, &bytes, &size, NULL), WEIR_OK);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (char)(bytes[i] ^ (1 << (i % 8)));
        ck_assert_int_eq(weir_file_replace(path, bytes, size, NULL), WEIR_OK);
        refused += load_forged(NULL) != WEIR_OK;
        bytes[i] = (char)(bytes[i] ^ (1 << (i % 8)));
    }
    ck_assert_uint_gt(refused, size / 3); /* values and counts may be anything */
    for (size_t cut = 0; cut < size; cut += 3) {
        ck_assert_int_eq(weir_file_replace(path, bytes, cut, NULL), WEIR_OK);
        ck_assert_int_ne(load_forged(NULL), WEIR_OK);
    }
    free(bytes);
}
END_TEST

START_TEST(a_manifest_that_names_the_wrong_shards_is_refused) {
    weir_error_t error = {0};
    weir_manifest_t manifest = forged_manifest();
    weir_table_t *table = create_table(WEIR_OPTIMIZER_SGD);
    manifest.file_count = 0;
    ck_assert_int_eq(weir_snapshot_load(table, 0, 1, scratch.path, &manifest, &error),
                     WEIR_ERR_NOT_FOUND);
    manifest.file_count = FORGED_PS - 1;
    ck_assert_int_eq(weir_snapshot_load(table, 0, 1, scratch.path, &manifest, &error),
                     WEIR_ERR_CORRUPT);
    manifest = forged_manifest();
    weir_snapshot_name("item", 7, FORGED_PS, forged_files[8].name);
    ck_assert_int_eq(weir_snapshot_load(table, 0, 1, scratch.path, &manifest, &error),
                     WEIR_ERR_CORRUPT);
    weir_snapshot_name("item", 8, FORGED_PS - 1, forged_files[8].name);
    ck_assert_int_eq(weir_snapshot_load(table, 0, 1, scratch.path, &manifest, &error),
                     WEIR_ERR_CORRUPT);
    /* Names that only look like shards are other files. */
    static const char *const others[] = {"item.ps-0-of-1.safetensors",
                                         "item.ps-+000-of-0001.safetensors",
                                         "item.ps-0001-of-0001.safetensors",
                                         "item.ps-0000-of-0001.safetensors.bak",
                                         "items.ps-0000-of-0001.safetensors",
                                         "item.ps-99999999999999999999-of-0001.safetensors",
                                         "item.ps-",
                                         ""};
    manifest.file_count = 1;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        (void)snprintf(forged_files[0].name, sizeof forged_files[0].name, "%s", others[i]);
        ck_assert_int_eq(weir_snapshot_load(table, 0, 1, scratch.path, &manifest, &error),
                         WEIR_ERR_NOT_FOUND);
    }
    manifest = forged_manifest(); /* a file that is named and not there */
    manifest.file_count = FORGED_PS;
    ck_assert_int_ne(weir_snapshot_load(table, 100, FORGED_PS, scratch.path, &manifest, &error),
                     WEIR_OK);
    weir_table_destroy(table);
}
END_TEST

START_TEST(values_that_are_not_finite_are_loaded_as_they_are_and_their_key_is_told) {
    char path[WEIR_PATH_MAX], said[1024] = "", wanted[64];
    forgery_t forgery = honest_file();
    forgery.values[4] = NAN;
    (void)snprintf(path, sizeof path, "%s/item.ps-0000-of-%u.safetensors", scratch.path, FORGED_PS);
    write_forgery(&forgery, path);
    (void)snprintf(wanted, sizeof wanted, "count=1 first_key=%llu\n",
                   (unsigned long long)forgery.keys[4 / DIM]);
    FILE *log = tmpfile();
    int kept = dup(STDERR_FILENO);
    ck_assert_ptr_nonnull(log);
    ck_assert_int_ge(dup2(fileno(log), STDERR_FILENO), 0);
    weir_log_init("test", -1, WEIR_LOG_WARN);
    weir_err_t err = load_forged(NULL);
    ck_assert_int_ge(dup2(kept, STDERR_FILENO), 0);
    (void)close(kept);
    ck_assert_int_eq(err, WEIR_OK);
    ck_assert_int_ge(pread(fileno(log), said, sizeof said - 1, 0), 0);
    (void)fclose(log);
    ck_assert_msg(strstr(said, wanted) != NULL, "\"%s\" says not %s", said, wanted);
}
END_TEST

static void set_up(void) {
    weir_log_init("test", -1, WEIR_LOG_ERROR);
    weir_scratch_init(&scratch);
}

static void tear_down(void) {
    weir_scratch_fini(&scratch);
}

static Suite *suite(void) {
    Suite *s = suite_create("snapshot");
    TCase *t = tcase_create("snapshot");
    tcase_set_timeout(t, 240);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, any_servers_read_what_any_other_number_wrote);
    tcase_add_test(t, a_loaded_table_goes_on_as_if_it_had_never_stopped);
    tcase_add_test(t, an_empty_table_is_saved_and_loaded);
    tcase_add_test(t, the_file_is_the_one_that_the_manifest_will_name);
    tcase_add_test(t, every_lie_of_a_shard_is_refused_with_its_file);
    tcase_add_test(t, no_flipped_byte_and_no_cut_reads_past_the_file);
    tcase_add_test(t, a_manifest_that_names_the_wrong_shards_is_refused);
    tcase_add_test(t, values_that_are_not_finite_are_loaded_as_they_are_and_their_key_is_told);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
