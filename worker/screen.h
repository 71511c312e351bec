/* Screening: which candidates surely score above a threshold, which surely below, which are open,
 * from products of 16-bit integers. The open ones are then scored exactly, so that whoever screens
 * gets the bits that scoring everything gives (worker/screen_pass.h).
 *
 * A row u of `width` numbers is scaled by a, to a Euclidean length of WEIR_SCREEN_LENGTH, and
 * rounded to integers u' = a u + r; a candidate v likewise to v' = b v + s. Products of integers
 * are exact: |u'.v'| < 2^30 by Cauchy and Schwarz, which fits 32 bits. With M above all four
 * lengths |a u|, |b v|, |u'|, |v'|, and e = sqrt(width) / 2 + 1/128 above |r| and |s|,
 *     |u'.v' - a b u.v| <= |a u||s| + |r||v'| <= 2 M e.
 * A score in float32 is one chain of `width` fused multiply-adds, which differs from u.v by at most
 * g |u||v|, g = width 2^-24 / (1 - width 2^-24) (Higham, Accuracy and Stability of Numerical
 * Algorithms, 3.1), and by what flushing denormals costs: with lengths from 2^-20 to 2^60 less
 * than 1 in units of a b. So
 *     |u'.v' - a b score| <= weir_screen_reach(width) = 2 M e + g M^2 + slack.
 * Rows of other lengths, or with numbers that are not finite, cannot be screened.
 * For the model's float32 build on processors with AVX512_VNNI; others score everything. */
#ifndef WEIR_WORKER_SCREEN_H
#define WEIR_WORKER_SCREEN_H

#include "common/real.h"
#include "worker/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WEIR_SCREEN_TILE = 64,   /* candidates whose answers are the bits of one word */
    WEIR_SCREEN_BLOCK = 512, /* candidates that share a scale */
    WEIR_SCREEN_GROUP = 6,   /* users at a time */
    WEIR_SCREEN_WIDEST = 1024,
    WEIR_SCREEN_CHAINS = 16 /* scores at a time */
};

/* The length that rows are scaled to, and M: above that of every scaled and every rounded row. */
#define WEIR_SCREEN_LENGTH 32700.0
#define WEIR_SCREEN_MOST 32767.0

typedef uint32_t weir_screen_pair_t; /* two 16-bit integers, the even column in the lower half */

/* Pairs of a row. */
static inline size_t weir_screen_pairs(size_t width) {
    return (width + 1) / 2;
}

/* In units of u'.v'; width at most WEIR_SCREEN_WIDEST. */
int32_t weir_screen_reach(size_t width);

/* u'.v' > high: the score is surely above `threshold` (finite or infinite); u'.v' < low: surely
 * below. `scale`: a b. */
void weir_screen_bounds(double threshold, double scale, int32_t reach, int32_t *low, int32_t *high);

/* Bit c: of candidate c. */
typedef struct {
    uint64_t above; /* product > high */
    uint64_t open;  /* low <= product <= high */
    uint64_t count; /* of bits in above */
} weir_screen_answer_t;

typedef struct {
    /* A row as pairs, a zero beside an odd last number; returns its scale a, 0: it cannot be
     * screened and `pairs` says nothing. */
    float (*pack_row)(const float *row, size_t width, weir_screen_pair_t *pairs);

    /* Up to WEIR_SCREEN_BLOCK rows as tiles of weir_screen_pairs(width) x WEIR_SCREEN_TILE pairs,
     * zeros behind them up to a whole tile; returns their common scale b, by the longest row; 0:
     * they cannot be screened. */
    float (*pack_block)(const float *rows, size_t count, size_t width, weir_screen_pair_t *tiles);

    /* WEIR_SCREEN_GROUP rows of pairs against the tile's candidates whose bits are in `there`. */
    void (*compare)(const weir_screen_pair_t *const *group, const weir_screen_pair_t *tile,
                    size_t pairs, const int32_t *lows, const int32_t *highs, uint64_t there,
                    weir_screen_answer_t *answers);

    /* scores[i] = the score of users[i] against items[i], the bits of the kernel score_tile, for
     * WEIR_SCREEN_CHAINS pairs. */
    void (*score)(const float *const *users, const float *const *items, size_t width,
                  float *scores);
} weir_screen_kernels_t;

/* Those that go with `kernels` on this processor; NULL: none. Of level "v4" alone. Call: local.
 * Threads: any. */
const weir_screen_kernels_t *weir_screen_kernels(const weir_kernels_t *kernels);

/* Of this build, whatever the processor. For worker/screen.c alone. */
const weir_screen_kernels_t *weir_screen_kernels_vnni(void);

#endif
