/* AUC and grouped AUC of the kept samples, or AUC of the bins. */
#include "worker/task_metrics_internal.h"

#include <stdlib.h>

static int compare_samples(const void *left, const void *right) {
    const task_sample_t *a = left, *b = right;
    if (a->group != b->group) {
        return a->group < b->group ? -1 : 1;
    }
    if (a->score < b->score || a->score > b->score) {
        return a->score < b->score ? -1 : 1;
    }
    return (a->label > b->label) - (a->label < b->label);
}

static int compare_scores(const void *left, const void *right) {
    const task_sample_t *a = left, *b = right;
    return (a->score > b->score) - (a->score < b->score);
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

static void fill_groups(task_state_t *state, weir_task_result_t *result) {
    double weighted = 0.0, weights = 0.0;
    qsort(state->kept, state->kept_count, sizeof *state->kept, compare_samples);
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

void weir_task_auc_fill(task_state_t *state, weir_task_result_t *result) {
    pairs_t pairs = {0};
    if (state->kept_count > 0) {
        fill_groups(state, result);
    }
    if (state->bins == NULL && state->kept_count > 0) {
        qsort(state->kept, state->kept_count, sizeof *state->kept, compare_scores);
        pairs = count_pairs(state->kept, state->kept_count);
    }
    for (size_t bin = 0; state->bins != NULL && bin < TASK_BINS; bin++) {
        add_tie(&pairs, (double)state->bins[bin][0], (double)state->bins[bin][1]);
    }
    if (pairs.positives > 0.0 && pairs.negatives > 0.0) {
        double all = pairs.positives * pairs.negatives;
        result->auc = pairs.won / all;
        result->auc_error = state->bins != NULL ? 0.5 * pairs.tied / all : 0.0;
    }
}
