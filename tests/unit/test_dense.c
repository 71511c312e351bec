/* Workers as threads over the in-process transport. */
#include "common/clock.h"
#include "common/comm.h"
#include "tests/suite.h"
#include "worker/dense.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

/* Three buckets; in the last one there is something for one worker alone. */
enum { ELEMENTS = 32769, STEPS = 4, MAX_WORKERS = 3 };

static const weir_dense_options_t adamw = {
    .learning_rate = 1e-2, .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-8, .weight_decay = 0.1};

typedef struct {
    weir_comm_t *comm;
    uint32_t worker, workers;
    float *parameters, *m, *v; /* results, ELEMENTS each */
    uint64_t checksum;
    weir_err_t err;
    weir_error_t error;
} member_t;

static float initial_value(size_t i) {
    return (float)((double)(i % 97) / 97.0 - 0.5);
}

static float gradient_of(uint32_t worker, uint64_t step, size_t i) {
    return (float)(sin((double)(i * 7 + worker * 131 + step * 17)) * 0.3);
}

static weir_err_t train_member(member_t *member, weir_comm_thread_t *thread) {
    weir_exchange_options_t options = {.comm_thread = thread,
                                       .first_worker_rank = 0,
                                       .worker = member->worker,
                                       .workers = member->workers,
                                       .timeout = 30.0};
    weir_exchange_t *exchange = NULL;
    weir_dense_t *dense = NULL;
    weir_err_t err = weir_exchange_create(&options, &exchange, &member->error);
    if (err == WEIR_OK) {
        err = weir_dense_create(ELEMENTS, &adamw, exchange, &dense, &member->error);
    }
    for (size_t i = 0; i < ELEMENTS && err == WEIR_OK; i++) {
        weir_dense_parameters(dense)[i] = initial_value(i);
    }
    for (uint64_t step = 1; step <= STEPS && err == WEIR_OK; step++) {
        weir_dense_begin(dense, step);
        for (size_t i = 0; i < ELEMENTS; i++) {
            weir_dense_gradients(dense)[i] = gradient_of(member->worker, step, i);
        }
        weir_dense_ready(dense, 20000, ELEMENTS); /* last layer first, across a bucket's edge */
        weir_dense_ready(dense, 0, 20000);
        for (uint64_t i = 0; i < step % 3 && err == WEIR_OK; i++) { /* none, one or two times */
            weir_clock_sleep(1e-3 * (double)member->worker);
            err = weir_dense_advance(dense, &member->error);
        }
        if (err == WEIR_OK) {
            err = weir_dense_finish(dense, &member->error);
        }
    }
    if (err == WEIR_OK) {
        err = weir_dense_collect_state(dense, STEPS, member->m, member->v, &member->error);
    }
    if (err == WEIR_OK) {
        memcpy(member->parameters, weir_dense_parameters(dense), ELEMENTS * sizeof(float));
        member->checksum = weir_dense_checksum(dense);
    }
    weir_dense_destroy(dense);
    weir_exchange_destroy(exchange);
    return err;
}

static void *run_member(void *argument) {
    member_t *member = argument;
    weir_comm_thread_options_t options = {.comm = member->comm, .control_fd = -1};
    weir_comm_thread_t *thread = NULL;
    member->err = weir_comm_thread_start(&options, &thread, &member->error);
    if (member->err == WEIR_OK) {
        member->err = train_member(member, thread);
    }
    if (thread != NULL) {
        weir_err_t stopped = weir_comm_thread_stop(thread, 5.0, NULL);
        member->err = member->err == WEIR_OK ? stopped : member->err;
    }
    return NULL;
}

static void train_together(uint32_t workers, member_t *members) {
    weir_comm_t *comms[MAX_WORKERS];
    pthread_t threads[MAX_WORKERS];
    ck_assert_int_eq(weir_comm_loop_create(workers, comms, NULL), WEIR_OK);
    for (uint32_t i = 0; i < workers; i++) {
        members[i] = (member_t){.comm = comms[i], .worker = i, .workers = workers};
        members[i].parameters = calloc(ELEMENTS, sizeof(float));
        members[i].m = calloc(ELEMENTS, sizeof(float));
        members[i].v = calloc(ELEMENTS, sizeof(float));
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_member, &members[i]), 0);
    }
    for (uint32_t i = 0; i < workers; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    for (uint32_t i = 0; i < workers; i++) {
        ck_assert_msg(members[i].err == WEIR_OK, "worker %u: %s", i, members[i].error.message);
        weir_comm_destroy(comms[i]);
    }
}

static void release_members(uint32_t workers, member_t *members) {
    for (uint32_t i = 0; i < workers; i++) {
        free(members[i].parameters);
        free(members[i].m);
        free(members[i].v);
    }
}

/* AdamW (Loshchilov and Hutter, ICLR 2019, algorithm 2) of one element in float64. */
static double reference_value(uint32_t workers, size_t i) {
    double w = (double)initial_value(i), m = 0.0, v = 0.0;
    for (uint64_t step = 1; step <= STEPS; step++) {
        double g = 0.0;
        for (uint32_t worker = 0; worker < workers; worker++) {
            g += (double)gradient_of(worker, step, i);
        }
        m = adamw.beta1 * m + (1.0 - adamw.beta1) * g;
        v = adamw.beta2 * v + (1.0 - adamw.beta2) * g * g;
        double m_hat = m / (1.0 - pow(adamw.beta1, (double)step));
        double v_hat = v / (1.0 - pow(adamw.beta2, (double)step));
        w -= adamw.learning_rate * adamw.weight_decay * w;
        w -= adamw.learning_rate * m_hat / (sqrt(v_hat) + adamw.epsilon);
    }
    return w;
}

START_TEST(replicas_are_equal_bit_for_bit_and_follow_adamw) {
    uint32_t workers = (uint32_t)_i;
    member_t members[MAX_WORKERS];
    train_together(workers, members);
    for (uint32_t i = 1; i < workers; i++) {
        ck_assert_uint_eq(members[i].checksum, members[0].checksum);
    }
    for (size_t i = 0; i < ELEMENTS; i++) {
        ck_assert_double_eq_tol((double)members[0].parameters[i], reference_value(workers, i),
                                2e-5);
    }
    release_members(workers, members);
}
END_TEST

START_TEST(the_state_on_worker_0_is_whole) {
    member_t members[MAX_WORKERS];
    train_together(3, members);
    for (size_t i = 0; i < ELEMENTS; i++) {
        double v = 0.0;
        for (uint64_t step = 1; step <= STEPS; step++) {
            double g = 0.0;
            for (uint32_t worker = 0; worker < 3; worker++) {
                g += (double)gradient_of(worker, step, i);
            }
            v = adamw.beta2 * v + (1.0 - adamw.beta2) * g * g;
        }
        ck_assert_double_eq_tol((double)members[0].v[i], v, 1e-6);
    }
    release_members(3, members);
}
END_TEST

START_TEST(a_worker_that_never_comes_is_named_when_the_wait_ends) {
    weir_comm_t *comms[2];
    weir_comm_thread_t *thread = NULL;
    weir_exchange_t *exchange = NULL;
    weir_error_t error = {0};
    void *payload = NULL;
    ck_assert_int_eq(weir_comm_loop_create(2, comms, NULL), WEIR_OK);
    weir_comm_thread_options_t thread_options = {.comm = comms[0], .control_fd = -1};
    ck_assert_int_eq(weir_comm_thread_start(&thread_options, &thread, NULL), WEIR_OK);
    weir_exchange_options_t options = {
        .comm_thread = thread, .worker = 0, .workers = 2, .timeout = 0.05};
    ck_assert_int_eq(weir_exchange_create(&options, &exchange, NULL), WEIR_OK);
    ck_assert_int_eq(
        weir_exchange_receive(exchange, WEIR_FRAME_REDUCE, 7, 0, 1, 4, &payload, &error),
        WEIR_ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(error.message, "worker 1"));
    ck_assert_ptr_nonnull(strstr(error.message, "step 7"));
    weir_exchange_destroy(exchange);
    ck_assert_int_eq(weir_comm_thread_stop(thread, 1.0, NULL), WEIR_OK);
    weir_comm_destroy(comms[0]);
    weir_comm_destroy(comms[1]);
}
END_TEST

/* Whether the updated slice of a bucket has come from the other worker. */
static bool is_given(weir_exchange_t *exchange, uint32_t bucket, uint32_t from) {
    weir_clock_sleep(1e-3);
    ck_assert_int_eq(weir_exchange_look(exchange, NULL), WEIR_OK);
    return weir_exchange_has(exchange, WEIR_FRAME_GATHER, 1, bucket, from);
}

START_TEST(what_has_come_is_updated_without_waiting_for_the_end) {
    weir_comm_t *comms[2];
    weir_comm_thread_t *threads[2];
    weir_exchange_t *exchanges[2];
    weir_dense_t *dense[2];
    ck_assert_int_eq(weir_comm_loop_create(2, comms, NULL), WEIR_OK);
    for (uint32_t w = 0; w < 2; w++) {
        weir_comm_thread_options_t options = {.comm = comms[w], .control_fd = -1};
        ck_assert_int_eq(weir_comm_thread_start(&options, &threads[w], NULL), WEIR_OK);
        weir_exchange_options_t exchange = {
            .comm_thread = threads[w], .worker = w, .workers = 2, .timeout = 30.0};
        ck_assert_int_eq(weir_exchange_create(&exchange, &exchanges[w], NULL), WEIR_OK);
        ck_assert_int_eq(weir_dense_create(ELEMENTS, &adamw, exchanges[w], &dense[w], NULL),
                         WEIR_OK);
        weir_dense_begin(dense[w], 1);
        for (size_t i = 0; i < ELEMENTS; i++) {
            weir_dense_gradients(dense[w])[i] = 1.0F;
        }
    }
    /* Nothing has come; then the other's last bucket, and here all is ready; then all of it. */
    weir_dense_ready(dense[0], 0, ELEMENTS);
    ck_assert_int_eq(weir_dense_advance(dense[0], NULL), WEIR_OK);
    ck_assert(!is_given(exchanges[1], 1, 0));
    weir_dense_ready(dense[1], 16384, ELEMENTS);
    for (int i = 0; i < 10000 && !is_given(exchanges[1], 1, 0); i++) {
        ck_assert_int_eq(weir_dense_advance(dense[0], NULL), WEIR_OK);
    }
    ck_assert(is_given(exchanges[1], 1, 0));
    weir_clock_sleep(0.01);
    ck_assert(!is_given(exchanges[1], 0, 0));
    for (int i = 0; i < 10000 && !is_given(exchanges[0], 1, 1); i++) {
        ck_assert_int_eq(weir_dense_advance(dense[1], NULL), WEIR_OK);
    }
    ck_assert(is_given(exchanges[0], 1, 1));
    ck_assert(!is_given(exchanges[0], 0, 1)); /* its gradients are not ready */
    weir_dense_ready(dense[1], 0, 16384);     /* ready is enough: the slices are here */
    for (int i = 0; i < 10000 && !is_given(exchanges[0], 0, 1); i++) {
    }
    ck_assert(is_given(exchanges[0], 0, 1));
    for (size_t i = 0; i < ELEMENTS; i++) { /* backward may still read them */
        ck_assert(weir_dense_parameters(dense[0])[i] == 0.0F);
        ck_assert(weir_dense_parameters(dense[1])[i] == 0.0F);
    }
    for (uint32_t w = 0; w < 2; w++) {
        ck_assert_int_eq(weir_dense_finish(dense[w], NULL), WEIR_OK);
        for (size_t i = 0; i < ELEMENTS; i++) {
            ck_assert_double_eq_tol((double)weir_dense_parameters(dense[w])[i], -0.01, 1e-6);
        }
    }
    for (uint32_t w = 0; w < 2; w++) {
        weir_dense_destroy(dense[w]);
        weir_exchange_destroy(exchanges[w]);
        ck_assert_int_eq(weir_comm_thread_stop(threads[w], 1.0, NULL), WEIR_OK);
        weir_comm_destroy(comms[w]);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("dense");
    TCase *t = tcase_create("dense");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, replicas_are_equal_bit_for_bit_and_follow_adamw, 1, MAX_WORKERS + 1);
    tcase_add_test(t, the_state_on_worker_0_is_whole);
    tcase_add_test(t, what_has_come_is_updated_without_waiting_for_the_end);
    tcase_add_test(t, a_worker_that_never_comes_is_named_when_the_wait_ends);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
