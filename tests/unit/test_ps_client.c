/* Workers and servers of a job in threads, over the in-process transport. */
#include "common/rng.h"
#include "ps/client.h"
#include "ps/server.h"
#include "ps/split.h"
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

/* ---- a server's apply thread ---- */

typedef struct {
    weir_comm_thread_t *thread;
    uint32_t index, ps, workers;
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
                                     .ps = mine->ps,
                                     .first_worker_rank = mine->ps,
                                     .workers = mine->workers,
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
    weir_comm_thread_t *thread;
    uint32_t index, ps;
    uint64_t wrong_peeks; /* of those after each own push */
    uint64_t steps;
    float (*expected)[CASE_UNIVERSE * CASE_DIM]; /* [step]; values after it */
    float values[CASE_UNIVERSE * CASE_DIM];      /* at the end */
    weir_error_t error;
} worker_t;

static weir_ps_client_t *create_client(weir_comm_thread_t *thread, uint32_t ps, double timeout) {
    weir_table_options_t table = case_options();
    weir_ps_client_options_t options = {.comm_thread = thread,
                                        .first_ps_rank = 0,
                                        .ps = ps,
                                        .tables = &table.row,
                                        .table_count = 1,
                                        .timeout = timeout};
    weir_ps_client_t *client = NULL;
    return weir_ps_client_create(&options, &client, NULL) == WEIR_OK ? client : NULL;
}

static weir_err_t begin_pull(weir_ps_client_t *client, uint64_t step, const weir_key_t *keys,
                             size_t count, weir_error_t *error) {
    weir_ps_keys_t table = {keys, count};
    return weir_ps_client_pull_begin(client, step, &table, error);
}

static weir_err_t finish_pull(weir_ps_client_t *client, float *values, weir_error_t *error) {
    return weir_ps_client_pull_finish(client, &values, error);
}

static weir_err_t push_rows(weir_ps_client_t *client, const float *gradients, weir_error_t *error) {
    return weir_ps_client_push(client, &gradients, error);
}

static void *run_worker(void *argument) {
    worker_t *mine = argument;
    weir_ps_client_t *client = create_client(mine->thread, mine->ps, WAIT_SECONDS);
    weir_err_t err = client == NULL ? WEIR_ERR_MEMORY : WEIR_OK;
    weir_key_t keys[CASE_UNIVERSE], all[CASE_UNIVERSE];
    float gradients[CASE_UNIVERSE * CASE_DIM];
    for (size_t i = 0; i < CASE_UNIVERSE; i++) {
        all[i] = case_key(i);
    }
    for (uint64_t step = 1; step <= CASE_STEPS && err == WEIR_OK; step++) {
        size_t count = case_pull(mine->index, step, keys);
        err = begin_pull(client, step, keys, count, &mine->error);
        if (err == WEIR_OK) {
            err = finish_pull(client, mine->values, &mine->error);
        }
        case_gradients(mine->index, step, keys, count, gradients);
        if (err == WEIR_OK) {
            err = push_rows(client, gradients, &mine->error);
        }
        if (err == WEIR_OK) {
            err = weir_ps_client_peek(client, 0, all, CASE_UNIVERSE, mine->values, &mine->error);
        }
        /* Nobody can be a step further: that needs this worker's next push. */
        mine->wrong_peeks += memcmp(mine->values, mine->expected[step], sizeof mine->values) != 0;
        mine->steps += err == WEIR_OK;
    }
    weir_ps_client_destroy(client);
    return NULL;
}

static void run_job(uint32_t workers, uint32_t ps, float (*expected)[CASE_UNIVERSE * CASE_DIM]) {
    network_t network;
    server_t servers[MAX_RANKS] = {{0}};
    worker_t worker[MAX_RANKS] = {{0}};
    pthread_t threads[MAX_RANKS];
    atomic_bool over = false;
    open_network(&network, ps + workers);
    for (uint32_t s = 0; s < ps; s++) {
        servers[s] = (server_t){.thread = network.threads[s],
                                .index = s,
                                .ps = ps,
                                .workers = workers,
                                .table = case_table(),
                                .over = &over};
        ck_assert_int_eq(pthread_create(&threads[s], NULL, run_server, &servers[s]), 0);
    }
    for (uint32_t w = 0; w < workers; w++) {
        worker[w] = (worker_t){
            .thread = network.threads[ps + w], .index = w, .ps = ps, .expected = expected};
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
        ck_assert_uint_eq(worker[w].wrong_peeks, 0);
    }
    close_network(&network);
}

START_TEST(jobs_of_any_size_hold_the_same_bits_after_every_step) {
    static float expected[CASE_STEPS + 1][CASE_UNIVERSE * CASE_DIM];
    for (uint32_t workers = 1; workers <= 3; workers++) {
        for (uint64_t step = 0; step <= CASE_STEPS; step++) {
            case_expected(workers, step, false, expected[step]);
        }
        for (uint32_t ps = 1; ps <= 3; ps++) {
            run_job(workers, ps, expected);
        }
    }
}
END_TEST

START_TEST(a_peek_of_many_keys_goes_in_pieces_and_comes_back_in_order) {
    enum { COUNT = 500000 };
    network_t network;
    server_t servers[2] = {{0}};
    pthread_t threads[2];
    atomic_bool over = false;
    open_network(&network, 3);
    for (uint32_t s = 0; s < 2; s++) {
        servers[s] = (server_t){.thread = network.threads[s],
                                .index = s,
                                .ps = 2,
                                .workers = 1,
                                .table = case_table(),
                                .over = &over};
        ck_assert_int_eq(pthread_create(&threads[s], NULL, run_server, &servers[s]), 0);
    }
    weir_ps_client_t *client = create_client(network.threads[2], 2, WAIT_SECONDS);
    weir_key_t *keys = malloc(COUNT * sizeof *keys);
    float *values = malloc(COUNT * CASE_DIM * sizeof *values);
    ck_assert(client != NULL && keys != NULL && values != NULL);
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = i / 2; /* every key twice */
    }
    weir_error_t error = {0};
    ck_assert_msg(weir_ps_client_peek(client, 0, keys, COUNT, values, &error) == WEIR_OK, "%s",
                  error.message);
    weir_row_schema_t schema = case_options().row;
    weir_row_layout_t layout = weir_row_layout(&schema);
    size_t wrong = 0;
    for (size_t i = 0; i < COUNT; i += 997) {
        float value[CASE_DIM], scratch[2 * CASE_DIM];
        weir_row_birth_value(&schema, &layout, keys[i], value, scratch);
        wrong += memcmp(value, values + i * CASE_DIM, sizeof value) != 0;
    }
    ck_assert_uint_eq(wrong, 0);
    ck_assert_int_eq(weir_ps_client_peek(client, 0, keys, 0, values, &error), WEIR_OK);
    weir_ps_client_destroy(client);
    atomic_store(&over, true);
    for (uint32_t s = 0; s < 2; s++) {
        ck_assert_int_eq(pthread_join(threads[s], NULL), 0);
        ck_assert_str_eq(servers[s].error.message, "");
        weir_table_destroy(servers[s].table);
    }
    free(keys);
    free(values);
    close_network(&network);
}
END_TEST

/* ---- servers that answer wrongly, or not ---- */

static weir_frame_t make_rows(weir_frame_type_t type, uint64_t step, uint32_t count, size_t size) {
    weir_frame_t frame = {
        .header = {.type = (uint16_t)type, .step = step, .count = count, .payload_size = size}};
    if (size > 0) {
        frame.payload = weir_buffer_acquire(size);
        ck_assert_ptr_nonnull(frame.payload);
        memset(frame.payload, 0, size);
    }
    return frame;
}

typedef struct {
    weir_rank_t from;
    uint64_t step;
    uint32_t rows;
    size_t size;
} answer_t;

/* Ranks 0 and 1 are servers, 2 the worker, 3 nobody; a pull of step 4, then these answers. */
static weir_err_t pull_with_answers(const answer_t *answers, size_t count, double timeout,
                                    weir_error_t *error) {
    network_t network;
    weir_key_t key = 1;
    float values[CASE_DIM];
    open_network(&network, 4);
    while (weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), 2) != 1) {
        key++; /* one row from server 1, none from server 0 */
    }
    weir_ps_client_t *client = create_client(network.threads[2], 2, timeout);
    ck_assert_ptr_nonnull(client);
    ck_assert_int_eq(begin_pull(client, 4, &key, 1, error), WEIR_OK);
    for (size_t i = 0; i < count; i++) {
        weir_frame_t frame =
            make_rows(WEIR_FRAME_PULL_REP, answers[i].step, answers[i].rows, answers[i].size);
        ck_assert_int_eq(weir_comm_thread_post(network.threads[answers[i].from], 2, frame, NULL),
                         WEIR_OK);
    }
    weir_err_t err = finish_pull(client, values, error);
    weir_ps_client_destroy(client);
    close_network(&network);
    return err;
}

START_TEST(answers_that_do_not_fit_are_refused_by_rank) {
    enum { ROW = CASE_DIM * sizeof(float) };
    static const answer_t wrong[] = {
        {1, 4, 2, 2 * ROW}, /* more rows than asked for */
        {1, 4, 0, 0},       /* fewer */
        {1, 4, 1, ROW - 4}, /* half a row */
        {1, 3, 1, ROW},     /* another step */
        {3, 4, 1, ROW},     /* no server */
    };
    static const answer_t good[] = {{0, 4, 0, 0}, {1, 4, 1, ROW}};
    static const answer_t twice[] = {{0, 4, 0, 0}, {0, 4, 0, 0}};
    weir_error_t error = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "rank %u", wrong[i].from);
        ck_assert_int_eq(pull_with_answers(&wrong[i], 1, WAIT_SECONDS, &error), WEIR_ERR_PEER);
        ck_assert_msg(strstr(error.message, name) != NULL, "%s", error.message);
    }
    ck_assert_int_eq(pull_with_answers(twice, 2, WAIT_SECONDS, &error), WEIR_ERR_PEER);
    ck_assert_ptr_nonnull(strstr(error.message, "second time"));
    ck_assert_int_eq(pull_with_answers(good, 2, WAIT_SECONDS, &error), WEIR_OK);
}
END_TEST

START_TEST(silence_is_reported_with_the_rank_that_is_silent) {
    static const answer_t half[] = {{0, 4, 0, 0}};
    weir_error_t error = {0};
    ck_assert_int_eq(pull_with_answers(half, 1, 0.05, &error), WEIR_ERR_TIMEOUT);
    ck_assert_msg(strstr(error.message, "rank 1 (server 1 of 2)") != NULL, "%s", error.message);
    network_t network;
    open_network(&network, 3);
    weir_ps_client_t *client = create_client(network.threads[2], 2, 0.05);
    float values[2 * CASE_DIM];
    const weir_key_t keys[2] = {1, 2};
    ck_assert_int_eq(weir_ps_client_peek(client, 0, keys, 2, values, &error), WEIR_ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(error.message, "peek"));
    weir_ps_client_destroy(client);
    close_network(&network);
}
END_TEST

START_TEST(calls_out_of_turn_are_refused) {
    network_t network;
    weir_error_t error = {0};
    float values[CASE_DIM] = {0};
    const weir_key_t key = 5;
    open_network(&network, 2);
    weir_ps_client_t *client = create_client(network.threads[1], 1, WAIT_SECONDS);
    ck_assert_int_eq(finish_pull(client, values, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(push_rows(client, values, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(begin_pull(client, 1, &key, 1, &error), WEIR_OK);
    ck_assert_int_eq(begin_pull(client, 2, &key, 1, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(push_rows(client, values, &error), WEIR_ERR_INVALID);
    weir_ps_client_destroy(client);
    ck_assert_ptr_null(create_client(network.threads[1], 0, 1.0));
    ck_assert_ptr_null(create_client(network.threads[1], WEIR_SLOT_COUNT + 1, 1.0));
    ck_assert_ptr_null(create_client(network.threads[1], 1, 0.0));
    close_network(&network);
}
END_TEST

START_TEST(a_split_gives_every_key_to_its_owner_once_and_in_order) {
    enum { COUNT = 5000 };
    static weir_key_t keys[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = i * i * 31;
    }
    static const uint32_t servers[] = {1, 2, 3, 7, 1000, WEIR_SLOT_COUNT};
    for (size_t n = 0; n < sizeof servers / sizeof *servers; n++) {
        weir_split_t split;
        ck_assert(weir_split_init(&split, servers[n]));
        for (size_t count = 0; count <= COUNT; count += COUNT / 2) {
            ck_assert_int_eq(weir_split_keys(&split, keys, count, NULL), WEIR_OK);
            size_t total = 0, wrong = 0;
            for (uint32_t s = 0; s < servers[n]; s++) {
                const uint32_t *part = weir_split_part(&split, s);
                weir_slot_t first = weir_slot_first(s, servers[n]);
                weir_slot_t end = weir_slot_first(s + 1, servers[n]);
                total += weir_split_count(&split, s);
                for (size_t i = 0; i < weir_split_count(&split, s); i++) {
                    weir_slot_t slot = weir_slot_of_hash(weir_hash64(keys[part[i]]));
                    wrong += slot < first || slot >= end || (i > 0 && part[i] <= part[i - 1]);
                }
            }
            ck_assert_uint_eq(total, count);
            ck_assert_uint_eq(wrong, 0);
        }
        weir_split_fini(&split);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("ps_client");
    TCase *t = tcase_create("ps_client");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, jobs_of_any_size_hold_the_same_bits_after_every_step);
    tcase_add_test(t, a_peek_of_many_keys_goes_in_pieces_and_comes_back_in_order);
    tcase_add_test(t, answers_that_do_not_fit_are_refused_by_rank);
    tcase_add_test(t, silence_is_reported_with_the_rank_that_is_silent);
    tcase_add_test(t, calls_out_of_turn_are_refused);
    tcase_add_test(t, a_split_gives_every_key_to_its_owner_once_and_in_order);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
