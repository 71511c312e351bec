/* What a trainer does otherwise when its model ranks: forward and loss of sessions, and metrics of
 * tasks in the place of ranks among the catalogue. */
#include "common/trace.h"
#include "ps/model_tables.h"
#include "worker/task_gather.h"
#include "worker/trainer_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXACT_SAMPLES = 1 << 20 }; /* up to so many a task AUC is exact: 16 MiB */

static const weir_ranking_train_batch_t *whole(const weir_train_batch_t *batch) {
    return (
        const weir_ranking_train_batch_t *)(const void *)batch; /* `train` is its first member */
}

uint64_t weir_trainer_predictions(const weir_trainer_t *trainer, const weir_train_batch_t *batch) {
    return trainer->ranking == NULL ? batch->predictions : whole(batch)->ranking.predictions;
}

weir_err_t weir_trainer_create_ranking(weir_trainer_t *trainer, weir_error_t *error) {
    const weir_config_t *config = trainer->options.config;
    const weir_batch_reader_options_t options = {.dataset = trainer->options.dataset,
                                                 .worker = trainer->worker,
                                                 .workers = trainer->workers,
                                                 .alive = trainer->ahead + 2};
    weir_ranking_config_t model = weir_ranking_of_config(config, trainer->options.dataset);
    weir_err_t err = weir_ranking_create(&model, &trainer->ranking, error);
    if (err == WEIR_OK) {
        trainer->tasks = model.tasks;
        trainer->parameters = weir_ranking_parameters(&model);
        err = weir_ranking_reader_create(config, &options, &trainer->ranking_reader, error);
    }
    return err;
}

static weir_err_t reserve_logits(weir_trainer_t *trainer, size_t predictions, weir_error_t *error) {
    size_t needed = predictions * trainer->tasks;
    if (needed > trainer->logit_capacity) {
        float *grown = realloc(trainer->logits, (needed + needed / 10) * sizeof *grown);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu predictions",
                               predictions);
        }
        trainer->logits = grown;
        trainer->logit_capacity = needed + needed / 10;
    }
    return WEIR_OK;
}

weir_err_t weir_trainer_rank(weir_trainer_t *trainer, const weir_train_batch_t *batch,
                             double *loss_sum, weir_error_t *error) {
    const weir_ranking_train_batch_t *ranking = whole(batch);
    const weir_forward_mode_t mode = {
        .train = true, .seed = (uint64_t)trainer->options.config->train.seed, .step = batch->step};
    double scale = 1.0 / (double)ranking->global_predictions, loss = 0.0;
    weir_err_t err = reserve_logits(trainer, ranking->ranking.predictions, error);
    int64_t begun = weir_trace_begin();
    if (err == WEIR_OK) {
        err = weir_ranking_forward(trainer->ranking, weir_dense_parameters(trainer->dense),
                                   &ranking->ranking, trainer->rows, mode, trainer->logits, error);
    }
    weir_trace_end(begun, "forward", batch->step, WEIR_TRACE_NOBODY);
    begun = weir_trace_begin();
    if (err == WEIR_OK) {
        err = weir_ranking_backward(trainer->ranking, ranking->labels, scale, &loss,
                                    trainer->d_rows, weir_dense_gradients(trainer->dense),
                                    weir_dense_ready, trainer->dense, error);
    }
    weir_trace_end(begun, "backward", batch->step, WEIR_TRACE_NOBODY);
    *loss_sum = loss / scale;
    return err;
}

/* ---- evaluation ---- */

typedef struct {
    weir_trainer_t *trainer;
    weir_task_metrics_t *metrics;
    float *rows;
    size_t row_capacity;
} measuring_t;

static weir_err_t measure_batch(measuring_t *measuring, const weir_ranking_test_t *tests,
                                size_t count, weir_error_t *error) {
    weir_trainer_t *trainer = measuring->trainer;
    const weir_forward_mode_t mode = {.train = false};
    const weir_ranking_train_batch_t *batch = NULL;
    size_t tasks = trainer->tasks;
    size_t dim = (size_t)trainer->options.config->model.embedding_dim;
    weir_err_t err = weir_ranking_read_tests(trainer->ranking_reader, tests, count, &batch, error);
    if (err != WEIR_OK || batch->ranking.predictions == 0) {
        return err;
    }
    if (batch->train.key_count > measuring->row_capacity) {
        free(measuring->rows);
        measuring->row_capacity = batch->train.key_count + batch->train.key_count / 10;
        measuring->rows = malloc(measuring->row_capacity * dim * sizeof *measuring->rows);
        if (measuring->rows == NULL) {
            measuring->row_capacity = 0;
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu rows",
                               batch->train.key_count);
        }
    }
    err = reserve_logits(trainer, batch->ranking.predictions, error);
    if (err == WEIR_OK) {
        err = weir_ps_client_peek(trainer->options.client, WEIR_MODEL_ITEM_TABLE, batch->train.keys,
                                  batch->train.key_count, measuring->rows, error);
    }
    if (err == WEIR_OK) {
        err = weir_ranking_forward(trainer->ranking, weir_dense_parameters(trainer->dense),
                                   &batch->ranking, measuring->rows, mode, trainer->logits, error);
    }
    for (size_t i = 0; i < batch->ranking.predictions * tasks && err == WEIR_OK; i++) {
        err = weir_task_metrics_add(measuring->metrics, i % tasks, batch->groups[i / tasks],
                                    batch->labels[i], trainer->logits[i], error);
    }
    return err;
}

static weir_err_t measure_users(measuring_t *measuring, bool validation, weir_error_t *error) {
    weir_trainer_t *trainer = measuring->trainer;
    uint64_t all = weir_dataset_users(trainer->options.dataset);
    weir_read_ahead_rest(trainer->read_ahead); /* its reader is needed here */
    size_t at_once = (size_t)trainer->options.config->eval.batch_users, count = 0;
    weir_ranking_test_t *tests = calloc(at_once, sizeof *tests);
    weir_err_t err = tests != NULL ? WEIR_OK
                                   : weir_errorf(error, WEIR_ERR_MEMORY,
                                                 "no memory to evaluate %zu sessions", at_once);
    for (uint64_t user = trainer->worker; user < all && err == WEIR_OK; user += trainer->workers) {
        size_t first = 0;
        size_t sessions = weir_ranking_tests(trainer->ranking_reader, user, validation, &first);
        for (size_t i = 0; i < sessions && err == WEIR_OK; i++) {
            tests[count++] = (weir_ranking_test_t){user, first + i};
            if (count == at_once) {
                err = measure_batch(measuring, tests, count, error);
                count = 0;
            }
        }
    }
    if (err == WEIR_OK && count > 0) {
        err = measure_batch(measuring, tests, count, error);
    }
    free(tests);
    return err;
}

/* Results of all tasks, and their means over the tasks that have both labels. */
static weir_err_t sum_up(weir_task_metrics_t *metrics, size_t tasks, weir_ranking_metrics_t *into,
                         weir_error_t *error) {
    double ne = 0.0, auc = 0.0, grouped = 0.0, accuracy = 0.0, calibration = 0.0;
    uint64_t samples = 0;
    size_t defined = 0, used = 0;
    weir_err_t err = WEIR_OK;
    used += (size_t)snprintf(into->tasks, sizeof into->tasks, "\"tasks\": [");
    for (size_t k = 0; k < tasks && err == WEIR_OK; k++) {
        char text[1024];
        weir_task_result_t result;
        err = weir_task_metrics_result(metrics, k, &result, error);
        if (err != WEIR_OK) {
            return err;
        }
        weir_task_result_to_json(&result, text, sizeof text);
        if (used + strlen(text) + 8 < sizeof into->tasks) {
            used += (size_t)snprintf(into->tasks + used, sizeof into->tasks - used, "%s%s",
                                     k > 0 ? ", " : "", text);
        }
        samples = result.samples;
        if (isfinite(result.ne) && isfinite(result.auc)) {
            defined++;
            ne += result.ne;
            auc += result.auc;
            grouped += isfinite(result.grouped_auc) ? result.grouped_auc : 0.5;
            accuracy += result.accuracy;
            calibration += result.calibration;
        }
    }
    (void)snprintf(into->tasks + used, sizeof into->tasks - used, "]");
    double n = defined > 0 ? (double)defined : 1.0;
    (void)snprintf(into->means, sizeof into->means,
                   "{\"samples\": %llu, \"ne\": %.8g, \"auc\": %.8g, \"grouped_auc\": %.8g, "
                   "\"accuracy\": %.8g, \"calibration\": %.8g}",
                   (unsigned long long)samples, ne / n, auc / n, grouped / n, accuracy / n,
                   calibration / n);
    (void)snprintf(into->sentence, sizeof into->sentence,
                   "NE %.4f  AUC %.4f  grouped AUC %.4f  calibration %.3f  %llu samples", ne / n,
                   auc / n, grouped / n, calibration / n, (unsigned long long)samples);
    into->value = -ne / n;
    return WEIR_OK;
}

weir_err_t weir_trainer_measure_ranking(weir_trainer_t *trainer, weir_split_t split,
                                        weir_ranking_metrics_t *metrics, weir_error_t *error) {
    size_t tasks = trainer->tasks;
    weir_task_kind_t kinds[WEIR_TASK_LIMIT] = {WEIR_TASK_BINARY};
    measuring_t measuring = {.trainer = trainer};
    weir_err_t err =
        weir_task_metrics_create(kinds, tasks, EXACT_SAMPLES, &measuring.metrics, error);
    if (err == WEIR_OK) {
        err = measure_users(&measuring, split == WEIR_SPLIT_VALIDATION, error);
    }
    if (err == WEIR_OK) {
        err = weir_task_gather_merge(trainer->options.exchange, trainer->state.step,
                                     split == WEIR_SPLIT_TEST ? SEQUENCE_TEST : SEQUENCE_VALIDATION,
                                     measuring.metrics, error);
    }
    if (err == WEIR_OK) {
        err = sum_up(measuring.metrics, tasks, metrics, error);
    }
    weir_task_metrics_destroy(measuring.metrics);
    free(measuring.rows);
    return err;
}
