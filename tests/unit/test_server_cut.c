/* When a server remembers its tables for a checkpoint, and what it refuses. */
#include "ps/server.h"
#include "tests/suite.h"
#include "tests/unit/table_cases.h"

#include <string.h>

enum { WORKERS = 3, FIRST_WORKER = 1 };

static weir_table_t *table;
static weir_server_t *server;
static uint64_t cut_step;
static uint32_t cuts, answers[WORKERS];

static weir_err_t take_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    (void)argument;
    (void)error;
    if (frame.header.type == WEIR_FRAME_CUT_REP) {
        ck_assert_uint_eq(frame.header.step, cut_step);
        ck_assert_uint_eq(cuts, 1); /* it was remembered before anybody was told */
        answers[to - FIRST_WORKER]++;
    }
    weir_buffer_release(frame.payload);
    return WEIR_OK;
}

static weir_err_t cut(void *argument, uint64_t step, weir_error_t *error) {
    (void)argument;
    (void)error;
    ck_assert_uint_eq(weir_server_step(server), step);
    cut_step = step;
    cuts++;
    return WEIR_OK;
}

static void set_up_as(weir_consistency_t consistency, bool saves) {
    weir_table_options_t options = table_case(WEIR_OPTIMIZER_SGD, 2, 0.1, 5);
    table = table_case_create(&options);
    weir_server_options_t own = {.ps = 1,
                                 .first_worker_rank = FIRST_WORKER,
                                 .workers = WORKERS,
                                 .consistency = consistency,
                                 .staleness = 1,
                                 .send = take_answer,
                                 .cut = saves ? cut : NULL};
    ck_assert_int_eq(weir_server_create(&own, &table, 1, &server, NULL), WEIR_OK);
    cuts = 0;
    memset(answers, 0, sizeof answers);
}

static void tear_down(void) {
    weir_server_destroy(server);
    weir_table_destroy(table);
}

static weir_err_t give(uint32_t worker, weir_frame_type_t type, uint64_t step) {
    weir_frame_t frame = {
        .header = {.type = (uint16_t)type, .source = FIRST_WORKER + worker, .step = step}};
    weir_error_t error = {0};
    weir_err_t err = weir_server_handle(server, frame, &error);
    if (err != WEIR_OK) {
        char rank[16];
        (void)snprintf(rank, sizeof rank, "rank %u", FIRST_WORKER + worker);
        ck_assert_msg(strstr(error.message, rank) != NULL, "%s", error.message);
    }
    return err;
}

static void do_step(uint32_t worker, uint64_t step) {
    ck_assert_int_eq(give(worker, WEIR_FRAME_PULL_REQ, step), WEIR_OK);
    ck_assert_int_eq(give(worker, WEIR_FRAME_PUSH_REQ, step), WEIR_OK);
}

START_TEST(tables_are_remembered_when_all_workers_have_asked) {
    for (int k = 0; k < WEIR_CONSISTENCY_COUNT; k++) {
        set_up_as((weir_consistency_t)k, true);
        for (uint64_t step = 1; step <= 3; step++) {
            cuts = 0;
            for (uint32_t w = 0; w < WORKERS; w++) {
                do_step(w, step);
                if (w + 1 < WORKERS) { /* the others ask before the last has pushed */
                    ck_assert_int_eq(give(w, WEIR_FRAME_CUT_REQ, step), WEIR_OK);
                    ck_assert_uint_eq(cuts, 0);
                }
            }
            ck_assert_int_eq(give(WORKERS - 1, WEIR_FRAME_CUT_REQ, step), WEIR_OK);
            ck_assert_uint_eq(cuts, 1);
            for (uint32_t w = 0; w < WORKERS; w++) {
                ck_assert_uint_eq(answers[w], step);
            }
        }
        tear_down();
    }
}
END_TEST

/* What is refused after worker 0 and 1 have done step 1, and 0 has asked for a cut. */
static weir_err_t after_one_has_asked(uint32_t worker, weir_frame_type_t type, uint64_t step) {
    set_up_as(WEIR_CONSISTENCY_SSP, true);
    do_step(0, 1);
    do_step(1, 1);
    ck_assert_int_eq(give(0, WEIR_FRAME_CUT_REQ, 1), WEIR_OK);
    weir_err_t err = give(worker, type, step);
    ck_assert_uint_eq(cuts, 0);
    return err;
}

START_TEST(a_cut_out_of_turn_is_refused) {
    static const struct {
        uint32_t worker;
        uint64_t step;
    } offences[] = {{0, 1}, {1, 0}, {1, 2}, {2, 1}, {2, 0}};
    for (size_t i = 0; i < sizeof offences / sizeof offences[0]; i++) {
        ck_assert_int_eq(
            after_one_has_asked(offences[i].worker, WEIR_FRAME_CUT_REQ, offences[i].step),
            WEIR_ERR_PEER);
        tear_down();
    }
    ck_assert_int_eq(after_one_has_asked(1, WEIR_FRAME_CUT_REQ, 1), WEIR_OK);
    tear_down();
    set_up_as(WEIR_CONSISTENCY_BSP, true); /* a pull is under way */
    do_step(0, 1);
    ck_assert_int_eq(give(0, WEIR_FRAME_PULL_REQ, 2), WEIR_OK);
    ck_assert_int_eq(give(0, WEIR_FRAME_CUT_REQ, 1), WEIR_ERR_PEER);
    tear_down();
    set_up_as(WEIR_CONSISTENCY_BSP, false); /* a server that cannot save */
    do_step(0, 1);
    ck_assert_int_eq(give(0, WEIR_FRAME_CUT_REQ, 1), WEIR_ERR_PEER);
    tear_down();
}
END_TEST

START_TEST(who_asked_for_a_cut_waits_for_it) {
    ck_assert_int_eq(after_one_has_asked(0, WEIR_FRAME_PULL_REQ, 2), WEIR_ERR_PEER);
    tear_down();
}
END_TEST

START_TEST(a_cut_says_its_step_and_nothing_more) {
    weir_frame_header_t offences[] = {{.flags = 1},
                                      {.count = 1},
                                      {.payload_size = 8, .count = 0},
                                      {.count = 1, .payload_size = 8}};
    for (size_t i = 0; i < sizeof offences / sizeof offences[0]; i++) {
        set_up_as(WEIR_CONSISTENCY_BSP, true);
        do_step(0, 1);
        weir_frame_t frame = {.header = offences[i]};
        frame.header.type = WEIR_FRAME_CUT_REQ;
        frame.header.source = FIRST_WORKER;
        frame.header.step = 1;
        frame.payload =
            frame.header.payload_size > 0 ? weir_buffer_acquire(frame.header.payload_size) : NULL;
        ck_assert_int_eq(weir_server_handle(server, frame, NULL), WEIR_ERR_PEER);
        tear_down();
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("server_cut");
    TCase *t = tcase_create("server_cut");
    tcase_add_test(t, tables_are_remembered_when_all_workers_have_asked);
    tcase_add_test(t, a_cut_out_of_turn_is_refused);
    tcase_add_test(t, who_asked_for_a_cut_waits_for_it);
    tcase_add_test(t, a_cut_says_its_step_and_nothing_more);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
