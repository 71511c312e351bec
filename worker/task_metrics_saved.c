/* States as bytes: a head, and for each task its counts, sums, kept samples and bins. A state that
 * comes from outside is read whole into one of its own before it is merged. */
#include "common/hash.h"
#include "worker/task_metrics_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT64_C(0x0001736B73617477) /* "wtasks", version 1 */

typedef struct {
    uint64_t magic, tasks, max_samples;
} head_t;

typedef struct {
    uint64_t kind, zeros, samples, positives, correct, broken;
    uint64_t kept, bins; /* that follow; bins only those that are not empty */
    int64_t sums[TASK_SUMS][WEIR_EXACT_SUM_DIGITS];
} task_head_t;

typedef struct {
    uint64_t bin, negatives, positives;
} saved_bin_t;

_Static_assert(sizeof(task_sample_t) == 16 && sizeof(saved_bin_t) == 24, "no padding");

static uint64_t count_bins(const task_state_t *state) {
    uint64_t count = 0;
    for (size_t bin = 0; state->bins != NULL && bin < TASK_BINS; bin++) {
        count += (state->bins[bin][0] | state->bins[bin][1]) != 0;
    }
    return count;
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t size) {
    if (size > 0) {
        memcpy(at, bytes, size);
    }
    return at + size;
}

static uint8_t *put_state(uint8_t *at, task_state_t *state, uint64_t bins) {
    task_head_t head = {.kind = (uint64_t)state->kind,
                        .zeros = state->zeros,
                        .samples = state->samples,
                        .positives = state->positives,
                        .correct = state->correct,
                        .broken = state->broken,
                        .kept = state->kept_count,
                        .bins = bins};
    for (size_t sum = 0; sum < TASK_SUMS; sum++) {
        weir_exact_sum_settle(&state->sums[sum]);
        memcpy(head.sums[sum], state->sums[sum].digits, sizeof head.sums[sum]);
    }
    at = put(at, &head, sizeof head);
    at = put(at, state->kept, state->kept_count * sizeof *state->kept);
    for (size_t bin = 0; bins > 0 && bin < TASK_BINS; bin++) {
        if ((state->bins[bin][0] | state->bins[bin][1]) != 0) {
            saved_bin_t saved = {bin, state->bins[bin][0], state->bins[bin][1]};
            at = put(at, &saved, sizeof saved);
        }
    }
    return at;
}

weir_err_t weir_task_metrics_save(weir_task_metrics_t *metrics, void **bytes, size_t *size,
                                  weir_error_t *error) {
    uint64_t bins[WEIR_TASK_LIMIT];
    size_t total = sizeof(head_t);
    for (size_t task = 0; task < metrics->tasks; task++) {
        const task_state_t *state = &metrics->states[task];
        bins[task] = count_bins(state);
        total += sizeof(task_head_t) + state->kept_count * sizeof(task_sample_t) +
                 (size_t)bins[task] * sizeof(saved_bin_t);
    }
    uint8_t *made = malloc(total);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for metrics of %zu bytes", total);
    }
    head_t head = {MAGIC, metrics->tasks, metrics->max_samples};
    uint8_t *at = put(made, &head, sizeof head);
    for (size_t task = 0; task < metrics->tasks; task++) {
        at = put_state(at, &metrics->states[task], bins[task]);
    }
    *bytes = made;
    *size = total;
    return WEIR_OK;
}

/* ---- reading ---- */

typedef struct {
    const uint8_t *at;
    size_t left;
} reader_t;

static bool take(reader_t *reader, void *out, size_t size) {
    if (reader->left < size) {
        return false;
    }
    if (size > 0) {
        memcpy(out, reader->at, size);
    }
    reader->at += size;
    reader->left -= size;
    return true;
}

static bool is_head_sound(const task_head_t *head, const weir_task_metrics_t *metrics,
                          const reader_t *reader) {
    bool sound = head->zeros < 64 && head->positives <= head->samples &&
                 head->correct <= head->samples && head->broken <= head->samples &&
                 head->kept <= metrics->max_samples && head->bins <= TASK_BINS &&
                 head->kept <= reader->left / sizeof(task_sample_t) &&
                 (head->zeros > 0 || head->bins == 0);
    if (head->kind == WEIR_TASK_BINARY) {
        sound = sound && head->kept <= head->samples &&
                (head->zeros > 0 || head->kept == head->samples);
    } else {
        sound = sound && head->kept == 0 && head->zeros == 0;
    }
    for (size_t sum = 0; sum < TASK_SUMS; sum++) {
        for (size_t i = 0; i + 1 < WEIR_EXACT_SUM_DIGITS; i++) {
            sound = sound && (uint64_t)head->sums[sum][i] <= UINT32_MAX;
        }
        int64_t top = head->sums[sum][WEIR_EXACT_SUM_DIGITS - 1];
        sound = sound && top >= INT32_MIN && top <= INT32_MAX;
    }
    return sound;
}

static bool is_sample_sound(const task_sample_t *sample, uint32_t zeros) {
    bool chosen = zeros == 0 || weir_hash64(sample->group) >> (64 - zeros) == 0;
    bool label = fabsf(sample->label) <= 0.0f || fabsf(sample->label - 1.0f) <= 0.0f;
    return chosen && label && fabsf(sample->score) <= WEIR_TASK_LOGIT_LIMIT;
}

static bool take_kept(reader_t *reader, task_state_t *state) {
    uint64_t positives = 0;
    if (!take(reader, state->kept, state->kept_count * sizeof *state->kept)) {
        return false;
    }
    for (size_t i = 0; i < state->kept_count; i++) {
        if (!is_sample_sound(&state->kept[i], state->zeros)) {
            return false;
        }
        positives += state->kept[i].label > 0.5f;
    }
    return state->kind == WEIR_TASK_REGRESSION ||
           (state->zeros > 0 ? positives <= state->positives : positives == state->positives);
}

static bool take_bins(reader_t *reader, task_state_t *state, uint64_t count) {
    uint64_t negatives = state->samples - state->positives, positives = state->positives, next = 0;
    for (uint64_t i = 0; i < count; i++) {
        saved_bin_t saved;
        if (!take(reader, &saved, sizeof saved) || saved.bin < next || saved.bin >= TASK_BINS ||
            saved.negatives > negatives || saved.positives > positives) {
            return false;
        }
        next = saved.bin + 1;
        negatives -= saved.negatives;
        positives -= saved.positives;
        state->bins[saved.bin][0] = saved.negatives;
        state->bins[saved.bin][1] = saved.positives;
    }
    return state->zeros == 0 || (negatives == 0 && positives == 0);
}

static weir_err_t take_state(reader_t *reader, const weir_task_metrics_t *metrics,
                             task_state_t *state, weir_error_t *error) {
    task_head_t head;
    bool sound = take(reader, &head, sizeof head) && is_head_sound(&head, metrics, reader) &&
                 head.kind == (uint64_t)state->kind;
    if (sound) {
        state->zeros = (uint32_t)head.zeros;
        state->samples = head.samples;
        state->positives = head.positives;
        state->correct = head.correct;
        state->broken = head.broken;
        state->kept_count = state->kept_capacity = (size_t)head.kept;
        for (size_t sum = 0; sum < TASK_SUMS; sum++) {
            memcpy(state->sums[sum].digits, head.sums[sum], sizeof head.sums[sum]);
        }
        state->kept = malloc((state->kept_count + 1) * sizeof *state->kept);
        state->bins = state->zeros > 0 ? calloc(TASK_BINS, sizeof *state->bins) : NULL;
        if (state->kept == NULL || (state->zeros > 0 && state->bins == NULL)) {
            state->kept_count = 0;
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to merge metrics");
        }
        sound = take_kept(reader, state) && take_bins(reader, state, head.bins);
    }
    return sound ? WEIR_OK
                 : weir_errorf(error, WEIR_ERR_CORRUPT,
                               "saved metrics are damaged, or of other tasks than these");
}

weir_err_t weir_task_metrics_merge_saved(weir_task_metrics_t *metrics, const void *bytes,
                                         size_t size, weir_error_t *error) {
    reader_t reader = {bytes, size};
    head_t head;
    weir_task_kind_t kinds[WEIR_TASK_LIMIT];
    weir_task_metrics_t *other = NULL;
    if (!take(&reader, &head, sizeof head) || head.magic != MAGIC || head.tasks != metrics->tasks ||
        head.max_samples != metrics->max_samples) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%zu bytes that are no saved metrics of these",
                           size);
    }
    for (size_t task = 0; task < metrics->tasks; task++) {
        kinds[task] = metrics->states[task].kind;
    }
    weir_err_t err =
        weir_task_metrics_create(kinds, metrics->tasks, metrics->max_samples, &other, error);
    for (size_t task = 0; err == WEIR_OK && task < metrics->tasks; task++) {
        err = take_state(&reader, metrics, &other->states[task], error);
    }
    if (err == WEIR_OK && reader.left > 0) {
        err = weir_errorf(error, WEIR_ERR_CORRUPT, "saved metrics with %zu bytes too many",
                          reader.left);
    }
    if (err == WEIR_OK) {
        err = weir_task_metrics_merge(metrics, other, error);
    }
    weir_task_metrics_destroy(other);
    return err;
}
