#include "common/rng.h"
#include "tests/suite.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* The vectors that Random123 publishes for philox4x32, ten rounds (kat_vectors). */
START_TEST(philox_gives_the_published_vectors) {
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        weir_rng_key_t key = {{vectors[i].key[0], vectors[i].key[1]}};
        const uint32_t *c = vectors[i].counter;
        weir_philox_t got = weir_philox(key, c[0], c[1], c[2], c[3]);
        ck_assert_mem_eq(got.word, vectors[i].expected, sizeof got.word);
    }
}
END_TEST

START_TEST(streams_and_seeds_have_different_keys) {
    weir_rng_key_t a = weir_rng_key(7, WEIR_STREAM_ROW);
    weir_rng_key_t b = weir_rng_key(7, WEIR_STREAM_DENSE);
    weir_rng_key_t c = weir_rng_key(7 + (1ull << 32), WEIR_STREAM_ROW);
    ck_assert_mem_ne(&a, &b, sizeof a);
    ck_assert_mem_ne(&a, &c, sizeof a);
}
END_TEST

/* By the distribution function of the C library, an independent way round. */
START_TEST(the_quantile_inverts_the_normal_distribution) {
    static const double probabilities[] = {1e-300, 1e-20, 1e-10, 1e-5, 0.01,  0.0227, 0.074, 0.076,
                                           0.3,    0.5,   0.7,   0.9,  0.924, 0.926,  0.99};
    for (size_t i = 0; i < sizeof probabilities / sizeof probabilities[0]; i++) {
        double p = probabilities[i];
        double x = weir_normal_quantile(p);
        double back = 0.5 * erfc(-x / sqrt(2.0));
        /* An error of one part in 1e15 in x is one of x^2 parts in p. */
        double tolerance = p * 4e-15 * (2.0 + x * x);
        ck_assert_double_le(fabs(back - p), tolerance);
    }
    ck_assert_double_eq(weir_normal_quantile(0.5), 0.0);
    ck_assert_double_eq_tol(weir_normal_quantile(0.975), 1.959963984540054, 1e-15);
    ck_assert_double_eq_tol(weir_normal_quantile(1e-9), -5.997807015007687, 1e-14);
}
END_TEST

START_TEST(the_truncated_normal_stays_inside_and_has_its_moments) {
    enum { COUNT = 100000 };
    float *values = malloc(COUNT * sizeof *values);
    ck_assert_ptr_nonnull(values);
    weir_fill_truncated_normal(weir_rng_key(1, WEIR_STREAM_TEST), 1, 2, 3, 0.02, values, COUNT);
    double sum = 0.0, squares = 0.0, largest = 0.0;
    for (size_t i = 0; i < COUNT; i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
        largest = fmax(largest, fabs((double)values[i]));
    }
    ck_assert_double_le(largest, 0.02 * 2.0 + 1e-8);
    ck_assert_double_ge(largest, 0.02 * 1.99);
    /* Variance of a normal truncated at two sigma: 0.7737413 sigma^2; bounds are five sigma wide.
     */
    double variance = squares / COUNT;
    ck_assert_double_eq_tol(sum / COUNT, 0.0, 5.0 * 0.0176 / sqrt((double)COUNT));
    ck_assert_double_eq_tol(variance / 0.0004, 0.7737413, 0.015);
    free(values);
}
END_TEST

START_TEST(a_shorter_fill_is_the_beginning_of_a_longer_one) {
    float lengthy[23], brief[6] = {0};
    weir_rng_key_t key = weir_rng_key(5, WEIR_STREAM_ROW);
    weir_fill_truncated_normal(key, 9, 8, 7, 1.0, lengthy, 23);
    weir_fill_truncated_normal(key, 9, 8, 7, 1.0, brief, 5);
    ck_assert_mem_eq(lengthy, brief, 5 * sizeof(float));
    ck_assert_mem_eq(&brief[5], &(float){0.0f}, sizeof(float));
    weir_philox_t random = weir_philox(key, 9, 8, 5, 7);
    double p =
        0.022750131948179207 + (1.0 - 2.0 * 0.022750131948179207) * weir_uniform01(random.word[2]);
    ck_assert_double_eq_tol((double)lengthy[22], weir_normal_quantile(p), 1e-6);
}
END_TEST

START_TEST(a_permutation_holds_every_number_once_and_depends_on_its_nonce) {
    enum { COUNT = 1001 };
    uint32_t first[COUNT], second[COUNT];
    bool seen[COUNT] = {false};
    weir_rng_permutation(3, WEIR_STREAM_SHUFFLE, 0, first, COUNT);
    weir_rng_permutation(3, WEIR_STREAM_SHUFFLE, 1ull << 40, second, COUNT);
    ck_assert_mem_ne(first, second, sizeof first);
    for (size_t i = 0; i < COUNT; i++) {
        ck_assert_uint_lt(first[i], COUNT);
        ck_assert(!seen[first[i]]);
        seen[first[i]] = true;
    }
    weir_rng_permutation(3, WEIR_STREAM_SHUFFLE, 0, second, COUNT);
    ck_assert_mem_eq(first, second, sizeof first);
    weir_rng_permutation(3, WEIR_STREAM_SHUFFLE, 0, second, 1);
    ck_assert_uint_eq(second[0], 0);
    weir_rng_permutation(3, WEIR_STREAM_SHUFFLE, 0, NULL, 0);
}
END_TEST

START_TEST(all_permutations_of_four_are_as_likely) {
    enum { DRAWS = 24000 };
    int counts[256] = {0};
    for (uint64_t nonce = 0; nonce < DRAWS; nonce++) {
        uint32_t p[4];
        weir_rng_permutation(11, WEIR_STREAM_TEST, nonce, p, 4);
        counts[p[0] * 64 + p[1] * 16 + p[2] * 4 + p[3]]++;
    }
    int kinds = 0;
    for (size_t i = 0; i < 256; i++) {
        if (counts[i] > 0) {
            kinds++;
            ck_assert_int_ge(counts[i], 1000 - 160); /* five sigma of 31 */
            ck_assert_int_le(counts[i], 1000 + 160);
        }
    }
    ck_assert_int_eq(kinds, 24);
}
END_TEST

/* Two streams of one number would draw the same words: the compiler refuses equal cases. */
static bool is_stream(int number) {
    switch (number) {
    case WEIR_STREAM_ROW:
    case WEIR_STREAM_DENSE:
    case WEIR_STREAM_SHUFFLE:
    case WEIR_STREAM_NEGATIVE:
    case WEIR_STREAM_DROPOUT:
    case WEIR_STREAM_SYNTH:
    case WEIR_STREAM_TEST:
    case WEIR_STREAM_ROUND:
    case WEIR_STREAM_ADMISSION:
    case WEIR_STREAM_SESSION:
    case WEIR_STREAM_MASK:
    case WEIR_STREAM_RESAMPLE:
    case WEIR_STREAM_LENGTH:
        return true;
    default:
        return false;
    }
}

START_TEST(every_stream_has_a_number_of_its_own) {
    for (int number = 1; number <= WEIR_STREAM_LENGTH; number++) {
        ck_assert_msg(is_stream(number), "no stream, or two, at %d", number);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("rng");
    TCase *t = tcase_create("rng");
    tcase_add_test(t, philox_gives_the_published_vectors);
    tcase_add_test(t, streams_and_seeds_have_different_keys);
    tcase_add_test(t, the_quantile_inverts_the_normal_distribution);
    tcase_add_test(t, the_truncated_normal_stays_inside_and_has_its_moments);
    tcase_add_test(t, a_shorter_fill_is_the_beginning_of_a_longer_one);
    tcase_add_test(t, a_permutation_holds_every_number_once_and_depends_on_its_nonce);
    tcase_add_test(t, all_permutations_of_four_are_as_likely);
    tcase_add_test(t, every_stream_has_a_number_of_its_own);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
