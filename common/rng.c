#include "common/rng.h"

#include <math.h>

/* Phi(-2): the mass below the lower cut of a normal truncated at two sigma. */
#define MASS_BELOW_CUT 0.022750131948179207200

weir_rng_key_t weir_rng_key(uint64_t seed, weir_stream_t stream) {
    return (weir_rng_key_t){
        {(uint32_t)seed ^ ((uint32_t)stream * 0x9E3779B1u), (uint32_t)(seed >> 32)}};
}

/* numerator / denominator, polynomials of degree 7 in x, coefficients in rising order; the
 * denominator's constant is 1. */
static double divide_polynomials(const double numerator[8], const double denominator[7], double x) {
    double top = numerator[7];
    for (int i = 6; i >= 0; i--) {
        top = top * x + numerator[i];
    }
    double bottom = denominator[6];
    for (int i = 5; i >= 0; i--) {
        bottom = bottom * x + denominator[i];
    }
    return top / (bottom * x + 1.0);
}

/* Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Applied Statistics
 * 37 (1988): three rational approximations, for the middle, the tail and the far tail. */
double weir_normal_quantile(double probability) {
    static const double middle_top[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                                         1.9715909503065514427e+3, 1.3731693765509461125e+4,
                                         4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                         3.3430575583588128105e+4, 2.5090809287301226727e+3};
    static const double middle_bottom[7] = {4.2313330701600911252e+1, 6.8718700749205790830e+2,
                                            5.3941960214247511077e+3, 2.1213794301586595867e+4,
                                            3.9307895800092710610e+4, 2.8729085735721942674e+4,
                                            5.2264952788528545610e+3};
    static const double tail_top[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                                       5.76949722146069140550e0,  3.64784832476320460504e0,
                                       1.27045825245236838258e0,  2.41780725177450611770e-1,
                                       2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static const double tail_bottom[7] = {2.05319162663775882187e0,  1.67638483018380384940e0,
                                          6.89767334985100004550e-1, 1.48103976427480074590e-1,
                                          1.51986665636164571966e-2, 5.47593808499534494600e-4,
                                          1.05075007164441684324e-9};
    static const double far_top[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                                      1.78482653991729133580e0,  2.96560571828504891230e-1,
                                      2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                      2.71155556874348757815e-5, 2.01033439929228813265e-7};
    static const double far_bottom[7] = {5.99832206555887937690e-1, 1.36929880922735805310e-1,
                                         1.48753612908506148525e-2, 7.86869131145613259100e-4,
                                         1.84631831751005468180e-5, 1.42151175831644588870e-7,
                                         2.04426310338993978564e-15};
    double centred = probability - 0.5;
    if (fabs(centred) <= 0.425) {
        double x = 0.180625 - centred * centred;
        return centred * divide_polynomials(middle_top, middle_bottom, x);
    }
    double tail = centred < 0.0 ? probability : 1.0 - probability;
    double r = sqrt(-log(tail));
    double quantile = r <= 5.0 ? divide_polynomials(tail_top, tail_bottom, r - 1.6)
                               : divide_polynomials(far_top, far_bottom, r - 5.0);
    return centred < 0.0 ? -quantile : quantile;
}

void weir_fill_truncated_normal(weir_rng_key_t key, uint32_t c0, uint32_t c1, uint32_t c3,
                                double sigma, float *out, size_t count) {
    const double mass = 1.0 - 2.0 * MASS_BELOW_CUT;
    for (size_t i = 0; i < count; i += 4) {
        weir_philox_t random = weir_philox(key, c0, c1, (uint32_t)(i / 4), c3);
        for (size_t lane = 0; lane < 4 && i + lane < count; lane++) {
            double probability = MASS_BELOW_CUT + mass * weir_uniform01(random.word[lane]);
            out[i + lane] = (float)(sigma * weir_normal_quantile(probability));
        }
    }
}

/* Uniform in [0, bound) from 64 random bits (high, low): the upper half of their product with
 * bound. With 32 bits a permutation of millions would be visibly uneven. */
static uint32_t draw_below(uint32_t high, uint32_t low, uint32_t bound) {
    return (uint32_t)(((uint64_t)high * bound + (((uint64_t)low * bound) >> 32)) >> 32);
}

void weir_rng_permutation(uint64_t seed, weir_stream_t stream, uint64_t nonce, uint32_t *out,
                          size_t count) {
    weir_rng_key_t key = weir_rng_key(seed, stream);
    for (size_t i = 0; i < count; i++) {
        out[i] = (uint32_t)i;
    }
    weir_philox_t random = {{0}};
    for (size_t draw = 0; draw + 1 < count; draw++) {
        if (draw % 2 == 0) {
            random =
                weir_philox(key, (uint32_t)nonce, (uint32_t)(nonce >> 32), (uint32_t)(draw / 2), 0);
        }
        size_t word = 2 * (draw % 2);
        size_t last = count - 1 - draw;
        uint32_t chosen = draw_below(random.word[word], random.word[word + 1], (uint32_t)last + 1);
        uint32_t kept = out[last];
        out[last] = out[chosen];
        out[chosen] = kept;
    }
}
