#include "tests/suite.h"
#include "tools/placement.h"

#include <stdio.h>

/* All parts as one text: "a:2,b:1". */
static const char *spread(const char *hosts, long ranks) {
    static char text[256];
    char host[64];
    size_t used = 0;
    long share = 1;
    text[0] = '\0';
    for (long i = 0; share > 0; i++) {
        weir_error_t error = {0};
        ck_assert_int_eq(weir_placement_part(hosts, ranks, i, host, sizeof host, &share, &error),
                         WEIR_OK);
        if (share > 0) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s:%ld", i > 0 ? "," : "",
                                     host, share);
        }
    }
    return text;
}

START_TEST(ranks_are_spread_over_hosts_in_blocks) {
    ck_assert_str_eq(spread("a", 1), "a:1");
    ck_assert_str_eq(spread("a", 5), "a:5");
    ck_assert_str_eq(spread("a,b,c", 6), "a:2,b:2,c:2");
    ck_assert_str_eq(spread("a,b,c", 5), "a:2,b:2,c:1");
    ck_assert_str_eq(spread("n-1.site,n_2", 3), "n-1.site:2,n_2:1");
    ck_assert_str_eq(spread("10.1.0.1,10.1.0.2", 2), "10.1.0.1:1,10.1.0.2:1");
    ck_assert_str_eq(spread("ab,a,b", 3), "ab:1,a:1,b:1");
}
END_TEST

START_TEST(hosts_beyond_the_number_of_ranks_stay_without) {
    ck_assert_str_eq(spread("a,b,c", 1), "a:1");
    ck_assert_str_eq(spread("a,b,c", 2), "a:1,b:1");
}
END_TEST

START_TEST(what_is_no_list_of_hosts_is_refused) {
    static const char *const bad[] = {"",     ",",   "a,",    ",a", "a,,b",     "a b",
                                      "a, b", "a:2", "a,-np", "-x", "a;reboot", "a,b,a"};
    weir_error_t error = {0};
    char host[4];
    long share = 7;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(weir_placement_part(bad[i], 2, 0, host, sizeof host, &share, &error) ==
                          WEIR_ERR_INVALID,
                      "\"%s\" was taken", bad[i]);
    }
    ck_assert_int_eq(weir_placement_part("abcd", 1, 0, host, sizeof host, &share, &error),
                     WEIR_ERR_INVALID);
    ck_assert_int_eq(share, 7);
    ck_assert_int_eq(weir_placement_part("abc", 1, 0, host, sizeof host, &share, &error), WEIR_OK);
    ck_assert_int_eq(share, 1);
}
END_TEST

START_TEST(a_range_of_ports_has_two_ends_and_room) {
    static const char *const bad[] = {
        "",          "30000",       "30000-",       "-30000",       "30000-29000",  "30000-30014",
        "1023-2000", "65000-65536", "30000-31000-", "30000--31000", "30000 -31000", "a-b"};
    weir_error_t error = {0};
    long first = 7, last = 8;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(weir_placement_ports(bad[i], &first, &last, &error) == WEIR_ERR_INVALID,
                      "\"%s\" was taken", bad[i]);
    }
    ck_assert(first == 7 && last == 8);
    ck_assert_int_eq(weir_placement_ports("30000-30015", &first, &last, &error), WEIR_OK);
    ck_assert(first == 30000 && last == 30015);
    ck_assert_int_eq(weir_placement_ports("1024-65535", &first, &last, &error), WEIR_OK);
    ck_assert(first == 1024 && last == 65535);
}
END_TEST

START_TEST(interfaces_are_names_or_networks) {
    static const char *const good[] = {"eth0", "eth0,ib0", "10.1.0.0/16", "fd00::/8", "bond0.7"};
    static const char *const bad[] = {"", ",", "eth0,", ",eth0", "a,,b", "--np", "eth 0", "^lo"};
    weir_error_t error = {0};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_int_eq(weir_placement_check_interface(good[i], &error), WEIR_OK);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(weir_placement_check_interface(bad[i], &error), WEIR_ERR_INVALID);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("placement");
    TCase *tests = tcase_create("placement");
    tcase_add_test(tests, ranks_are_spread_over_hosts_in_blocks);
    tcase_add_test(tests, hosts_beyond_the_number_of_ranks_stay_without);
    tcase_add_test(tests, what_is_no_list_of_hosts_is_refused);
    tcase_add_test(tests, a_range_of_ports_has_two_ends_and_room);
    tcase_add_test(tests, interfaces_are_names_or_networks);
    suite_add_tcase(s, tests);
    return s;
}

WEIR_TEST_MAIN(suite())
