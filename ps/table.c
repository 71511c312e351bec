#include "ps/table.h"

#include "common/assert.h"
#include "ps/arena.h"
#include "ps/index.h"
#include "ps/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A slab holds the records of 2^slab_bits rows, one after the other, and behind them their
 * metadata: pulls read values only, so the metadata stays out of their cache lines. Slabs are
 * mapped whole and committed as rows are born, so a small table costs little and a slab can be
 * large: a server with a terabyte of rows has some 20,000 mappings, under the kernel's limit of
 * 65,530. */
enum {
    SLAB_BYTES = 64 << 20,
    BATCH = 256,          /* keys that pull finds, then gathers */
    AHEAD_BYTES = 8 << 10 /* how far ahead of the gather rows are prefetched */
};

typedef struct {
    uint32_t last_step;
    uint32_t count;
} row_metadata_t;

struct weir_table {
    weir_table_schema_t schema;
    weir_row_layout_t layout;
    weir_optimizer_t optimizer;
    weir_arena_t arena; /* of the index */
    weir_index_t index;
    char **slabs; /* owned */
    size_t slab_count, slab_capacity;
    size_t slab_size; /* bytes */
    uint32_t slab_bits;
    size_t stride; /* bytes from record to record */
    uint64_t rows; /* handles 0 .. rows - 1 are in use */
    size_t ahead;  /* rows that are prefetched ahead */
};

/* Whole cache lines where that wastes an eighth at most: no record then shares a line. */
static size_t choose_stride(uint32_t floats) {
    size_t bytes = (size_t)floats * sizeof(float);
    for (size_t alignment = 64; alignment > 16; alignment /= 2) {
        size_t padded = (bytes + alignment - 1) / alignment * alignment;
        if (padded - bytes <= bytes / 8) {
            return padded;
        }
    }
    return (bytes + 15) / 16 * 16;
}

static weir_err_t check_schema(const weir_table_schema_t *schema, weir_error_t *error) {
    if (schema->dim < 1 || schema->dim > WEIR_TABLE_MAX_DIM) {
        return weir_errorf(error, WEIR_ERR_INVALID, "table %.31s: dimension %u is not in 1 .. %d",
                           schema->name, schema->dim, WEIR_TABLE_MAX_DIM);
    }
    if (!isfinite(schema->initial_sigma) || schema->initial_sigma < 0.0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "table %.31s: initial sigma must be a finite number, not negative",
                           schema->name);
    }
    return WEIR_OK;
}

weir_err_t weir_table_create(const weir_table_schema_t *schema, weir_table_t **table,
                             weir_error_t *error) {
    weir_err_t err = check_schema(schema, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_table_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a table");
    }
    made->schema = *schema;
    made->schema.name[sizeof made->schema.name - 1] = '\0';
    made->layout = weir_row_layout(schema);
    err = weir_optimizer_init(&made->optimizer, schema, error);
    if (err != WEIR_OK) {
        goto out;
    }
    if (!weir_index_init(&made->index, &made->arena)) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a table");
        goto out;
    }
    made->stride = choose_stride(made->layout.floats);
    while ((made->stride + sizeof(row_metadata_t)) << (made->slab_bits + 1) <= SLAB_BYTES) {
        made->slab_bits++;
    }
    made->slab_size = (made->stride + sizeof(row_metadata_t)) << made->slab_bits;
    made->ahead = AHEAD_BYTES / (schema->dim * sizeof(float)) + 2;
    *table = made;
    made = NULL;
out:
    weir_table_destroy(made);
    return err;
}

void weir_table_destroy(weir_table_t *table) {
    if (table == NULL) {
        return;
    }
    weir_index_fini(&table->index);
    weir_arena_fini(&table->arena);
    for (size_t i = 0; i < table->slab_count; i++) {
        weir_arena_unmap(table->slabs[i], table->slab_size);
    }
    free(table->slabs);
    weir_optimizer_fini(&table->optimizer);
    free(table);
}

const weir_table_schema_t *weir_table_schema(const weir_table_t *table) {
    return &table->schema;
}

uint64_t weir_table_rows(const weir_table_t *table) {
    return table->rows;
}

uint64_t weir_table_bytes(const weir_table_t *table) {
    return sizeof *table + WEIR_INDEX_SUBTABLES * sizeof(weir_index_subtable_t) +
           table->arena.in_use + table->rows * (table->stride + sizeof(row_metadata_t)) +
           table->slab_capacity * sizeof *table->slabs +
           table->optimizer.correction_count * sizeof *table->optimizer.corrections;
}

static float *record_of(const weir_table_t *table, weir_row_handle_t handle) {
    WEIR_ASSERT(handle < table->rows);
    size_t mask = ((size_t)1 << table->slab_bits) - 1;
    return (float *)(void *)(table->slabs[handle >> table->slab_bits] +
                             (handle & mask) * table->stride);
}

static row_metadata_t *metadata_of(const weir_table_t *table, weir_row_handle_t handle) {
    size_t slab_rows = (size_t)1 << table->slab_bits;
    char *metadata = table->slabs[handle >> table->slab_bits] + slab_rows * table->stride;
    return (row_metadata_t *)(void *)metadata + (handle & (slab_rows - 1));
}

/* Every cache line that `bytes` > 0 from `start` touch. */
static void prefetch_lines(const void *start, size_t bytes) {
    const char *line = (const char *)start - (uintptr_t)start % 64;
    for (; line < (const char *)start + bytes; line += 64) {
        __builtin_prefetch(line);
    }
}

/* A slab for row number `rows`; false: out of memory or of 32-bit row numbers. */
static bool reserve_slab(weir_table_t *table) {
    if (table->rows >= WEIR_INDEX_NONE) {
        return false;
    }
    if (table->rows >> table->slab_bits < table->slab_count) {
        return true;
    }
    if (table->slab_count == table->slab_capacity) {
        size_t capacity = table->slab_capacity == 0 ? 16 : table->slab_capacity * 2;
        char **slabs = realloc(table->slabs, capacity * sizeof *slabs);
        if (slabs == NULL) {
            return false;
        }
        table->slabs = slabs;
        table->slab_capacity = capacity;
    }
    char *slab = weir_arena_map(table->slab_size);
    if (slab == NULL) {
        return false;
    }
    table->slabs[table->slab_count++] = slab;
    return true;
}

/* A new zeroed row for a key that is not there. Everything that can fail comes first. */
static weir_err_t add_row(weir_table_t *table, weir_key_t key, weir_row_handle_t *handle,
                          weir_error_t *error) {
    if (!reserve_slab(table) || !weir_index_reserve(&table->index, key)) {
        return weir_errorf(error, WEIR_ERR_MEMORY,
                           "table %s: out of memory for one more row beside %llu",
                           table->schema.name, (unsigned long long)table->rows);
    }
    *handle = (weir_row_handle_t)table->rows++;
    weir_index_insert(&table->index, key, *handle);
    return WEIR_OK;
}

static weir_err_t bear_missing(weir_table_t *table, const weir_key_t *keys, size_t count,
                               weir_row_handle_t *handles, weir_error_t *error) {
    for (size_t i = 0; i < count; i++) {
        if (handles[i] != WEIR_INDEX_NONE) {
            continue;
        }
        weir_index_find(&table->index, &keys[i], 1, &handles[i]); /* the batch may repeat it */
        if (handles[i] != WEIR_INDEX_NONE) {
            continue;
        }
        weir_err_t err = add_row(table, keys[i], &handles[i], error);
        if (err != WEIR_OK) {
            return err;
        }
        weir_row_birth(&table->schema, keys[i], record_of(table, handles[i]));
    }
    return WEIR_OK;
}

/* Rows that are not there (WEIR_INDEX_NONE) are made on the fly from `keys`. */
static void gather_values(const weir_table_t *table, const weir_key_t *keys,
                          const weir_row_handle_t *handles, size_t count, float *values) {
    size_t dim = table->schema.dim, bytes = dim * sizeof *values;
    for (size_t i = 0; i < count + table->ahead; i++) {
        if (i < count && handles[i] != WEIR_INDEX_NONE) {
            prefetch_lines(record_of(table, handles[i]), bytes);
        }
        if (i < table->ahead) {
            continue;
        }
        size_t now = i - table->ahead;
        if (handles[now] == WEIR_INDEX_NONE) {
            weir_row_birth(&table->schema, keys[now], values + now * dim);
        } else {
            memcpy(values + now * dim, record_of(table, handles[now]), bytes);
        }
    }
}

weir_err_t weir_table_pull(weir_table_t *table, const weir_key_t *keys, size_t count,
                           weir_row_handle_t *handles, float *values, weir_error_t *error) {
    for (size_t begin = 0; begin < count; begin += BATCH) {
        size_t now = count - begin < BATCH ? count - begin : BATCH;
        weir_index_find(&table->index, keys + begin, now, handles + begin);
        weir_err_t err = bear_missing(table, keys + begin, now, handles + begin, error);
        if (err != WEIR_OK) {
            return err;
        }
        if (values != NULL) {
            gather_values(table, keys + begin, handles + begin, now,
                          values + begin * table->schema.dim);
        }
    }
    return WEIR_OK;
}

void weir_table_peek(const weir_table_t *table, const weir_key_t *keys, size_t count,
                     float *values) {
    weir_row_handle_t handles[BATCH];
    for (size_t begin = 0; begin < count; begin += BATCH) {
        size_t now = count - begin < BATCH ? count - begin : BATCH;
        weir_index_find(&table->index, keys + begin, now, handles);
        gather_values(table, keys + begin, handles, now, values + begin * table->schema.dim);
    }
}

static uint32_t saturate(uint64_t number) {
    return number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
}

size_t weir_table_apply(weir_table_t *table, const weir_row_handle_t *handles,
                        const float *gradients, size_t count, uint64_t step) {
    const weir_optimizer_t *optimizer = &table->optimizer;
    size_t bytes = table->layout.floats * sizeof(float);
    size_t ahead = AHEAD_BYTES / bytes + 2;
    size_t skipped = 0;
    for (size_t i = 0; i < count + ahead; i++) {
        if (i < count) {
            prefetch_lines(record_of(table, handles[i]), bytes);
            __builtin_prefetch(metadata_of(table, handles[i]));
        }
        if (i < ahead) {
            continue;
        }
        const float *gradient = gradients + (i - ahead) * table->schema.dim;
        if (!optimizer->finite(gradient, table->schema.dim)) {
            skipped++;
            continue;
        }
        row_metadata_t *metadata = metadata_of(table, handles[i - ahead]);
        metadata->count = saturate((uint64_t)metadata->count + 1);
        metadata->last_step = saturate(step);
        optimizer->update(optimizer, record_of(table, handles[i - ahead]), gradient,
                          weir_optimizer_correction(optimizer, metadata->count));
    }
    return skipped;
}

const float *weir_table_record(const weir_table_t *table, weir_row_handle_t handle,
                               uint64_t *last_step, uint64_t *count) {
    const row_metadata_t *metadata = metadata_of(table, handle);
    *last_step = metadata->last_step;
    *count = metadata->count;
    return record_of(table, handle);
}

weir_err_t weir_table_restore(weir_table_t *table, weir_key_t key, const float *record,
                              uint64_t last_step, uint64_t count, weir_error_t *error) {
    weir_row_handle_t handle = WEIR_INDEX_NONE;
    weir_index_find(&table->index, &key, 1, &handle);
    if (handle != WEIR_INDEX_NONE) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "table %s: key %llu is there twice",
                           table->schema.name, (unsigned long long)key);
    }
    if (last_step > UINT32_MAX || count > UINT32_MAX) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "table %s: key %llu has last step %llu and count %llu, which cannot be",
                           table->schema.name, (unsigned long long)key,
                           (unsigned long long)last_step, (unsigned long long)count);
    }
    weir_err_t err = add_row(table, key, &handle, error);
    if (err != WEIR_OK) {
        return err;
    }
    memcpy(record_of(table, handle), record, table->layout.floats * sizeof *record);
    *metadata_of(table, handle) =
        (row_metadata_t){.last_step = (uint32_t)last_step, .count = (uint32_t)count};
    return WEIR_OK;
}

/* ---- order ---- */

typedef struct {
    uint64_t hash;
    weir_key_t key;
    weir_row_handle_t handle;
} ordered_row_t;

typedef struct {
    ordered_row_t *rows;
    size_t *next; /* per slot: where its next row goes */
    size_t *counts;
} slot_sort_t;

static void count_row(void *argument, weir_key_t key, uint32_t row) {
    slot_sort_t *sort = argument;
    (void)row;
    sort->counts[weir_slot_of_hash(weir_hash64(key))]++;
}

static void place_row(void *argument, weir_key_t key, uint32_t row) {
    slot_sort_t *sort = argument;
    uint64_t hash = weir_hash64(key);
    sort->rows[sort->next[weir_slot_of_hash(hash)]++] = (ordered_row_t){hash, key, row};
}

static int compare_hashes(const void *left, const void *right) {
    uint64_t a = ((const ordered_row_t *)left)->hash;
    uint64_t b = ((const ordered_row_t *)right)->hash;
    return (a > b) - (a < b);
}

weir_err_t weir_table_ordered(const weir_table_t *table, weir_key_t *keys,
                              weir_row_handle_t *handles, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    size_t rows = (size_t)table->rows;
    slot_sort_t sort = {.rows = malloc((rows + 1) * sizeof *sort.rows),
                        .next = calloc(WEIR_SLOT_COUNT, sizeof *sort.next),
                        .counts = calloc(WEIR_SLOT_COUNT, sizeof *sort.counts)};
    if (sort.rows == NULL || sort.next == NULL || sort.counts == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory to order %zu rows",
                          table->schema.name, rows);
        goto out;
    }
    weir_index_visit(&table->index, count_row, &sort);
    for (size_t slot = 1; slot < WEIR_SLOT_COUNT; slot++) {
        sort.next[slot] = sort.next[slot - 1] + sort.counts[slot - 1];
    }
    weir_index_visit(&table->index, place_row, &sort);
    for (size_t slot = 0, begin = 0; slot < WEIR_SLOT_COUNT; slot++) {
        qsort(sort.rows + begin, sort.counts[slot], sizeof *sort.rows, compare_hashes);
        begin += sort.counts[slot];
    }
    for (size_t i = 0; i < rows; i++) {
        keys[i] = sort.rows[i].key;
        handles[i] = sort.rows[i].handle;
    }
out:
    free(sort.rows);
    free(sort.next);
    free(sort.counts);
    return err;
}
