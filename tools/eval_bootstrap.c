#include "tools/eval_bootstrap.h"

#include "common/file.h"
#include "tools/resample.h"
#include "tools/user_values.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

bool weir_eval_parse_whole(const char *text, uint64_t least, uint64_t most, uint64_t *number) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < least ||
        value > most) {
        return false;
    }
    *number = value;
    return true;
}

static weir_err_t draw(const weir_user_result_t *results, size_t count, size_t samples,
                       uint64_t seed, weir_interval_t *intervals, weir_error_t *error) {
    double *values = malloc((count * WEIR_USER_VALUES + 1) * sizeof *values);
    if (values == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the metrics of %zu users", count);
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < WEIR_USER_VALUES; k++) {
            values[i * WEIR_USER_VALUES + k] = weir_user_value(results[i].rank, k);
        }
    }
    weir_err_t err =
        weir_bootstrap(values, count, WEIR_USER_VALUES, samples, seed, intervals, error);
    free(values);
    return err;
}

weir_err_t weir_eval_bootstrap(const char *run, size_t samples, uint64_t seed, json_t *metrics,
                               weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_user_result_t *results = NULL;
    weir_interval_t intervals[WEIR_USER_VALUES] = {{0}};
    size_t count = 0;
    weir_err_t err = weir_path_join(path, sizeof path, run, "eval-users-test.safetensors", error);
    if (err == WEIR_OK) {
        err = weir_user_results_read(path, &results, &count, error);
    }
    if (err == WEIR_OK && count == 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "there are no users to draw from");
    }
    if (err == WEIR_OK) {
        err = draw(results, count, samples, seed, intervals, error);
    }
    free(results);
    json_t *made = err == WEIR_OK ? json_pack("{s:I,s:I}", "samples", (json_int_t)samples, "seed",
                                              (json_int_t)seed)
                                  : NULL;
    bool done = made != NULL;
    for (size_t k = 0; k < WEIR_USER_VALUES && done; k++) {
        json_t *interval =
            json_pack("{s:f,s:f,s:f,s:f}", "mean", intervals[k].mean, "low", intervals[k].low,
                      "high", intervals[k].high, "deviation", intervals[k].deviation);
        done = json_object_set_new(made, weir_user_value_name(k), interval) == 0;
    }
    if (err == WEIR_OK && (!done || json_object_set(metrics, "intervals", made) != 0)) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for intervals");
    }
    json_decref(made);
    return err;
}

void weir_eval_print_intervals(const char *split, const json_t *metrics) {
    const json_t *intervals = json_object_get(metrics, "intervals");
    if (intervals == NULL) {
        return;
    }
    (void)printf("\n%s, 95%% intervals from %lld drawings of the users\n", split,
                 (long long)json_integer_value(json_object_get(intervals, "samples")));
    for (size_t k = 0; k < WEIR_USER_VALUES; k++) {
        const json_t *interval = json_object_get(intervals, weir_user_value_name(k));
        (void)printf("%-8s  %8.4f  %8.4f .. %.4f\n", weir_user_value_name(k),
                     json_number_value(json_object_get(interval, "mean")),
                     json_number_value(json_object_get(interval, "low")),
                     json_number_value(json_object_get(interval, "high")));
    }
}
