/* M-FALCON: many candidates scored against one history (Zhai et al., ICML 2024, section 3.4 and
 * appendix H). The history goes through the layers once; its keys and values are kept, and
 * candidates come in microbatches, none of which sees another candidate. The result is that of a
 * forward with each candidate as the only target. Compiled for float32 and float64. */
#ifndef WEIR_WORKER_STU_CACHE_H
#define WEIR_WORKER_STU_CACHE_H

#include "worker/stu.h"

/* Keys and values of one user's contextual tokens and history, and workspace for microbatches. It
 * may be filled again, for another history; it serves any number of microbatches in between. */
typedef struct weir_stu_cache weir_stu_cache_t;

/* For layers of `config`. Errors: those of weir_stu_create. */
WEIR_MUST_USE weir_err_t weir_stu_cache_create(const weir_stu_config_t *config,
                                               weir_stu_cache_t **cache, weir_error_t *error);
void weir_stu_cache_destroy(weir_stu_cache_t *cache);

/* Run x, `tokens` x D, contextual tokens and history without targets. `parameters` stay until the
 * last score. Errors: fewer tokens than contextual ones, max_tokens or more, none; out of memory.
 */
WEIR_MUST_USE weir_err_t weir_stu_cache_fill(weir_stu_cache_t *cache, const weir_real_t *parameters,
                                             const weir_real_t *x, size_t tokens,
                                             weir_error_t *error);

/* Targets x, `count` x D, to `out`, x after the last layer; out may be x. Errors: nothing filled,
 * out of memory. */
WEIR_MUST_USE weir_err_t weir_stu_cache_score(weir_stu_cache_t *cache, const weir_real_t *x,
                                              size_t count, weir_real_t *out, weir_error_t *error);

/* Keys and values of a history by themselves, to be kept between requests. */
typedef struct weir_stu_history weir_stu_history_t;

/* What was filled last, now the caller's; candidates still see it until another is filled or used.
 * NULL: nothing was filled, or it was taken. */
weir_stu_history_t *weir_stu_cache_take(weir_stu_cache_t *cache);
/* Let candidates see a history that a cache of the same layers was filled with. It is not copied.
 */
void weir_stu_cache_use(weir_stu_cache_t *cache, const weir_stu_history_t *history);
size_t weir_stu_history_bytes(const weir_stu_history_t *history);
void weir_stu_history_free(weir_stu_history_t *history); /* accepts NULL */

#endif
