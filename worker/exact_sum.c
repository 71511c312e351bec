#include "worker/exact_sum.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum {
    LOWEST_BIT = 1074, /* 2^-1074 is the smallest double */
    FRACTION = 52,
    EXPONENT_MASK = 0x7FF,
    DIGIT_BITS = 32,
    MOST_PENDING = 1 << 28
};
#define DIGIT_MASK UINT64_C(0xFFFFFFFF)

void weir_exact_sum_add(weir_exact_sum_t *sum, double value) {
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    uint64_t mantissa = bits & ((UINT64_C(1) << FRACTION) - 1);
    size_t bit = (size_t)(bits >> FRACTION & EXPONENT_MASK); /* of the mantissa's lowest */
    if (bit > 0) {                                           /* not subnormal: the hidden one */
        mantissa |= UINT64_C(1) << FRACTION;
        bit--;
    }
    size_t digit = bit / DIGIT_BITS;
    unsigned shift = (unsigned)(bit % DIGIT_BITS);
    uint64_t low = (mantissa & DIGIT_MASK) << shift, high = (mantissa >> DIGIT_BITS) << shift;
    int64_t sign = value < 0.0 ? -1 : 1;
    sum->digits[digit] += sign * (int64_t)(low & DIGIT_MASK);
    sum->digits[digit + 1] += sign * (int64_t)((low >> DIGIT_BITS) + (high & DIGIT_MASK));
    sum->digits[digit + 2] += sign * (int64_t)(high >> DIGIT_BITS);
    if (++sum->pending == MOST_PENDING) {
        weir_exact_sum_settle(sum);
    }
}

void weir_exact_sum_settle(weir_exact_sum_t *sum) {
    int64_t carry = 0;
    for (size_t i = 0; i + 1 < WEIR_EXACT_SUM_DIGITS; i++) {
        int64_t digit = sum->digits[i] + carry;
        int64_t rest = (int64_t)((uint64_t)digit & DIGIT_MASK);
        carry = (digit - rest) / (INT64_C(1) << DIGIT_BITS);
        sum->digits[i] = rest;
    }
    sum->digits[WEIR_EXACT_SUM_DIGITS - 1] += carry;
    sum->pending = 0;
}

void weir_exact_sum_merge(weir_exact_sum_t *sum, weir_exact_sum_t *other) {
    weir_exact_sum_settle(sum);
    weir_exact_sum_settle(other);
    for (size_t i = 0; i < WEIR_EXACT_SUM_DIGITS; i++) {
        sum->digits[i] += other->digits[i];
    }
    weir_exact_sum_settle(sum);
}

double weir_exact_sum_value(weir_exact_sum_t *sum) {
    weir_exact_sum_settle(sum);
    weir_exact_sum_t magnitude = *sum;
    double sign = 1.0;
    if (sum->digits[WEIR_EXACT_SUM_DIGITS - 1] < 0) {
        sign = -1.0;
        for (size_t i = 0; i < WEIR_EXACT_SUM_DIGITS; i++) {
            magnitude.digits[i] = -magnitude.digits[i];
        }
        weir_exact_sum_settle(&magnitude);
    }
    size_t top = WEIR_EXACT_SUM_DIGITS;
    while (top > 0 && magnitude.digits[top - 1] == 0) {
        top--;
    }
    double value = 0.0; /* three digits are 65 bits at least */
    for (size_t i = top > 3 ? top - 3 : 0; i < top; i++) {
        value += ldexp((double)magnitude.digits[i], (int)i * DIGIT_BITS - LOWEST_BIT);
    }
    return sign * value;
}
