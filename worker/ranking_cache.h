/* A ranking model (worker/ranking.h) that scores candidates against histories whose keys and values
 * are kept: M-FALCON (Zhai et al., ICML 2024, section 3.4). The logits are those of a forward with
 * each candidate as the only target, to rounding. Compiled for float32 and float64. */
#ifndef WEIR_WORKER_RANKING_CACHE_H
#define WEIR_WORKER_RANKING_CACHE_H

#include "worker/ranking.h"
#include "worker/stu_cache.h"

typedef struct weir_ranking_cache weir_ranking_cache_t;

/* Errors: those of weir_ranking_create. */
WEIR_MUST_USE weir_err_t weir_ranking_cache_create(const weir_ranking_config_t *config,
                                                   weir_ranking_cache_t **cache,
                                                   weir_error_t *error);
void weir_ranking_cache_destroy(weir_ranking_cache_t *cache); /* accepts NULL */

/* Run the history of one user: a batch without targets and predictions, at its places and times
 * before the candidates. rows: U x D. `parameters` stay until the last score. `*history`: its keys
 * and values, the caller's (weir_stu_history_free). Errors: those of weir_stu_cache_fill. */
WEIR_MUST_USE weir_err_t weir_ranking_cache_fill(weir_ranking_cache_t *cache,
                                                 const weir_real_t *parameters,
                                                 const weir_ranking_batch_t *batch,
                                                 const weir_real_t *rows,
                                                 weir_stu_history_t **history, weir_error_t *error);

/* Score candidates: a batch of targets alone, all of them predicted, in one microbatch. logits:
 * Q x K. Errors: those of weir_stu_cache_score. */
WEIR_MUST_USE weir_err_t weir_ranking_cache_score(weir_ranking_cache_t *cache,
                                                  const weir_real_t *parameters,
                                                  const weir_stu_history_t *history,
                                                  const weir_ranking_batch_t *batch,
                                                  const weir_real_t *rows, weir_real_t *logits,
                                                  weir_error_t *error);

#endif
