/* Peeks against servers that the test plays. */
#include "tests/suite.h"
#include "tests/unit/ps_played.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* ---- peeks ---- */

typedef enum { HONEST, WRONG_TABLE, WRONG_NUMBER, ONE_MORE, TOO_SHORT, OLD } lie_t;

/* Answers peeks of `table` until it is over. */
typedef struct {
    played_job_t *job;
    uint32_t server, table;
    atomic_bool *over;
    uint64_t step; /* applied */
    lie_t lie;
    uint64_t named; /* step in the requests */
    uint32_t pieces;
    size_t most_keys; /* of a piece */
} peek_server_t;

static void *answer_peeks(void *argument) {
    peek_server_t *mine = argument;
    size_t row = wire_row_bytes(mine->table);
    while (!atomic_load(mine->over)) {
        weir_frame_t request = {.payload = NULL}, frame = {.payload = NULL};
        bool received = false;
        weir_err_t err =
            weir_comm_thread_take(mine->job->threads[FIRST_PS + mine->server],
                                  1u << WEIR_FRAME_PEEK_REQ, 0.01, &request, &received, NULL);
        if (err == WEIR_OK && !received) {
            continue;
        }
        if (err != WEIR_OK || request.header.flags != mine->table ||
            request.header.payload_size != request.header.count * sizeof(weir_key_t)) {
            return NULL; /* the client waits in vain, and says so */
        }
        const weir_key_t *keys = request.payload;
        size_t count = request.header.count;
        mine->named = request.header.step;
        mine->pieces++;
        mine->most_keys = count > mine->most_keys ? count : mine->most_keys;
        frame.header = (weir_frame_header_t){
            .type = WEIR_FRAME_PEEK_REP,
            .flags = (uint16_t)(request.header.flags + (mine->lie == WRONG_TABLE)),
            .step = mine->lie == OLD ? mine->step - 1 : mine->step,
            .sequence = request.header.sequence + (mine->lie == WRONG_NUMBER),
            .count = (uint32_t)(count + (mine->lie == ONE_MORE)),
            .payload_size = count * row - (mine->lie == TOO_SHORT ? 4 : 0)};
        frame.payload = weir_buffer_acquire(count * row);
        for (size_t i = 0; i < count && frame.payload != NULL; i++) {
            wire_row(mine->table, keys[i], mine->step, (uint8_t *)frame.payload + i * row);
        }
        weir_buffer_release(request.payload);
        if (weir_comm_thread_post(mine->job->threads[FIRST_PS + mine->server],
                                  FIRST_PS + mine->job->ps, frame, NULL) != WEIR_OK) {
            return NULL;
        }
    }
    return NULL;
}

static weir_err_t peek_with(played_job_t *job, peek_server_t *servers, const weir_key_t *keys,
                            size_t count, float *values) {
    pthread_t threads[MAX_PS];
    atomic_bool over = false;
    for (uint32_t server = 0; server < job->ps; server++) {
        servers[server].over = &over;
        ck_assert_int_eq(pthread_create(&threads[server], NULL, answer_peeks, &servers[server]), 0);
    }
    weir_err_t err =
        weir_ps_client_peek(job->client, servers[0].table, keys, count, values, &job->error);
    atomic_store(&over, true);
    for (uint32_t server = 0; server < job->ps; server++) {
        ck_assert_int_eq(pthread_join(threads[server], NULL), 0);
    }
    return err;
}

START_TEST(a_peek_of_many_keys_goes_in_pieces_and_comes_back_in_order) {
    enum { COUNT = 600000 };
    weir_key_t *keys = malloc(COUNT * sizeof *keys);
    float *values = malloc((size_t)COUNT * WIRE_MAX_DIM * sizeof *values);
    ck_assert(keys != NULL && values != NULL);
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = i / 2; /* every key twice */
    }
    for (uint32_t table = 0; table < WIRE_TABLES; table++) {
        played_job_t job;
        played_open(&job, 2, 0, WAIT_SECONDS);
        peek_server_t servers[2];
        for (uint32_t server = 0; server < 2; server++) {
            servers[server] = (peek_server_t){.job = &job, .server = server, .table = table};
        }
        ck_assert_msg(peek_with(&job, servers, keys, COUNT, values) == WEIR_OK, "%s",
                      job.error.message);
        ck_assert_uint_eq(wire_wrong_rows(table, keys, COUNT, 0, values), 0);
        ck_assert_uint_gt(servers[0].pieces, 1);
        ck_assert_uint_lt(servers[0].most_keys * wire_row_bytes(table), 5 << 20);
        ck_assert_int_eq(weir_ps_client_peek(job.client, table, NULL, 0, values, &job.error),
                         WEIR_OK);
        played_close(&job);
    }
    free(keys);
    free(values);
}
END_TEST

START_TEST(a_peek_names_the_last_push_and_refuses_what_does_not_fit) {
    static played_pull_t pull;
    const weir_key_t keys[] = {1, 2, 3, 4, 5, 6, 7, 8, 3, 1};
    enum { COUNT = sizeof keys / sizeof *keys };
    float values[COUNT * WIRE_MAX_DIM];
    for (lie_t lie = HONEST; lie <= OLD; lie++) {
        played_job_t job;
        played_open(&job, 1, 0, WAIT_SECONDS);
        peek_server_t server = {.job = &job, .table = 2, .step = 9, .lie = lie};
        played_keys(&pull, 9, (const size_t[]){3, 3, 3});
        ck_assert_int_eq(played_begin(&job, &pull), WEIR_OK);
        played_read_requests(&job, &pull);
        played_post(&job, FIRST_PS, wire_answer(&pull.requests[0], 0, NULL, true));
        ck_assert_int_eq(played_finish(&job, &pull), WEIR_OK);
        played_push(&job, &pull);
        weir_err_t err = peek_with(&job, &server, keys, COUNT, values);
        ck_assert_uint_eq(server.named, 9);
        ck_assert_int_eq(err, lie == HONEST ? WEIR_OK : WEIR_ERR_PEER);
        if (lie == HONEST) {
            ck_assert_uint_eq(wire_wrong_rows(2, keys, COUNT, 9, values), 0);
        } else {
            ck_assert_msg(strstr(job.error.message, "rank 1 ") != NULL, "%s", job.error.message);
        }
        played_release(&pull);
        played_close(&job);
    }
}
END_TEST

START_TEST(a_peek_that_is_not_answered_names_the_rank) {
    played_job_t job;
    float values[WIRE_MAX_DIM];
    weir_key_t key = 1;
    while (weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), 3) != 2) {
        key++;
    }
    played_open(&job, 3, 0, 0.05);
    ck_assert_int_eq(weir_ps_client_peek(job.client, 1, &key, 1, values, &job.error),
                     WEIR_ERR_TIMEOUT);
    ck_assert_msg(strstr(job.error.message, "rank 3 (server 2 of 3)") != NULL &&
                      strstr(job.error.message, "peek") != NULL,
                  "%s", job.error.message);
    ck_assert_int_eq(weir_ps_client_peek(job.client, WIRE_TABLES, &key, 1, values, &job.error),
                     WEIR_ERR_INVALID);
    played_close(&job);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("ps_client_peek");
    TCase *t = tcase_create("ps_client_peek");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, a_peek_of_many_keys_goes_in_pieces_and_comes_back_in_order);
    tcase_add_test(t, a_peek_names_the_last_push_and_refuses_what_does_not_fit);
    tcase_add_test(t, a_peek_that_is_not_answered_names_the_rank);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
