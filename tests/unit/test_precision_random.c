/* Stochastic rounding as a random experiment: its averages, and the random bits behind it, which
 * are recovered from what bf16 rounds up and down. */
#include "common/rng.h"
#include "ps/precision.h"
#include "tests/suite.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 100, ROWS = 1000, SIGMAS = 4 };

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double quantum_of(weir_precision_t precision, float value, const void *stored) {
    int exponent;
    (void)frexp((double)value, &exponent); /* magnitude in [2^(exponent-1), 2^exponent) */
    if (precision == WEIR_PRECISION_BF16) {
        return ldexp(1.0, exponent - 8 < -133 ? -133 : exponent - 8);
    }
    if (precision == WEIR_PRECISION_F16) {
        return ldexp(1.0, exponent - 11 < -24 ? -24 : exponent - 11);
    }
    float scale;
    memcpy(&scale, stored, sizeof scale);
    return (double)scale;
}

typedef struct {
    const char *name;
    weir_precision_t precision;
    double sigma; /* of the values */
} range_t;

static const range_t ranges[] = {{"bf16", WEIR_PRECISION_BF16, 0.1},
                                 {"bf16, subnormal", WEIR_PRECISION_BF16, 1e-39},
                                 {"fp16", WEIR_PRECISION_F16, 0.1},
                                 {"fp16, large", WEIR_PRECISION_F16, 30000.0},
                                 {"fp16, around the smallest normal", WEIR_PRECISION_F16, 1e-4},
                                 {"fp16, subnormal", WEIR_PRECISION_F16, 1e-5},
                                 {"fp16, below all codes", WEIR_PRECISION_F16, 2e-9},
                                 {"int8", WEIR_PRECISION_INT8, 0.1},
                                 {"int8, small", WEIR_PRECISION_INT8, 1e-30}};

/* 1e5 random values: each goes to one of its two neighbours, and the mean of the errors, in units
 * of the distance between them, is 0 within four of its standard deviations. */
START_TEST(stochastic_rounding_has_no_bias) {
    const range_t *range = &ranges[_i];
    weir_rng_key_t key = weir_rng_key(1, WEIR_STREAM_TEST);
    float values[DIM], rounded[DIM];
    _Alignas(4) unsigned char stored[4 * DIM];
    double sum = 0.0, variance = 0.0;
    size_t beyond = 0;
    for (uint32_t row = 0; row < ROWS; row++) {
        weir_fill_truncated_normal(key, row, (uint32_t)_i, 0, range->sigma, values, DIM);
        uint64_t seed = weir_precision_seed(1, 2, 0, row, 3);
        weir_precision_store(range->precision, values, DIM, &seed, stored, NULL);
        weir_precision_load(range->precision, stored, NULL, DIM, rounded);
        for (uint32_t i = 0; i < DIM; i++) {
            double quantum = quantum_of(range->precision, values[i], stored);
            double error = ((double)rounded[i] - (double)values[i]) / quantum;
            double odds = fmod(fabs((double)values[i]) / quantum, 1.0);
            beyond += fabs(error) > 1.00001;
            sum += error;
            variance += odds * (1.0 - odds);
        }
    }
    ck_assert_uint_eq(beyond, 0);
    ck_assert_msg(variance > 0.001 * ROWS * DIM, "%s: no test", range->name);
    ck_assert_msg(fabs(sum) < SIGMAS * sqrt(variance), "%s: the sum of errors is %g, %.1f sigma",
                  range->name, sum, sum / sqrt(variance));
}
END_TEST

/* One value at a known place between two codes goes up that often; places near an end too. */
START_TEST(the_odds_are_the_place_between_two_codes) {
    static const struct {
        weir_precision_t precision;
        double low, quantum; /* the code below the value; the way to the next */
    } cases[] = {{WEIR_PRECISION_BF16, 1.0, 0x1p-7},
                 {WEIR_PRECISION_F16, 1.0, 0x1p-10},
                 {WEIR_PRECISION_F16, 0x1p-20, 0x1p-24},
                 {WEIR_PRECISION_F16, 0.0, 0x1p-24},
                 {WEIR_PRECISION_INT8, 3.0, 1.0}};
    static const double places[] = {1.0 / 512, 0.125, 0.25, 0.5, 0.75, 511.0 / 512};
    const double count = (double)DIM * ROWS;
    float values[DIM], rounded[DIM];
    _Alignas(4) unsigned char stored[4 * DIM];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
            double up = 0.0;
            for (uint32_t i = 0; i < DIM; i++) {
                double magnitude = cases[c].low + places[p] * cases[c].quantum;
                values[i] = (float)(i % 2 == 0 ? magnitude : -magnitude);
            }
            for (uint64_t row = 0; row < ROWS; row++) {
                uint64_t seed = weir_precision_seed(2, (uint32_t)c, (uint32_t)p, 0, row);
                if (cases[c].precision == WEIR_PRECISION_INT8) {
                    values[0] = 127.0F; /* the scale is 1 */
                }
                weir_precision_store(cases[c].precision, values, DIM, &seed, stored, NULL);
                weir_precision_load(cases[c].precision, stored, NULL, DIM, rounded);
                for (uint32_t i = 1; i < DIM; i++) {
                    up += fabs((double)rounded[i]) > cases[c].low;
                }
            }
            double trials = count * (DIM - 1) / DIM;
            double expected = trials * places[p];
            double sigma = sqrt(trials * places[p] * (1.0 - places[p]));
            ck_assert_msg(fabs(up - expected) < SIGMAS * sigma,
                          "case %zu, place %g: %g times up, not %g", c, places[p], up, expected);
        }
    }
}
END_TEST

START_TEST(what_a_code_can_say_is_never_changed) {
    static const weir_precision_t halves[] = {WEIR_PRECISION_BF16, WEIR_PRECISION_F16};
    uint16_t codes[512], again[512];
    float values[512];
    for (size_t h = 0; h < 2; h++) {
        for (uint32_t first = 0; first < 65536; first += 512) {
            uint64_t seed = weir_precision_seed(3, 0, 0, first, 0);
            for (uint32_t i = 0; i < 512; i++) {
                uint32_t infinity = h == 0 ? 0x7F80 : 0x7C00;
                uint32_t code = first + i;
                codes[i] = (uint16_t)((code & 0x7FFF) > infinity ? infinity : code);
            }
            weir_precision_load(halves[h], codes, NULL, 512, values);
            weir_precision_store(halves[h], values, 512, &seed, again, NULL);
            ck_assert_mem_eq(again, codes, sizeof codes);
        }
    }
}
END_TEST

START_TEST(no_finite_number_becomes_infinite_and_a_nan_stays_one) {
    uint16_t codes[DIM];
    float values[DIM], rounded[DIM];
    static const weir_precision_t halves[] = {WEIR_PRECISION_BF16, WEIR_PRECISION_F16};
    for (size_t h = 0; h < 2; h++) {
        for (uint64_t row = 0; row < ROWS; row++) {
            uint64_t seed = weir_precision_seed(4, 0, 0, row, 0);
            for (uint32_t i = 0; i < DIM; i++) {
                static const float largest[] = {FLT_MAX, 65504.0F, 65519.0F, 65520.0F, 1e9F};
                values[i] = (row % 2 != 0 ? -1.0F : 1.0F) * largest[i % 5];
            }
            values[7] = float_of(0x7F800001u);
            values[8] = float_of(0xFFFFFFFFu);
            values[9] = INFINITY;
            values[10] = -INFINITY;
            weir_precision_store(halves[h], values, DIM, &seed, codes, NULL);
            weir_precision_load(halves[h], codes, NULL, DIM, rounded);
            bool right = isnan(rounded[7]) && isnan(rounded[8]);
            right = right && rounded[9] == INFINITY && rounded[10] == -INFINITY;
            for (uint32_t i = 11; i < DIM; i++) {
                right = right && isfinite(rounded[i]) && (rounded[i] < 0.0F) == (row % 2 != 0);
            }
            ck_assert(right);
        }
    }
}
END_TEST

/* ---- the random bits ---- */

enum { COLUMNS = 64, SEEDS = 4096, NUMBERS = COLUMNS * SEEDS };

/* The 16 random bits of each column, by bisection: 1 + low 2^-23, low below 2^16, goes up exactly
 * when low + bits reaches 2^16. */
static void recover_bits(uint64_t seed, uint16_t *bits) {
    float values[COLUMNS];
    uint16_t codes[COLUMNS];
    memset(bits, 0, COLUMNS * sizeof *bits);
    for (uint32_t bit = 0x8000; bit > 0; bit >>= 1) {
        for (size_t i = 0; i < COLUMNS; i++) {
            values[i] = float_of(0x3F800000u + 0x10000u - (bits[i] | bit));
        }
        weir_precision_store(WEIR_PRECISION_BF16, values, COLUMNS, &seed, codes, NULL);
        for (size_t i = 0; i < COLUMNS; i++) {
            if (codes[i] != 0x3F80) {
                bits[i] = (uint16_t)(bits[i] | bit);
            }
        }
    }
}

typedef enum { OF_STEPS, OF_KEYS, OF_TABLES, OF_SEGMENTS, SEEDS_COUNT } seeds_t;

static uint16_t *numbers_of(seeds_t seeds) {
    static uint16_t numbers[NUMBERS];
    for (uint32_t n = 0; n < SEEDS; n++) {
        uint64_t seed = 0;
        switch (seeds) {
        case OF_STEPS:
            seed = weir_precision_seed(5, 1, 0, 77, n);
            break;
        case OF_KEYS:
            seed = weir_precision_seed(5, 1, 0, n, 1000);
            break;
        case OF_TABLES:
            seed = weir_precision_seed(5, n, 0, 77, 1000);
            break;
        case OF_SEGMENTS:
            seed = weir_precision_seed(5, 1, n, 77, 1000);
            break;
        case SEEDS_COUNT:
            break;
        }
        recover_bits(seed, numbers + (size_t)n * COLUMNS);
    }
    return numbers;
}

/* 255 degrees of freedom: mean 255, standard deviation 22.6. */
static void check_chi_square(const size_t counts[256], size_t total, const char *what) {
    double chi = 0.0, expected = (double)total / 256.0;
    for (size_t i = 0; i < 256; i++) {
        double distance = (double)counts[i] - expected;
        chi += distance * distance / expected;
    }
    ck_assert_msg(chi > 255.0 - 5 * 22.6 && chi < 255.0 + 5 * 22.6, "%s: chi-square is %g", what,
                  chi);
}

START_TEST(random_bits_are_even) {
    const uint16_t *numbers = numbers_of((seeds_t)_i);
    size_t low[256] = {0}, high[256] = {0}, pair[256] = {0}, next[256] = {0};
    for (size_t n = 0; n < NUMBERS; n++) {
        low[numbers[n] & 0xFF]++;
        high[numbers[n] >> 8]++;
        /* Top bits with those of the next column, and of the same column in the next row. */
        if (n + COLUMNS < NUMBERS) {
            pair[numbers[n] >> 12 << 4 | numbers[n + 1] >> 12]++;
            next[numbers[n] >> 12 << 4 | numbers[n + COLUMNS] >> 12]++;
        }
    }
    check_chi_square(low, NUMBERS, "low bits");
    check_chi_square(high, NUMBERS, "high bits");
    check_chi_square(pair, NUMBERS - COLUMNS, "neighbouring columns");
    check_chi_square(next, NUMBERS - COLUMNS, "neighbouring rows");
}
END_TEST

START_TEST(columns_and_rows_do_not_correlate) {
    const uint16_t *numbers = numbers_of((seeds_t)_i);
    const double variance = 65536.0 * 65536.0 / 12.0;
    for (size_t lag = 1; lag <= 4 * COLUMNS; lag++) {
        double sum = 0.0;
        size_t count = NUMBERS - lag;
        for (size_t n = 0; n < count; n++) {
            sum += ((double)numbers[n] - 32767.5) * ((double)numbers[n + lag] - 32767.5);
        }
        double sigmas = sum / variance / sqrt((double)count);
        /* Of 256 lags one is beyond 5 sigma by chance in 7,000 tries. */
        ck_assert_msg(fabs(sigmas) < 5.0, "numbers %zu apart: %.1f sigma", lag, sigmas);
    }
}
END_TEST

START_TEST(bits_depend_on_seed_and_column_alone) {
    float wide[DIM], narrow[DIM];
    uint16_t of_wide[DIM], of_narrow[DIM];
    for (uint32_t i = 0; i < DIM; i++) {
        wide[i] = narrow[i] = 1.0F + (float)i * 0x1p-16F;
    }
    uint64_t seed = weir_precision_seed(6, 0, 0, 0, 0);
    weir_precision_store(WEIR_PRECISION_BF16, wide, DIM, &seed, of_wide, NULL);
    for (uint32_t dim = 1; dim < DIM; dim++) {
        weir_precision_store(WEIR_PRECISION_BF16, narrow, dim, &seed, of_narrow, NULL);
        ck_assert_mem_eq(of_narrow, of_wide, dim * sizeof *of_wide);
    }
}
END_TEST

static int compare_seeds(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

START_TEST(every_part_of_an_update_changes_its_seed) {
    enum { BITS = 64, PLACES = 64 * 3 + 24 * 2 + 1 };
    uint64_t seeds[PLACES];
    size_t count = 0;
    seeds[count++] = weir_precision_seed(9, 1, 0, 5, 7);
    ck_assert_uint_eq(seeds[0], weir_precision_seed(9, 1, 0, 5, 7));
    for (uint32_t bit = 0; bit < BITS; bit++) {
        uint64_t one = 1ull << bit;
        seeds[count++] = weir_precision_seed(9, 1, 0, 5 ^ one, 7);
        seeds[count++] = weir_precision_seed(9, 1, 0, 5, 7 ^ one);
        seeds[count++] = weir_precision_seed(9 ^ one, 1, 0, 5, 7);
        if (bit < 24) { /* tables and segments are few */
            seeds[count++] = weir_precision_seed(9, 1 ^ (uint32_t)one, 0, 5, 7);
            seeds[count++] = weir_precision_seed(9, 1, (uint32_t)one, 5, 7);
        }
    }
    ck_assert_uint_eq(count, PLACES);
    qsort(seeds, count, sizeof *seeds, compare_seeds);
    for (size_t i = 1; i < count; i++) {
        ck_assert_uint_ne(seeds[i - 1], seeds[i]);
    }
}
END_TEST

static Suite *precision_random_suite(void) {
    Suite *suite = suite_create("precision_random");
    TCase *cases = tcase_create("precision_random");
    tcase_set_timeout(cases, 120);
    tcase_add_loop_test(cases, stochastic_rounding_has_no_bias, 0, sizeof ranges / sizeof *ranges);
    tcase_add_test(cases, the_odds_are_the_place_between_two_codes);
    tcase_add_test(cases, what_a_code_can_say_is_never_changed);
    tcase_add_test(cases, no_finite_number_becomes_infinite_and_a_nan_stays_one);
    tcase_add_loop_test(cases, random_bits_are_even, 0, SEEDS_COUNT);
    tcase_add_loop_test(cases, columns_and_rows_do_not_correlate, 0, SEEDS_COUNT);
    tcase_add_test(cases, bits_depend_on_seed_and_column_alone);
    tcase_add_test(cases, every_part_of_an_update_changes_its_seed);
    suite_add_tcase(suite, cases);
    return suite;
}

WEIR_TEST_MAIN(precision_random_suite())
