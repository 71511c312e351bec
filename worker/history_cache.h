/* Keys and values of histories, kept between requests within a limit of bytes; the ones used
 * longest ago go first. A history is known by its user, how many events it knows and when it was
 * asked. */
#ifndef WEIR_WORKER_HISTORY_CACHE_H
#define WEIR_WORKER_HISTORY_CACHE_H

#include "worker/stu_cache.h"

typedef struct {
    int64_t user, events, time;
} weir_history_id_t;

typedef struct weir_history_cache weir_history_cache_t;

/* `limit` bytes, 0: nothing is kept but the history used last. Errors: out of memory. */
WEIR_MUST_USE weir_err_t weir_history_cache_create(size_t limit, weir_history_cache_t **cache,
                                                   weir_error_t *error);
void weir_history_cache_destroy(weir_history_cache_t *cache); /* accepts NULL */

/* NULL: it is not there. Else valid until the next put. */
const weir_stu_history_t *weir_history_cache_get(weir_history_cache_t *cache, weir_history_id_t id);
/* Take over a history, also on failure; `*kept` is valid until the next put. Errors: out of memory.
 */
WEIR_MUST_USE weir_err_t weir_history_cache_put(weir_history_cache_t *cache, weir_history_id_t id,
                                                weir_stu_history_t *history,
                                                const weir_stu_history_t **kept,
                                                weir_error_t *error);

size_t weir_history_cache_bytes(const weir_history_cache_t *cache);

#endif
