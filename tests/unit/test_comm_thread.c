/* The transport inside one process and the comm thread on top of it; over MPI: tests/mpi. */
#include "common/clock.h"
#include "common/comm_thread.h"
#include "common/doorbell.h"
#include "common/ring.h"
#include "tests/suite.h"

#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PULL = 1 << WEIR_FRAME_PULL_REQ, PUSH = 1 << WEIR_FRAME_PUSH_REQ, MANY = 10000 };

static weir_frame_t make_frame(weir_frame_type_t type, uint64_t step, size_t size) {
    weir_frame_t frame = {.header = {.type = (uint16_t)type, .step = step, .payload_size = size},
                          .payload = weir_buffer_acquire(size)};
    ck_assert_ptr_nonnull(frame.payload);
    memset(frame.payload, (int)(step & 0xff), size);
    return frame;
}

static bool is_whole(const weir_frame_t *frame, size_t size) {
    const uint8_t *bytes = frame->payload;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != (frame->header.step & 0xff)) {
            return false;
        }
    }
    return frame->header.payload_size == size && (size > 0) == (bytes != NULL);
}

static double cpu_seconds(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

typedef struct {
    weir_comm_t *comms[2];
    weir_comm_thread_t *threads[2];
} pair_t;

static void start_pair_with(pair_t *pair, uint32_t callers) {
    ck_assert_int_eq(weir_comm_loop_create(2, pair->comms, NULL), WEIR_OK);
    for (int i = 0; i < 2; i++) {
        weir_comm_thread_options_t options = {
            .comm = pair->comms[i], .control_fd = -1, .callers = callers};
        pair->comms[i]->job = (uint64_t)getpid(); /* tests run side by side */
        ck_assert_int_eq(weir_comm_thread_start(&options, &pair->threads[i], NULL), WEIR_OK);
    }
}

static void start_pair(pair_t *pair) {
    start_pair_with(pair, 0);
}

static void stop_pair(pair_t *pair) {
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(weir_comm_thread_stop(pair->threads[i], 5.0, NULL), WEIR_OK);
        weir_comm_destroy(pair->comms[i]);
    }
    weir_buffer_trim();
}

START_TEST(the_transport_keeps_order_and_contents) {
    static const size_t sizes[] = {0, 1, 4096, WEIR_FRAME_PIECE + 1};
    weir_comm_t *comms[3];
    ck_assert_int_eq(weir_comm_loop_create(3, comms, NULL), WEIR_OK);
    for (uint64_t step = 0; step < 4; step++) {
        weir_frame_t frame = make_frame(WEIR_FRAME_PULL_REQ, step, sizes[step]);
        ck_assert_int_eq(weir_comm_send(comms[2], 1, frame, NULL), WEIR_OK);
    }
    for (uint64_t step = 0; step < 4; step++) {
        weir_frame_t frame;
        bool received, progressed;
        ck_assert_int_eq(weir_comm_poll(comms[1], NULL, &received, &progressed, NULL), WEIR_OK);
        ck_assert(!received);
        ck_assert_int_eq(weir_comm_poll(comms[1], &frame, &received, &progressed, NULL), WEIR_OK);
        ck_assert(received && progressed);
        ck_assert_uint_eq(frame.header.step, step);
        ck_assert_uint_eq(frame.header.source, 2);
        ck_assert(is_whole(&frame, sizes[step]));
        weir_buffer_release(frame.payload);
    }
    for (int i = 0; i < 3; i++) {
        weir_comm_destroy(comms[i]);
    }
    weir_buffer_trim();
}
END_TEST

START_TEST(a_frame_that_cannot_be_sent_is_refused) {
    weir_comm_t *comms[2];
    weir_error_t error = {0};
    ck_assert_int_eq(weir_comm_loop_create(2, comms, NULL), WEIR_OK);
    ck_assert_int_eq(weir_comm_send(comms[0], 2, make_frame(WEIR_FRAME_PULL_REQ, 1, 8), &error),
                     WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_comm_send(comms[0], 0, make_frame(WEIR_FRAME_PULL_REQ, 1, 8), &error),
                     WEIR_ERR_INVALID);
    weir_frame_t hollow = {.header = {.type = WEIR_FRAME_PULL_REQ, .payload_size = 8}};
    ck_assert_int_eq(weir_comm_send(comms[0], 1, hollow, &error), WEIR_ERR_INVALID);
    ck_assert(strstr(error.message, "rank 0 to rank 1") != NULL);
    weir_comm_destroy(comms[0]);
    weir_comm_destroy(comms[1]);
    weir_buffer_trim();
}
END_TEST

START_TEST(a_frame_of_another_job_is_refused) {
    weir_comm_t *comms[2];
    weir_frame_t frame;
    weir_error_t error = {0};
    bool received, progressed;
    ck_assert_int_eq(weir_comm_loop_create(2, comms, NULL), WEIR_OK);
    comms[0]->job = 77;
    ck_assert_int_eq(weir_comm_send(comms[0], 1, make_frame(WEIR_FRAME_PULL_REQ, 1, 8), NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_comm_poll(comms[1], &frame, &received, &progressed, &error),
                     WEIR_ERR_PEER);
    ck_assert(!received);
    ck_assert(strstr(error.message, "job 4d") != NULL);
    weir_comm_destroy(comms[0]);
    weir_comm_destroy(comms[1]);
    weir_buffer_trim();
}
END_TEST

static void *fill_ring(void *argument) {
    for (size_t i = 0; i < MANY; i++) {
        while (!weir_ring_push(argument, &i)) {
            (void)sched_yield();
        }
    }
    return NULL;
}

START_TEST(a_ring_hands_everything_over_in_order) {
    weir_ring_t ring;
    pthread_t producer;
    size_t element = 0;
    ck_assert(weir_ring_init(&ring, 8, sizeof element));
    ck_assert(weir_ring_empty(&ring));
    ck_assert(!weir_ring_pop(&ring, &element));
    ck_assert_int_eq(pthread_create(&producer, NULL, fill_ring, &ring), 0);
    for (size_t i = 0; i < MANY; i++) {
        while (!weir_ring_pop(&ring, &element)) {
            (void)sched_yield();
        }
        ck_assert_uint_eq(element, i);
    }
    (void)pthread_join(producer, NULL);
    for (size_t i = 0; i < 8; i++) {
        ck_assert(weir_ring_push(&ring, &i));
    }
    ck_assert(!weir_ring_push(&ring, &element));
    weir_ring_fini(&ring);
}
END_TEST

/* Rank 1 answers each pull with a push of the same step. */
static void *answer(void *argument) {
    weir_comm_thread_t *thread = argument;
    for (int i = 0; i < MANY; i++) {
        weir_frame_t frame;
        bool received = false;
        if (weir_comm_thread_take(thread, PULL, 60.0, &frame, &received, NULL) != WEIR_OK ||
            !received) {
            return NULL;
        }
        frame.header.type = WEIR_FRAME_PUSH_REQ;
        if (weir_comm_thread_post(thread, 0, frame, NULL) != WEIR_OK) {
            return NULL;
        }
    }
    return thread;
}

START_TEST(frames_go_round_through_two_comm_threads) {
    pair_t pair;
    pthread_t other;
    void *finished = NULL;
    start_pair_with(&pair, (uint32_t)_i); /* without bells, with them */
    ck_assert_int_eq(pthread_create(&other, NULL, answer, pair.threads[1]), 0);
    for (uint64_t step = 0; step < MANY; step++) {
        ck_assert_int_eq(weir_comm_thread_post(pair.threads[0], 1,
                                               make_frame(WEIR_FRAME_PULL_REQ, step, step % 300),
                                               NULL),
                         WEIR_OK);
    }
    for (uint64_t step = 0; step < MANY; step++) {
        weir_frame_t frame;
        bool received = false;
        ck_assert_int_eq(
            weir_comm_thread_take(pair.threads[0], PUSH, 60.0, &frame, &received, NULL), WEIR_OK);
        ck_assert(received);
        ck_assert_uint_eq(frame.header.step, step);
        ck_assert(is_whole(&frame, step % 300));
        weir_buffer_release(frame.payload);
    }
    (void)pthread_join(other, &finished);
    ck_assert_ptr_nonnull(finished);
    stop_pair(&pair);
}
END_TEST

START_TEST(a_post_rings_where_its_frame_goes) {
    pair_t pair;
    weir_doorbell_t *bell = NULL;
    ck_assert_int_eq(weir_comm_loop_create(2, pair.comms, NULL), WEIR_OK);
    pair.comms[0]->job = (uint64_t)getpid();
    ck_assert_int_eq(weir_doorbell_create((uint64_t)getpid(), 1, 2, &bell, NULL), WEIR_OK);
    weir_comm_thread_options_t options = {.comm = pair.comms[0], .control_fd = -1, .callers = 1};
    ck_assert_int_eq(weir_comm_thread_start(&options, &pair.threads[0], NULL), WEIR_OK);
    weir_doorbell_listen(bell); /* the greeting */
    ck_assert_uint_eq(weir_doorbell_heard(bell), 1);
    for (uint64_t step = 0; step < 20; step++) {
        struct pollfd fd = {.fd = weir_doorbell_fd(bell), .events = POLLIN};
        ck_assert_int_eq(poll(&fd, 1, 0), 0);
        ck_assert_int_eq(weir_comm_thread_post(pair.threads[0], 1,
                                               make_frame(WEIR_FRAME_PULL_REQ, step, 8), NULL),
                         WEIR_OK);
        ck_assert_int_eq(poll(&fd, 1, 30000), 1);
        weir_doorbell_listen(bell);
    }
    ck_assert_int_eq(weir_comm_thread_stop(pair.threads[0], 5.0, NULL), WEIR_OK);
    weir_doorbell_destroy(bell);
    weir_comm_destroy(pair.comms[0]);
    weir_comm_destroy(pair.comms[1]);
}
END_TEST

START_TEST(frames_of_other_types_are_kept_in_order) {
    pair_t pair;
    weir_frame_t frame;
    bool received = false;
    start_pair(&pair);
    for (uint64_t step = 0; step < 200; step++) {
        weir_frame_type_t type = step == 199 ? WEIR_FRAME_PUSH_REQ : WEIR_FRAME_PULL_REQ;
        ck_assert_int_eq(weir_comm_thread_post(pair.threads[0], 1, make_frame(type, step, 8), NULL),
                         WEIR_OK);
    }
    ck_assert_int_eq(weir_comm_thread_take(pair.threads[1], PUSH, 60.0, &frame, &received, NULL),
                     WEIR_OK);
    ck_assert(received && frame.header.step == 199);
    weir_buffer_release(frame.payload);
    for (uint64_t step = 0; step < 150; step++) { /* the rest is freed by stop */
        ck_assert_int_eq(
            weir_comm_thread_take(pair.threads[1], PULL | PUSH, 0.0, &frame, &received, NULL),
            WEIR_OK);
        ck_assert(received && frame.header.step == step);
        weir_buffer_release(frame.payload);
    }
    stop_pair(&pair);
}
END_TEST

START_TEST(more_frames_than_the_ring_holds_wait_for_their_taker) {
    pair_t pair;
    start_pair(&pair);
    for (uint64_t step = 0; step < MANY; step++) {
        ck_assert_int_eq(weir_comm_thread_post(pair.threads[0], 1,
                                               make_frame(WEIR_FRAME_PULL_REQ, step, 4), NULL),
                         WEIR_OK);
    }
    for (uint64_t step = 0; step < MANY; step++) {
        weir_frame_t frame;
        bool received = false;
        ck_assert_int_eq(
            weir_comm_thread_take(pair.threads[1], PULL, 60.0, &frame, &received, NULL), WEIR_OK);
        ck_assert(received && frame.header.step == step);
        weir_buffer_release(frame.payload);
    }
    stop_pair(&pair);
}
END_TEST

START_TEST(take_returns_at_its_deadline_with_nothing) {
    pair_t pair;
    weir_frame_t frame;
    bool received = true;
    start_pair(&pair);
    double begin = weir_clock_seconds();
    ck_assert_int_eq(weir_comm_thread_take(pair.threads[0], PULL, 0.05, &frame, &received, NULL),
                     WEIR_OK);
    ck_assert(!received);
    ck_assert(weir_clock_seconds() - begin >= 0.05);
    received = true;
    ck_assert_int_eq(weir_comm_thread_take(pair.threads[0], PULL, 0.0, &frame, &received, NULL),
                     WEIR_OK);
    ck_assert(!received);
    stop_pair(&pair);
}
END_TEST

START_TEST(a_failed_comm_thread_says_so_at_every_call) {
    pair_t pair;
    weir_frame_t frame;
    weir_error_t error = {0};
    bool received;
    start_pair(&pair);
    ck_assert_int_eq(
        weir_comm_thread_post(pair.threads[0], 9, make_frame(WEIR_FRAME_PULL_REQ, 1, 8), NULL),
        WEIR_OK); /* there is no rank 9: the comm thread finds out */
    ck_assert_int_eq(weir_comm_thread_take(pair.threads[0], PULL, 60.0, &frame, &received, &error),
                     WEIR_ERR_INVALID);
    ck_assert(strstr(error.message, "rank 9") != NULL);
    for (int i = 0; i < 2; i++) {
        error = (weir_error_t){0};
        ck_assert_int_eq(weir_comm_thread_post(pair.threads[0], 1,
                                               make_frame(WEIR_FRAME_PULL_REQ, 1, 8), &error),
                         WEIR_ERR_INVALID);
        ck_assert(strstr(error.message, "rank 9") != NULL);
    }
    ck_assert_int_eq(weir_comm_thread_stop(pair.threads[0], 1.0, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_comm_thread_stop(pair.threads[1], 1.0, NULL), WEIR_OK);
    weir_comm_destroy(pair.comms[0]);
    weir_comm_destroy(pair.comms[1]);
    weir_buffer_trim();
}
END_TEST

typedef struct {
    int fd;
    atomic_int events;
} control_t;

static bool read_control(void *argument) {
    control_t *control = argument;
    uint64_t count = 0;
    if (read(control->fd, &count, sizeof count) != sizeof count) {
        return false;
    }
    atomic_fetch_add(&control->events, (int)count);
    return true;
}

START_TEST(control_is_polled_and_wakes_the_comm_thread) {
    weir_comm_t *comms[1];
    weir_comm_thread_t *thread = NULL;
    control_t control = {.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    ck_assert_int_ge(control.fd, 0);
    ck_assert_int_eq(weir_comm_loop_create(1, comms, NULL), WEIR_OK);
    weir_comm_thread_options_t options = {.comm = comms[0],
                                          .poll_control = read_control,
                                          .control = &control,
                                          .control_fd = control.fd};
    ck_assert_int_eq(weir_comm_thread_start(&options, &thread, NULL), WEIR_OK);
    for (int i = 1; i <= 20; i++) {
        uint64_t one = 1;
        ck_assert_int_eq(write(control.fd, &one, sizeof one), sizeof one);
        for (int wait = 0; wait < 20000 && atomic_load(&control.events) < i; wait++) {
            weir_clock_sleep(0.001);
        }
        ck_assert_int_eq(atomic_load(&control.events), i);
    }
    ck_assert_int_eq(weir_comm_thread_stop(thread, 1.0, NULL), WEIR_OK);
    weir_comm_destroy(comms[0]);
    (void)close(control.fd);
    weir_buffer_trim();
}
END_TEST

START_TEST(idle_comm_threads_leave_the_processor_alone) {
    pair_t pair;
    start_pair(&pair);
    weir_clock_sleep(0.1);
    double begin = weir_clock_seconds(), used = cpu_seconds();
    weir_clock_sleep(0.5);
    used = cpu_seconds() - used;
    /* A share, not a time: two threads that spin would use twice what has passed. The bound is wide
     * for sanitizers; docs/performance.md has the figure. */
    ck_assert_double_lt(used, 0.2 * (weir_clock_seconds() - begin));
    stop_pair(&pair);
}
END_TEST

static Suite *comm_thread_suite(void) {
    Suite *suite = suite_create("comm_thread");
    TCase *tcase = tcase_create("comm_thread");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, the_transport_keeps_order_and_contents);
    tcase_add_test(tcase, a_frame_that_cannot_be_sent_is_refused);
    tcase_add_test(tcase, a_frame_of_another_job_is_refused);
    tcase_add_test(tcase, a_ring_hands_everything_over_in_order);
    tcase_add_loop_test(tcase, frames_go_round_through_two_comm_threads, 0, 2);
    tcase_add_test(tcase, a_post_rings_where_its_frame_goes);
    tcase_add_test(tcase, frames_of_other_types_are_kept_in_order);
    tcase_add_test(tcase, more_frames_than_the_ring_holds_wait_for_their_taker);
    tcase_add_test(tcase, take_returns_at_its_deadline_with_nothing);
    tcase_add_test(tcase, a_failed_comm_thread_says_so_at_every_call);
    tcase_add_test(tcase, control_is_polled_and_wakes_the_comm_thread);
    tcase_add_test(tcase, idle_comm_threads_leave_the_processor_alone);
    suite_add_tcase(suite, tcase);
    return suite;
}

WEIR_TEST_MAIN(comm_thread_suite())
