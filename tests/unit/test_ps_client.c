/* Pulls and pushes against servers that the test plays. */
#include "tests/suite.h"
#include "tests/unit/ps_played.h"

#include <string.h>

/* ---- answers in any order ---- */

/* Frames of one server to one pull that have not been posted. */
typedef struct {
    uint64_t bits[(WIRE_TABLES * MAX_KEYS + 63) / 64];
    uint32_t left; /* 2: first and rest; 1: whole, or the rest */
    bool parts;
} answer_t;

static uint64_t draw(uint64_t *state) {
    return weir_hash64((*state)++);
}

static void plan_answer(const wire_pull_t *request, uint64_t *state, answer_t *answer) {
    size_t chosen = 0;
    *answer = (answer_t){.left = 1};
    for (size_t i = 0; i < request->count; i++) {
        bool set = draw(state) % 3 != 0;
        answer->bits[i / 64] |= (uint64_t)set << i % 64;
        chosen += set;
    }
    if (chosen > 0 && chosen < request->count && draw(state) % 4 != 0) {
        answer->parts = true;
        answer->left = 2;
    }
}

static void post_next(played_job_t *job, const played_pull_t *pull, uint32_t server,
                      answer_t *answer, uint64_t *rows_first) {
    const wire_pull_t *request = &pull->requests[server];
    bool first = answer->left == 2;
    weir_frame_t frame = wire_answer(request,
                                     first           ? 1
                                     : answer->parts ? 2
                                                     : 0,
                                     answer->parts ? answer->bits : NULL, first);
    *rows_first += first ? frame.header.count : 0;
    answer->left--;
    played_post(job, FIRST_PS + server, frame);
}

/* Post answers to the pulls under way, in a random order, until that to the oldest is complete. */
static void post_some(played_job_t *job, const played_pull_t *pulls, answer_t (*answers)[MAX_PS],
                      uint64_t oldest, uint64_t begun, uint64_t *state, uint64_t *rows_first) {
    for (;;) {
        uint32_t open = 0;
        for (uint32_t server = 0; server < job->ps; server++) {
            open += answers[oldest % MAX_RING][server].left;
        }
        if (open == 0) {
            return;
        }
        uint64_t n = oldest + draw(state) % (begun - oldest);
        uint32_t server = (uint32_t)(draw(state) % job->ps);
        if (answers[n % MAX_RING][server].left > 0) {
            post_next(job, &pulls[n % MAX_RING], server, &answers[n % MAX_RING][server],
                      rows_first);
        }
    }
}

static void run_steps(uint32_t ps, uint32_t ahead, uint64_t steps) {
    static played_pull_t pulls[MAX_RING];
    answer_t answers[MAX_RING][MAX_PS];
    played_job_t job;
    uint64_t state = ps * 1000 + ahead, begun = 0, rows = 0, rows_first = 0;
    played_open(&job, ps, ahead, WAIT_SECONDS);
    for (uint64_t n = 0; n < steps; n++) {
        for (; begun < steps && begun <= n + ahead; begun++) {
            played_pull_t *pull = &pulls[begun % MAX_RING];
            size_t counts[WIRE_TABLES];
            for (uint32_t k = 0; k < WIRE_TABLES; k++) {
                counts[k] = draw(&state) % 4 == 0 ? 0 : draw(&state) % (MAX_KEYS + 1);
                rows += counts[k];
            }
            played_keys(pull, 11 + begun, counts);
            ck_assert_msg(played_begin(&job, pull) == WEIR_OK, "%s", job.error.message);
            played_read_requests(&job, pull);
            for (uint32_t server = 0; server < ps; server++) {
                plan_answer(&pull->requests[server], &state, &answers[begun % MAX_RING][server]);
            }
        }
        played_pull_t *oldest = &pulls[n % MAX_RING];
        if (begun - n == ahead + 1) { /* one more is refused, and leaves no trace */
            static played_pull_t more;
            played_keys(&more, 11 + begun, (const size_t[WIRE_TABLES]){0});
            ck_assert_int_eq(played_begin(&job, &more), WEIR_ERR_INVALID);
        }
        post_some(&job, pulls, answers, n, begun, &state, &rows_first);
        ck_assert_msg(played_finish(&job, oldest) == WEIR_OK, "%s", job.error.message);
        played_check_values(oldest);
        played_push(&job, oldest);
        played_release(oldest);
    }
    weir_ps_client_counters_t counters = weir_ps_client_counters(job.client);
    ck_assert_uint_eq(counters.keys_pulled, rows);
    ck_assert_uint_ge(counters.rows_early, rows_first);
    ck_assert_uint_le(counters.rows_early, rows);
    played_close(&job);
}

START_TEST(rows_come_to_their_places_whatever_the_order_of_answers) {
    for (uint32_t ps = 1; ps <= MAX_PS; ps++) {
        for (uint32_t ahead = 0; ahead < MAX_RING; ahead++) {
            run_steps(ps, ahead, 12);
        }
    }
}
END_TEST

/* ---- calls ---- */

START_TEST(calls_out_of_turn_are_refused) {
    static played_pull_t pull;
    const float *gradients[WIRE_TABLES] = {NULL};
    played_job_t job;
    played_open(&job, 1, 1, WAIT_SECONDS);
    played_keys(&pull, 7, (const size_t[]){2, 0, 0});
    ck_assert_int_eq(played_finish(&job, &pull), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_ps_client_push(job.client, gradients, &job.error), WEIR_ERR_INVALID);
    ck_assert_int_eq(played_begin(&job, &pull), WEIR_OK);
    ck_assert_int_eq(weir_ps_client_push(job.client, gradients, &job.error), WEIR_ERR_INVALID);
    ck_assert_int_eq(played_begin(&job, &pull), WEIR_ERR_INVALID); /* step 7 again */
    played_read_requests(&job, &pull);
    played_post(&job, FIRST_PS, wire_answer(&pull.requests[0], 0, NULL, true));
    ck_assert_int_eq(played_finish(&job, &pull), WEIR_OK);
    ck_assert_int_eq(played_finish(&job, &pull), WEIR_ERR_INVALID);
    played_push(&job, &pull);
    ck_assert_int_eq(weir_ps_client_push(job.client, gradients, &job.error), WEIR_ERR_INVALID);
    played_release(&pull);
    played_keys(&pull, 9, (const size_t[]){1, 0, 0}); /* step 8 is missing */
    ck_assert_int_eq(played_begin(&job, &pull), WEIR_ERR_INVALID);
    played_close(&job);
}
END_TEST

START_TEST(options_out_of_range_are_refused) {
    weir_row_schema_t schemas[WEIR_ROW_MAX_SEGMENTS];
    weir_ps_client_t *client = NULL;
    played_job_t job;
    played_open(&job, 1, 0, WAIT_SECONDS);
    wire_schemas(schemas);
    weir_ps_client_options_t wrong[8];
    for (size_t i = 0; i < 8; i++) {
        wrong[i] = played_options(&job, schemas);
    }
    wrong[0].ps = 0;
    wrong[1].ps = WEIR_SLOT_COUNT + 1;
    wrong[2].timeout = 0.0;
    wrong[3].table_count = 0;
    wrong[4].table_count = 9;
    wrong[5].ahead = 65;
    wrong[6].timeout = -1.0;
    for (size_t i = 0; i < 7; i++) {
        weir_error_t error = {0};
        ck_assert_int_eq(weir_ps_client_create(&wrong[i], &client, &error), WEIR_ERR_INVALID);
        ck_assert_str_ne(error.message, "");
    }
    schemas[2].segments[1].dim = 0;
    ck_assert_int_eq(weir_ps_client_create(&wrong[7], &client, NULL), WEIR_ERR_INVALID);
    ck_assert_ptr_null(client);
    played_close(&job);
}
END_TEST

/* What all tables have together must fit into a frame, on every way. */
START_TEST(a_pull_that_no_frame_holds_is_refused_before_anything_is_sent) {
    enum { WIDE = WEIR_ROW_MAX_DIM, MANY = 20000 };
    static weir_key_t many[MANY];
    weir_row_schema_t schemas[WIRE_TABLES];
    weir_ps_client_t *client = NULL;
    played_job_t job;
    played_open(&job, 1, 0, WAIT_SECONDS);
    wire_schemas(schemas);
    schemas[0].segment_count = schemas[2].segment_count = 1;
    schemas[0].segments[0].dim = schemas[1].segments[0].dim = schemas[2].segments[0].dim = WIDE;
    weir_ps_client_options_t options = played_options(&job, schemas);
    ck_assert_int_eq(weir_ps_client_create(&options, &client, NULL), WEIR_OK);
    for (size_t i = 0; i < MANY; i++) {
        many[i] = i;
    }
    /* 2^18 bytes a float32 row, as a row and as a gradient; an int8 row is a quarter of that. */
    static const size_t counts[][WIRE_TABLES] = {{8193, 8192, 0}, {0, 0, 16385}, {16385, 0, 0}};
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++) {
        weir_ps_keys_t keys[WIRE_TABLES];
        for (uint32_t k = 0; k < WIRE_TABLES; k++) {
            keys[k] = (weir_ps_keys_t){.keys = many, .count = counts[n][k]};
        }
        ck_assert_int_eq(weir_ps_client_pull_begin(client, 1, keys, &job.error), WEIR_ERR_INVALID);
        ck_assert_msg(strstr(job.error.message, "frame") != NULL, "%s", job.error.message);
    }
    weir_ps_keys_t fitting[WIRE_TABLES] = {{many, 8190}, {many, 8190}, {many, 3}};
    ck_assert_int_eq(weir_ps_client_pull_begin(client, 1, fitting, &job.error), WEIR_OK);
    wire_pull_t request;
    ck_assert(wire_read_pull(played_take(&job, 0, WEIR_FRAME_PULL_REQ), &request));
    ck_assert_uint_eq(request.count, 2 * 8190 + 3);
    wire_release_pull(&request);
    weir_ps_client_destroy(client);
    played_close(&job);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("ps_client");
    TCase *t = tcase_create("ps_client");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, rows_come_to_their_places_whatever_the_order_of_answers);
    tcase_add_test(t, calls_out_of_turn_are_refused);
    tcase_add_test(t, options_out_of_range_are_refused);
    tcase_add_test(t, a_pull_that_no_frame_holds_is_refused_before_anything_is_sent);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
