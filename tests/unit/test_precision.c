#include "common/rng.h"
#include "ps/precision.h"
#include "tests/suite.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DIM = 131, GUARD = 16, CODES = 65536 };

static const uint32_t widths[] = {128, 256, 512};

typedef struct {
    int exponent_bits, mantissa_bits;
} format_t;

static format_t format_of(weir_precision_t precision) {
    return precision == WEIR_PRECISION_F16 ? (format_t){5, 10} : (format_t){8, 7};
}

static uint32_t infinity_of(format_t format) {
    return ((1u << format.exponent_bits) - 1) << format.mantissa_bits;
}

/* IEEE 754 word for word: the number of a 16-bit code that is finite. */
static double value_of_code(format_t format, uint32_t code) {
    int exponent = (int)((code & 0x7FFF) >> format.mantissa_bits);
    int bias = (1 << (format.exponent_bits - 1)) - 1;
    double fraction = (double)(code & ((1u << format.mantissa_bits) - 1));
    double magnitude = exponent == 0 ? ldexp(fraction, 1 - bias - format.mantissa_bits)
                                     : ldexp(fraction + (double)(1u << format.mantissa_bits),
                                             exponent - bias - format.mantissa_bits);
    return (code & 0x8000) != 0 ? -magnitude : magnitude;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float decode_code(weir_precision_t precision, uint32_t code) {
    uint16_t wire[2] = {(uint16_t)code, 0};
    float value;
    weir_precision_decode(precision, wire, sizeof wire, 1, 1, &value, 1);
    return value;
}

static uint32_t nearest_code(weir_precision_t precision, double number) {
    float value = (float)number;
    uint16_t wire[2] = {0, 0};
    weir_precision_store(precision, &value, 1, NULL, wire, NULL);
    return wire[0];
}

static const weir_precision_t halves[] = {WEIR_PRECISION_BF16, WEIR_PRECISION_F16};

/* Checks of large loops: Check notes each assertion in a file. */
static size_t wrong_count;

static void begin_test(void) {
    wrong_count = 0;
}

static void expect(bool right, uint32_t code) {
    if (!right && wrong_count++ == 0) {
        (void)fprintf(stderr, "first wrong: code 0x%04x\n", code);
    }
}

START_TEST(every_16_bit_code_decodes_to_its_number_and_back) {
    weir_precision_t precision = halves[_i];
    format_t format = format_of(precision);
    for (uint32_t code = 0; code < CODES; code++) {
        uint32_t magnitude = code & 0x7FFF;
        float value = decode_code(precision, code);
        if (magnitude > infinity_of(format)) {
            uint32_t quiet = 1u << (format.mantissa_bits - 1);
            expect(isnan(value), code);
            expect(nearest_code(precision, (double)value) == (code | quiet), code);
            continue;
        }
        double expected = magnitude == infinity_of(format)
                              ? copysign((double)INFINITY, (code & 0x8000) != 0 ? -1.0 : 1.0)
                              : value_of_code(format, code);
        expect(bits_of(value) == bits_of((float)expected), code);
        expect(nearest_code(precision, (double)value) == code, code);
    }
    ck_assert_uint_eq(wrong_count, 0);
}
END_TEST

/* Between each two neighbours: their middle goes to the even one, what is beside it to the nearer
 * one; beyond the largest finite number all go to it. */
START_TEST(plain_rounding_goes_to_the_nearest_code_and_ties_to_even) {
    weir_precision_t precision = halves[_i];
    format_t format = format_of(precision);
    uint32_t largest = infinity_of(format) - 1;
    for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000) {
        double direction = sign != 0 ? -1.0 : 1.0;
        for (uint32_t code = 0; code < largest; code++) {
            double low = value_of_code(format, code), high = value_of_code(format, code + 1);
            float middle = (float)((low + high) / 2.0);
            uint32_t even = code % 2 == 0 ? code : code + 1;
            double below = (double)nextafterf(middle, 0.0F);
            double above = (double)nextafterf(middle, INFINITY);
            expect(nearest_code(precision, direction * (double)middle) == (even | sign), code);
            expect(nearest_code(precision, direction * below) == (code | sign), code);
            expect(nearest_code(precision, direction * above) == ((code + 1) | sign), code);
        }
        double last = value_of_code(format, largest);
        ck_assert_uint_eq(nearest_code(precision, direction * last * 1.0009), largest | sign);
        ck_assert_uint_eq(nearest_code(precision, direction * (double)FLT_MAX), largest | sign);
    }
    ck_assert_uint_eq(wrong_count, 0);
}
END_TEST

#if defined(__FLT16_MAX__) && !defined(__clang__)
__extension__ typedef _Float16 half_t;

START_TEST(fp16_agrees_with_the_compiler) {
    for (uint32_t code = 0; code < CODES; code++) {
        uint16_t half_bits = (uint16_t)code;
        half_t half;
        memcpy(&half, &half_bits, sizeof half);
        float expected = (float)half, value = decode_code(WEIR_PRECISION_F16, code);
        expect(isnan(expected) ? isnan(value) : bits_of(value) == bits_of(expected), code);
    }
    weir_rng_key_t key = weir_rng_key(1, WEIR_STREAM_TEST);
    for (uint32_t i = 0; i < 1u << 20; i++) {
        weir_philox_t random = weir_philox(key, i, 0, 0, 0);
        /* Exponents where fp16 has numbers, and some beyond. */
        uint32_t exponent = 90 + random.word[1] % 60;
        float value = float_of((random.word[0] & 0x807FFFFFu) | exponent << 23);
        half_t half = (half_t)value;
        uint16_t expected;
        memcpy(&expected, &half, sizeof expected);
        if ((expected & 0x7FFF) == 0x7C00) {
            expected--; /* saturates */
        }
        expect(nearest_code(WEIR_PRECISION_F16, (double)value) == expected, expected);
    }
    ck_assert_uint_eq(wrong_count, 0);
}
END_TEST
#endif

START_TEST(split_bf16_keeps_every_bit_and_sends_the_upper_half) {
    enum { DIM = 101 };
    float values[DIM], loaded[DIM];
    uint16_t high[DIM + 1], low[DIM + 1];
    weir_rng_key_t key = weir_rng_key(2, WEIR_STREAM_TEST);
    /* Sign, exponent and edges of the mantissa in full, the rest of it at random. */
    for (uint32_t top = 0; top < 512; top++) {
        for (uint32_t i = 0; i < DIM; i++) {
            static const uint32_t edges[] = {0,       1,        0x7FFF,   0x8000,  0xFFFF,
                                             0x10000, 0x400000, 0x7F8000, 0x7FFFFF};
            uint32_t mantissa = i < sizeof edges / sizeof *edges
                                    ? edges[i]
                                    : weir_philox(key, top, i, 0, 0).word[0] >> 9;
            uint32_t bits = top << 23 | mantissa;
            memcpy(&values[i], &bits, sizeof bits);
        }
        const uint64_t seed = top;
        low[DIM] = 0xA5A5;
        weir_precision_store(WEIR_PRECISION_SPLIT_BF16, values, DIM, top % 2 != 0 ? &seed : NULL,
                             high, low);
        weir_precision_load(WEIR_PRECISION_SPLIT_BF16, high, low, DIM, loaded);
        ck_assert_mem_eq(loaded, values, sizeof values);
        ck_assert_uint_eq(low[DIM], 0);
        weir_precision_decode(WEIR_PRECISION_SPLIT_BF16, high, 0, 1, DIM, loaded, 0);
        for (uint32_t i = 0; i < DIM; i++) {
            expect(bits_of(loaded[i]) == (bits_of(values[i]) & 0xFFFF0000u), top << 7);
        }
    }
    ck_assert_uint_eq(wrong_count, 0);
}
END_TEST

static void check_int8(const float *values, uint32_t dim) {
    int8_t stored[4 + MAX_DIM + 3];
    _Alignas(float) unsigned char wire[sizeof stored];
    memset(wire, 0x5A, sizeof wire);
    float scale, largest = 0.0F, loaded[MAX_DIM];
    for (uint32_t i = 0; i < dim; i++) {
        largest = fmaxf(largest, fabsf(values[i]));
    }
    weir_precision_store(WEIR_PRECISION_INT8, values, dim, NULL, wire, NULL);
    weir_precision_load(WEIR_PRECISION_INT8, wire, NULL, dim, loaded);
    memcpy(&scale, wire, sizeof scale);
    memcpy(stored, wire, sizeof stored);
    ck_assert(isfinite(scale));
    ck_assert_double_le((double)nextafterf(scale, 0.0F) * 127.0, (double)largest);
    ck_assert(largest > 0.0F || scale == 0.0F);
    for (uint32_t i = 0; i < dim; i++) {
        double units = scale > 0.0F ? (double)values[i] / (double)scale : 0.0;
        int code = stored[4 + i];
        expect(code >= -127 && fabs(units - (double)code) <= 0.5 + 1e-5, i);
        expect(isfinite(loaded[i]) && loaded[i] == (float)((double)code * (double)scale), i);
    }
    for (size_t i = 4 + dim; i % 4 != 0; i++) {
        ck_assert_int_eq(stored[i], 0);
    }
    ck_assert_uint_eq(wrong_count, 0);
    /* A row that is read and stored again keeps its bytes. */
    weir_precision_store(WEIR_PRECISION_INT8, loaded, dim, NULL, wire, NULL);
    ck_assert_mem_eq(wire + 4, stored + 4, dim);
}

START_TEST(int8_keeps_the_nearest_of_255_steps_between_the_largest_magnitudes) {
    static const float scales[] = {1.0F, 0.02F, 3e4F, 1e-38F, 1e-43F, 2e-45F, 1e38F, FLT_MAX};
    weir_rng_key_t key = weir_rng_key(3, WEIR_STREAM_TEST);
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        for (uint32_t dim = 1; dim <= MAX_DIM; dim++) {
            float values[MAX_DIM] = {0};
            check_int8(values, dim); /* zeros */
            weir_fill_truncated_normal(key, dim, 0, 0, 0.5, values, dim);
            for (uint32_t i = 0; i < dim; i++) {
                values[i] *= scales[s];
            }
            values[dim / 2] = dim % 2 != 0 ? scales[s] : -scales[s];
            check_int8(values, dim);
        }
    }
}
END_TEST

/* The scale is rounded up; were that to add up over rows that are stored again and again, they
 * would grow. */
START_TEST(int8_rows_do_not_drift_when_stored_again) {
    enum { DIM = 32, TIMES = 100000 };
    _Alignas(4) unsigned char wire[4 + DIM];
    float first[DIM], values[DIM];
    weir_rng_key_t key = weir_rng_key(6, WEIR_STREAM_TEST);
    for (uint32_t row = 0; row < 8; row++) {
        weir_fill_truncated_normal(key, row, 0, 0, 0.1, first, DIM);
        weir_precision_store(WEIR_PRECISION_INT8, first, DIM, NULL, wire, NULL);
        weir_precision_load(WEIR_PRECISION_INT8, wire, NULL, DIM, first);
        for (size_t time = 0; time < TIMES; time++) {
            weir_precision_load(WEIR_PRECISION_INT8, wire, NULL, DIM, values);
            weir_precision_store(WEIR_PRECISION_INT8, values, DIM, NULL, wire, NULL);
        }
        for (uint32_t i = 0; i < DIM; i++) {
            ck_assert(fabsf(values[i] - first[i]) <= 1e-5F * fabsf(first[i]));
        }
    }
}
END_TEST

/* A row in the middle of its buffer, 4 bytes off every wider alignment, between guards. */
typedef struct {
    uint32_t before[GUARD / 4 + 1];
    unsigned char bytes[4 * MAX_DIM + 4 + GUARD];
} stored_t;

static void store_at_width(weir_precision_t precision, uint32_t width, const float *values,
                           uint32_t dim, const uint64_t *seed, stored_t *value, stored_t *hidden) {
    memset(value, 0xA5, sizeof *value);
    memset(hidden, 0xA5, sizeof *hidden);
    ck_assert(weir_precision_set_width(width));
    weir_precision_store(precision, values, dim, seed, value->bytes, hidden->bytes);
}

static void check_widths(weir_precision_t precision, const float *values, uint32_t dim,
                         const uint64_t *seed) {
    stored_t value, hidden, other_value, other_hidden;
    float loaded[MAX_DIM], other[MAX_DIM + 1];
    store_at_width(precision, 128, values, dim, seed, &value, &hidden);
    weir_precision_load(precision, value.bytes, hidden.bytes, dim, loaded);
    unsigned char guard[GUARD];
    memset(guard, 0xA5, sizeof guard);
    size_t value_bytes = weir_precision_value_bytes(precision, dim);
    size_t hidden_bytes = weir_precision_hidden_bytes(precision, dim);
    ck_assert_mem_eq(value.bytes + value_bytes, guard, GUARD);
    ck_assert_mem_eq(hidden.bytes + hidden_bytes, guard, GUARD);
    for (size_t w = 1; w < sizeof widths / sizeof *widths; w++) {
        if (!weir_precision_set_width(widths[w])) {
            continue;
        }
        store_at_width(precision, widths[w], values, dim, seed, &other_value, &other_hidden);
        ck_assert_mem_eq(&other_value, &value, sizeof value);
        ck_assert_mem_eq(&other_hidden, &hidden, sizeof hidden);
        other[dim] = 12345.0F;
        weir_precision_load(precision, value.bytes, hidden.bytes, dim, other);
        ck_assert_mem_eq(other, loaded, dim * sizeof *loaded);
        ck_assert(other[dim] == 12345.0F);
    }
    ck_assert(weir_precision_set_width(0));
}

START_TEST(all_vector_widths_give_the_same_bits) {
    static const float specials[] = {0.0F,  -0.0F,    1e-45F, -1e-40F, 6e-8F,    2.9e-8F, 6e-5F,
                                     65504, 65519.9F, -65520, FLT_MAX, -FLT_MAX, 1e-30F,  FLT_MIN};
    weir_precision_t precision = (weir_precision_t)_i;
    weir_rng_key_t key = weir_rng_key(4, WEIR_STREAM_TEST);
    for (uint32_t dim = 1; dim <= MAX_DIM; dim++) {
        float values[MAX_DIM];
        weir_fill_truncated_normal(key, dim, 0, 1, dim % 3 == 0 ? 1e-6 : 0.1, values, dim);
        uint64_t seed = weir_precision_seed(4, 0, 0, dim, 0);
        check_widths(precision, values, dim, NULL);
        check_widths(precision, values, dim, &seed);
        for (uint32_t i = 0; i < dim; i++) {
            values[i] = specials[(i + dim) % (sizeof specials / sizeof *specials)];
        }
        check_widths(precision, values, dim, NULL);
        check_widths(precision, values, dim, &seed);
        values[dim / 2] = precision == WEIR_PRECISION_INT8 ? 1.0F : float_of(0x7F800001u);
        values[dim / 3] = precision == WEIR_PRECISION_INT8 ? 2.0F : INFINITY;
        check_widths(precision, values, dim, NULL);
        check_widths(precision, values, dim, &seed);
    }
}
END_TEST

START_TEST(all_vector_widths_decode_every_code_alike) {
    static uint16_t codes[CODES];
    static float values[CODES], other[CODES];
    for (uint32_t code = 0; code < CODES; code++) {
        codes[code] = (uint16_t)code;
    }
    ck_assert(weir_precision_set_width(128));
    weir_precision_decode(halves[_i], codes, 0, 1, CODES, values, 0);
    for (size_t w = 1; w < sizeof widths / sizeof *widths; w++) {
        if (weir_precision_set_width(widths[w])) {
            weir_precision_decode(halves[_i], codes, 0, 1, CODES, other, 0);
            ck_assert_mem_eq(other, values, sizeof values);
        }
    }
    ck_assert(weir_precision_set_width(0));
}
END_TEST

START_TEST(rows_decode_from_their_stride_to_their_stride) {
    enum { ROWS = 5, DIM = 7, STRIDE = 48, OUT = 9 };
    weir_precision_t precision = (weir_precision_t)_i;
    _Alignas(4) unsigned char wire[ROWS * STRIDE] = {0};
    _Alignas(4) unsigned char hidden[2 * DIM + 2] = {0};
    float values[ROWS][OUT], expected[DIM], row[DIM];
    weir_rng_key_t key = weir_rng_key(5, WEIR_STREAM_TEST);
    memset(values, 0, sizeof values);
    for (uint32_t r = 0; r < ROWS; r++) {
        weir_fill_truncated_normal(key, r, 0, 0, 1.0, row, DIM);
        weir_precision_store(precision, row, DIM, NULL, wire + r * STRIDE, hidden);
    }
    weir_precision_decode(precision, wire, STRIDE, ROWS, DIM, values[0], OUT);
    for (uint32_t r = 0; r < ROWS; r++) {
        weir_fill_truncated_normal(key, r, 0, 0, 1.0, row, DIM);
        weir_precision_decode(precision, wire + r * STRIDE, 0, 1, DIM, expected, 0);
        ck_assert_mem_eq(values[r], expected, sizeof expected);
        for (uint32_t i = 0; i < DIM; i++) {
            ck_assert(fabsf(expected[i] - row[i]) < 0.02F);
        }
        ck_assert(values[r][DIM] == 0.0F && values[r][DIM + 1] == 0.0F);
    }
}
END_TEST

START_TEST(sizes_and_names_are_those_of_the_header) {
    static const struct {
        const char *name;
        size_t value, odd_value, hidden, odd_hidden; /* of 64 and 5 columns */
    } expected[WEIR_PRECISION_COUNT] = {{"float32", 256, 20, 0, 0},
                                        {"bf16", 128, 10, 0, 0},
                                        {"fp16", 128, 10, 0, 0},
                                        {"int8", 68, 12, 0, 0},
                                        {"split_bf16", 128, 10, 128, 12}};
    for (int p = 0; p < WEIR_PRECISION_COUNT; p++) {
        weir_precision_t precision = (weir_precision_t)p;
        ck_assert_str_eq(weir_precision_name(precision), expected[p].name);
        ck_assert_uint_eq(weir_precision_value_bytes(precision, 64), expected[p].value);
        ck_assert_uint_eq(weir_precision_value_bytes(precision, 5), expected[p].odd_value);
        ck_assert_uint_eq(weir_precision_hidden_bytes(precision, 64), expected[p].hidden);
        ck_assert_uint_eq(weir_precision_hidden_bytes(precision, 5), expected[p].odd_hidden);
    }
    ck_assert_str_eq(weir_precision_name(WEIR_PRECISION_COUNT), "unknown");
}
END_TEST

static Suite *precision_suite(void) {
    Suite *suite = suite_create("precision");
    TCase *cases = tcase_create("precision");
    tcase_set_timeout(cases, 120);
    tcase_add_checked_fixture(cases, begin_test, NULL);
    tcase_add_loop_test(cases, every_16_bit_code_decodes_to_its_number_and_back, 0, 2);
    tcase_add_loop_test(cases, plain_rounding_goes_to_the_nearest_code_and_ties_to_even, 0, 2);
#if defined(__FLT16_MAX__) && !defined(__clang__)
    tcase_add_test(cases, fp16_agrees_with_the_compiler);
#endif
    tcase_add_test(cases, split_bf16_keeps_every_bit_and_sends_the_upper_half);
    tcase_add_test(cases, int8_keeps_the_nearest_of_255_steps_between_the_largest_magnitudes);
    tcase_add_test(cases, int8_rows_do_not_drift_when_stored_again);
    tcase_add_loop_test(cases, all_vector_widths_give_the_same_bits, 0, WEIR_PRECISION_COUNT);
    tcase_add_loop_test(cases, all_vector_widths_decode_every_code_alike, 0, 2);
    tcase_add_loop_test(cases, rows_decode_from_their_stride_to_their_stride, 0,
                        WEIR_PRECISION_COUNT);
    tcase_add_test(cases, sizes_and_names_are_those_of_the_header);
    suite_add_tcase(suite, cases);
    return suite;
}

WEIR_TEST_MAIN(precision_suite())
