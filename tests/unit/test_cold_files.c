/* Cold rows where the disk lies, is full, or holds what is somebody else's. */
#include "common/clock.h"
#include "ps/cold_store.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77 };

static weir_scratch_t scratch;

static void begin(void) {
    weir_scratch_init(&scratch);
}

static void end(void) {
    weir_scratch_fini(&scratch);
}

static const char *in(const char *name) {
    return weir_scratch_path(&scratch, name);
}

static weir_err_t make_store(const char *folder, size_t record, size_t buffer, size_t cache,
                             weir_cold_store_t **store, weir_error_t *error) {
    weir_cold_store_options_t options = {.folder = folder,
                                         .record_bytes = record,
                                         .cache_bytes = cache,
                                         .write_buffer_bytes = buffer};
    return weir_cold_store_create(&options, store, error);
}

static weir_cold_store_t *create_store(const char *folder, size_t record, size_t buffer,
                                       size_t cache) {
    weir_cold_store_t *store = NULL;
    weir_error_t error = {0};
    weir_err_t err = make_store(folder, record, buffer, cache, &store, &error);
    ck_assert_msg(err == WEIR_OK, "%s (%s)", error.message, error.hint);
    return store;
}

/* Records of 4 KiB under keys 0, 1, 2, ... */
static weir_err_t fill_store(weir_cold_store_t *store, size_t bytes, weir_error_t *error) {
    static char records[64 * 4096];
    weir_key_t keys[64];
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < bytes / sizeof records && err == WEIR_OK; i++) {
        for (size_t j = 0; j < 64; j++) {
            keys[j] = i * 64 + j;
        }
        err = weir_cold_store_put(store, keys, records, 64, error);
    }
    return err;
}

/* ---- a disk that lies ---- */

static size_t list_files(const char *folder, const char *suffix, char names[][64], size_t most) {
    size_t count = 0;
    DIR *opened = opendir(folder);
    ck_assert_ptr_nonnull(opened);
    const struct dirent *entry;
    while ((entry = readdir(opened)) != NULL && count < most) {
        size_t length = strlen(entry->d_name), tail = strlen(suffix);
        if (length >= tail && length < 64 && strcmp(entry->d_name + length - tail, suffix) == 0 &&
            entry->d_name[0] != '.') {
            memcpy(names[count++], entry->d_name, length + 1);
        }
    }
    (void)closedir(opened);
    return count;
}

static void flip_byte(const char *path, off_t place) {
    char byte;
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, place), 1);
    byte = (char)(byte ^ 16);
    ck_assert_int_eq(pwrite(fd, &byte, 1, place), 1);
    (void)close(fd);
}

enum { FLIP_ROWS = 6000, FLIP_RECORD = 256, PLACES = 23 };

static weir_err_t read_all(weir_cold_store_t *store, size_t *wrong, weir_error_t *error) {
    static weir_key_t keys[FLIP_ROWS];
    static bool found[FLIP_ROWS];
    static unsigned char records[FLIP_ROWS * FLIP_RECORD];
    for (size_t i = 0; i < FLIP_ROWS; i++) {
        keys[i] = i;
    }
    weir_err_t err = weir_cold_store_get(store, keys, FLIP_ROWS, found, records, error);
    *wrong = 0;
    for (size_t i = 0; err == WEIR_OK && i < FLIP_ROWS; i++) {
        bool good = found[i];
        for (size_t byte = 0; byte < FLIP_RECORD; byte++) {
            good = good && records[i * FLIP_RECORD + byte] == (unsigned char)(i * 31 + byte);
        }
        *wrong += !good;
    }
    return err;
}

START_TEST(a_flipped_byte_is_an_error_and_never_a_wrong_row) {
    char names[4][64], path[1200];
    weir_error_t error = {0};
    weir_cold_store_t *store = create_store(in("cold"), FLIP_RECORD, 1 << 20, 0);
    unsigned char record[FLIP_RECORD];
    for (weir_key_t key = 0; key < FLIP_ROWS; key++) {
        for (size_t byte = 0; byte < FLIP_RECORD; byte++) {
            record[byte] = (unsigned char)(key * 31 + byte);
        }
        ck_assert_int_eq(weir_cold_store_put(store, &key, record, 1, NULL), WEIR_OK);
    }
    double deadline = weir_clock_seconds() + 60.0; /* files are written in the background */
    while (weir_cold_store_bytes(store) == 0 && weir_clock_seconds() < deadline) {
        weir_clock_sleep(0.01);
    }
    ck_assert_uint_ge(list_files(in("cold"), ".sst", names, 4), 1);
    (void)snprintf(path, sizeof path, "%s/%s", in("cold"), names[0]);
    struct stat about;
    ck_assert_int_eq(stat(path, &about), 0);
    size_t wrong, errors = 0;
    ck_assert_int_eq(read_all(store, &wrong, &error), WEIR_OK);
    ck_assert_uint_eq(wrong, 0);
    for (int i = 0; i < PLACES; i++) {
        off_t place = about.st_size / PLACES * i + 700;
        flip_byte(path, place);
        weir_err_t err = read_all(store, &wrong, &error);
        ck_assert_uint_eq(wrong, 0); /* filters and indexes are in memory: then rows are right */
        ck_assert_msg(err == WEIR_OK || err == WEIR_ERR_CORRUPT, "%s", error.message);
        errors += err == WEIR_ERR_CORRUPT;
        ck_assert(i > 0 || err == WEIR_ERR_CORRUPT); /* there it is rows that lie */
        flip_byte(path, place);
    }
    ck_assert_uint_gt(errors, PLACES * 3 / 4);
    ck_assert_ptr_nonnull(strstr(error.message, in("cold")));
    ck_assert_ptr_nonnull(strstr(error.message, "checksum"));
    ck_assert_ptr_nonnull(strstr(error.hint, "checkpoint"));
    ck_assert_int_eq(read_all(store, &wrong, &error), WEIR_OK);
    /* An iterator finds it too, and a prefetch. */
    flip_byte(path, 700);
    weir_cold_iterator_t *iterator = weir_cold_store_iterate(store, 0, WEIR_SLOT_COUNT);
    weir_key_t key;
    const void *bytes;
    weir_err_t err;
    while (weir_cold_iterator_next(iterator, &key, &bytes, &err, &error)) {
    }
    ck_assert_int_eq(err, WEIR_ERR_CORRUPT);
    weir_cold_iterator_destroy(iterator);
    weir_cold_store_destroy(store);
}
END_TEST

/* ---- folders ---- */

START_TEST(a_folder_that_cannot_be_used_is_an_error_with_its_name) {
    weir_cold_store_t *store = NULL;
    weir_error_t error = {0};
    weir_cold_store_options_t options = {.folder = in("file/cold"), .record_bytes = 8};
    FILE *file = fopen(in("file"), "w");
    ck_assert_ptr_nonnull(file);
    (void)fclose(file);
    options.folder = in("file/cold");
    ck_assert_int_ne(weir_cold_store_create(&options, &store, &error), WEIR_OK);
    ck_assert_ptr_nonnull(strstr(error.message, in("file")));
    options.folder = "/proc/cold"; /* not even root may */
    ck_assert_int_ne(weir_cold_store_create(&options, &store, &error), WEIR_OK);
    ck_assert_ptr_nonnull(strstr(error.message, "/proc/cold"));
    options.folder = "/proc/self"; /* is there, and has files */
    ck_assert_int_eq(weir_cold_store_create(&options, &store, &error), WEIR_ERR_EXISTS);
    options.folder = "";
    ck_assert_int_eq(weir_cold_store_create(&options, &store, &error), WEIR_ERR_INVALID);
    options = (weir_cold_store_options_t){.folder = in("cold"), .record_bytes = 0};
    ck_assert_int_eq(weir_cold_store_create(&options, &store, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_null(store);
}
END_TEST

START_TEST(a_folder_with_other_files_is_refused_and_left_alone) {
    weir_cold_store_t *store = NULL;
    weir_error_t error = {0};
    weir_cold_store_options_t options = {.folder = in("mine"), .record_bytes = 8};
    ck_assert_int_eq(mkdir(in("mine"), 0777), 0);
    FILE *file = fopen(in("mine/000012.sst"), "w");
    ck_assert_ptr_nonnull(file);
    (void)fclose(file);
    options.folder = in("mine");
    ck_assert_int_eq(weir_cold_store_create(&options, &store, &error), WEIR_ERR_EXISTS);
    ck_assert_int_eq(access(in("mine/000012.sst"), F_OK), 0);
    char names[4][64];
    ck_assert_uint_eq(list_files(in("mine"), "", names, 4), 1);
    ck_assert_ptr_null(store);
}
END_TEST

START_TEST(a_store_in_use_is_refused) {
    weir_cold_store_t *store = create_store(in("cold"), 4096, 1 << 20, 0), *second = NULL;
    weir_error_t error = {0};
    ck_assert_int_eq(fill_store(store, 4 << 20, NULL), WEIR_OK);
    ck_assert_int_eq(make_store(in("cold"), 4096, 0, 0, &second, &error), WEIR_ERR_EXISTS);
    ck_assert_ptr_null(second);
    ck_assert_int_eq(fill_store(store, 4 << 20, NULL), WEIR_OK);
    ck_assert_uint_eq(weir_cold_store_rows(store), 1024);
    weir_cold_store_destroy(store);
}
END_TEST

/* ---- in a process of its own: this program, called again with a word and a folder ---- */

static int run_self(const char *word, const char *folder) {
    int status = 0;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        (void)execl("/proc/self/exe", "test_cold_files", word, folder, (char *)NULL);
        _exit(99);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Leaves a store as a crash would. */
static int crash_with_store(const char *folder) {
    weir_cold_store_t *store = NULL;
    if (make_store(folder, 4096, 1 << 20, 0, &store, NULL) != WEIR_OK ||
        fill_store(store, 8 << 20, NULL) != WEIR_OK) {
        return EXIT_FAILURE;
    }
    _exit(weir_cold_store_bytes(store) > 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

START_TEST(what_a_crash_left_is_emptied) {
    ck_assert_int_eq(run_self("crash", in("cold")), 0);
    char names[64][64];
    ck_assert_uint_gt(list_files(in("cold"), ".sst", names, 64), 0);
    weir_cold_store_t *store = create_store(in("cold"), 8, 0, 0);
    ck_assert_uint_eq(list_files(in("cold"), ".sst", names, 64), 0);
    ck_assert_uint_eq(weir_cold_store_rows(store), 0);
    weir_key_t key = 1;
    bool found = true;
    ck_assert_int_eq(weir_cold_store_get(store, &key, 1, &found, NULL, NULL), WEIR_OK);
    ck_assert(!found);
    weir_cold_store_destroy(store);
    ck_assert(access(in("cold"), F_OK) != 0);
}
END_TEST

/* More than a disk of 4 MiB holds, on one that only this process sees. */
static int fill_disk(const char *folder) {
    char path[1200];
    weir_error_t error = {0};
    if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", folder, "tmpfs", 0, "size=4m") != 0) {
        return SKIPPED;
    }
    (void)snprintf(path, sizeof path, "%s/cold", folder);
    weir_cold_store_t *store = NULL;
    if (make_store(path, 4096, 1 << 20, 0, &store, &error) != WEIR_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        return EXIT_FAILURE;
    }
    weir_err_t err = fill_store(store, 64 << 20, &error);
    bool good = err == WEIR_ERR_DISK_FULL && strstr(error.message, path) != NULL &&
                strstr(error.hint, "room") != NULL;
    if (!good) {
        (void)fprintf(stderr, "%s: %s (%s)\n", weir_err_name(err), error.message, error.hint);
    }
    weir_cold_store_destroy(store);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

START_TEST(a_full_disk_is_an_error) {
    ck_assert_int_eq(mkdir(in("disk"), 0777), 0);
    int status = run_self("full", in("disk"));
    if (status == SKIPPED) {
        (void)fprintf(stderr, "may not mount a small disk: not tested\n");
        return;
    }
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(direct_io_reads_the_same_rows_or_says_that_there_is_none) {
    weir_cold_store_t *store = NULL;
    weir_error_t error = {0};
    weir_cold_store_options_t options = {.folder = in("cold"),
                                         .record_bytes = 4096,
                                         .write_buffer_bytes = 1 << 20,
                                         .direct_io = true};
    weir_err_t err = weir_cold_store_create(&options, &store, &error);
    if (err != WEIR_OK) { /* tmpfs before Linux 6.6 */
        ck_assert_msg(err == WEIR_ERR_UNSUPPORTED, "%s", error.message);
        ck_assert_ptr_nonnull(strstr(error.hint, "direct"));
        return;
    }
    ck_assert_msg(fill_store(store, 8 << 20, &error) == WEIR_OK, "%s", error.message);
    ck_assert_uint_eq(weir_cold_store_rows(store), (8 << 20) / 4096);
    for (weir_key_t key = 0; key < 2048 + 64; key += 16) {
        bool found = false;
        ck_assert_int_eq(weir_cold_store_get(store, &key, 1, &found, NULL, &error), WEIR_OK);
        ck_assert_int_eq(found, key < 2048);
    }
    weir_cold_store_destroy(store);
}
END_TEST

static Suite *suite(void) {
    Suite *made = suite_create("cold_files");
    TCase *files = tcase_create("cold_files");
    tcase_add_checked_fixture(files, begin, end);
    tcase_set_timeout(files, 120);
    tcase_add_test(files, a_flipped_byte_is_an_error_and_never_a_wrong_row);
    tcase_add_test(files, a_folder_that_cannot_be_used_is_an_error_with_its_name);
    tcase_add_test(files, a_folder_with_other_files_is_refused_and_left_alone);
    tcase_add_test(files, a_store_in_use_is_refused);
    tcase_add_test(files, what_a_crash_left_is_emptied);
    tcase_add_test(files, a_full_disk_is_an_error);
    tcase_add_test(files, direct_io_reads_the_same_rows_or_says_that_there_is_none);
    suite_add_tcase(made, files);
    return made;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "crash") == 0) {
        return crash_with_store(argv[2]);
    }
    if (argc == 3 && strcmp(argv[1], "full") == 0) {
        return fill_disk(argv[2]);
    }
    return weir_suite_run(suite());
}
