/* Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random
 * Numbers: As Easy as 1, 2, 3", SC 2011). A number is a pure function of a key and a counter, so
 * that results depend neither on threads, ranks nor order.
 *
 * A *stream* is what a number is for (birth of a row, dropout, negatives, shuffling ...). Key =
 * (seed, stream); the four counter words are the caller's coordinates. */
#ifndef WEIR_COMMON_RNG_H
#define WEIR_COMMON_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    WEIR_STREAM_ROW = 1,      /* rows of a table: counter = key lo, key hi, column / 4, table id */
    WEIR_STREAM_DENSE = 2,    /* dense parameters: counter = element / 4 lo, hi, 0, 0 */
    WEIR_STREAM_SHUFFLE = 3,  /* order of users: counter = epoch, position, ... */
    WEIR_STREAM_NEGATIVE = 4, /* negatives: counter = step lo, step hi, token, draw / 4 */
    WEIR_STREAM_DROPOUT = 5,  /* dropout: counter = step lo, site, token, column / 8 */
    WEIR_STREAM_SYNTH = 6,    /* `weir synth` */
    WEIR_STREAM_TEST = 7,
    WEIR_STREAM_ROUND = 8,     /* rounding of rows: counter = key lo, key hi, step lo, step hi */
    WEIR_STREAM_ADMISSION = 9, /* new keys: counter = key lo, key hi, step lo, step hi */
    WEIR_STREAM_SESSION = 10,  /* session of a user: counter = epoch lo, hi, user lo, hi */
    WEIR_STREAM_MASK = 11,     /* masked events: counter = step lo, step hi, token, 0 */
    WEIR_STREAM_RESAMPLE = 12, /* users of evaluations: counter = sample, number lo, number hi, 0 */
    WEIR_STREAM_LENGTH =
        13 /* parts of histories: counter = epoch lo, hi (step, of a stream), user, draw */
} weir_stream_t;

typedef struct {
    uint32_t word[4];
} weir_philox_t;

typedef struct {
    uint32_t key[2];
} weir_rng_key_t;

/* Key of a stream under a seed: (seed lo ^ stream * odd constant, seed hi). Call: local. Threads:
 * any. */
weir_rng_key_t weir_rng_key(uint64_t seed, weir_stream_t stream);

/* Philox 4x32-10 of one counter. In the header, because kernels inline it. */
static inline weir_philox_t weir_philox(weir_rng_key_t key, uint32_t c0, uint32_t c1, uint32_t c2,
                                        uint32_t c3) {
    uint32_t k0 = key.key[0], k1 = key.key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (weir_philox_t){{c0, c1, c2, c3}};
}

/* Uniform in the open interval (0, 1), 32 bits: never 0, never 1. */
static inline double weir_uniform01(uint32_t word) {
    return ((double)word + 0.5) * (1.0 / 4294967296.0);
}

/* Uniform integer in [0, bound), by multiply and shift. bound > 0. */
static inline uint32_t weir_uniform_below(uint32_t word, uint32_t bound) {
    return (uint32_t)(((uint64_t)word * bound) >> 32);
}

/* Inverse of the standard normal distribution, probability in (0, 1), relative error 1e-15
 * (Wichura, algorithm AS 241, PPND16). */
double weir_normal_quantile(double probability);

/* Fill `out` with `count` normals of mean 0 and `sigma`, truncated at two sigma, from the counters
 * (c0, c1, 0.., c3) of `key`: number i is word i % 4 of counter (c0, c1, i / 4, c3). Cost: one
 * quantile per number. Call: local. Threads: any. */
void weir_fill_truncated_normal(weir_rng_key_t key, uint32_t c0, uint32_t c1, uint32_t c3,
                                double sigma, float *out, size_t count);

/* A permutation of 0 .. count-1 into `out`, a pure function of (seed, stream, nonce): Fisher-Yates.
 * count < 2^32. */
void weir_rng_permutation(uint64_t seed, weir_stream_t stream, uint64_t nonce, uint32_t *out,
                          size_t count);

#endif
