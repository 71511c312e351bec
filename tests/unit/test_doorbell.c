#include "common/doorbell.h"

#include "common/hash.h"
#include "tests/suite.h"

#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static uint64_t job;

static weir_doorbell_t *hang_up(uint32_t rank) {
    weir_doorbell_t *bell = NULL;
    weir_error_t error = {0};
    ck_assert_msg(weir_doorbell_create(job, rank, 3, &bell, &error) == WEIR_OK, "%s",
                  error.message);
    return bell;
}

static bool rings(const weir_doorbell_t *bell) {
    struct pollfd fd = {.fd = weir_doorbell_fd(bell), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void set_up(void) {
    job = ((uint64_t)getpid() << 32) + 7; /* tests run side by side */
}

START_TEST(ranks_hear_of_each_other_whoever_comes_first) {
    weir_doorbell_t *first = hang_up(0), *second = hang_up(1);
    ck_assert(rings(first)); /* greeted */
    ck_assert(!rings(second));
    weir_doorbell_listen(first); /* and greets in return */
    ck_assert_uint_eq(weir_doorbell_heard(first), 1);
    ck_assert(rings(second));
    weir_doorbell_listen(second);
    ck_assert_uint_eq(weir_doorbell_heard(second), 1);
    ck_assert(!rings(first) && !rings(second)); /* no end of greetings otherwise */
    weir_doorbell_t *third = hang_up(2);
    weir_doorbell_listen(first);
    weir_doorbell_listen(second);
    weir_doorbell_listen(third);
    ck_assert_uint_eq(weir_doorbell_heard(first), 2);
    ck_assert_uint_eq(weir_doorbell_heard(second), 2);
    ck_assert_uint_eq(weir_doorbell_heard(third), 2);
    weir_doorbell_destroy(first);
    weir_doorbell_destroy(second);
    weir_doorbell_destroy(third);
}
END_TEST

START_TEST(a_ring_is_heard_until_it_is_taken) {
    weir_doorbell_t *one = hang_up(0), *other = hang_up(1);
    weir_doorbell_listen(one);
    weir_doorbell_listen(other);
    for (int i = 0; i < 5000; i++) { /* more than the socket holds: ringing never waits */
        weir_doorbell_ring(one, 1);
    }
    ck_assert(rings(other));
    weir_doorbell_listen(other);
    ck_assert(!rings(other));
    weir_doorbell_ring(one, 1);
    ck_assert(rings(other));
    ck_assert_uint_eq(weir_doorbell_heard(other), 1);
    weir_doorbell_destroy(one);
    weir_doorbell_destroy(other);
}
END_TEST

START_TEST(who_is_not_there_or_has_gone_does_no_harm) {
    weir_doorbell_t *one = hang_up(0), *other = hang_up(1);
    weir_doorbell_listen(one);
    weir_doorbell_ring(one, 2);
    weir_doorbell_destroy(other);
    weir_doorbell_ring(one, 1);
    other = hang_up(1); /* greets again */
    weir_doorbell_listen(one);
    ck_assert_uint_eq(weir_doorbell_heard(one), 1);
    weir_doorbell_ring(one, 1);
    ck_assert(rings(other));
    weir_doorbell_destroy(one);
    weir_doorbell_destroy(other);
    weir_doorbell_destroy(NULL);
}
END_TEST

START_TEST(a_bell_of_the_same_name_is_refused_and_one_of_another_job_is_another) {
    weir_doorbell_t *one = hang_up(0), *again = NULL;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_doorbell_create(job, 0, 3, &again, &error), WEIR_ERR_IO);
    ck_assert_ptr_null(again);
    job++;
    weir_doorbell_t *stranger = hang_up(1);
    ck_assert(!rings(one));
    weir_doorbell_destroy(one);
    weir_doorbell_destroy(stranger);
}
END_TEST

START_TEST(what_is_no_ring_counts_for_nothing) {
    weir_doorbell_t *one = hang_up(0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static const uint32_t wrong[] = {0, 3, UINT32_MAX};
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "weir-%08x-0",
                          (unsigned)(weir_hash64(job) & UINT32_MAX));
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(
            sendto(fd, &wrong[i], sizeof wrong[i], 0, (struct sockaddr *)&address, size), 4);
    }
    weir_doorbell_listen(one);
    ck_assert_uint_eq(weir_doorbell_heard(one), 0);
    ck_assert_int_eq(sendto(fd, "x", 1, 0, (struct sockaddr *)&address, size), 1);
    uint32_t right = 1;
    ck_assert_int_eq(sendto(fd, &right, sizeof right, 0, (struct sockaddr *)&address, size), 4);
    weir_doorbell_listen(one);
    ck_assert_uint_eq(weir_doorbell_heard(one), 1);
    ck_assert(!rings(one));
    (void)close(fd);
    weir_doorbell_destroy(one);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("doorbell");
    TCase *t = tcase_create("doorbell");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, ranks_hear_of_each_other_whoever_comes_first);
    tcase_add_test(t, a_ring_is_heard_until_it_is_taken);
    tcase_add_test(t, who_is_not_there_or_has_gone_does_no_harm);
    tcase_add_test(t, a_bell_of_the_same_name_is_refused_and_one_of_another_job_is_another);
    tcase_add_test(t, what_is_no_ring_counts_for_nothing);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
