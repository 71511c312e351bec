/* weir-worker: one worker. Data, clients, trainer; the loop itself is in trainer.c. */
#include "common/clock.h"
#include "common/log.h"
#include "common/trace.h"
#include "proto/job.h"
#include "ps/model_tables.h"
#include "worker/parallel.h"
#include "worker/product.h"
#include "worker/trainer.h"

#include <stdio.h>

typedef struct {
    weir_job_t job;
    weir_dataset_t *dataset;
    weir_ps_client_t *client;
    weir_exchange_t *exchange;
    weir_trainer_t *trainer;
    const char *reason; /* why training is over; static */
} process_t;

/* Seconds between two times that worker 0 says so: the first may be lost with a connection. */
#define SAY_AGAIN 5.0

static uint32_t choose_threads(const weir_config_t *config) {
    uint32_t processors = weir_parallel_processors();
    if (config->train.threads > 0) {
        return (uint32_t)config->train.threads;
    }
    return config->train.threads == 0 || processors == 1 ? processors : processors - 1;
}

static weir_err_t set_up(process_t *process, weir_error_t *error) {
    weir_job_t *job = &process->job;
    double timeout = job->config.cluster.timeout;
    uint32_t threads = choose_threads(&job->config);
    weir_row_schema_t tables[WEIR_MODEL_MAX_TABLES];
    uint32_t table_count = weir_model_tables(&job->config, tables);
    size_t cache_rows[WEIR_MODEL_MAX_TABLES];
    for (uint32_t k = 0; k < table_count; k++) {
        cache_rows[k] = (size_t)weir_model_table_config(&job->config, k)->worker_cache_rows;
    }
    weir_parallel_set_threads(threads);
    weir_err_t err = weir_dataset_open(job->config.data.path, &process->dataset, error);
    if (err == WEIR_OK) {
        weir_ps_client_options_t client = {.comm_thread = job->comm_thread,
                                           .first_ps_rank = job->first_ps_rank,
                                           .ps = job->ps,
                                           .tables = tables,
                                           .table_count = table_count,
                                           .ahead = weir_trainer_ahead(&job->config),
                                           .cache_rows = cache_rows,
                                           .timeout = timeout,
                                           .waiting = &job->waiting};
        err = weir_ps_client_create(&client, &process->client, error);
    }
    if (err == WEIR_OK) {
        weir_exchange_options_t exchange = {.comm_thread = job->comm_thread,
                                            .first_worker_rank = job->first_worker_rank,
                                            .worker = job->index,
                                            .workers = job->workers,
                                            .timeout = timeout,
                                            .waiting = &job->waiting};
        err = weir_exchange_create(&exchange, &process->exchange, error);
    }
    if (err == WEIR_OK) {
        weir_trainer_options_t trainer = {.config = &job->config,
                                          .dataset = process->dataset,
                                          .client = process->client,
                                          .exchange = process->exchange,
                                          .control = job->control,
                                          .run = job->options.run,
                                          .checkpoint =
                                              job->checkpoint[0] != '\0' ? job->checkpoint : NULL,
                                          .ps = job->ps};
        err = weir_trainer_create(&trainer, &process->trainer, error);
    }
    if (err == WEIR_OK) {
        weir_trace_options_t trace = {
            .run = job->options.run,
            .role = weir_role_name(job->role),
            .rank = job->first_worker_rank + job->index,
            .index = job->index,
            .after = weir_trainer_step_done(process->trainer),
            .steps = job->options.eval_only ? 0 : (uint64_t)job->config.train.trace_steps};
        err = weir_trace_open(&trace, error);
    }
    return err;
}

/* One line of the first worker of a training job: what its products are computed by. */
static weir_err_t say_means(const process_t *process, weir_error_t *error) {
    weir_product_means_t means;
    weir_err_t err = weir_product_means(&means, error);
    bool bf16 = process->job.config.train.compute == WEIR_COMPUTE_BF16;
    if (err == WEIR_OK && process->job.index == 0 && !process->job.options.eval_only) {
        weir_log(WEIR_LOG_INFO, "product", "computing|kernels=%s blas=%s compute=%s threads=%u",
                 means.level, means.blas_core, bf16 ? means.bf16 : "float32",
                 weir_parallel_threads());
    }
    return err;
}

static weir_err_t work(process_t *process, weir_error_t *error) {
    const weir_job_options_t *options = &process->job.options;
    char path[WEIR_PATH_MAX];
    weir_err_t err;
    if (options->requests != NULL) {
        err = weir_trainer_serve(process->trainer, options->requests, error);
    } else if (options->eval_only) {
        err = weir_path_join(path, sizeof path, options->run, "eval.json", error);
        if (err == WEIR_OK) {
            err = weir_trainer_evaluate_only(process->trainer, path, error);
        }
    } else {
        err = weir_trainer_run(process->trainer, &process->reason, error);
    }
    return err;
}

/* The coordinator ends the job; nobody leaves before. */
static weir_err_t wait_until_done(process_t *process, weir_error_t *error) {
    double timeout = process->job.config.cluster.timeout;
    double deadline = weir_clock_seconds() + timeout, said = 0.0;
    while (!weir_control_client_done(process->job.control)) {
        double now = weir_clock_seconds();
        if (process->job.index == 0 && now - said > SAY_AGAIN) {
            said = now;
            weir_err_t err =
                weir_control_client_finish(process->job.control, process->reason, error);
            if (err != WEIR_OK) {
                return err;
            }
        }
        if (now > deadline) {
            return weir_errorf(error, WEIR_ERR_TIMEOUT,
                               "the coordinator did not end the job within %.0f s", timeout);
        }
        weir_clock_sleep(0.002);
    }
    return WEIR_OK;
}

int main(int argc, char **argv) {
    process_t process = {.reason = "evaluated"};
    weir_error_t error = {0};
    weir_job_enter(WEIR_ROLE_WORKER, argc, argv, &process.job);
    weir_err_t err = set_up(&process, &error);
    if (err == WEIR_OK) {
        err = say_means(&process, &error);
    }
    if (err == WEIR_OK) {
        err = work(&process, &error);
    }
    if (err == WEIR_OK) {
        err = wait_until_done(&process, &error);
    }
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    weir_trainer_destroy(process.trainer);
    weir_exchange_destroy(process.exchange);
    weir_ps_client_destroy(process.client);
    weir_dataset_close(process.dataset);
    weir_job_leave(&process.job);
    weir_trace_close();
    return 0;
}
