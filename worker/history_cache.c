#include "worker/history_cache.h"

#include "common/hash.h"

#include <stdbool.h>
#include <stdlib.h>

enum { BUCKETS = 1 << 14 };

typedef struct entry {
    weir_history_id_t id;
    weir_stu_history_t *history;
    struct entry *next;          /* of its bucket */
    struct entry *newer, *older; /* by last use */
} entry_t;

struct weir_history_cache {
    size_t limit, bytes;
    entry_t *newest, *oldest;
    entry_t *buckets[BUCKETS];
};

weir_err_t weir_history_cache_create(size_t limit, weir_history_cache_t **cache,
                                     weir_error_t *error) {
    weir_history_cache_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a cache of histories");
    }
    made->limit = limit;
    *cache = made;
    return WEIR_OK;
}

size_t weir_history_cache_bytes(const weir_history_cache_t *cache) {
    return cache->bytes;
}

static entry_t **bucket_of(weir_history_cache_t *cache, weir_history_id_t id) {
    uint64_t hash = weir_hash64((uint64_t)id.user);
    hash = weir_hash64(hash ^ (uint64_t)id.events);
    hash = weir_hash64(hash ^ (uint64_t)id.time);
    return &cache->buckets[hash % BUCKETS];
}

static bool is(const entry_t *entry, weir_history_id_t id) {
    return entry->id.user == id.user && entry->id.events == id.events && entry->id.time == id.time;
}

/* ---- the order of use ---- */

static void unlink_use(weir_history_cache_t *cache, entry_t *entry) {
    *(entry->newer != NULL ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void make_newest(weir_history_cache_t *cache, entry_t *entry) {
    entry->newer = NULL;
    entry->older = cache->newest;
    *(cache->newest != NULL ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

static void drop(weir_history_cache_t *cache, entry_t *entry) {
    entry_t **at = bucket_of(cache, entry->id);
    while (*at != entry) {
        at = &(*at)->next;
    }
    *at = entry->next;
    unlink_use(cache, entry);
    cache->bytes -= weir_stu_history_bytes(entry->history);
    weir_stu_history_free(entry->history);
    free(entry);
}

void weir_history_cache_destroy(weir_history_cache_t *cache) {
    if (cache != NULL) {
        while (cache->newest != NULL) {
            drop(cache, cache->newest);
        }
        free(cache);
    }
}

/* ---- get and put ---- */

static entry_t *find(weir_history_cache_t *cache, weir_history_id_t id) {
    entry_t *entry = *bucket_of(cache, id);
    while (entry != NULL && !is(entry, id)) {
        entry = entry->next;
    }
    return entry;
}

const weir_stu_history_t *weir_history_cache_get(weir_history_cache_t *cache,
                                                 weir_history_id_t id) {
    entry_t *entry = find(cache, id);
    if (entry == NULL) {
        return NULL;
    }
    unlink_use(cache, entry);
    make_newest(cache, entry);
    return entry->history;
}

weir_err_t weir_history_cache_put(weir_history_cache_t *cache, weir_history_id_t id,
                                  weir_stu_history_t *history, const weir_stu_history_t **kept,
                                  weir_error_t *error) {
    entry_t *old = find(cache, id), *entry = malloc(sizeof *entry);
    if (entry == NULL) {
        weir_stu_history_free(history);
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a history");
    }
    if (old != NULL) {
        drop(cache, old);
    }
    entry_t **bucket = bucket_of(cache, id);
    *entry = (entry_t){.id = id, .history = history, .next = *bucket};
    *bucket = entry;
    make_newest(cache, entry);
    cache->bytes += weir_stu_history_bytes(history);
    while (cache->bytes > cache->limit && cache->oldest != entry) {
        drop(cache, cache->oldest);
    }
    *kept = history;
    return WEIR_OK;
}
