#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/hstu.h"

#include <string.h>

static const weir_hstu_config_t config = {.embedding_dim = 48,
                                          .blocks = 3,
                                          .heads = 2,
                                          .dqk = 20,
                                          .dv = 24,
                                          .max_sequence_length = 90,
                                          .attention_length = 101,
                                          .position_bias = true,
                                          .time_bias = true};

START_TEST(parameters_fill_the_buffer_without_a_gap) {
    size_t at = 0;
    ck_assert_uint_eq(weir_hstu_parameter_count(&config), 1 + 3 * 5);
    for (size_t i = 0; i < weir_hstu_parameter_count(&config); i++) {
        weir_parameter_t parameter = weir_hstu_parameter(&config, i);
        ck_assert_uint_eq(parameter.offset, at);
        at += parameter.rows * parameter.cols;
    }
    ck_assert_uint_eq(at, weir_hstu_parameter_elements(&config));
}
END_TEST

START_TEST(names_and_shapes_are_the_documented_ones) {
    static const struct {
        const char *name;
        size_t rows, cols;
    } expected[] = {{"position_embedding", 101, 48},   {"layer.0.uvqk", 48, 176},
                    {"layer.0.time_bias", 129, 1},     {"layer.0.position_bias", 201, 1},
                    {"layer.0.output_weight", 48, 48}, {"layer.0.output_bias", 48, 1},
                    {"layer.1.uvqk", 48, 176}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        weir_parameter_t parameter = weir_hstu_parameter(&config, i);
        ck_assert_str_eq(parameter.name, expected[i].name);
        ck_assert_uint_eq(parameter.rows, expected[i].rows);
        ck_assert_uint_eq(parameter.cols, expected[i].cols);
    }
}
END_TEST

/* Mean near 0 and the standard deviation near the documented one; bounds kept. */
START_TEST(initial_values_have_their_distributions) {
    weir_real_t *values = case_allocate(weir_hstu_parameter_elements(&config), sizeof *values);
    weir_hstu_initialise(&config, 12, values);
    for (size_t i = 0; i < weir_hstu_parameter_count(&config); i++) {
        weir_parameter_t p = weir_hstu_parameter(&config, i);
        size_t n = p.rows * p.cols;
        double sum = 0.0, squares = 0.0, largest = 0.0, sigma, bound = (double)INFINITY;
        for (size_t e = p.offset; e < p.offset + n; e++) {
            sum += (double)values[e];
            squares += (double)values[e] * (double)values[e];
            largest = fmax(largest, fabs((double)values[e]));
        }
        if (strstr(p.name, "output_weight") != NULL) {
            bound = sqrt(6.0 / (48 + 48));
            sigma = bound / sqrt(3.0);
        } else if (strstr(p.name, "output_bias") != NULL) {
            bound = 1.0 / sqrt(48.0);
            sigma = bound / sqrt(3.0);
        } else {
            sigma = i == 0 ? sqrt(2.0 / (101 + 48)) : 0.02;
        }
        ck_assert_double_le(largest, bound);
        ck_assert_double_le(fabs(sum / (double)n), 5.0 * sigma / sqrt((double)n));
        ck_assert_double_le(fabs(sqrt(squares / (double)n) / sigma - 1.0), 5.0 / sqrt((double)n));
    }
    free(values);
}
END_TEST

START_TEST(initial_values_depend_on_the_seed_alone) {
    size_t elements = weir_hstu_parameter_elements(&config), same = 0;
    weir_real_t *a = case_allocate(elements, sizeof *a), *b = case_allocate(elements, sizeof *b);
    weir_hstu_initialise(&config, 12, a);
    weir_hstu_initialise(&config, 12, b);
    ck_assert_int_eq(memcmp(a, b, elements * sizeof *a), 0);
    weir_hstu_initialise(&config, 13, b);
    for (size_t i = 0; i < elements; i++) {
        same += (double)a[i] == (double)b[i] ? 1 : 0;
    }
    ck_assert_uint_lt(same, elements / 1000 + 1);
    free(a);
    free(b);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("hstu_parameters " WEIR_REAL_NAME);
    TCase *t = tcase_create("hstu_parameters");
    tcase_add_test(t, parameters_fill_the_buffer_without_a_gap);
    tcase_add_test(t, names_and_shapes_are_the_documented_ones);
    tcase_add_test(t, initial_values_have_their_distributions);
    tcase_add_test(t, initial_values_depend_on_the_seed_alone);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
