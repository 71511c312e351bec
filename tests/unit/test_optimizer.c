#include "common/rng.h"
#include "tests/suite.h"
#include "tests/unit/optimizer_reference.h"

#include <stdlib.h>

enum { MAX_DIM = 131, MAX_STATE = 3 * MAX_DIM + 2, STEPS = 40 };

/* What a case switches on. */
enum { PENALTIES = 1, SCHEDULE = 2, CLIP_NORM = 4, CLIP_VALUE = 8, CASES = 16 };

static weir_optimizer_settings_t settings_of(weir_optimizer_kind_t kind) {
    return (weir_optimizer_settings_t){.kind = kind,
                                       .learning_rate = 0.03,
                                       .beta1 = 0.9,
                                       .beta2 = 0.98,
                                       .epsilon = 1e-6,
                                       .beta = 0.7};
}

static weir_optimizer_settings_t settings_case(weir_optimizer_kind_t kind, int what) {
    weir_optimizer_settings_t settings = settings_of(kind);
    if ((what & PENALTIES) != 0 && kind >= WEIR_OPTIMIZER_FTRL) {
        settings.l1 = 0.5;
        settings.l2 = 0.25;
        settings.group_l1 = kind == WEIR_OPTIMIZER_FTRL ? 0.0 : 0.75;
    } else if ((what & PENALTIES) != 0) {
        settings.weight_decay = 0.1;
    }
    if ((what & SCHEDULE) != 0) {
        settings.schedule = (weir_schedule_t){.kind = (weir_schedule_kind_t)(1 + (int)kind % 4),
                                              .warmup_steps = 5,
                                              .decay_steps = 20,
                                              .floor = 0.125,
                                              .rate = 0.5};
    }
    settings.clip_norm = (what & CLIP_NORM) != 0 ? 2.5 : 0.0;
    settings.clip_value = (what & CLIP_VALUE) != 0 ? 1.5 : 0.0;
    return settings;
}

static void init(weir_optimizer_t *optimizer, const weir_optimizer_settings_t *settings,
                 uint32_t dim) {
    weir_error_t error = {0};
    ck_assert_msg(weir_optimizer_init(optimizer, settings, dim, "item", &error) == WEIR_OK, "%s",
                  error.message);
}

static void fill(uint32_t stream, uint32_t n, uint32_t dim, double scale, float *values) {
    weir_fill_truncated_normal(weir_rng_key(stream, WEIR_STREAM_TEST), n, dim, 1, scale, values,
                               dim);
}

/* One assertion a failure: an assertion that holds costs more than an update. */
static void check_near(float value, double expected, double tolerance, const char *name,
                       size_t column) {
    if (!(fabs((double)value - expected) <= tolerance)) {
        ck_abort_msg("%s[%zu] is %.9g, not %.9g", name, column, (double)value, expected);
    }
}

static void check_row(const weir_optimizer_settings_t *settings, uint32_t dim, const float *value,
                      const float *state, const reference_row_t *row) {
    for (size_t i = 0; i < dim; i++) {
        check_near(value[i], row->w[i], 6e-6 * (1.0 + fabs(row->w[i])), "w", i);
    }
    weir_optimizer_state_t runs = weir_optimizer_state(settings->kind, dim);
    for (uint32_t r = 0; r < runs.run_count; r++) {
        const char *name = runs.runs[r].name;
        const double *expected = reference_run(row, name);
        for (size_t i = 0; i < runs.runs[r].width && expected != NULL; i++) {
            /* z is a sum of products with A. */
            double scale = fabs(expected[i]) + 0.1 + (name[0] == 'z' ? row->curvature[i] : 0.0);
            check_near(state[i], expected[i], 1e-5 * scale, name, i);
        }
        state += runs.runs[r].width;
    }
}

/* Value and state at odd multiples of 4 bytes, as they may be in a record. */
static void check_against_reference(const weir_optimizer_settings_t *settings, uint32_t dim) {
    weir_optimizer_t optimizer;
    init(&optimizer, settings, dim);
    float values[MAX_DIM + 2], states[MAX_STATE + 2] = {0}, gradient[MAX_DIM];
    float *value = values + 1, *state = states + 1;
    uint32_t floats = weir_optimizer_state(settings->kind, dim).floats;
    value[dim] = 12345.0F; /* nothing may be written past either */
    state[floats] = 54321.0F;
    reference_row_t row = {.w = {0}};
    fill(3, 0, dim, 0.5, value);
    for (size_t i = 0; i < dim; i++) {
        row.w[i] = (double)value[i];
    }
    int step = 0;
    for (int n = 1; n <= STEPS; n++) {
        step += 1 + n % 2; /* the row is not in every step */
        fill(4, (uint32_t)n, dim, n % 3 == 0 ? 1e-3 : 2.0, gradient);
        gradient[n % (int)dim] = 0.0F;
        reference_update(settings, &row, gradient, dim, n, step);
        weir_optimizer_begin_step(&optimizer, (uint64_t)step);
        optimizer.update(&optimizer, value, state, gradient,
                         weir_optimizer_correction(&optimizer, (uint64_t)n));
        check_row(settings, dim, value, state, &row);
    }
    ck_assert(value[dim] == 12345.0F && state[floats] == 54321.0F);
    weir_optimizer_fini(&optimizer);
}

START_TEST(every_optimiser_follows_its_definition_in_float64) {
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        static const uint32_t dims[] = {1, 2, 7, 15, 16, 17, 31, 32, 50, 64, 65, 127, 128, 131};
        for (int what = 0; what < CASES; what++) {
            weir_optimizer_settings_t settings = settings_case((weir_optimizer_kind_t)kind, what);
            for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
                check_against_reference(&settings, dims[i]);
            }
        }
    }
}
END_TEST

/* ---- steps worked out by hand ---- */

/* `count` updates with the gradients, D columns each, of a row of no state. */
static void run_steps(const weir_optimizer_settings_t *settings, uint32_t dim, float *value,
                      const float *gradients, uint64_t count) {
    weir_optimizer_t optimizer;
    init(&optimizer, settings, dim);
    float state[MAX_STATE] = {0};
    for (uint64_t n = 1; n <= count; n++) {
        weir_optimizer_begin_step(&optimizer, n);
        optimizer.update(&optimizer, value, state, gradients + (n - 1) * dim,
                         weir_optimizer_correction(&optimizer, n));
    }
    weir_optimizer_fini(&optimizer);
}

static void check_steps(const weir_optimizer_settings_t *settings, float from,
                        const float *gradients, uint64_t count, double expected) {
    float value[1] = {from};
    run_steps(settings, 1, value, gradients, count);
    ck_assert_double_eq_tol((double)value[0], expected, 2e-7);
}

START_TEST(known_steps_of_those_that_move_the_value) {
    static const float ones[] = {1.0F, 1.0F}, halves[] = {0.5F, 0.5F};
    weir_optimizer_settings_t settings = settings_of(WEIR_OPTIMIZER_MOMENTUM);
    settings.learning_rate = 0.1;
    check_steps(&settings, 1.0F, ones, 2, 1.0 - 0.1 - 0.1 * 1.9);
    settings.kind = WEIR_OPTIMIZER_NESTEROV;
    check_steps(&settings, 1.0F, ones, 2, 1.0 - 0.1 * 1.9 - 0.1 * (1.0 + 0.9 * 1.9));
    settings.epsilon = 1e-12;
    settings.kind = WEIR_OPTIMIZER_ADAGRAD;
    check_steps(&settings, 1.0F, halves, 2, 1.0 - 0.1 - 0.1 / sqrt(2.0));
    /* Equal gradients: every step of Adam is one learning rate. */
    settings.kind = WEIR_OPTIMIZER_ADAM;
    check_steps(&settings, 1.0F, halves, 2, 0.8);
    settings.kind = WEIR_OPTIMIZER_ADAMW;
    settings.weight_decay = 0.5; /* outside of the moments */
    check_steps(&settings, 1.0F, halves, 1, 0.95 - 0.1);
    settings.kind = WEIR_OPTIMIZER_ADAM; /* inside: Adam's first step sees the sign alone */
    check_steps(&settings, 1.0F, halves, 1, 0.9);
}
END_TEST

START_TEST(known_steps_of_ftrl_from_a_row_born_zero) {
    static const float gradients[] = {2.0F, -1.0F};
    weir_optimizer_settings_t settings = settings_of(WEIR_OPTIMIZER_FTRL);
    settings.learning_rate = 0.1;
    settings.beta = 1.0;
    settings.l1 = 1.0;
    settings.l2 = 1.0;
    check_steps(&settings, 0.0F, gradients, 1, -1.0 / 31.0);
    double z = 2.0 - 1.0 + (sqrt(5.0) - 2.0) / 0.1 / 31.0;
    check_steps(&settings, 0.0F, gradients, 2, -(z - 1.0) / ((1.0 + sqrt(5.0)) / 0.1 + 1.0));
}
END_TEST

START_TEST(a_known_step_of_group_adagrad) {
    static const float gradient[] = {3.0F, 4.0F};
    weir_optimizer_settings_t settings = settings_of(WEIR_OPTIMIZER_GROUP_ADAGRAD);
    settings.learning_rate = 0.1;
    settings.epsilon = 1e-12;
    settings.l1 = 1.0;
    settings.l2 = 1.0;
    settings.group_l1 = 0.5;
    float value[2] = {0.0F, 0.0F};
    run_steps(&settings, 2, value, gradient, 1);
    double kept = 1.0 - 0.5 * sqrt(2.0) / sqrt(13.0); /* s = (-2, -3) */
    ck_assert_double_eq_tol((double)value[0], -2.0 * kept / 32.0, 1e-8);
    ck_assert_double_eq_tol((double)value[1], -3.0 * kept / 42.0, 1e-8);
}
END_TEST

/* Yue et al., section 3: without penalties their optimisers are the ones they come from. */
START_TEST(without_penalties_the_group_optimisers_are_the_plain_ones) {
    static const weir_optimizer_kind_t pairs[][2] = {
        {WEIR_OPTIMIZER_GROUP_ADAGRAD, WEIR_OPTIMIZER_ADAGRAD},
        {WEIR_OPTIMIZER_GROUP_ADAM, WEIR_OPTIMIZER_ADAM}};
    enum { DIM = 33 };
    float gradients[STEPS * DIM];
    fill(6, 0, STEPS * DIM, 1.0, gradients);
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
        float values[2][DIM];
        for (int k = 0; k < 2; k++) {
            weir_optimizer_settings_t settings = settings_case(pairs[p][k], 0);
            settings.schedule = (weir_schedule_t){
                .kind = WEIR_SCHEDULE_STEP, .warmup_steps = 4, .decay_steps = 9, .rate = 0.25};
            fill(7, 0, DIM, 0.5, values[k]);
            run_steps(&settings, DIM, values[k], gradients, STEPS);
        }
        for (size_t i = 0; i < DIM; i++) {
            ck_assert_double_eq_tol((double)values[0][i], (double)values[1][i], 1e-5);
        }
    }
}
END_TEST

START_TEST(a_row_without_gradient_stays_where_it_is) {
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        weir_optimizer_settings_t settings = settings_of((weir_optimizer_kind_t)kind);
        float born[MAX_DIM], moved[MAX_DIM];
        static const float zeros[4 * MAX_DIM] = {0};
        fill(5, 0, MAX_DIM, 0.5, born);
        memcpy(moved, born, sizeof moved);
        run_steps(&settings, MAX_DIM, moved, zeros, 4);
        for (size_t i = 0; i < MAX_DIM; i++) {
            /* The proximal ones multiply by A and divide by it. */
            double tolerance = kind >= WEIR_OPTIMIZER_FTRL ? 1.2e-7 * fabs((double)born[i]) : 0.0;
            check_near(moved[i], (double)born[i], tolerance, "w", i);
        }
    }
}
END_TEST

/* ---- sparse groups ---- */

enum { ROWS = 40, RELEVANT = 10, GROUP_DIM = 8, GROUP_STEPS = 300 };

/* Rows 0 .. RELEVANT - 1 have a target away from 0, the others none; gradients are noisy. Counts
 * the rows that end exactly zero, of either sort. */
static void train_groups(weir_optimizer_kind_t kind, double group_l1, int zero[2]) {
    weir_optimizer_settings_t settings = settings_of(kind);
    settings.learning_rate = 0.1;
    settings.group_l1 = group_l1;
    weir_optimizer_t optimizer;
    init(&optimizer, &settings, GROUP_DIM);
    zero[0] = zero[1] = 0;
    for (uint32_t r = 0; r < ROWS; r++) {
        bool relevant = r < RELEVANT;
        float value[GROUP_DIM], state[3 * GROUP_DIM + 2] = {0}, noise[GROUP_DIM],
                                                      gradient[GROUP_DIM];
        fill(8, r, GROUP_DIM, 0.02, value);
        for (uint32_t n = 1; n <= GROUP_STEPS; n++) {
            fill(9, r * GROUP_STEPS + n, GROUP_DIM, 0.2, noise);
            for (size_t i = 0; i < GROUP_DIM; i++) {
                float target = relevant ? (i % 2 == 0 ? 1.0F : -1.0F) : 0.0F;
                gradient[i] = value[i] - target + noise[i];
            }
            optimizer.update(&optimizer, value, state, gradient,
                             weir_optimizer_correction(&optimizer, n));
        }
        static const float zeros[GROUP_DIM] = {0};
        zero[relevant] += memcmp(value, zeros, sizeof value) == 0;
    }
    weir_optimizer_fini(&optimizer);
}

START_TEST(rows_of_irrelevant_features_become_exactly_zero) {
    for (int k = WEIR_OPTIMIZER_GROUP_FTRL; k <= WEIR_OPTIMIZER_GROUP_ADAM; k++) {
        int zero[2];
        train_groups((weir_optimizer_kind_t)k, 6.0, zero);
        ck_assert_int_eq(zero[false], ROWS - RELEVANT);
        ck_assert_int_eq(zero[true], 0);
        train_groups((weir_optimizer_kind_t)k, 0.0, zero);
        ck_assert_int_eq(zero[false], 0);
    }
}
END_TEST

/* ---- vector widths ---- */

static bool run_width(const weir_optimizer_settings_t *settings, uint32_t dim, uint32_t bits,
                      float *record) {
    weir_optimizer_t optimizer;
    init(&optimizer, settings, dim);
    fill(4, 0, dim, 0.5, record);
    bool there = weir_optimizer_set_width(&optimizer, bits);
    for (uint32_t n = 1; n <= STEPS && there; n++) {
        float gradient[MAX_DIM];
        fill(5, n, dim, 2.0, gradient);
        weir_optimizer_begin_step(&optimizer, n);
        optimizer.update(&optimizer, record, record + dim, gradient,
                         weir_optimizer_correction(&optimizer, n));
    }
    weir_optimizer_fini(&optimizer);
    return there;
}

START_TEST(every_vector_width_gives_the_same_bits) {
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        for (uint32_t dim = 1; dim <= MAX_DIM; dim += 5) {
            weir_optimizer_settings_t settings =
                settings_case((weir_optimizer_kind_t)kind, (int)dim % CASES);
            float narrow[MAX_DIM + MAX_STATE] = {0};
            ck_assert(run_width(&settings, dim, 128, narrow));
            for (uint32_t bits = 256; bits <= 512; bits *= 2) {
                float wide[MAX_DIM + MAX_STATE] = {0};
                if (run_width(&settings, dim, bits, wide)) {
                    ck_assert_mem_eq(wide, narrow, sizeof narrow);
                }
            }
        }
    }
}
END_TEST

/* ---- set-up, clipping, corrections ---- */

START_TEST(the_state_is_what_the_definition_needs) {
    static const uint32_t floats[WEIR_OPTIMIZER_COUNT] = {[WEIR_OPTIMIZER_SGD] = 0,
                                                          [WEIR_OPTIMIZER_MOMENTUM] = 10,
                                                          [WEIR_OPTIMIZER_NESTEROV] = 10,
                                                          [WEIR_OPTIMIZER_ADAGRAD] = 10,
                                                          [WEIR_OPTIMIZER_ROWWISE_ADAGRAD] = 1,
                                                          [WEIR_OPTIMIZER_ADAM] = 20,
                                                          [WEIR_OPTIMIZER_ADAMW] = 20,
                                                          [WEIR_OPTIMIZER_ROWWISE_ADAMW] = 11,
                                                          [WEIR_OPTIMIZER_FTRL] = 22,
                                                          [WEIR_OPTIMIZER_GROUP_FTRL] = 22,
                                                          [WEIR_OPTIMIZER_GROUP_ADAGRAD] = 22,
                                                          [WEIR_OPTIMIZER_GROUP_ADAM] = 32};
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        weir_optimizer_state_t state = weir_optimizer_state((weir_optimizer_kind_t)kind, 10);
        uint32_t sum = 0;
        for (uint32_t r = 0; r < state.run_count; r++) {
            sum += state.runs[r].width;
        }
        ck_assert_uint_eq(state.floats, floats[kind]);
        ck_assert_uint_eq(sum, state.floats);
    }
}
END_TEST

START_TEST(a_clipped_gradient_keeps_its_direction_and_is_counted) {
    weir_optimizer_settings_t settings = settings_of(WEIR_OPTIMIZER_SGD);
    settings.learning_rate = 1.0;
    settings.clip_norm = 1.0;
    weir_optimizer_t optimizer;
    init(&optimizer, &settings, 2);
    float value[2] = {0.0F, 0.0F};
    static const float gradients[][2] = {{6.0F, -8.0F}, {0.6F, 0.5F}, {3e38F, -3e38F}};
    static const double expected[][2] = {{-0.6, 0.8}, {-1.2, 0.3}, {-1.907107, 1.007107}};
    static const uint64_t clipped[] = {1, 1, 2};
    for (size_t n = 0; n < 3; n++) {
        optimizer.update(&optimizer, value, NULL, gradients[n],
                         weir_optimizer_correction(&optimizer, n + 1));
        ck_assert_double_eq_tol((double)value[0], expected[n][0], 1e-6);
        ck_assert_double_eq_tol((double)value[1], expected[n][1], 1e-6);
        ck_assert_uint_eq(weir_optimizer_clipped_rows(&optimizer), clipped[n]);
    }
    weir_optimizer_fini(&optimizer);
}
END_TEST

START_TEST(a_bound_that_no_gradient_reaches_changes_no_bit) {
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        weir_optimizer_settings_t settings = settings_of((weir_optimizer_kind_t)kind);
        float free_row[MAX_DIM + MAX_STATE] = {0}, bounded_row[MAX_DIM + MAX_STATE] = {0};
        ck_assert(run_width(&settings, MAX_DIM, 128, free_row));
        settings.clip_norm = 100.0;
        settings.clip_value = 4.5;
        ck_assert(run_width(&settings, MAX_DIM, 128, bounded_row));
        ck_assert_mem_eq(free_row, bounded_row, sizeof free_row);
    }
}
END_TEST

START_TEST(bias_correction_agrees_inside_and_beyond_its_table) {
    weir_optimizer_settings_t settings = settings_of(WEIR_OPTIMIZER_ADAMW);
    settings.beta2 = 0.99999; /* slow: the table ends before the correction does */
    settings.schedule = (weir_schedule_t){.warmup_steps = 3};
    weir_optimizer_t optimizer;
    init(&optimizer, &settings, 4);
    uint64_t numbers[] = {
        1, 2, 100, optimizer.correction_count, optimizer.correction_count + 1, 1000000, UINT32_MAX};
    for (uint64_t step = 1; step <= 4; step++) {
        double rate = settings.learning_rate * (step < 3 ? (double)step / 3.0 : 1.0);
        weir_optimizer_begin_step(&optimizer, step);
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            double n = (double)numbers[i];
            weir_bias_correction_t correction = weir_optimizer_correction(&optimizer, numbers[i]);
            double mean = 1.0 / (1.0 - pow(settings.beta1, n));
            double root = sqrt(1.0 - pow(settings.beta2, n));
            ck_assert_double_eq_tol((double)correction.step_size / (rate * mean), 1.0, 1e-7);
            ck_assert_double_eq_tol((double)correction.inverse_mean / mean, 1.0, 1e-7);
            ck_assert_double_eq_tol((double)correction.inverse_root * root, 1.0, 1e-6);
        }
    }
    weir_optimizer_fini(&optimizer);
}
END_TEST

static void refuse(const weir_optimizer_settings_t *settings, const char *word) {
    weir_optimizer_t optimizer;
    weir_error_t error = {0};
    ck_assert_int_eq(weir_optimizer_init(&optimizer, settings, 4, "item", &error),
                     WEIR_ERR_INVALID);
    ck_assert_msg(strstr(error.message, word) != NULL, "%s", error.message);
    ck_assert_msg(strstr(error.message, "item") != NULL, "%s", error.message);
}

START_TEST(numbers_that_an_optimiser_cannot_work_with_are_refused) {
#define REFUSE(kind_name, change, word)                                                            \
    do {                                                                                           \
        weir_optimizer_settings_t settings = settings_of(WEIR_OPTIMIZER_##kind_name);              \
        settings.change;                                                                           \
        refuse(&settings, word);                                                                   \
    } while (false)
    REFUSE(SGD, kind = WEIR_OPTIMIZER_COUNT, "number");
    REFUSE(SGD, learning_rate = (double)NAN, "finite");
    REFUSE(ADAGRAD, epsilon = 0.0, "epsilon");
    REFUSE(ADAM, epsilon = 1e-60, "epsilon");
    REFUSE(MOMENTUM, beta1 = 1.0, "beta1");
    REFUSE(ADAM, beta2 = -0.1, "beta2");
    REFUSE(ADAM, clip_norm = -1.0, "clip_norm");
    REFUSE(ADAM, clip_value = (double)INFINITY, "clip_value");
    REFUSE(ADAM, l1 = 0.1, "group_");
    REFUSE(SGD, l2 = 0.1, "group_");
    REFUSE(FTRL, group_l1 = 0.1, "group_ftrl");
    REFUSE(FTRL, l1 = -0.1, "negative");
    REFUSE(FTRL, beta = 0.0, "beta");
    REFUSE(GROUP_ADAM, weight_decay = 0.1, "l2");
    REFUSE(GROUP_ADAGRAD, learning_rate = 0.0, "learning rate");
    REFUSE(ADAM, schedule.kind = WEIR_SCHEDULE_COSINE, "decay_steps");
#undef REFUSE
}
END_TEST

START_TEST(a_rate_that_ends_at_zero_leaves_every_row_finite) {
    for (int kind = 0; kind < WEIR_OPTIMIZER_COUNT; kind++) {
        weir_optimizer_settings_t settings = settings_of((weir_optimizer_kind_t)kind);
        settings.schedule = (weir_schedule_t){.kind = WEIR_SCHEDULE_COSINE, .decay_steps = 10};
        float record[MAX_DIM + MAX_STATE] = {0};
        ck_assert(run_width(&settings, MAX_DIM, 128, record));
        for (size_t i = 0; i < sizeof record / sizeof *record; i++) {
            ck_assert(isfinite(record[i]));
        }
    }
}
END_TEST

START_TEST(a_nan_or_an_infinity_is_seen_at_every_position) {
    weir_optimizer_settings_t settings = settings_of(WEIR_OPTIMIZER_SGD);
    weir_optimizer_t optimizer;
    init(&optimizer, &settings, 4);
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
    tcase_set_timeout(t, 120);
    tcase_add_test(t, every_optimiser_follows_its_definition_in_float64);
    tcase_add_test(t, known_steps_of_those_that_move_the_value);
    tcase_add_test(t, known_steps_of_ftrl_from_a_row_born_zero);
    tcase_add_test(t, a_known_step_of_group_adagrad);
    tcase_add_test(t, without_penalties_the_group_optimisers_are_the_plain_ones);
    tcase_add_test(t, a_row_without_gradient_stays_where_it_is);
    tcase_add_test(t, rows_of_irrelevant_features_become_exactly_zero);
    tcase_add_test(t, every_vector_width_gives_the_same_bits);
    tcase_add_test(t, the_state_is_what_the_definition_needs);
    tcase_add_test(t, a_clipped_gradient_keeps_its_direction_and_is_counted);
    tcase_add_test(t, a_bound_that_no_gradient_reaches_changes_no_bit);
    tcase_add_test(t, bias_correction_agrees_inside_and_beyond_its_table);
    tcase_add_test(t, numbers_that_an_optimiser_cannot_work_with_are_refused);
    tcase_add_test(t, a_rate_that_ends_at_zero_leaves_every_row_finite);
    tcase_add_test(t, a_nan_or_an_infinity_is_seen_at_every_position);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
