#include "ps/table.h"

#include "ps/table_internal.h"

#include <stdlib.h>
#include <string.h>

enum { AHEAD_BYTES = 8 << 10 /* how far ahead of the gather rows are prefetched */ };

enum {
    INDEX_BYTES = 17, /* of the index, for each row of a large cell: its entry at the load of steady
                         growth */
    CELL_BYTES = 16 + 10 + 32 /* its place in the directory, its flags, two extents of the arena */
};

double weir_table_row_bytes(const weir_row_schema_t *schema) {
    weir_row_layout_t layout = weir_row_layout(schema);
    weir_row_store_t store;
    weir_row_store_init(&store, layout.value_bytes, layout.record_bytes - layout.value_bytes,
                        false);
    return (double)weir_row_store_row_bytes(&store) + INDEX_BYTES;
}

/* Memory of `rows` rows of all servers. In small cells whole groups of the index count, also that
 * of the row by which a cell is found to be full. */
static double budget_bytes(double row_bytes, uint64_t rows) {
    uint64_t cells = (uint64_t)WEIR_SLOT_COUNT << weir_table_cell_bits(rows);
    double index = (double)weir_index_bytes_for((uint32_t)((rows + cells - 1) / cells) + 1);
    double growth = (double)rows * INDEX_BYTES / (double)cells;
    return (double)rows * (row_bytes - INDEX_BYTES) +
           (double)cells * (CELL_BYTES + (index > growth ? index : growth));
}

uint64_t weir_table_budget_for(const weir_row_schema_t *schema, uint64_t rows) {
    return (uint64_t)budget_bytes(weir_table_row_bytes(schema), rows) + 1;
}

uint64_t weir_table_rows_in(const weir_row_schema_t *schema, uint64_t bytes) {
    double row_bytes = weir_table_row_bytes(schema);
    uint64_t low = 0, high = (uint64_t)((double)bytes / row_bytes) + 1;
    while (high - low > 1) { /* `low` rows fit, `high` do not */
        uint64_t middle = low + (high - low) / 2;
        if (budget_bytes(row_bytes, middle) <= (double)bytes) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static weir_err_t check_options(const weir_table_options_t *options, weir_error_t *error) {
    if ((unsigned)options->eviction >= WEIR_EVICTION_COUNT) {
        return weir_errorf(error, WEIR_ERR_INVALID, "table %.31s: no such eviction policy",
                           options->row.name);
    }
    if (options->end_slot > WEIR_SLOT_COUNT ||
        (options->end_slot != 0 && options->first_slot >= options->end_slot)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "table %.31s: slots %u to %u are no range",
                           options->row.name, options->first_slot, options->end_slot);
    }
    return weir_row_schema_check(&options->row, error);
}

static weir_err_t create_admission(weir_table_t *table, weir_error_t *error) {
    const weir_table_options_t *options = &table->options;
    if (options->admission == WEIR_ADMISSION_ALL) {
        return WEIR_OK;
    }
    weir_admission_options_t admission = {.kind = options->admission,
                                          .probability = options->admission_probability,
                                          .threshold = options->admission_threshold,
                                          .window = options->admission_window,
                                          .counters = options->admission_counters,
                                          .seed = options->row.seed,
                                          .table_id = options->row.table_id,
                                          .first_slot = options->first_slot,
                                          .end_slot = options->end_slot};
    return weir_admission_create(&admission, &table->admission, error);
}

static weir_err_t create_cold(weir_table_t *table, weir_error_t *error) {
    if (table->options.cold_folder == NULL) {
        return WEIR_OK;
    }
    weir_cold_store_options_t cold = {.folder = table->options.cold_folder,
                                      .record_bytes = weir_table_cold_bytes(table),
                                      .cache_bytes = (size_t)table->options.cold_cache};
    return weir_cold_store_create(&cold, &table->cold, error);
}

weir_err_t weir_table_create(const weir_table_options_t *options, weir_table_t **table,
                             weir_error_t *error) {
    weir_err_t err = check_options(options, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_table_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a table");
    }
    made->options = *options;
    made->oldest_in_use = UINT64_MAX;
    if (options->end_slot == 0) {
        made->options.end_slot = WEIR_SLOT_COUNT;
    }
    made->layout = weir_row_layout(&made->options.row);
    weir_row_store_init(&made->store, made->layout.value_bytes,
                        made->layout.record_bytes - made->layout.value_bytes, options->owners);
    made->ahead = AHEAD_BYTES / made->layout.value_bytes + 2;
    made->row_budget = weir_table_rows_in(&options->row, options->memory_budget);
    made->scratch = malloc(2 * made->layout.dim * sizeof *made->scratch);
    if (made->scratch == NULL ||
        !weir_index_init(&made->index, &made->arena, made->options.first_slot,
                         made->options.end_slot, weir_table_cell_bits(made->row_budget))) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for a table");
    }
    if (err == WEIR_OK) {
        err = weir_row_update_init(&made->update, &made->options.row, &made->layout, error);
    }
    if (err == WEIR_OK) {
        err = weir_table_cells_init(made, error);
    }
    if (err == WEIR_OK) {
        err = create_admission(made, error);
    }
    if (err == WEIR_OK) {
        err = create_cold(made, error);
    }
    if (err != WEIR_OK) {
        weir_table_destroy(made);
        return err;
    }
    made->options.cold_folder = NULL; /* not ours beyond this call */
    *table = made;
    return WEIR_OK;
}

void weir_table_destroy(weir_table_t *table) {
    if (table == NULL) {
        return;
    }
    weir_table_cold_fini(table);
    weir_admission_destroy(table->admission);
    weir_table_cells_fini(table);
    weir_row_update_fini(&table->update);
    weir_index_fini(&table->index);
    weir_arena_fini(&table->arena);
    weir_row_store_fini(&table->store);
    free(table->scratch);
    weir_table_removed_fini(&table->removed);
    free(table);
}

const weir_row_schema_t *weir_table_schema(const weir_table_t *table) {
    return &table->options.row;
}

const weir_row_layout_t *weir_table_layout(const weir_table_t *table) {
    return &table->layout;
}

uint64_t weir_table_ttl(const weir_table_t *table) {
    return table->options.ttl;
}

weir_admission_t *weir_table_admission(weir_table_t *table) {
    return table->admission;
}

weir_table_stats_t weir_table_stats(const weir_table_t *table) {
    weir_table_stats_t stats = table->stats;
    stats.rows = table->store.rows;
    if (table->cold != NULL) {
        stats.cold_rows = weir_cold_store_rows(table->cold) - table->both;
    }
    uint64_t records = weir_row_store_bytes(&table->store);
    uint64_t rest = sizeof *table + weir_index_bytes(&table->index) +
                    weir_arena_own_bytes(&table->arena) + weir_row_update_bytes(&table->update) +
                    weir_table_cells_bytes(table) + weir_table_cold_scratch_bytes(table) +
                    2 * table->layout.dim * sizeof *table->scratch +
                    table->removed.capacity * sizeof *table->removed.keys +
                    (table->admission == NULL ? 0 : weir_admission_bytes(table->admission));
    stats.bytes = records + rest;
    stats.index_bytes = rest + table->store.places * sizeof(weir_row_metadata_t);
    return stats;
}

/* ---- rows ---- */

weir_err_t weir_table_add(weir_table_t *table, weir_key_t key, weir_row_handle_t *handle,
                          weir_error_t *error) {
    if (!weir_row_store_reserve(&table->store) || !weir_index_reserve(&table->index, key)) {
        return weir_errorf(error, WEIR_ERR_MEMORY,
                           "table %s: out of memory for one more row beside %llu",
                           table->options.row.name, (unsigned long long)table->store.rows);
    }
    *handle = weir_row_store_acquire(&table->store);
    weir_index_insert(&table->index, key, *handle);
    weir_table_touch_cell(table, key);
    if (table->cut != NULL) {
        weir_table_cut_born(table->cut, *handle);
    }
    return WEIR_OK;
}

void weir_table_drop(weir_table_t *table, weir_key_t key, weir_row_handle_t handle) {
    weir_table_will_change(table, key, handle);
    table->both -= weir_row_store_flag(&table->store, handle);
    (void)weir_index_remove(&table->index, key);
    weir_row_store_release(&table->store, handle);
}

/* Whether a pull at `step` finds the row as if it had never been born. */
static bool has_expired(const weir_table_t *table, weir_row_handle_t handle, uint64_t step) {
    return handle != WEIR_ROW_NONE &&
           weir_table_is_expired(table, weir_row_store_metadata(&table->store, handle), step);
}

/* Of rows that have expired the cold store forgets its copies. */
static weir_err_t discard_expired(weir_table_t *table, const weir_key_t *keys, size_t count,
                                  uint64_t step, const weir_row_handle_t *handles,
                                  weir_error_t *error) {
    weir_key_t gone[WEIR_TABLE_BATCH];
    size_t gone_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (has_expired(table, handles[i], step) &&
            weir_row_store_flag(&table->store, handles[i])) {
            gone[gone_count++] = keys[i];
        }
    }
    return weir_cold_store_discard(table->cold, gone, gone_count, error);
}

/* Rows that have expired lose their place: their keys are then as any that has no row. */
static weir_err_t drop_expired(weir_table_t *table, const weir_key_t *keys, size_t count,
                               uint64_t step, weir_row_handle_t *handles, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < count; i++) {
        if (handles[i] != WEIR_ROW_NONE) {
            __builtin_prefetch(weir_row_store_metadata(&table->store, handles[i]));
        }
    }
    if (table->cold != NULL) {
        err = discard_expired(table, keys, count, step, handles, error);
    }
    for (size_t i = 0; i < count && err == WEIR_OK; i++) {
        if (!has_expired(table, handles[i], step)) {
            continue;
        }
        weir_table_drop(table, keys[i], handles[i]);
        table->stats.expired++;
        for (size_t j = i + 1; j < count; j++) { /* the batch may repeat it */
            if (handles[j] == handles[i]) {
                handles[j] = WEIR_ROW_NONE;
            }
        }
        handles[i] = WEIR_ROW_NONE;
    }
    return err;
}

/* Give birth to the keys that have no row, as far as they are admitted. */
static weir_err_t bear_missing(weir_table_t *table, const weir_key_t *keys, size_t count,
                               uint64_t step, weir_row_handle_t *handles, weir_error_t *error) {
    bool admitted[WEIR_TABLE_BATCH];
    bool decided = table->admission == NULL;
    for (size_t i = 0; i < count; i++) {
        if (handles[i] != WEIR_ROW_NONE) {
            continue;
        }
        if (!decided) {
            weir_admission_decide_batch(table->admission, keys, count, step, admitted);
            decided = true;
        }
        if (table->admission != NULL && !admitted[i]) {
            table->stats.rejected++;
            if (!weir_admission_note(table->admission, keys[i])) {
                return weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory to count keys",
                                   table->options.row.name);
            }
            continue;
        }
        weir_index_find(&table->index, &keys[i], 1, &handles[i]); /* the batch may repeat it */
        if (handles[i] != WEIR_ROW_NONE) {
            continue;
        }
        weir_err_t err = weir_table_add(table, keys[i], &handles[i], error);
        if (err != WEIR_OK) {
            return err;
        }
        weir_row_birth(&table->options.row, &table->layout, keys[i],
                       weir_row_store_value(&table->store, handles[i]),
                       weir_row_store_rest(&table->store, handles[i]), table->scratch);
        table->stats.born++;
    }
    return WEIR_OK;
}

static bool is_any_missing(const weir_row_handle_t *handles, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (handles[i] == WEIR_ROW_NONE) {
            return true;
        }
    }
    return false;
}

/* Rows that are not there are made on the fly from `keys`. */
static void gather_values(const weir_table_t *table, const weir_key_t *keys,
                          const weir_row_handle_t *handles, size_t count, char *values) {
    const weir_row_store_t *store = &table->store;
    size_t bytes = table->layout.value_bytes, ahead = table->ahead;
    for (size_t i = 0; i < count + ahead; i++) {
        if (i < count && handles[i] != WEIR_ROW_NONE) {
            weir_table_prefetch_lines(weir_row_store_value(store, handles[i]), bytes);
        }
        if (i < ahead) {
            continue;
        }
        size_t now = i - ahead;
        if (handles[now] == WEIR_ROW_NONE) {
            weir_row_birth_value(&table->options.row, &table->layout, keys[now],
                                 values + now * bytes, table->scratch);
        } else {
            memcpy(values + now * bytes, weir_row_store_value(store, handles[now]), bytes);
        }
    }
}

/* A step that ends may be older than one that is under way and uses the row too. */
static void touch_row(weir_row_metadata_t *metadata, uint64_t step) {
    uint32_t used = weir_table_saturate(step);
    metadata->last_step = used > metadata->last_step ? used : metadata->last_step;
}

static void touch_rows(weir_table_t *table, const weir_key_t *keys,
                       const weir_row_handle_t *handles, size_t count, uint64_t step) {
    for (size_t i = 0; i < count; i++) {
        if (handles[i] != WEIR_ROW_NONE) {
            weir_table_will_change(table, keys[i], handles[i]);
            touch_row(weir_row_store_metadata(&table->store, handles[i]), step);
        }
    }
}

static weir_err_t pull_batch(weir_table_t *table, const weir_key_t *keys, size_t count,
                             uint64_t step, weir_row_handle_t *handles, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    weir_index_find(&table->index, keys, count, handles);
    if (table->options.ttl != 0) {
        err = drop_expired(table, keys, count, step, handles, error);
    }
    if (err == WEIR_OK && is_any_missing(handles, count)) {
        err = bear_missing(table, keys, count, step, handles, error);
    }
    return err;
}

weir_err_t weir_table_pull(weir_table_t *table, const weir_key_t *keys, size_t count, uint64_t step,
                           weir_row_handle_t *handles, void *values, weir_error_t *error) {
    weir_err_t err = table->cold == NULL
                         ? WEIR_OK
                         : weir_table_warm(table, keys, count, step, true, handles, error);
    /* Without a policy that asks for it, nobody reads when a row was used last before its update.
     */
    bool touches = table->options.ttl != 0 || table->row_budget != 0;
    table->oldest_in_use = table->oldest_in_use == UINT64_MAX ? step : table->oldest_in_use;
    for (size_t begin = 0; begin < count && err == WEIR_OK; begin += WEIR_TABLE_BATCH) {
        size_t now = count - begin < WEIR_TABLE_BATCH ? count - begin : WEIR_TABLE_BATCH;
        err = pull_batch(table, keys + begin, now, step, handles + begin, error);
        if (err == WEIR_OK && touches) {
            touch_rows(table, keys + begin, handles + begin, now, step);
        }
        if (err == WEIR_OK && values != NULL) {
            gather_values(table, keys + begin, handles + begin, now,
                          (char *)values + begin * table->layout.value_bytes);
        }
    }
    return err;
}

void weir_table_find(const weir_table_t *table, const weir_key_t *keys, size_t count,
                     weir_row_handle_t *handles) {
    weir_index_find(&table->index, keys, count, handles);
}

void weir_table_gather(const weir_table_t *table, const weir_key_t *keys,
                       const weir_row_handle_t *handles, size_t count, uint64_t step,
                       void *values) {
    weir_row_handle_t alive[WEIR_TABLE_BATCH];
    if (table->options.ttl == 0) {
        gather_values(table, keys, handles, count, values);
        return;
    }
    for (size_t begin = 0; begin < count; begin += WEIR_TABLE_BATCH) {
        size_t now = count - begin < WEIR_TABLE_BATCH ? count - begin : WEIR_TABLE_BATCH;
        for (size_t i = 0; i < now; i++) {
            weir_row_handle_t handle = handles[begin + i];
            bool expired =
                handle != WEIR_ROW_NONE &&
                weir_table_is_expired(table, weir_row_store_metadata(&table->store, handle), step);
            alive[i] = expired ? WEIR_ROW_NONE : handle;
        }
        gather_values(table, keys + begin, alive, now,
                      (char *)values + begin * table->layout.value_bytes);
    }
}

weir_err_t weir_table_peek(weir_table_t *table, const weir_key_t *keys, size_t count, uint64_t step,
                           void *values, weir_error_t *error) {
    weir_row_handle_t handles[WEIR_TABLE_BATCH];
    weir_err_t err = WEIR_OK;
    for (size_t begin = 0; begin < count && err == WEIR_OK; begin += WEIR_TABLE_BATCH) {
        size_t now = count - begin < WEIR_TABLE_BATCH ? count - begin : WEIR_TABLE_BATCH;
        char *out = (char *)values + begin * table->layout.value_bytes;
        weir_index_find(&table->index, keys + begin, now, handles);
        weir_table_gather(table, keys + begin, handles, now, step, out);
        if (table->cold != NULL && is_any_missing(handles, now)) {
            err = weir_table_peek_cold(table, keys + begin, now, step, handles, out, error);
        }
    }
    return err;
}

bool weir_table_is_settled(const weir_table_t *table, weir_key_t key, weir_row_handle_t handle) {
    if (table->cold != NULL) {
        return handle != WEIR_ROW_NONE; /* a cold row may be there */
    }
    return table->row_budget == 0 || !table->due[weir_index_cell_of(&table->index, key)];
}

bool weir_table_prepare(weir_table_t *table) {
    uint64_t born = table->stats.born - table->born_before, ahead = 2 * table->births;
    ahead = ahead > born ? ahead - born : 0;
    return ahead > 0 &&
           (weir_row_store_prepare(&table->store, ahead) || weir_arena_prepare(&table->arena));
}

static void clear_owner(const weir_row_store_t *store, weir_row_handle_t handle) {
    if (store->owners != 0) {
        *weir_row_store_owner(store, handle) = (weir_row_owner_t){.worker = 0};
    }
}

weir_table_applied_t weir_table_apply(weir_table_t *table, const weir_key_t *keys,
                                      const weir_row_handle_t *handles, const float *gradients,
                                      size_t count, uint64_t step) {
    const weir_row_store_t *store = &table->store;
    weir_table_applied_t applied = {.updated = 0};
    size_t bytes = table->layout.record_bytes;
    size_t ahead = AHEAD_BYTES / bytes + 2;
    weir_row_update_begin_step(&table->update, step);
    for (size_t i = 0; i < count + ahead; i++) {
        if (i < count && handles[i] != WEIR_ROW_NONE) {
            weir_table_prefetch_lines(weir_row_store_value(store, handles[i]),
                                      table->layout.value_bytes);
            weir_table_prefetch_lines(weir_row_store_metadata(store, handles[i]),
                                      store->rest_stride);
        }
        if (i < ahead) {
            continue;
        }
        size_t now = i - ahead;
        const float *gradient = gradients + now * table->layout.dim;
        if (handles[now] == WEIR_ROW_NONE) {
            applied.dropped++;
            continue;
        }
        weir_table_will_change(table, keys[now], handles[now]);
        weir_row_metadata_t *metadata = weir_row_store_metadata(store, handles[now]);
        touch_row(metadata, step);
        if (!weir_row_update_is_finite(&table->update, gradient)) {
            applied.not_finite++;
            clear_owner(store, handles[now]);
            continue;
        }
        metadata->count = weir_table_saturate((uint64_t)metadata->count + 1);
        weir_row_update_apply(&table->update, keys[now], weir_row_store_value(store, handles[now]),
                              weir_row_store_rest(store, handles[now]), gradient, metadata->count,
                              step);
        applied.updated++;
    }
    return applied;
}
