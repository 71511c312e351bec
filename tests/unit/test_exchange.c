/* Workers of one test thread: sending never waits, so that one thread can play them all. */
#include "common/comm.h"
#include "tests/suite.h"
#include "worker/exchange.h"

#include <string.h>

enum { WORKERS = 3 };

static weir_comm_t *comms[WORKERS];
static weir_comm_thread_t *threads[WORKERS];
static weir_exchange_t *exchanges[WORKERS];

static void set_up(void) {
    ck_assert_int_eq(weir_comm_loop_create(WORKERS, comms, NULL), WEIR_OK);
    for (uint32_t i = 0; i < WORKERS; i++) {
        weir_comm_thread_options_t thread = {.comm = comms[i], .control_fd = -1};
        ck_assert_int_eq(weir_comm_thread_start(&thread, &threads[i], NULL), WEIR_OK);
        weir_exchange_options_t options = {
            .comm_thread = threads[i], .worker = i, .workers = WORKERS, .timeout = 30.0};
        ck_assert_int_eq(weir_exchange_create(&options, &exchanges[i], NULL), WEIR_OK);
    }
}

static void tear_down(void) {
    for (uint32_t i = 0; i < WORKERS; i++) {
        weir_exchange_destroy(exchanges[i]);
        ck_assert_int_eq(weir_comm_thread_stop(threads[i], 5.0, NULL), WEIR_OK);
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        weir_comm_destroy(comms[i]);
    }
}

static void send_number(uint32_t from, uint32_t to, weir_frame_type_t type, uint64_t step,
                        uint32_t sequence, uint64_t number) {
    ck_assert_int_eq(
        weir_exchange_send(exchanges[from], type, step, sequence, to, &number, sizeof number, NULL),
        WEIR_OK);
}

static uint64_t receive_number(uint32_t at, uint32_t from, weir_frame_type_t type, uint64_t step,
                               uint32_t sequence) {
    void *payload = NULL;
    uint64_t number = 0;
    weir_error_t error = {0};
    ck_assert_msg(weir_exchange_receive(exchanges[at], type, step, sequence, from, sizeof number,
                                        &payload, &error) == WEIR_OK,
                  "%s", error.message);
    memcpy(&number, payload, sizeof number);
    weir_buffer_release(payload);
    return number;
}

START_TEST(frames_are_received_by_name_whatever_the_order_of_arrival) {
    const weir_frame_type_t types[] = {WEIR_FRAME_REDUCE, WEIR_FRAME_GATHER, WEIR_FRAME_BARRIER};
    for (uint64_t step = 2; step >= 1; step--) { /* the later step first */
        for (uint32_t sequence = 4; sequence-- > 0;) {
            for (size_t type = 0; type < 3; type++) {
                for (uint32_t from = 1; from < WORKERS; from++) {
                    send_number(from, 0, types[type], step, sequence,
                                step * 1000 + sequence * 100 + type * 10 + from);
                }
            }
        }
    }
    for (uint32_t from = WORKERS; from-- > 1;) {
        for (size_t type = 0; type < 3; type++) {
            for (uint64_t step = 1; step <= 2; step++) {
                for (uint32_t sequence = 0; sequence < 4; sequence++) {
                    ck_assert_uint_eq(receive_number(0, from, types[type], step, sequence),
                                      step * 1000 + sequence * 100 + type * 10 + from);
                }
            }
        }
    }
}
END_TEST

START_TEST(a_frame_of_another_length_is_refused_by_rank_and_used_up) {
    void *payload = NULL;
    for (int early = 0; early < 2; early++) {
        weir_error_t error = {0};
        uint64_t step = 7 + (uint64_t)early;
        send_number(1, 0, WEIR_FRAME_REDUCE, step, 0, 5);
        if (early == 1) { /* the other frame comes behind it: it is kept first */
            send_number(1, 0, WEIR_FRAME_REDUCE, step, 1, 6);
            ck_assert_uint_eq(receive_number(0, 1, WEIR_FRAME_REDUCE, step, 1), 6);
        }
        ck_assert_int_eq(weir_exchange_receive(exchanges[0], WEIR_FRAME_REDUCE, step, 0, 1, 12,
                                               &payload, &error),
                         WEIR_ERR_PEER);
        ck_assert_ptr_nonnull(strstr(error.message, "rank 1"));
        ck_assert_ptr_nonnull(strstr(error.message, "8 bytes"));
        ck_assert_ptr_null(payload);
        send_number(1, 0, WEIR_FRAME_REDUCE, step, 0, 9);
        ck_assert_uint_eq(receive_number(0, 1, WEIR_FRAME_REDUCE, step, 0), 9);
    }
}
END_TEST

START_TEST(a_gather_gives_all_values_in_worker_order_to_everybody) {
    for (uint64_t step = 1; step <= 3; step++) {
        uint64_t mine[WORKERS], all[WORKERS][WORKERS];
        for (uint32_t turn = 0; turn < WORKERS; turn++) { /* who begins first changes */
            uint32_t i = (uint32_t)((turn + step) % WORKERS);
            mine[i] = 10 * step + i;
            ck_assert_int_eq(weir_exchange_all_gather_begin(exchanges[i], step, 5, &mine[i],
                                                            sizeof mine[i], NULL),
                             WEIR_OK);
        }
        for (uint32_t i = 0; i < WORKERS; i++) {
            ck_assert_int_eq(weir_exchange_all_gather_finish(exchanges[i], step, 5, &mine[i],
                                                             sizeof mine[i], all[i], NULL),
                             WEIR_OK);
            for (uint32_t j = 0; j < WORKERS; j++) {
                ck_assert_uint_eq(all[i][j], 10 * step + j);
            }
        }
    }
}
END_TEST

START_TEST(frames_that_nobody_asks_for_are_released_with_the_exchange) {
    send_number(1, 0, WEIR_FRAME_GATHER, 1, 0, 1); /* kept; the sanitizer tells if it is lost */
    send_number(1, 0, WEIR_FRAME_GATHER, 1, 1, 2);
    ck_assert_uint_eq(receive_number(0, 1, WEIR_FRAME_GATHER, 1, 1), 2);
}
END_TEST

START_TEST(one_worker_needs_no_transport_and_a_worker_beyond_the_last_cannot_be) {
    weir_exchange_t *alone = NULL;
    weir_exchange_options_t options = {.worker = 0, .workers = 1, .timeout = 1.0};
    double mine = 2.5, all = 0.0;
    ck_assert_int_eq(weir_exchange_create(&options, &alone, NULL), WEIR_OK);
    ck_assert_int_eq(weir_exchange_all_gather(alone, 1, 0, &mine, sizeof mine, &all, NULL),
                     WEIR_OK);
    ck_assert(all >= 2.5 && all <= 2.5);
    weir_exchange_destroy(alone);
    alone = NULL;
    options.worker = 1;
    ck_assert_int_eq(weir_exchange_create(&options, &alone, NULL), WEIR_ERR_INVALID);
    options = (weir_exchange_options_t){.timeout = 1.0};
    ck_assert_int_eq(weir_exchange_create(&options, &alone, NULL), WEIR_ERR_INVALID);
    ck_assert_ptr_null(alone);
    weir_exchange_destroy(NULL);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("exchange");
    TCase *t = tcase_create("exchange");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, frames_are_received_by_name_whatever_the_order_of_arrival);
    tcase_add_test(t, a_frame_of_another_length_is_refused_by_rank_and_used_up);
    tcase_add_test(t, a_gather_gives_all_values_in_worker_order_to_everybody);
    tcase_add_test(t, frames_that_nobody_asks_for_are_released_with_the_exchange);
    tcase_add_test(t, one_worker_needs_no_transport_and_a_worker_beyond_the_last_cannot_be);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
