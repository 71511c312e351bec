#include "common/hash.h"
#include "worker/task_metrics_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

weir_err_t weir_task_metrics_create(const weir_task_kind_t *kinds, size_t tasks, size_t max_samples,
                                    weir_task_metrics_t **metrics, weir_error_t *error) {
    if (tasks == 0 || tasks > WEIR_TASK_LIMIT || max_samples == 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "metrics of %zu tasks and %zu samples: expected 1 to %d tasks, 1 sample",
                           tasks, max_samples, WEIR_TASK_LIMIT);
    }
    weir_task_metrics_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the metrics of %zu tasks", tasks);
    }
    made->tasks = tasks;
    made->max_samples = max_samples;
    for (size_t task = 0; task < tasks; task++) {
        made->states[task].kind = kinds[task];
    }
    *metrics = made;
    return WEIR_OK;
}

void weir_task_metrics_destroy(weir_task_metrics_t *metrics) {
    if (metrics == NULL) {
        return;
    }
    for (size_t task = 0; task < metrics->tasks; task++) {
        free(metrics->states[task].kept);
        free(metrics->states[task].bins);
    }
    free(metrics);
}

/* ---- samples of AUC ---- */

static bool is_chosen(uint64_t group, uint32_t zeros) {
    return zeros == 0 || weir_hash64(group) >> (64 - zeros) == 0;
}

/* Floats in order as unsigned numbers; their upper bits. 0 and -0 are equal scores. */
static size_t bin_of_score(float score) {
    uint32_t bits = 0;
    float value = score + 0.0f;
    memcpy(&bits, &value, sizeof bits);
    bits = bits >> 31 != 0 ? ~bits : bits | UINT32_C(1) << 31;
    return bits >> TASK_BIN_SHIFT;
}

weir_err_t weir_task_metrics_thin(task_state_t *state, uint32_t zeros, weir_error_t *error) {
    if (zeros > 0 && state->bins == NULL) {
        state->bins = calloc(TASK_BINS, sizeof *state->bins);
        if (state->bins == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the bins of a task's scores");
        }
        for (size_t i = 0; i < state->kept_count; i++) {
            state->bins[bin_of_score(state->kept[i].score)][state->kept[i].label > 0.5f]++;
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < state->kept_count; i++) {
        if (is_chosen(state->kept[i].group, zeros)) {
            state->kept[kept++] = state->kept[i];
        }
    }
    state->kept_count = kept;
    state->zeros = zeros;
    return WEIR_OK;
}

static weir_err_t grow_kept(const weir_task_metrics_t *metrics, task_state_t *state,
                            weir_error_t *error) {
    size_t capacity = state->kept_capacity + state->kept_capacity / 2 + 1024;
    capacity = capacity < metrics->max_samples ? capacity : metrics->max_samples;
    task_sample_t *kept = realloc(state->kept, capacity * sizeof *kept);
    if (kept == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu samples of a task", capacity);
    }
    state->kept = kept;
    state->kept_capacity = capacity;
    return WEIR_OK;
}

weir_err_t weir_task_metrics_keep(weir_task_metrics_t *metrics, task_state_t *state,
                                  task_sample_t sample, bool counted, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    while (err == WEIR_OK && is_chosen(sample.group, state->zeros) &&
           state->kept_count == metrics->max_samples && state->zeros < 63) {
        err = weir_task_metrics_thin(state, state->zeros + 1, error);
    }
    if (err == WEIR_OK && is_chosen(sample.group, state->zeros) &&
        state->kept_count < metrics->max_samples) {
        if (state->kept_count == state->kept_capacity) {
            err = grow_kept(metrics, state, error);
        }
        if (err == WEIR_OK) {
            state->kept[state->kept_count++] = sample;
        }
    }
    if (err == WEIR_OK && state->bins != NULL && !counted) {
        state->bins[bin_of_score(sample.score)][sample.label > 0.5f]++;
    }
    return err;
}

/* ---- counting ---- */

static void add_number(task_state_t *state, float label, float score) {
    state->samples++;
    if (!isfinite(score)) {
        state->broken++;
        return;
    }
    double difference = (double)score - (double)label;
    weir_exact_sum_add(&state->sums[TASK_SUM_LABEL], (double)label);
    weir_exact_sum_add(&state->sums[TASK_SUM_SCORE], (double)score);
    weir_exact_sum_add(&state->sums[TASK_SUM_LOSS], difference * difference);
    weir_exact_sum_add(&state->sums[TASK_SUM_ERROR], fabs(difference));
}

static float usable_logit(task_state_t *state, bool positive, float score) {
    if (isnan(score)) {
        state->broken++;
        return positive ? -WEIR_TASK_LOGIT_LIMIT : WEIR_TASK_LOGIT_LIMIT;
    }
    return fmaxf(fminf(score, WEIR_TASK_LOGIT_LIMIT), -WEIR_TASK_LOGIT_LIMIT);
}

weir_err_t weir_task_metrics_add(weir_task_metrics_t *metrics, size_t task, uint64_t group,
                                 float label, float score, weir_error_t *error) {
    if (task >= metrics->tasks) {
        return weir_errorf(error, WEIR_ERR_INVALID, "task %zu of %zu", task, metrics->tasks);
    }
    task_state_t *state = &metrics->states[task];
    bool positive = label > 0.5f;
    if (!isfinite(label) ||
        (state->kind == WEIR_TASK_BINARY && fabsf(label - (positive ? 1.0f : 0.0f)) > 0.0f)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "task %zu: a label of %g", task, (double)label);
    }
    if (state->kind == WEIR_TASK_REGRESSION) {
        add_number(state, label, score);
        return WEIR_OK;
    }
    float logit = usable_logit(state, positive, score) + 0.0f;
    weir_err_t err = weir_task_metrics_keep(
        metrics, state, (task_sample_t){.group = group, .label = label, .score = logit}, false,
        error);
    if (err != WEIR_OK) {
        return err;
    }
    double z = (double)logit, wrong = positive ? -z : z; /* loss: log(1 + exp(wrong)) */
    state->samples++;
    state->positives += positive;
    state->correct += positive == (logit > 0.0f);
    weir_exact_sum_add(&state->sums[TASK_SUM_SCORE], 1.0 / (1.0 + exp(-z)));
    weir_exact_sum_add(&state->sums[TASK_SUM_LOSS], fmax(wrong, 0.0) + log1p(exp(-fabs(wrong))));
    return WEIR_OK;
}

/* ---- merging ---- */

static weir_err_t merge_state(weir_task_metrics_t *metrics, task_state_t *state,
                              task_state_t *other, weir_error_t *error) {
    uint32_t zeros = state->zeros > other->zeros ? state->zeros : other->zeros;
    weir_err_t err = WEIR_OK;
    if (zeros > 0) { /* samples of both into bins, then the bins together */
        err = weir_task_metrics_thin(state, zeros, error);
        if (err == WEIR_OK) {
            err = weir_task_metrics_thin(other, zeros, error);
        }
        for (size_t bin = 0; err == WEIR_OK && bin < TASK_BINS; bin++) {
            state->bins[bin][0] += other->bins[bin][0];
            state->bins[bin][1] += other->bins[bin][1];
        }
    }
    for (size_t i = 0; err == WEIR_OK && i < other->kept_count; i++) {
        err = weir_task_metrics_keep(metrics, state, other->kept[i], zeros > 0, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    state->samples += other->samples;
    state->positives += other->positives;
    state->correct += other->correct;
    state->broken += other->broken;
    for (size_t sum = 0; sum < TASK_SUMS; sum++) {
        weir_exact_sum_merge(&state->sums[sum], &other->sums[sum]);
    }
    return WEIR_OK;
}

weir_err_t weir_task_metrics_merge(weir_task_metrics_t *metrics, weir_task_metrics_t *other,
                                   weir_error_t *error) {
    bool same = metrics->tasks == other->tasks && metrics->max_samples == other->max_samples;
    for (size_t task = 0; same && task < metrics->tasks; task++) {
        same = metrics->states[task].kind == other->states[task].kind;
    }
    if (!same) {
        return weir_errorf(error, WEIR_ERR_INVALID, "metrics of other tasks cannot be merged");
    }
    for (size_t task = 0; task < metrics->tasks; task++) {
        weir_err_t err = merge_state(metrics, &metrics->states[task], &other->states[task], error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    return WEIR_OK;
}

/* ---- results ---- */

static weir_err_t fill_binary(task_state_t *state, double samples, weir_task_result_t *result,
                              weir_error_t *error) {
    double positives = (double)state->positives, rate = positives / samples;
    result->log_loss = weir_exact_sum_value(&state->sums[TASK_SUM_LOSS]) / samples;
    result->accuracy = (double)state->correct / samples;
    if (state->positives > 0) {
        result->calibration = weir_exact_sum_value(&state->sums[TASK_SUM_SCORE]) / positives;
    }
    if (state->positives > 0 && state->positives < state->samples) {
        result->ne = result->log_loss / (-rate * log(rate) - (1.0 - rate) * log1p(-rate));
    }
    return weir_task_auc_fill(state, result, error);
}

weir_err_t weir_task_metrics_result(weir_task_metrics_t *metrics, size_t task,
                                    weir_task_result_t *result, weir_error_t *error) {
    if (task >= metrics->tasks) {
        return weir_errorf(error, WEIR_ERR_INVALID, "task %zu of %zu", task, metrics->tasks);
    }
    task_state_t *state = &metrics->states[task];
    weir_err_t err = WEIR_OK;
    weir_task_result_t made = {.kind = state->kind,
                               .samples = state->samples,
                               .positives = state->positives,
                               .broken = state->broken,
                               .label_mean = (double)NAN,
                               .score_mean = (double)NAN,
                               .log_loss = (double)NAN,
                               .ne = (double)NAN,
                               .accuracy = (double)NAN,
                               .calibration = (double)NAN,
                               .auc = (double)NAN,
                               .grouped_auc = (double)NAN,
                               .grouped_share = ldexp(1.0, -(int)state->zeros),
                               .mse = (double)NAN,
                               .mae = (double)NAN};
    if (state->samples > 0 && (state->kind == WEIR_TASK_BINARY || state->broken == 0)) {
        double samples = (double)state->samples;
        made.label_mean = state->kind == WEIR_TASK_BINARY
                              ? (double)state->positives / samples
                              : weir_exact_sum_value(&state->sums[TASK_SUM_LABEL]) / samples;
        made.score_mean = weir_exact_sum_value(&state->sums[TASK_SUM_SCORE]) / samples;
        if (state->kind == WEIR_TASK_BINARY) {
            err = fill_binary(state, samples, &made, error);
        } else {
            made.mse = weir_exact_sum_value(&state->sums[TASK_SUM_LOSS]) / samples;
            made.mae = weir_exact_sum_value(&state->sums[TASK_SUM_ERROR]) / samples;
        }
    }
    if (err == WEIR_OK) {
        *result = made;
    }
    return err;
}

static size_t print_number(char *out, size_t room, const char *name, double value) {
    int size = isfinite(value) ? snprintf(out, room, ", \"%s\": %.8g", name, value)
                               : snprintf(out, room, ", \"%s\": null", name);
    return (size_t)size;
}

void weir_task_result_to_json(const weir_task_result_t *result, char *out, size_t capacity) {
    char text[1024]; /* names and fewer than 16 numbers of at most 24 characters */
    size_t room = sizeof text;
    size_t used =
        (size_t)snprintf(text, room, "{\"samples\": %llu, \"broken\": %llu",
                         (unsigned long long)result->samples, (unsigned long long)result->broken);
    used += print_number(text + used, room - used, "label_mean", result->label_mean);
    used += print_number(text + used, room - used, "score_mean", result->score_mean);
    if (result->kind == WEIR_TASK_REGRESSION) {
        used += print_number(text + used, room - used, "mse", result->mse);
        used += print_number(text + used, room - used, "mae", result->mae);
    } else {
        used += print_number(text + used, room - used, "ne", result->ne);
        used += print_number(text + used, room - used, "auc", result->auc);
        used += print_number(text + used, room - used, "auc_error", result->auc_error);
        used += print_number(text + used, room - used, "grouped_auc", result->grouped_auc);
        used += print_number(text + used, room - used, "grouped_share", result->grouped_share);
        used += print_number(text + used, room - used, "groups", (double)result->groups);
        used += print_number(text + used, room - used, "log_loss", result->log_loss);
        used += print_number(text + used, room - used, "accuracy", result->accuracy);
        used += print_number(text + used, room - used, "calibration", result->calibration);
    }
    (void)snprintf(text + used, room - used, "}");
    if (capacity > 0) {
        (void)snprintf(out, capacity, "%s", text);
    }
}
