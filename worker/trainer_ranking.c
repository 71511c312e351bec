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
    weir_err_t err = weir_ranking_reader_create(config, &options, &trainer->ranking_reader, error);
    if (err == WEIR_OK) {
        const weir_ranking_tasks_t *tasks = weir_ranking_reader_tasks(trainer->ranking_reader);
        weir_ranking_config_t model =
            weir_ranking_of_config(config, trainer->options.dataset, tasks);
        trainer->tasks = model.tasks;
        trainer->parameters = weir_ranking_parameters(&model);
        err = weir_ranking_create(&model, &trainer->ranking, error);
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
    weir_ranking_test_t *tests; /* at_once of them are measured together */
    size_t at_once, count;
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
    const weir_ranking_tasks_t *list = weir_ranking_reader_tasks(trainer->ranking_reader);
    for (size_t i = 0; i < batch->ranking.predictions * tasks && err == WEIR_OK; i++) {
        const weir_ranking_task_t *task = &list->list[i % tasks]; /* a number in its own measure */
        double label = task->offset + task->scale * (double)batch->labels[i];
        double score = task->offset + task->scale * (double)trainer->logits[i];
        err = weir_task_metrics_add(measuring->metrics, i % tasks, batch->groups[i / tasks],
                                    (float)label, (float)score, error);
    }
    return err;
}

static weir_err_t add_test(void *argument, const weir_ranking_test_t *test, weir_error_t *error) {
    measuring_t *measuring = argument;
    measuring->tests[measuring->count++] = *test;
    if (measuring->count < measuring->at_once) {
        return WEIR_OK;
    }
    measuring->count = 0;
    return measure_batch(measuring, measuring->tests, measuring->at_once, error);
}

static weir_err_t measure_tests(measuring_t *measuring, bool validation, weir_error_t *error) {
    weir_trainer_t *trainer = measuring->trainer;
    weir_read_ahead_rest(trainer->read_ahead); /* its reader is needed here */
    measuring->at_once = (size_t)trainer->options.config->eval.batch_users;
    measuring->tests = calloc(measuring->at_once, sizeof *measuring->tests);
    if (measuring->tests == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to evaluate %zu sessions",
                           measuring->at_once);
    }
    weir_err_t err =
        weir_ranking_tests(trainer->ranking_reader, validation, weir_trainer_next_window(trainer),
                           add_test, measuring, error);
    if (err == WEIR_OK && measuring->count > 0) {
        err = measure_batch(measuring, measuring->tests, measuring->count, error);
    }
    free(measuring->tests);
    return err;
}

/* Sums over the tasks that a mean is of. */
typedef struct {
    double ne, auc, grouped, accuracy, calibration;
    size_t binary; /* tasks that have both labels */
    double nmse;   /* mean squared error over the variance of what was trained on */
    size_t numbers;
    uint64_t samples;
} means_t;

static void add_result(const weir_ranking_task_t *task, const weir_task_result_t *result,
                       means_t *means) {
    means->samples = result->samples;
    if (task->kind == WEIR_TASK_REGRESSION && isfinite(result->mse)) {
        means->numbers++;
        means->nmse += result->mse / (task->scale * task->scale);
    } else if (isfinite(result->ne) && isfinite(result->auc)) {
        means->binary++;
        means->ne += result->ne;
        means->auc += result->auc;
        means->grouped += isfinite(result->grouped_auc) ? result->grouped_auc : 0.5;
        means->accuracy += result->accuracy;
        means->calibration += result->calibration;
    }
}

static void write_means(const means_t *means, weir_ranking_metrics_t *into) {
    double n = means->binary > 0 ? (double)means->binary : 1.0;
    double numbers = means->numbers > 0 ? (double)means->numbers : 1.0;
    char nmse[64] = "", words[64] = "";
    if (means->numbers > 0) {
        (void)snprintf(nmse, sizeof nmse, ", \"nmse\": %.8g", means->nmse / numbers);
        (void)snprintf(words, sizeof words, "NMSE %.4f  ", means->nmse / numbers);
    }
    (void)snprintf(into->means, sizeof into->means,
                   "{\"samples\": %llu, \"ne\": %.8g, \"auc\": %.8g, \"grouped_auc\": %.8g, "
                   "\"accuracy\": %.8g, \"calibration\": %.8g%s}",
                   (unsigned long long)means->samples, means->ne / n, means->auc / n,
                   means->grouped / n, means->accuracy / n, means->calibration / n, nmse);
    if (means->binary > 0 || means->numbers == 0) {
        (void)snprintf(into->sentence, sizeof into->sentence,
                       "NE %.4f  AUC %.4f  grouped AUC %.4f  calibration %.3f  %s%llu samples",
                       means->ne / n, means->auc / n, means->grouped / n, means->calibration / n,
                       words, (unsigned long long)means->samples);
    } else {
        (void)snprintf(into->sentence, sizeof into->sentence, "%s%llu samples", words,
                       (unsigned long long)means->samples);
    }
    into->value = -(means->binary > 0 ? means->ne / n : means->nmse / numbers);
}

/* Results of all tasks, and their means. */
static weir_err_t sum_up(weir_task_metrics_t *metrics, const weir_ranking_tasks_t *tasks,
                         weir_ranking_metrics_t *into, weir_error_t *error) {
    means_t means = {.samples = 0};
    size_t used = (size_t)snprintf(into->tasks, sizeof into->tasks, "\"tasks\": [");
    weir_err_t err = WEIR_OK;
    for (size_t k = 0; k < tasks->count && err == WEIR_OK; k++) {
        char text[1024];
        weir_task_result_t result;
        err = weir_task_metrics_result(metrics, k, &result, error);
        if (err != WEIR_OK) {
            return err;
        }
        weir_task_result_to_json(&result, text, sizeof text);
        if (used + strlen(text) + WEIR_DATASET_NAME + 16 < sizeof into->tasks) {
            used += (size_t)snprintf(into->tasks + used, sizeof into->tasks - used,
                                     "%s{\"name\": \"%s\", %s", k > 0 ? ", " : "",
                                     tasks->list[k].name, text + 1);
        }
        add_result(&tasks->list[k], &result, &means);
    }
    (void)snprintf(into->tasks + used, sizeof into->tasks - used, "]");
    write_means(&means, into);
    return WEIR_OK;
}

weir_err_t weir_trainer_measure_ranking(weir_trainer_t *trainer, weir_split_t split,
                                        weir_ranking_metrics_t *metrics, weir_error_t *error) {
    const weir_ranking_tasks_t *tasks = weir_ranking_reader_tasks(trainer->ranking_reader);
    weir_task_kind_t kinds[WEIR_TASK_LIMIT];
    measuring_t measuring = {.trainer = trainer};
    for (size_t k = 0; k < tasks->count; k++) {
        kinds[k] = tasks->list[k].kind;
    }
    weir_err_t err =
        weir_task_metrics_create(kinds, tasks->count, EXACT_SAMPLES, &measuring.metrics, error);
    if (err == WEIR_OK) {
        err = measure_tests(&measuring, split == WEIR_SPLIT_VALIDATION, error);
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
