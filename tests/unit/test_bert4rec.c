/* BERT4Rec against plain loops by the formulas of worker/transformer.h, and which events it masks.
 */
#include "tests/suite.h"
#include "tests/unit/hstu_cases.h"
#include "worker/transformer.h"

#include <math.h>
#include <string.h>

#ifdef WEIR_REAL_F64
#define TOLERANCE 1e-11
#else
#define TOLERANCE 2e-4
#endif

enum { USERS = 3, DIM = 6, WIDTH = 9, QUERY = 4, VALUE = 3, MOST = 9 };
static const size_t lengths[USERS] = {8, 1, 5};
static const weir_encoder_config_t config = {.kind = WEIR_ENCODER_BERT4REC,
                                             .embedding_dim = DIM,
                                             .blocks = 2,
                                             .heads = 1,
                                             .dqk = QUERY,
                                             .dv = VALUE,
                                             .hidden_dim = WIDTH,
                                             .max_sequence_length = 8,
                                             .attention_length = MOST,
                                             .mask_probability = 0.4};

static const weir_real_t *parameter(const hstu_case_t *c, size_t layer, const char *of_layer) {
    char name[48];
    if (layer < config.blocks) {
        (void)snprintf(name, sizeof name, "layer.%zu.%s", layer, of_layer);
    } else {
        (void)snprintf(name, sizeof name, "%s", of_layer);
    }
    for (size_t i = 0; i < weir_encoder_parameter_count(&config); i++) {
        weir_parameter_t found = weir_encoder_parameter(&config, i);
        if (strcmp(found.name, name) == 0) {
            return c->parameters + found.offset;
        }
    }
    ck_abort_msg("no parameter %s", name);
    return NULL;
}

/* to = from W + b */
static void project(const double *from, size_t in, const weir_real_t *w, const weir_real_t *b,
                    size_t out, double *to) {
    for (size_t o = 0; o < out; o++) {
        to[o] = (double)b[o];
        for (size_t i = 0; i < in; i++) {
            to[o] += from[i] * (double)w[i * out + o];
        }
    }
}

static void normalise(double *x) {
    double mean = 0.0, variance = 0.0;
    for (size_t d = 0; d < DIM; d++) {
        mean += x[d] / DIM;
    }
    for (size_t d = 0; d < DIM; d++) {
        variance += (x[d] - mean) * (x[d] - mean) / DIM;
    }
    for (size_t d = 0; d < DIM; d++) {
        x[d] = (x[d] - mean) / sqrt(variance + 1e-8);
    }
}

static double gelu(double a) {
    return 0.5 * a * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (a + 0.044715 * a * a * a)));
}

/* What attention gives to event `i` of `count`. */
static void attend(double q[][QUERY], double kv[][QUERY + VALUE], size_t count, size_t i,
                   double y[VALUE]) {
    double sum = 0.0;
    memset(y, 0, VALUE * sizeof *y);
    for (size_t j = 0; j < count; j++) {
        double s = 0.0;
        for (size_t k = 0; k < QUERY; k++) {
            s += q[i][k] * kv[j][k];
        }
        double a = exp(s / sqrt((double)QUERY));
        sum += a;
        for (size_t k = 0; k < VALUE; k++) {
            y[k] += a * kv[j][QUERY + k];
        }
    }
    for (size_t k = 0; k < VALUE; k++) {
        y[k] /= sum;
    }
}

static void run_layer(const hstu_case_t *c, size_t layer, size_t count, double x[][DIM]) {
    double q[MOST][QUERY], kv[MOST][QUERY + VALUE];
    for (size_t i = 0; i < count; i++) {
        project(x[i], DIM, parameter(c, layer, "query_weight"), parameter(c, layer, "query_bias"),
                QUERY, q[i]);
        project(x[i], DIM, parameter(c, layer, "key_value_weight"),
                parameter(c, layer, "key_value_bias"), QUERY + VALUE, kv[i]);
    }
    for (size_t i = 0; i < count; i++) {
        double y[VALUE], z[DIM], hidden[WIDTH];
        attend(q, kv, count, i, y);
        project(y, VALUE, parameter(c, layer, "output_weight"), parameter(c, layer, "output_bias"),
                DIM, z);
        for (size_t d = 0; d < DIM; d++) {
            z[d] += x[i][d];
        }
        normalise(z);
        project(z, DIM, parameter(c, layer, "hidden_weight"), parameter(c, layer, "hidden_bias"),
                WIDTH, hidden);
        for (size_t k = 0; k < WIDTH; k++) {
            hidden[k] = gelu(hidden[k]);
        }
        project(hidden, WIDTH, parameter(c, layer, "forward_weight"),
                parameter(c, layer, "forward_bias"), DIM, x[i]);
        for (size_t d = 0; d < DIM; d++) {
            x[i][d] += z[d];
        }
        normalise(x[i]);
    }
}

/* The events of a user and its target. */
static void encode_user(const hstu_case_t *c, size_t user, const uint8_t *scored, double x[][DIM]) {
    size_t first = c->offsets[user], count = c->offsets[user + 1] - first + 1;
    for (size_t i = 0; i < count; i++) {
        bool masked = i > 0 && scored[first + i - 1] != 0;
        for (size_t d = 0; d < DIM; d++) {
            weir_real_t item = masked ? parameter(c, config.blocks, "mask_embedding")[d]
                                      : c->items[(first + i) * DIM + d];
            x[i][d] = sqrt((double)DIM) * (double)item +
                      (double)parameter(c, config.blocks, "position_embedding")[i * DIM + d];
        }
        normalise(x[i]);
    }
    for (size_t layer = 0; layer < config.blocks; layer++) {
        run_layer(c, layer, count, x);
    }
}

START_TEST(what_is_masked_is_predicted_from_all_the_rest) {
    hstu_case_t *c = hstu_case_create(&config, 31, lengths, USERS);
    c->mode.train = _i == 1;
    hstu_case_encode(c);
    const uint8_t *scored = weir_encoder_scored(c->encoder);
    for (size_t u = 0; u < USERS; u++) {
        double x[MOST][DIM];
        encode_user(c, u, scored, x);
        ck_assert(scored[c->offsets[u + 1] - 1] == 1);
        for (size_t t = c->offsets[u]; t < c->offsets[u + 1]; t++) {
            const double *row = x[t + 1 - c->offsets[u]];
            double norm = 0.0;
            ck_assert(c->mode.train || t + 1 == c->offsets[u + 1] || scored[t] == 0);
            for (size_t d = 0; d < DIM; d++) {
                norm += row[d] * row[d];
            }
            for (size_t d = 0; d < DIM; d++) {
                double expected = scored[t] != 0 ? row[d] / sqrt(norm) : 0.0;
                ck_assert_double_eq_tol((double)c->encoded[t * DIM + d], expected, TOLERANCE);
            }
        }
    }
    hstu_case_destroy(c);
}
END_TEST

START_TEST(masks_come_at_their_rate_and_change_with_the_step) {
    enum { MANY = 400 };
    size_t many[MANY], masked = 0, others = 0, changed = 0;
    for (size_t u = 0; u < MANY; u++) {
        many[u] = 8;
    }
    hstu_case_t *c = hstu_case_create(&config, 32, many, MANY);
    uint8_t *before = case_allocate(c->batch.tokens, 1);
    hstu_case_encode(c);
    memcpy(before, weir_encoder_scored(c->encoder), c->batch.tokens);
    c->mode.step++;
    hstu_case_encode(c);
    const uint8_t *scored = weir_encoder_scored(c->encoder);
    for (size_t t = 0; t < c->batch.tokens; t++) {
        if (t % 8 != 7) {
            masked += scored[t];
            changed += scored[t] != before[t];
            others++;
        }
    }
    ck_assert_double_eq_tol((double)masked / (double)others, 0.4, 0.04);
    ck_assert_double_eq_tol((double)changed / (double)others, 2 * 0.4 * 0.6, 0.04);
    ck_assert_double_eq_tol(weir_encoder_scored_share(&config, MANY, c->batch.tokens),
                            (1.0 + 7 * 0.4) / 8.0, 1e-12);
    free(before);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(there_must_be_a_place_for_the_target) {
    weir_encoder_config_t tight = config;
    weir_encoder_t *encoder = NULL;
    tight.attention_length = tight.max_sequence_length;
    ck_assert_int_eq(weir_encoder_create(&tight, &encoder, NULL), WEIR_ERR_INVALID);
    ck_assert_ptr_null(encoder);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("bert4rec " WEIR_REAL_NAME);
    TCase *t = tcase_create("bert4rec");
    tcase_add_loop_test(t, what_is_masked_is_predicted_from_all_the_rest, 0, 2);
    tcase_add_test(t, masks_come_at_their_rate_and_change_with_the_step);
    tcase_add_test(t, there_must_be_a_place_for_the_target);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
