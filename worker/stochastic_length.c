#include "worker/stochastic_length.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t weir_length_limit(const weir_length_rule_t *rule) {
    if (rule->alpha <= 0.0) {
        return rule->longest;
    }
    double limit = pow((double)rule->longest, rule->alpha / 2.0);
    double nearest = floor(limit + 0.5); /* 64 to the half is 8, whatever its last bit */
    limit = fabs(limit - nearest) < 1e-9 * nearest ? nearest : floor(limit);
    return limit < 1.0 ? 1 : (size_t)limit;
}

double weir_length_probability(const weir_length_rule_t *rule, size_t n) {
    double limit = (double)weir_length_limit(rule), count = (double)n;
    return count <= limit ? 1.0 : limit * limit / (count * count);
}

/* Greatest key first; equal ones in the order of the events. */
static int compare_draws(const void *left, const void *right) {
    const weir_length_draw_t *a = left, *b = right;
    if (a->key > b->key || a->key < b->key) {
        return a->key < b->key ? 1 : -1;
    }
    return (a->event > b->event) - (a->event < b->event);
}

/* Keys whose greatest T are a weighted choice without replacement: log(u) / weight (Efraimidis,
 * Spirakis, "Weighted random sampling with a reservoir", 2006). */
static void draw_keys(const weir_length_rule_t *rule, const int64_t *times, size_t n,
                      weir_rng_key_t key, uint32_t c0, uint32_t c1, uint32_t c2,
                      weir_length_draw_t *draws) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)(times[n - 1] - times[i]);
    }
    for (size_t i = 0; i < n; i++) {
        weir_philox_t words = weir_philox(key, c0, c1, c2, 1 + (uint32_t)(i / 4));
        double weight = 1.0;
        if (rule->choice == WEIR_LENGTH_TIME && sum > 0.0) {
            weight = fmax(1.0 - (double)(times[n - 1] - times[i]) / sum, 1e-12);
        }
        draws[i] =
            (weir_length_draw_t){log(weir_uniform01(words.word[i % 4])) / weight, (uint32_t)i};
    }
}

size_t weir_length_choose(const weir_length_rule_t *rule, const int64_t *times, size_t n,
                          weir_rng_key_t key, uint32_t c0, uint32_t c1, uint32_t c2,
                          weir_length_draw_t *draws, uint8_t *keep) {
    size_t limit = weir_length_limit(rule);
    double whole = weir_length_probability(rule, n);
    memset(keep, 1, n);
    if (n <= limit || weir_uniform01(weir_philox(key, c0, c1, c2, 0).word[0]) < whole) {
        return n;
    }
    memset(keep, 0, n);
    if (rule->choice == WEIR_LENGTH_RECENT) {
        memset(keep + n - limit, 1, limit);
        return limit;
    }
    draw_keys(rule, times, n, key, c0, c1, c2, draws);
    qsort(draws, n, sizeof *draws, compare_draws);
    for (size_t i = 0; i < limit; i++) {
        keep[draws[i].event] = 1;
    }
    return limit;
}
