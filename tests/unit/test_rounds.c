/* Workers with different amounts of work, in threads: nobody's wait lasts as long as the longest
 * work, and nobody leaves before all are done. */
#include "common/clock.h"
#include "common/comm.h"
#include "tests/suite.h"
#include "worker/rounds.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { WORKERS = 3 };
#define TIMEOUT 2.0

typedef struct {
    weir_comm_t *comm;
    uint32_t worker;
    int pieces; /* of TIMEOUT / 8 seconds each */
    bool pauses;
    weir_err_t err;
    weir_error_t error;
} member_t;

static _Atomic int at_work;

static weir_err_t work(member_t *member, weir_exchange_t *exchange) {
    weir_rounds_t rounds = {.exchange = exchange, .sequence = 3, .interval = TIMEOUT / 8.0};
    weir_err_t err = WEIR_OK;
    for (int i = 0; i < member->pieces && err == WEIR_OK; i++) {
        weir_clock_sleep(TIMEOUT / 8.0);
        err = member->pauses ? weir_rounds_pause(&rounds, &member->error) : WEIR_OK;
    }
    atomic_fetch_sub(&at_work, 1);
    if (err == WEIR_OK) {
        err = weir_rounds_finish(&rounds, &member->error);
    }
    if (err == WEIR_OK && atomic_load(&at_work) != 0) {
        err = weir_errorf(&member->error, WEIR_ERR_PEER, "a worker left before all were done");
    }
    return err;
}

static void *play(void *argument) {
    member_t *member = argument;
    weir_comm_thread_t *thread = NULL;
    weir_exchange_t *exchange = NULL;
    weir_comm_thread_options_t options = {.comm = member->comm, .control_fd = -1};
    member->err = weir_comm_thread_start(&options, &thread, &member->error);
    if (member->err != WEIR_OK) {
        return NULL;
    }
    weir_exchange_options_t given = {
        .comm_thread = thread, .worker = member->worker, .workers = WORKERS, .timeout = TIMEOUT};
    member->err = weir_exchange_create(&given, &exchange, &member->error);
    if (member->err == WEIR_OK) {
        member->err = work(member, exchange);
    }
    weir_exchange_destroy(exchange);
    if (weir_comm_thread_stop(thread, 10.0, NULL) != WEIR_OK && member->err == WEIR_OK) {
        member->err = WEIR_ERR_TIMEOUT;
    }
    return NULL;
}

static void run(member_t members[WORKERS], const int pieces[WORKERS], bool pauses) {
    pthread_t threads[WORKERS];
    weir_comm_t *comms[WORKERS];
    memset(members, 0, WORKERS * sizeof *members);
    atomic_store(&at_work, WORKERS);
    ck_assert_int_eq(weir_comm_loop_create(WORKERS, comms, NULL), WEIR_OK);
    for (uint32_t w = 0; w < WORKERS; w++) {
        members[w].comm = comms[w];
        members[w].worker = w;
        members[w].pieces = pieces[w];
        members[w].pauses = pauses;
        ck_assert_int_eq(pthread_create(&threads[w], NULL, play, &members[w]), 0);
    }
    for (uint32_t w = 0; w < WORKERS; w++) {
        ck_assert_int_eq(pthread_join(threads[w], NULL), 0);
        weir_comm_destroy(comms[w]);
    }
}

START_TEST(work_longer_than_the_timeout_is_waited_for) {
    static const int pieces[WORKERS] = {0, 12, 3}; /* 12 of them are 1.5 timeouts */
    member_t members[WORKERS];
    run(members, pieces, true);
    for (uint32_t w = 0; w < WORKERS; w++) {
        ck_assert_msg(members[w].err == WEIR_OK, "worker %u: %s", w, members[w].error.message);
    }
}
END_TEST

START_TEST(without_pauses_the_wait_ends) {
    static const int pieces[WORKERS] = {0, 12, 0};
    member_t members[WORKERS];
    run(members, pieces, false);
    ck_assert_int_eq(members[0].err, WEIR_ERR_TIMEOUT);
    ck_assert_int_eq(members[2].err, WEIR_ERR_TIMEOUT);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("rounds");
    TCase *t = tcase_create("rounds");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, work_longer_than_the_timeout_is_waited_for);
    tcase_add_test(t, without_pauses_the_wait_ends);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
