#include "tests/suite.h"
#include "tests/unit/hstu_cases.h"

#include <string.h>

static const weir_hstu_config_t small = {.embedding_dim = 18,
                                         .blocks = 3,
                                         .heads = 2,
                                         .dqk = 5,
                                         .dv = 7,
                                         .max_sequence_length = 40,
                                         .attention_length = 45,
                                         .input_dropout = 0.2,
                                         .layer_dropout = 0.3,
                                         .position_bias = true,
                                         .time_bias = true};
static const size_t ragged[] = {11, 1, 40, 2, 17};
enum { USERS = 5 };

static const double rounding = sizeof(weir_real_t) == 8 ? 1e-12 : 3e-5;

START_TEST(encoded_rows_have_norm_one) {
    hstu_case_t *c = hstu_case_create(&small, 1, ragged, USERS);
    hstu_case_encode(c);
    for (size_t t = 0; t < c->batch.tokens; t++) {
        double sum = 0.0;
        for (size_t d = 0; d < 18; d++) {
            sum += (double)c->encoded[t * 18 + d] * (double)c->encoded[t * 18 + d];
        }
        ck_assert_double_eq_tol(sum, 1.0, 1e-5);
    }
    hstu_case_destroy(c);
}
END_TEST

START_TEST(the_same_step_gives_the_same_bits) {
    hstu_case_t *a = hstu_case_create(&small, 2, ragged, USERS);
    hstu_case_t *b = hstu_case_create(&small, 2, ragged, USERS);
    size_t bytes = weir_hstu_parameter_elements(&small) * sizeof(weir_real_t);
    hstu_case_step(a);
    hstu_case_step(b);
    ck_assert_int_eq(memcmp(a->d_parameters, b->d_parameters, bytes), 0);
    hstu_case_step(b);
    ck_assert_int_eq(memcmp(a->d_parameters, b->d_parameters, bytes), 0);
    ck_assert_int_eq(memcmp(a->encoded, b->encoded, a->batch.tokens * 18 * sizeof(weir_real_t)), 0);
    ck_assert_int_eq(
        memcmp(a->d_table, b->d_table, (size_t)HSTU_CASE_ROWS * 18 * sizeof(weir_real_t)), 0);
    hstu_case_destroy(a);
    hstu_case_destroy(b);
}
END_TEST

/* Dropout on: what ties a user's masks to the user is the token's number in the global batch. */
START_TEST(a_user_does_not_depend_on_the_others_in_the_batch) {
    hstu_case_t *c = hstu_case_create(&small, 3, ragged, USERS);
    hstu_case_encode(c);
    for (size_t u = 0; u < USERS; u++) {
        size_t first = c->offsets[u], length = ragged[u], offsets[2] = {0, length};
        weir_real_t *alone = case_allocate(length * 18, sizeof *alone);
        weir_hstu_t *hstu = NULL;
        weir_sequence_batch_t batch = {.users = 1,
                                       .tokens = length,
                                       .offsets = offsets,
                                       .times = c->times + first,
                                       .next_times = c->next_times + first,
                                       .global_tokens = c->global_tokens + first};
        ck_assert_int_eq(weir_hstu_create(&small, &hstu, NULL), WEIR_OK);
        ck_assert_int_eq(weir_hstu_forward(hstu, c->parameters, &batch, c->items + first * 18,
                                           c->mode, alone, NULL),
                         WEIR_OK);
        ck_assert_double_le(case_error(alone, c->encoded + first * 18, length * 18), rounding);
        weir_hstu_destroy(hstu);
        free(alone);
    }
    hstu_case_destroy(c);
}
END_TEST

START_TEST(an_event_does_not_see_those_after_it) {
    hstu_case_t *c = hstu_case_create(&small, 4, ragged, USERS);
    size_t first = c->offsets[2], last = c->offsets[3] - 1, before = (last - first) * 18;
    weir_real_t *kept = case_allocate(before, sizeof *kept);
    hstu_case_encode(c);
    memcpy(kept, c->encoded + first * 18, before * sizeof *kept);
    c->item_rows[last] = (c->item_rows[last] + 1) % HSTU_CASE_ROWS;
    c->times[last] += 100000;
    c->next_times[last] += 200000;
    hstu_case_encode(c);
    ck_assert_double_le(case_error(kept, c->encoded + first * 18, before), rounding);
    hstu_case_destroy(c);
    free(kept);
}
END_TEST

/* sqrt(D) (E + U / sqrt(D)) is sqrt(D) E + U: the row of a user stands beside its items, not
 * scaled.
 */
START_TEST(a_users_row_is_added_to_the_input_of_each_of_its_tokens) {
    hstu_case_t *c = hstu_case_create(&small, 8, ragged, USERS);
    size_t count = c->batch.tokens * 18;
    weir_real_t *with = case_allocate(count, sizeof *with);
    hstu_case_encode(c);
    memcpy(with, c->encoded, count * sizeof *with);
    c->embeds_users = true;
    hstu_case_encode(c);
    ck_assert_double_ge(case_error(with, c->encoded, count), 1e-2);
    memcpy(with, c->encoded, count * sizeof *with);
    for (size_t u = 0; u < USERS; u++) {
        for (size_t i = c->offsets[u] * 18; i < c->offsets[u + 1] * 18; i++) {
            c->items[i] += (weir_real_t)((double)c->user_rows[u * 18 + i % 18] / sqrt(18.0));
        }
    }
    c->batch.user_rows = NULL;
    ck_assert_int_eq(weir_encoder_forward(c->encoder, c->parameters, &c->batch, c->items, c->mode,
                                          c->encoded, NULL),
                     WEIR_OK);
    ck_assert_double_le(case_error(with, c->encoded, count), rounding);
    hstu_case_destroy(c);
    free(with);
}
END_TEST

START_TEST(dropout_changes_with_the_step_and_is_off_in_evaluation) {
    hstu_case_t *c = hstu_case_create(&small, 5, ragged, USERS);
    weir_hstu_config_t plain = small;
    plain.input_dropout = plain.layer_dropout = 0.0;
    hstu_case_t *without = hstu_case_create(&plain, 5, ragged, USERS);
    size_t count = c->batch.tokens * 18;
    weir_real_t *first = case_allocate(count, sizeof *first);
    hstu_case_encode(without);
    hstu_case_encode(c);
    memcpy(first, c->encoded, count * sizeof *first);
    ck_assert_double_ge(case_error(first, without->encoded, count), 1e-2);
    c->mode.step++;
    hstu_case_encode(c);
    ck_assert_double_ge(case_error(first, c->encoded, count), 1e-2);
    c->mode.train = false;
    hstu_case_encode(c);
    ck_assert_double_le(case_error(c->encoded, without->encoded, count), rounding);
    hstu_case_destroy(c);
    hstu_case_destroy(without);
    free(first);
}
END_TEST

/* Ranges as they were announced, and their values at that moment. */
typedef struct {
    const weir_real_t *gradient;
    weir_real_t *seen;
    size_t begins[8], ends[8], count;
} announced_t;

static void on_ready(void *argument, size_t begin, size_t end) {
    announced_t *announced = argument;
    ck_assert_uint_lt(announced->count, 8);
    announced->begins[announced->count] = begin;
    announced->ends[announced->count++] = end;
    memcpy(announced->seen + begin, announced->gradient + begin,
           (end - begin) * sizeof(weir_real_t));
}

START_TEST(gradients_are_announced_when_final_last_layer_first) {
    hstu_case_t *c = hstu_case_create(&small, 6, ragged, USERS);
    size_t elements = weir_hstu_parameter_elements(&small);
    announced_t announced = {.gradient = c->d_parameters,
                             .seen = case_allocate(elements, sizeof(weir_real_t))};
    hstu_case_step(c);
    ck_assert_int_eq(weir_encoder_backward(c->encoder, c->parameters, c->d_encoded, c->d_items,
                                           c->d_parameters, on_ready, &announced, NULL),
                     WEIR_OK);
    ck_assert_uint_eq(announced.count, 4);
    ck_assert_uint_eq(announced.ends[0], elements);
    for (size_t i = 1; i < announced.count; i++) {
        ck_assert_uint_eq(announced.ends[i], announced.begins[i - 1]);
    }
    ck_assert_uint_eq(announced.begins[3], 0);
    ck_assert_int_eq(memcmp(announced.seen, c->d_parameters, elements * sizeof(weir_real_t)), 0);
    free(announced.seen);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(a_bias_that_is_off_has_no_effect_and_no_gradient) {
    weir_hstu_config_t config = small;
    config.time_bias = config.position_bias = false;
    hstu_case_t *c = hstu_case_create(&config, 7, ragged, USERS);
    weir_parameter_t time = weir_hstu_parameter(&config, 2), position;
    position = weir_hstu_parameter(&config, 3);
    hstu_case_step(c);
    double before = c->value;
    for (size_t i = time.offset; i < position.offset + position.rows; i++) {
        ck_assert_double_eq((double)c->d_parameters[i], 0.0);
        c->parameters[i] += 1;
    }
    hstu_case_step(c);
    ck_assert_double_eq(c->value, before);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(an_empty_batch_has_zero_gradients) {
    hstu_case_t *c = hstu_case_create(&small, 8, ragged, 0);
    size_t elements = weir_hstu_parameter_elements(&small);
    memset(c->d_parameters, 0x55, elements * sizeof(weir_real_t));
    hstu_case_step(c);
    for (size_t i = 0; i < elements; i++) {
        ck_assert_double_eq((double)c->d_parameters[i], 0.0);
    }
    ck_assert_double_eq(c->value, 0.0);
    hstu_case_destroy(c);
}
END_TEST

START_TEST(batches_that_cannot_be_are_refused) {
    static const size_t lengths[] = {3, 2};
    hstu_case_t *c = hstu_case_create(&small, 9, lengths, 2);
    weir_error_t error = {0};
    size_t bad[][3] = {{0, 0, 5}, {0, 6, 5}, {1, 3, 5}, {0, 3, 4}, {0, 5, 50}};
    ck_assert_int_eq(weir_encoder_backward(c->encoder, c->parameters, c->d_encoded, c->d_items,
                                           c->d_parameters, NULL, NULL, &error),
                     WEIR_ERR_INVALID);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weir_sequence_batch_t batch = c->batch;
        batch.offsets = bad[i];
        batch.tokens = i == 4 ? 50 : 5;
        ck_assert_int_eq(weir_encoder_forward(c->encoder, c->parameters, &batch, c->items, c->mode,
                                              c->encoded, &error),
                         WEIR_ERR_INVALID);
        ck_assert_str_ne(error.message, "");
    }
    hstu_case_destroy(c);
}
END_TEST

START_TEST(models_that_cannot_be_are_refused) {
    weir_hstu_config_t configs[8];
    for (size_t i = 0; i < 8; i++) {
        configs[i] = small;
    }
    configs[0].embedding_dim = 0;
    configs[1].heads = 0;
    configs[2].dqk = 0;
    configs[3].dv = SIZE_MAX / 2;
    configs[4].attention_length = 39;
    configs[5].layer_dropout = 1.0;
    configs[6].input_dropout = (double)NAN;
    configs[7].blocks = 0;
    for (size_t i = 0; i < 8; i++) {
        weir_hstu_t *hstu = NULL;
        weir_error_t error = {0};
        ck_assert_int_eq(weir_hstu_create(&configs[i], &hstu, &error), WEIR_ERR_INVALID);
        ck_assert_ptr_null(hstu);
        ck_assert_str_ne(error.message, "");
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("hstu " WEIR_REAL_NAME);
    TCase *t = tcase_create("hstu");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, encoded_rows_have_norm_one);
    tcase_add_test(t, the_same_step_gives_the_same_bits);
    tcase_add_test(t, a_user_does_not_depend_on_the_others_in_the_batch);
    tcase_add_test(t, an_event_does_not_see_those_after_it);
    tcase_add_test(t, a_users_row_is_added_to_the_input_of_each_of_its_tokens);
    tcase_add_test(t, dropout_changes_with_the_step_and_is_off_in_evaluation);
    tcase_add_test(t, gradients_are_announced_when_final_last_layer_first);
    tcase_add_test(t, a_bias_that_is_off_has_no_effect_and_no_gradient);
    tcase_add_test(t, an_empty_batch_has_zero_gradients);
    tcase_add_test(t, batches_that_cannot_be_are_refused);
    tcase_add_test(t, models_that_cannot_be_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
