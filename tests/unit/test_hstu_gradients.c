/* Every gradient of the whole chain, from the table and the dense parameters to the loss, against
 * central differences of the loss. float64 alone. */
#include "tests/suite.h"
#include "tests/unit/hstu_cases.h"
#include "worker/hstu_memory.h"

#include <string.h>

static const weir_hstu_config_t small = {.embedding_dim = 6,
                                         .blocks = 2,
                                         .heads = 2,
                                         .dqk = 3,
                                         .dv = 4,
                                         .max_sequence_length = 7,
                                         .attention_length = 9,
                                         .input_dropout = 0.2,
                                         .layer_dropout = 0.3,
                                         .position_bias = true,
                                         .time_bias = true};
static const size_t ragged[] = {4, 1, 7, 2};

static double evaluate_at(hstu_case_t *c, weir_real_t *x, double value) {
    double kept = (double)*x;
    *x = (weir_real_t)value;
    hstu_case_step(c);
    *x = (weir_real_t)kept;
    return c->value;
}

/* `gradient` of `count` values `x`, which the loss depends on; `what` for the message. */
static void check_slopes(hstu_case_t *c, weir_real_t *x, const weir_real_t *gradient, size_t count,
                         const char *what) {
    const double h = 1e-6;
    double largest = 0.0;
    for (size_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs((double)gradient[i]));
    }
    for (size_t i = 0; i < count; i++) {
        double at = (double)x[i];
        double slope = (evaluate_at(c, &x[i], at + h) - evaluate_at(c, &x[i], at - h)) / (2.0 * h);
        double error = fabs(slope - (double)gradient[i]);
        ck_assert_msg(error <= 2e-7 * fmax(1.0, largest),
                      "%s, element %zu: slope %.12g, gradient %.12g", what, i, slope,
                      (double)gradient[i]);
    }
}

static void check_all(hstu_case_t *c) {
    size_t elements = weir_encoder_parameter_elements(&c->config);
    size_t cells = HSTU_CASE_ROWS * c->config.embedding_dim;
    size_t user_cells = c->batch.users * c->config.embedding_dim;
    weir_real_t *gradient = case_allocate(elements, sizeof *gradient);
    weir_real_t *d_table = case_allocate(cells, sizeof *d_table);
    weir_real_t *d_user_rows = case_allocate(user_cells, sizeof *d_user_rows);
    hstu_case_step(c);
    memcpy(gradient, c->d_parameters, elements * sizeof *gradient);
    memcpy(d_table, c->d_table, cells * sizeof *d_table);
    memcpy(d_user_rows, c->d_user_rows, user_cells * sizeof *d_user_rows);
    for (size_t i = 0; i < weir_encoder_parameter_count(&c->config); i++) {
        weir_parameter_t p = weir_encoder_parameter(&c->config, i);
        check_slopes(c, c->parameters + p.offset, gradient + p.offset, p.rows * p.cols, p.name);
    }
    check_slopes(c, c->table, d_table, cells, "item table");
    if (c->embeds_users) {
        check_slopes(c, c->user_rows, d_user_rows, user_cells, "user table");
    }
    free(gradient);
    free(d_table);
    free(d_user_rows);
}

static void check_config(const weir_hstu_config_t *config, uint64_t seed,
                         weir_negative_sharing_t sharing) {
    hstu_case_t *c = hstu_case_create(config, seed, ragged, sizeof ragged / sizeof *ragged);
    c->sharing = sharing;
    check_all(c);
    hstu_case_destroy(c);
}

START_TEST(gradients_are_slopes_with_dropout_and_both_biases) {
    check_config(&small, 1, WEIR_NEGATIVES_TOKEN);
}
END_TEST

START_TEST(gradients_are_slopes_with_shared_negatives) {
    check_config(&small, 2, WEIR_NEGATIVES_BATCH);
}
END_TEST

START_TEST(gradients_are_slopes_with_the_full_softmax) {
    check_config(&small, 8, WEIR_NEGATIVES_CATALOGUE);
}
END_TEST

START_TEST(gradients_are_slopes_without_dropout) {
    weir_hstu_config_t config = small;
    config.input_dropout = config.layer_dropout = 0.0;
    check_config(&config, 3, WEIR_NEGATIVES_TOKEN);
}
END_TEST

START_TEST(gradients_are_slopes_with_the_position_bias_alone) {
    weir_hstu_config_t config = small;
    config.time_bias = false;
    check_config(&config, 4, WEIR_NEGATIVES_TOKEN);
}
END_TEST

START_TEST(gradients_are_slopes_with_the_time_bias_alone) {
    weir_hstu_config_t config = small;
    config.position_bias = false;
    check_config(&config, 5, WEIR_NEGATIVES_TOKEN);
}
END_TEST

START_TEST(gradients_are_slopes_with_one_head_and_odd_widths) {
    weir_hstu_config_t config = small;
    config.embedding_dim = 5;
    config.heads = 1;
    config.dqk = 7;
    config.dv = 3;
    config.blocks = 1;
    check_config(&config, 6, WEIR_NEGATIVES_BATCH);
}
END_TEST

START_TEST(gradients_are_slopes_with_users_embedded) {
    hstu_case_t *c = hstu_case_create(&small, 7, ragged, sizeof ragged / sizeof *ragged);
    c->embeds_users = true;
    check_all(c);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(gradients_are_slopes_in_groups_of_users_with_a_recomputed_layer) {
    hstu_case_t *c = hstu_case_create(&small, 8, ragged, sizeof ragged / sizeof *ragged);
    c->embeds_users = true;
    weir_encoder_limit_activations(c->encoder, weir_hstu_memory_bytes(&small, 7, 1));
    check_all(c);
    ck_assert_uint_gt(weir_encoder_activations(c->encoder).groups, 1);
    ck_assert_uint_eq(weir_encoder_activations(c->encoder).kept_layers, 1);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(gradients_are_slopes_with_a_softmax_and_both_biases) {
    weir_hstu_config_t config = small;
    config.softmax = true;
    check_config(&config, 14, WEIR_NEGATIVES_TOKEN);
}
END_TEST

START_TEST(gradients_of_sasrec_are_slopes) {
    weir_encoder_config_t config = small;
    config.kind = WEIR_ENCODER_SASREC;
    config.hidden_dim = 5;
    check_config(&config, 9, WEIR_NEGATIVES_TOKEN);
}
END_TEST

START_TEST(gradients_of_sasrec_are_slopes_with_users_embedded_and_without_dropout) {
    weir_encoder_config_t config = small;
    config.kind = WEIR_ENCODER_SASREC;
    config.heads = 1;
    config.input_dropout = config.layer_dropout = 0.0;
    hstu_case_t *c = hstu_case_create(&config, 10, ragged, sizeof ragged / sizeof *ragged);
    c->embeds_users = true;
    check_all(c);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(gradients_of_gru4rec_are_slopes) {
    weir_encoder_config_t config = small;
    config.kind = WEIR_ENCODER_GRU4REC;
    config.hidden_dim = 5;
    hstu_case_t *c = hstu_case_create(&config, 11, ragged, sizeof ragged / sizeof *ragged);
    c->embeds_users = true;
    check_all(c);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(gradients_of_gru4rec_of_more_users_than_a_group_are_slopes) {
    enum { MANY = 40 };
    size_t lengths[MANY];
    weir_encoder_config_t config = small;
    config.kind = WEIR_ENCODER_GRU4REC;
    config.input_dropout = config.layer_dropout = 0.0;
    config.blocks = 1;
    config.embedding_dim = 3;
    for (size_t u = 0; u < MANY; u++) {
        lengths[u] = 1 + u * 5 % 3;
    }
    hstu_case_t *c = hstu_case_create(&config, 12, lengths, MANY);
    check_all(c);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(gradients_of_bert4rec_are_slopes) {
    weir_encoder_config_t config = small;
    config.kind = WEIR_ENCODER_BERT4REC;
    config.hidden_dim = 5;
    config.mask_probability = 0.4;
    hstu_case_t *c = hstu_case_create(&config, 13, ragged, sizeof ragged / sizeof *ragged);
    c->embeds_users = true;
    check_all(c);
    hstu_case_destroy(c);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("hstu_gradients");
    TCase *t = tcase_create("hstu_gradients");
    tcase_set_timeout(t, 200);
    tcase_add_test(t, gradients_are_slopes_with_dropout_and_both_biases);
    tcase_add_test(t, gradients_are_slopes_with_shared_negatives);
    tcase_add_test(t, gradients_are_slopes_with_the_full_softmax);
    tcase_add_test(t, gradients_are_slopes_without_dropout);
    tcase_add_test(t, gradients_are_slopes_with_the_position_bias_alone);
    tcase_add_test(t, gradients_are_slopes_with_the_time_bias_alone);
    tcase_add_test(t, gradients_are_slopes_with_one_head_and_odd_widths);
    tcase_add_test(t, gradients_are_slopes_with_users_embedded);
    tcase_add_test(t, gradients_are_slopes_in_groups_of_users_with_a_recomputed_layer);
    tcase_add_test(t, gradients_are_slopes_with_a_softmax_and_both_biases);
    tcase_add_test(t, gradients_of_sasrec_are_slopes);
    tcase_add_test(t, gradients_of_sasrec_are_slopes_with_users_embedded_and_without_dropout);
    tcase_add_test(t, gradients_of_gru4rec_are_slopes);
    tcase_add_test(t, gradients_of_gru4rec_of_more_users_than_a_group_are_slopes);
    tcase_add_test(t, gradients_of_bert4rec_are_slopes);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
