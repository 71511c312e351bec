#include "ps/table_cut.h"
#include "ps/table_internal.h"

#include <stdlib.h>
#include <string.h>

enum { LIMIT_LEAST = 1 << 20, LIMIT_PART = 100 };

static void lose(weir_table_removed_t *removed) {
    free(removed->keys);
    removed->keys = NULL;
    removed->count = removed->capacity = removed->marked = 0;
    removed->lost = true;
}

void weir_table_removed_add(weir_table_removed_t *removed, weir_key_t key) {
    if (!removed->open || removed->lost) {
        return;
    }
    if (removed->count == removed->capacity) {
        size_t capacity = removed->capacity == 0 ? 1024 : 2 * removed->capacity;
        capacity = capacity < removed->limit ? capacity : removed->limit;
        weir_key_t *grown = removed->count == removed->limit
                                ? NULL
                                : realloc(removed->keys, capacity * sizeof *grown);
        if (grown == NULL) {
            lose(removed);
            return;
        }
        removed->keys = grown;
        removed->capacity = capacity;
    }
    removed->keys[removed->count++] = key;
}

void weir_table_removed_fini(weir_table_removed_t *removed) {
    free(removed->keys);
    *removed = (weir_table_removed_t){.keys = NULL};
}

/* From here on, if the log is not kept or was lost. */
static void open_log(weir_table_t *table, uint64_t step) {
    weir_table_removed_t *removed = &table->removed;
    size_t limit = weir_table_stats(table).bytes / LIMIT_PART;
    limit = (limit > LIMIT_LEAST ? limit : LIMIT_LEAST) / sizeof(weir_key_t);
    removed->limit = limit > removed->count ? limit : removed->count;
    if (!removed->open || removed->lost) {
        removed->open = true;
        removed->lost = false;
        removed->base = removed->mark = step;
    }
}

void weir_table_hold_removed(weir_table_t *table, uint64_t step) {
    weir_table_removed_t *removed = &table->removed;
    open_log(table, step);
    removed->held = removed->count;
    removed->holds = true;
}

void weir_table_mark_removed(weir_table_t *table, uint64_t step) {
    weir_table_removed_t *removed = &table->removed;
    if (!removed->holds) {
        weir_table_hold_removed(table, step);
    }
    removed->holds = false;
    if (!removed->lost) {
        removed->mark = step;
        removed->marked = removed->held;
    }
}

static int compare_hashes(const void *left, const void *right) {
    uint64_t a = weir_hash64(*(const weir_key_t *)left);
    uint64_t b = weir_hash64(*(const weir_key_t *)right);
    return (a > b) - (a < b);
}

static bool has_row(const weir_table_t *table, weir_key_t key) {
    weir_row_handle_t handle;
    weir_table_find(table, &key, 1, &handle);
    return handle != WEIR_ROW_NONE;
}

/* Sorted, without repeats, and without those that have a row again. */
static size_t tidy(const weir_table_t *table, weir_key_t *keys, size_t count) {
    size_t kept = 0;
    if (count > 0) {
        qsort(keys, count, sizeof *keys, compare_hashes);
    }
    for (size_t i = 0; i < count; i++) {
        bool has =
            table->cut != NULL ? weir_table_cut_has(table->cut, keys[i]) : has_row(table, keys[i]);
        if (!has && (kept == 0 || keys[kept - 1] != keys[i])) {
            keys[kept++] = keys[i];
        }
    }
    return kept;
}

bool weir_table_removed_since(weir_table_t *table, uint64_t base, weir_key_t **keys,
                              size_t *count) {
    weir_table_removed_t *removed = &table->removed;
    if (!removed->open || removed->lost || (base != removed->base && base != removed->mark)) {
        return false;
    }
    if (base == removed->mark) {
        removed->count -= removed->marked;
        if (removed->count > 0) {
            memmove(removed->keys, removed->keys + removed->marked,
                    removed->count * sizeof *removed->keys);
        }
        removed->held -= removed->holds ? removed->marked : 0;
        removed->marked = 0;
        removed->base = base;
    }
    size_t logged = removed->holds ? removed->held : removed->count;
    weir_key_t *copy = malloc((logged + 1) * sizeof *copy);
    if (copy == NULL) {
        return false;
    }
    if (logged > 0) {
        memcpy(copy, removed->keys, logged * sizeof *copy);
    }
    *count = tidy(table, copy, logged);
    *keys = copy;
    return true;
}
