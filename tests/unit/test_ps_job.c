/* Workers and servers of a job in threads, over the in-process transport. */
#include "ps/client.h"
#include "ps/server.h"
#include "tests/suite.h"
#include "tests/unit/ps_cases.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { MAX_RANKS = 6, WAIT_SECONDS = 60 };

typedef struct {
    weir_rank_t ranks;
    weir_comm_t *comms[MAX_RANKS];
    weir_comm_thread_t *threads[MAX_RANKS];
} network_t;

static void open_network(network_t *network, weir_rank_t ranks) {
    *network = (network_t){.ranks = ranks};
    ck_assert_int_eq(weir_comm_loop_create(ranks, network->comms, NULL), WEIR_OK);
    for (weir_rank_t i = 0; i < ranks; i++) {
        weir_comm_thread_options_t options = {.comm = network->comms[i], .control_fd = -1};
        ck_assert_int_eq(weir_comm_thread_start(&options, &network->threads[i], NULL), WEIR_OK);
    }
}

static void close_network(network_t *network) {
    for (weir_rank_t i = 0; i < network->ranks; i++) {
        ck_assert_int_eq(weir_comm_thread_stop(network->threads[i], 1.0, NULL), WEIR_OK);
    }
    for (weir_rank_t i = 0; i < network->ranks; i++) {
        weir_comm_destroy(network->comms[i]);
    }
}

typedef struct {
    uint32_t workers, ps, ahead;
    weir_consistency_t consistency;
    uint32_t staleness;                          /* ssp */
    uint32_t oldest;                             /* a pull of step t sees step t - 1 - oldest or
                                                    a later one */
    float (*expected)[CASE_UNIVERSE * CASE_DIM]; /* [step]; values after it */
} job_t;

/* ---- a server's apply thread ---- */

typedef struct {
    const job_t *job;
    weir_comm_thread_t *thread;
    uint32_t index;
    weir_table_t *table;
    atomic_bool *over;
    uint64_t step; /* applied in the end */
    weir_error_t error;
} server_t;

static weir_err_t post_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    return weir_comm_thread_post(((server_t *)argument)->thread, to, frame, error);
}

static void *run_server(void *argument) {
    server_t *mine = argument;
    weir_server_options_t options = {.index = mine->index,
                                     .ps = mine->job->ps,
                                     .first_worker_rank = mine->job->ps,
                                     .workers = mine->job->workers,
                                     .consistency = mine->job->consistency,
                                     .staleness = mine->job->staleness,
                                     .send = post_answer,
                                     .argument = mine};
    weir_server_t *server = NULL;
    weir_err_t err = weir_server_create(&options, &mine->table, 1, &server, &mine->error);
    const uint32_t types =
        1u << WEIR_FRAME_PULL_REQ | 1u << WEIR_FRAME_PUSH_REQ | 1u << WEIR_FRAME_PEEK_REQ;
    while (err == WEIR_OK && !atomic_load(mine->over)) {
        weir_frame_t frame;
        bool received;
        err = weir_comm_thread_take(mine->thread, types, 0.01, &frame, &received, &mine->error);
        if (err == WEIR_OK && received) {
            err = weir_server_handle(server, frame, &mine->error);
        }
    }
    if (err == WEIR_OK) {
        mine->step = weir_server_step(server);
    }
    weir_server_destroy(server);
    return NULL;
}

/* ---- a worker's compute thread ---- */

typedef struct {
    const job_t *job;
    weir_comm_thread_t *thread;
    uint32_t index;
    uint64_t wrong_pulls; /* rows that are of no step that the pull may see */
    uint64_t wrong_peeks; /* of those after each own push */
    uint64_t steps;
    float values[CASE_UNIVERSE * CASE_DIM]; /* at the end */
    weir_error_t error;
} worker_t;

/* The steps up to `begun` have been pulled; as many more as may be ahead of `step`. */
static weir_err_t begin_pulls(worker_t *mine, weir_ps_client_t *client, uint64_t step,
                              uint64_t *begun) {
    weir_err_t err = WEIR_OK;
    while (*begun < step + mine->job->ahead && *begun < CASE_STEPS && err == WEIR_OK) {
        weir_key_t keys[CASE_UNIVERSE];
        ++*begun;
        weir_ps_keys_t table = {keys, case_pull(mine->index, *begun, keys)};
        err = weir_ps_client_pull_begin(client, *begun, &table, &mine->error);
    }
    return err;
}

/* The row of case_key(place) after one of the steps that a pull of `step` may see. */
static bool is_expected(const job_t *job, uint64_t step, size_t place, const float *row) {
    uint64_t first = step > job->oldest + 1 ? step - 1 - job->oldest : 0;
    bool found = false;
    for (uint64_t seen = first; seen < step && !found; seen++) {
        found = memcmp(row, job->expected[seen] + place * CASE_DIM, CASE_DIM * sizeof *row) == 0;
    }
    return found;
}

static uint64_t count_wrong(const job_t *job, uint64_t step, const weir_key_t *keys, size_t count,
                            const float *values) {
    uint64_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        size_t place = 0;
        while (case_key(place) != keys[i]) {
            place++;
        }
        wrong += !is_expected(job, step, place, values + i * CASE_DIM);
    }
    return wrong;
}

static void *run_worker(void *argument) {
    worker_t *mine = argument;
    weir_table_options_t table = case_options();
    weir_ps_client_options_t options = {.comm_thread = mine->thread,
                                        .ps = mine->job->ps,
                                        .tables = &table.row,
                                        .table_count = 1,
                                        .ahead = mine->job->ahead,
                                        .timeout = WAIT_SECONDS};
    weir_ps_client_t *client = NULL;
    weir_err_t err = weir_ps_client_create(&options, &client, &mine->error);
    weir_key_t keys[CASE_UNIVERSE], all[CASE_UNIVERSE];
    float gradients[CASE_UNIVERSE * CASE_DIM], *values = mine->values;
    const float *pushed = gradients;
    for (size_t i = 0; i < CASE_UNIVERSE; i++) {
        all[i] = case_key(i);
    }
    uint64_t begun = 0;
    for (uint64_t step = 1; step <= CASE_STEPS && err == WEIR_OK; step++) {
        size_t count = case_pull(mine->index, step, keys);
        err = begin_pulls(mine, client, step, &begun);
        if (err == WEIR_OK) {
            err = weir_ps_client_pull_finish(client, &values, &mine->error);
        }
        case_gradients(mine->index, step, keys, count, gradients);
        mine->wrong_pulls += count_wrong(mine->job, step, keys, count, values);
        if (err == WEIR_OK) {
            err = weir_ps_client_push(client, &pushed, &mine->error);
        }
        if (err == WEIR_OK) {
            err = weir_ps_client_peek(client, 0, all, CASE_UNIVERSE, values, &mine->error);
        }
        /* Nobody can be a step further: that needs this worker's next push. */
        mine->wrong_peeks += memcmp(values, mine->job->expected[step], sizeof mine->values) != 0;
        mine->steps += err == WEIR_OK;
    }
    weir_ps_client_destroy(client);
    return NULL;
}

static void run_job(const job_t *job) {
    network_t network;
    uint32_t ps = job->ps, workers = job->workers;
    server_t servers[MAX_RANKS] = {{0}};
    worker_t worker[MAX_RANKS] = {{0}};
    pthread_t threads[MAX_RANKS];
    atomic_bool over = false;
    open_network(&network, ps + workers);
    for (uint32_t s = 0; s < ps; s++) {
        servers[s] = (server_t){.job = job,
                                .thread = network.threads[s],
                                .index = s,
                                .table = case_table(),
                                .over = &over};
        ck_assert_int_eq(pthread_create(&threads[s], NULL, run_server, &servers[s]), 0);
    }
    for (uint32_t w = 0; w < workers; w++) {
        worker[w] = (worker_t){.job = job, .thread = network.threads[ps + w], .index = w};
        ck_assert_int_eq(pthread_create(&threads[ps + w], NULL, run_worker, &worker[w]), 0);
    }
    for (uint32_t w = 0; w < workers; w++) {
        ck_assert_int_eq(pthread_join(threads[ps + w], NULL), 0);
    }
    atomic_store(&over, true);
    for (uint32_t s = 0; s < ps; s++) {
        ck_assert_int_eq(pthread_join(threads[s], NULL), 0);
        ck_assert_str_eq(servers[s].error.message, "");
        ck_assert_uint_eq(servers[s].step, CASE_STEPS);
        weir_table_destroy(servers[s].table);
    }
    for (uint32_t w = 0; w < workers; w++) {
        ck_assert_str_eq(worker[w].error.message, "");
        ck_assert_uint_eq(worker[w].steps, CASE_STEPS);
        ck_assert_uint_eq(worker[w].wrong_pulls, 0);
        ck_assert_uint_eq(worker[w].wrong_peeks, 0);
    }
    close_network(&network);
}

static void expect_steps(uint32_t workers, float (*expected)[CASE_UNIVERSE * CASE_DIM]) {
    for (uint64_t step = 0; step <= CASE_STEPS; step++) {
        case_expected(workers, step, false, expected[step]);
    }
}

START_TEST(jobs_of_any_size_hold_the_same_bits_after_every_step) {
    static float expected[CASE_STEPS + 1][CASE_UNIVERSE * CASE_DIM];
    for (uint32_t workers = 1; workers <= 3; workers++) {
        expect_steps(workers, expected);
        for (uint32_t ps = 1; ps <= 3; ps++) {
            for (uint32_t ahead = 0; ahead <= 4; ahead += 1 + ahead) {
                run_job(&(job_t){workers, ps, ahead, WEIR_CONSISTENCY_BSP, 0, 0, expected});
            }
        }
    }
}
END_TEST

/* The gradients do not depend on the values, so that every step ends as in bsp. */
START_TEST(pulls_of_a_job_with_staleness_see_a_step_that_is_recent_enough) {
    static float expected[CASE_STEPS + 1][CASE_UNIVERSE * CASE_DIM];
    for (uint32_t workers = 1; workers <= 2; workers++) {
        expect_steps(workers, expected);
        for (uint32_t staleness = 1; staleness <= 3; staleness++) {
            for (uint32_t ahead = staleness; ahead <= staleness + 2; ahead++) {
                run_job(&(job_t){workers, 2, ahead, WEIR_CONSISTENCY_SSP, staleness, staleness,
                                 expected});
            }
        }
    }
}
END_TEST

START_TEST(a_lone_worker_without_a_barrier_sees_its_pushes_in_order) {
    static float expected[CASE_STEPS + 1][CASE_UNIVERSE * CASE_DIM];
    expect_steps(1, expected);
    for (uint32_t ahead = 0; ahead <= 3; ahead++) {
        run_job(&(job_t){1, 2, ahead, WEIR_CONSISTENCY_ASP, 0, ahead, expected});
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("ps_job");
    TCase *t = tcase_create("ps_job");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, jobs_of_any_size_hold_the_same_bits_after_every_step);
    tcase_add_test(t, pulls_of_a_job_with_staleness_see_a_step_that_is_recent_enough);
    tcase_add_test(t, a_lone_worker_without_a_barrier_sees_its_pushes_in_order);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
