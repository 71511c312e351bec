#include "common/error.h"
#include "tests/suite.h"

#include <errno.h>
#include <string.h>

START_TEST(an_error_carries_its_code_and_sentence) {
    weir_error_t error = {0};
    ck_assert_int_eq(weir_errorf(&error, WEIR_ERR_CORRUPT, "bad %d", 7), WEIR_ERR_CORRUPT);
    ck_assert_int_eq(error.code, WEIR_ERR_CORRUPT);
    ck_assert_str_eq(error.message, "bad 7");
    ck_assert_str_eq(error.hint, "");
}
END_TEST

START_TEST(a_prefix_stands_before_the_sentence_and_the_hint_stays) {
    weir_error_t error = {0};
    (void)weir_errorf(&error, WEIR_ERR_IO, "short read");
    weir_error_hint(&error, "look at %s", "x");
    weir_error_prefix(&error, "file %s", "a");
    ck_assert_str_eq(error.message, "file a: short read");
    ck_assert_str_eq(error.hint, "look at x");
}
END_TEST

START_TEST(a_full_disk_has_its_own_code_and_exit_status) {
    weir_error_t error = {0};
    ck_assert_int_eq(weir_error_from_errno(&error, ENOSPC, "write f"), WEIR_ERR_DISK_FULL);
    ck_assert(strstr(error.message, "write f: ") == error.message);
    ck_assert_str_ne(error.hint, "");
    ck_assert_int_eq(weir_exit_status(WEIR_ERR_DISK_FULL), 11);
    ck_assert_str_eq(weir_err_name(WEIR_ERR_DISK_FULL), "disk_full");
    ck_assert_int_eq(weir_err_of_name("disk_full"), WEIR_ERR_DISK_FULL);
    ck_assert_int_eq(weir_err_of_name("ok"), WEIR_ERR_IO);
    ck_assert_int_eq(weir_err_of_name(""), WEIR_ERR_IO);
    ck_assert_int_eq(weir_err_of_name("disk_full2"), WEIR_ERR_IO);
}
END_TEST

START_TEST(a_sentence_too_long_is_cut_and_terminated) {
    weir_error_t error = {0};
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)weir_errorf(&error, WEIR_ERR_IO, "%s", text);
    weir_error_prefix(&error, "%s", text);
    ck_assert_uint_eq(strlen(error.message), sizeof error.message - 1);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("error");
    TCase *t = tcase_create("error");
    tcase_add_test(t, an_error_carries_its_code_and_sentence);
    tcase_add_test(t, a_prefix_stands_before_the_sentence_and_the_hint_stays);
    tcase_add_test(t, a_full_disk_has_its_own_code_and_exit_status);
    tcase_add_test(t, a_sentence_too_long_is_cut_and_terminated);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
