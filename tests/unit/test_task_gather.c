/* Metrics of tasks over workers in threads: all of them end with the samples of all. */
#include "common/comm.h"
#include "tests/suite.h"
#include "worker/task_gather.h"

#include <pthread.h>
#include <string.h>

enum { MAX_WORKERS = 3, SAMPLES = 900 };

static const weir_task_kind_t kinds[2] = {WEIR_TASK_BINARY, WEIR_TASK_REGRESSION};

typedef struct {
    weir_comm_t *comm;
    uint32_t worker, workers;
    weir_task_result_t results[2];
    weir_err_t err;
    weir_error_t error;
} member_t;

/* Worker w counts the samples of users u with u mod W = w. */
static weir_err_t count(weir_exchange_t *exchange, member_t *member) {
    weir_task_metrics_t *metrics = NULL;
    weir_err_t err = weir_task_metrics_create(kinds, 2, 100000, &metrics, &member->error);
    for (uint32_t i = 0; i < SAMPLES && err == WEIR_OK; i++) {
        uint64_t user = i % 31;
        float score = (float)((i * 37) % 101) / 25.0f - 2.0f;
        if (user % member->workers == member->worker) {
            err = weir_task_metrics_add(metrics, 0, user, (float)(i * 7 % 5 < 2), score,
                                        &member->error);
        }
        if (err == WEIR_OK && user % member->workers == member->worker) {
            err = weir_task_metrics_add(metrics, 1, user, (float)i * 0.1f, score, &member->error);
        }
    }
    if (err == WEIR_OK && exchange != NULL) {
        err = weir_task_gather_merge(exchange, 4, 10, metrics, &member->error);
    }
    for (size_t task = 0; task < 2 && err == WEIR_OK; task++) {
        err = weir_task_metrics_result(metrics, task, &member->results[task], &member->error);
    }
    weir_task_metrics_destroy(metrics);
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
    weir_exchange_options_t given = {.comm_thread = thread,
                                     .worker = member->worker,
                                     .workers = member->workers,
                                     .timeout = 60.0};
    member->err = weir_exchange_create(&given, &exchange, &member->error);
    if (member->err == WEIR_OK) {
        member->err = count(exchange, member);
    }
    weir_exchange_destroy(exchange);
    if (weir_comm_thread_stop(thread, 10.0, NULL) != WEIR_OK && member->err == WEIR_OK) {
        member->err = WEIR_ERR_TIMEOUT;
    }
    return NULL;
}

START_TEST(all_workers_have_the_result_of_one_bit_for_bit) {
    member_t alone = {.workers = 1};
    ck_assert_int_eq(count(NULL, &alone), WEIR_OK);
    ck_assert_uint_eq(alone.results[0].samples, SAMPLES);
    for (uint32_t workers = 2; workers <= MAX_WORKERS; workers++) {
        member_t members[MAX_WORKERS];
        pthread_t threads[MAX_WORKERS];
        weir_comm_t *comms[MAX_WORKERS];
        memset(members, 0, sizeof members);
        ck_assert_int_eq(weir_comm_loop_create(workers, comms, NULL), WEIR_OK);
        for (uint32_t w = 0; w < workers; w++) {
            members[w].comm = comms[w];
            members[w].worker = w;
            members[w].workers = workers;
            ck_assert_int_eq(pthread_create(&threads[w], NULL, play, &members[w]), 0);
        }
        for (uint32_t w = 0; w < workers; w++) {
            ck_assert_int_eq(pthread_join(threads[w], NULL), 0);
        }
        for (uint32_t w = 0; w < workers; w++) {
            ck_assert_msg(members[w].err == WEIR_OK, "%s", members[w].error.message);
            for (size_t task = 0; task < 2; task++) {
                char one[1024], other[1024];
                weir_task_result_to_json(&alone.results[task], one, sizeof one);
                weir_task_result_to_json(&members[w].results[task], other, sizeof other);
                ck_assert_str_eq(one, other);
            }
            weir_comm_destroy(comms[w]);
        }
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("task_gather");
    TCase *t = tcase_create("task_gather");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, all_workers_have_the_result_of_one_bit_for_bit);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
