/* How sure a mean over users is, and whether a difference of two is more than chance.
 *
 * Intervals: the percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap,
 * 1993): users are drawn with replacement, as many as there are, and of the means of all drawings
 * 2.5% lie below the interval and 2.5% above.
 *
 * Paired tests, two-sided, of differences d of the same users (Smucker, Allan and Carterette, CIKM
 * 2007, compare them):
 *   t            mean d / (deviation / sqrt n), Student's distribution of n - 1 degrees; 2 or more
 *   Wilcoxon     signed ranks of |d|, users with d = 0 left out, ties at the mean of their ranks,
 *                by the normal distribution with the variance corrected for ties
 *   sign flips   chance that the sum of d, each with a sign at random, is as far from 0 as it is,
 *                (1 + such drawings) / (1 + drawings)
 *
 * Drawings are functions of the seed and of the order of users. */
#ifndef WEIR_TOOLS_RESAMPLE_H
#define WEIR_TOOLS_RESAMPLE_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

enum { WEIR_RESAMPLE_MOST = 1000000 }; /* drawings */

typedef struct {
    double mean, deviation; /* the latter of the means of drawings: the standard error */
    double low, high;
} weir_interval_t;

/* Of each of `metrics` columns of values: users x metrics. 1 or more users and samples. Errors: out
 * of memory. Cost: samples x users x metrics. Call: local. */
WEIR_MUST_USE weir_err_t weir_bootstrap(const double *values, size_t users, size_t metrics,
                                        size_t samples, uint64_t seed, weir_interval_t *intervals,
                                        weir_error_t *error);

/* Not a number where a test has nothing to say: of one user, of differences that are all 0. */
typedef struct {
    double mean;
    double t, t_p;
    double w, w_p; /* Wilcoxon: the smaller sum of ranks */
    size_t nonzero;
    double flip_p;
} weir_paired_t;

/* Errors: out of memory. Cost: samples x users. Call: local. */
WEIR_MUST_USE weir_err_t weir_paired_test(const double *differences, size_t users, size_t samples,
                                          uint64_t seed, weir_paired_t *result,
                                          weir_error_t *error);

/* Chance that |t| is exceeded, by Student's distribution of `degrees` of freedom. Call: local. */
double weir_student_two_sided(double t, double degrees);

#endif
