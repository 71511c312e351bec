/* How much of histories does training not see under stochastic length, by alpha and longest
 * history?
 *
 *   bench_stochastic_length DATA
 *
 * Table 3 of Zhai et al. (ICML 2024) in its form, for the users of a prepared folder, each with all
 * events as the history. By the law of worker/stochastic_length.h: *sparsity*, 1 - mean length /
 * longest history; shares of events and of pairs (query, key) left out beside whole histories,
 * which alpha 2 is. Verified first: events that three draws of every user keep, one for each
 * choice, against the law within six standard deviations. One JSON line a cell; nothing is timed.
 */
#include "common/dataset.h"
#include "common/version.h"
#include "worker/stochastic_length.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ALPHAS = 5, LENGTHS = 4, CHOICES = 3, LONGEST = 8192 };
static const double alphas[ALPHAS] = {1.6, 1.7, 1.8, 1.9, 2.0};
static const size_t lengths[LENGTHS] = {1024, 2048, 4096, LONGEST};

typedef struct {
    double events, pairs, whole_events, whole_pairs; /* expected of all users; without the rule */
    double variance;                                 /* of the events of one draw of all users */
} expected_t;

static void stop(const char *what) {
    (void)fprintf(stderr, "bench_stochastic_length: %s\n", what);
    exit(EXIT_FAILURE);
}

/* The last `longest` events of a user. */
static weir_user_events_t history(const weir_dataset_t *dataset, uint64_t user, size_t longest) {
    weir_user_events_t events = weir_dataset_user(dataset, user);
    if (events.count > longest) {
        events.times += events.count - longest;
        events.count = longest;
    }
    return events;
}

static double pairs_of(double events) {
    return events * (events + 1.0) / 2.0;
}

static expected_t expect(const weir_dataset_t *dataset, const weir_length_rule_t *rule) {
    expected_t sum = {0};
    for (uint64_t user = 0; user < weir_dataset_users(dataset); user++) {
        size_t count = history(dataset, user, rule->longest).count;
        double n = (double)count, whole = weir_length_probability(rule, count);
        double cut = fmin(n, (double)weir_length_limit(rule));
        sum.events += whole * n + (1.0 - whole) * cut;
        sum.pairs += whole * pairs_of(n) + (1.0 - whole) * pairs_of(cut);
        sum.variance += whole * (1.0 - whole) * (n - cut) * (n - cut);
        sum.whole_events += n;
        sum.whole_pairs += pairs_of(n);
    }
    return sum;
}

static void verify(const weir_dataset_t *dataset, weir_length_rule_t rule, expected_t expected) {
    static weir_length_draw_t draws[LONGEST];
    static uint8_t keep[LONGEST];
    for (uint32_t draw = 0; draw < CHOICES; draw++) {
        double kept = 0.0;
        rule.choice = (weir_length_choice_t)draw;
        for (uint64_t user = 0; user < weir_dataset_users(dataset); user++) {
            weir_user_events_t events = history(dataset, user, rule.longest);
            size_t told = weir_length_choose(&rule, events.times, events.count,
                                             weir_rng_key(1, WEIR_STREAM_LENGTH), (uint32_t)user,
                                             (uint32_t)(user >> 32), draw, draws, keep);
            if (told != events.count && told != weir_length_limit(&rule)) {
                stop("not verified: a history is neither whole nor of the law's length");
            }
            for (size_t i = 0; i < events.count; i++) {
                kept += keep[i];
                told -= keep[i];
            }
            if (told != 0) {
                stop("not verified: another number of events is told than kept");
            }
        }
        if (fabs(kept - expected.events) > 6.0 * sqrt(expected.variance) + 1e-6 * expected.events) {
            stop("not verified: draws keep another number of events than the law says");
        }
    }
}

int main(int argc, char **argv) {
    weir_dataset_t *dataset = NULL;
    weir_error_t error = {0};
    if (argc != 2) {
        stop("usage: bench_stochastic_length DATA");
    }
    if (weir_dataset_open(argv[1], &dataset, &error) != WEIR_OK) {
        stop(error.message);
    }
    double users = (double)weir_dataset_users(dataset);
    for (size_t length = 0; length < LENGTHS; length++) {
        for (size_t alpha = 0; alpha < ALPHAS; alpha++) {
            const weir_length_rule_t rule = {.alpha = alphas[alpha], .longest = lengths[length]};
            expected_t expected = expect(dataset, &rule);
            verify(dataset, rule, expected);
            (void)printf("{\"bench\": \"stochastic_length\", \"longest\": %zu, \"alpha\": %.1f, "
                         "\"limit\": %zu, \"sparsity\": %.4f, \"events_left_out\": %.4f, "
                         "\"pairs_left_out\": %.4f, \"users\": %.0f, \"version\": \"%s\"}\n",
                         rule.longest, rule.alpha, weir_length_limit(&rule),
                         1.0 - expected.events / users / (double)rule.longest,
                         1.0 - expected.events / expected.whole_events,
                         1.0 - expected.pairs / expected.whole_pairs, users, WEIR_VERSION);
        }
    }
    weir_dataset_close(dataset);
    return EXIT_SUCCESS;
}
