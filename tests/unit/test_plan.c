#include "ps/model_tables.h"
#include "tests/suite.h"
#include "tools/plan_measure.h"

#include <math.h>
#include <string.h>

static weir_row_schema_t schema_of(const weir_config_t *config) {
    weir_row_schema_t schemas[WEIR_MODEL_MAX_TABLES];
    (void)weir_model_tables(config, schemas);
    return schemas[WEIR_MODEL_ITEM_TABLE];
}

static weir_config_t small_config(void) {
    weir_config_t config;
    weir_config_defaults(&config);
    config.model.embedding_dim = 64;
    config.sparse.optimizer = WEIR_OPTIMIZER_ROWWISE_ADAGRAD;
    config.train.batch_users = 10;
    config.loss.negatives = 4;
    return config;
}

START_TEST(distinct_keys_are_those_of_the_sum_over_all_ranks) {
    static const double skews[] = {0.0, 0.5, 0.99, 1.0, 1.3};
    for (size_t i = 0; i < sizeof skews / sizeof *skews; i++) {
        for (double draws = 1.0; draws < 1e6; draws *= 10.0) {
            double total = 0.0, distinct = 0.0;
            enum { N = 50000 };
            for (int k = 1; k <= N; k++) {
                total += pow(k, -skews[i]);
            }
            for (int k = 1; k <= N; k++) {
                distinct += -expm1(-draws * pow(k, -skews[i]) / total);
            }
            ck_assert_double_eq_tol(weir_plan_distinct(N, skews[i], draws), distinct,
                                    0.001 * distinct);
        }
    }
    ck_assert(weir_plan_distinct(0.0, 1.0, 5.0) == 0.0);
}
END_TEST

START_TEST(a_plan_adds_up) {
    weir_config_t config = small_config();
    weir_row_schema_t schema = schema_of(&config);
    weir_plan_input_t input = {.rows = 1e9,
                               .node_memory = 64e9,
                               .usable = 0.5,
                               .workers = 4,
                               .mean_length = 100,
                               .skew = 1.0,
                               .constants = {1e7, 2e7, 1e9, 1e10}};
    weir_plan_t plan = weir_plan_make(&config, &schema, &input);
    ck_assert(plan.parameters == 64e9);
    ck_assert(plan.record_bytes == 260.0); /* 64 floats and one sum of squares */
    ck_assert(plan.row_bytes > 260.0 + 8.0 && plan.row_bytes < 340.0);
    ck_assert(plan.memory == 1e9 * plan.row_bytes);
    ck_assert(plan.servers == ceil(plan.memory / 32e9));
    ck_assert(plan.fits);
    ck_assert(plan.server_memory <= 32e9);
    /* 250 tokens a worker, each with 4 negatives of a billion: hardly any twice. */
    ck_assert(plan.keys > 1100.0 && plan.keys < 1250.0);
    ck_assert_double_eq_tol(plan.worker_bytes, plan.keys * (8 + 256 + 256),
                            1e-6 * plan.worker_bytes);
    ck_assert_double_eq_tol(plan.checkpoint_seconds, 1e9 * 284.0 / plan.servers / 1e9, 1e-6);
    config.loss.sharing = WEIR_NEGATIVES_CATALOGUE;
    ck_assert(weir_plan_make(&config, &schema, &input).keys == input.rows);
    config.model.kind =
        WEIR_MODEL_RANKING; /* nothing is drawn: histories, targets and users alone */
    config.ranking.max_targets = 20;
    config.ranking.user_token = true;
    input.features = 2.0;
    double users = (double)config.train.batch_users / 4.0;
    ck_assert_double_eq_tol(weir_plan_make(&config, &schema, &input).keys,
                            weir_plan_distinct(1e9, 1.0, users * 120.0 * 3.0) + users, 1e-6);
    input.servers = 2;
    ck_assert(!weir_plan_make(&config, &schema, &input).fits);
}
END_TEST

START_TEST(the_real_table_takes_the_memory_that_is_planned) {
    static const weir_precision_t precisions[] = {WEIR_PRECISION_F32, WEIR_PRECISION_BF16};
    for (size_t i = 0; i < 2; i++) {
        weir_config_t config = small_config();
        config.model.embedding_dim = 32;
        config.sparse.precision = precisions[i];
        weir_row_schema_t schema = schema_of(&config);
        weir_plan_simulation_t simulation;
        weir_error_t error = {0};
        ck_assert_msg(weir_plan_simulate(&schema, 2e10, 0.99, 1500000, &simulation, &error) ==
                          WEIR_OK,
                      "%s", error.message);
        ck_assert_double_eq_tol(simulation.accounted / simulation.planned, 1.0, 0.03);
        ck_assert_uint_ge(simulation.rows, 1500000);
        ck_assert_uint_gt(simulation.draws, simulation.rows); /* popular keys came again */
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("plan");
    TCase *t = tcase_create("plan");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, distinct_keys_are_those_of_the_sum_over_all_ranks);
    tcase_add_test(t, a_plan_adds_up);
    tcase_add_test(t, the_real_table_takes_the_memory_that_is_planned);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
