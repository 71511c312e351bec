#include "tools/resample.h"

#include "common/rng.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 4, WORD_BITS = 32 };

static weir_philox_t draw(weir_rng_key_t key, size_t sample, size_t number) {
    return weir_philox(key, (uint32_t)sample, (uint32_t)number, (uint32_t)((uint64_t)number >> 32),
                       0);
}

/* ---- bootstrap ---- */

static int compare_doubles(const void *left, const void *right) {
    double a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    return (a > b) - (a < b);
}

/* Between the two values around the place. */
static double quantile(const double *sorted, size_t count, double q) {
    double place = q * (double)(count - 1);
    size_t below = (size_t)place, above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (place - (double)below) * (sorted[above] - sorted[below]);
}

/* means: metrics x samples. */
static void draw_means(const double *values, size_t users, size_t metrics, size_t samples,
                       uint64_t seed, double *sums, double *means) {
    weir_rng_key_t key = weir_rng_key(seed, WEIR_STREAM_RESAMPLE);
    for (size_t sample = 0; sample < samples; sample++) {
        memset(sums, 0, metrics * sizeof *sums);
        for (size_t i = 0; i < users; i += WORDS) {
            weir_philox_t random = draw(key, sample, i / WORDS);
            for (size_t k = 0; k < WORDS && i + k < users; k++) {
                const double *row =
                    values + metrics * weir_uniform_below(random.word[k], (uint32_t)users);
                for (size_t m = 0; m < metrics; m++) {
                    sums[m] += row[m];
                }
            }
        }
        for (size_t m = 0; m < metrics; m++) {
            means[m * samples + sample] = sums[m] / (double)users;
        }
    }
}

static weir_interval_t sum_up(double *means, size_t samples) {
    weir_interval_t interval = {0};
    double middle = 0.0, square = 0.0;
    for (size_t i = 0; i < samples; i++) {
        middle += means[i] / (double)samples;
    }
    for (size_t i = 0; i < samples; i++) {
        square += (means[i] - middle) * (means[i] - middle);
    }
    interval.deviation = samples > 1 ? sqrt(square / (double)(samples - 1)) : 0.0;
    qsort(means, samples, sizeof *means, compare_doubles);
    interval.low = quantile(means, samples, 0.025);
    interval.high = quantile(means, samples, 0.975);
    return interval;
}

weir_err_t weir_bootstrap(const double *values, size_t users, size_t metrics, size_t samples,
                          uint64_t seed, weir_interval_t *intervals, weir_error_t *error) {
    if (users > UINT32_MAX) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED, "%zu users are too many to draw from",
                           users);
    }
    double *means = calloc(metrics * samples, sizeof *means);
    double *sums = calloc(metrics, sizeof *sums);
    if (means == NULL || sums == NULL) {
        free(means);
        free(sums);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu drawings", samples);
    }
    draw_means(values, users, metrics, samples, seed, sums, means);
    for (size_t m = 0; m < metrics; m++) {
        double sum = 0.0;
        for (size_t i = 0; i < users; i++) {
            sum += values[i * metrics + m];
        }
        intervals[m] = sum_up(means + m * samples, samples);
        intervals[m].mean = sum / (double)users;
    }
    free(means);
    free(sums);
    return WEIR_OK;
}

/* ---- Student's distribution ---- */

/* The continued fraction of the incomplete beta function, from the front (DLMF 8.17.22), by
 * Lentz's method. */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1.0, d = 1.0 - (a + b) * x / (a + 1.0);
    d = 1.0 / (fabs(d) < tiny ? tiny : d);
    double value = d;
    for (int m = 1; m < 100000; m++) {
        double n = (double)m, step = 1.0;
        const double terms[] = {n * (b - n) * x / ((a + 2.0 * n - 1.0) * (a + 2.0 * n)),
                                -(a + n) * (a + b + n) * x / ((a + 2.0 * n) * (a + 2.0 * n + 1.0))};
        for (size_t k = 0; k < 2; k++) {
            d = 1.0 + terms[k] * d;
            c = 1.0 + terms[k] / c;
            d = 1.0 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            step = c * d;
            value *= step;
        }
        if (fabs(step - 1.0) < 1e-15) {
            break;
        }
    }
    return value;
}

/* I_x(a, b), the regularised incomplete beta function; y = 1 - x, given so that it is exact. */
static double regularised_beta(double a, double b, double x, double y) {
    if (x <= 0.0 || y <= 0.0) {
        return x <= 0.0 ? 0.0 : 1.0;
    }
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(y));
    return x < (a + 1.0) / (a + b + 2.0) ? front * beta_fraction(a, b, x) / a
                                         : 1.0 - front * beta_fraction(b, a, y) / b;
}

double weir_student_two_sided(double t, double degrees) {
    double whole = degrees + t * t;
    return isinf(t) ? 0.0 : regularised_beta(degrees / 2.0, 0.5, degrees / whole, t * t / whole);
}

/* ---- paired tests ---- */

static void test_by_t(const double *d, size_t users, weir_paired_t *result) {
    double square = 0.0, n = (double)users;
    for (size_t i = 0; i < users; i++) {
        square += (d[i] - result->mean) * (d[i] - result->mean);
    }
    if (users < 2 || square <= 0.0) {
        return;
    }
    result->t = result->mean / sqrt(square / (n - 1.0) / n);
    result->t_p = weir_student_two_sided(result->t, n - 1.0);
}

static int compare_sizes(const void *left, const void *right) {
    double a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    return (fabs(a) > fabs(b)) - (fabs(a) < fabs(b));
}

/* `d`: without zeros; put in the order of their size. */
static void test_by_ranks(double *d, size_t count, weir_paired_t *result) {
    double positive = 0.0, ties = 0.0, n = (double)count;
    qsort(d, count, sizeof *d, compare_sizes);
    for (size_t begin = 0, end = 0; begin < count; begin = end) {
        size_t above = 0;
        for (end = begin; end < count && fabs(d[end]) <= fabs(d[begin]); end++) {
            above += d[end] > 0.0 ? 1 : 0;
        }
        double equal = (double)(end - begin);
        positive += (double)above * (double)(begin + end + 1) / 2.0;
        ties += equal * equal * equal - equal;
    }
    double negative = n * (n + 1.0) / 2.0 - positive;
    double variance = (n * (n + 1.0) * (2.0 * n + 1.0) - ties / 2.0) / 24.0;
    result->w = positive < negative ? positive : negative;
    result->w_p = erfc(fabs(positive - n * (n + 1.0) / 4.0) / sqrt(variance) / sqrt(2.0));
}

/* `d`: without zeros. */
static void test_by_flips(const double *d, size_t count, size_t samples, uint64_t seed,
                          weir_paired_t *result) {
    weir_rng_key_t key = weir_rng_key(seed, WEIR_STREAM_RESAMPLE);
    double found = 0.0, size = 0.0;
    for (size_t i = 0; i < count; i++) {
        found += d[i];
        size += fabs(d[i]);
    }
    double least = fabs(found) - 1e-12 * size; /* as far, to rounding */
    size_t as_far = 0;
    for (size_t sample = 0; sample < samples; sample++) {
        double sum = 0.0;
        for (size_t i = 0; i < count; i += (size_t)WORDS * WORD_BITS) {
            weir_philox_t random = draw(key, sample, i / ((size_t)WORDS * WORD_BITS));
            size_t left = count - i < (size_t)WORDS * WORD_BITS ? count - i : WORDS * WORD_BITS;
            for (size_t k = 0; k < left; k++) {
                uint32_t bit = random.word[k / WORD_BITS] >> (k % WORD_BITS) & 1U;
                sum += bit != 0 ? d[i + k] : -d[i + k];
            }
        }
        as_far += fabs(sum) >= least ? 1 : 0;
    }
    result->flip_p = (1.0 + (double)as_far) / (1.0 + (double)samples);
}

weir_err_t weir_paired_test(const double *differences, size_t users, size_t samples, uint64_t seed,
                            weir_paired_t *result, weir_error_t *error) {
    const double none = (double)NAN;
    weir_paired_t found = {.t = none, .t_p = none, .w = none, .w_p = none, .flip_p = none};
    double *kept = malloc((users + 1) * sizeof *kept);
    if (kept == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu differences", users);
    }
    for (size_t i = 0; i < users; i++) {
        found.mean += differences[i];
        if (differences[i] < 0.0 || differences[i] > 0.0) {
            kept[found.nonzero++] = differences[i];
        }
    }
    found.mean /= users > 0 ? (double)users : 1.0;
    test_by_t(differences, users, &found);
    if (found.nonzero > 0) {
        test_by_flips(kept, found.nonzero, samples, seed, &found); /* in the order of users */
        test_by_ranks(kept, found.nonzero, &found);
    }
    free(kept);
    *result = found;
    return WEIR_OK;
}
