#include "worker/hstu.h"

#include "worker/blas.h"
#include "worker/encoder_checks.h"
#include "worker/hstu_internal.h"
#include "worker/parallel.h"

#include <stdlib.h>

weir_err_t weir_hstu_create(const weir_hstu_config_t *config, weir_hstu_t **hstu,
                            weir_error_t *error) {
    weir_err_t err = weir_encoder_check_config(config, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_hstu_t *created = calloc(1, sizeof *created);
    if (created != NULL) {
        created->config = *config;
        created->layers = calloc(config->blocks, sizeof *created->layers);
    }
    if (created == NULL || created->layers == NULL) {
        weir_hstu_destroy(created);
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu blocks", config->blocks);
    }
    weir_blas_use_one_thread();
    err = weir_kernels_select(&created->kernels, error);
    if (err == WEIR_OK) {
        const weir_attention_config_t attention = {.heads = config->heads,
                                                   .dqk = config->dqk,
                                                   .dv = config->dv,
                                                   .attention_length = config->attention_length,
                                                   .softmax = config->softmax,
                                                   .position_bias = config->position_bias,
                                                   .time_bias = config->time_bias,
                                                   .bf16 = config->bf16};
        err = weir_attention_create(&attention, created->kernels, &created->attention, error);
    }
    if (err != WEIR_OK) {
        weir_hstu_destroy(created);
        return err;
    }
    *hstu = created;
    return WEIR_OK;
}

void weir_hstu_destroy(weir_hstu_t *hstu) {
    if (hstu == NULL) {
        return;
    }
    weir_workspace_fini(&hstu->workspace);
    weir_workspace_fini(&hstu->batch_workspace);
    weir_attention_destroy(hstu->attention);
    free(hstu->layers);
    free(hstu);
}

void weir_hstu_limit_activations(weir_hstu_t *hstu, size_t bytes) {
    hstu->activation_budget = bytes;
}

weir_hstu_activations_t weir_hstu_activations(const weir_hstu_t *hstu) {
    weir_hstu_activations_t activations = {.groups = hstu->group_count,
                                           .kept_layers = hstu->config.blocks,
                                           .bytes = hstu->activation_bytes,
                                           .attention_bytes = hstu->attention_bytes};
    for (size_t g = 0; g < hstu->group_count; g++) {
        size_t kept = hstu->groups[g].kept;
        activations.kept_layers = kept < activations.kept_layers ? kept : activations.kept_layers;
    }
    return activations;
}

void weir_hstu_drop(const weir_hstu_t *hstu, uint32_t site, double probability, size_t width,
                    size_t first, size_t end, weir_real_t *values) {
    if (hstu->mode.train && probability > 0.0) {
        weir_dropout_t dropout =
            weir_dropout_at(hstu->mode.seed, hstu->mode.step, site, probability);
        weir_real_t *rows = values + first * width;
        hstu->kernels->dropout(&dropout, hstu->batch.global_tokens + first, rows, end - first,
                               width, rows);
    }
}

/* ---- rows, in blocks ---- */

typedef struct {
    weir_hstu_t *hstu;
    weir_hstu_rows_t work;
    void *argument;
} row_work_t;

static void run_block(void *argument, size_t first, size_t end) {
    const row_work_t *work = argument;
    work->work(work->hstu, work->argument, first, end);
}

void weir_hstu_run_rows(weir_hstu_t *hstu, weir_hstu_rows_t work, void *argument) {
    row_work_t rows = {hstu, work, argument};
    weir_rows_run(hstu->batch.tokens, run_block, &rows);
}
