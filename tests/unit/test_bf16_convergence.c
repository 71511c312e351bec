/* A small model trained in bfloat16 beside one in float32: it learns as much. */
#include "tests/suite.h"
#include "tests/unit/hstu_cases.h"
#include "worker/bf16.h"

enum { USERS = 6, STEPS = 120 };

static const weir_hstu_config_t small = {.embedding_dim = 24,
                                         .blocks = 2,
                                         .heads = 2,
                                         .dqk = 12,
                                         .dv = 12,
                                         .max_sequence_length = 40,
                                         .attention_length = 45,
                                         .position_bias = true,
                                         .time_bias = true};

/* Loss before and after STEPS of AdamW on one batch, of dense parameters and table. */
static void train(bool bf16, double *before, double *after) {
    static const size_t lengths[USERS] = {40, 17, 33, 1, 25, 8};
    weir_hstu_config_t config = small;
    const weir_kernels_t *kernels = NULL;
    config.bf16 = bf16;
    ck_assert_int_eq(weir_kernels_select(&kernels, NULL), WEIR_OK);
    hstu_case_t *c = hstu_case_create(&config, 3, lengths, USERS);
    size_t dense = weir_hstu_parameter_elements(&config);
    size_t table = HSTU_CASE_ROWS * config.embedding_dim;
    weir_real_t *moments = case_allocate(2 * (dense + table), sizeof *moments);
    hstu_case_step(c);
    *before = c->value;
    for (uint64_t step = 1; step <= STEPS; step++) {
        weir_adamw_t adamw = weir_adamw_at(step, 3e-3, 0.9, 0.98, 1e-8, 0.0);
        kernels->adamw(&adamw, c->d_parameters, c->parameters, moments, moments + dense, dense);
        kernels->adamw(&adamw, c->d_table, c->table, moments + 2 * dense,
                       moments + 2 * dense + table, table);
        hstu_case_step(c);
    }
    *after = c->value;
    free(moments);
    hstu_case_destroy(c);
}

START_TEST(a_model_in_bfloat16_learns_what_one_in_float32_learns) {
    double float32[2], bf16[2];
    train(false, &float32[0], &float32[1]);
    train(true, &bf16[0], &bf16[1]);
    (void)printf("loss of float32 %g -> %g, of bfloat16 %g -> %g\n", float32[0], float32[1],
                 bf16[0], bf16[1]);
    ck_assert_double_lt(float32[1], 0.5 * float32[0]);
    /* What rounding takes of the progress: a layer's sixteen operands (tests/golden), of two
     * layers. */
    double progress = float32[0] - float32[1];
    ck_assert_double_eq_tol(bf16[0], float32[0], 32 * WEIR_BF16_UNIT * float32[0]);
    ck_assert_double_eq_tol(bf16[1], float32[1], 32 * WEIR_BF16_UNIT * progress);
    ck_assert(bf16[1] != float32[1]);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("bf16 convergence");
    TCase *t = tcase_create("bf16 convergence");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_model_in_bfloat16_learns_what_one_in_float32_learns);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
