#include "common/file.h"
#include "common/hash.h"
#include "tests/scratch.h"
#include "tests/suite.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static size_t count_entries(const char *path) {
    char command[1200], line[64] = "";
    (void)snprintf(command, sizeof command, "ls -A '%s' | wc -l", path);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    ck_assert_ptr_nonnull(fgets(line, sizeof line, pipe));
    (void)pclose(pipe);
    return strtoul(line, NULL, 10);
}

START_TEST(what_is_written_is_read_back_and_replaced_whole) {
    char *bytes = NULL;
    size_t size = 0;
    ck_assert_int_eq(weir_file_replace(in("a"), "hello\0there", 11, NULL), WEIR_OK);
    ck_assert_int_eq(weir_file_read(in("a"), 11, &bytes, &size, NULL), WEIR_OK);
    ck_assert_uint_eq(size, 11);
    ck_assert_mem_eq(bytes, "hello\0there", 12);
    free(bytes);
    ck_assert_int_eq(weir_file_replace(in("a"), "", 0, NULL), WEIR_OK);
    ck_assert_int_eq(weir_file_read(in("a"), 0, &bytes, &size, NULL), WEIR_OK);
    ck_assert_uint_eq(size, 0);
    ck_assert_int_eq(bytes[0], '\0');
    free(bytes);
    ck_assert_uint_eq(count_entries(scratch.path), 1); /* no temporary stays */
}
END_TEST

START_TEST(a_file_over_the_limit_is_refused) {
    char *bytes = NULL;
    size_t size = 0;
    weir_error_t error = {0};
    char *large = calloc(1, 300000);
    ck_assert_ptr_nonnull(large);
    ck_assert_int_eq(weir_file_replace(in("a"), large, 300000, NULL), WEIR_OK);
    free(large);
    ck_assert_int_eq(weir_file_read(in("a"), 299999, &bytes, &size, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_null(bytes);
    ck_assert_ptr_nonnull(strstr(error.message, "299999"));
    ck_assert_int_eq(weir_file_read(in("a"), 300000, &bytes, &size, &error), WEIR_OK);
    ck_assert_uint_eq(size, 300000);
    free(bytes);
}
END_TEST

START_TEST(a_missing_file_and_a_folder_are_named) {
    char *bytes = NULL;
    size_t size = 0;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_file_read(in("none"), 10, &bytes, &size, &error), WEIR_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, in("none")));
    ck_assert_int_eq(weir_file_read(scratch.path, 10, &bytes, &size, &error), WEIR_ERR_IO);
    ck_assert_int_eq(weir_file_replace(in("none/a"), "x", 1, &error), WEIR_ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_full_device_is_reported_as_full) {
    weir_error_t error = {0};
    FILE *full = fopen("/dev/full", "w");
    if (full == NULL) {
        return; /* containers without the device */
    }
    ck_assert_int_eq(weir_file_write_all(fileno(full), "x", 1, "/dev/full", &error),
                     WEIR_ERR_DISK_FULL);
    (void)fclose(full);
}
END_TEST

START_TEST(folders_are_made_with_their_parents_and_files_in_the_way_are_named) {
    weir_error_t error = {0};
    ck_assert_int_eq(weir_file_make_directories(in("x/y//z/"), &error), WEIR_OK);
    ck_assert(weir_file_exists(in("x/y/z")));
    ck_assert_int_eq(weir_file_make_directories(in("x/y"), &error), WEIR_OK);
    ck_assert_int_eq(weir_file_replace(in("file"), "", 0, NULL), WEIR_OK);
    ck_assert_int_eq(weir_file_make_directories(in("file"), &error), WEIR_ERR_EXISTS);
    ck_assert_int_eq(weir_file_make_directories(in("file/b"), &error), WEIR_ERR_EXISTS);
    ck_assert_int_eq(weir_file_make_directories("", &error), WEIR_ERR_INVALID);
}
END_TEST

START_TEST(a_link_is_replaced_by_rename) {
    char target[64] = "";
    ck_assert_int_eq(weir_file_replace_link(in("latest"), "one", NULL), WEIR_OK);
    ck_assert_int_eq(weir_file_replace_link(in("latest"), "two", NULL), WEIR_OK);
    ck_assert_int_eq(readlink(in("latest"), target, sizeof target - 1), 3);
    ck_assert_str_eq(target, "two");
    ck_assert_uint_eq(count_entries(scratch.path), 1);
}
END_TEST

START_TEST(removing_a_folder_follows_no_links_and_refuses_depth) {
    ck_assert_int_eq(weir_file_make_directories(in("d"), NULL), WEIR_OK);
    ck_assert_int_eq(weir_file_replace(in("kept"), "", 0, NULL), WEIR_OK);
    ck_assert_int_eq(weir_file_replace(in("d/a"), "", 0, NULL), WEIR_OK);
    ck_assert_int_eq(symlink("../kept", in("d/link")), 0);
    ck_assert_int_eq(weir_file_remove_directory(in("d"), NULL), WEIR_OK);
    ck_assert(!weir_file_exists(in("d")));
    ck_assert(weir_file_exists(in("kept")));
    ck_assert_int_eq(weir_file_remove_directory(in("d"), NULL), WEIR_OK); /* missing: no error */
    ck_assert_int_eq(weir_file_make_directories(in("d/deep"), NULL), WEIR_OK);
    ck_assert_int_ne(weir_file_remove_directory(in("d"), NULL), WEIR_OK);
    ck_assert(weir_file_exists(in("d/deep")));
    ck_assert_int_eq(symlink("d", in("link")), 0);
    ck_assert_int_ne(weir_file_remove_directory(in("link"), NULL), WEIR_OK);
}
END_TEST

START_TEST(the_checksum_of_a_file_is_that_of_its_bytes) {
    enum { SIZE = 2500001 };
    unsigned char *bytes = malloc(SIZE);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (unsigned char)(i * 31 + i / 251);
    }
    uint64_t checksum = 0, size = 0;
    ck_assert_int_eq(weir_file_replace(in("a"), bytes, SIZE, NULL), WEIR_OK);
    ck_assert_int_eq(weir_file_checksum(in("a"), &checksum, &size, NULL), WEIR_OK);
    ck_assert_uint_eq(size, SIZE);
    ck_assert(checksum == weir_checksum(bytes, SIZE, 0));
    free(bytes);
    ck_assert_int_eq(weir_file_checksum(in("none"), &checksum, &size, NULL), WEIR_ERR_NOT_FOUND);
}
END_TEST

START_TEST(paths_are_joined_or_refused) {
    char path[12];
    ck_assert_int_eq(weir_path_join(path, sizeof path, "folder", "name", NULL), WEIR_OK);
    ck_assert_str_eq(path, "folder/name");
    ck_assert_int_eq(weir_path_join(path, sizeof path, "folder/", "name", NULL), WEIR_OK);
    ck_assert_str_eq(path, "folder/name");
    ck_assert_int_eq(weir_path_join(path, sizeof path, "folder", "names", NULL), WEIR_ERR_INVALID);
    ck_assert_str_eq(path, "folder/name");
}
END_TEST

START_TEST(names_from_outside_are_made_printable) {
    char out[9];
    weir_file_printable("a\nb\x7f", out, sizeof out);
    ck_assert_str_eq(out, "a?b?");
    weir_file_printable("12345678", out, sizeof out);
    ck_assert_str_eq(out, "12345678");
    weir_file_printable("123456789", out, sizeof out);
    ck_assert_str_eq(out, "12345...");
}
END_TEST

START_TEST(a_place_for_a_file_is_judged_before_anything_is_written) {
    ck_assert_int_eq(weir_file_check_place(in("result"), NULL), WEIR_OK);
    ck_assert(!weir_file_exists(in("result")));
    ck_assert_int_eq(weir_file_check_place(in("absent/result"), NULL), WEIR_ERR_NOT_FOUND);
    ck_assert_int_eq(weir_file_check_place(in("."), NULL), WEIR_ERR_EXISTS);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("file");
    TCase *t = tcase_create("file");
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, what_is_written_is_read_back_and_replaced_whole);
    tcase_add_test(t, a_file_over_the_limit_is_refused);
    tcase_add_test(t, a_missing_file_and_a_folder_are_named);
    tcase_add_test(t, a_full_device_is_reported_as_full);
    tcase_add_test(t, folders_are_made_with_their_parents_and_files_in_the_way_are_named);
    tcase_add_test(t, a_link_is_replaced_by_rename);
    tcase_add_test(t, removing_a_folder_follows_no_links_and_refuses_depth);
    tcase_add_test(t, the_checksum_of_a_file_is_that_of_its_bytes);
    tcase_add_test(t, paths_are_joined_or_refused);
    tcase_add_test(t, names_from_outside_are_made_printable);
    tcase_add_test(t, a_place_for_a_file_is_judged_before_anything_is_written);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
