/* The ranking model: its loss against a plain computation from its logits, all its gradients
 * against central differences. */
#include "tests/suite.h"
#include "worker/ranking_cache.h"

#include <math.h>
#include <string.h>

enum { USERS = 3, ROWS = 9, TASKS = 3, MOST_TOKENS = 32, MOST_ROWS = 64 };

static uint64_t random_state = 3;

static double draw(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 40) / (1 << 23) - 1.0;
}

static size_t draw_below(size_t bound) {
    return (size_t)((draw() + 1.0) * 0.5 * (double)bound) % bound;
}

static weir_real_t *draw_numbers(size_t count) {
    weir_real_t *numbers = calloc(count, sizeof *numbers);
    ck_assert_ptr_nonnull(numbers);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (weir_real_t)draw();
    }
    return numbers;
}

/* With the direct path or without (loop tests: 1, 0). */
static weir_ranking_config_t small = {
    .layers = {.embedding_dim = 4,
               .blocks = 2,
               .heads = 1,
               .dqk = 3,
               .dv = 2,
               .max_tokens = 12,
               .contextual = 1,
               .dropout = 0.2},
    .positions = 7,
    .time_buckets = 5,
    .action_flags = 3,
    .hidden = 5,
    .tasks = TASKS,
    .input_dropout = 0.1,
    .kinds = {WEIR_TASK_BINARY, WEIR_TASK_REGRESSION, WEIR_TASK_BINARY},
    .weights = {1.0, 0.5, 2.0},
};

typedef struct {
    weir_ranking_t *ranking;
    weir_ranking_batch_t batch;
    size_t offsets[USERS + 1], row_offsets[MOST_TOKENS + 1];
    uint32_t targets[USERS], rows[MOST_ROWS], actions[MOST_TOKENS], positions[MOST_TOKENS],
        times[MOST_TOKENS], predicted[MOST_TOKENS];
    size_t elements;
    weir_real_t *parameters, *d_parameters, *table, *d_table, *logits, *labels;
} problem_t;

static void make_problem(problem_t *p) {
    static const size_t lengths[USERS] = {9, 3, 6};
    static const uint32_t targets[USERS] = {3, 2, 1};
    weir_error_t error = {0};
    memset(p, 0, sizeof *p);
    size_t tokens = 0, queries = 0;
    for (size_t u = 0; u < USERS; u++) {
        for (size_t i = 0; i < lengths[u]; i++, tokens++) {
            bool target = i + targets[u] >= lengths[u];
            p->row_offsets[tokens + 1] = p->row_offsets[tokens] + draw_below(3);
            p->actions[tokens] =
                target ? WEIR_RANKING_NO_ACTIONS : (uint32_t)draw_below(1u << small.action_flags);
            p->positions[tokens] = (uint32_t)draw_below(small.positions);
            p->times[tokens] = (uint32_t)draw_below(small.time_buckets);
            if (target) {
                p->predicted[queries++] = (uint32_t)tokens;
            }
        }
        p->offsets[u + 1] = tokens;
        p->targets[u] = targets[u];
    }
    for (size_t i = 0; i < p->row_offsets[tokens]; i++) {
        p->rows[i] = (uint32_t)draw_below(ROWS);
    }
    p->batch = (weir_ranking_batch_t){.sequence = {.users = USERS,
                                                   .tokens = tokens,
                                                   .offsets = p->offsets,
                                                   .targets = p->targets},
                                      .row_offsets = p->row_offsets,
                                      .rows = p->rows,
                                      .row_count = ROWS,
                                      .actions = p->actions,
                                      .positions = p->positions,
                                      .times = p->times,
                                      .predicted = p->predicted,
                                      .predictions = queries};
    p->elements = weir_ranking_parameter_elements(&small);
    p->parameters = draw_numbers(p->elements);
    p->d_parameters = draw_numbers(p->elements);
    p->table = draw_numbers(ROWS * small.layers.embedding_dim);
    p->d_table = draw_numbers(ROWS * small.layers.embedding_dim);
    p->logits = draw_numbers(queries * TASKS);
    p->labels = draw_numbers(queries * TASKS);
    for (size_t i = 0; i < queries * TASKS; i++) {
        if (small.kinds[i % TASKS] == WEIR_TASK_BINARY) {
            p->labels[i] = p->labels[i] > 0 ? 1 : 0;
        }
    }
    p->labels[4] = (weir_real_t)NAN;
    ck_assert_msg(weir_ranking_create(&small, &p->ranking, &error) == WEIR_OK, "%s", error.message);
}

static void free_problem(problem_t *p) {
    weir_real_t *blocks[] = {p->parameters, p->d_parameters, p->table,
                             p->d_table,    p->logits,       p->labels};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
    }
    weir_ranking_destroy(p->ranking);
}

static void forward(problem_t *p) {
    const weir_forward_mode_t mode = {.train = true, .seed = 1, .step = 2};
    weir_error_t error = {0};
    ck_assert_msg(weir_ranking_forward(p->ranking, p->parameters, &p->batch, p->table, mode,
                                       p->logits, &error) == WEIR_OK,
                  "%s", error.message);
}

/* The loss by its definition. */
static double loss_of(const problem_t *p, double scale) {
    double sum = 0.0;
    for (size_t i = 0; i < p->batch.predictions * TASKS; i++) {
        double z = (double)p->logits[i], y = (double)p->labels[i];
        double weight = scale * small.weights[i % TASKS];
        if (isnan(y)) {
            continue;
        }
        if (small.kinds[i % TASKS] == WEIR_TASK_BINARY) {
            double chance = 1.0 / (1.0 + exp(-z));
            sum -= weight * (y * log(chance) + (1.0 - y) * log(1.0 - chance));
        } else {
            sum += weight * 0.5 * (z - y) * (z - y);
        }
    }
    return sum;
}

static double backward(problem_t *p, double scale) {
    weir_error_t error = {0};
    double loss = 0.0;
    ck_assert_msg(weir_ranking_backward(p->ranking, p->labels, scale, &loss, p->d_table,
                                        p->d_parameters, NULL, NULL, &error) == WEIR_OK,
                  "%s", error.message);
    return loss;
}

START_TEST(the_loss_is_that_of_its_definition) {
    small.direct = _i == 1;
    problem_t p;
    make_problem(&p);
    forward(&p);
    double expected = loss_of(&p, 0.25), got = backward(&p, 0.25);
    ck_assert_msg(fabs(got - expected) <= 1e-5 * fabs(expected), "%g, expected %g", got, expected);
    free_problem(&p);
}
END_TEST

#ifdef WEIR_REAL_F64

static void check_slopes(problem_t *p, weir_real_t *values, const weir_real_t *gradient,
                         size_t count, const char *what) {
    const double h = 1e-6;
    for (size_t i = 0; i < count; i++) {
        double kept = values[i];
        values[i] = kept + h;
        forward(p);
        double above = loss_of(p, 1.0);
        values[i] = kept - h;
        forward(p);
        double slope = (above - loss_of(p, 1.0)) / (2.0 * h);
        values[i] = kept;
        ck_assert_msg(fabs(slope - gradient[i]) <= 1e-6 * fmax(1.0, fabs(slope)),
                      "%s[%zu]: slope %.12g, gradient %.12g", what, i, slope, gradient[i]);
    }
}

START_TEST(gradients_are_slopes) {
    small.direct = _i == 1;
    problem_t p;
    make_problem(&p);
    forward(&p);
    (void)backward(&p, 1.0);
    for (size_t i = 0; i < weir_ranking_parameter_count(&small); i++) {
        weir_parameter_t parameter = weir_ranking_parameter(&small, i);
        check_slopes(&p, p.parameters + parameter.offset, p.d_parameters + parameter.offset,
                     parameter.rows * parameter.cols, parameter.name);
    }
    check_slopes(&p, p.table, p.d_table, ROWS * small.layers.embedding_dim, "row");
    free_problem(&p);
}
END_TEST

#endif

START_TEST(parameters_fill_the_buffer_without_gaps) {
    small.direct = _i == 1;
    size_t end = 0;
    for (size_t i = 0; i < weir_ranking_parameter_count(&small); i++) {
        weir_parameter_t parameter = weir_ranking_parameter(&small, i);
        ck_assert_msg(parameter.offset == end, "%s begins at %zu, not %zu", parameter.name,
                      parameter.offset, end);
        end += parameter.rows * parameter.cols;
    }
    ck_assert_uint_eq(end, weir_ranking_parameter_elements(&small));
}
END_TEST

static void note(void *argument, size_t begin, size_t end) {
    size_t *last = argument;
    ck_assert_uint_eq(end, *last);
    *last = begin;
}

START_TEST(gradients_are_announced_from_the_heads_to_the_tables) {
    small.direct = _i == 1;
    problem_t p;
    make_problem(&p);
    forward(&p);
    size_t last = p.elements;
    double loss;
    ck_assert_int_eq(weir_ranking_backward(p.ranking, p.labels, 1.0, &loss, p.d_table,
                                           p.d_parameters, note, &last, NULL),
                     WEIR_OK);
    ck_assert_uint_eq(last, 0);
    free_problem(&p);
}
END_TEST

START_TEST(what_is_out_of_range_is_refused) {
    problem_t p;
    weir_error_t error = {0};
    const weir_forward_mode_t mode = {0};
    make_problem(&p);
    uint32_t *const wrong[] = {&p.positions[2], &p.times[3], &p.actions[1], &p.rows[0],
                               &p.predicted[0]};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint32_t kept = *wrong[i];
        *wrong[i] = 1000;
        ck_assert_int_eq(weir_ranking_forward(p.ranking, p.parameters, &p.batch, p.table, mode,
                                              p.logits, &error),
                         WEIR_ERR_INVALID);
        *wrong[i] = kept;
    }
    ck_assert_int_eq(weir_ranking_backward(p.ranking, p.labels, 1.0, &(double){0}, p.d_table,
                                           p.d_parameters, NULL, NULL, &error),
                     WEIR_ERR_INVALID);
    free_problem(&p);
    weir_ranking_config_t config = small;
    weir_ranking_t *none = NULL;
    config.tasks = 0;
    ck_assert_int_eq(weir_ranking_create(&config, &none, &error), WEIR_ERR_INVALID);
    config = small;
    config.weights[1] = -1.0;
    ck_assert_int_eq(weir_ranking_create(&config, &none, &error), WEIR_ERR_INVALID);
}
END_TEST

START_TEST(time_before_the_query_has_its_bucket) {
    static const struct {
        int64_t seconds;
        uint32_t bucket;
    } cases[] = {{-5, 0},  {0, 0},     {59, 0},    {60, 1},        {239, 1},
                 {240, 2}, {6000, 10}, {6059, 10}, {INT64_MAX, 99}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_uint_eq(weir_ranking_time_bucket(cases[i].seconds, 100), cases[i].bucket);
    }
}
END_TEST

/* Tokens [begin, end) of the problem as a batch of one user. */
typedef struct {
    weir_ranking_batch_t batch;
    size_t offsets[2], row_offsets[MOST_TOKENS + 1];
    uint32_t targets[1], predicted[MOST_TOKENS];
} part_t;

static const weir_ranking_batch_t *take_part(const problem_t *p, size_t begin, size_t end,
                                             bool candidates, part_t *part) {
    size_t tokens = end - begin;
    *part = (part_t){.offsets = {0, tokens}, .targets = {candidates ? (uint32_t)tokens : 0}};
    for (size_t t = 0; t <= tokens; t++) {
        part->row_offsets[t] = p->row_offsets[begin + t] - p->row_offsets[begin];
        part->predicted[t] = (uint32_t)t;
    }
    part->batch = (weir_ranking_batch_t){.sequence = {.users = 1,
                                                      .tokens = tokens,
                                                      .offsets = part->offsets,
                                                      .targets = part->targets},
                                         .row_offsets = part->row_offsets,
                                         .rows = p->rows + p->row_offsets[begin],
                                         .row_count = ROWS,
                                         .actions = p->actions + begin,
                                         .positions = p->positions + begin,
                                         .times = p->times + begin,
                                         .predicted = part->predicted,
                                         .predictions = candidates ? tokens : 0};
    return &part->batch;
}

/* Histories are filled first, then used in another order, twice: they are kept between requests. */
START_TEST(candidates_from_the_cache_score_as_in_a_pass) {
    small.direct = _i == 1;
    const double tolerance = sizeof(weir_real_t) == 8 ? 1e-12 : 2e-5;
    problem_t p;
    part_t part;
    make_problem(&p);
    weir_ranking_cache_t *cache = NULL;
    weir_stu_history_t *histories[USERS] = {NULL};
    weir_error_t error = {0};
    weir_real_t logits[MOST_TOKENS * TASKS];
    ck_assert_int_eq(weir_ranking_forward(p.ranking, p.parameters, &p.batch, p.table,
                                          (weir_forward_mode_t){.train = false}, p.logits, &error),
                     WEIR_OK);
    ck_assert_int_eq(weir_ranking_cache_create(&small, &cache, &error), WEIR_OK);
    for (size_t u = 0; u < USERS; u++) {
        const weir_ranking_batch_t *history =
            take_part(&p, p.offsets[u], p.offsets[u + 1] - p.targets[u], false, &part);
        ck_assert_msg(weir_ranking_cache_fill(cache, p.parameters, history, p.table, &histories[u],
                                              &error) == WEIR_OK,
                      "%s", error.message);
        ck_assert_uint_gt(weir_stu_history_bytes(histories[u]), 0);
    }
    for (size_t round = 0; round < 2 * USERS; round++) {
        size_t u = USERS - 1 - round % USERS, first = 0;
        for (size_t before = 0; before < u; before++) {
            first += p.targets[before];
        }
        const weir_ranking_batch_t *candidates =
            take_part(&p, p.offsets[u + 1] - p.targets[u], p.offsets[u + 1], true, &part);
        ck_assert_msg(weir_ranking_cache_score(cache, p.parameters, histories[u], candidates,
                                               p.table, logits, &error) == WEIR_OK,
                      "%s", error.message);
        for (size_t i = 0; i < p.targets[u] * TASKS; i++) {
            ck_assert_double_eq_tol((double)logits[i], (double)p.logits[first * TASKS + i],
                                    tolerance);
        }
    }
    for (size_t u = 0; u < USERS; u++) {
        weir_stu_history_free(histories[u]);
    }
    weir_ranking_cache_destroy(cache);
    free_problem(&p);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("ranking " WEIR_REAL_NAME);
    TCase *t = tcase_create("model");
    tcase_add_loop_test(t, the_loss_is_that_of_its_definition, 0, 2);
#ifdef WEIR_REAL_F64
    tcase_add_loop_test(t, gradients_are_slopes, 0, 2);
#endif
    tcase_add_loop_test(t, parameters_fill_the_buffer_without_gaps, 0, 2);
    tcase_add_loop_test(t, gradients_are_announced_from_the_heads_to_the_tables, 0, 2);
    tcase_add_test(t, what_is_out_of_range_is_refused);
    tcase_add_test(t, time_before_the_query_has_its_bucket);
    tcase_add_loop_test(t, candidates_from_the_cache_score_as_in_a_pass, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
