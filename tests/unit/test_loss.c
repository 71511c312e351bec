#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/loss.h"

#include <string.h>

/* One random batch and room for two results. */
typedef struct {
    weir_loss_batch_t batch;
    uint32_t *targets, *negatives;
    weir_real_t *encoded, *rows;
    weir_real_t *d_encoded[2], *d_rows[2];
    double loss[2];
} case_t;

static const double tolerance = sizeof(weir_real_t) == 8 ? 1e-12 : 2e-5;

static case_t make_case(uint64_t seed, size_t tokens, size_t rows, size_t dim, size_t negatives,
                        size_t negative_rows) {
    case_rng_t rng = {.seed = seed};
    case_t c = {0};
    c.targets = case_allocate(tokens, sizeof *c.targets);
    c.negatives = case_allocate(negative_rows, sizeof *c.negatives);
    c.encoded = case_allocate(tokens * dim, sizeof(weir_real_t));
    c.rows = case_allocate(rows * dim, sizeof(weir_real_t));
    for (size_t i = 0; i < 2; i++) {
        c.d_encoded[i] = case_allocate(tokens * dim, sizeof(weir_real_t));
        c.d_rows[i] = case_allocate(rows * dim, sizeof(weir_real_t));
        memset(c.d_encoded[i], 0x55,
               tokens * dim * sizeof(weir_real_t)); /* overwritten, not added */
        memset(c.d_rows[i], 0x55, rows * dim * sizeof(weir_real_t));
    }
    for (size_t t = 0; t < tokens; t++) {
        c.targets[t] = case_below(&rng, (uint32_t)rows);
    }
    for (size_t r = 0; r < negative_rows; r++) {
        c.negatives[r] = case_below(&rng, (uint32_t)rows);
    }
    case_fill(&rng, c.encoded, tokens * dim, 1.0);
    case_fill(&rng, c.rows, rows * dim, 0.02);
    for (size_t t = 0; t < tokens; t++) {
        double sum = 0.0;
        for (size_t d = 0; d < dim; d++) {
            sum += (double)c.encoded[t * dim + d] * (double)c.encoded[t * dim + d];
        }
        for (size_t d = 0; d < dim; d++) {
            c.encoded[t * dim + d] = (weir_real_t)((double)c.encoded[t * dim + d] / sqrt(sum));
        }
    }
    c.batch = (weir_loss_batch_t){.tokens = tokens,
                                  .rows = rows,
                                  .dim = dim,
                                  .negatives = negatives,
                                  .targets = c.targets,
                                  .negative_rows = c.negatives,
                                  .temperature = 0.05,
                                  .scale = tokens > 0 ? 1.0 / (double)tokens : 1.0};
    return c;
}

/* The same with a bias behind each row, larger than the cosines' logits are apart. */
static void add_biases(case_t *c, uint64_t seed) {
    case_rng_t rng = {.seed = seed};
    size_t dim = c->batch.dim, rows = c->batch.rows;
    weir_real_t *wide = case_allocate(rows * (dim + 1), sizeof *wide);
    weir_real_t *biases = case_allocate(rows, sizeof *biases);
    case_fill(&rng, biases, rows, 4.0);
    for (size_t row = 0; row < rows; row++) {
        memcpy(wide + row * (dim + 1), c->rows + row * dim, dim * sizeof *wide);
        wide[row * (dim + 1) + dim] = biases[row];
    }
    free(biases);
    free(c->rows);
    c->rows = wide;
    for (size_t i = 0; i < 2; i++) {
        free(c->d_rows[i]);
        c->d_rows[i] = case_allocate(rows * (dim + 1), sizeof(weir_real_t));
        memset(c->d_rows[i], 0x55, rows * (dim + 1) * sizeof(weir_real_t));
    }
    c->batch.biased = true;
}

static size_t width_of(const case_t *c) {
    return c->batch.dim + (c->batch.biased ? 1 : 0);
}

static void free_case(case_t *c) {
    free(c->targets);
    free(c->negatives);
    free(c->encoded);
    free(c->rows);
    for (size_t i = 0; i < 2; i++) {
        free(c->d_encoded[i]);
        free(c->d_rows[i]);
    }
}

static void run_per_token(weir_loss_t *loss, case_t *c, size_t slot) {
    weir_error_t error = {0};
    ck_assert_msg(weir_loss_per_token(loss, &c->batch, c->encoded, c->rows, &c->loss[slot],
                                      c->d_encoded[slot], c->d_rows[slot], &error) == WEIR_OK,
                  "%s", error.message);
}

static void run_naive(const weir_loss_batch_t *batch, case_t *c, size_t slot) {
    weir_error_t error = {0};
    ck_assert_msg(weir_loss_per_token_naive(batch, c->encoded, c->rows, &c->loss[slot],
                                            c->d_encoded[slot], c->d_rows[slot], &error) == WEIR_OK,
                  "%s", error.message);
}

static void run_shared(weir_loss_t *loss, case_t *c, size_t slot) {
    weir_error_t error = {0};
    ck_assert_msg(weir_loss_shared(loss, &c->batch, c->encoded, c->rows, &c->loss[slot],
                                   c->d_encoded[slot], c->d_rows[slot], &error) == WEIR_OK,
                  "%s", error.message);
}

static void run_catalogue(weir_loss_t *loss, case_t *c, size_t slot) {
    weir_error_t error = {0};
    ck_assert_msg(weir_loss_catalogue(loss, &c->batch, c->encoded, c->rows, &c->loss[slot],
                                      c->d_encoded[slot], c->d_rows[slot], &error) == WEIR_OK,
                  "%s", error.message);
}

static double dot_of(const double *x, const double *y, size_t dim) {
    double sum = 0.0;
    for (size_t d = 0; d < dim; d++) {
        sum += x[d] * y[d];
    }
    return sum;
}

/* The softmax over all rows by its definition, in float64: no target apart, no mask, no tiles. */
static void define_catalogue(case_t *c, size_t slot) {
    size_t tokens = c->batch.tokens, rows = c->batch.rows, dim = c->batch.dim;
    double *n = case_allocate(rows * dim, sizeof *n), *d_n = case_allocate(rows * dim, sizeof *n);
    double *norm = case_allocate(rows, sizeof *n), *p = case_allocate(rows, sizeof *n);
    double *e = case_allocate(dim, sizeof *e), *d_e = case_allocate(dim, sizeof *e);
    double *bias = case_allocate(rows, sizeof *n), *d_bias = case_allocate(rows, sizeof *n);
    size_t width = width_of(c);
    for (size_t row = 0; row < rows; row++) {
        for (size_t d = 0; d < dim; d++) {
            n[row * dim + d] = (double)c->rows[row * width + d];
        }
        bias[row] = c->batch.biased ? (double)c->rows[row * width + dim] : 0.0;
        norm[row] = fmax(sqrt(dot_of(n + row * dim, n + row * dim, dim)), 1e-6);
        for (size_t d = 0; d < dim; d++) {
            n[row * dim + d] /= norm[row];
        }
    }
    c->loss[slot] = 0.0;
    for (size_t t = 0; t < tokens; t++) {
        double highest = -HUGE_VAL, sum = 0.0;
        for (size_t d = 0; d < dim; d++) {
            e[d] = (double)c->encoded[t * dim + d];
            d_e[d] = 0.0;
        }
        for (size_t row = 0; row < rows; row++) {
            p[row] = dot_of(e, n + row * dim, dim) / c->batch.temperature + bias[row];
            highest = fmax(highest, p[row]);
        }
        double target = p[c->targets[t]];
        for (size_t row = 0; row < rows; row++) {
            sum += exp(p[row] - highest);
        }
        c->loss[slot] += highest + log(sum) - target;
        for (size_t row = 0; row < rows; row++) {
            double softmax = exp(p[row] - highest) / sum;
            double w = (softmax - (row == c->targets[t] ? 1.0 : 0.0)) * c->batch.scale /
                       c->batch.temperature;
            d_bias[row] += w * c->batch.temperature;
            for (size_t d = 0; d < dim; d++) {
                d_e[d] += w * n[row * dim + d];
                d_n[row * dim + d] += w * e[d];
            }
        }
        for (size_t d = 0; d < dim; d++) {
            c->d_encoded[slot][t * dim + d] = (weir_real_t)d_e[d];
        }
    }
    for (size_t row = 0; row < rows; row++) {
        double along = norm[row] > 1e-6 ? dot_of(n + row * dim, d_n + row * dim, dim) : 0.0;
        for (size_t d = 0; d < dim; d++) {
            size_t i = row * dim + d;
            c->d_rows[slot][row * width + d] = (weir_real_t)((d_n[i] - along * n[i]) / norm[row]);
        }
        if (c->batch.biased) {
            c->d_rows[slot][row * width + dim] = (weir_real_t)d_bias[row];
        }
    }
    free(bias);
    free(d_bias);
    free(n);
    free(d_n);
    free(norm);
    free(p);
    free(e);
    free(d_e);
}

static void check_slots_agree(const case_t *c) {
    size_t encoded = c->batch.tokens * c->batch.dim, rows = c->batch.rows * width_of(c);
    ck_assert_double_le(fabs(c->loss[0] - c->loss[1]), tolerance * (fabs(c->loss[1]) + 1e-3));
    ck_assert_double_le(case_error(c->d_encoded[0], c->d_encoded[1], encoded), tolerance);
    ck_assert_double_le(case_error(c->d_rows[0], c->d_rows[1], rows), tolerance);
}

static weir_loss_t *create_loss(void) {
    weir_loss_t *loss = NULL;
    ck_assert_int_eq(weir_loss_create(&loss, NULL), WEIR_OK);
    return loss;
}

START_TEST(per_token_negatives_agree_with_the_naive_form_at_any_shape) {
    static const size_t shapes[][4] = {{1, 1, 1, 1},     {3, 2, 5, 7},    {17, 40, 50, 16},
                                       {20, 9, 33, 128}, {5, 300, 64, 1}, {4, 7, 8, 0},
                                       {2, 3, 130, 19}};
    weir_loss_t *loss = create_loss(); /* one workspace for all: it must not leak between shapes */
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t *s = shapes[i];
        case_t c = make_case(100 + i, s[0], s[1], s[2], s[3], s[0] * s[3]);
        run_per_token(loss, &c, 0);
        run_naive(&c.batch, &c, 1);
        check_slots_agree(&c);
        free_case(&c);
    }
    weir_loss_destroy(loss);
}
END_TEST

START_TEST(shared_negatives_agree_with_the_naive_form_given_them_for_every_token) {
    static const size_t shapes[][4] = {{1, 1, 1, 1},       {3, 2, 5, 7},       {17, 40, 50, 16},
                                       {300, 90, 33, 128}, {5, 300, 64, 4500}, {257, 60, 16, 4096},
                                       {4, 7, 8, 0},       {258, 50, 20, 4097}};
    weir_loss_t *loss = create_loss();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t *s = shapes[i];
        case_t c = make_case(200 + i, s[0], s[1], s[2], s[3], s[3]);
        uint32_t *repeated = case_allocate(s[0] * s[3], sizeof *repeated);
        for (size_t t = 0; t < s[0]; t++) {
            memcpy(repeated + t * s[3], c.negatives, s[3] * sizeof *repeated);
        }
        weir_loss_batch_t per_token = c.batch;
        per_token.negative_rows = repeated;
        run_shared(loss, &c, 0);
        run_naive(&per_token, &c, 1);
        check_slots_agree(&c);
        free(repeated);
        free_case(&c);
    }
    weir_loss_destroy(loss);
}
END_TEST

START_TEST(the_catalogue_agrees_with_the_softmax_by_its_definition) {
    static const size_t shapes[][3] = {{1, 1, 1},       {3, 2, 5},      {17, 40, 50},
                                       {300, 90, 33},   {257, 4096, 9}, {5, 4500, 64},
                                       {258, 4097, 16}, {70, 9000, 3},  {0, 5, 4}};
    weir_loss_t *loss = create_loss();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t *s = shapes[i];
        case_t c = make_case(300 + i, s[0], s[1], s[2], 0, 0);
        if (s[1] > 2) {
            memset(c.rows + s[2], 0, s[2] * sizeof(weir_real_t)); /* one at the floor of norms */
        }
        run_catalogue(loss, &c, 0);
        define_catalogue(&c, 1);
        check_slots_agree(&c);
        free_case(&c);
    }
    weir_loss_destroy(loss);
}
END_TEST

START_TEST(a_bias_is_added_to_the_logit_in_every_form) {
    static const size_t shapes[][4] = {
        {1, 1, 1, 1}, {3, 2, 5, 7}, {17, 40, 50, 16}, {300, 90, 15, 64}, {5, 30, 64, 4500}};
    weir_loss_t *loss = create_loss();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t *s = shapes[i];
        case_t c = make_case(400 + i, s[0], s[1], s[2], s[3], s[0] * s[3]);
        add_biases(&c, 500 + i);
        run_per_token(loss, &c, 0);
        run_naive(&c.batch, &c, 1);
        check_slots_agree(&c);
        for (size_t t = 1; t < s[0]; t++) { /* all tokens' negatives are those of the first */
            memcpy(c.negatives + t * s[3], c.negatives, s[3] * sizeof *c.negatives);
        }
        run_shared(loss, &c, 0);
        run_naive(&c.batch, &c, 1);
        check_slots_agree(&c);
        run_catalogue(loss, &c, 0);
        define_catalogue(&c, 1);
        check_slots_agree(&c);
        free_case(&c);
    }
    weir_loss_destroy(loss);
}
END_TEST

START_TEST(a_negative_that_is_the_target_adds_nothing) {
    weir_loss_t *loss = create_loss();
    case_t c = make_case(7, 1, 2, 6, 3, 3);
    c.targets[0] = 1;
    c.negatives[0] = c.negatives[1] = c.negatives[2] = 1;
    run_per_token(loss, &c, 0);
    run_shared(loss, &c, 1);
    for (size_t slot = 0; slot < 2; slot++) {
        ck_assert_double_eq(c.loss[slot], 0.0);
        for (size_t d = 0; d < 6; d++) {
            ck_assert_double_eq((double)c.d_encoded[slot][d], 0.0);
            ck_assert_double_eq((double)c.d_rows[slot][6 + d], 0.0);
        }
    }
    free_case(&c);
    weir_loss_destroy(loss);
}
END_TEST

START_TEST(a_row_of_zeros_has_a_finite_gradient) {
    weir_loss_t *loss = create_loss();
    case_t c = make_case(8, 6, 5, 9, 4, 24);
    memset(c.rows + 9, 0, 9 * sizeof(weir_real_t));
    c.targets[2] = 1;
    run_per_token(loss, &c, 0);
    run_naive(&c.batch, &c, 1);
    check_slots_agree(&c);
    ck_assert(isfinite((double)c.d_rows[0][9]) && (double)c.d_rows[0][9] != 0.0);
    free_case(&c);
    weir_loss_destroy(loss);
}
END_TEST

START_TEST(the_largest_logits_do_not_overflow) {
    weir_loss_t *loss = create_loss();
    case_t c = make_case(9, 2, 3, 4, 2, 4);
    c.batch.temperature = 0.001; /* logits of 1000 and more apart */
    run_per_token(loss, &c, 0);
    run_naive(&c.batch, &c, 1);
    check_slots_agree(&c);
    c.batch.negatives = 4;
    run_shared(loss, &c, 0);
    ck_assert(isfinite(c.loss[0]) && isfinite((double)c.d_encoded[0][0]));
    run_catalogue(loss, &c, 0);
    define_catalogue(&c, 1);
    check_slots_agree(&c);
    free_case(&c);
    weir_loss_destroy(loss);
}
END_TEST

static void check_slopes(case_t *c) {
    size_t encoded = c->batch.tokens * c->batch.dim, rows = c->batch.rows * width_of(c);
    c->batch.scale = 1.0;
    run_naive(&c->batch, c, 0);
    const double h = 1e-6;
    for (size_t i = 0; case_is_f64 && i < encoded + rows; i++) {
        weir_real_t *x = i < encoded ? c->encoded + i : c->rows + (i - encoded), kept = *x;
        double step = i < encoded ? h : h * 0.02;
        double expected = (double)(i < encoded ? c->d_encoded[0][i] : c->d_rows[0][i - encoded]);
        double above, below;
        *x = kept + (weir_real_t)step;
        run_naive(&c->batch, c, 1);
        above = c->loss[1];
        *x = kept - (weir_real_t)step;
        run_naive(&c->batch, c, 1);
        below = c->loss[1];
        *x = kept;
        double slope = (above - below) / (2.0 * step);
        ck_assert_double_le(fabs(slope - expected), 1e-6 * fmax(1.0, fabs(expected)));
    }
}

START_TEST(gradients_are_the_slopes_of_the_naive_loss) {
    case_t c = make_case(10, 5, 6, 7, 4, 20);
    check_slopes(&c);
    add_biases(&c, 14);
    check_slopes(&c);
    free_case(&c);
}
END_TEST

START_TEST(the_same_call_gives_the_same_bits) {
    weir_loss_t *loss = create_loss();
    case_t c = make_case(11, 150, 60, 50, 64, 150 * 64);
    run_per_token(loss, &c, 0);
    run_per_token(loss, &c, 1);
    ck_assert_int_eq(memcmp(c.d_rows[0], c.d_rows[1], 60 * 50 * sizeof(weir_real_t)), 0);
    ck_assert_int_eq(memcmp(&c.loss[0], &c.loss[1], sizeof(double)), 0);
    run_shared(loss, &c, 0);
    run_shared(loss, &c, 1);
    ck_assert_int_eq(memcmp(c.d_rows[0], c.d_rows[1], 60 * 50 * sizeof(weir_real_t)), 0);
    run_catalogue(loss, &c, 0);
    run_catalogue(loss, &c, 1);
    ck_assert_int_eq(memcmp(c.d_rows[0], c.d_rows[1], 60 * 50 * sizeof(weir_real_t)), 0);
    free_case(&c);
    weir_loss_destroy(loss);
}
END_TEST

START_TEST(rows_and_temperatures_out_of_range_are_refused) {
    weir_loss_t *loss = create_loss();
    weir_error_t error = {0};
    case_t c = make_case(12, 3, 4, 5, 2, 6);
    double sum = 5.0;
    c.targets[1] = 4;
    ck_assert_int_eq(weir_loss_per_token(loss, &c.batch, c.encoded, c.rows, &sum, c.d_encoded[0],
                                         c.d_rows[0], &error),
                     WEIR_ERR_INVALID);
    ck_assert(strstr(error.message, "row 4") != NULL);
    ck_assert_double_eq(sum, 5.0);
    ck_assert_int_eq(weir_loss_catalogue(loss, &c.batch, c.encoded, c.rows, &sum, c.d_encoded[0],
                                         c.d_rows[0], &error),
                     WEIR_ERR_INVALID);
    c.targets[1] = 3;
    c.negatives[1] = UINT32_MAX;
    ck_assert_int_eq(weir_loss_shared(loss, &c.batch, c.encoded, c.rows, &sum, c.d_encoded[0],
                                      c.d_rows[0], &error),
                     WEIR_ERR_INVALID);
    c.negatives[1] = 0;
    c.batch.temperature = 0.0;
    ck_assert_int_eq(weir_loss_shared(loss, &c.batch, c.encoded, c.rows, &sum, c.d_encoded[0],
                                      c.d_rows[0], &error),
                     WEIR_ERR_INVALID);
    free_case(&c);
    weir_loss_destroy(loss);
}
END_TEST

START_TEST(an_empty_batch_has_no_loss_and_no_gradient) {
    weir_loss_t *loss = create_loss();
    case_t c = make_case(13, 0, 3, 5, 2, 2);
    run_per_token(loss, &c, 0);
    run_shared(loss, &c, 1);
    ck_assert_double_eq(c.loss[0], 0.0);
    ck_assert_double_eq(c.loss[1], 0.0);
    ck_assert_double_eq((double)c.d_rows[0][14], 0.0);
    ck_assert_double_eq((double)c.d_rows[1][14], 0.0);
    free_case(&c);
    weir_loss_destroy(loss);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("loss " WEIR_REAL_NAME);
    TCase *t = tcase_create("loss");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, per_token_negatives_agree_with_the_naive_form_at_any_shape);
    tcase_add_test(t, shared_negatives_agree_with_the_naive_form_given_them_for_every_token);
    tcase_add_test(t, the_catalogue_agrees_with_the_softmax_by_its_definition);
    tcase_add_test(t, a_bias_is_added_to_the_logit_in_every_form);
    tcase_add_test(t, a_negative_that_is_the_target_adds_nothing);
    tcase_add_test(t, a_row_of_zeros_has_a_finite_gradient);
    tcase_add_test(t, the_largest_logits_do_not_overflow);
    tcase_add_test(t, gradients_are_the_slopes_of_the_naive_loss);
    tcase_add_test(t, the_same_call_gives_the_same_bits);
    tcase_add_test(t, rows_and_temperatures_out_of_range_are_refused);
    tcase_add_test(t, an_empty_batch_has_no_loss_and_no_gradient);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
