/* task_metrics PARTS MAX_SAMPLES: lines "task group label score" (task 0: binary, 1: a number) on
 * stdin, dealt to PARTS states, which are saved and merged; the results as one JSON object on
 * stdout. */
#include "worker/task_metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_PARTS = 16 };

static weir_err_t count_lines(weir_task_metrics_t **parts, size_t count, weir_error_t *error) {
    unsigned task = 0;
    uint64_t group = 0;
    float label = 0.0f, score = 0.0f;
    weir_err_t err = WEIR_OK;
    for (size_t line = 0;
         err == WEIR_OK && scanf("%u %" SCNu64 " %f %f", &task, &group, &label, &score) == 4;
         line++) {
        err = weir_task_metrics_add(parts[line % count], task, group, label, score, error);
    }
    return err;
}

static weir_err_t merge_parts(weir_task_metrics_t **parts, size_t count, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t i = 1; i < count && err == WEIR_OK; i++) {
        void *bytes = NULL;
        size_t size = 0;
        err = weir_task_metrics_save(parts[i], &bytes, &size, error);
        if (err == WEIR_OK) {
            err = weir_task_metrics_merge_saved(parts[0], bytes, size, error);
        }
        free(bytes);
    }
    return err;
}

static weir_err_t print_results(weir_task_metrics_t *metrics, weir_error_t *error) {
    weir_task_result_t results[2];
    char text[2][1024];
    for (size_t task = 0; task < 2; task++) {
        weir_err_t err = weir_task_metrics_result(metrics, task, &results[task], error);
        if (err != WEIR_OK) {
            return err;
        }
        weir_task_result_to_json(&results[task], text[task], sizeof text[task]);
    }
    (void)printf("{\"binary\": %s, \"number\": %s}\n", text[0], text[1]);
    return WEIR_OK;
}

int main(int argc, char **argv) {
    static const weir_task_kind_t kinds[2] = {WEIR_TASK_BINARY, WEIR_TASK_REGRESSION};
    weir_task_metrics_t *parts[MOST_PARTS] = {NULL};
    weir_error_t error = {0};
    size_t count = argc == 3 ? (size_t)strtoull(argv[1], NULL, 10) : 0;
    size_t most = argc == 3 ? (size_t)strtoull(argv[2], NULL, 10) : 0;
    if (count < 1 || count > MOST_PARTS) {
        return 2;
    }
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < count && err == WEIR_OK; i++) {
        err = weir_task_metrics_create(kinds, 2, most, &parts[i], &error);
    }
    if (err == WEIR_OK) {
        err = count_lines(parts, count, &error);
    }
    if (err == WEIR_OK) {
        err = merge_parts(parts, count, &error);
    }
    if (err == WEIR_OK) {
        err = print_results(parts[0], &error);
    }
    for (size_t i = 0; i < count; i++) {
        weir_task_metrics_destroy(parts[i]);
    }
    if (err != WEIR_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
    }
    return err == WEIR_OK ? 0 : 1;
}
