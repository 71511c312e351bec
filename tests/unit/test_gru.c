/* The recurrent encoder against plain loops over each user's events, by the formulas of
 * worker/gru.h; more users than a group holds, and threads. */
#include "tests/suite.h"
#include "tests/unit/hstu_cases.h"
#include "worker/gru.h"
#include "worker/parallel.h"

#include <math.h>
#include <string.h>

#ifdef WEIR_REAL_F64
#define TOLERANCE 1e-12
#else
#define TOLERANCE 1e-5
#endif

enum { USERS = 70, DIM = 6, STATE = 9, LONGEST = 7 };
static const weir_encoder_config_t config = {.kind = WEIR_ENCODER_GRU4REC,
                                             .embedding_dim = DIM,
                                             .blocks = 2,
                                             .heads = 1,
                                             .dqk = 1,
                                             .dv = 1,
                                             .hidden_dim = STATE,
                                             .max_sequence_length = LONGEST,
                                             .attention_length = LONGEST};

static hstu_case_t *create(uint64_t seed) {
    size_t lengths[USERS];
    for (size_t u = 0; u < USERS; u++) {
        lengths[u] = 1 + u * 11 % LONGEST;
    }
    hstu_case_t *c = hstu_case_create(&config, seed, lengths, USERS);
    c->embeds_users = true;
    return c;
}

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

static const weir_real_t *parameter(const hstu_case_t *c, const char *name) {
    for (size_t i = 0; i < weir_encoder_parameter_count(&config); i++) {
        weir_parameter_t found = weir_encoder_parameter(&config, i);
        if (strcmp(found.name, name) == 0) {
            return c->parameters + found.offset;
        }
    }
    ck_abort_msg("no parameter %s", name);
    return NULL;
}

/* sum over k of x[k] w[k][column], rows of w being 3 STATE wide */
static double column(const double *x, size_t count, const weir_real_t *w, size_t at) {
    double sum = 0.0;
    for (size_t k = 0; k < count; k++) {
        sum += x[k] * (double)w[k * 3 * STATE + at];
    }
    return sum;
}

/* One event through one layer: h becomes the new state. */
static void step(const hstu_case_t *c, size_t layer, const double *x, size_t in, double *h) {
    char name[48];
    const weir_real_t *parts[4];
    static const char *const names[] = {"input_weight", "input_bias", "state_weight",
                                        "candidate_bias"};
    double next[STATE];
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(name, sizeof name, "layer.%zu.%s", layer, names[i]);
        parts[i] = parameter(c, name);
    }
    for (size_t s = 0; s < STATE; s++) {
        double from_x[3], from_h[3];
        for (size_t gate = 0; gate < 3; gate++) {
            size_t at = gate * STATE + s;
            from_x[gate] = column(x, in, parts[0], at) + (double)parts[1][at];
            from_h[gate] = column(h, STATE, parts[2], at);
        }
        double r = sigmoid(from_x[0] + from_h[0]), z = sigmoid(from_x[1] + from_h[1]);
        double n = tanh(from_x[2] + r * (from_h[2] + (double)parts[3][s]));
        next[s] = (1.0 - z) * n + z * h[s];
    }
    memcpy(h, next, sizeof next);
}

static void encode_user(const hstu_case_t *c, size_t user, double encoded[LONGEST][DIM]) {
    const weir_real_t *weight = parameter(c, "output_weight"), *bias = parameter(c, "output_bias");
    double states[2][STATE] = {{0.0}};
    for (size_t t = c->offsets[user]; t < c->offsets[user + 1]; t++) {
        double x[DIM], norm = 0.0, *out = encoded[t - c->offsets[user]];
        for (size_t d = 0; d < DIM; d++) {
            x[d] = sqrt((double)DIM) * (double)c->items[t * DIM + d] +
                   (double)c->user_rows[user * DIM + d];
        }
        step(c, 0, x, DIM, states[0]);
        step(c, 1, states[0], STATE, states[1]);
        for (size_t d = 0; d < DIM; d++) {
            out[d] = (double)bias[d];
            for (size_t s = 0; s < STATE; s++) {
                out[d] += states[1][s] * (double)weight[s * DIM + d];
            }
            norm += out[d] * out[d];
        }
        for (size_t d = 0; d < DIM; d++) {
            out[d] /= sqrt(norm);
        }
    }
}

START_TEST(events_go_through_the_units_one_by_one) {
    hstu_case_t *c = create(21);
    hstu_case_encode(c);
    for (size_t u = 0; u < USERS; u++) {
        double expected[LONGEST][DIM];
        encode_user(c, u, expected);
        for (size_t i = 0; i < (c->offsets[u + 1] - c->offsets[u]) * DIM; i++) {
            ck_assert_double_eq_tol((double)c->encoded[c->offsets[u] * DIM + i],
                                    expected[i / DIM][i % DIM], TOLERANCE);
        }
    }
    hstu_case_destroy(c);
}
END_TEST

START_TEST(threads_do_not_change_a_bit) {
    hstu_case_t *one = create(22), *some = create(22);
    size_t real = sizeof(weir_real_t);
    hstu_case_step(one);
    weir_parallel_set_threads(3);
    hstu_case_step(some);
    weir_parallel_set_threads(1);
    ck_assert_mem_eq(one->encoded, some->encoded, one->batch.tokens * DIM * real);
    ck_assert_mem_eq(one->d_parameters, some->d_parameters,
                     weir_encoder_parameter_elements(&config) * real);
    ck_assert_mem_eq(one->d_items, some->d_items, one->batch.tokens * DIM * real);
    hstu_case_destroy(one);
    hstu_case_destroy(some);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("gru " WEIR_REAL_NAME);
    TCase *t = tcase_create("gru");
    tcase_add_test(t, events_go_through_the_units_one_by_one);
    tcase_add_test(t, threads_do_not_change_a_bit);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
