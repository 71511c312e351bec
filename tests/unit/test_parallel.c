/* Several threads give the same bits as one: encoder, loss, gradients, ranks. */
#include "tests/suite.h"
#include "tests/unit/hstu_cases.h"
#include "worker/parallel.h"
#include "worker/rank.h"
#include "worker/score_pass.h"

#include <stdatomic.h>
#include <string.h>

enum { USERS = 23, LONG_USERS = 2, DIM = 18 };

static weir_hstu_config_t model = {.embedding_dim = DIM,
                                   .blocks = 2,
                                   .heads = 3,
                                   .dqk = 5,
                                   .dv = 7,
                                   .max_sequence_length = 900,
                                   .attention_length = 905,
                                   .input_dropout = 0.2,
                                   .layer_dropout = 0.3,
                                   .position_bias = true,
                                   .time_bias = true};

static void tear_down(void) {
    model.bf16 = false;
    weir_parallel_set_threads(1);
}

/* ---- the tasks themselves ---- */

typedef struct {
    atomic_uint runs[1000];
    atomic_uint highest;
} counted_t;

static void count_run(void *argument, size_t task, uint32_t thread) {
    counted_t *counted = argument;
    unsigned highest = atomic_load(&counted->highest);
    atomic_fetch_add(&counted->runs[task], 1);
    while (thread > highest && !atomic_compare_exchange_weak(&counted->highest, &highest, thread)) {
    }
}

START_TEST(every_task_is_run_once_by_a_thread_that_there_is) {
    for (uint32_t threads = 1; threads <= 4; threads++) {
        for (size_t tasks = 0; tasks <= 1000; tasks = tasks * 7 + 1) {
            static counted_t counted;
            memset(&counted, 0, sizeof counted);
            weir_parallel_set_threads(threads);
            weir_parallel_run(tasks, count_run, &counted);
            for (size_t i = 0; i < 1000; i++) {
                ck_assert_uint_eq(atomic_load(&counted.runs[i]), i < tasks ? 1 : 0);
            }
            ck_assert_uint_lt(atomic_load(&counted.highest), weir_parallel_threads());
        }
    }
}
END_TEST

/* ---- a step ---- */

static hstu_case_t *make_step(const size_t *lengths, size_t users, uint32_t threads,
                              weir_negative_sharing_t sharing) {
    weir_parallel_set_threads(threads);
    hstu_case_t *c = hstu_case_create(&model, 5, lengths, users);
    c->sharing = sharing;
    hstu_case_step(c);
    return c;
}

static void expect_equal_steps(const size_t *lengths, size_t users,
                               weir_negative_sharing_t sharing) {
    size_t real = sizeof(weir_real_t), elements = weir_hstu_parameter_elements(&model);
    hstu_case_t *one = make_step(lengths, users, 1, sharing);
    for (uint32_t threads = 2; threads <= 5; threads++) {
        hstu_case_t *some = make_step(lengths, users, threads, sharing);
        size_t cells = one->batch.tokens * DIM * real;
        ck_assert_int_eq(memcmp(one->encoded, some->encoded, cells), 0);
        ck_assert_int_eq(memcmp(one->d_encoded, some->d_encoded, cells), 0);
        ck_assert_int_eq(memcmp(one->d_items, some->d_items, cells), 0);
        ck_assert_int_eq(memcmp(one->d_parameters, some->d_parameters, elements * real), 0);
        ck_assert_int_eq(memcmp(one->d_table, some->d_table, (size_t)HSTU_CASE_ROWS * DIM * real),
                         0);
        ck_assert_int_eq(memcmp(&one->value, &some->value, sizeof one->value), 0);
        hstu_case_destroy(some);
    }
    hstu_case_destroy(one);
}

START_TEST(a_step_of_many_users_is_the_same_bits) {
    size_t lengths[USERS];
    for (size_t u = 0; u < USERS; u++) {
        lengths[u] = 1 + u * u * 37 % 190;
    }
    expect_equal_steps(lengths, USERS, WEIR_NEGATIVES_TOKEN);
}
END_TEST

START_TEST(a_step_of_long_users_is_the_same_bits) {
    static const size_t lengths[LONG_USERS] = {900, 601};
    expect_equal_steps(lengths, LONG_USERS, WEIR_NEGATIVES_TOKEN);
#ifndef WEIR_REAL_F64
    model.bf16 = true;
    expect_equal_steps(lengths, LONG_USERS, WEIR_NEGATIVES_TOKEN);
#endif
}
END_TEST

START_TEST(a_step_with_shared_negatives_is_the_same_bits) {
    static const size_t lengths[LONG_USERS] = {500, 101};
    expect_equal_steps(lengths, LONG_USERS, WEIR_NEGATIVES_BATCH);
    expect_equal_steps(lengths, LONG_USERS, WEIR_NEGATIVES_CATALOGUE);
}
END_TEST

/* The losses in tiles alone, with more negatives than a tile has. */
enum { LOSS_TOKENS = 300, LOSS_ROWS = 4500 };

START_TEST(a_loss_in_tiles_is_the_same_bits) {
    case_rng_t rng = {.seed = 11};
    size_t real = sizeof(weir_real_t), cells = (size_t)LOSS_TOKENS * DIM;
    size_t table = (size_t)LOSS_ROWS * DIM;
    weir_real_t *encoded = case_allocate(cells, real), *rows = case_allocate(table, real);
    weir_real_t *d_encoded[2] = {case_allocate(cells, real), case_allocate(cells, real)};
    weir_real_t *d_rows[2] = {case_allocate(table, real), case_allocate(table, real)};
    uint32_t *targets = case_allocate(LOSS_TOKENS, sizeof *targets);
    uint32_t *negatives = case_allocate(LOSS_ROWS, sizeof *negatives);
    double sums[2] = {0, 0};
    case_fill(&rng, encoded, cells, 0.3);
    case_fill(&rng, rows, table, 1.0);
    for (size_t t = 0; t < LOSS_TOKENS; t++) {
        targets[t] = case_below(&rng, LOSS_ROWS);
    }
    for (size_t r = 0; r < LOSS_ROWS; r++) {
        negatives[r] = case_below(&rng, LOSS_ROWS);
    }
    const weir_loss_batch_t batch = {.tokens = LOSS_TOKENS,
                                     .rows = LOSS_ROWS,
                                     .dim = DIM,
                                     .negatives = LOSS_ROWS,
                                     .targets = targets,
                                     .negative_rows = negatives,
                                     .temperature = 0.05,
                                     .scale = 1.0 / LOSS_TOKENS};
    weir_loss_form_t *const forms[] = {weir_loss_shared, weir_loss_catalogue};
    for (size_t form = 0; form < 2; form++) {
        for (uint32_t threads = 1; threads <= 4; threads++) {
            size_t into = threads > 1;
            weir_loss_t *loss = NULL;
            weir_parallel_set_threads(threads);
            ck_assert_int_eq(weir_loss_create(&loss, NULL), WEIR_OK);
            ck_assert_int_eq(forms[form](loss, &batch, encoded, rows, &sums[into], d_encoded[into],
                                         d_rows[into], NULL),
                             WEIR_OK);
            weir_loss_destroy(loss);
            ck_assert_int_eq(memcmp(d_encoded[0], d_encoded[into], cells * real), 0);
            ck_assert_int_eq(memcmp(d_rows[0], d_rows[into], table * real), 0);
            ck_assert_int_eq(memcmp(&sums[0], &sums[into], sizeof sums[0]), 0);
        }
    }
    free(encoded);
    free(rows);
    free(targets);
    free(negatives);
    for (size_t i = 0; i < 2; i++) {
        free(d_encoded[i]);
        free(d_rows[i]);
    }
}
END_TEST

/* ---- ranks ---- */

enum { RANKED = 1500, ITEMS = 700, WIDTH = 9 };

START_TEST(ranks_are_the_same_numbers) {
    case_rng_t rng = {.seed = 9};
    weir_real_t *encoded = case_allocate((size_t)RANKED * WIDTH, sizeof *encoded);
    weir_real_t *rows = case_allocate((size_t)ITEMS * WIDTH, sizeof *rows);
    weir_real_t *targets = case_allocate((size_t)RANKED * WIDTH, sizeof *targets);
    weir_real_t *scores = case_allocate(RANKED, sizeof *scores);
    int64_t *items = case_allocate(RANKED, sizeof *items);
    int64_t *excluded = case_allocate(RANKED, sizeof *excluded);
    size_t *offsets = case_allocate(RANKED + 1, sizeof *offsets);
    uint64_t *counts[2] = {case_allocate(RANKED, sizeof(uint64_t)),
                           case_allocate(RANKED, sizeof(uint64_t))};
    case_fill(&rng, encoded, (size_t)RANKED * WIDTH, 1.0);
    case_fill(&rng, rows, (size_t)ITEMS * WIDTH, 1.0);
    weir_rank_normalise(rows, ITEMS, WIDTH);
    for (size_t u = 0; u < RANKED; u++) {
        items[u] = 1 + case_below(&rng, ITEMS);
        excluded[u] = 1 + case_below(&rng, ITEMS);
        offsets[u + 1] = u + 1;
        memcpy(targets + u * WIDTH, rows + (size_t)(items[u] - 1) * WIDTH, WIDTH * sizeof *rows);
    }
    ck_assert_int_eq(
        weir_score_own(encoded, targets, RANKED, weir_similarity_dot(WIDTH), scores, NULL),
        WEIR_OK);
    for (uint32_t threads = 1; threads <= 3; threads++) {
        uint64_t *into = counts[threads > 1];
        memset(into, 0, RANKED * sizeof *into);
        weir_parallel_set_threads(threads);
        ck_assert_int_eq(weir_rank_count(encoded, RANKED, weir_similarity_dot(WIDTH), rows, 1,
                                         ITEMS, items, scores, offsets, excluded, into, NULL),
                         WEIR_OK);
        ck_assert_int_eq(memcmp(counts[0], into, RANKED * sizeof *into), 0);
    }
    free(encoded);
    free(rows);
    free(targets);
    free(scores);
    free(items);
    free(excluded);
    free(offsets);
    free(counts[0]);
    free(counts[1]);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("parallel");
    TCase *t = tcase_create("parallel");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, NULL, tear_down);
    tcase_add_test(t, every_task_is_run_once_by_a_thread_that_there_is);
    tcase_add_test(t, a_step_of_many_users_is_the_same_bits);
    tcase_add_test(t, a_step_of_long_users_is_the_same_bits);
    tcase_add_test(t, a_step_with_shared_negatives_is_the_same_bits);
    tcase_add_test(t, a_loss_in_tiles_is_the_same_bits);
    tcase_add_test(t, ranks_are_the_same_numbers);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
