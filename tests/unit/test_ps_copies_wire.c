/* Copies of rows frame by frame: what a server sends, leaves out and refuses, and what a client
 * refuses. */
#include "ps/server.h"
#include "tests/suite.h"
#include "tests/unit/ps_played.h"
#include "tests/unit/table_cases.h"

#include <math.h>
#include <string.h>

/* ---- one server, two workers (ranks 5 and 6) ---- */

enum { DIM = 6, VALUE = DIM * sizeof(float), RECORD = VALUE + sizeof(float) };

static const weir_key_t three[3] = {11, 12, 13};

typedef struct {
    weir_table_t *table;
    weir_server_t *server;
    weir_frame_t last; /* answer; payload owned */
    weir_error_t error;
} bench_t;

static weir_err_t keep_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    bench_t *bench = argument;
    (void)error;
    (void)to;
    weir_buffer_release(bench->last.payload);
    bench->last = frame;
    return WEIR_OK;
}

static void set_up(bench_t *bench, weir_consistency_t consistency) {
    weir_table_options_t table = table_case(WEIR_OPTIMIZER_ROWWISE_ADAGRAD, DIM, 0.1, 3);
    table.owners = true;
    *bench = (bench_t){.table = table_case_create(&table)};
    weir_server_options_t options = {.ps = 1,
                                     .first_worker_rank = 5,
                                     .workers = 2,
                                     .consistency = consistency,
                                     .staleness = 2,
                                     .send = keep_answer,
                                     .argument = bench};
    ck_assert_int_eq(weir_server_create(&options, &bench->table, 1, &bench->server, NULL), WEIR_OK);
}

static void tear_down(bench_t *bench) {
    weir_buffer_release(bench->last.payload);
    weir_server_destroy(bench->server);
    weir_table_destroy(bench->table);
}

static weir_err_t send(bench_t *bench, weir_frame_header_t header, const void *payload) {
    weir_frame_t frame = {.header = header};
    if (header.payload_size > 0) {
        frame.payload = weir_buffer_acquire((size_t)header.payload_size);
        ck_assert_ptr_nonnull(frame.payload);
        memcpy(frame.payload, payload, (size_t)header.payload_size);
    }
    return weir_server_handle(bench->server, frame, &bench->error);
}

/* A cached pull of the first of `three`, whose payload is `cut` bytes shorter than it should be. */
static weir_err_t send_pull(bench_t *bench, weir_rank_t from, uint64_t step, uint32_t count,
                            uint64_t held, uint16_t flags, size_t cut) {
    uint64_t payload[5] = {count};
    memcpy(payload + 1, three, count * sizeof *three);
    payload[1 + count] = held;
    weir_frame_header_t header = {.type = WEIR_FRAME_PULL_REQ,
                                  .source = from,
                                  .flags = flags,
                                  .step = step,
                                  .count = count,
                                  .payload_size = (count + 2) * sizeof *payload - cut};
    return send(bench, header, payload);
}

static void pull(bench_t *bench, weir_rank_t from, uint64_t step, uint32_t count, uint64_t held) {
    ck_assert_msg(send_pull(bench, from, step, count, held, 1, 0) == WEIR_OK, "%s",
                  bench->error.message);
}

static void push(bench_t *bench, weir_rank_t from, uint64_t step, uint32_t count, size_t bad) {
    float gradients[3 * DIM];
    for (size_t i = 0; i < sizeof gradients / sizeof *gradients; i++) {
        gradients[i] = i / DIM == bad ? NAN : 0.25F * (float)(i + step);
    }
    weir_frame_header_t header = {.type = WEIR_FRAME_PUSH_REQ,
                                  .source = from,
                                  .step = step,
                                  .count = count,
                                  .payload_size = count * VALUE};
    ck_assert_int_eq(send(bench, header, gradients), WEIR_OK);
}

/* Worker 5 pulls all three rows, holding those of `held`, and is answered with `sent`, of which
 * `copies` are copies after `updates` updates each. Then worker 6 pulls the first `others`, and
 * both push, worker 5 a NaN for row `bad`. */
static void play_step(bench_t *bench, uint64_t step, uint64_t held, uint64_t sent, uint64_t copies,
                      uint32_t others, size_t bad) {
    float now[3][DIM];
    pull(bench, 5, step, 3, held);
    table_case_peek(bench->table, three, 3, now[0]);
    const weir_frame_header_t *header = &bench->last.header;
    const uint64_t *bits = bench->last.payload;
    ck_assert_uint_eq(header->flags, 4);
    ck_assert_uint_eq(header->step, step);
    ck_assert_msg(bits[0] == sent && bits[1] == copies, "step %d: sent %d, copies %d", (int)step,
                  (int)bits[0], (int)bits[1]);
    const char *next = (const char *)(bits + 2);
    uint32_t rows = 0;
    for (int copied = 0; copied < 2; copied++) { /* first the values */
        for (size_t i = 0; i < 3; i++) {
            if ((sent >> i & 1) == 0 || (copies >> i & 1) != (uint64_t)copied) {
                continue;
            }
            rows++;
            ck_assert_mem_eq(next, now[i], VALUE);
            next += copied != 0 ? RECORD + sizeof(uint64_t) : VALUE;
        }
    }
    ck_assert_uint_eq(header->count, rows);
    ck_assert_uint_eq(header->payload_size, (size_t)(next - (const char *)bits));
    if (others > 0) {
        pull(bench, 6, step, others, 0);
    } else {
        ck_assert_int_eq(
            send(bench,
                 (weir_frame_header_t){.type = WEIR_FRAME_PULL_REQ, .source = 6, .step = step},
                 NULL),
            WEIR_OK);
    }
    push(bench, 6, step, others, 9);
    push(bench, 5, step, 3, bad);
    ck_assert_uint_eq(weir_server_step(bench->server), step);
}

START_TEST(a_row_is_left_out_while_its_copy_is_right) {
    bench_t bench;
    set_up(&bench, WEIR_CONSISTENCY_BSP);
    play_step(&bench, 1, 0, 7, 0, 1, 9);  /* row 0 of both */
    play_step(&bench, 2, 7, 7, 6, 0, 9);  /* rows 1 and 2 were its own: copies */
    play_step(&bench, 3, 7, 1, 1, 0, 1);  /* now row 0 too; row 1 is not updated */
    play_step(&bench, 4, 7, 2, 0, 1, 9);  /* so its copy counts no more */
    play_step(&bench, 5, 7, 3, 2, 0, 9);  /* row 0 was of both; a copy of row 1 */
    play_step(&bench, 6, 3, 5, 1, 0, 9);  /* row 2 was not held any more */
    play_step(&bench, 7, 7, 4, 4, 0, 9);  /* held anew: a copy */
    play_step(&bench, 8, 7, 0, 0, 0, 9);  /* all are right */
    play_step(&bench, 9, 0, 7, 0, 3, 9);  /* none is held */
    play_step(&bench, 10, 7, 7, 0, 0, 9); /* all were of both */
    weir_server_counters_t counters = weir_server_counters(bench.server);
    ck_assert_uint_eq(counters.rows_left_out, 0 + 0 + 2 + 2 + 1 + 1 + 2 + 3);
    ck_assert_uint_eq(counters.rows_copied, 2 + 1 + 0 + 1 + 1 + 1);
    tear_down(&bench);
}
END_TEST

START_TEST(a_worker_has_no_part_in_the_copies_of_another) {
    bench_t bench;
    set_up(&bench, WEIR_CONSISTENCY_BSP);
    play_step(&bench, 1, 0, 7, 0, 0, 9);
    play_step(&bench, 2, 7, 7, 7, 0, 9);
    pull(&bench, 6, 3, 3, 7); /* says that it holds what worker 5 holds */
    const uint64_t *bits = bench.last.payload;
    ck_assert(bits[0] == 7 && bits[1] == 0);
    tear_down(&bench);
}
END_TEST

START_TEST(a_copy_ends_with_the_number_of_updates) {
    bench_t bench;
    uint64_t updates;
    set_up(&bench, WEIR_CONSISTENCY_BSP);
    for (uint64_t step = 1; step <= 3; step++) {
        play_step(&bench, step, 0, 7, 0, 0, 9);
    }
    pull(&bench, 5, 4, 3, 7);
    for (size_t i = 0; i < 3; i++) {
        memcpy(&updates, (const char *)bench.last.payload + 16 + i * (RECORD + 8) + RECORD, 8);
        ck_assert_uint_eq(updates, 3);
    }
    tear_down(&bench);
}
END_TEST

START_TEST(pulls_whose_bits_do_not_fit_are_refused) {
    static const struct {
        const char *reason;
        weir_consistency_t consistency;
        uint16_t flags;
        uint32_t count;
        uint64_t held;
        size_t cut;
    } offences[] = {
        {"not bsp", WEIR_CONSISTENCY_SSP, 1, 3, 0, 0},
        {"not bsp", WEIR_CONSISTENCY_ASP, 1, 3, 0, 0},
        {"flags", WEIR_CONSISTENCY_BSP, 2, 3, 0, 0},
        {"flags", WEIR_CONSISTENCY_BSP, 1, 0, 0, 0},
        {"flags", WEIR_CONSISTENCY_BSP, 0x101, 3, 0, 0},
        {"another length", WEIR_CONSISTENCY_BSP, 0, 3, 0, 0},
        {"another length", WEIR_CONSISTENCY_BSP, 1, 3, 0, 8},
        {"another length", WEIR_CONSISTENCY_BSP, 1, 3, 0, 1},
        {"fewer than its bits", WEIR_CONSISTENCY_BSP, 1, 3, 8, 0},
        {"fewer than its bits", WEIR_CONSISTENCY_BSP, 1, 3, (uint64_t)1 << 63, 0},
    };
    for (size_t n = 0; n < sizeof offences / sizeof *offences; n++) {
        bench_t bench;
        set_up(&bench, offences[n].consistency);
        weir_err_t err = send_pull(&bench, 5, 1, offences[n].count, offences[n].held,
                                   offences[n].flags, offences[n].cut);
        ck_assert_int_eq(err, WEIR_ERR_PEER);
        ck_assert_msg(strstr(bench.error.message, offences[n].reason) != NULL &&
                          strstr(bench.error.message, "rank 5") != NULL,
                      "%zu: '%s' does not say '%s'", n, bench.error.message, offences[n].reason);
        ck_assert_int_eq(send_pull(&bench, 6, 1, 3, 0, 1, 0), WEIR_ERR_PEER);
        tear_down(&bench);
    }
}
END_TEST

/* ---- a client against a server that the test plays ---- */

enum { KEYS = 7, ALL = (1 << KEYS) - 1 };

static void open_client(played_job_t *job) {
    static const size_t rows[WIRE_TABLES] = {20, 20, 20};
    weir_row_schema_t schemas[WIRE_TABLES];
    played_open(job, 1, 0, WAIT_SECONDS);
    weir_ps_client_destroy(job->client);
    wire_schemas(schemas);
    weir_ps_client_options_t options = played_options(job, schemas);
    options.timeout = WAIT_SECONDS;
    options.cache_rows = rows;
    for (uint32_t k = 0; k < WIRE_TABLES; k++) {
        for (uint32_t i = 0; i < schemas[k].segment_count; i++) {
            schemas[k].segments[i].optimizer =
                (weir_optimizer_settings_t){.learning_rate = 0.1, .epsilon = 1e-8};
        }
    }
    ck_assert_msg(weir_ps_client_create(&options, &job->client, &job->error) == WEIR_OK, "%s",
                  job->error.message);
}

/* Read the request, whose held bits must be `held`. */
static void read_request(played_job_t *job, played_pull_t *pull, uint64_t held) {
    uint64_t bits;
    weir_frame_t frame = played_take(job, 0, WEIR_FRAME_PULL_REQ);
    ck_assert_uint_eq(frame.header.flags, 1);
    frame.header.flags = 0;
    frame.header.payload_size -= sizeof bits;
    memcpy(&bits, (const char *)frame.payload + frame.header.payload_size, sizeof bits);
    ck_assert_uint_eq(bits, held);
    ck_assert(wire_read_pull(frame, &pull->requests[0]));
}

/* All rows, as values, behind two words of bits. */
static weir_frame_t answer_of(const played_pull_t *pull, uint64_t sent, uint64_t copies) {
    weir_frame_t rows = wire_answer(&pull->requests[0], 0, NULL, true), frame = rows;
    frame.header.flags = 4;
    frame.header.payload_size += 16;
    frame.payload = weir_buffer_acquire((size_t)frame.header.payload_size);
    ck_assert_ptr_nonnull(frame.payload);
    memcpy(frame.payload, (const uint64_t[]){sent, copies}, 16);
    memcpy((char *)frame.payload + 16, rows.payload, (size_t)rows.header.payload_size);
    weir_buffer_release(rows.payload);
    return frame;
}

static void begin_step(played_job_t *job, played_pull_t *pull, uint64_t step, uint64_t held) {
    pull->step = step;
    ck_assert_msg(played_begin(job, pull) == WEIR_OK, "%s", job->error.message);
    read_request(job, pull, held);
}

static void end_step(played_job_t *job, played_pull_t *pull) {
    played_post(job, FIRST_PS, answer_of(pull, ALL, 0));
    ck_assert_msg(played_finish(job, pull) == WEIR_OK, "%s", job->error.message);
    played_check_values(pull);
    played_push(job, pull);
    played_release(pull);
}

typedef struct {
    const char *reason;
    uint64_t held, sent, copies;
    uint16_t flags;
    int count, bytes; /* added to what all rows as values would have */
} wrong_answer_t;

static const wrong_answer_t wrong_answers[] = {
    {"answered otherwise", ALL, ALL, 0, 0, 0, 0},  {"answered otherwise", ALL, ALL, 0, 1, 0, 0},
    {"answered otherwise", ALL, ALL, 0, 5, 0, 0},  {"before its bits", ALL, ALL, 0, 4, 0, -1000},
    {"beyond", ALL, ALL + 1, 0, 4, 0, 0},          {"beyond", ALL, ALL, (uint64_t)1 << 63, 4, 0, 0},
    {"a copy of a row", ALL, ALL - 1, 1, 4, 0, 0}, {"a copy of a row", 0, ALL, 4, 4, 0, 0},
    {"was not held", 0, ALL - 1, 0, 4, -1, 0},     {"another number", ALL, ALL, 0, 4, -1, 0},
    {"another number", ALL, ALL - 1, 0, 4, 0, 0},  {"its length", ALL, ALL, 0, 4, 0, 4},
    {"its length", ALL, ALL, 0, 4, 0, -4},         {"its length", ALL, ALL, 1, 4, 0, 0},
    {"its length", ALL, 0, 0, 4, -KEYS, 0},
};

START_TEST(answers_of_copies_that_do_not_fit_are_refused) {
    static played_pull_t pull_of_all;
    for (size_t n = 0; n < sizeof wrong_answers / sizeof *wrong_answers; n++) {
        const wrong_answer_t *wrong = &wrong_answers[n];
        played_job_t job;
        open_client(&job);
        played_keys(&pull_of_all, 1, (const size_t[]){3, 2, 2});
        begin_step(&job, &pull_of_all, 1, 0); /* never seen */
        end_step(&job, &pull_of_all);
        begin_step(&job, &pull_of_all, 2, 0); /* seen: places from now on */
        if (wrong->held != 0) {
            end_step(&job, &pull_of_all);
            begin_step(&job, &pull_of_all, 3, ALL);
        }
        weir_frame_t frame = answer_of(&pull_of_all, wrong->sent, wrong->copies);
        frame.header.flags = wrong->flags;
        frame.header.count += (uint32_t)wrong->count;
        if (wrong->bytes < -16) {
            frame.header.payload_size = 15;
        } else if (wrong->bytes != 0) {
            weir_frame_t other = frame;
            other.header.payload_size += (uint64_t)(int64_t)wrong->bytes;
            other.payload = weir_buffer_acquire((size_t)other.header.payload_size);
            memset(other.payload, 0, (size_t)other.header.payload_size);
            memcpy(other.payload, frame.payload, 32);
            weir_buffer_release(frame.payload);
            frame = other;
        }
        played_post(&job, FIRST_PS, frame);
        ck_assert_int_eq(played_finish(&job, &pull_of_all), WEIR_ERR_PEER);
        ck_assert_msg(strstr(job.error.message, wrong->reason) != NULL, "%zu: '%s', not '%s'", n,
                      job.error.message, wrong->reason);
        played_release(&pull_of_all);
        played_close(&job);
    }
}
END_TEST

START_TEST(a_row_that_is_left_out_must_be_here) {
    static played_pull_t pull_of_all;
    played_job_t job;
    open_client(&job);
    played_keys(&pull_of_all, 1, (const size_t[]){3, 2, 2});
    for (uint64_t step = 1; step <= 3; step++) { /* held, but sent as values: no copies */
        begin_step(&job, &pull_of_all, step, step == 3 ? ALL : 0);
        if (step < 3) {
            end_step(&job, &pull_of_all);
        }
    }
    uint64_t none[2] = {0};
    weir_frame_t frame = {
        .header = {.type = WEIR_FRAME_PULL_REP, .flags = 4, .step = 3, .payload_size = sizeof none},
        .payload = weir_buffer_acquire(sizeof none)};
    ck_assert_ptr_nonnull(frame.payload);
    memcpy(frame.payload, none, sizeof none);
    played_post(&job, FIRST_PS, frame);
    ck_assert_int_eq(played_finish(&job, &pull_of_all), WEIR_ERR_PEER);
    ck_assert_ptr_nonnull(strstr(job.error.message, "left 7 rows out"));
    played_release(&pull_of_all);
    played_close(&job);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("ps_copies_wire");
    TCase *t = tcase_create("ps_copies_wire");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, a_row_is_left_out_while_its_copy_is_right);
    tcase_add_test(t, a_worker_has_no_part_in_the_copies_of_another);
    tcase_add_test(t, a_copy_ends_with_the_number_of_updates);
    tcase_add_test(t, pulls_whose_bits_do_not_fit_are_refused);
    tcase_add_test(t, answers_of_copies_that_do_not_fit_are_refused);
    tcase_add_test(t, a_row_that_is_left_out_must_be_here);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
