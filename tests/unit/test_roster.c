#include "proto/roster.h"
#include "tests/suite.h"

#include <string.h>

enum { PS = 2, WORKERS = 3, RANKS = 1 + PS + WORKERS };

static weir_card_t cards[RANKS + 1];

static void set_up(void) {
    for (weir_rank_t rank = 0; rank <= RANKS; rank++) {
        const char *role = rank == 0 ? "coordinator" : rank <= PS ? "ps" : "worker";
        cards[rank] = (weir_card_t){.config_digest = 5};
        memcpy(cards[rank].magic, weir_roster_magic, sizeof cards[rank].magic);
        (void)snprintf(cards[rank].version, sizeof cards[rank].version, "1.2.3");
        (void)snprintf(cards[rank].role, sizeof cards[rank].role, "%s", role);
        (void)snprintf(cards[rank].host, sizeof cards[rank].host, "node%u", rank);
    }
}

static weir_err_t check(weir_rank_t *speaker, weir_error_t *error) {
    *speaker = 99;
    return weir_roster_check(cards, RANKS, PS, WORKERS, speaker, error);
}

START_TEST(a_roster_in_order_is_good) {
    weir_rank_t speaker;
    ck_assert_int_eq(check(&speaker, NULL), WEIR_OK);
    ck_assert_uint_eq(speaker, 99);
}
END_TEST

START_TEST(another_version_is_named_with_both_versions_and_hosts) {
    weir_rank_t speaker;
    weir_error_t error = {0};
    (void)snprintf(cards[4].version, sizeof cards[4].version, "1.3.0");
    cards[5].status = WEIR_ERR_IO; /* told after */
    ck_assert_int_eq(check(&speaker, &error), WEIR_ERR_VERSION);
    ck_assert_uint_eq(speaker, 0);
    ck_assert_str_eq(error.message, "rank 4 on node4 is weir-worker 1.3.0, but rank 0 on node0 is "
                                    "weir-coordinator 1.2.3");
    ck_assert_str_ne(error.hint, "");
}
END_TEST

START_TEST(another_kind_of_process_is_refused_before_anything_of_it_is_read) {
    weir_rank_t speaker;
    weir_error_t error = {0};
    memset(&cards[2], 0xFF, sizeof cards[2]);
    ck_assert_int_eq(check(&speaker, &error), WEIR_ERR_VERSION);
    ck_assert_ptr_nonnull(strstr(error.message, "rank 2"));
}
END_TEST

START_TEST(strings_without_an_end_are_ended) {
    weir_rank_t speaker;
    weir_error_t error = {0};
    memset(cards[3].role, 'x', sizeof cards[3].role);
    memset(cards[3].host, 'h', sizeof cards[3].host);
    ck_assert_int_eq(check(&speaker, &error), WEIR_ERR_INVALID);
    ck_assert_uint_eq(strlen(cards[3].role), sizeof cards[3].role - 1);
    ck_assert_uint_eq(strlen(cards[3].host), sizeof cards[3].host - 1);
}
END_TEST

START_TEST(a_rank_whose_start_failed_speaks_for_all) {
    weir_rank_t speaker;
    weir_error_t error = {0};
    cards[3].status = WEIR_ERR_NOT_FOUND;
    (void)snprintf(cards[3].message, sizeof cards[3].message, "no such file");
    cards[4].status = WEIR_ERR_IO;
    ck_assert_int_eq(check(&speaker, &error), WEIR_ERR_NOT_FOUND);
    ck_assert_uint_eq(speaker, 3);
    ck_assert_str_eq(error.message, "no such file");
}
END_TEST

START_TEST(other_counts_than_the_configuration_says_are_told) {
    weir_rank_t speaker = 99;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_roster_check(cards, RANKS, PS + 1, WORKERS, &speaker, &error),
                     WEIR_ERR_INVALID);
    ck_assert_uint_eq(speaker, 0);
    ck_assert_ptr_nonnull(strstr(error.message, "6 ranks"));
    ck_assert_ptr_nonnull(strstr(error.message, "make 7"));
    /* counts whose sum does not fit are not the small number they wrap to */
    ck_assert_int_eq(weir_roster_check(cards, RANKS, UINT32_MAX, RANKS, &speaker, &error),
                     WEIR_ERR_INVALID);
}
END_TEST

START_TEST(roles_out_of_order_are_told) {
    weir_rank_t speaker;
    weir_error_t error = {0};
    (void)snprintf(cards[0].role, sizeof cards[0].role, "worker");
    (void)snprintf(cards[5].role, sizeof cards[5].role, "coordinator");
    ck_assert_int_eq(check(&speaker, &error), WEIR_ERR_INVALID);
    ck_assert_str_eq(error.message, "rank 0 on node0 is a worker, but should be a coordinator");
}
END_TEST

START_TEST(a_rank_with_another_configuration_is_named) {
    weir_rank_t speaker;
    weir_error_t error = {0};
    cards[5].config_digest = 6;
    ck_assert_int_eq(check(&speaker, &error), WEIR_ERR_INVALID);
    ck_assert_uint_eq(speaker, 0);
    ck_assert_ptr_nonnull(strstr(error.message, "rank 5 (worker on node5)"));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("roster");
    TCase *t = tcase_create("roster");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, a_roster_in_order_is_good);
    tcase_add_test(t, another_version_is_named_with_both_versions_and_hosts);
    tcase_add_test(t, another_kind_of_process_is_refused_before_anything_of_it_is_read);
    tcase_add_test(t, strings_without_an_end_are_ended);
    tcase_add_test(t, a_rank_whose_start_failed_speaks_for_all);
    tcase_add_test(t, other_counts_than_the_configuration_says_are_told);
    tcase_add_test(t, roles_out_of_order_are_told);
    tcase_add_test(t, a_rank_with_another_configuration_is_named);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
