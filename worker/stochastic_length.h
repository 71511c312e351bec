/* Stochastic length (Zhai et al., ICML 2024, section 3.3, equation 4): in training a long history
 * is mostly replaced by a subsequence, which is chosen anew each time.
 *
 * T = longest^(alpha / 2), rounded down. A history of n events is kept whole when n <= T, and with
 * probability T^2 / n^2 beyond; else T of its events are kept, in their order. */
#ifndef WEIR_WORKER_STOCHASTIC_LENGTH_H
#define WEIR_WORKER_STOCHASTIC_LENGTH_H

#include "common/rng.h"

#include <stddef.h>
#include <stdint.h>

/* Which T, in the order of ranking.stochastic_choice. */
typedef enum {
    WEIR_LENGTH_RECENT, /* the last */
    WEIR_LENGTH_RANDOM, /* any, each as likely as the others */
    WEIR_LENGTH_TIME /* without replacement, with weights 1 - f_i / sum of f, where f_i is the time
                        from event i to the last one */
} weir_length_choice_t;

typedef struct {
    double alpha;   /* in (1, 2]; 0: every history is kept whole */
    size_t longest; /* events that a history may have */
    weir_length_choice_t choice;
} weir_length_rule_t;

/* T; `longest` when alpha is 0. At least 1. */
size_t weir_length_limit(const weir_length_rule_t *rule);

/* Probability that a history of n events is kept whole. */
double weir_length_probability(const weir_length_rule_t *rule, size_t n);

/* Room for one event while a subsequence is chosen. */
typedef struct {
    double key;
    uint32_t event;
} weir_length_draw_t;

/* keep[i] = 1 for the events that are kept, 0 for others; returns how many. times: n, rising;
 * draws: room for n. Random words: counters (c0, c1, c2, number) of `key`. Call: local. */
size_t weir_length_choose(const weir_length_rule_t *rule, const int64_t *times, size_t n,
                          weir_rng_key_t key, uint32_t c0, uint32_t c1, uint32_t c2,
                          weir_length_draw_t *draws, uint8_t *keep);

#endif
