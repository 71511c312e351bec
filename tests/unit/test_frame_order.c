/* Frames of several senders, shuffled, repeated and lost on the way. */
#include "common/clock.h"
#include "common/comm.h"
#include "common/comm_faults.h"
#include "common/rng.h"
#include "tests/suite.h"

#include <string.h>

enum { RANKS = 3 };

static weir_frame_order_t *create(double patience) {
    weir_frame_order_t *order = NULL;
    ck_assert_int_eq(weir_frame_order_create(RANKS, patience, &order, NULL), WEIR_OK);
    return order;
}

/* Frame `step` of `source`: its number is the step's last 16 bits. */
static weir_frame_t frame_of(uint32_t source, uint64_t step) {
    weir_frame_t frame = {.header = {.type = WEIR_FRAME_PUSH_REQ,
                                     .source = source,
                                     .number = (uint16_t)step,
                                     .step = step,
                                     .payload_size = 8},
                          .payload = weir_buffer_acquire(8)};
    ck_assert_ptr_nonnull(frame.payload);
    memcpy(frame.payload, &step, 8);
    return frame;
}

static void take(weir_frame_order_t *order, uint32_t source, uint64_t step) {
    weir_error_t error = {0};
    ck_assert_msg(weir_frame_order_take(order, frame_of(source, step), 1.0, &error) == WEIR_OK,
                  "%s", error.message);
}

static void expect(weir_frame_order_t *order, uint32_t source, uint64_t step) {
    weir_frame_t frame;
    uint64_t said;
    ck_assert(weir_frame_order_next(order, &frame));
    ck_assert_uint_eq(frame.header.source, source);
    ck_assert_uint_eq(frame.header.step, step);
    memcpy(&said, frame.payload, 8);
    ck_assert_uint_eq(said, step);
    weir_buffer_release(frame.payload);
}

static void expect_none(weir_frame_order_t *order) {
    weir_frame_t frame;
    ck_assert(!weir_frame_order_next(order, &frame));
}

START_TEST(frames_that_overtake_others_wait) {
    weir_frame_order_t *order = create(5.0);
    take(order, 1, 2);
    take(order, 1, 1);
    expect_none(order);
    take(order, 2, 0); /* another sender does not wait for this one */
    expect(order, 2, 0);
    take(order, 1, 0);
    expect(order, 1, 0);
    expect(order, 1, 1);
    expect(order, 1, 2);
    expect_none(order);
    ck_assert_uint_eq(weir_frame_order_counters(order).waited, 2);
    weir_frame_order_destroy(order);
}
END_TEST

START_TEST(a_frame_that_comes_again_is_dropped) {
    weir_frame_order_t *order = create(5.0);
    take(order, 1, 0);
    take(order, 1, 0); /* before it was handed on */
    expect(order, 1, 0);
    take(order, 1, 0); /* after */
    take(order, 1, 2);
    take(order, 1, 2);
    expect_none(order);
    take(order, 1, 1);
    expect(order, 1, 1);
    expect(order, 1, 2);
    expect_none(order);
    ck_assert_uint_eq(weir_frame_order_counters(order).copies, 3);
    weir_frame_order_destroy(order);
}
END_TEST

START_TEST(a_frame_that_is_lost_is_an_error_in_time) {
    weir_frame_order_t *order = create(5.0);
    weir_error_t error = {0};
    ck_assert_int_eq(weir_frame_order_check(order, 100.0, &error), WEIR_OK);
    take(order, 1, 0);
    take(order, 1, 3); /* both at 1.0 */
    expect(order, 1, 0);
    ck_assert_int_eq(weir_frame_order_check(order, 5.9, &error), WEIR_OK);
    ck_assert_int_eq(weir_frame_order_check(order, 6.1, &error), WEIR_ERR_PEER);
    ck_assert_ptr_nonnull(strstr(error.message, "rank 1: 2 frames before a push_req of step 3"));
    weir_frame_order_destroy(order);
}
END_TEST

START_TEST(no_more_frames_wait_than_may) {
    weir_frame_order_t *order = create(5.0);
    weir_error_t error = {0};
    for (uint64_t step = 1; step <= WEIR_FRAME_ORDER_WAITING; step++) {
        take(order, 1, step);
    }
    ck_assert_int_eq(
        weir_frame_order_take(order, frame_of(1, WEIR_FRAME_ORDER_WAITING + 1), 1.0, &error),
        WEIR_ERR_PEER);
    ck_assert_int_eq(weir_frame_order_take(order, frame_of(RANKS, 0), 1.0, &error), WEIR_ERR_PEER);
    weir_frame_order_destroy(order);
}
END_TEST

START_TEST(numbers_go_round) {
    weir_frame_order_t *order = create(5.0);
    for (uint64_t step = 0; step < 3 * 65536; step += 2) {
        weir_frame_t frame = frame_of(0, step);
        if (step % 6 == 0) {
            ck_assert(weir_frame_order_pass(order, &frame));
            weir_buffer_release(frame.payload);
            take(order, 0, step + 1);
        } else {
            weir_buffer_release(frame.payload);
            take(order, 0, step + 1);
            take(order, 0, step);
            expect(order, 0, step);
        }
        expect(order, 0, step + 1);
    }
    ck_assert_uint_eq(weir_frame_order_number(order, 2), 0);
    for (int i = 0; i < 65536; i++) {
        (void)weir_frame_order_number(order, 2);
    }
    ck_assert_uint_eq(weir_frame_order_number(order, 2), 1);
    weir_frame_order_destroy(order);
}
END_TEST

/* ---- a transport with faults ---- */

static weir_frame_t sent_frame(uint64_t step) {
    return frame_of(0, step); /* source and number are set by send */
}

typedef struct {
    uint64_t sent, got;
    weir_err_t err;
    weir_error_t error;
} played_t;

/* Rank 0 sends `count` frames to rank 1 through faults; rank 1 must get 0, 1, 2, ... */
static played_t play(const char *text, uint64_t count, double patience) {
    weir_comm_t *comms[2], *faulty = NULL;
    weir_comm_faults_t faults;
    played_t played = {.err = WEIR_OK};
    ck_assert_int_eq(weir_comm_faults_parse(text, &faults, NULL), WEIR_OK);
    ck_assert_int_eq(weir_comm_loop_create(2, comms, NULL), WEIR_OK);
    comms[1]->patience = patience;
    ck_assert_int_eq(weir_comm_faults_create(comms[0], &faults, &faulty, NULL), WEIR_OK);
    double deadline = weir_clock_seconds() + 60.0;
    while (played.err == WEIR_OK && played.got < count && weir_clock_seconds() < deadline) {
        weir_frame_t frame;
        bool received, progressed;
        if (played.sent < count) {
            ck_assert_int_eq(weir_comm_send(faulty, 1, sent_frame(played.sent++), NULL), WEIR_OK);
        }
        ck_assert_int_eq(weir_comm_poll(faulty, NULL, &received, &progressed, NULL), WEIR_OK);
        played.err = weir_comm_poll(comms[1], &frame, &received, &progressed, &played.error);
        if (received) {
            ck_assert_uint_eq(frame.header.step, played.got++);
            weir_buffer_release(frame.payload);
        }
    }
    weir_comm_destroy(faulty);
    weir_comm_destroy(comms[0]);
    weir_comm_destroy(comms[1]);
    weir_buffer_trim();
    return played;
}

START_TEST(repeated_and_delayed_frames_come_once_and_in_order) {
    static const char *const faults[] = {
        "seed=1", "seed=2,duplicate=0.5,seconds=0.001", "seed=3,delay=0.5,seconds=0.001",
        "seed=4,duplicate=0.3,delay=0.9,seconds=0.002", "duplicate=1,delay=1,seconds=0.001"};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        played_t played = play(faults[i], 2000, 20.0);
        ck_assert_msg(played.err == WEIR_OK, "%s: %s", faults[i], played.error.message);
        ck_assert_uint_eq(played.got, 2000);
    }
}
END_TEST

START_TEST(a_dropped_frame_ends_it_and_none_behind_it_is_handed_on) {
    played_t played = play("seed=5,drop=0.01,first=10", 2000, 0.05);
    ck_assert_int_eq(played.err, WEIR_ERR_PEER);
    ck_assert_ptr_nonnull(strstr(played.error.message, "did not come"));
    ck_assert_uint_ge(played.got, 10);
    ck_assert_uint_lt(played.got, 2000);
}
END_TEST

START_TEST(faults_that_are_none_are_refused) {
    static const char *const wrong[] = {"drop", "drop=", "drop=x", "lost=1", "drop=-1", "drop=1;"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        weir_comm_faults_t faults;
        ck_assert_msg(weir_comm_faults_parse(wrong[i], &faults, NULL) == WEIR_ERR_INVALID, "%s",
                      wrong[i]);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("frame_order");
    TCase *t = tcase_create("frame_order");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, frames_that_overtake_others_wait);
    tcase_add_test(t, a_frame_that_comes_again_is_dropped);
    tcase_add_test(t, a_frame_that_is_lost_is_an_error_in_time);
    tcase_add_test(t, no_more_frames_wait_than_may);
    tcase_add_test(t, numbers_go_round);
    tcase_add_test(t, repeated_and_delayed_frames_come_once_and_in_order);
    tcase_add_test(t, a_dropped_frame_ends_it_and_none_behind_it_is_handed_on);
    tcase_add_test(t, faults_that_are_none_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
