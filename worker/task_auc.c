/* AUC and grouped AUC of the kept samples, or AUC of the bins. */
#include "worker/task_metrics_internal.h"

#include <stdlib.h>
#include <string.h>

enum { DIGITS = 256, SCORE_BYTES = 4, GROUP_BYTES = 8 };

/* Byte `byte` of a sample's score, its lowest first, or of its group: in order as unsigned. */
static size_t digit_of(const task_sample_t *sample, bool group, unsigned byte) {
    uint32_t bits = 0;
    if (group) {
        return sample->group >> (8 * byte) & (DIGITS - 1);
    }
    memcpy(&bits, &sample->score, sizeof bits);
    bits = bits >> 31 != 0 ? ~bits : bits | UINT32_C(1) << 31;
    return bits >> (8 * byte) & (DIGITS - 1);
}

/* Stable sort by score or group, byte by byte; `spare` has as much room as there is. */
static void sort_samples(task_state_t *state, bool group, task_sample_t *spare) {
    size_t count = state->kept_count;
    task_sample_t *from = state->kept, *to = spare;
    for (unsigned byte = 0; byte < (group ? GROUP_BYTES : SCORE_BYTES); byte++) {
        size_t places[DIGITS + 1] = {0};
        for (size_t i = 0; i < count; i++) {
            places[digit_of(&from[i], group, byte) + 1]++;
        }
        if (places[digit_of(&from[0], group, byte) + 1] == count) {
            continue; /* the same in all */
        }
        for (size_t digit = 0; digit < DIGITS; digit++) {
            places[digit + 1] += places[digit];
        }
        for (size_t i = 0; i < count; i++) {
            to[places[digit_of(&from[i], group, byte)]++] = from[i];
        }
        task_sample_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != state->kept) {
        memcpy(state->kept, from, count * sizeof *from);
    }
}

/* Samples of the two labels whose scores are equal, lowest scores first. */
typedef struct {
    double negatives, positives; /* so far */
    double won;                  /* pairs in the right order, ties a half; a multiple of 1/2 */
    double tied;                 /* pairs of equal scores */
} pairs_t;

static void add_tie(pairs_t *pairs, double negatives, double positives) {
    pairs->won += positives * (pairs->negatives + 0.5 * negatives);
    pairs->tied += positives * negatives;
    pairs->negatives += negatives;
    pairs->positives += positives;
}

/* Pairs of samples sorted by score. */
static pairs_t count_pairs(const task_sample_t *samples, size_t count) {
    pairs_t pairs = {0};
    for (size_t begin = 0, end = 0; begin < count; begin = end) {
        double positives = 0.0;
        for (end = begin; end < count && samples[end].score <= samples[begin].score; end++) {
            positives += samples[end].label > 0.5f ? 1.0 : 0.0;
        }
        add_tie(&pairs, (double)(end - begin) - positives, positives);
    }
    return pairs;
}

/* Of samples sorted by group, and in it by score. */
static void fill_groups(task_state_t *state, weir_task_result_t *result) {
    double weighted = 0.0, weights = 0.0;
    for (size_t begin = 0, end = 0; begin < state->kept_count; begin = end) {
        end = begin;
        while (end < state->kept_count && state->kept[end].group == state->kept[begin].group) {
            end++;
        }
        pairs_t pairs = count_pairs(state->kept + begin, end - begin);
        if (pairs.positives > 0.0 && pairs.negatives > 0.0) {
            double weight = (double)(end - begin);
            weighted += weight * (pairs.won / (pairs.positives * pairs.negatives));
            weights += weight;
            result->groups++;
        }
    }
    if (result->groups > 0) {
        result->grouped_auc = weighted / weights;
    }
}

weir_err_t weir_task_auc_fill(task_state_t *state, weir_task_result_t *result,
                              weir_error_t *error) {
    pairs_t pairs = {0};
    if (state->kept_count > 0) {
        task_sample_t *spare = malloc(state->kept_count * sizeof *spare);
        if (spare == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to sort %zu samples of a task",
                               state->kept_count);
        }
        sort_samples(state, false, spare);
        pairs = count_pairs(state->kept, state->kept_count);
        sort_samples(state, true, spare);
        fill_groups(state, result);
        free(spare);
    }
    if (state->bins != NULL) {
        pairs = (pairs_t){0};
    }
    for (size_t bin = 0; state->bins != NULL && bin < TASK_BINS; bin++) {
        add_tie(&pairs, (double)state->bins[bin][0], (double)state->bins[bin][1]);
    }
    if (pairs.positives > 0.0 && pairs.negatives > 0.0) {
        double all = pairs.positives * pairs.negatives;
        result->auc = pairs.won / all;
        result->auc_error = state->bins != NULL ? 0.5 * pairs.tied / all : 0.0;
    }
    return WEIR_OK;
}
