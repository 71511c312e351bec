/* All rows of a table in the order of their hashes, and the way back: what snapshots are made of.
 */
#include "ps/table_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t hash;
    weir_key_t key;
    weir_row_handle_t handle; /* WEIR_ROW_NONE: cold */
    size_t cold;              /* where its record lies in `records` */
} scanned_t;

typedef struct {
    weir_table_t *table;
    uint64_t step;
    scanned_t *rows; /* of one cell */
    size_t count, capacity;
    char *records; /* of its cold rows */
    size_t record_count, record_capacity;
    weir_table_row_t *batch; /* as the visitor sees them; `capacity` */
    /* The cold row that comes next. */
    weir_cold_iterator_t *iterator;
    bool has_next;
    weir_key_t next_key;
    const void *next_record;
} scan_t;

static bool reserve_rows(scan_t *scan, size_t wanted) {
    if (wanted <= scan->capacity) {
        return true;
    }
    size_t capacity = wanted + wanted / 2;
    scanned_t *rows = realloc(scan->rows, capacity * sizeof *rows);
    scan->rows = rows == NULL ? scan->rows : rows;
    weir_table_row_t *batch = realloc(scan->batch, capacity * sizeof *batch);
    scan->batch = batch == NULL ? scan->batch : batch;
    if (rows == NULL || batch == NULL) {
        return false;
    }
    scan->capacity = capacity;
    return true;
}

static void collect(void *argument, weir_key_t key, uint32_t handle) {
    scan_t *scan = argument;
    const weir_row_metadata_t *metadata = weir_row_store_metadata(&scan->table->store, handle);
    if (!weir_table_is_expired(scan->table, metadata, scan->step)) {
        scan->rows[scan->count++] = (scanned_t){weir_hash64(key), key, handle, 0};
    }
}

static weir_err_t advance_cold(scan_t *scan, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    scan->has_next =
        weir_cold_iterator_next(scan->iterator, &scan->next_key, &scan->next_record, &err, error);
    return scan->has_next ? WEIR_OK : err;
}

/* Keep the cold row that is next, unless its key has a row in memory or it has expired. */
static bool keep_cold(scan_t *scan) {
    weir_table_t *table = scan->table;
    size_t bytes = weir_table_cold_bytes(table);
    weir_row_metadata_t metadata;
    weir_row_handle_t handle;
    weir_index_find(&table->index, &scan->next_key, 1, &handle);
    memcpy(&metadata, (const char *)scan->next_record + table->layout.record_bytes,
           sizeof metadata);
    if (handle != WEIR_ROW_NONE || weir_table_is_expired(table, &metadata, scan->step)) {
        return true;
    }
    if (scan->record_count == scan->record_capacity) {
        size_t capacity = scan->record_capacity == 0 ? 1024 : 2 * scan->record_capacity;
        char *grown = realloc(scan->records, capacity * bytes);
        if (grown == NULL) {
            return false;
        }
        scan->records = grown;
        scan->record_capacity = capacity;
    }
    if (!reserve_rows(scan, scan->count + 1)) {
        return false;
    }
    memcpy(scan->records + scan->record_count * bytes, scan->next_record, bytes);
    scan->rows[scan->count++] = (scanned_t){weir_hash64(scan->next_key), scan->next_key,
                                            WEIR_ROW_NONE, scan->record_count++};
    return true;
}

static weir_err_t collect_cold(scan_t *scan, uint32_t cell, weir_error_t *error) {
    scan->record_count = 0;
    while (scan->has_next && weir_index_cell_of(&scan->table->index, scan->next_key) == cell) {
        if (!keep_cold(scan)) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory to order its rows",
                               scan->table->options.row.name);
        }
        weir_err_t err = advance_cold(scan, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    return WEIR_OK;
}

static int compare_hashes(const void *left, const void *right) {
    uint64_t a = ((const scanned_t *)left)->hash, b = ((const scanned_t *)right)->hash;
    return (a > b) - (a < b);
}

static void show_rows(scan_t *scan) {
    weir_table_t *table = scan->table;
    for (size_t i = 0; i < scan->count; i++) {
        const scanned_t *row = &scan->rows[i];
        weir_table_row_t *shown = &scan->batch[i];
        weir_row_metadata_t metadata;
        if (row->handle == WEIR_ROW_NONE) {
            const char *cold = scan->records + row->cold * weir_table_cold_bytes(table);
            memcpy(&metadata, cold + table->layout.record_bytes, sizeof metadata);
            *shown = (weir_table_row_t){.value = cold, .rest = cold + table->layout.value_bytes};
        } else {
            metadata = *weir_row_store_metadata(&table->store, row->handle);
            *shown = (weir_table_row_t){.value = weir_row_store_value(&table->store, row->handle),
                                        .rest = weir_row_store_rest(&table->store, row->handle)};
        }
        shown->key = row->key;
        shown->last_step = metadata.last_step;
        shown->count = metadata.count;
    }
}

weir_err_t weir_table_scan(weir_table_t *table, uint64_t step,
                           weir_err_t (*visit)(void *argument, const weir_table_row_t *rows,
                                               size_t count, weir_error_t *error),
                           void *argument, weir_error_t *error) {
    scan_t scan = {.table = table, .step = step};
    weir_err_t err = WEIR_OK;
    if (table->cold != NULL) {
        scan.iterator = weir_cold_store_iterate(table->cold, table->options.first_slot,
                                                table->options.end_slot);
        err = scan.iterator == NULL
                  ? weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory to read cold rows",
                                table->options.row.name)
                  : advance_cold(&scan, error);
    }
    uint32_t cells = weir_index_cells(&table->index);
    for (uint32_t cell = 0; cell < cells && err == WEIR_OK; cell++) {
        scan.count = 0;
        if (!reserve_rows(&scan, weir_index_cell_entries(&table->index, cell))) {
            err = weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory to order its rows",
                              table->options.row.name);
            break;
        }
        weir_index_visit_cell(&table->index, cell, collect, &scan);
        err = collect_cold(&scan, cell, error);
        if (err == WEIR_OK && scan.count > 0) {
            qsort(scan.rows, scan.count, sizeof *scan.rows, compare_hashes);
            show_rows(&scan);
            err = visit(argument, scan.batch, scan.count, error);
        }
    }
    weir_cold_iterator_destroy(scan.iterator);
    free(scan.rows);
    free(scan.batch);
    free(scan.records);
    return err;
}

/* ---- the way back ---- */

static weir_err_t check_restored(weir_table_t *table, const weir_table_row_t *row,
                                 weir_error_t *error) {
    weir_row_handle_t handle;
    weir_index_find(&table->index, &row->key, 1, &handle);
    if (handle != WEIR_ROW_NONE) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "table %s: key %llu is there twice",
                           table->options.row.name, (unsigned long long)row->key);
    }
    if (row->last_step > UINT32_MAX || row->count > UINT32_MAX) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "table %s: key %llu has last step %llu and count %llu, which cannot be",
                           table->options.row.name, (unsigned long long)row->key,
                           (unsigned long long)row->last_step, (unsigned long long)row->count);
    }
    return WEIR_OK;
}

/* Write the rows that wait. After an error they wait still. */
static weir_err_t write_restored(weir_table_t *table, weir_error_t *error) {
    size_t count = table->restored;
    if (count == 0) {
        return WEIR_OK;
    }
    uint64_t rows = weir_cold_store_rows(table->cold);
    weir_err_t err = weir_table_put_cold(table, count, false, error);
    if (err != WEIR_OK) {
        return err;
    }
    table->restored = 0;
    return weir_cold_store_rows(table->cold) - rows == count
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_CORRUPT, "table %s: a key is there twice",
                             table->options.row.name);
}

/* Rows beyond a cell's limit go to the cold store at once: a table may be larger than memory. */
static weir_err_t restore_cold(weir_table_t *table, const weir_table_row_t *row,
                               const weir_row_metadata_t *metadata, weir_error_t *error) {
    weir_err_t err = weir_table_reserve_cold(table, WEIR_TABLE_BATCH, error);
    if (err == WEIR_OK && table->restored == WEIR_TABLE_BATCH) {
        err = write_restored(table, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    char *record = table->cold_records + table->restored * weir_table_cold_bytes(table);
    weir_table_pack(table, record, row->value, row->rest, metadata);
    table->cold_keys[table->restored++] = row->key;
    return WEIR_OK;
}

weir_err_t weir_table_restore(weir_table_t *table, const weir_table_row_t *row,
                              weir_error_t *error) {
    weir_row_handle_t handle;
    weir_err_t err = check_restored(table, row, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_row_metadata_t metadata = {.last_step = (uint32_t)row->last_step,
                                    .count = (uint32_t)row->count};
    if (table->cold != NULL && table->row_budget != 0) {
        uint32_t cell = weir_index_cell_of(&table->index, row->key);
        uint64_t limit = weir_table_cell_limit(table, cell);
        if (weir_index_cell_entries(&table->index, cell) >= limit - limit / 16) {
            return restore_cold(table, row, &metadata, error);
        }
    }
    err = weir_table_add(table, row->key, &handle, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_table_write(table, handle, row->value, row->rest);
    *weir_row_store_metadata(&table->store, handle) = metadata;
    return WEIR_OK;
}

weir_err_t weir_table_end_restore(weir_table_t *table, weir_error_t *error) {
    weir_err_t err = write_restored(table, error);
    weir_table_mark_due(table);
    return err;
}
