#include "common/rng.h"
#include "ps/optimizer.h"
#include "tests/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DIM = 131, STEPS = 40 };

static const double learning_rate = 0.03, weight_decay = 0.1, beta1 = 0.9, beta2 = 0.98,
                    epsilon = 1e-6;

static weir_table_schema_t schema_of(weir_optimizer_kind_t kind, uint32_t dim) {
    return (weir_table_schema_t){.name = "item",
                                 .dim = dim,
                                 .optimizer = kind,
                                 .learning_rate = learning_rate,
                                 .beta1 = beta1,
                                 .beta2 = beta2,
                                 .epsilon = epsilon,
                                 .weight_decay = weight_decay,
                                 .initial_sigma = 0.02};
}

typedef struct {
    double w[MAX_DIM], m[MAX_DIM], v[MAX_DIM]; /* v: also s; [0] alone where it is one per row */
} reference_t;

/* The definitions of the header, word for word, in float64. */
static void reference_update(weir_optimizer_kind_t kind, reference_t *row, const float *gradient,
                             size_t dim, int n) {
    double mean = 0.0;
    for (size_t i = 0; i < dim; i++) {
        mean += (double)gradient[i] * (double)gradient[i] / (double)dim;
    }
    if (kind == WEIR_OPTIMIZER_ROWWISE_ADAGRAD) {
        row->v[0] += mean;
    }
    if (kind == WEIR_OPTIMIZER_ROWWISE_ADAMW) {
        row->v[0] = beta2 * row->v[0] + (1.0 - beta2) * mean;
    }
    for (size_t i = 0; i < dim; i++) {
        double g = (double)gradient[i], v = row->v[0];
        row->w[i] *= 1.0 - learning_rate * weight_decay;
        if (kind == WEIR_OPTIMIZER_ADAGRAD) {
            v = row->v[i] += g * g;
        }
        if (kind == WEIR_OPTIMIZER_ADAMW) {
            v = row->v[i] = beta2 * row->v[i] + (1.0 - beta2) * g * g;
        }
        if (kind == WEIR_OPTIMIZER_SGD) {
            row->w[i] -= learning_rate * g;
        } else if (kind == WEIR_OPTIMIZER_ADAGRAD || kind == WEIR_OPTIMIZER_ROWWISE_ADAGRAD) {
            row->w[i] -= learning_rate * g / (sqrt(v) + epsilon);
        } else {
            row->m[i] = beta1 * row->m[i] + (1.0 - beta1) * g;
            double mean_hat = row->m[i] / (1.0 - pow(beta1, n));
            double square_hat = v / (1.0 - pow(beta2, n));
            row->w[i] -= learning_rate * mean_hat / (sqrt(square_hat) + epsilon);
        }
    }
}

static void check_against_reference(weir_optimizer_kind_t kind, uint32_t dim) {
    weir_table_schema_t schema = schema_of(kind, dim);
    weir_row_layout_t layout = weir_row_layout(&schema);
    weir_optimizer_t optimizer;
    ck_assert_int_eq(weir_optimizer_init(&optimizer, &schema, NULL), WEIR_OK);
    float record[3 * MAX_DIM + 1] = {0}, gradient[MAX_DIM];
    record[layout.floats] = 12345.0F; /* nothing may be written past the record */
    reference_t reference = {.w = {0}};
    weir_rng_key_t key = weir_rng_key(3, WEIR_STREAM_TEST);
    weir_fill_truncated_normal(key, 0, 0, 0, 0.5, record, dim);
    for (size_t i = 0; i < dim; i++) {
        reference.w[i] = (double)record[i];
    }
    for (int n = 1; n <= STEPS; n++) {
        weir_fill_truncated_normal(key, (uint32_t)n, dim, 1, n % 3 == 0 ? 1e-3 : 2.0, gradient,
                                   dim);
        gradient[n % (int)dim] = 0.0F;
        reference_update(kind, &reference, gradient, dim, n);
        optimizer.update(&optimizer, record, gradient,
                         weir_optimizer_correction(&optimizer, (uint64_t)n));
        for (size_t i = 0; i < dim; i++) {
            ck_assert_double_eq_tol((double)record[i], reference.w[i], 4e-6);
        }
    }
    ck_assert(record[layout.floats] == 12345.0F);
    for (uint32_t f = 1; f < layout.field_count; f++) {
        const double *expected =
            strcmp(layout.fields[f].name, "m") == 0 ? reference.m : reference.v;
        for (size_t i = 0; i < layout.fields[f].width; i++) {
            ck_assert_double_eq_tol((double)record[layout.fields[f].offset + i], expected[i],
                                    1e-5 * (fabs(expected[i]) + 0.1));
        }
    }
    weir_optimizer_fini(&optimizer);
}

START_TEST(every_optimiser_follows_its_definition_in_float64) {
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        static const uint32_t dims[] = {1, 2, 7, 15, 16, 17, 31, 32, 50, 64, 65, 127, 128, 131};
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
            check_against_reference((weir_optimizer_kind_t)kind, dims[i]);
        }
    }
}
END_TEST

static void run_width(weir_optimizer_kind_t kind, uint32_t dim, uint32_t bits, float *record) {
    weir_table_schema_t schema = schema_of(kind, dim);
    weir_optimizer_t optimizer;
    ck_assert_int_eq(weir_optimizer_init(&optimizer, &schema, NULL), WEIR_OK);
    weir_rng_key_t key = weir_rng_key(4, WEIR_STREAM_TEST);
    weir_fill_truncated_normal(key, 0, 0, 0, 0.5, record, dim);
    if (weir_optimizer_set_width(&optimizer, kind, bits)) {
        for (uint32_t n = 1; n <= STEPS; n++) {
            float gradient[MAX_DIM];
            weir_fill_truncated_normal(key, n, dim, 1, 2.0, gradient, dim);
            optimizer.update(&optimizer, record, gradient,
                             weir_optimizer_correction(&optimizer, n));
        }
    } else {
        ck_assert_uint_ne(bits, 128);
        record[0] = NAN; /* not on this CPU */
    }
    weir_optimizer_fini(&optimizer);
}

START_TEST(every_vector_width_gives_the_same_bits) {
    for (int k = 0; k < WEIR_OPTIMIZER_COUNT; k++) {
        weir_optimizer_kind_t kind = (weir_optimizer_kind_t)k;
        for (uint32_t dim = 1; dim <= MAX_DIM; dim += 5) {
            float narrow[3 * MAX_DIM] = {0};
            run_width(kind, dim, 128, narrow);
            for (uint32_t bits = 256; bits <= 512; bits *= 2) {
                float wide[3 * MAX_DIM] = {0};
                run_width(kind, dim, bits, wide);
                if (!isnan(wide[0])) {
                    ck_assert_mem_eq(wide, narrow, sizeof narrow);
                }
            }
        }
    }
}
END_TEST

START_TEST(the_layout_holds_what_the_optimiser_needs) {
    static const uint32_t floats[WEIR_OPTIMIZER_COUNT] = {[WEIR_OPTIMIZER_SGD] = 10,
                                                          [WEIR_OPTIMIZER_ADAGRAD] = 20,
                                                          [WEIR_OPTIMIZER_ROWWISE_ADAGRAD] = 11,
                                                          [WEIR_OPTIMIZER_ADAMW] = 30,
                                                          [WEIR_OPTIMIZER_ROWWISE_ADAMW] = 21};
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        weir_table_schema_t schema = schema_of((weir_optimizer_kind_t)kind, 10);
        weir_row_layout_t layout = weir_row_layout(&schema);
        ck_assert_uint_eq(layout.floats, floats[kind]);
        ck_assert_str_eq(layout.fields[0].name, "value");
        uint32_t next = 0;
        for (uint32_t f = 0; f < layout.field_count; f++) {
            ck_assert_uint_eq(layout.fields[f].offset, next);
            next += layout.fields[f].width;
        }
        ck_assert_uint_eq(next, layout.floats);
    }
}
END_TEST

START_TEST(bias_correction_agrees_inside_and_beyond_its_table) {
    weir_table_schema_t schema = schema_of(WEIR_OPTIMIZER_ADAMW, 4);
    schema.beta2 = 0.99999; /* slow: the table ends before the correction does */
    weir_optimizer_t optimizer;
    ck_assert_int_eq(weir_optimizer_init(&optimizer, &schema, NULL), WEIR_OK);
    uint64_t numbers[] = {
        1, 2, 100, optimizer.correction_count, optimizer.correction_count + 1, 1000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double n = (double)numbers[i];
        weir_bias_correction_t correction = weir_optimizer_correction(&optimizer, numbers[i]);
        ck_assert_double_eq_tol((double)correction.step_size, learning_rate / (1.0 - pow(beta1, n)),
                                1e-7);
        ck_assert_double_eq_tol((double)correction.inverse_root * sqrt(1.0 - pow(schema.beta2, n)),
                                1.0, 1e-6);
    }
    weir_optimizer_fini(&optimizer);
}
END_TEST

START_TEST(a_nan_or_an_infinity_is_seen_at_every_position) {
    weir_table_schema_t schema = schema_of(WEIR_OPTIMIZER_SGD, 4);
    weir_optimizer_t optimizer;
    ck_assert_int_eq(weir_optimizer_init(&optimizer, &schema, NULL), WEIR_OK);
    for (size_t count = 1; count < 70; count++) {
        float gradient[70];
        for (size_t i = 0; i < count; i++) {
            gradient[i] = i % 2 == 0 ? -3.4e38F : 1e-45F;
        }
        ck_assert(optimizer.finite(gradient, count));
        for (size_t i = 0; i < count; i++) {
            float kept = gradient[i];
            gradient[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
            ck_assert(!optimizer.finite(gradient, count));
            gradient[i] = kept;
        }
    }
    weir_optimizer_fini(&optimizer);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("optimizer");
    TCase *t = tcase_create("optimizer");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, every_optimiser_follows_its_definition_in_float64);
    tcase_add_test(t, every_vector_width_gives_the_same_bits);
    tcase_add_test(t, the_layout_holds_what_the_optimiser_needs);
    tcase_add_test(t, bias_correction_agrees_inside_and_beyond_its_table);
    tcase_add_test(t, a_nan_or_an_infinity_is_seen_at_every_position);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
