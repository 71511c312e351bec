/* Candidates scored from kept keys and values, against a forward with each as the only target. */
#include "tests/suite.h"
#include "worker/stu_cache.h"

#include <math.h>
#include <string.h>

#ifdef WEIR_REAL_F64
static const double tolerance = 1e-12;
#else
static const double tolerance = 2e-5;
#endif

enum { CANDIDATES = 37 };

static uint64_t random_state = 11;

static weir_real_t *draw_numbers(size_t count) {
    weir_real_t *numbers = calloc(count, sizeof *numbers);
    ck_assert_ptr_nonnull(numbers);
    for (size_t i = 0; i < count; i++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        numbers[i] = (weir_real_t)((double)(random_state >> 40) / (1 << 23) - 1.0);
    }
    return numbers;
}

static const weir_stu_config_t configs[] = {
    {.embedding_dim = 24, .blocks = 3, .heads = 2, .dqk = 8, .dv = 6, .max_tokens = 1200},
    {.embedding_dim = 16,
     .blocks = 2,
     .heads = 1,
     .dqk = 5,
     .dv = 7,
     .max_tokens = 2000,
     .contextual = 3,
     .window = 40},
    {.embedding_dim = 16,
     .blocks = 2,
     .heads = 4,
     .dqk = 4,
     .dv = 4,
     .max_tokens = 2000,
     .divisor = 77,
     .score_scale = 0.3,
     .window = 600,
     .full_at_end = 2},
};
static const size_t histories[] = {1, 5, 511, 700, 1100};

/* x of the candidate after the layers, as the only target. */
static void score_alone(weir_stu_t *stu, const weir_real_t *parameters, weir_real_t *sequence,
                        size_t tokens, size_t dim, const weir_real_t *candidate, weir_real_t *out) {
    const size_t offsets[] = {0, tokens + 1};
    const uint32_t targets[] = {1};
    const weir_stu_batch_t batch = {
        .users = 1, .tokens = tokens + 1, .offsets = offsets, .targets = targets};
    weir_error_t error = {0};
    memcpy(sequence + tokens * dim, candidate, dim * sizeof *sequence);
    ck_assert_msg(weir_stu_forward(stu, parameters, &batch, sequence, (weir_forward_mode_t){0}, out,
                                   &error) == WEIR_OK,
                  "%s", error.message);
    memmove(out, out + tokens * dim, dim * sizeof *out);
}

START_TEST(microbatches_equal_single_passes) {
    const weir_stu_config_t *config = &configs[_i];
    size_t dim = config->embedding_dim, longest = 1100;
    weir_error_t error = {0};
    weir_stu_t *stu = NULL;
    weir_stu_cache_t *cache = NULL;
    weir_real_t *parameters = draw_numbers(weir_stu_parameter_elements(config));
    weir_real_t *sequence = draw_numbers((longest + 1) * dim);
    weir_real_t *candidates = draw_numbers(CANDIDATES * dim);
    weir_real_t *got = draw_numbers(CANDIDATES * dim);
    weir_real_t *alone = draw_numbers((longest + 1) * dim);
    ck_assert_int_eq(weir_stu_create(config, &stu, &error), WEIR_OK);
    ck_assert_int_eq(weir_stu_cache_create(config, &cache, &error), WEIR_OK);
    for (size_t h = 0; h < sizeof histories / sizeof histories[0]; h++) {
        size_t tokens = histories[h];
        if (tokens < config->contextual) {
            continue;
        }
        ck_assert_msg(weir_stu_cache_fill(cache, parameters, sequence, tokens, &error) == WEIR_OK,
                      "%s", error.message);
        for (size_t first = 0; first < CANDIDATES; first += 10) {
            size_t count = CANDIDATES - first < 10 ? CANDIDATES - first : 10;
            ck_assert_int_eq(weir_stu_cache_score(cache, candidates + first * dim, count,
                                                  got + first * dim, &error),
                             WEIR_OK);
        }
        for (size_t c = 0; c < CANDIDATES; c += 6) {
            score_alone(stu, parameters, sequence, tokens, dim, candidates + c * dim, alone);
            for (size_t d = 0; d < dim; d++) {
                double expected = (double)alone[d], value = (double)got[c * dim + d];
                ck_assert_msg(fabs(value - expected) <= tolerance * fmax(1.0, fabs(expected)),
                              "%zu tokens, candidate %zu: %g, expected %g", tokens, c, value,
                              expected);
            }
        }
    }
    weir_real_t *blocks[] = {parameters, sequence, candidates, got, alone};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
    }
    weir_stu_destroy(stu);
    weir_stu_cache_destroy(cache);
}
END_TEST

START_TEST(candidates_need_a_history_that_leaves_them_room) {
    weir_stu_config_t config = configs[1];
    config.max_tokens = 8;
    weir_error_t error = {0};
    weir_stu_cache_t *cache = NULL;
    weir_real_t *parameters = draw_numbers(weir_stu_parameter_elements(&config));
    weir_real_t *x = draw_numbers(8 * config.embedding_dim);
    ck_assert_int_eq(weir_stu_cache_create(&config, &cache, &error), WEIR_OK);
    ck_assert_int_eq(weir_stu_cache_score(cache, x, 1, x, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_stu_cache_fill(cache, parameters, x, 8, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_stu_cache_fill(cache, parameters, x, 2, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_stu_cache_score(cache, x, 1, x, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_stu_cache_fill(cache, parameters, x, 7, &error), WEIR_OK);
    ck_assert_int_eq(weir_stu_cache_score(cache, x, 1, x, &error), WEIR_OK);
    weir_stu_cache_destroy(cache);
    free(parameters);
    free(x);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("stu cache " WEIR_REAL_NAME);
    TCase *t = tcase_create("scores");
    tcase_add_loop_test(t, microbatches_equal_single_passes, 0,
                        (int)(sizeof configs / sizeof configs[0]));
    tcase_add_test(t, candidates_need_a_history_that_leaves_them_room);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
