#include "ps/row_cache.h"

#include "common/assert.h"
#include "ps/row_update.h"

#include <stdlib.h>
#include <string.h>

enum {
    ALIGNMENT = 16,  /* of records */
    CLOCK_STEPS = 64 /* places looked at for one that may be taken; then none is */
};

typedef struct {
    weir_key_t key;
    uint32_t count; /* updates of the row; stops at the largest, as a server's does */
    uint16_t pins;
    bool holds; /* a record */
    bool used;  /* since the clock's hand passed */
} place_t;

struct weir_row_cache {
    weir_row_schema_t schema;
    weir_row_layout_t layout;
    weir_row_update_t update;
    uint64_t step;
    size_t rows, capacity; /* places in use: the first ones; and all */
    size_t stride;         /* bytes from record to record */
    size_t hand;           /* of the clock */
    place_t *places;
    char *records;
    weir_row_place_t *entries; /* open addressing: key to place */
    size_t entry_mask;
    uint32_t *seen; /* tags of keys that were seen, at their hashes */
    size_t seen_mask;
};

static size_t power_from(size_t least) {
    size_t power = 1024;
    while (power < least) {
        power *= 2;
    }
    return power;
}

weir_err_t weir_row_cache_create(const weir_row_schema_t *schema, size_t rows,
                                 weir_row_cache_t **cache, weir_error_t *error) {
    if (rows < 1 || rows > WEIR_ROW_CACHE_MAX_ROWS) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "table %.31s: a cache has 1 to %d rows, not %zu", schema->name,
                           WEIR_ROW_CACHE_MAX_ROWS, rows);
    }
    weir_row_cache_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a cache of rows");
    }
    made->schema = *schema;
    made->layout = weir_row_layout(schema);
    made->capacity = rows;
    made->stride = (made->layout.record_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    made->entry_mask = power_from(2 * rows) - 1;
    made->seen_mask = power_from(4 * rows) - 1;
    made->places = calloc(rows, sizeof *made->places);
    made->records = calloc(rows, made->stride);
    made->entries = malloc((made->entry_mask + 1) * sizeof *made->entries);
    made->seen = calloc(made->seen_mask + 1, sizeof *made->seen);
    weir_err_t err = WEIR_OK;
    if (made->places == NULL || made->records == NULL || made->entries == NULL ||
        made->seen == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY,
                          "table %.31s: out of memory for a cache of %zu rows", schema->name, rows);
    }
    if (err == WEIR_OK) {
        err = weir_row_update_init(&made->update, &made->schema, &made->layout, error);
    }
    if (err != WEIR_OK) {
        weir_row_cache_destroy(made);
        return err;
    }
    for (size_t i = 0; i <= made->entry_mask; i++) {
        made->entries[i] = WEIR_ROW_CACHE_NONE;
    }
    *cache = made;
    return WEIR_OK;
}

void weir_row_cache_destroy(weir_row_cache_t *cache) {
    if (cache == NULL) {
        return;
    }
    weir_row_update_fini(&cache->update);
    free(cache->places);
    free(cache->records);
    free(cache->entries);
    free(cache->seen);
    free(cache);
}

size_t weir_row_cache_rows(const weir_row_cache_t *cache) {
    return cache->rows;
}

/* ---- key to place ---- */

/* Where the key's entry is, or the free one where it would be. */
static size_t find_entry(const weir_row_cache_t *cache, weir_key_t key, uint64_t hash) {
    size_t at = (size_t)hash & cache->entry_mask;
    while (cache->entries[at] != WEIR_ROW_CACHE_NONE &&
           cache->places[cache->entries[at]].key != key) {
        at = (at + 1) & cache->entry_mask;
    }
    return at;
}

/* Entries behind the one removed move up, as far as they may: no gap parts them from their hash. */
static void remove_entry(weir_row_cache_t *cache, weir_key_t key) {
    size_t mask = cache->entry_mask, gap = find_entry(cache, key, weir_hash64(key));
    for (size_t at = (gap + 1) & mask; cache->entries[at] != WEIR_ROW_CACHE_NONE;
         at = (at + 1) & mask) {
        size_t home = (size_t)weir_hash64(cache->places[cache->entries[at]].key) & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            cache->entries[gap] = cache->entries[at];
            gap = at;
        }
    }
    cache->entries[gap] = WEIR_ROW_CACHE_NONE;
}

/* Whether the key was seen before; from now on it was. */
static bool note_seen(weir_row_cache_t *cache, uint64_t hash) {
    uint32_t *seen = &cache->seen[(size_t)hash & cache->seen_mask];
    uint32_t tag = (uint32_t)(hash >> 32) | 1;
    bool found = *seen == tag;
    *seen = tag;
    return found;
}

/* A place that nobody has, or whose key loses it. */
static weir_row_place_t take_place(weir_row_cache_t *cache) {
    if (cache->rows < cache->capacity) {
        return (weir_row_place_t)cache->rows++;
    }
    for (size_t steps = 0; steps < CLOCK_STEPS; steps++) {
        size_t now = cache->hand;
        place_t *place = &cache->places[now];
        cache->hand = now + 1 == cache->capacity ? 0 : now + 1;
        if (place->pins == 0 && !place->used) {
            remove_entry(cache, place->key);
            return (weir_row_place_t)now;
        }
        place->used = false;
    }
    return WEIR_ROW_CACHE_NONE;
}

weir_row_place_t weir_row_cache_pin(weir_row_cache_t *cache, weir_key_t key, bool *fresh) {
    uint64_t hash = weir_hash64(key);
    weir_row_place_t place = cache->entries[find_entry(cache, key, hash)];
    *fresh = false;
    if (place != WEIR_ROW_CACHE_NONE) {
        WEIR_ASSERT(cache->places[place].pins < UINT16_MAX);
        cache->places[place].pins++;
        return place;
    }
    if (!note_seen(cache, hash)) {
        return WEIR_ROW_CACHE_NONE;
    }
    place = take_place(cache);
    if (place != WEIR_ROW_CACHE_NONE) {
        *fresh = true;
        cache->places[place] = (place_t){.key = key, .pins = 1};
        cache->entries[find_entry(cache, key, hash)] = place; /* a removal may have moved it */
    }
    return place;
}

void weir_row_cache_unpin(weir_row_cache_t *cache, weir_row_place_t place) {
    WEIR_ASSERT(cache->places[place].pins > 0);
    cache->places[place].pins--;
}

/* ---- records ---- */

static char *record_of(const weir_row_cache_t *cache, weir_row_place_t place) {
    return cache->records + place * cache->stride;
}

void weir_row_cache_store(weir_row_cache_t *cache, weir_row_place_t place, const void *record,
                          uint64_t count) {
    memcpy(record_of(cache, place), record, cache->layout.record_bytes);
    cache->places[place].count = count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
    cache->places[place].holds = cache->places[place].used = true;
}

void weir_row_cache_forget(weir_row_cache_t *cache, weir_row_place_t place) {
    cache->places[place].holds = false;
}

const void *weir_row_cache_read(weir_row_cache_t *cache, weir_row_place_t place) {
    if (!cache->places[place].holds) {
        return NULL;
    }
    cache->places[place].used = true;
    return record_of(cache, place);
}

void weir_row_cache_begin_step(weir_row_cache_t *cache, uint64_t step) {
    cache->step = step;
    weir_row_update_begin_step(&cache->update, step);
}

void weir_row_cache_update(weir_row_cache_t *cache, weir_row_place_t place, const float *gradient) {
    place_t *row = &cache->places[place];
    if (!row->holds || !weir_row_update_is_finite(&cache->update, gradient)) {
        return;
    }
    row->count += row->count < UINT32_MAX;
    weir_row_update_apply(&cache->update, row->key, record_of(cache, place),
                          record_of(cache, place) + cache->layout.value_bytes, gradient, row->count,
                          cache->step);
}
