#include "worker/key_set.h"

#include "common/assert.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Up to this many keys are indexed directly: 8 bytes a key, 128 MiB at the most. */
#define DIRECT_KEYS ((uint64_t)1 << 24)

typedef struct {
    uint32_t stamp; /* the set's round in which the entry was written; else it is empty */
    uint32_t row;
} entry_t;

struct weir_key_set {
    uint64_t max_key;
    uint32_t round;
    bool direct;
    entry_t *entries; /* direct: by key; else by hash, a power of two of them */
    size_t entry_count;
    weir_key_t *keys; /* by row */
    size_t count, capacity;
};

weir_err_t weir_key_set_create(uint64_t max_key, weir_key_set_t **set, weir_error_t *error) {
    weir_key_set_t *created = calloc(1, sizeof *created);
    if (created != NULL) {
        created->max_key = max_key;
        created->direct = max_key < DIRECT_KEYS;
        if (created->direct) {
            created->entry_count = (size_t)max_key + 1;
            created->entries = calloc(created->entry_count, sizeof(entry_t));
        }
    }
    if (created == NULL || (created->direct && created->entries == NULL)) {
        weir_key_set_destroy(created);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a set of keys up to %llu",
                           (unsigned long long)max_key);
    }
    *set = created;
    return WEIR_OK;
}

void weir_key_set_destroy(weir_key_set_t *set) {
    if (set != NULL) {
        free(set->entries);
        free(set->keys);
        free(set);
    }
}

/* Room for `keys` distinct keys, never more than there are. */
static weir_err_t reserve(weir_key_set_t *set, size_t keys, weir_error_t *error) {
    if (keys > set->max_key && set->direct) {
        keys = (size_t)set->max_key + 1;
    }
    if (keys > set->capacity) {
        weir_key_t *grown = realloc(set->keys, keys * sizeof *grown);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu keys of a batch", keys);
        }
        set->keys = grown;
        set->capacity = keys;
    }
    if (!set->direct && 2 * keys > set->entry_count) {
        size_t entries = 1024;
        while (entries < 2 * keys) {
            entries *= 2;
        }
        entry_t *grown = calloc(entries, sizeof *grown);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu keys of a batch", keys);
        }
        free(set->entries);
        set->entries = grown;
        set->entry_count = entries;
        set->round = 0;
    }
    return WEIR_OK;
}

weir_err_t weir_key_set_begin(weir_key_set_t *set, size_t keys, weir_error_t *error) {
    weir_err_t err = reserve(set, keys, error);
    if (err != WEIR_OK) {
        return err;
    }
    set->count = 0;
    if (++set->round == 0) { /* after 2^32 rounds an old stamp could look new */
        memset(set->entries, 0, set->entry_count * sizeof(entry_t));
        set->round = 1;
    }
    return WEIR_OK;
}

static uint32_t add_key(weir_key_set_t *set, entry_t *entry, weir_key_t key) {
    WEIR_ASSERT(set->count < set->capacity);
    entry->stamp = set->round;
    entry->row = (uint32_t)set->count;
    set->keys[set->count] = key;
    return (uint32_t)set->count++;
}

static uint32_t row_by_hash(weir_key_set_t *set, weir_key_t key) {
    size_t mask = set->entry_count - 1, place = (size_t)weir_hash64(key) & mask;
    for (;; place = (place + 1) & mask) {
        entry_t *entry = &set->entries[place];
        if (entry->stamp != set->round) {
            return add_key(set, entry, key);
        }
        if (set->keys[entry->row] == key) {
            return entry->row;
        }
    }
}

void weir_key_set_rows(weir_key_set_t *set, const int64_t *keys, size_t count, uint32_t *rows) {
    for (size_t i = 0; i < count; i++) {
        weir_key_t key = (weir_key_t)keys[i];
        WEIR_ASSERT(key <= set->max_key);
        if (set->direct) {
            entry_t *entry = &set->entries[key];
            rows[i] = entry->stamp == set->round ? entry->row : add_key(set, entry, key);
        } else {
            rows[i] = row_by_hash(set, key);
        }
    }
}

const weir_key_t *weir_key_set_keys(const weir_key_set_t *set, size_t *count) {
    *count = set->count;
    return set->keys;
}
