#include "worker/ranking_cache.h"

#include "worker/ranking_internal.h"

#include <stdlib.h>
#include <string.h>

struct weir_ranking_cache {
    weir_ranking_t *ranking; /* what is before and after the layers */
    weir_stu_cache_t *layers;
};

weir_err_t weir_ranking_cache_create(const weir_ranking_config_t *config,
                                     weir_ranking_cache_t **cache, weir_error_t *error) {
    weir_ranking_cache_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a cache of histories");
    }
    weir_err_t err = weir_ranking_create(config, &made->ranking, error);
    if (err == WEIR_OK) {
        err = weir_stu_cache_create(&config->layers, &made->layers, error);
    }
    if (err != WEIR_OK) {
        weir_ranking_cache_destroy(made);
        return err;
    }
    *cache = made;
    return WEIR_OK;
}

void weir_ranking_cache_destroy(weir_ranking_cache_t *cache) {
    if (cache != NULL) {
        weir_stu_cache_destroy(cache->layers);
        weir_ranking_destroy(cache->ranking);
        free(cache);
    }
}

weir_err_t weir_ranking_cache_fill(weir_ranking_cache_t *cache, const weir_real_t *parameters,
                                   const weir_ranking_batch_t *batch, const weir_real_t *rows,
                                   weir_stu_history_t **history, weir_error_t *error) {
    weir_ranking_t *ranking = cache->ranking;
    const weir_forward_mode_t mode = {.train = false};
    weir_err_t err = weir_ranking_embed(ranking, parameters, batch, rows, mode, error);
    if (err == WEIR_OK) {
        err = weir_stu_cache_fill(cache->layers,
                                  parameters + weir_ranking_layers_offset(&ranking->config),
                                  ranking->stream, batch->sequence.tokens, error);
    }
    if (err == WEIR_OK) {
        *history = weir_stu_cache_take(cache->layers);
    }
    return err;
}

weir_err_t weir_ranking_cache_score(weir_ranking_cache_t *cache, const weir_real_t *parameters,
                                    const weir_stu_history_t *history,
                                    const weir_ranking_batch_t *batch, const weir_real_t *rows,
                                    weir_real_t *logits, weir_error_t *error) {
    weir_ranking_t *ranking = cache->ranking;
    const weir_forward_mode_t mode = {.train = false};
    weir_err_t err = weir_ranking_embed(ranking, parameters, batch, rows, mode, error);
    if (err == WEIR_OK) {
        weir_stu_cache_use(cache->layers, history);
        err = weir_stu_cache_score(cache->layers, ranking->stream, batch->sequence.tokens,
                                   ranking->stream, error);
    }
    if (err == WEIR_OK) {
        weir_ranking_run_heads(ranking);
        memcpy(logits, ranking->logits,
               batch->predictions * ranking->config.tasks * sizeof *logits);
    }
    return err;
}
