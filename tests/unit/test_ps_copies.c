/* Jobs in threads whose workers keep copies of rows: every row that is pulled is, bit for bit, the
 * one of a lone table to which the steps are applied plainly. */
#include "ps/client.h"
#include "ps/server.h"
#include "tests/suite.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { MAX_RANKS = 6, MAX_WORKERS = 3, DIM = 5, STEPS = 24, UNIVERSE = 300, PULL = 48 };

typedef struct {
    uint32_t workers, ps, ahead;
    size_t cache_rows;
    weir_optimizer_kind_t optimizer;
    weir_precision_t precision;
    bool plain_rounding, not_finite;
    uint64_t budget, ttl; /* budget: rows */
    weir_admission_kind_t admission;
} variant_t;

static weir_table_options_t options_of(const variant_t *variant) {
    bool penalised = variant->optimizer >= WEIR_OPTIMIZER_FTRL;
    weir_table_options_t options = {
        .row = {.name = "test",
                .seed = 11,
                .segment_count = 1,
                .segments = {{.dim = DIM,
                              .precision = variant->precision,
                              .plain_rounding = variant->plain_rounding,
                              .initial_scale = 0.5,
                              .optimizer = {.kind = variant->optimizer,
                                            .learning_rate = 0.05,
                                            .beta1 = 0.9,
                                            .beta2 = 0.98,
                                            .epsilon = 1e-8,
                                            .l1 = penalised ? 0.001 : 0.0,
                                            .l2 = penalised ? 0.01 : 0.0,
                                            .beta = 1.0,
                                            .schedule = {.warmup_steps = 9}}}}},
        .ttl = variant->ttl,
        .admission = variant->admission,
        .admission_probability = 0.5};
    if (variant->budget > 0) {
        options.memory_budget = weir_table_budget_for(&options.row, (uint64_t)variant->budget);
    }
    return options;
}

/* ---- what happens in every step ---- */

/* Keys of a few slots alone: so that a slot's part of a budget can be spent. */
static weir_key_t universe[UNIVERSE];

static void make_universe(void) {
    weir_key_t next = 1;
    for (size_t i = 0; i < UNIVERSE; i++) {
        while (weir_slot_of_hash(weir_hash64(next)) % 512 != 100) {
            next++;
        }
        universe[i] = next++;
    }
}

/* Keys 0 .. 19 are everybody's in every step; some of the next are, now and then, anybody's; most
 * of the rest are a worker's own, some often and some rarely. */
static size_t pull_of(uint32_t worker, uint64_t step, weir_key_t keys[PULL]) {
    bool taken[UNIVERSE] = {false};
    size_t count = 0;
    for (size_t n = 0; n < PULL; n++) {
        uint64_t random = weir_hash64((step * MAX_WORKERS + worker) * PULL + n);
        size_t own = 60 + 80 * (size_t)worker;
        size_t i = n < 8    ? n * 2 + random % 2
                   : n < 14 ? 20 + random % 40
                   : n < 34 ? own + random % 24
                            : own + random % 80;
        if (!taken[i]) {
            taken[i] = true;
            keys[count++] = universe[i];
        }
    }
    return step % 11 == 7 && worker == 1 ? 0 : count;
}

static void gradients_of(const variant_t *variant, uint32_t worker, uint64_t step,
                         const weir_key_t *keys, size_t count, float *gradients) {
    for (size_t i = 0; i < count * DIM; i++) {
        uint64_t random = weir_hash64(keys[i / DIM] ^ (step << 40) ^ (worker << 8) ^ i % DIM);
        float size = ldexpf(1.0F, (int)(random >> 8 & 7) - 6);
        gradients[i] = size * (float)((double)(random >> 16) * 0x1p-48 - 0.5);
        if (variant->not_finite && random % 61 == 0) {
            gradients[i] = random % 2 == 0 ? NAN : -INFINITY;
        }
    }
}

typedef struct {
    float rows[MAX_WORKERS][STEPS + 1][PULL * DIM]; /* of every pull */
} expected_t;

/* ---- the lone table ---- */

typedef struct {
    weir_key_t keys[MAX_WORKERS * PULL];
    weir_row_handle_t handles[MAX_WORKERS * PULL];
    float sums[MAX_WORKERS * PULL * DIM];
    size_t count;
} sums_t;

static void add_gradients(sums_t *sums, const weir_key_t *keys, const weir_row_handle_t *handles,
                          size_t count, const float *gradients) {
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < sums->count && sums->keys[at] != keys[i]) {
            at++;
        }
        float *sum = sums->sums + at * DIM;
        if (at == sums->count) {
            sums->keys[at] = keys[i];
            sums->handles[at] = handles[i];
            sums->count++;
            memcpy(sum, gradients + i * DIM, DIM * sizeof *sum);
            continue;
        }
        for (size_t d = 0; d < DIM; d++) {
            sum[d] += gradients[i * DIM + d];
        }
    }
}

static void expect(const variant_t *variant, expected_t *expected) {
    weir_table_options_t options = options_of(variant);
    weir_table_t *table = NULL;
    weir_error_t error = {0};
    weir_err_t err = weir_table_create(&options, &table, &error);
    ck_assert_msg(err == WEIR_OK, "%s", error.message);
    for (uint64_t step = 1; step <= STEPS; step++) {
        static sums_t sums;
        sums.count = 0;
        for (uint32_t w = 0; w < variant->workers; w++) {
            weir_key_t keys[PULL];
            weir_row_handle_t handles[PULL];
            float gradients[PULL * DIM];
            char rows[PULL * DIM * sizeof(float) + PULL * 8];
            size_t count = pull_of(w, step, keys);
            ck_assert_int_eq(weir_table_pull(table, keys, count, step, handles, rows, NULL),
                             WEIR_OK);
            weir_row_decode(&options.row, weir_table_layout(table), rows, count,
                            expected->rows[w][step]);
            gradients_of(variant, w, step, keys, count, gradients);
            add_gradients(&sums, keys, handles, count, gradients);
        }
        (void)weir_table_apply(table, sums.keys, sums.handles, sums.sums, sums.count, step);
        ck_assert_int_eq(weir_table_end_step(table, step, step + 1, NULL), WEIR_OK);
    }
    weir_table_stats_t stats = weir_table_stats(table);
    ck_assert_int_eq(stats.evicted > 0, variant->budget > 0);
    ck_assert_int_eq(stats.expired > 0, variant->ttl > 0);
    weir_table_destroy(table);
}

/* ---- the job ---- */

typedef struct {
    const variant_t *variant;
    weir_comm_thread_t *thread;
    uint32_t index;
    atomic_bool *over; /* a worker has failed */
    uint64_t step;     /* applied in the end */
    weir_server_counters_t counters;
    weir_error_t error;
} server_t;

static weir_err_t post_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    return weir_comm_thread_post(((server_t *)argument)->thread, to, frame, error);
}

static void *run_server(void *argument) {
    server_t *mine = argument;
    const variant_t *variant = mine->variant;
    weir_table_options_t table_options = options_of(variant);
    table_options.owners = true;
    table_options.first_slot = weir_slot_first(mine->index, variant->ps);
    table_options.end_slot = weir_slot_first(mine->index + 1, variant->ps);
    weir_server_options_t options = {.index = mine->index,
                                     .ps = variant->ps,
                                     .first_worker_rank = variant->ps,
                                     .workers = variant->workers,
                                     .send = post_answer,
                                     .argument = mine};
    weir_table_t *table = NULL;
    weir_server_t *server = NULL;
    weir_err_t err = weir_table_create(&table_options, &table, &mine->error);
    if (err == WEIR_OK) {
        err = weir_server_create(&options, &table, 1, &server, &mine->error);
    }
    while (err == WEIR_OK && weir_server_step(server) < STEPS && !atomic_load(mine->over)) {
        weir_frame_t frame;
        bool received;
        err = weir_comm_thread_take(mine->thread,
                                    1u << WEIR_FRAME_PULL_REQ | 1u << WEIR_FRAME_PUSH_REQ, 0.01,
                                    &frame, &received, &mine->error);
        if (err == WEIR_OK && received) {
            err = weir_server_handle(server, frame, &mine->error);
        }
    }
    if (server != NULL) {
        mine->step = weir_server_step(server);
        mine->counters = weir_server_counters(server);
    }
    weir_server_destroy(server);
    weir_table_destroy(table);
    return NULL;
}

typedef struct {
    const variant_t *variant;
    const expected_t *expected;
    weir_comm_thread_t *thread;
    uint32_t index;
    uint64_t steps, keys, wrong;
    weir_ps_client_counters_t counters;
    weir_error_t error;
} worker_t;

static weir_err_t begin_pulls(worker_t *mine, weir_ps_client_t *client, uint64_t step,
                              uint64_t *begun) {
    weir_err_t err = WEIR_OK;
    while (*begun < step + mine->variant->ahead && *begun < STEPS && err == WEIR_OK) {
        weir_key_t keys[PULL];
        ++*begun;
        weir_ps_keys_t table = {keys, pull_of(mine->index, *begun, keys)};
        mine->keys += table.count;
        err = weir_ps_client_pull_begin(client, *begun, &table, &mine->error);
    }
    return err;
}

static void *run_worker(void *argument) {
    worker_t *mine = argument;
    const variant_t *variant = mine->variant;
    weir_table_options_t table = options_of(variant);
    weir_ps_client_options_t options = {.comm_thread = mine->thread,
                                        .ps = variant->ps,
                                        .tables = &table.row,
                                        .table_count = 1,
                                        .ahead = variant->ahead,
                                        .cache_rows = &variant->cache_rows,
                                        .timeout = 20};
    weir_ps_client_t *client = NULL;
    weir_err_t err = weir_ps_client_create(&options, &client, &mine->error);
    float values[PULL * DIM], gradients[PULL * DIM], *pulled = values;
    const float *pushed = gradients;
    uint64_t begun = 0;
    for (uint64_t step = 1; step <= STEPS && err == WEIR_OK; step++) {
        weir_key_t keys[PULL];
        size_t count = pull_of(mine->index, step, keys);
        err = begin_pulls(mine, client, step, &begun);
        if (err == WEIR_OK) {
            err = weir_ps_client_pull_finish(client, &pulled, &mine->error);
        }
        for (size_t i = 0; i < count && err == WEIR_OK; i++) {
            const float *row = mine->expected->rows[mine->index][step] + i * DIM;
            mine->wrong += memcmp(values + i * DIM, row, DIM * sizeof *row) != 0;
        }
        gradients_of(variant, mine->index, step, keys, count, gradients);
        if (err == WEIR_OK) {
            err = weir_ps_client_push(client, &pushed, &mine->error);
        }
        mine->steps += err == WEIR_OK;
    }
    if (client != NULL) {
        mine->counters = weir_ps_client_counters(client);
    }
    weir_ps_client_destroy(client);
    return NULL;
}

static void check_worker(const variant_t *variant, const worker_t *worker, uint64_t *left_out) {
    weir_row_schema_t schema = options_of(variant).row;
    const weir_ps_client_counters_t *counters = &worker->counters;
    ck_assert_str_eq(worker->error.message, "");
    ck_assert_uint_eq(worker->steps, STEPS);
    ck_assert_uint_eq(worker->wrong, 0);
    int64_t whole = (int64_t)(worker->keys * weir_row_layout(&schema).value_bytes);
    ck_assert_int_eq((int64_t)counters->bytes_pulled + counters->bytes_saved, whole);
    ck_assert_uint_eq(counters->rows_early, 0);
    *left_out += counters->rows_left_out;
}

/* Returns how many rows were left out. */
static uint64_t run_job(variant_t variant) {
    static expected_t expected;
    weir_comm_t *comms[MAX_RANKS];
    weir_comm_thread_t *links[MAX_RANKS];
    server_t servers[MAX_RANKS] = {{0}};
    worker_t workers[MAX_WORKERS] = {{0}};
    pthread_t threads[MAX_RANKS];
    atomic_bool over = false;
    uint32_t ps = variant.ps, ranks = ps + variant.workers;
    uint64_t left_out = 0, from_servers = 0;
    expect(&variant, &expected);
    ck_assert_int_eq(weir_comm_loop_create(ranks, comms, NULL), WEIR_OK);
    for (uint32_t i = 0; i < ranks; i++) {
        weir_comm_thread_options_t options = {.comm = comms[i], .control_fd = -1};
        ck_assert_int_eq(weir_comm_thread_start(&options, &links[i], NULL), WEIR_OK);
    }
    for (uint32_t s = 0; s < ps; s++) {
        servers[s] = (server_t){&variant, links[s], s, &over, 0, {0}, {0}};
        ck_assert_int_eq(pthread_create(&threads[s], NULL, run_server, &servers[s]), 0);
    }
    for (uint32_t w = 0; w < variant.workers; w++) {
        workers[w] = (worker_t){&variant, &expected, links[ps + w], w, 0, 0, 0, {0}, {0}};
        ck_assert_int_eq(pthread_create(&threads[ps + w], NULL, run_worker, &workers[w]), 0);
    }
    for (uint32_t w = 0; w < variant.workers; w++) {
        ck_assert_int_eq(pthread_join(threads[ps + w], NULL), 0);
        if (workers[w].steps < STEPS) {
            atomic_store(&over, true);
        }
    }
    for (uint32_t s = 0; s < ps; s++) {
        ck_assert_int_eq(pthread_join(threads[s], NULL), 0);
        ck_assert_str_eq(servers[s].error.message, "");
        ck_assert_uint_eq(servers[s].step, STEPS);
        from_servers += servers[s].counters.rows_left_out;
    }
    for (uint32_t w = 0; w < variant.workers; w++) {
        check_worker(&variant, &workers[w], &left_out);
    }
    ck_assert_uint_eq(left_out, from_servers);
    for (uint32_t i = 0; i < ranks; i++) {
        ck_assert_int_eq(weir_comm_thread_stop(links[i], 1.0, NULL), WEIR_OK);
    }
    for (uint32_t i = 0; i < ranks; i++) {
        weir_comm_destroy(comms[i]);
    }
    return left_out;
}

static variant_t variant_of(uint32_t workers, uint32_t ps, uint32_t ahead) {
    return (variant_t){.workers = workers,
                       .ps = ps,
                       .ahead = ahead,
                       .cache_rows = UNIVERSE,
                       .optimizer = WEIR_OPTIMIZER_ROWWISE_ADAGRAD};
}

START_TEST(jobs_of_any_size_pull_the_rows_of_a_lone_table) {
    for (uint32_t workers = 1; workers <= MAX_WORKERS; workers++) {
        for (uint32_t ps = 1; ps <= 3; ps++) {
            ck_assert_uint_gt(run_job(variant_of(workers, ps, (workers + ps) % 3)), 100);
        }
    }
}
END_TEST

START_TEST(every_optimiser_and_precision_goes_on_in_the_copy) {
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        variant_t variant = variant_of(2, 1, 1);
        variant.optimizer = (weir_optimizer_kind_t)kind;
        ck_assert_uint_gt(run_job(variant), 50);
    }
    for (int precision = 0; precision < WEIR_PRECISION_COUNT; precision++) {
        variant_t variant = variant_of(2, 2, 1);
        variant.precision = (weir_precision_t)precision;
        variant.optimizer = WEIR_OPTIMIZER_ADAM;
        variant.plain_rounding = precision == WEIR_PRECISION_F16;
        ck_assert_uint_gt(run_job(variant), 50);
    }
}
END_TEST

START_TEST(a_cache_of_few_rows_is_right_too) {
    static const size_t rows[] = {1, 7, 40};
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++) {
        for (uint32_t ahead = 0; ahead <= 4; ahead += 2) {
            variant_t variant = variant_of(2, 2, ahead);
            variant.cache_rows = rows[n];
            uint64_t left_out = run_job(variant);
            ck_assert(rows[n] < 40 || left_out > 20);
        }
    }
}
END_TEST

START_TEST(gradients_that_are_not_finite_end_a_copy) {
    for (uint32_t workers = 1; workers <= 2; workers++) {
        variant_t variant = variant_of(workers, 2, 2);
        variant.not_finite = true;
        ck_assert_uint_gt(run_job(variant), 50);
    }
}
END_TEST

START_TEST(rows_that_leave_the_table_take_their_copies_along) {
    variant_t variant = variant_of(2, 2, 1);
    variant.ttl = 3;
    ck_assert_uint_gt(run_job(variant), 50);
    variant.ttl = 0;
    variant.budget = 4 * WEIR_SLOT_COUNT;
    ck_assert_uint_gt(run_job(variant), 50);
    variant.budget = 0;
    variant.admission = WEIR_ADMISSION_PROBABILITY;
    ck_assert_uint_gt(run_job(variant), 50);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("ps_copies");
    TCase *t = tcase_create("ps_copies");
    tcase_set_timeout(t, 240);
    make_universe();
    tcase_add_test(t, jobs_of_any_size_pull_the_rows_of_a_lone_table);
    tcase_add_test(t, every_optimiser_and_precision_goes_on_in_the_copy);
    tcase_add_test(t, a_cache_of_few_rows_is_right_too);
    tcase_add_test(t, gradients_that_are_not_finite_end_a_copy);
    tcase_add_test(t, rows_that_leave_the_table_take_their_copies_along);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
