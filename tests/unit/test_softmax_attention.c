/* Softmax attention in tiles against plain loops: more keys than a tile, odd widths, both masks,
 * and dropout, whose mask is read from what the tiles let through. */
#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/parallel.h"
#include "worker/softmax_attention.h"

#include <math.h>
#include <string.h>

#ifdef WEIR_REAL_F64
#define TOLERANCE 1e-12
#else
#define TOLERANCE 2e-5
#endif

enum { USERS = 4, HEADS = 2, DQK = 5, DV = 3, TOKENS = 1 + 64 + 150 + 77 };
enum { Q_ROW = HEADS * DQK + 1, K_ROW = HEADS * DQK, V_ROW = HEADS * DV + 2, Y_ROW = HEADS * DV };
static const size_t offsets[USERS + 1] = {0, 1, 65, 215, 292};

typedef struct {
    weir_real_t *q, *k, *v, *d_y, *y, *logs, *d_q, *d_k, *d_v;
    uint32_t *numbers;
    weir_softmax_input_t input;
} case_t;

static case_t create(uint64_t seed) {
    case_rng_t rng = {.seed = seed};
    size_t real = sizeof(weir_real_t);
    case_t c = {.q = case_allocate(TOKENS * Q_ROW, real),
                .k = case_allocate(TOKENS * K_ROW, real),
                .v = case_allocate(TOKENS * V_ROW, real),
                .d_y = case_allocate(TOKENS * Y_ROW, real),
                .y = case_allocate(TOKENS * Y_ROW, real),
                .logs = case_allocate(TOKENS * HEADS, real),
                .d_q = case_allocate(TOKENS * Q_ROW, real),
                .d_k = case_allocate(TOKENS * K_ROW, real),
                .d_v = case_allocate(TOKENS * V_ROW, real),
                .numbers = case_allocate(TOKENS, sizeof(uint32_t))};
    case_fill(&rng, c.q, TOKENS * Q_ROW, 2.0);
    case_fill(&rng, c.k, TOKENS * K_ROW, 2.0);
    case_fill(&rng, c.v, TOKENS * V_ROW, 1.0);
    case_fill(&rng, c.d_y, TOKENS * Y_ROW, 1.0);
    for (uint32_t t = 0; t < TOKENS; t++) {
        c.numbers[t] = 7 * t + 3;
    }
    c.input = (weir_softmax_input_t){.users = USERS,
                                     .offsets = offsets,
                                     .q = c.q,
                                     .k = c.k,
                                     .v = c.v,
                                     .q_row = Q_ROW,
                                     .k_row = K_ROW,
                                     .v_row = V_ROW,
                                     .seed = seed,
                                     .step = 3,
                                     .global_tokens = c.numbers};
    return c;
}

static void destroy(case_t *c) {
    void *blocks[] = {c->q, c->k, c->v, c->d_y, c->y, c->logs, c->d_q, c->d_k, c->d_v, c->numbers};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
    }
}

static void run(case_t *c, bool both_ways) {
    const weir_softmax_config_t config = {
        .heads = HEADS, .dqk = DQK, .dv = DV, .scale = 0.7, .both_ways = both_ways};
    const weir_softmax_gradient_t gradient = {
        .y = c->y, .logs = c->logs, .d_y = c->d_y, .d_q = c->d_q, .d_k = c->d_k, .d_v = c->d_v};
    const weir_kernels_t *kernels = NULL;
    weir_softmax_attention_t *attention = NULL;
    ck_assert_int_eq(weir_kernels_select(&kernels, NULL), WEIR_OK);
    ck_assert_int_eq(weir_softmax_attention_create(&config, kernels, &attention, NULL), WEIR_OK);
    ck_assert_int_eq(weir_softmax_attention_prepare(attention, NULL), WEIR_OK);
    weir_softmax_attention_forward(attention, &c->input, c->y, c->logs);
    weir_softmax_attention_backward(attention, &c->input, &gradient);
    weir_softmax_attention_destroy(attention);
}

/* The plain loops, in double; outputs as the module's. */
typedef struct {
    double y[TOKENS * Y_ROW], d_q[TOKENS * Q_ROW], d_k[TOKENS * K_ROW], d_v[TOKENS * V_ROW];
} plain_t;

static double dot(const weir_real_t *a, const weir_real_t *b, size_t count) {
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static void attend_row(const case_t *c, size_t h, size_t i, size_t first, size_t end,
                       plain_t *plain) {
    static double a[TOKENS], d_a[TOKENS];
    const weir_real_t *q = c->q + i * Q_ROW + h * DQK, *d_y = c->d_y + i * Y_ROW + h * DV;
    double sum = 0.0, mean = 0.0;
    for (size_t j = first; j < end; j++) {
        a[j] = exp(0.7 * dot(q, c->k + j * K_ROW + h * DQK, DQK));
        sum += a[j];
    }
    for (size_t j = first; j < end; j++) {
        const weir_real_t *v = c->v + j * V_ROW + h * DV;
        a[j] /= sum;
        d_a[j] = dot(d_y, v, DV);
        mean += a[j] * d_a[j];
        for (size_t x = 0; x < DV; x++) {
            plain->y[i * Y_ROW + h * DV + x] += a[j] * (double)v[x];
            plain->d_v[j * V_ROW + h * DV + x] += a[j] * (double)d_y[x];
        }
    }
    for (size_t j = first; j < end; j++) {
        double d_s = 0.7 * a[j] * (d_a[j] - mean);
        for (size_t x = 0; x < DQK; x++) {
            plain->d_q[i * Q_ROW + h * DQK + x] += d_s * (double)c->k[j * K_ROW + h * DQK + x];
            plain->d_k[j * K_ROW + h * DQK + x] += d_s * (double)q[x];
        }
    }
}

static void check(const weir_real_t *got, const double *expected, size_t row, size_t width,
                  const char *what) {
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t x = 0; x < width; x++) {
            double difference = fabs((double)got[t * row + x] - expected[t * row + x]);
            ck_assert_msg(difference <= TOLERANCE * fmax(1.0, fabs(expected[t * row + x])),
                          "%s of token %zu, %zu: %.9g, expected %.9g", what, t, x,
                          (double)got[t * row + x], expected[t * row + x]);
        }
    }
}

START_TEST(tiles_give_what_plain_loops_give) {
    bool both_ways = _i == 1;
    case_t c = create(11);
    plain_t *plain = case_allocate(1, sizeof *plain);
    run(&c, both_ways);
    for (size_t u = 0; u < USERS; u++) {
        for (size_t i = offsets[u]; i < offsets[u + 1]; i++) {
            for (size_t h = 0; h < HEADS; h++) {
                attend_row(&c, h, i, offsets[u], both_ways ? offsets[u + 1] : i + 1, plain);
            }
        }
    }
    check(c.y, plain->y, Y_ROW, HEADS * DV, "y");
    check(c.d_q, plain->d_q, Q_ROW, HEADS * DQK, "d_q");
    check(c.d_k, plain->d_k, K_ROW, HEADS * DQK, "d_k");
    check(c.d_v, plain->d_v, V_ROW, HEADS * DV, "d_v");
    free(plain);
    destroy(&c);
}
END_TEST

/* With equal keys every weight is 1 / (keys seen); v of a single token tells its weight's fate. */
START_TEST(dropout_keeps_its_share_of_the_weights_and_scales_them) {
    case_t c = create(12);
    size_t kept = 0, pairs = 0;
    memset(c.k, 0, TOKENS * K_ROW * sizeof *c.k);
    c.input.drop = true;
    c.input.dropout = 0.25;
    for (size_t j = 65; j < 215; j += 10) {
        memset(c.v, 0, TOKENS * V_ROW * sizeof *c.v);
        c.v[j * V_ROW] = 1;
        run(&c, false);
        for (size_t i = j; i < 215; i++) {
            double weight = (double)c.y[i * Y_ROW] * (double)(i - 64);
            ck_assert(weight == 0.0 || fabs(weight - 1.0 / 0.75) < 1e-5);
            kept += weight != 0.0;
            pairs++;
        }
    }
    double share = (double)kept / (double)pairs;
    ck_assert_double_eq_tol(share, 0.75, 0.05);
    destroy(&c);
}
END_TEST

START_TEST(threads_do_not_change_a_bit) {
    case_t one = create(13), some = create(13);
    one.input.drop = some.input.drop = true;
    one.input.dropout = some.input.dropout = 0.3;
    run(&one, true);
    weir_parallel_set_threads(3);
    run(&some, true);
    weir_parallel_set_threads(1);
    ck_assert_mem_eq(one.y, some.y, TOKENS * Y_ROW * sizeof *one.y);
    ck_assert_mem_eq(one.d_q, some.d_q, TOKENS * Q_ROW * sizeof *one.y);
    ck_assert_mem_eq(one.d_k, some.d_k, TOKENS * K_ROW * sizeof *one.y);
    ck_assert_mem_eq(one.d_v, some.d_v, TOKENS * V_ROW * sizeof *one.y);
    destroy(&one);
    destroy(&some);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("softmax_attention " WEIR_REAL_NAME);
    TCase *t = tcase_create("softmax_attention");
    tcase_add_loop_test(t, tiles_give_what_plain_loops_give, 0, 2);
    tcase_add_test(t, dropout_keeps_its_share_of_the_weights_and_scales_them);
    tcase_add_test(t, threads_do_not_change_a_bit);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
