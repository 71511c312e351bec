/* Damage to a checkpoint that was saved well, a full one and one that builds on it: one bit in any
 * region of any file, a file cut short or too long, one that is missing. All of it is seen before
 * anything is used, also of what it builds on. One bit of a link: it leads to a whole checkpoint or
 * to none.
 */
#include "common/checkpoint.h"
#include "common/file.h"
#include "common/log.h"
#include "common/rng.h"
#include "common/tensor_file.h"
#include "tests/crash/saved_run.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

enum { STEP = 20, ROWS = 40, MOST_FILES = 16, PLACES = 90 };

static const saved_run_t shape = {.rows = ROWS};
static weir_scratch_t scratch;
static char folder[600]; /* whose files are damaged */
static char loaded[600]; /* itself, or what builds on it */
static char names[MOST_FILES][128];
static size_t file_count;

static void save(const saved_run_t *saved, uint64_t step, bool best) {
    weir_error_t error = {0};
    ck_assert_msg(saved_run_save(saved, scratch.path, step, best, 2, &error) == WEIR_OK, "%s",
                  error.message);
}

/* The names of the files in `folder`. */
static void list_files(void) {
    DIR *listed = opendir(folder);
    ck_assert_ptr_nonnull(listed);
    file_count = 0;
    for (const struct dirent *entry = readdir(listed); entry != NULL; entry = readdir(listed)) {
        if (entry->d_name[0] != '.') {
            ck_assert_uint_lt(file_count, MOST_FILES);
            (void)snprintf(names[file_count++], sizeof names[0], "%s", entry->d_name);
        }
    }
    (void)closedir(listed);
    ck_assert_uint_eq(file_count, 5); /* two shards, two dense files, the manifest */
}

static void set_up(void) {
    weir_scratch_init(&scratch);
    weir_log_init("test", -1, WEIR_LOG_ERROR);
    save(&shape, STEP, true);
    ck_assert_int_eq(weir_checkpoint_resolve(scratch.path, folder, sizeof folder, NULL), WEIR_OK);
    (void)snprintf(loaded, sizeof loaded, "%s", folder);
    list_files();
}

/* What is loaded builds on what set_up saved; the files of either are damaged: `base` or itself. */
static void set_up_delta(bool base) {
    static const saved_run_t changes = {.rows = ROWS, .base = STEP};
    set_up();
    save(&changes, STEP + SAVED_RUN_EVERY, false);
    ck_assert_int_eq(weir_checkpoint_resolve(scratch.path, loaded, sizeof loaded, NULL), WEIR_OK);
    ck_assert_str_ne(loaded, folder);
    if (!base) {
        (void)snprintf(folder, sizeof folder, "%s", loaded);
        list_files();
    }
}

static void set_up_on_top(void) {
    set_up_delta(false);
}

static void set_up_below(void) {
    set_up_delta(true);
}

static void tear_down(void) {
    saved_run_forget();
    weir_scratch_fini(&scratch);
}

static const char *path_of(const char *name) {
    static char path[800];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void read_file(const char *name, char **bytes, size_t *size) {
    ck_assert_int_eq(weir_file_read(path_of(name), 1 << 26, bytes, size, NULL), WEIR_OK);
}

static void write_file(const char *name, const void *bytes, size_t size) {
    FILE *file = fopen(path_of(name), "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

/* The damage is seen, and the sentence names the file. */
static void expect_seen(const char *name, const char *what) {
    weir_error_t error = {0};
    uint64_t step;
    ck_assert_msg(saved_run_check(&shape, loaded, &step, &error) != WEIR_OK, "%s: %s is not seen",
                  name, what);
    bool manifest = strcmp(name, WEIR_MANIFEST_NAME) == 0;
    /* Without its manifest a folder is no checkpoint. */
    bool named = strstr(error.message, name) != NULL ||
                 (manifest && strstr(error.message, "manifest") != NULL) ||
                 (manifest && strstr(error.message, "builds on step 20, which is not") != NULL);
    ck_assert_msg(named, "%s, %s: \"%s\"", name, what, error.message);
}

static void expect_whole(void) {
    weir_error_t error = {0};
    uint64_t step;
    ck_assert_msg(saved_run_check(&shape, loaded, &step, &error) == WEIR_OK, "%s", error.message);
}

/* A bit of byte `at` of a file that holds `bytes`, changed and then changed back. */
static void flip(const char *name, char *bytes, size_t size, size_t at, int bit,
                 const char *region) {
    char what[128];
    bytes[at] = (char)(bytes[at] ^ (1 << bit));
    write_file(name, bytes, size);
    (void)snprintf(what, sizeof what, "bit %d of byte %zu of %zu, in %s", bit, at, size, region);
    expect_seen(name, what);
    bytes[at] = (char)(bytes[at] ^ (1 << bit));
}

/* The first, the last and a byte between of `length` from `begin` on, in turn each of their bits.
 */
static void flip_region(const char *name, char *bytes, size_t size, size_t begin, size_t length,
                        const char *region) {
    static int turn;
    if (length > 0) {
        flip(name, bytes, size, begin, turn++ % 8, region);
        flip(name, bytes, size, begin + length / 2, turn++ % 8, region);
        flip(name, bytes, size, begin + length - 1, turn++ % 8, region);
    }
}

/* Of a tensor file: length of the header, header, what fills it up, every tensor. */
static void flip_regions_of_tensors(const char *name, char *bytes, size_t size) {
    weir_tensor_file_t *file = NULL;
    const void *header = NULL;
    char *kept = malloc(size);
    ck_assert_ptr_nonnull(kept);
    memcpy(kept, bytes, size);
    ck_assert_int_eq(weir_tensor_file_open_memory(kept, size, name, &file, NULL), WEIR_OK);
    size_t end = weir_tensor_file_header(file, &header);
    for (size_t at = 0; at < sizeof(uint64_t); at++) {
        flip(name, bytes, size, at, (int)at, "the header's length");
    }
    for (size_t at = sizeof(uint64_t); at < end; at += 11) {
        flip(name, bytes, size, at, (int)(at % 7), "the header");
    }
    flip(name, bytes, size, end - 1, 0, "the end of the header");
    for (size_t i = 0; i < weir_tensor_file_count(file); i++) {
        const weir_tensor_t *tensor = weir_tensor_file_at(file, i);
        flip_region(name, bytes, size, (size_t)((const char *)tensor->values - kept),
                    (size_t)tensor->bytes, tensor->name);
    }
    weir_tensor_file_close(file);
    free(kept);
}

START_TEST(one_bit_in_every_region_is_seen) {
    for (size_t f = 0; f < file_count; f++) {
        char *bytes;
        size_t size;
        read_file(names[f], &bytes, &size);
        if (strcmp(names[f], WEIR_MANIFEST_NAME) == 0) {
            for (size_t at = 0; at < size; at++) {
                flip(names[f], bytes, size, at, (int)(at % 8), "the manifest");
            }
        } else {
            flip_regions_of_tensors(names[f], bytes, size);
        }
        write_file(names[f], bytes, size);
        free(bytes);
        expect_whole();
    }
}
END_TEST

START_TEST(one_bit_anywhere_is_seen) {
    for (size_t f = 0; f < file_count; f++) {
        char *bytes, what[64];
        size_t size;
        read_file(names[f], &bytes, &size);
        for (uint32_t i = 0; i < PLACES; i++) {
            /* The first bytes, the last ones, and places between. */
            uint32_t drawn = weir_philox(weir_rng_key(1, WEIR_STREAM_TEST), i, 0, 0, 0).word[0];
            size_t at = i < 40 ? i : i < 60 ? size - 1 - (i - 40) : drawn % size;
            char bit = (char)(1 << (i % 8));
            bytes[at] = (char)(bytes[at] ^ bit);
            write_file(names[f], bytes, size);
            (void)snprintf(what, sizeof what, "a bit of byte %zu of %zu", at, size);
            expect_seen(names[f], what);
            bytes[at] = (char)(bytes[at] ^ bit);
        }
        write_file(names[f], bytes, size);
        free(bytes);
        expect_whole();
    }
}
END_TEST

START_TEST(a_file_cut_short_or_too_long_is_seen) {
    for (size_t f = 0; f < file_count; f++) {
        char *bytes;
        size_t size;
        read_file(names[f], &bytes, &size);
        const size_t cuts[] = {0, 1, 8, size / 2, size - 1};
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
            write_file(names[f], bytes, cuts[i]);
            expect_seen(names[f], "a cut");
        }
        char *longer = realloc(bytes, size + 1);
        ck_assert_ptr_nonnull(longer);
        longer[size] = '\0';
        write_file(names[f], longer, size + 1);
        expect_seen(names[f], "a byte more");
        write_file(names[f], longer, size);
        free(longer);
        expect_whole();
    }
}
END_TEST

START_TEST(a_file_that_is_missing_or_another_one_is_seen) {
    for (size_t f = 0; f < file_count; f++) {
        char *bytes, *others;
        size_t size, others_size;
        read_file(names[f], &bytes, &size);
        ck_assert_int_eq(unlink(path_of(names[f])), 0);
        expect_seen(names[f], "its absence");
        read_file(names[(f + 1) % file_count], &others, &others_size);
        if (f + 1 < file_count) {
            write_file(names[f], others, others_size);
            expect_seen(names[f], "another file");
        }
        write_file(names[f], bytes, size);
        free(bytes);
        free(others);
        expect_whole();
    }
}
END_TEST

START_TEST(a_link_out_of_the_folder_is_not_followed) {
    for (size_t f = 0; f < file_count; f++) {
        char elsewhere[700];
        (void)snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", scratch.path);
        ck_assert_int_eq(rename(path_of(names[f]), elsewhere), 0);
        ck_assert_int_eq(symlink(elsewhere, path_of(names[f])), 0);
        expect_seen(names[f], "a link");
        ck_assert_int_eq(unlink(path_of(names[f])), 0);
        ck_assert_int_eq(rename(elsewhere, path_of(names[f])), 0);
    }
    expect_whole();
}
END_TEST

/* One bit of the text of a link: what resolves is one of the two checkpoints, and whole. */
START_TEST(a_bit_of_a_link_leads_to_a_whole_checkpoint_or_to_none) {
    static const char *const links[] = {"latest", "best"};
    for (size_t l = 0; l < 2; l++) {
        char path[700], text[64];
        uint64_t step;
        (void)snprintf(path, sizeof path, "%s/checkpoints/%s", scratch.path, links[l]);
        ssize_t size = readlink(path, text, sizeof text - 1);
        ck_assert_int_gt(size, 0);
        text[size] = '\0';
        for (ssize_t at = 0; at < size; at++) {
            for (int bit = 0; bit < 8; bit++) {
                char damaged[64], found[600];
                weir_error_t error = {0};
                memcpy(damaged, text, sizeof damaged);
                damaged[at] = (char)(damaged[at] ^ (1 << bit));
                ck_assert_int_eq(unlink(path), 0);
                if (damaged[0] == '\0' || symlink(damaged, path) != 0) {
                    ck_assert_int_eq(symlink("step", path), 0); /* no link can say this */
                }
                /* A run goes on from one of its checkpoints, whatever its links say. */
                ck_assert_int_eq(weir_checkpoint_resolve(scratch.path, found, sizeof found, &error),
                                 WEIR_OK);
                ck_assert_int_eq(saved_run_check(&shape, found, &step, &error), WEIR_OK);
                /* By the link itself: the same, or none, by name. */
                weir_err_t err = weir_checkpoint_resolve(path, found, sizeof found, &error);
                ck_assert(err == WEIR_OK || strstr(error.message, links[l]) != NULL);
                ck_assert(err != WEIR_OK ||
                          saved_run_check(&shape, found, &step, &error) == WEIR_OK);
            }
        }
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(symlink(text, path), 0);
    }
}
END_TEST

static TCase *add_case(Suite *s, const char *name, void (*begin)(void)) {
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 300);
    tcase_add_checked_fixture(t, begin, tear_down);
    suite_add_tcase(s, t);
    return t;
}

static Suite *suite(void) {
    Suite *s = suite_create("damage");
    void (*const begins[])(void) = {set_up, set_up_on_top, set_up_below};
    static const char *const names_of_cases[] = {"a full one", "a delta", "what it builds on"};
    for (size_t i = 0; i < 3; i++) {
        TCase *t = add_case(s, names_of_cases[i], begins[i]);
        tcase_add_test(t, one_bit_in_every_region_is_seen);
        tcase_add_test(t, one_bit_anywhere_is_seen);
        tcase_add_test(t, a_file_cut_short_or_too_long_is_seen);
        tcase_add_test(t, a_file_that_is_missing_or_another_one_is_seen);
        tcase_add_test(t, a_link_out_of_the_folder_is_not_followed);
    }
    TCase *t = add_case(s, "links", set_up_on_top);
    tcase_add_test(t, a_bit_of_a_link_leads_to_a_whole_checkpoint_or_to_none);
    return s;
}

WEIR_TEST_MAIN(suite())
