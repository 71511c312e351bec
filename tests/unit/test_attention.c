/* Fused attention of every level against the naive one, in bfloat16 too, and the naive one against
 * finite differences. Compiled for float32 and float64. */
#include "tests/suite.h"
#include "worker/attention.h"

#include <math.h>
#include <string.h>

#ifdef WEIR_REAL_F64
static const double tolerance = 1e-11;
#else
static const double tolerance = 3e-5;
#endif
/* A score that differs in its last bit may round to the other bfloat16: terms then differ by 2^-8.
 */
static const double bf16_tolerance = 1.0 / 256;

static const char *const level_names[] = {"v4", "v3", "v2", "generic", "naive"};
enum { LEVELS = sizeof level_names / sizeof level_names[0], MAX_USERS = 12 };

typedef struct {
    weir_attention_config_t config;
    weir_sequence_batch_t batch;
    size_t offsets[MAX_USERS + 1];
    int64_t *times, *next_times;
    weir_real_t *z, *position, *time, *d_y;
    weir_visible_t *visible; /* NULL: causal */
} problem_t;

typedef struct {
    weir_real_t *y, *d_z, *d_position, *d_time;
} result_t;

static uint64_t random_state = 1;

static uint64_t draw(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 20;
}

static weir_real_t draw_number(void) {
    return (weir_real_t)((double)(draw() % 2000001) / 1e6 - 1.0);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count + 1, size);
    ck_assert_ptr_nonnull(memory);
    return memory;
}

static size_t z_width(const problem_t *p) {
    return 2 * p->config.heads * (p->config.dv + p->config.dqk);
}

static weir_real_t *draw_numbers(size_t count) {
    weir_real_t *numbers = allocate(count, sizeof *numbers);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = draw_number();
    }
    return numbers;
}

/* Times that mostly rise, some far apart, some equal; or hostile ones. */
static void draw_times(problem_t *p, bool hostile) {
    size_t tokens = p->batch.tokens;
    p->times = allocate(tokens, sizeof *p->times);
    p->next_times = allocate(tokens, sizeof *p->next_times);
    for (size_t user = 0; user < p->batch.users; user++) {
        int64_t now = 978300000;
        uint64_t widest = draw() % 2 == 0 ? 24 : 48; /* bits of the longest gap */
        for (size_t t = p->offsets[user]; t < p->offsets[user + 1]; t++) {
            uint64_t gap = draw() % ((uint64_t)1 << (draw() % widest));
            now += (int64_t)(draw() % 3 == 0 ? gap : draw() % 2);
            p->times[t] = now;
        }
        for (size_t t = p->offsets[user]; t < p->offsets[user + 1]; t++) {
            p->next_times[t] = t + 1 < p->offsets[user + 1] ? p->times[t + 1] : now + 77;
        }
    }
    for (size_t t = 0; hostile && t < tokens; t++) {
        int64_t extremes[4] = {INT64_MIN, INT64_MAX, 0, (int64_t)(draw() << 20)};
        p->times[t] = extremes[draw() % 4];
        p->next_times[t] = extremes[draw() % 4];
    }
}

static problem_t make_problem(const size_t *lengths, size_t users, size_t heads, size_t dqk,
                              size_t dv, bool hostile) {
    problem_t p = {0};
    ck_assert_uint_le(users, MAX_USERS);
    size_t longest = 0;
    for (size_t user = 0; user < users; user++) {
        p.offsets[user + 1] = p.offsets[user] + lengths[user];
        longest = lengths[user] > longest ? lengths[user] : longest;
    }
    p.config = (weir_attention_config_t){.heads = heads,
                                         .dqk = dqk,
                                         .dv = dv,
                                         .attention_length = longest + draw() % 5,
                                         .position_bias = true,
                                         .time_bias = true};
    p.batch.users = users;
    p.batch.tokens = p.offsets[users];
    draw_times(&p, hostile);
    p.z = draw_numbers(p.batch.tokens * z_width(&p));
    p.d_y = draw_numbers(p.batch.tokens * heads * dv);
    p.position = draw_numbers(2 * p.config.attention_length - 1);
    p.time = draw_numbers(WEIR_HSTU_TIME_BUCKETS);
    return p;
}

/* The batch points into the problem itself, so it is bound where the problem finally lies. */
static void bind(problem_t *p) {
    p->batch.offsets = p->offsets;
    p->batch.times = p->times;
    p->batch.next_times = p->next_times;
    p->batch.visible = p->visible;
}

/* Without biases, scaled, and with any pairs at all. */
static void draw_visible(problem_t *p) {
    p->config.position_bias = p->config.time_bias = false;
    p->config.score_scale = 0.7;
    p->config.divisor = 13.0;
    p->visible = allocate(p->batch.tokens, sizeof *p->visible);
    for (size_t user = 0; user < p->batch.users; user++) {
        size_t length = p->offsets[user + 1] - p->offsets[user];
        for (size_t i = 0; i < length; i++) {
            weir_visible_t *visible = &p->visible[p->offsets[user] + i];
            visible->end = (uint32_t)(draw() % (length + 1));
            visible->first = (uint32_t)(draw() % (length + 1)); /* beyond the end: none */
            if (draw() % 4 == 0) {
                *visible = (weir_visible_t){0, (uint32_t)i};
            }
        }
    }
}

static void free_problem(problem_t *p) {
    free(p->times);
    free(p->next_times);
    free(p->z);
    free(p->d_y);
    free(p->visible);
    free(p->position);
    free(p->time);
}

static result_t make_result(const problem_t *p) {
    result_t r = {
        .y = draw_numbers(p->batch.tokens * p->config.heads * p->config.dv),
        .d_z = draw_numbers(p->batch.tokens * z_width(p)),
        .d_position = draw_numbers(2 * p->config.attention_length - 1),
        .d_time = draw_numbers(WEIR_HSTU_TIME_BUCKETS),
    };
    /* The columns of u are not attention's: they must be left alone. */
    for (size_t t = 0; t < p->batch.tokens; t++) {
        for (size_t c = 0; c < p->config.heads * p->config.dv; c++) {
            r.d_z[t * z_width(p) + c] = (weir_real_t)0.001;
        }
    }
    return r;
}

static void free_result(result_t *r) {
    free(r->y);
    free(r->d_z);
    free(r->d_position);
    free(r->d_time);
}

static void run_naive(const problem_t *p, result_t *r) {
    weir_attention_input_t input = {p->z, p->position, p->time};
    weir_attention_gradient_t gradient = {r->d_z, r->d_position, r->d_time};
    weir_attention_forward_naive(&p->config, &p->batch, &input, r->y);
    weir_attention_backward_naive(&p->config, &p->batch, &input, p->d_y, &gradient);
}

static void run_level(const problem_t *p, const weir_kernels_t *kernels, result_t *r) {
    weir_error_t error = {0};
    weir_attention_t *attention = NULL;
    weir_attention_input_t input = {p->z, p->position, p->time};
    weir_attention_gradient_t gradient = {r->d_z, r->d_position, r->d_time};
    ck_assert_int_eq(weir_attention_create(&p->config, kernels, &attention, &error), WEIR_OK);
    ck_assert_msg(weir_attention_prepare(attention, &p->batch, &error) == WEIR_OK, "%s",
                  error.message);
    weir_attention_forward(attention, &input, r->y);
    weir_attention_backward(attention, &input, p->d_y, &gradient);
    weir_attention_destroy(attention);
}

/* Every number within the tolerance of the largest of its array. In bfloat16 also their root mean
 * square, which few scores that round the other way do not move and operands that are not rounded
 * would. */
static void assert_close(const weir_real_t *a, const weir_real_t *b, size_t count, const char *what,
                         double allowed, const char *level) {
    double largest = 0.0, worst = 0.0, squares = 0.0;
    size_t where = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)a[i] - (double)b[i]);
        largest = fmax(largest, fabs((double)b[i]));
        squares += difference * difference;
        if (difference > worst || isnan(difference)) {
            worst = isnan(difference) ? HUGE_VAL : difference;
            where = i;
        }
    }
    ck_assert_msg(worst <= allowed * fmax(largest, 1e-3), "%s of %s at %zu: %g, expected %g", what,
                  level, where, (double)a[where], (double)b[where]);
    double mean = sqrt(squares / (double)(count > 0 ? count : 1));
    ck_assert_msg(mean <= allowed / 32 * fmax(largest, 1e-3), "%s of %s: off by %g of %g", what,
                  level, mean, largest);
}

static void assert_results_close(const problem_t *p, const result_t *a, const result_t *b,
                                 const char *level) {
    double allowed = p->config.bf16 ? bf16_tolerance : tolerance;
    size_t values = p->batch.tokens * p->config.heads * p->config.dv;
    size_t positions = 2 * p->config.attention_length - 1;
    assert_close(a->y, b->y, values, "y", allowed, level);
    assert_close(a->d_z, b->d_z, p->batch.tokens * z_width(p), "d_z", allowed, level);
    assert_close(a->d_position, b->d_position, positions, "d_position", allowed, level);
    assert_close(a->d_time, b->d_time, WEIR_HSTU_TIME_BUCKETS, "d_time", allowed, level);
}

static void compare_levels_in(problem_t *p, bool bf16) {
    p->config.bf16 = bf16;
    bind(p);
    result_t expected = make_result(p);
    run_naive(p, &expected);
    for (size_t i = 0; i < LEVELS; i++) {
        const weir_kernels_t *kernels = NULL;
        if (weir_kernels_find(level_names[i], &kernels, NULL) != WEIR_OK) {
            continue; /* not on this processor */
        }
        result_t got = make_result(p);
        run_level(p, kernels, &got);
        assert_results_close(p, &got, &expected, level_names[i]);
        free_result(&got);
    }
    free_result(&expected);
}

static void compare_levels(problem_t *p) {
    compare_levels_in(p, false);
#ifndef WEIR_REAL_F64
    compare_levels_in(p, true);
#endif
}

START_TEST(all_levels_agree_with_the_naive_on_random_ragged_batches) {
    for (int round = 0; round < 30; round++) {
        size_t lengths[MAX_USERS], users = 1 + draw() % 6;
        for (size_t user = 0; user < users; user++) {
            lengths[user] = 1 + draw() % (round % 3 == 0 ? 150 : 40);
        }
        lengths[draw() % users] = 1;
        problem_t p = make_problem(lengths, users, 1 + draw() % 3, 1 + draw() % 40, 1 + draw() % 40,
                                   round % 5 == 4);
        p.config.position_bias = round % 4 != 1;
        p.config.time_bias = round % 4 != 2;
        compare_levels(&p);
        free_problem(&p);
    }
}
END_TEST

START_TEST(softmax_of_all_levels_agrees_with_the_naive) {
    for (int round = 0; round < 12; round++) {
        size_t lengths[MAX_USERS], users = 1 + draw() % 4;
        for (size_t user = 0; user < users; user++) {
            lengths[user] = 1 + draw() % (round % 3 == 0 ? 200 : 70);
        }
        problem_t p = make_problem(lengths, users, 1 + draw() % 3, 1 + draw() % 40, 1 + draw() % 40,
                                   round % 5 == 4);
        p.config.softmax = true;
        p.config.bucket_memory = round % 2 == 0 ? 1 : 0;
        p.config.position_bias = round % 4 != 1;
        p.config.time_bias = round % 4 != 2;
        compare_levels_in(&p, false); /* in bfloat16 the naive rounds what tiles divide later */
        free_problem(&p);
    }
}
END_TEST

START_TEST(lengths_around_panels_and_key_blocks_agree) {
    static const size_t lengths[] = {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129};
    static const size_t dims[][2] = {{1, 1}, {16, 32}, {25, 25}, {50, 50}, {13, 7}};
    for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
        problem_t p = make_problem(lengths, sizeof lengths / sizeof lengths[0], 1, dims[d][0],
                                   dims[d][1], false);
        compare_levels(&p);
        free_problem(&p);
    }
}
END_TEST

START_TEST(a_long_user_agrees_with_buckets_prepared_or_not) {
    static const size_t lengths[] = {3, 421, 9};
    for (int round = 0; round < 2; round++) {
        problem_t p = make_problem(lengths, 3, 2, 5, 11, false);
        p.config.bucket_memory = round == 0 ? 1 : 0;
        compare_levels(&p);
        free_problem(&p);
    }
}
END_TEST

START_TEST(a_level_gives_the_same_bits_wherever_its_buffers_lie) {
    static const size_t lengths[] = {70, 1, 140};
    problem_t p = make_problem(lengths, 3, 2, 25, 19, false);
    p.config.bf16 = _i == 1;
    bind(&p);
    size_t count = p.batch.tokens * z_width(&p);
    weir_real_t *shifted = allocate(count + 3, sizeof *shifted), *z = p.z;
    memcpy(shifted + 3, z, count * sizeof *z);
    for (size_t i = 0; i < LEVELS; i++) {
        const weir_kernels_t *kernels = NULL;
        if (weir_kernels_find(level_names[i], &kernels, NULL) != WEIR_OK) {
            continue;
        }
        result_t first = make_result(&p), second = make_result(&p);
        p.z = z;
        run_level(&p, kernels, &first);
        p.z = shifted + 3;
        run_level(&p, kernels, &second);
        ck_assert_int_eq(memcmp(first.d_z, second.d_z, count * sizeof *z), 0);
        ck_assert_int_eq(memcmp(first.d_time, second.d_time, WEIR_HSTU_TIME_BUCKETS * sizeof *z),
                         0);
        free_result(&first);
        free_result(&second);
    }
    p.z = z;
    free(shifted);
    free_problem(&p);
}
END_TEST

START_TEST(visible_tokens_agree_with_the_naive) {
    static const size_t lengths[][4] = {{1, 5, 33, 70}, {129, 31, 32, 300}, {64, 128, 2, 257}};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        problem_t p = make_problem(lengths[i], 4, 1 + i, 4 + 3 * i, 5 + 2 * i, false);
        draw_visible(&p);
        compare_levels(&p);
        free_problem(&p);
    }
}
END_TEST

START_TEST(visible_tokens_beyond_the_user_or_with_biases_are_refused) {
    static const size_t lengths[] = {3, 4};
    problem_t p = make_problem(lengths, 2, 1, 2, 2, false);
    weir_attention_t *attention = NULL;
    draw_visible(&p);
    bind(&p);
    ck_assert_int_eq(weir_attention_create(&p.config, NULL, &attention, NULL), WEIR_OK);
    ck_assert_int_eq(weir_attention_prepare(attention, &p.batch, NULL), WEIR_OK);
    p.visible[1].end = 4;
    ck_assert_int_eq(weir_attention_prepare(attention, &p.batch, NULL), WEIR_ERR_INVALID);
    weir_attention_destroy(attention);
    p.visible[1].end = 3;
    p.config.time_bias = true;
    ck_assert_int_eq(weir_attention_create(&p.config, NULL, &attention, NULL), WEIR_OK);
    ck_assert_int_eq(weir_attention_prepare(attention, &p.batch, NULL), WEIR_ERR_INVALID);
    weir_attention_destroy(attention);
    free_problem(&p);
}
END_TEST

START_TEST(an_attention_serves_batches_of_changing_size) {
    static const size_t large[] = {200, 90}, small[] = {5};
    weir_attention_t *attention = NULL;
    weir_error_t error = {0};
    problem_t problems[3] = {make_problem(large, 2, 2, 9, 6, false),
                             make_problem(small, 1, 2, 9, 6, false),
                             make_problem(large, 2, 2, 9, 6, true)};
    weir_attention_config_t config = problems[0].config;
    ck_assert_int_eq(weir_attention_create(&config, NULL, &attention, &error), WEIR_OK);
    for (size_t i = 0; i < 3; i++) {
        problem_t *p = &problems[i];
        free(p->position);
        p->config = config;
        p->position = draw_numbers(2 * config.attention_length - 1);
        bind(p);
        result_t expected = make_result(p), got = make_result(p);
        run_naive(p, &expected);
        weir_attention_input_t input = {p->z, p->position, p->time};
        weir_attention_gradient_t gradient = {got.d_z, got.d_position, got.d_time};
        ck_assert_int_eq(weir_attention_prepare(attention, &p->batch, &error), WEIR_OK);
        weir_attention_forward(attention, &input, got.y);
        weir_attention_backward(attention, &input, p->d_y, &gradient);
        assert_results_close(p, &got, &expected, "one object");
        free_result(&expected);
        free_result(&got);
        free_problem(p);
    }
    weir_attention_destroy(attention);
}
END_TEST

START_TEST(a_user_without_events_or_with_too_many_is_refused) {
    static const size_t lengths[] = {4, 6};
    problem_t p = make_problem(lengths, 2, 1, 3, 3, false);
    bind(&p);
    p.config.attention_length = 5;
    weir_attention_t *attention = NULL;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_attention_create(&p.config, NULL, &attention, &error), WEIR_OK);
    ck_assert_int_eq(weir_attention_prepare(attention, &p.batch, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "user 1"));
    p.offsets[1] = p.offsets[2] = 0;
    ck_assert_int_eq(weir_attention_prepare(attention, &p.batch, &error), WEIR_ERR_INVALID);
    weir_attention_destroy(attention);
    free_problem(&p);
}
END_TEST

START_TEST(a_configuration_without_heads_is_refused) {
    weir_attention_config_t config = {.heads = 0, .dqk = 1, .dv = 1, .attention_length = 1};
    weir_attention_t *attention = NULL;
    ck_assert_int_eq(weir_attention_create(&config, NULL, &attention, NULL), WEIR_ERR_INVALID);
    ck_assert_ptr_null(attention);
}
END_TEST

#ifdef WEIR_REAL_F64

/* sum(y * d_y) */
static double objective(const problem_t *p) {
    size_t count = p->batch.tokens * p->config.heads * p->config.dv;
    weir_real_t *y = allocate(count, sizeof *y);
    weir_attention_input_t input = {p->z, p->position, p->time};
    weir_attention_forward_naive(&p->config, &p->batch, &input, y);
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += y[i] * p->d_y[i];
    }
    free(y);
    return sum;
}

static void assert_slopes(const problem_t *p, weir_real_t *values, const weir_real_t *gradient,
                          size_t count, const char *what) {
    for (size_t i = 0; i < count; i++) {
        double step = 1e-5, kept = values[i];
        values[i] = kept + step;
        double above = objective(p);
        values[i] = kept - step;
        double below = objective(p);
        values[i] = kept;
        double slope = (above - below) / (2.0 * step);
        ck_assert_msg(fabs(slope - gradient[i]) <= 1e-8 * fmax(1.0, fabs(slope)),
                      "%s[%zu]: slope %g, gradient %g", what, i, slope, gradient[i]);
    }
}

START_TEST(the_naive_gradient_is_the_slope) {
    static const size_t lengths[] = {1, 6, 4};
    problem_t p = make_problem(lengths, 3, 2, 3, 2, false);
    bind(&p);
    result_t r = make_result(&p);
    run_naive(&p, &r);
    for (size_t t = 0; t < p.batch.tokens; t++) { /* u plays no part */
        memset(r.d_z + t * z_width(&p), 0, p.config.heads * p.config.dv * sizeof *r.d_z);
    }
    assert_slopes(&p, p.z, r.d_z, p.batch.tokens * z_width(&p), "z");
    assert_slopes(&p, p.position, r.d_position, 2 * p.config.attention_length - 1, "position");
    assert_slopes(&p, p.time, r.d_time, WEIR_HSTU_TIME_BUCKETS, "time");
    free_result(&r);
    free_problem(&p);
}
END_TEST

START_TEST(the_naive_gradient_of_visible_tokens_is_the_slope) {
    static const size_t lengths[] = {1, 6, 4};
    problem_t p = make_problem(lengths, 3, 2, 3, 2, false);
    draw_visible(&p);
    bind(&p);
    result_t r = make_result(&p);
    run_naive(&p, &r);
    for (size_t t = 0; t < p.batch.tokens; t++) {
        memset(r.d_z + t * z_width(&p), 0, p.config.heads * p.config.dv * sizeof *r.d_z);
    }
    assert_slopes(&p, p.z, r.d_z, p.batch.tokens * z_width(&p), "z");
    free_result(&r);
    free_problem(&p);
}
END_TEST

#endif

static Suite *suite(void) {
    Suite *s = suite_create("attention " WEIR_REAL_NAME);
    TCase *t = tcase_create("attention");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, all_levels_agree_with_the_naive_on_random_ragged_batches);
    tcase_add_test(t, softmax_of_all_levels_agrees_with_the_naive);
    tcase_add_test(t, lengths_around_panels_and_key_blocks_agree);
    tcase_add_test(t, a_long_user_agrees_with_buckets_prepared_or_not);
    tcase_add_loop_test(t, a_level_gives_the_same_bits_wherever_its_buffers_lie, 0, 2);
    tcase_add_test(t, visible_tokens_agree_with_the_naive);
    tcase_add_test(t, visible_tokens_beyond_the_user_or_with_biases_are_refused);
    tcase_add_test(t, an_attention_serves_batches_of_changing_size);
    tcase_add_test(t, a_user_without_events_or_with_too_many_is_refused);
    tcase_add_test(t, a_configuration_without_heads_is_refused);
#ifdef WEIR_REAL_F64
    tcase_add_test(t, the_naive_gradient_is_the_slope);
    tcase_add_test(t, the_naive_gradient_of_visible_tokens_is_the_slope);
#endif
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
