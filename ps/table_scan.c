/* All rows of a table in the order of their hashes, and the way back: what snapshots are made of.
 */
#include "ps/table_cut.h"
#include "ps/table_internal.h"

#include <stdlib.h>
#include <string.h>

weir_err_t weir_table_scan(weir_table_t *table, uint64_t step,
                           weir_err_t (*visit)(void *argument, const weir_table_row_t *rows,
                                               size_t count, weir_error_t *error),
                           void *argument, weir_error_t *error) {
    weir_table_cut_t *cut = NULL;
    const weir_table_row_t *rows = NULL;
    size_t count = 1;
    weir_err_t err = weir_table_cut_begin(table, step - 1, &cut, error);
    if (err == WEIR_OK) {
        err = weir_table_cut_pass(cut, true, error);
    }
    while (err == WEIR_OK && count > 0) {
        err = weir_table_cut_next(cut, &rows, &count, error);
        if (err == WEIR_OK && count > 0) {
            err = visit(argument, rows, count, error);
        }
    }
    weir_table_cut_end(cut);
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
