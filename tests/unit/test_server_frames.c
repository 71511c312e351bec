/* One server and two workers (ranks 5 and 6), frame by frame: what is answered and what refused. */
#include "common/hash.h"
#include "ps/server.h"
#include "tests/suite.h"
#include "tests/unit/ps_cases.h"
#include "tests/unit/table_cases.h"

#include <math.h>
#include <string.h>

typedef struct {
    weir_table_t *table;
    weir_server_t *server;
    weir_frame_t last; /* answer; payload owned */
    weir_rank_t last_to;
    uint32_t answers;
    weir_error_t error;
} bench_t;

static weir_err_t keep_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    bench_t *bench = argument;
    (void)error;
    weir_buffer_release(bench->last.payload);
    bench->last = frame;
    bench->last_to = to;
    bench->answers++;
    return WEIR_OK;
}

static void set_up_table(bench_t *bench, weir_table_t *table, uint32_t index, uint32_t ps,
                         uint64_t step) {
    *bench = (bench_t){.table = table};
    weir_server_options_t options = {.index = index,
                                     .ps = ps,
                                     .first_worker_rank = 5,
                                     .workers = 2,
                                     .step = step,
                                     .send = keep_answer,
                                     .argument = bench};
    ck_assert_int_eq(weir_server_create(&options, &bench->table, 1, &bench->server, NULL), WEIR_OK);
}

static void set_up(bench_t *bench, uint32_t index, uint32_t ps, uint64_t step) {
    set_up_table(bench, case_table(), index, ps, step);
}

static void tear_down(bench_t *bench) {
    weir_buffer_release(bench->last.payload);
    weir_server_destroy(bench->server);
    weir_table_destroy(bench->table);
}

static weir_frame_t make_frame(weir_frame_type_t type, weir_rank_t from, uint64_t step,
                               uint32_t count, const void *payload, size_t size) {
    weir_frame_t frame = {.header = {.type = (uint16_t)type,
                                     .source = from,
                                     .step = step,
                                     .sequence = 77,
                                     .count = count,
                                     .payload_size = size}};
    if (size > 0) {
        frame.payload = weir_buffer_acquire(size);
        ck_assert_ptr_nonnull(frame.payload);
        memcpy(frame.payload, payload, size);
    }
    return frame;
}

static weir_err_t pull(bench_t *bench, weir_rank_t from, uint64_t step, const weir_key_t *keys,
                       uint32_t count) {
    uint64_t payload[401] = {count};
    ck_assert_uint_le(count, 400);
    memcpy(payload + 1, keys, count * sizeof *keys);
    return weir_server_handle(bench->server,
                              make_frame(WEIR_FRAME_PULL_REQ, from, step, count, payload,
                                         count == 0 ? 0 : (count + 1) * sizeof *payload),
                              &bench->error);
}

static weir_err_t push(bench_t *bench, weir_rank_t from, uint64_t step, float gradient,
                       uint32_t count) {
    float gradients[8 * CASE_DIM];
    ck_assert_uint_le(count, 8);
    for (size_t i = 0; i < 8 * CASE_DIM; i++) {
        gradients[i] = gradient;
    }
    return weir_server_handle(bench->server,
                              make_frame(WEIR_FRAME_PUSH_REQ, from, step, count, gradients,
                                         count * CASE_DIM * sizeof(float)),
                              &bench->error);
}

static weir_err_t peek(bench_t *bench, weir_rank_t from, uint64_t step, weir_key_t key) {
    return weir_server_handle(bench->server,
                              make_frame(WEIR_FRAME_PEEK_REQ, from, step, 1, &key, sizeof key),
                              &bench->error);
}

static const weir_key_t three[3] = {11, 12, 13};

START_TEST(a_pull_sent_ahead_is_answered_when_its_step_has_come) {
    bench_t bench;
    set_up(&bench, 0, 1, 0);
    ck_assert_int_eq(pull(&bench, 5, 1, three, 3), WEIR_OK);
    ck_assert_uint_eq(bench.answers, 1);
    ck_assert_uint_eq(bench.last.header.sequence, 77);
    ck_assert_int_eq(pull(&bench, 5, 2, three, 2), WEIR_OK); /* before its push even */
    ck_assert_int_eq(push(&bench, 5, 1, 0.5F, 3), WEIR_OK);
    ck_assert_int_eq(pull(&bench, 6, 1, three, 0), WEIR_OK); /* nothing for this server */
    ck_assert_uint_eq(bench.answers, 2);
    ck_assert_uint_eq(bench.last.header.payload_size, 0);
    ck_assert_uint_eq(weir_server_step(bench.server), 0);
    ck_assert_int_eq(push(&bench, 6, 1, 0.0F, 0), WEIR_OK);
    ck_assert_uint_eq(weir_server_step(bench.server), 1);
    ck_assert_uint_eq(bench.answers, 3);
    ck_assert_uint_eq(bench.last_to, 5);
    ck_assert_uint_eq(bench.last.header.step, 2);
    float now[2 * CASE_DIM];
    table_case_peek(bench.table, three, 2, now);
    ck_assert_mem_eq(bench.last.payload, now, sizeof now);
    weir_server_counters_t counters = weir_server_counters(bench.server);
    ck_assert_uint_eq(counters.keys_pulled, 5);
    ck_assert_uint_eq(counters.rows_updated, 3);
    tear_down(&bench);
}
END_TEST

START_TEST(a_peek_sees_the_push_of_its_sender_and_bears_no_row) {
    bench_t bench;
    set_up(&bench, 0, 1, 0);
    ck_assert_int_eq(peek(&bench, 6, 0, 999), WEIR_OK);
    ck_assert_uint_eq(bench.answers, 1);
    ck_assert_uint_eq(bench.last.header.type, WEIR_FRAME_PEEK_REP);
    ck_assert_uint_eq(table_case_rows(bench.table), 0);
    ck_assert_int_eq(pull(&bench, 5, 1, three, 3), WEIR_OK);
    ck_assert_int_eq(pull(&bench, 6, 1, three, 3), WEIR_OK);
    ck_assert_int_eq(push(&bench, 5, 1, 0.5F, 3), WEIR_OK);
    ck_assert_int_eq(peek(&bench, 5, 1, 11), WEIR_OK);
    ck_assert_int_eq(peek(&bench, 6, 0, 11), WEIR_OK); /* has not pushed: the rows as they are */
    ck_assert_uint_eq(bench.answers, 4);
    ck_assert_uint_eq(bench.last_to, 6);
    ck_assert_int_eq(push(&bench, 6, 1, 0.25F, 3), WEIR_OK);
    ck_assert_uint_eq(bench.answers, 5);
    ck_assert_uint_eq(bench.last_to, 5);
    ck_assert_uint_eq(bench.last.header.step, 1);
    float now[CASE_DIM];
    table_case_peek(bench.table, three, 1, now);
    ck_assert_mem_eq(bench.last.payload, now, sizeof now);
    ck_assert_uint_eq(table_case_rows(bench.table), 3);
    tear_down(&bench);
}
END_TEST

START_TEST(a_row_whose_gradient_is_not_finite_is_skipped_and_counted) {
    bench_t bench;
    set_up(&bench, 0, 1, 41);
    float before[CASE_DIM], after[CASE_DIM];
    ck_assert_int_eq(pull(&bench, 5, 42, three, 1), WEIR_OK);
    ck_assert_int_eq(pull(&bench, 6, 42, three, 2), WEIR_OK);
    table_case_peek(bench.table, three, 1, before);
    ck_assert_int_eq(push(&bench, 6, 42, 1.0F, 2), WEIR_OK);
    ck_assert_int_eq(push(&bench, 5, 42, NAN, 1), WEIR_OK);
    table_case_peek(bench.table, three, 1, after);
    ck_assert_mem_eq(before, after, sizeof before);
    weir_server_counters_t counters = weir_server_counters(bench.server);
    ck_assert_uint_eq(counters.gradients_not_finite, 1);
    ck_assert_uint_eq(counters.rows_updated, 1);
    ck_assert_uint_eq(weir_server_step(bench.server), 42);
    tear_down(&bench);
}
END_TEST

/* ---- hostile frames: each is refused with its sender's rank, and nothing works after it ---- */

typedef weir_err_t (*offence_t)(bench_t *bench);

static weir_err_t pull_too_early(bench_t *bench) {
    return pull(bench, 5, 3, three, 3);
}
static weir_err_t pull_too_late(bench_t *bench) {
    return pull(bench, 5, 0, three, 3);
}
static weir_err_t pull_ahead_of_no_pull(bench_t *bench) {
    return pull(bench, 5, 2, three, 3);
}
static weir_err_t pull_twice(bench_t *bench) {
    return pull(bench, 5, 1, three, 3) == WEIR_OK ? pull(bench, 5, 1, three, 3) : WEIR_OK;
}
static weir_err_t pull_ahead_twice(bench_t *bench) {
    return pull(bench, 5, 1, three, 3) == WEIR_OK && pull(bench, 5, 2, three, 3) == WEIR_OK
               ? pull(bench, 5, 2, three, 3)
               : WEIR_OK;
}
static weir_err_t pull_a_key_twice(bench_t *bench) {
    const weir_key_t keys[4] = {11, 12, 13, 12};
    return pull(bench, 5, 1, keys, 4);
}
static weir_err_t pull_with_a_wrong_count(bench_t *bench) {
    return weir_server_handle(bench->server,
                              make_frame(WEIR_FRAME_PULL_REQ, 5, 1, 3, three, 2 * sizeof *three),
                              &bench->error);
}
static weir_err_t pull_of_half_a_key(bench_t *bench) {
    return weir_server_handle(bench->server, make_frame(WEIR_FRAME_PULL_REQ, 5, 1, 1, three, 12),
                              &bench->error);
}
static weir_err_t pull_that_claims_a_payload(bench_t *bench) {
    weir_frame_t frame = make_frame(WEIR_FRAME_PULL_REQ, 5, 1, 3, NULL, 0);
    frame.header.payload_size = 24;
    return weir_server_handle(bench->server, frame, &bench->error);
}
static weir_err_t pull_of_more_than_a_frame(bench_t *bench) {
    weir_frame_t frame = make_frame(WEIR_FRAME_PULL_REQ, 5, 1, 0, three, sizeof three);
    frame.header.count = UINT32_MAX;
    frame.header.payload_size = (uint64_t)UINT32_MAX * 8;
    return weir_server_handle(bench->server, frame, &bench->error);
}
static weir_err_t push_without_pull(bench_t *bench) {
    return push(bench, 5, 1, 1.0F, 3);
}
static weir_err_t push_of_the_next_step(bench_t *bench) {
    return pull(bench, 5, 1, three, 3) == WEIR_OK ? push(bench, 5, 2, 1.0F, 3) : WEIR_OK;
}
static weir_err_t push_of_fewer_rows(bench_t *bench) {
    return pull(bench, 5, 1, three, 3) == WEIR_OK ? push(bench, 5, 1, 1.0F, 2) : WEIR_OK;
}
static weir_err_t push_of_half_a_row(bench_t *bench) {
    float gradients[3 * CASE_DIM] = {0};
    if (pull(bench, 5, 1, three, 3) != WEIR_OK) {
        return WEIR_OK;
    }
    return weir_server_handle(bench->server,
                              make_frame(WEIR_FRAME_PUSH_REQ, 5, 1, 3, gradients,
                                         sizeof gradients - CASE_DIM * sizeof(float) / 2),
                              &bench->error);
}
static weir_err_t push_twice(bench_t *bench) {
    return pull(bench, 5, 1, three, 3) == WEIR_OK && push(bench, 5, 1, 1.0F, 3) == WEIR_OK
               ? push(bench, 5, 1, 1.0F, 3)
               : WEIR_OK;
}
static weir_err_t with_flags(bench_t *bench, weir_frame_type_t type) {
    weir_frame_t frame = make_frame(type, 5, 1, 0, NULL, 0); /* right but for them */
    frame.header.flags = 0x100;
    return weir_server_handle(bench->server, frame, &bench->error);
}
static weir_err_t pull_with_flags(bench_t *bench) {
    return with_flags(bench, WEIR_FRAME_PULL_REQ);
}
static weir_err_t push_with_flags(bench_t *bench) {
    return pull(bench, 5, 1, three, 0) == WEIR_OK ? with_flags(bench, WEIR_FRAME_PUSH_REQ)
                                                  : WEIR_OK;
}
static weir_err_t peek_of_a_step_not_pushed(bench_t *bench) {
    return pull(bench, 5, 1, three, 3) == WEIR_OK ? peek(bench, 5, 1, 11) : WEIR_OK;
}
static weir_err_t peek_of_a_far_step(bench_t *bench) {
    return peek(bench, 5, UINT64_MAX, 11);
}
static weir_err_t peek_twice_ahead(bench_t *bench) {
    return pull(bench, 5, 1, three, 3) == WEIR_OK && push(bench, 5, 1, 1.0F, 3) == WEIR_OK &&
                   peek(bench, 5, 1, 11) == WEIR_OK
               ? peek(bench, 5, 1, 11)
               : WEIR_OK;
}
static weir_err_t a_frame_for_someone_else(bench_t *bench) {
    return weir_server_handle(bench->server, make_frame(WEIR_FRAME_REDUCE, 5, 1, 0, NULL, 0),
                              &bench->error);
}
static weir_err_t a_frame_of_no_type(bench_t *bench) {
    return weir_server_handle(bench->server, make_frame((weir_frame_type_t)999, 5, 1, 0, NULL, 0),
                              &bench->error);
}

/* Of `keys` the servers' table admits every third, or none. */
START_TEST(a_key_named_twice_is_refused_whether_it_has_a_row_or_not) {
    enum { KEYS = 301 };
    for (size_t trial = 0; trial < 8; trial++) {
        weir_table_options_t options = table_case(WEIR_OPTIMIZER_SGD, CASE_DIM, 0.1, 1);
        weir_key_t keys[KEYS];
        bench_t bench;
        options.admission = trial % 2 == 0 ? WEIR_ADMISSION_FREQUENCY : WEIR_ADMISSION_PROBABILITY;
        options.admission_threshold = 9;
        options.admission_counters = 16;
        options.admission_probability = 1.0 / 3.0;
        for (size_t i = 0; i < KEYS; i++) {
            keys[i] = 1000 * i + trial;
        }
        set_up_table(&bench, table_case_create(&options), 0, 1, 0);
        ck_assert_int_eq(pull(&bench, 5, 1, keys, KEYS), WEIR_OK);
        size_t one = 37 * trial, other = KEYS - 1 - trial;
        keys[one] = keys[other];
        ck_assert_int_eq(pull(&bench, 6, 1, keys, KEYS), WEIR_ERR_PEER);
        ck_assert(strstr(bench.error.message, "rank 6") != NULL);
        ck_assert(strstr(bench.error.message, "names a key twice") != NULL);
        tear_down(&bench);
    }
}
END_TEST

START_TEST(every_offence_is_refused_and_names_its_sender) {
    static const offence_t offences[] = {pull_too_early,
                                         pull_too_late,
                                         pull_ahead_of_no_pull,
                                         pull_twice,
                                         pull_ahead_twice,
                                         pull_a_key_twice,
                                         pull_with_a_wrong_count,
                                         pull_of_half_a_key,
                                         pull_that_claims_a_payload,
                                         pull_of_more_than_a_frame,
                                         push_without_pull,
                                         push_of_the_next_step,
                                         push_of_fewer_rows,
                                         push_of_half_a_row,
                                         push_twice,
                                         pull_with_flags,
                                         push_with_flags,
                                         peek_of_a_step_not_pushed,
                                         peek_of_a_far_step,
                                         peek_twice_ahead,
                                         a_frame_for_someone_else,
                                         a_frame_of_no_type};
    for (size_t i = 0; i < sizeof offences / sizeof *offences; i++) {
        bench_t bench;
        set_up(&bench, 0, 1, 0);
        ck_assert_msg(offences[i](&bench) == WEIR_ERR_PEER, "offence %zu was not refused", i);
        ck_assert_msg(strstr(bench.error.message, "rank 5") != NULL, "offence %zu: %s", i,
                      bench.error.message);
        ck_assert_int_eq(pull(&bench, 6, 1, three, 3), WEIR_ERR_PEER);
        ck_assert_uint_eq(weir_server_step(bench.server), 0);
        tear_down(&bench);
    }
}
END_TEST

static uint32_t owner_of(weir_key_t key, uint32_t ps) {
    return weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), ps);
}

START_TEST(a_key_of_another_server_and_a_stranger_are_refused) {
    bench_t bench;
    weir_key_t key = 1;
    while (owner_of(key, 2) == 0) {
        key++;
    }
    set_up(&bench, 1, 2, 0);
    ck_assert_int_eq(pull(&bench, 6, 1, &key, 1), WEIR_OK);
    tear_down(&bench);
    set_up(&bench, 0, 2, 0);
    ck_assert_int_eq(pull(&bench, 6, 1, &key, 1), WEIR_ERR_PEER);
    ck_assert_ptr_nonnull(strstr(bench.error.message, "rank 6"));
    ck_assert_uint_eq(table_case_rows(bench.table), 0);
    tear_down(&bench);
    for (weir_rank_t rank = 0; rank < 9; rank++) {
        set_up(&bench, 0, 1, 0);
        weir_err_t expected = rank == 5 || rank == 6 ? WEIR_OK : WEIR_ERR_PEER;
        ck_assert_int_eq(pull(&bench, rank, 1, three, 3), expected);
        tear_down(&bench);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("server_frames");
    TCase *t = tcase_create("server_frames");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_pull_sent_ahead_is_answered_when_its_step_has_come);
    tcase_add_test(t, a_peek_sees_the_push_of_its_sender_and_bears_no_row);
    tcase_add_test(t, a_row_whose_gradient_is_not_finite_is_skipped_and_counted);
    tcase_add_test(t, a_key_named_twice_is_refused_whether_it_has_a_row_or_not);
    tcase_add_test(t, every_offence_is_refused_and_names_its_sender);
    tcase_add_test(t, a_key_of_another_server_and_a_stranger_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
