/* Encoders behind worker/encoder.h: every kind keeps its contracts, and HSTU through the table of
 * functions is HSTU. */
#include "common/config_keys.h"
#include "tests/suite.h"
#include "tests/unit/hstu_cases.h"
#include "worker/encoder.h"

#include <math.h>
#include <string.h>

enum { USERS = 4 };
static const size_t ragged[USERS] = {3, 1, 7, 5};
static const weir_encoder_config_t small = {.embedding_dim = 18,
                                            .blocks = 2,
                                            .heads = 2,
                                            .dqk = 5,
                                            .dv = 7,
                                            .max_sequence_length = 7,
                                            .attention_length = 9,
                                            .input_dropout = 0.2,
                                            .layer_dropout = 0.3,
                                            .mask_probability = 0.4,
                                            .position_bias = true,
                                            .time_bias = true};

static weir_encoder_config_t config_of(int kind) {
    weir_encoder_config_t config = small;
    config.kind = (weir_encoder_kind_t)kind;
    return config;
}

static bool is_zero(const weir_real_t *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (values[i] != 0) {
            return false;
        }
    }
    return true;
}

START_TEST(a_kind_has_the_name_that_the_configuration_gives_it) {
    const weir_config_key_t *key = weir_config_keys_find("model.kind");
    ck_assert_ptr_nonnull(key);
    ck_assert_str_eq(weir_encoder_kind_name((weir_encoder_kind_t)_i), key->choices[_i]);
    ck_assert_ptr_null(weir_encoder_kind_name(WEIR_ENCODER_KINDS));
}
END_TEST

START_TEST(parameters_fill_the_buffer_in_order_under_names_of_their_own) {
    weir_encoder_config_t config = config_of(_i);
    size_t at = 0, count = weir_encoder_parameter_count(&config);
    for (size_t i = 0; i < count; i++) {
        weir_parameter_t parameter = weir_encoder_parameter(&config, i);
        ck_assert_uint_eq(parameter.offset, at);
        at += parameter.rows * parameter.cols;
        for (size_t j = 0; j < i; j++) {
            ck_assert_str_ne(parameter.name, weir_encoder_parameter(&config, j).name);
        }
    }
    ck_assert_uint_eq(at, weir_encoder_parameter_elements(&config));
}
END_TEST

START_TEST(initial_values_are_a_function_of_the_seed) {
    weir_encoder_config_t config = config_of(_i);
    size_t elements = weir_encoder_parameter_elements(&config),
           bytes = elements * sizeof(weir_real_t);
    weir_real_t *a = case_allocate(elements, sizeof(weir_real_t));
    weir_real_t *b = case_allocate(elements, sizeof(weir_real_t));
    weir_encoder_initialise(&config, 5, a);
    weir_encoder_initialise(&config, 5, b);
    ck_assert_mem_eq(a, b, bytes);
    weir_encoder_initialise(&config, 6, b);
    ck_assert_mem_ne(a, b, bytes);
    ck_assert(!is_zero(a, elements));
    free(a);
    free(b);
}
END_TEST

START_TEST(encoded_rows_have_length_one_and_a_step_repeats_its_bits) {
    weir_encoder_config_t config = config_of(_i);
    hstu_case_t *a = hstu_case_create(&config, 2, ragged, USERS);
    hstu_case_t *b = hstu_case_create(&config, 2, ragged, USERS);
    size_t elements = weir_encoder_parameter_elements(&config), real = sizeof(weir_real_t);
    hstu_case_step(a);
    hstu_case_step(b);
    hstu_case_step(b);
    for (size_t t = 0; t < a->batch.tokens; t++) {
        double sum = 0.0;
        for (size_t d = 0; d < config.embedding_dim; d++) {
            sum += (double)a->encoded[t * config.embedding_dim + d] *
                   (double)a->encoded[t * config.embedding_dim + d];
        }
        const uint8_t *scored = weir_encoder_scored(a->encoder);
        ck_assert_double_eq_tol(sum, scored == NULL || scored[t] != 0 ? 1.0 : 0.0, 1e-5);
    }
    ck_assert_mem_eq(a->encoded, b->encoded, a->batch.tokens * config.embedding_dim * real);
    ck_assert_mem_eq(a->d_parameters, b->d_parameters, elements * real);
    ck_assert_mem_eq(a->d_items, b->d_items, a->batch.tokens * config.embedding_dim * real);
    hstu_case_destroy(a);
    hstu_case_destroy(b);
}
END_TEST

START_TEST(a_user_does_not_depend_on_the_others) {
    weir_encoder_config_t config = config_of(_i);
    hstu_case_t *c = hstu_case_create(&config, 3, ragged, USERS);
    size_t dim = config.embedding_dim;
    weir_encoder_t *alone = NULL;
    weir_real_t *encoded = case_allocate(7 * dim, sizeof *encoded);
    hstu_case_encode(c);
    ck_assert_int_eq(weir_encoder_create(&config, &alone, NULL), WEIR_OK);
    for (size_t u = 0; u < USERS; u++) {
        size_t first = c->offsets[u], offsets[2] = {0, ragged[u]};
        weir_sequence_batch_t batch = {.users = 1,
                                       .tokens = ragged[u],
                                       .offsets = offsets,
                                       .times = c->times + first,
                                       .next_times = c->next_times + first,
                                       .global_tokens = c->global_tokens + first};
        ck_assert_int_eq(weir_encoder_forward(alone, c->parameters, &batch, c->items + first * dim,
                                              c->mode, encoded, NULL),
                         WEIR_OK);
        for (size_t i = 0; i < ragged[u] * dim; i++) {
            ck_assert_double_eq_tol((double)encoded[i], (double)c->encoded[first * dim + i], 1e-5);
        }
    }
    weir_encoder_destroy(alone);
    free(encoded);
    hstu_case_destroy(c);
}
END_TEST

typedef struct {
    size_t spans, elements;
    bool *done;
} announced_t;

static void announce(void *argument, size_t begin, size_t end) {
    announced_t *announced = argument;
    announced->spans++;
    for (size_t i = begin; i < end; i++) {
        ck_assert(!announced->done[i]);
        announced->done[i] = true;
        announced->elements++;
    }
}

START_TEST(every_gradient_is_announced_once) {
    weir_encoder_config_t config = config_of(_i);
    hstu_case_t *c = hstu_case_create(&config, 4, ragged, USERS);
    size_t elements = weir_encoder_parameter_elements(&config);
    announced_t announced = {.done = case_allocate(elements, sizeof(bool))};
    hstu_case_step(c);
    ck_assert_int_eq(weir_encoder_backward(c->encoder, c->parameters, c->d_encoded, c->d_items,
                                           c->d_parameters, announce, &announced, NULL),
                     WEIR_OK);
    ck_assert_uint_eq(announced.elements, elements);
    ck_assert_uint_gt(announced.spans, 1);
    free(announced.done);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(an_empty_batch_has_no_gradients) {
    weir_encoder_config_t config = config_of(_i);
    hstu_case_t *c = hstu_case_create(&config, 5, ragged, 0);
    hstu_case_encode(c);
    c->d_parameters[0] = 1;
    ck_assert_int_eq(weir_encoder_backward(c->encoder, c->parameters, c->d_encoded, c->d_items,
                                           c->d_parameters, NULL, NULL, NULL),
                     WEIR_OK);
    ck_assert(is_zero(c->d_parameters, weir_encoder_parameter_elements(&config)));
    hstu_case_destroy(c);
}
END_TEST

START_TEST(bad_batches_are_refused) {
    weir_encoder_config_t config = config_of(_i);
    hstu_case_t *c = hstu_case_create(&config, 6, ragged, USERS);
    const size_t bad[][3] = {{0, 0, 4}, {0, 8, 12}, {1, 3, 4}, {0, 3, 5}};
    weir_error_t error = {0};
    ck_assert_int_ne(weir_encoder_backward(c->encoder, c->parameters, c->d_encoded, c->d_items,
                                           c->d_parameters, NULL, NULL, &error),
                     WEIR_OK); /* none before it went forward */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weir_sequence_batch_t batch = c->batch;
        batch.users = 2;
        batch.offsets = bad[i];
        batch.tokens = i == 3 ? 4 : bad[i][2];
        ck_assert_int_eq(weir_encoder_forward(c->encoder, c->parameters, &batch, c->items, c->mode,
                                              c->encoded, &error),
                         WEIR_ERR_INVALID);
    }
    hstu_case_destroy(c);
}
END_TEST

START_TEST(rows_of_users_have_gradients_when_there_are_any) {
    weir_encoder_config_t config = config_of(_i);
    hstu_case_t *c = hstu_case_create(&config, 7, ragged, USERS);
    size_t count = USERS * config.embedding_dim;
    hstu_case_step(c);
    ck_assert(is_zero(c->d_user_rows, count));
    c->embeds_users = true;
    hstu_case_step(c);
    ck_assert(!is_zero(c->d_user_rows, count));
    hstu_case_destroy(c);
}
END_TEST

START_TEST(hstu_behind_the_table_gives_the_bits_of_hstu) {
    hstu_case_t *c = hstu_case_create(&small, 8, ragged, USERS);
    size_t elements = weir_hstu_parameter_elements(&small), dim = small.embedding_dim;
    weir_real_t *encoded = case_allocate(c->batch.tokens * dim, sizeof *encoded);
    weir_real_t *d_parameters = case_allocate(elements, sizeof *d_parameters);
    weir_real_t *d_items = case_allocate(c->batch.tokens * dim, sizeof *d_items);
    weir_hstu_t *hstu = NULL;
    hstu_case_step(c);
    ck_assert_int_eq(weir_hstu_create(&small, &hstu, NULL), WEIR_OK);
    ck_assert_int_eq(
        weir_hstu_forward(hstu, c->parameters, &c->batch, c->items, c->mode, encoded, NULL),
        WEIR_OK);
    ck_assert_mem_eq(encoded, c->encoded, c->batch.tokens * dim * sizeof *encoded);
    ck_assert_int_eq(weir_hstu_backward(hstu, c->parameters, c->d_encoded, d_items, d_parameters,
                                        NULL, NULL, NULL),
                     WEIR_OK);
    ck_assert_mem_eq(d_items, c->d_items, c->batch.tokens * dim * sizeof *d_items);
    ck_assert_mem_eq(d_parameters, c->d_parameters, elements * sizeof *d_parameters);
    weir_hstu_destroy(hstu);
    free(encoded);
    free(d_parameters);
    free(d_items);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(an_unknown_kind_is_refused) {
    weir_encoder_config_t config = config_of(WEIR_ENCODER_KINDS);
    weir_encoder_t *encoder = NULL;
    ck_assert_int_eq(weir_encoder_create(&config, &encoder, NULL), WEIR_ERR_INVALID);
    ck_assert_ptr_null(encoder);
}
END_TEST

static Suite *encoder_suite(void) {
    Suite *s = suite_create("encoder " WEIR_REAL_NAME);
    TCase *t = tcase_create("encoder");
    const TTest *const of_each_kind[] = {
        a_kind_has_the_name_that_the_configuration_gives_it,
        parameters_fill_the_buffer_in_order_under_names_of_their_own,
        initial_values_are_a_function_of_the_seed,
        encoded_rows_have_length_one_and_a_step_repeats_its_bits,
        a_user_does_not_depend_on_the_others,
        every_gradient_is_announced_once,
        an_empty_batch_has_no_gradients,
        bad_batches_are_refused,
        rows_of_users_have_gradients_when_there_are_any,
    };
    for (size_t i = 0; i < sizeof of_each_kind / sizeof *of_each_kind; i++) {
        tcase_add_loop_test(t, of_each_kind[i], 0, WEIR_ENCODER_KINDS);
    }
    tcase_add_test(t, hstu_behind_the_table_gives_the_bits_of_hstu);
    tcase_add_test(t, an_unknown_kind_is_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(encoder_suite())
