/* Evaluation as a job does it, workers and servers in threads over the in-process transport,
 * against ranks counted by plain loops, one user and one item at a time. */
#include "common/comm.h"
#include "ps/server.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/data_cases.h"
#include "tests/unit/table_cases.h"
#include "worker/evaluate.h"
#include "worker/hstu.h"
#include "worker/score_pass.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { SMALL = 40, LARGE = 65536 + 3000, DIM = 8, MAX_PS = 2, MAX_WORKERS = 3, TIMEOUT = 60 };

static size_t catalogue; /* of the data written last */

static int64_t item_of_event(size_t user, size_t k) {
    return (int64_t)((user * 7 + k * 3) % SMALL * (catalogue / SMALL)) + 1 +
           (int64_t)(k % (catalogue / SMALL));
}

static const weir_hstu_config_t model = {.embedding_dim = DIM,
                                         .blocks = 1,
                                         .heads = 2,
                                         .dqk = 4,
                                         .dv = 4,
                                         .max_sequence_length = 5,
                                         .attention_length = 7,
                                         .position_bias = true,
                                         .time_bias = true};

typedef struct {
    weir_scratch_t scratch;
    weir_config_t config;
    weir_dataset_t *dataset;
    weir_table_options_t options[2]; /* of items, of users */
    uint32_t tables;                 /* 2 with users embedded */
    float *parameters;
} sample_t;

static void make_sample(sample_t *sample, size_t items, double sigma) {
    weir_error_t error = {0};
    catalogue = items;
    weir_scratch_init(&sample->scratch);
    data_write(sample->scratch.path, items, item_of_event);
    ck_assert_msg(weir_dataset_open(sample->scratch.path, &sample->dataset, &error) == WEIR_OK,
                  "%s", error.message);
    weir_config_defaults(&sample->config);
    sample->config.model.embedding_dim = DIM;
    sample->config.model.max_sequence_length = (int64_t)model.max_sequence_length;
    sample->config.eval.batch_users = 7; /* batches with a rest */
    sample->tables = 1;
    sample->options[0] = table_case(WEIR_OPTIMIZER_SGD, DIM, 0.1, 11);
    sample->options[0].row.segments[0].initial_scale = sigma;
    sample->options[1] = sample->options[0];
    (void)snprintf(sample->options[1].row.name, sizeof sample->options[1].row.name, "user");
    sample->options[1].row.table_id = 1;
    sample->parameters = calloc(weir_hstu_parameter_elements(&model), sizeof(float));
    ck_assert_ptr_nonnull(sample->parameters);
    weir_hstu_initialise(&model, 5, sample->parameters);
}

static void end_sample(sample_t *sample) {
    free(sample->parameters);
    weir_dataset_close(sample->dataset);
    weir_scratch_fini(&sample->scratch);
}

static weir_table_t *make_table(const sample_t *sample, uint32_t number) {
    return table_case_create(&sample->options[number]);
}

/* ---- the plain way ---- */

/* An item's embedding; returns its bias, in the measure of the logit. */
static float read_item(const sample_t *sample, weir_table_t *table, int64_t item,
                       float embedding[DIM]) {
    float row[DIM + 1] = {0.0f};
    weir_key_t key = (weir_key_t)item;
    table_case_peek(table, &key, 1, row);
    memcpy(embedding, row, DIM * sizeof(float));
    return sample->config.model.item_bias ? row[DIM] : 0.0f;
}

/* The encoding of a user's last token before event `target`. */
static void encode_user(const sample_t *sample, weir_table_t *table, weir_table_t *users,
                        size_t user, size_t target, weir_hstu_t *hstu, float encoded[DIM]) {
    size_t length = target < model.max_sequence_length ? target : model.max_sequence_length;
    size_t offsets[2] = {0, length};
    int64_t times[DATA_MAX_EVENTS], next_times[DATA_MAX_EVENTS];
    float inputs[DATA_MAX_EVENTS * DIM], outputs[DATA_MAX_EVENTS * DIM], row[DIM];
    weir_key_t user_key = (weir_key_t)user;
    for (size_t i = 0; i < length; i++) {
        size_t event = target - length + i;
        (void)read_item(sample, table, item_of_event(user, event), inputs + i * DIM);
        times[i] = data_time_of_event(user, event);
        next_times[i] = data_time_of_event(user, event + 1);
    }
    weir_sequence_batch_t batch = {
        .users = 1, .tokens = length, .offsets = offsets, .times = times, .next_times = next_times};
    weir_forward_mode_t mode = {.train = false};
    if (sample->tables == 2) {
        table_case_peek(users, &user_key, 1, row);
        batch.user_rows = row;
    }
    ck_assert_int_eq(
        weir_hstu_forward(hstu, sample->parameters, &batch, inputs, mode, outputs, NULL), WEIR_OK);
    memcpy(encoded, outputs + (length - 1) * DIM, DIM * sizeof(float));
}

static bool in_history(size_t user, size_t target, int64_t item) {
    size_t length = target < model.max_sequence_length ? target : model.max_sequence_length;
    for (size_t event = target - length; event < target; event++) {
        if (item_of_event(user, event) == item) {
            return true;
        }
    }
    return false;
}

static float score_item(const sample_t *sample, weir_table_t *table, const float encoded[DIM],
                        int64_t item) {
    float row[DIM], score = 0.0f, bias = read_item(sample, table, item, row);
    weir_rank_normalise(row, 1, DIM);
    ck_assert_int_eq(weir_score_own(encoded, row, 1, weir_similarity_dot(DIM), &score, NULL),
                     WEIR_OK);
    return score + (float)sample->config.loss.temperature * bias;
}

static weir_metrics_t rank_plainly(const sample_t *sample, size_t holdout) {
    weir_metrics_t metrics = {0};
    weir_hstu_t *hstu = NULL;
    weir_table_t *table = make_table(sample, 0), *users = make_table(sample, 1);
    ck_assert_int_eq(weir_hstu_create(&model, &hstu, NULL), WEIR_OK);
    for (size_t user = 0; user < DATA_USERS; user++) {
        float encoded[DIM];
        if (data_events_of_user(user) < holdout + 2) {
            continue;
        }
        size_t target = data_events_of_user(user) - 1 - holdout;
        int64_t wanted = item_of_event(user, target);
        encode_user(sample, table, users, user, target, hstu, encoded);
        float wanted_score = score_item(sample, table, encoded, wanted);
        uint64_t rank = 1;
        for (int64_t item = 1; item <= (int64_t)catalogue; item++) {
            rank += item != wanted && !in_history(user, target, item) &&
                    score_item(sample, table, encoded, item) >= wanted_score;
        }
        weir_metrics_add(&metrics, rank);
    }
    weir_hstu_destroy(hstu);
    weir_table_destroy(table);
    weir_table_destroy(users);
    return metrics;
}

/* ---- the job's way ---- */

typedef struct {
    const sample_t *sample;
    weir_comm_t *comm;
    uint32_t index, ps, workers;
    weir_split_t split;
    atomic_bool *over;
    weir_comm_thread_t *thread;
    weir_metrics_t metrics;
    uint64_t born; /* rows that the server stores in the end */
    weir_err_t err;
    weir_error_t error;
} member_t;

static weir_err_t post_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    return weir_comm_thread_post(((member_t *)argument)->thread, to, frame, error);
}

static weir_err_t serve(member_t *member) {
    weir_table_t *tables[2] = {NULL, NULL};
    weir_server_t *server = NULL;
    weir_server_options_t options = {.index = member->index,
                                     .ps = member->ps,
                                     .first_worker_rank = member->ps,
                                     .workers = member->workers,
                                     .send = post_answer,
                                     .argument = member};
    weir_err_t err = weir_table_create(&member->sample->options[0], &tables[0], &member->error);
    if (err == WEIR_OK) {
        err = weir_table_create(&member->sample->options[1], &tables[1], &member->error);
    }
    if (err == WEIR_OK) {
        err = weir_server_create(&options, tables, member->sample->tables, &server, &member->error);
    }
    while (err == WEIR_OK && !atomic_load(member->over)) {
        weir_frame_t frame;
        bool received = false;
        err = weir_comm_thread_take(member->thread, 1u << WEIR_FRAME_PEEK_REQ, 0.01, &frame,
                                    &received, &member->error);
        if (err == WEIR_OK && received) {
            err = weir_server_handle(server, frame, &member->error);
        }
    }
    member->born = err == WEIR_OK ? table_case_rows(tables[0]) + table_case_rows(tables[1]) : 1;
    weir_server_destroy(server);
    weir_table_destroy(tables[0]);
    weir_table_destroy(tables[1]);
    return err;
}

static weir_err_t work(member_t *member) {
    weir_evaluate_parts_t parts = {.config = &member->sample->config,
                                   .dataset = member->sample->dataset};
    weir_row_schema_t schemas[2] = {member->sample->options[0].row, member->sample->options[1].row};
    weir_ps_client_options_t client = {.comm_thread = member->thread,
                                       .ps = member->ps,
                                       .tables = schemas,
                                       .table_count = member->sample->tables,
                                       .timeout = TIMEOUT};
    weir_exchange_options_t exchange = {.comm_thread = member->thread,
                                        .first_worker_rank = member->ps,
                                        .worker = member->index,
                                        .workers = member->workers,
                                        .timeout = TIMEOUT};
    weir_err_t err = weir_encoder_create(&model, &parts.encoder, &member->error);
    if (err == WEIR_OK) {
        err = weir_ps_client_create(&client, &parts.client, &member->error);
    }
    if (err == WEIR_OK) {
        err = weir_exchange_create(&exchange, &parts.exchange, &member->error);
    }
    if (err == WEIR_OK) {
        err = weir_evaluate(&parts, member->sample->parameters, member->split, 0, 1,
                            &member->metrics, &member->error);
    }
    weir_exchange_destroy(parts.exchange);
    weir_ps_client_destroy(parts.client);
    weir_encoder_destroy(parts.encoder);
    return err;
}

static void *run_member(void *argument) {
    member_t *member = argument;
    bool server = member->over != NULL;
    member->err = server ? serve(member) : work(member);
    return NULL;
}

/* Evaluate with P servers and W workers; the metrics of all workers are the same bits. */
static weir_metrics_t evaluate_together(const sample_t *sample, uint32_t ps, uint32_t workers,
                                        weir_split_t split) {
    weir_comm_t *comms[MAX_PS + MAX_WORKERS];
    pthread_t threads[MAX_PS + MAX_WORKERS];
    member_t members[MAX_PS + MAX_WORKERS];
    atomic_bool over = false;
    uint32_t ranks = ps + workers;
    ck_assert_int_eq(weir_comm_loop_create(ranks, comms, NULL), WEIR_OK);
    for (uint32_t i = 0; i < ranks; i++) {
        members[i] = (member_t){.sample = sample,
                                .comm = comms[i],
                                .index = i < ps ? i : i - ps,
                                .ps = ps,
                                .workers = workers,
                                .split = split,
                                .over = i < ps ? &over : NULL};
        weir_comm_thread_options_t options = {.comm = comms[i], .control_fd = -1};
        ck_assert_int_eq(weir_comm_thread_start(&options, &members[i].thread, NULL), WEIR_OK);
    }
    for (uint32_t i = 0; i < ranks; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_member, &members[i]), 0);
    }
    for (uint32_t i = ps; i < ranks; i++) { /* servers serve until the workers are done */
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    atomic_store(&over, true);
    for (uint32_t i = 0; i < ps; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    for (uint32_t i = 0; i < ranks; i++) {
        ck_assert_int_eq(weir_comm_thread_stop(members[i].thread, 5.0, NULL), WEIR_OK);
    }
    for (uint32_t i = 0; i < ranks; i++) {
        weir_comm_destroy(comms[i]);
        ck_assert_msg(members[i].err == WEIR_OK, "rank %u: %s", i, members[i].error.message);
        if (i >= ps) {
            ck_assert_mem_eq(&members[i].metrics, &members[ps].metrics, sizeof(weir_metrics_t));
        } else {
            ck_assert_uint_eq(members[i].born, 0); /* to look is not to train */
        }
    }
    return members[ps].metrics;
}

static void check_equal(const weir_metrics_t *got, const weir_metrics_t *expected) {
    ck_assert_uint_eq(got->users, expected->users);
    ck_assert_double_eq_tol(got->mrr, expected->mrr, 1e-6);
    for (size_t k = 0; k < WEIR_METRIC_CUTOFFS; k++) {
        ck_assert_double_eq_tol(got->hr[k], expected->hr[k], 1e-9);
        ck_assert_double_eq_tol(got->ndcg[k], expected->ndcg[k], 1e-6);
    }
}

START_TEST(ranks_are_those_of_plain_loops_for_any_workers_and_servers) {
    sample_t sample;
    make_sample(&sample, SMALL, 0.5);
    for (size_t holdout = 0; holdout < 2; holdout++) {
        weir_metrics_t expected = rank_plainly(&sample, holdout);
        ck_assert(expected.hr[1] > 0.0 && expected.hr[1] < (double)expected.users);
        for (uint32_t workers = 1; workers <= MAX_WORKERS; workers++) {
            for (uint32_t ps = 1; ps <= MAX_PS; ps++) {
                weir_metrics_t got = evaluate_together(
                    &sample, ps, workers, holdout == 1 ? WEIR_SPLIT_VALIDATION : WEIR_SPLIT_TEST);
                check_equal(&got, &expected);
            }
        }
    }
    end_sample(&sample);
}
END_TEST

START_TEST(rows_of_users_are_looked_up_where_the_model_has_them) {
    sample_t sample;
    make_sample(&sample, SMALL, 0.5);
    weir_metrics_t without = rank_plainly(&sample, 0);
    sample.config.model.user_embedding = true;
    sample.tables = 2;
    weir_metrics_t expected = rank_plainly(&sample, 0);
    ck_assert(fabs(expected.mrr - without.mrr) > 1e-3);
    for (uint32_t workers = 1; workers <= 2; workers++) {
        weir_metrics_t got = evaluate_together(&sample, 2, workers, WEIR_SPLIT_TEST);
        check_equal(&got, &expected);
    }
    end_sample(&sample);
}
END_TEST

/* Born zero in a model; here anything, so that it is seen. */
static void add_biases(sample_t *sample) {
    weir_row_schema_t *row = &sample->options[0].row;
    row->segments[1] = row->segments[0];
    row->segments[1].dim = 1;
    row->segments[1].initial_scale = 5.0;
    (void)snprintf(row->segments[1].name, sizeof row->segments[1].name, "bias");
    row->segment_count = 2;
    sample->config.model.item_bias = true;
}

START_TEST(biases_of_items_are_part_of_their_scores) {
    sample_t sample;
    make_sample(&sample, SMALL, 0.5);
    weir_metrics_t without = rank_plainly(&sample, 0);
    add_biases(&sample);
    weir_metrics_t expected = rank_plainly(&sample, 0);
    ck_assert(fabs(expected.mrr - without.mrr) > 1e-3);
    for (uint32_t workers = 1; workers <= 2; workers++) {
        weir_metrics_t got = evaluate_together(&sample, 2, workers, WEIR_SPLIT_TEST);
        check_equal(&got, &expected);
    }
    end_sample(&sample);
}
END_TEST

START_TEST(a_catalogue_of_more_than_one_piece_is_ranked_whole) {
    sample_t sample;
    make_sample(&sample, LARGE, 0.5);
    weir_metrics_t expected = rank_plainly(&sample, 0);
    weir_metrics_t got = evaluate_together(&sample, 2, 2, WEIR_SPLIT_TEST);
    check_equal(&got, &expected);
    end_sample(&sample);
}
END_TEST

/* All rows are zero, all scores are equal: a target ranks behind all that is not its history. */
START_TEST(ties_count_against_us) {
    sample_t sample;
    make_sample(&sample, SMALL, 0.0);
    weir_metrics_t expected = {0};
    for (size_t user = 0; user < DATA_USERS; user++) {
        if (data_events_of_user(user) < 2) {
            continue;
        }
        size_t target = data_events_of_user(user) - 1;
        uint64_t rank = 0;
        for (int64_t item = 1; item <= SMALL; item++) {
            rank += item == item_of_event(user, target) || !in_history(user, target, item);
        }
        weir_metrics_add(&expected, rank);
    }
    weir_metrics_t got = evaluate_together(&sample, 1, 2, WEIR_SPLIT_TEST);
    check_equal(&got, &expected);
    ck_assert(got.hr[1] <= 0.0 && got.hr[2] >= (double)got.users);
    end_sample(&sample);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("evaluate");
    TCase *t = tcase_create("evaluate");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, ranks_are_those_of_plain_loops_for_any_workers_and_servers);
    tcase_add_test(t, rows_of_users_are_looked_up_where_the_model_has_them);
    tcase_add_test(t, biases_of_items_are_part_of_their_scores);
    tcase_add_test(t, a_catalogue_of_more_than_one_piece_is_ranked_whole);
    tcase_add_test(t, ties_count_against_us);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
