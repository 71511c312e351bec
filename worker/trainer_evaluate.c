/* A trainer that evaluates a checkpoint in place of training: eval.json. */
#include "common/file.h"
#include "worker/evaluate_full.h"
#include "worker/trainer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a ranking model. */
static weir_err_t evaluate_ranking_only(weir_trainer_t *trainer, const char *path,
                                        weir_error_t *error) {
    enum { ROOM = 40000 };
    bool validation = trainer->options.config->eval.validation;
    weir_ranking_metrics_t *metrics = calloc(2, sizeof *metrics);
    char *text = malloc(ROOM);
    weir_err_t err =
        metrics != NULL && text != NULL
            ? weir_trainer_measure_ranking(trainer, WEIR_SPLIT_TEST, &metrics[0], error)
            : weir_errorf(error, WEIR_ERR_MEMORY, "no memory for metrics");
    if (err == WEIR_OK && validation) {
        err = weir_trainer_measure_ranking(trainer, WEIR_SPLIT_VALIDATION, &metrics[1], error);
    }
    if (err == WEIR_OK && trainer->worker == 0) {
        int length =
            snprintf(text, ROOM, "{\"step\": %llu, \"epoch\": %.6f, \"splits\": {",
                     (unsigned long long)trainer->state.step, weir_trainer_epochs_done(trainer));
        for (size_t i = 0; i < (validation ? 2 : 1); i++) {
            /* The means are an object of their own: its brace is opened, and closed by the tasks.
             */
            length += snprintf(
                text + length, (size_t)(ROOM - length), "%s\"%s\": %.*s, %s}", i > 0 ? ", " : "",
                weir_split_name(i == 0 ? WEIR_SPLIT_TEST : WEIR_SPLIT_VALIDATION),
                (int)strlen(metrics[i].means) - 1, metrics[i].means, metrics[i].tasks);
        }
        length += snprintf(text + length, (size_t)(ROOM - length), "}}\n");
        err = weir_file_replace(path, text, (size_t)length, error);
    }
    free(metrics);
    free(text);
    return err;
}

/* Worker 0 writes to `out`; the others are given one too, and leave it empty. */
static weir_err_t evaluate_splits(weir_trainer_t *trainer, FILE *out, weir_error_t *error) {
    const weir_evaluate_parts_t parts = weir_trainer_evaluate_parts(trainer);
    const weir_split_t splits[] = {WEIR_SPLIT_TEST, WEIR_SPLIT_VALIDATION};
    bool first = trainer->worker == 0;
    weir_err_t err = WEIR_OK;
    if (first) {
        (void)fprintf(out, "{\"step\": %llu, \"epoch\": %.6f, \"splits\": {",
                      (unsigned long long)trainer->state.step, weir_trainer_epochs_done(trainer));
    }
    for (uint32_t i = 0; i < (parts.config->eval.validation ? 2U : 1U) && err == WEIR_OK; i++) {
        if (first) {
            (void)fprintf(out, "%s\"%s\": ", i > 0 ? ", " : "", weir_split_name(splits[i]));
        }
        err = weir_evaluate_full(
            &parts, weir_dense_parameters(trainer->dense), splits[i], trainer->state.step,
            SEQUENCE_FULL + i * WEIR_EVALUATE_FULL_SEQUENCES, trainer->options.run, out, error);
    }
    if (first) {
        (void)fputs("}}\n", out);
    }
    return err;
}

weir_err_t weir_trainer_evaluate_only(weir_trainer_t *trainer, const char *path,
                                      weir_error_t *error) {
    char *text = NULL;
    size_t size = 0;
    weir_trainer_publish(trainer, WEIR_PHASE_EVALUATING, 0.0, 0.0);
    if (trainer->ranking != NULL) {
        return evaluate_ranking_only(trainer, path, error);
    }
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for metrics");
    }
    weir_err_t err = evaluate_splits(trainer, out, error);
    bool whole = fclose(out) == 0;
    if (err == WEIR_OK && !whole) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for metrics");
    }
    if (err == WEIR_OK && trainer->worker == 0) {
        err = weir_file_replace(path, text, size, error);
    }
    free(text);
    return err;
}
