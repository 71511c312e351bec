/* Damage to a checkpoint that was saved well: one bit in any region of any file, a file cut short
 * or too long, one that is missing, a byte of the link. All of it is seen before anything is used.
 */
#include "common/checkpoint.h"
#include "common/file.h"
#include "common/log.h"
#include "common/rng.h"
#include "tests/crash/saved_run.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

enum { STEP = 20, ROWS = 40, MOST_FILES = 16, PLACES = 250 };

static const saved_run_t shape = {.rows = ROWS};
static weir_scratch_t scratch;
static char folder[600];
static char names[MOST_FILES][128];
static size_t file_count;

static void set_up(void) {
    weir_error_t error = {0};
    weir_scratch_init(&scratch);
    weir_log_init("test", -1, WEIR_LOG_ERROR);
    ck_assert_msg(saved_run_save(&shape, scratch.path, STEP, true, 1, &error) == WEIR_OK, "%s",
                  error.message);
    ck_assert_int_eq(weir_checkpoint_resolve(scratch.path, folder, sizeof folder, NULL), WEIR_OK);
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
    ck_assert_msg(saved_run_check(&shape, folder, &step, &error) != WEIR_OK, "%s: %s is not seen",
                  name, what);
    bool named = strstr(error.message, name) != NULL ||
                 (strcmp(name, WEIR_MANIFEST_NAME) == 0 && strstr(error.message, "manifest"));
    ck_assert_msg(named, "%s, %s: \"%s\"", name, what, error.message);
}

static void expect_whole(void) {
    weir_error_t error = {0};
    uint64_t step;
    ck_assert_msg(saved_run_check(&shape, folder, &step, &error) == WEIR_OK, "%s", error.message);
}

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
        if (strcmp(names[f], WEIR_MANIFEST_NAME) != 0) { /* the manifest says what it is itself */
            expect_seen(names[f], "a link");
        }
        ck_assert_int_eq(unlink(path_of(names[f])), 0);
        ck_assert_int_eq(rename(elsewhere, path_of(names[f])), 0);
    }
    expect_whole();
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("damage");
    TCase *t = tcase_create("damage");
    tcase_set_timeout(t, 300);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, one_bit_anywhere_is_seen);
    tcase_add_test(t, a_file_cut_short_or_too_long_is_seen);
    tcase_add_test(t, a_file_that_is_missing_or_another_one_is_seen);
    tcase_add_test(t, a_link_out_of_the_folder_is_not_followed);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
