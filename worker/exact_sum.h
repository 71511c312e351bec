/* Sums of doubles without rounding.
 *
 * A sum is one long fixed-point number that holds every finite double, from the smallest subnormal
 * to the largest (Kulisch's accumulator), in digits of 32 bits. So it does not depend on the order
 * of its terms nor on how they were spread over workers; only its value is rounded, once. */
#ifndef WEIR_WORKER_EXACT_SUM_H
#define WEIR_WORKER_EXACT_SUM_H

#include <stdint.h>

/* 2^-1074 .. 2^1024 are 66 digits; two more hold the carries of 2^63 terms. */
enum { WEIR_EXACT_SUM_DIGITS = 68 };

typedef struct {
    int64_t digits[WEIR_EXACT_SUM_DIGITS]; /* of 2^32; the first of 2^-1074; all zero: the sum 0 */
    uint32_t pending;                      /* terms since the carries were last taken over */
} weir_exact_sum_t;

/* `value` is finite. Cost: three additions, and one pass over the digits in 2^28 terms.
 * Call: local. Threads: any (one a sum). */
void weir_exact_sum_add(weir_exact_sum_t *sum, double value);

/* Take the carries over: digits but the last are then in 0 .. 2^32 - 1, the same for equal sums.
 * Call: local. */
void weir_exact_sum_settle(weir_exact_sum_t *sum);

/* Add another sum; settles both. Call: local. */
void weir_exact_sum_merge(weir_exact_sum_t *sum, weir_exact_sum_t *other);

/* The sum, off by less than one unit in the last place; settles it. Call: local. */
double weir_exact_sum_value(weir_exact_sum_t *sum);

#endif
