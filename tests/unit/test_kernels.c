/* The kernels of every level against the naive ones. Compiled for float32 and float64. */
#include "tests/suite.h"
#include "worker/kernels.h"

#include <math.h>
#include <string.h>

#ifdef WEIR_REAL_F64
static const double tolerance = 1e-12;
static const double exp_tolerance = 0.0;
#else
static const double tolerance = 2e-6;
static const double exp_tolerance = 2.4e-7;
#endif

static const char *const level_names[] = {"v4", "v3", "v2", "generic"};
static const size_t widths[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 25, 31, 50, 64, 77, 130, 211};
enum {
    LEVELS = sizeof level_names / sizeof level_names[0],
    WIDTHS = sizeof widths / sizeof widths[0],
    TOKENS = 9,
    GUARD = 8 /* numbers behind every array that must not be touched */
};

static uint64_t random_state = 7;

static uint64_t draw(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 20;
}

static weir_real_t *draw_numbers(size_t count) {
    weir_real_t *numbers = calloc(count + GUARD, sizeof *numbers);
    ck_assert_ptr_nonnull(numbers);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (weir_real_t)((double)(draw() % 2000001) / 4e5 - 2.5);
    }
    for (size_t i = count; i < count + GUARD; i++) {
        numbers[i] = 1234;
    }
    return numbers;
}

static weir_real_t *copy_numbers(const weir_real_t *from, size_t count) {
    weir_real_t *numbers = draw_numbers(count);
    memcpy(numbers, from, count * sizeof *from);
    return numbers;
}

static void assert_close(const weir_real_t *a, const weir_real_t *b, size_t count, const char *what,
                         const char *level) {
    for (size_t i = 0; i < count; i++) {
        double bound = tolerance * fmax(1.0, fabs((double)b[i]));
        ck_assert_msg(fabs((double)a[i] - (double)b[i]) <= bound,
                      "%s of %s at %zu: %g, expected %g", what, level, i, (double)a[i],
                      (double)b[i]);
    }
    for (size_t i = count; i < count + GUARD; i++) {
        ck_assert_msg(a[i] >= 1234 && a[i] <= 1234, "%s of %s wrote behind its end", what, level);
    }
}

/* Run a check for every level that this processor has. */
static void for_all_levels(void (*check)(const weir_kernels_t *kernels)) {
    size_t found = 0;
    for (size_t i = 0; i < LEVELS; i++) {
        const weir_kernels_t *kernels = NULL;
        if (weir_kernels_find(level_names[i], &kernels, NULL) == WEIR_OK) {
            ck_assert_str_eq(kernels->level, level_names[i]);
            check(kernels);
            found++;
        }
    }
    ck_assert_uint_gt(found, 0);
}

static void check_exp(const weir_kernels_t *kernels) {
    double worst = 0.0;
    for (int from = -86; from < 88; from++) {
        weir_real_t x[1001], y[1001];
        for (int i = 0; i < 1001; i++) {
            x[i] = (weir_real_t)(from + (double)i / 1001.0);
        }
        kernels->exp(x, y, 1001);
        for (int i = 0; i < 1001; i++) {
            double exact = exp((double)x[i]);
            worst = fmax(worst, fabs((double)y[i] - exact) / exact);
        }
    }
    ck_assert_msg(worst <= exp_tolerance, "exp of %s is off by %g", kernels->level, worst);
    weir_real_t edge[4] = {(weir_real_t)-1e30, (weir_real_t)1e30, (weir_real_t)NAN, 0}, result[4];
    kernels->exp(edge, result, 4);
    ck_assert(result[0] >= 0 && (double)result[0] < 1.2e-38);
    ck_assert((double)result[1] > 2.6e38 || isinf((double)result[1]));
    ck_assert(isnan((double)result[2]));
    ck_assert(result[3] >= 1 && result[3] <= 1);
}

START_TEST(exp_is_within_its_documented_error) {
    for_all_levels(check_exp);
}
END_TEST

static void check_silu(const weir_kernels_t *kernels) {
    const weir_kernels_t *naive = weir_kernels_naive();
    for (size_t w = 0; w < WIDTHS; w++) {
        size_t n = widths[w];
        weir_real_t *x = draw_numbers(n), *d_y = draw_numbers(n);
        weir_real_t *y = draw_numbers(n), *expected = draw_numbers(n);
        x[0] = w % 2 == 0 ? -1000 : 1000;
        naive->silu_forward(x, expected, n);
        kernels->silu_forward(x, y, n);
        assert_close(y, expected, n, "silu_forward", kernels->level);
        naive->silu_backward(x, d_y, expected, n);
        kernels->silu_backward(x, d_y, y, n);
        assert_close(y, expected, n, "silu_backward", kernels->level);
        kernels->silu_backward(x, d_y, d_y, n);
        assert_close(d_y, expected, n, "silu_backward in place", kernels->level);
        free(x);
        free(d_y);
        free(y);
        free(expected);
    }
}

START_TEST(silu_agrees_with_the_naive) {
    for_all_levels(check_silu);
}
END_TEST

static void check_layer_norm(const weir_kernels_t *kernels) {
    const weir_kernels_t *naive = weir_kernels_naive();
    for (size_t w = 0; w < WIDTHS; w++) {
        size_t width = widths[w], n = TOKENS * width;
        weir_real_t *x = draw_numbers(n), *d_y = draw_numbers(n), *y = draw_numbers(n);
        weir_real_t *expected = draw_numbers(n), *inverses = draw_numbers(TOKENS);
        weir_real_t *expected_inverses = draw_numbers(TOKENS), *d_x = draw_numbers(n);
        weir_real_t *expected_d_x = copy_numbers(d_x, n);
        naive->layer_norm_forward(x, TOKENS, width, expected, expected_inverses);
        kernels->layer_norm_forward(x, TOKENS, width, y, NULL);
        kernels->layer_norm_forward(x, TOKENS, width, y, inverses);
        assert_close(y, expected, n, "layer_norm_forward", kernels->level);
        assert_close(inverses, expected_inverses, TOKENS, "inverses", kernels->level);
        for (int accumulate = 1; accumulate >= 0; accumulate--) {
            naive->layer_norm_backward(expected, expected_inverses, d_y, TOKENS, width,
                                       accumulate != 0, expected_d_x);
            kernels->layer_norm_backward(expected, expected_inverses, d_y, TOKENS, width,
                                         accumulate != 0, d_x);
            if (width > 2) { /* below, the exact gradient is 0 and both are rounding */
                assert_close(d_x, expected_d_x, n, "layer_norm_backward", kernels->level);
            }
        }
        free(x);
        free(d_y);
        free(y);
        free(expected);
        free(inverses);
        free(expected_inverses);
        free(d_x);
        free(expected_d_x);
    }
}

START_TEST(layer_norm_agrees_with_the_naive) {
    for_all_levels(check_layer_norm);
}
END_TEST

static void check_dropout(const weir_kernels_t *kernels) {
    const weir_kernels_t *naive = weir_kernels_naive();
    for (size_t w = 0; w < WIDTHS; w++) {
        size_t width = widths[w], n = TOKENS * width;
        uint32_t tokens[TOKENS];
        for (size_t t = 0; t < TOKENS; t++) {
            tokens[t] = (uint32_t)draw();
        }
        weir_real_t *x = draw_numbers(n), *y = draw_numbers(n), *expected = draw_numbers(n);
        weir_dropout_t site = weir_dropout_at(0x123456789abcu + w, 77, (uint32_t)w, 0.3);
        for (int named = 0; named < 2; named++) {
            naive->dropout(&site, named != 0 ? tokens : NULL, x, TOKENS, width, expected);
            kernels->dropout(&site, named != 0 ? tokens : NULL, x, TOKENS, width, y);
            ck_assert_int_eq(memcmp(y, expected, n * sizeof *y), 0);
        }
        assert_close(y, expected, n, "dropout", kernels->level);
        kernels->dropout(&site, tokens, x, TOKENS, width, x);
        ck_assert_int_eq(memcmp(x, expected, n * sizeof *y), 0);
        free(x);
        free(y);
        free(expected);
    }
}

static void check_draws(const weir_kernels_t *kernels) {
    enum { DRAWS = 300 };
    static const uint32_t bounds[] = {1, 2, 3883, 1u << 31, UINT32_MAX};
    for (size_t count = 0; count < DRAWS; count += count < 140 ? 1 : 37) {
        int64_t items[DRAWS + 1], expected[DRAWS];
        uint32_t bound = bounds[count % 5], token = (uint32_t)draw();
        weir_rng_key_t key = weir_rng_key(draw(), WEIR_STREAM_NEGATIVE);
        items[count] = -1;
        kernels->draw_items(key, 5, 6, token, bound, items, count);
        weir_kernels_naive()->draw_items(key, 5, 6, token, bound, expected, count);
        ck_assert_int_eq(memcmp(items, expected, count * sizeof *items), 0);
        ck_assert_int_eq(items[count], -1);
        for (size_t i = 0; i < count; i++) {
            ck_assert(items[i] >= 1 && items[i] <= (int64_t)bound);
        }
    }
}

START_TEST(items_are_drawn_as_by_the_naive) {
    for_all_levels(check_draws);
}
END_TEST

START_TEST(dropout_is_the_naive_to_the_bit) {
    for_all_levels(check_dropout);
}
END_TEST

START_TEST(dropout_keeps_its_share_and_nothing_is_lost_at_zero) {
    enum { MANY = 100000 };
    weir_real_t *ones = draw_numbers(MANY), *y = draw_numbers(MANY);
    const weir_kernels_t *kernels = NULL;
    ck_assert_int_eq(weir_kernels_select(&kernels, NULL), WEIR_OK);
    for (size_t i = 0; i < MANY; i++) {
        ones[i] = 1;
    }
    weir_dropout_t site = weir_dropout_at(5, 1, 2, 0.2);
    kernels->dropout(&site, NULL, ones, MANY / 100, 100, y);
    double sum = 0.0, kept = 0.0;
    for (size_t i = 0; i < MANY; i++) {
        sum += (double)y[i];
        kept += y[i] > 0 ? 1.0 : 0.0;
    }
    ck_assert(fabs(kept / MANY - 0.8) < 0.01);
    ck_assert(fabs(sum / MANY - 1.0) < 0.0125);
    site = weir_dropout_at(5, 1, 2, 0.0);
    kernels->dropout(&site, NULL, ones, MANY / 100, 100, y);
    ck_assert_int_eq(memcmp(y, ones, MANY * sizeof *y), 0);
    free(ones);
    free(y);
}
END_TEST

static void check_adamw(const weir_kernels_t *kernels) {
    const weir_kernels_t *naive = weir_kernels_naive();
    for (size_t k = 0; k < WIDTHS; k++) {
        size_t n = widths[k];
        weir_real_t *g = draw_numbers(n), *w = draw_numbers(n), *m = draw_numbers(n);
        weir_real_t *v = draw_numbers(n);
        memset(m, 0, n * sizeof *m);
        memset(v, 0, n * sizeof *v);
        weir_real_t *naive_w = copy_numbers(w, n), *naive_m = copy_numbers(m, n);
        weir_real_t *naive_v = copy_numbers(v, n);
        for (uint64_t step = 1; step <= 5; step++) {
            weir_adamw_t adamw = weir_adamw_at(step, 1e-2, 0.9, 0.98, 1e-8, 0.1);
            g[step % n] = (weir_real_t)step * g[0];
            naive->adamw(&adamw, g, naive_w, naive_m, naive_v, n);
            kernels->adamw(&adamw, g, w, m, v, n);
        }
        assert_close(w, naive_w, n, "adamw weights", kernels->level);
        assert_close(m, naive_m, n, "adamw first moments", kernels->level);
        assert_close(v, naive_v, n, "adamw second moments", kernels->level);
        free(g);
        free(w);
        free(m);
        free(v);
        free(naive_w);
        free(naive_m);
        free(naive_v);
    }
}

START_TEST(adamw_agrees_with_the_naive) {
    for_all_levels(check_adamw);
}
END_TEST

START_TEST(the_first_step_of_adamw_is_the_sign_of_the_gradient) {
    weir_real_t g[3] = {(weir_real_t)0.5, -3, (weir_real_t)1e-3}, w[3] = {1, 1, 1}, m[3] = {0},
                v[3] = {0};
    weir_adamw_t adamw = weir_adamw_at(1, 0.1, 0.9, 0.98, 1e-8, 0.5);
    const weir_kernels_t *kernels = NULL;
    ck_assert_int_eq(weir_kernels_select(&kernels, NULL), WEIR_OK);
    kernels->adamw(&adamw, g, w, m, v, 3);
    double expected[3] = {0.95 - 0.1, 0.95 + 0.1, 0.95 - 0.1};
    for (size_t i = 0; i < 3; i++) {
        ck_assert_double_eq_tol((double)w[i], expected[i], 1e-5);
    }
}
END_TEST

static void check_gathers(const weir_kernels_t *kernels) {
    enum { ROWS = 13, COUNT = 11 };
    const weir_kernels_t *naive = weir_kernels_naive();
    uint32_t indices[COUNT];
    for (size_t r = 0; r < COUNT; r++) {
        indices[r] = (uint32_t)(r < 3 ? ROWS - 1 : draw() % ROWS); /* repeats, and the last row */
    }
    for (size_t w = 0; w < WIDTHS; w++) {
        size_t width = widths[w], n = ROWS * width;
        weir_real_t *rows = draw_numbers(n), *vector = draw_numbers(width);
        weir_real_t *factors = draw_numbers(COUNT), *dots = draw_numbers(COUNT);
        weir_real_t *expected_dots = draw_numbers(COUNT);
        weir_real_t *expected_rows = copy_numbers(rows, n);
        weir_real_t *expected_vector = copy_numbers(vector, width);
        naive->gather_dot(vector, rows, width, indices, COUNT, expected_dots);
        kernels->gather_dot(vector, rows, width, indices, COUNT, dots);
        for (size_t r = 0; r < COUNT; r++) {
            double bound = tolerance * 10.0 * sqrt((double)width);
            ck_assert(fabs((double)dots[r] - (double)expected_dots[r]) <= bound);
        }
        naive->gather_axpy(factors, rows, width, indices, COUNT, expected_vector);
        kernels->gather_axpy(factors, rows, width, indices, COUNT, vector);
        for (size_t c = 0; c < width; c++) {
            ck_assert(fabs((double)vector[c] - (double)expected_vector[c]) <= tolerance * 30.0);
        }
        memcpy(vector, expected_vector, width * sizeof *vector);
        naive->scatter_axpy(factors, vector, width, indices, COUNT, expected_rows);
        kernels->scatter_axpy(factors, vector, width, indices, COUNT, rows);
        for (size_t i = 0; i < n; i++) {
            ck_assert(fabs((double)rows[i] - (double)expected_rows[i]) <= tolerance * 100.0);
        }
        ck_assert(rows[n] >= 1234 && vector[width] >= 1234 && dots[COUNT] >= 1234);
        free(rows);
        free(vector);
        free(factors);
        free(dots);
        free(expected_dots);
        free(expected_rows);
        free(expected_vector);
    }
}

START_TEST(gathers_and_scatters_agree_with_the_naive) {
    for_all_levels(check_gathers);
}
END_TEST

START_TEST(an_unknown_level_is_refused_and_a_named_one_is_chosen) {
    const weir_kernels_t *kernels = NULL;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_kernels_find("v9", &kernels, &error), WEIR_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "v9"));
    ck_assert_str_ne(error.hint, "");
    ck_assert_ptr_null(kernels);
    ck_assert_int_eq(weir_kernels_find("naive", &kernels, &error), WEIR_OK);
    ck_assert_ptr_eq(kernels, weir_kernels_naive());
    ck_assert_int_eq(weir_kernels_find("", &kernels, &error), WEIR_OK);
    ck_assert_ptr_ne(kernels, weir_kernels_naive());
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("kernels " WEIR_REAL_NAME);
    TCase *t = tcase_create("kernels");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, exp_is_within_its_documented_error);
    tcase_add_test(t, silu_agrees_with_the_naive);
    tcase_add_test(t, layer_norm_agrees_with_the_naive);
    tcase_add_test(t, items_are_drawn_as_by_the_naive);
    tcase_add_test(t, dropout_is_the_naive_to_the_bit);
    tcase_add_test(t, dropout_keeps_its_share_and_nothing_is_lost_at_zero);
    tcase_add_test(t, adamw_agrees_with_the_naive);
    tcase_add_test(t, the_first_step_of_adamw_is_the_sign_of_the_gradient);
    tcase_add_test(t, gathers_and_scatters_agree_with_the_naive);
    tcase_add_test(t, an_unknown_level_is_refused_and_a_named_one_is_chosen);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
