#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/mixture.h"
#include "worker/parallel.h"

#include <string.h>

/* ---- the definition, in plain loops in float64 ---- */

typedef struct {
    const double *hidden_weight, *hidden_bias, *output_weight, *output_bias;
    size_t in, hidden, out;
    bool gated;
} net_t;

static double silu(double x) {
    return x / (1.0 + exp(-x));
}

static net_t next_net(const double **at, size_t in, size_t hidden, size_t out, bool gated,
                      bool biased) {
    size_t before = gated ? 2 * hidden : hidden;
    net_t net = {.in = in, .hidden = hidden, .out = out, .gated = gated};
    net.hidden_weight = *at;
    net.hidden_bias = net.hidden_weight + in * before;
    net.output_weight = net.hidden_bias + before;
    net.output_bias = biased ? net.output_weight + hidden * out : NULL;
    *at = net.output_weight + hidden * out + (biased ? out : 0);
    return net;
}

static void run_net(const net_t *net, const double *x, double *y) {
    size_t before = net->gated ? 2 * net->hidden : net->hidden;
    for (size_t o = 0; o < net->out; o++) {
        y[o] = net->output_bias != NULL ? net->output_bias[o] : 0.0;
    }
    for (size_t h = 0; h < net->hidden; h++) {
        double a = net->hidden_bias[h], b = 1.0;
        for (size_t i = 0; i < net->in; i++) {
            a += x[i] * net->hidden_weight[i * before + h];
        }
        if (net->gated) {
            b = net->hidden_bias[net->hidden + h];
            for (size_t i = 0; i < net->in; i++) {
                b += x[i] * net->hidden_weight[i * before + net->hidden + h];
            }
        }
        for (size_t o = 0; o < net->out; o++) {
            y[o] += silu(a) * b * net->output_weight[h * net->out + o];
        }
    }
}

static void normalise(double *row, size_t width) {
    double sum = 0.0;
    for (size_t d = 0; d < width; d++) {
        sum += row[d] * row[d];
    }
    for (size_t d = 0; d < width; d++) {
        row[d] /= fmax(sqrt(sum), 1e-6);
    }
}

enum { MOST = 4096 };

/* `mask` NULL, or of each logit what dropout leaves of it. */
static double plain_score(const weir_mixture_config_t *config, const double *parameters,
                          const double *e, const double *row, const double *mask) {
    size_t logits = config->query_parts * config->item_parts, d = config->width;
    double f[MOST], g[MOST], gate_e[MOST], gate_x[MOST], gate[MOST], l[MOST], x[MOST], scaled[MOST];
    const double *at = parameters;
    net_t query = next_net(&at, config->dim, config->hidden, config->query_parts * d, true, true);
    net_t item = next_net(&at, config->dim, config->hidden, config->item_parts * d, true, true);
    net_t of_query = next_net(&at, config->dim, config->gate_hidden, logits, false, false);
    net_t of_item = next_net(&at, config->dim, config->gate_hidden, logits, false, false);
    net_t of_pair = next_net(&at, logits, config->gate_hidden, logits, false, true);
    memcpy(x, row, config->dim * sizeof *x);
    normalise(x, config->dim);
    for (size_t i = 0; i < config->dim; i++) { /* the nets take both times sqrt(D) */
        x[i] *= sqrt((double)config->dim);
        scaled[i] = sqrt((double)config->dim) * e[i];
    }
    run_net(&query, scaled, f);
    run_net(&item, x, g);
    run_net(&of_query, scaled, gate_e);
    run_net(&of_item, x, gate_x);
    for (size_t p = 0; p < config->query_parts; p++) {
        normalise(f + p * d, d);
    }
    for (size_t q = 0; q < config->item_parts; q++) {
        normalise(g + q * d, d);
        for (size_t p = 0; p < config->query_parts; p++) {
            double dot = 0.0;
            for (size_t i = 0; i < d; i++) {
                dot += f[p * d + i] * g[q * d + i];
            }
            l[q * config->query_parts + p] = dot / config->temperature;
        }
    }
    run_net(&of_pair, l, gate);
    double sum = 0.0, all = 0.0, score = 0.0;
    for (size_t i = 0; i < logits; i++) {
        gate[i] = exp(silu(gate[i] + gate_e[i] * gate_x[i]));
        sum += gate[i];
    }
    for (size_t i = 0; i < logits; i++) {
        double share = gate[i] / sum * (mask != NULL ? mask[i] : 1.0);
        all += share;
        score += share * l[i];
    }
    return score / (mask != NULL ? fmax(all, 1e-6) : all);
}

/* ---- a case ---- */

typedef struct {
    weir_mixture_config_t config;
    weir_mixture_t *mixture;
    weir_loss_t *loss;
    weir_loss_batch_t batch;
    uint32_t *targets, *negatives;
    size_t elements, rows_count;
    weir_real_t *parameters, *encoded, *rows;
    double loss_sum;
    weir_real_t *d_parameters, *d_encoded, *d_rows;
} case_t;

static case_t make_case(uint64_t seed, weir_mixture_config_t config, size_t tokens, size_t rows,
                        size_t negatives) {
    weir_error_t error = {0};
    case_rng_t rng = {.seed = seed};
    case_t c = {.config = config, .rows_count = rows};
    ck_assert_msg(weir_mixture_create(&config, &c.mixture, &error) == WEIR_OK, "%s", error.message);
    ck_assert_int_eq(weir_loss_create(&c.loss, &error), WEIR_OK);
    c.elements = weir_mixture_elements(c.mixture);
    c.parameters = case_allocate(c.elements, sizeof(weir_real_t));
    c.d_parameters = case_allocate(c.elements, sizeof(weir_real_t));
    c.encoded = case_allocate(tokens * config.dim, sizeof(weir_real_t));
    c.d_encoded = case_allocate(tokens * config.dim, sizeof(weir_real_t));
    c.rows = case_allocate(rows * config.dim, sizeof(weir_real_t));
    c.d_rows = case_allocate(rows * config.dim, sizeof(weir_real_t));
    c.targets = case_allocate(tokens, sizeof(uint32_t));
    c.negatives = case_allocate(tokens * negatives, sizeof(uint32_t));
    case_fill(&rng, c.parameters, c.elements, 0.4);
    case_fill(&rng, c.encoded, tokens * config.dim, 0.5);
    case_fill(&rng, c.rows, rows * config.dim, 0.02);
    for (size_t t = 0; t < tokens; t++) {
        c.targets[t] = case_below(&rng, (uint32_t)rows);
    }
    for (size_t r = 0; r < tokens * negatives; r++) {
        c.negatives[r] = case_below(&rng, (uint32_t)rows);
    }
    c.batch = (weir_loss_batch_t){.tokens = tokens,
                                  .rows = rows,
                                  .dim = config.dim,
                                  .negatives = negatives,
                                  .targets = c.targets,
                                  .negative_rows = c.negatives,
                                  .temperature = config.temperature,
                                  .scale = 1.0};
    return c;
}

static void free_case(case_t *c) {
    weir_mixture_destroy(c->mixture);
    weir_loss_destroy(c->loss);
    free(c->parameters);
    free(c->d_parameters);
    free(c->encoded);
    free(c->d_encoded);
    free(c->rows);
    free(c->d_rows);
    free(c->targets);
    free(c->negatives);
}

static double run_loss(case_t *c, bool shared) {
    weir_error_t error = {0};
    const weir_mixture_mode_t mode = {.seed = 7, .step = 3};
    ck_assert_msg(weir_mixture_loss(c->mixture, c->loss, &c->batch, shared, &mode, c->parameters,
                                    c->encoded, c->rows, &c->loss_sum, c->d_encoded, c->d_rows,
                                    c->d_parameters, &error) == WEIR_OK,
                  "%s", error.message);
    return c->loss_sum;
}

static const weir_mixture_config_t small = {.dim = 6,
                                            .query_parts = 2,
                                            .item_parts = 3,
                                            .width = 4,
                                            .hidden = 5,
                                            .gate_hidden = 4,
                                            .temperature = 0.5};

/* Of the shape of a real one, rows not a multiple of anything. */
static const weir_mixture_config_t large = {.dim = 50,
                                            .query_parts = 8,
                                            .item_parts = 4,
                                            .width = 32,
                                            .hidden = 70,
                                            .gate_hidden = 33,
                                            .temperature = 0.05};

static double *widen(const weir_real_t *values, size_t count) {
    double *wide = case_allocate(count, sizeof *wide);
    for (size_t i = 0; i < count; i++) {
        wide[i] = (double)values[i];
    }
    return wide;
}

/* Scores of all rows with every token by the library. */
static void score_all(const case_t *c, weir_real_t *scores) {
    weir_error_t error = {0};
    weir_similarity_t similarity = weir_mixture_similarity(c->mixture, c->parameters);
    size_t tokens = c->batch.tokens, rows = c->rows_count, dim = c->config.dim;
    weir_real_t *queries = case_allocate(tokens * similarity.query_width, sizeof *queries);
    weir_real_t *items = case_allocate(rows * similarity.item_width, sizeof *items);
    weir_real_t *x = case_allocate(rows * dim, sizeof *x);
    weir_real_t *scratch = case_allocate(weir_mixture_scratch(c->mixture, rows), sizeof *scratch);
    for (size_t r = 0; r < rows; r++) {
        double *wide = widen(c->rows + r * dim, dim);
        normalise(wide, dim);
        for (size_t d = 0; d < dim; d++) {
            x[r * dim + d] = (weir_real_t)wide[d];
        }
        free(wide);
    }
    ck_assert_int_eq(weir_mixture_prepare_queries(c->mixture, c->parameters, c->encoded, tokens,
                                                  queries, &error),
                     WEIR_OK);
    ck_assert_int_eq(
        weir_mixture_prepare_items(c->mixture, c->parameters, x, dim, rows, items, &error),
        WEIR_OK);
    for (size_t t = 0; t < tokens; t++) {
        weir_mixture_score(&similarity, queries + t * similarity.query_width, items, rows, scratch,
                           scores + t * rows);
    }
    free(queries);
    free(items);
    free(x);
    free(scratch);
}

START_TEST(scores_are_those_of_the_definition) {
    const weir_mixture_config_t configs[] = {small, large};
    for (size_t i = 0; i < 2; i++) {
        case_t c = make_case(3 + i, configs[i], 9, 67, 1);
        double *parameters = widen(c.parameters, c.elements);
        double *encoded = widen(c.encoded, 9 * c.config.dim);
        double *rows = widen(c.rows, 67 * c.config.dim);
        weir_real_t *scores = case_allocate(9 * 67, sizeof *scores);
        score_all(&c, scores);
        for (size_t pair = 0; pair < 9 * 67; pair++) {
            double expected = plain_score(&c.config, parameters, encoded + pair / 67 * c.config.dim,
                                          rows + pair % 67 * c.config.dim, NULL);
            ck_assert_double_eq_tol((double)scores[pair], expected,
                                    (case_is_f64 ? 1e-11 : 5e-4) * fmax(1.0, fabs(expected)));
        }
        free(parameters);
        free(encoded);
        free(rows);
        free(scores);
        free_case(&c);
    }
}
END_TEST

/* Scores that the authors' implementation (generative-recommenders, rails/similarities/mol, in
 * float64) gave for these parameters and sqrt(D) times these queries and items. */
START_TEST(scores_are_those_of_the_published_implementation) {
    const double expected[6] = {-1.32710141, -1.50700837, -1.72771016,
                                -1.43821039, -1.58416463, -1.75281824};
    case_t c = make_case(1, small, 2, 3, 1);
    weir_real_t scores[6];
    ck_assert_uint_eq(c.elements, 422);
    for (size_t i = 0; i < c.elements; i++) {
        c.parameters[i] = (weir_real_t)(0.4 * sin(1.7 * (double)i + 0.3));
    }
    for (size_t i = 0; i < 3 * small.dim; i++) {
        if (i < 2 * small.dim) {
            c.encoded[i] = (weir_real_t)sin(0.9 * (double)i + 0.1);
        }
        c.rows[i] = (weir_real_t)sin(0.9 * (double)i + 1.3);
    }
    for (size_t t = 0; t < 2; t++) {
        double *wide = widen(c.encoded + t * small.dim, small.dim);
        normalise(wide, small.dim);
        for (size_t d = 0; d < small.dim; d++) {
            c.encoded[t * small.dim + d] = (weir_real_t)wide[d];
        }
        free(wide);
    }
    score_all(&c, scores);
    for (size_t i = 0; i < 6; i++) {
        ck_assert_double_eq_tol((double)scores[i], expected[i], case_is_f64 ? 1e-8 : 1e-5);
    }
    free_case(&c);
}
END_TEST

START_TEST(equal_items_have_equal_scores_wherever_they_stand) {
    case_t c = make_case(5, large, 3, 64, 1);
    weir_real_t *scores = case_allocate(3 * 64, sizeof *scores);
    for (size_t r = 1; r < 64; r++) {
        memcpy(c.rows + r * large.dim, c.rows, large.dim * sizeof *c.rows);
    }
    score_all(&c, scores);
    for (size_t i = 0; i < 3 * 64; i++) {
        ck_assert(scores[i] == scores[i / 64 * 64]);
    }
    free(scores);
    free_case(&c);
}
END_TEST

/* The loss by the definition; a negative that is the target adds nothing. */
static double plain_loss(const case_t *c, bool shared) {
    double *parameters = widen(c->parameters, c->elements);
    double *encoded = widen(c->encoded, c->batch.tokens * c->config.dim);
    double *rows = widen(c->rows, c->rows_count * c->config.dim), loss = 0.0;
    for (size_t t = 0; t < c->batch.tokens; t++) {
        const double *e = encoded + t * c->config.dim;
        double target =
            plain_score(&c->config, parameters, e, rows + c->targets[t] * c->config.dim, NULL);
        double sum = 1.0;
        for (size_t r = 0; r < c->batch.negatives; r++) {
            uint32_t row = c->negatives[(shared ? 0 : t * c->batch.negatives) + r];
            if (row != c->targets[t]) {
                sum +=
                    exp(plain_score(&c->config, parameters, e, rows + row * c->config.dim, NULL) -
                        target);
            }
        }
        loss += log(sum);
    }
    free(parameters);
    free(encoded);
    free(rows);
    return loss;
}

START_TEST(the_loss_is_that_of_the_definition) {
    const weir_mixture_config_t configs[] = {small, large};
    for (size_t i = 0; i < 4; i++) {
        case_t c = make_case(11 + i, configs[i % 2], 83, 40, 17);
        bool shared = i >= 2;
        double expected = plain_loss(&c, shared), loss = run_loss(&c, shared);
        ck_assert_double_eq_tol(loss, expected, (case_is_f64 ? 1e-11 : 2e-5) * fabs(expected));
        free_case(&c);
    }
}
END_TEST

/* Central differences of `value` against a gradient; the loss is asked again. */
static void check_slopes(case_t *c, bool shared, weir_real_t *values, const weir_real_t *gradient,
                         size_t count, const char *what) {
    const double step = 1e-6;
    double largest = 0.0, error = 0.0;
    weir_real_t *expected = case_allocate(count, sizeof *expected);
    memcpy(expected, gradient, count * sizeof *expected); /* run_loss writes over it */
    for (size_t i = 0; i < count; i++) {
        weir_real_t kept = values[i];
        values[i] = kept + (weir_real_t)step;
        double above = run_loss(c, shared);
        values[i] = kept - (weir_real_t)step;
        double below = run_loss(c, shared);
        values[i] = kept;
        double slope = (above - below) / (2.0 * step);
        error = fmax(error, fabs(slope - (double)expected[i]));
        largest = fmax(largest, fabs(slope));
    }
    ck_assert_msg(largest > 0.0 && error <= 2e-6 * largest, "%s: error %g of %g", what, error,
                  largest);
    free(expected);
}

/* With dropout too: the same mask at every call, being a function of seed, step and place. */
START_TEST(gradients_are_the_slopes_of_the_loss) {
    for (size_t i = 0; case_is_f64 && i < 3; i++) {
        weir_mixture_config_t config = small;
        config.dropout = i == 0 ? 0.0 : 0.3;
        bool shared = i == 2;
        case_t c = make_case(21 + i, config, 11, 8, 5);
        case_rng_t rng = {.seed = 40 + i};
        case_fill(&rng, c.rows, 8 * config.dim, 0.7); /* not so short that a step is long */
        (void)run_loss(&c, shared);
        check_slopes(&c, shared, c.parameters, c.d_parameters, c.elements, "parameters");
        (void)run_loss(&c, shared);
        check_slopes(&c, shared, c.encoded, c.d_encoded, 11 * config.dim, "encoded");
        (void)run_loss(&c, shared);
        check_slopes(&c, shared, c.rows, c.d_rows, 8 * config.dim, "rows");
        free_case(&c);
    }
}
END_TEST

START_TEST(the_result_does_not_depend_on_the_number_of_threads) {
    weir_mixture_config_t config = large;
    config.dropout = 0.2;
    case_t one = make_case(31, config, 200, 150, 20), three = make_case(31, config, 200, 150, 20);
    (void)run_loss(&one, false);
    weir_parallel_set_threads(3);
    (void)run_loss(&three, false);
    weir_parallel_set_threads(1);
    ck_assert(one.loss_sum == three.loss_sum);
    ck_assert_mem_eq(one.d_parameters, three.d_parameters, one.elements * sizeof(weir_real_t));
    ck_assert_mem_eq(one.d_encoded, three.d_encoded, 200 * config.dim * sizeof(weir_real_t));
    ck_assert_mem_eq(one.d_rows, three.d_rows, 150 * config.dim * sizeof(weir_real_t));
    free_case(&one);
    free_case(&three);
}
END_TEST

START_TEST(a_batch_without_tokens_has_no_loss_and_no_gradient) {
    case_t c = make_case(33, small, 0, 4, 3);
    memset(c.d_parameters, 0x55, c.elements * sizeof *c.d_parameters);
    ck_assert_double_eq(run_loss(&c, false), 0.0);
    for (size_t i = 0; i < c.elements; i++) {
        ck_assert_double_eq((double)c.d_parameters[i], 0.0);
    }
    for (size_t i = 0; i < 4 * small.dim; i++) {
        ck_assert_double_eq((double)c.d_rows[i], 0.0);
    }
    free_case(&c);
}
END_TEST

START_TEST(what_cannot_be_is_refused) {
    weir_error_t error = {0};
    weir_mixture_t *mixture = NULL;
    weir_mixture_config_t config = small;
    config.query_parts = 65;
    ck_assert_int_eq(weir_mixture_create(&config, &mixture, &error), WEIR_ERR_INVALID);
    config = small;
    config.dropout = 1.0;
    ck_assert_int_eq(weir_mixture_create(&config, &mixture, &error), WEIR_ERR_INVALID);
    config = small;
    config.temperature = 0.0;
    ck_assert_int_eq(weir_mixture_create(&config, &mixture, &error), WEIR_ERR_INVALID);
    case_t c = make_case(35, small, 2, 4, 3);
    const weir_mixture_mode_t mode = {0};
    c.targets[1] = 4;
    ck_assert_int_eq(weir_mixture_loss(c.mixture, c.loss, &c.batch, false, &mode, c.parameters,
                                       c.encoded, c.rows, &c.loss_sum, c.d_encoded, c.d_rows,
                                       c.d_parameters, &error),
                     WEIR_ERR_INVALID);
    free_case(&c);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("mixture " WEIR_REAL_NAME);
    TCase *t = tcase_create("mixture");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, scores_are_those_of_the_definition);
    tcase_add_test(t, scores_are_those_of_the_published_implementation);
    tcase_add_test(t, equal_items_have_equal_scores_wherever_they_stand);
    tcase_add_test(t, the_loss_is_that_of_the_definition);
    tcase_add_test(t, gradients_are_the_slopes_of_the_loss);
    tcase_add_test(t, the_result_does_not_depend_on_the_number_of_threads);
    tcase_add_test(t, a_batch_without_tokens_has_no_loss_and_no_gradient);
    tcase_add_test(t, what_cannot_be_is_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
