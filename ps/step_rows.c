#include "ps/step_rows.h"

#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

#define FREE_ENTRY UINT32_MAX
#define NO_WORKER UINT32_MAX

enum { AHEAD = 8 };

void weir_step_rows_init(weir_step_rows_t *rows, size_t dim) {
    *rows = (weir_step_rows_t){.dim = dim};
}

void weir_step_rows_fini(weir_step_rows_t *rows) {
    free(rows->handles);
    free(rows->keys);
    free(rows->last_worker);
    free(rows->started);
    free(rows->sole);
    free(rows->kept);
    free(rows->sums);
    free(rows->entries);
    *rows = (weir_step_rows_t){.dim = rows->dim};
}

void weir_step_rows_clear(weir_step_rows_t *rows) {
    rows->count = 0;
    rows->lent = NULL;
    for (size_t i = 0; i < rows->entry_capacity; i++) {
        rows->entries[i].handle = FREE_ENTRY;
    }
}

/* Handles are dense numbers: a multiplication spreads them well enough. */
static size_t place_of(const weir_step_rows_t *rows, weir_row_handle_t handle) {
    return (size_t)((handle * 0x9E3779B97F4A7C15ull) >> 32) & (rows->entry_capacity - 1);
}

static weir_step_row_entry_t *find_entry(const weir_step_rows_t *rows, weir_row_handle_t handle) {
    size_t place = place_of(rows, handle);
    while (rows->entries[place].handle != FREE_ENTRY && rows->entries[place].handle != handle) {
        place = (place + 1) & (rows->entry_capacity - 1);
    }
    return &rows->entries[place];
}

static bool grow_entries(weir_step_rows_t *rows, size_t wanted) {
    size_t capacity = rows->entry_capacity == 0 ? 1024 : rows->entry_capacity;
    while (capacity < 2 * wanted) {
        capacity *= 2;
    }
    if (capacity == rows->entry_capacity) {
        return true;
    }
    weir_step_row_entry_t *entries = malloc(capacity * sizeof *entries);
    if (entries == NULL) {
        return false;
    }
    free(rows->entries);
    rows->entries = entries;
    rows->entry_capacity = capacity;
    for (size_t i = 0; i < capacity; i++) {
        entries[i].handle = FREE_ENTRY;
    }
    for (size_t i = 0; i < rows->count; i++) {
        *find_entry(rows, rows->handles[i]) =
            (weir_step_row_entry_t){.handle = rows->handles[i], .number = (uint32_t)i};
    }
    return true;
}

static bool grow_array(void **array, size_t count, size_t size) {
    if (count > SIZE_MAX / size) {
        return false;
    }
    void *grown = realloc(*array, count * size);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    return true;
}

bool weir_step_rows_reserve(weir_step_rows_t *rows, size_t more) {
    size_t wanted = rows->count + more;
    if (wanted < more || wanted >= UINT32_MAX || !grow_entries(rows, wanted)) {
        return false;
    }
    if (wanted <= rows->capacity) {
        return true;
    }
    size_t capacity = wanted + wanted / 2;
    void *handles = rows->handles, *last_worker = rows->last_worker, *started = rows->started,
         *sums = rows->sums, *keys = rows->keys, *sole = rows->sole, *kept = rows->kept;
    bool grown = rows->dim <= SIZE_MAX / sizeof *rows->sums &&
                 grow_array(&handles, capacity, sizeof *rows->handles) &&
                 grow_array(&keys, capacity, sizeof *rows->keys) &&
                 grow_array(&last_worker, capacity, sizeof *rows->last_worker) &&
                 grow_array(&started, capacity, sizeof *rows->started) &&
                 grow_array(&sole, capacity, sizeof *rows->sole) &&
                 grow_array(&kept, capacity, sizeof *rows->kept) &&
                 grow_array(&sums, capacity, rows->dim * sizeof *rows->sums);
    /* What did grow keeps its content and is kept, also when another did not. */
    rows->handles = handles;
    rows->keys = keys;
    rows->last_worker = last_worker;
    rows->started = started;
    rows->sole = sole;
    rows->kept = kept;
    rows->sums = sums;
    if (grown) {
        rows->capacity = capacity;
    }
    return grown;
}

bool weir_step_rows_has(const weir_step_rows_t *rows, weir_row_handle_t handle) {
    return rows->count > 0 && find_entry(rows, handle)->handle == handle;
}

size_t weir_step_rows_name(weir_step_rows_t *rows, const weir_key_t *keys,
                           const weir_row_handle_t *handles, size_t count, uint32_t worker,
                           uint32_t *numbers) {
    for (size_t i = 0; i < count; i++) {
        if (handles[i] == WEIR_ROW_NONE) {
            numbers[i] = WEIR_STEP_ROWS_DROPPED;
            continue;
        }
        if (i + AHEAD < count) {
            __builtin_prefetch(&rows->entries[place_of(rows, handles[i + AHEAD])]);
        }
        weir_step_row_entry_t *entry = find_entry(rows, handles[i]);
        if (entry->handle == FREE_ENTRY) {
            WEIR_ASSERT(rows->count < rows->capacity);
            uint32_t number = (uint32_t)rows->count++;
            *entry = (weir_step_row_entry_t){.handle = handles[i], .number = number};
            rows->handles[number] = handles[i];
            rows->keys[number] = keys[i];
            rows->last_worker[number] = NO_WORKER;
            rows->started[number] = false;
            rows->kept[number] = WEIR_ROW_NOT_KEPT;
            rows->sole[number] = worker;
        }
        if (rows->last_worker[entry->number] == worker) {
            return i;
        }
        rows->last_worker[entry->number] = worker;
        if (rows->sole[entry->number] != worker) {
            rows->sole[entry->number] = WEIR_TABLE_SEVERAL;
        }
        numbers[i] = entry->number;
    }
    return count;
}

void weir_step_rows_set_kept(weir_step_rows_t *rows, uint32_t number, weir_row_kept_t kept) {
    rows->kept[number] = (uint8_t)kept;
}

bool weir_step_rows_lend(weir_step_rows_t *rows, size_t count, const float *gradients) {
    if (count != rows->count) {
        return false;
    }
    rows->lent = gradients;
    return true;
}

size_t weir_step_rows_add(weir_step_rows_t *rows, const uint32_t *numbers, size_t count,
                          const float *gradients) {
    size_t dim = rows->dim, dropped = 0;
    for (size_t i = 0; i < count; i++) {
        if (numbers[i] == WEIR_STEP_ROWS_DROPPED) {
            dropped++;
            continue;
        }
        float *restrict sum = rows->sums + (size_t)numbers[i] * dim;
        const float *restrict gradient = gradients + i * dim;
        if (i + AHEAD < count && numbers[i + AHEAD] != WEIR_STEP_ROWS_DROPPED) {
            __builtin_prefetch(rows->sums + (size_t)numbers[i + AHEAD] * dim, 1);
        }
        if (!rows->started[numbers[i]]) {
            rows->started[numbers[i]] = true;
            memcpy(sum, gradient, dim * sizeof *sum);
            continue;
        }
        for (size_t d = 0; d < dim; d++) {
            sum[d] += gradient[d];
        }
    }
    return dropped;
}
