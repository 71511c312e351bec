/* A table's rows on disk: read when a pull names them, written when they are evicted.
 *
 * The cold store keeps what was written until it is written anew; while a row is in memory, the
 * store's copy of it is out of date and never read. The row's flag says that there is one. */
#include "ps/table_internal.h"

#include <stdlib.h>
#include <string.h>

void weir_table_cold_fini(weir_table_t *table) {
    for (size_t i = 0; i < table->fetch_count; i++) {
        free(table->fetches[i].keys);
    }
    weir_cold_store_destroy(table->cold); /* its tickets too */
    free(table->fetches);
    free(table->cold_keys);
    free(table->cold_records);
    free(table->cold_found);
}

weir_err_t weir_table_reserve_cold(weir_table_t *table, size_t count, weir_error_t *error) {
    if (count <= table->cold_capacity) {
        return WEIR_OK;
    }
    size_t capacity = count + count / 2;
    weir_key_t *keys = realloc(table->cold_keys, capacity * sizeof *keys);
    table->cold_keys = keys == NULL ? table->cold_keys : keys;
    char *records = realloc(table->cold_records, capacity * weir_table_cold_bytes(table));
    table->cold_records = records == NULL ? table->cold_records : records;
    bool *found = realloc(table->cold_found, capacity * sizeof *found);
    table->cold_found = found == NULL ? table->cold_found : found;
    if (keys == NULL || records == NULL || found == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory for cold rows",
                           table->options.row.name);
    }
    table->cold_capacity = capacity;
    return WEIR_OK;
}

weir_err_t weir_table_put_cold(weir_table_t *table, size_t count, bool there, weir_error_t *error) {
    table->stats.cold_writes += count;
    return there ? weir_cold_store_replace(table->cold, table->cold_keys, table->cold_records,
                                           count, error)
                 : weir_cold_store_put(table->cold, table->cold_keys, table->cold_records, count,
                                       error);
}

/* A row as it was written, if its key has none in memory. */
static weir_err_t take_in(weir_table_t *table, weir_key_t key, const char *record,
                          weir_error_t *error) {
    weir_row_handle_t handle;
    weir_index_find(&table->index, &key, 1, &handle);
    if (handle != WEIR_ROW_NONE) {
        return WEIR_OK;
    }
    weir_err_t err = weir_table_add(table, key, &handle, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_table_write(table, handle, record, record + table->layout.value_bytes);
    memcpy(weir_row_store_metadata(&table->store, handle), record + table->layout.record_bytes,
           sizeof(weir_row_metadata_t));
    weir_row_store_set_flag(&table->store, handle, true);
    table->both++;
    table->stats.cold_hits++;
    return WEIR_OK;
}

static weir_row_metadata_t metadata_of(const weir_table_t *table, const char *record) {
    weir_row_metadata_t metadata;
    memcpy(&metadata, record + table->layout.record_bytes, sizeof metadata);
    return metadata;
}

/* Take into memory the rows of `keys` (distinct or not) whose handles are WEIR_ROW_NONE and that
 * are cold; fill their handles. */
static weir_err_t read_missing(weir_table_t *table, const weir_key_t *keys, size_t count,
                               uint64_t step, bool now, weir_row_handle_t *handles,
                               weir_error_t *error) {
    size_t missing = 0, expired = 0;
    weir_err_t err = weir_table_reserve_cold(table, count, error);
    for (size_t i = 0; i < count && err == WEIR_OK; i++) {
        if (handles[i] == WEIR_ROW_NONE) {
            table->cold_keys[missing++] = keys[i];
        }
    }
    if (missing == 0) {
        return err;
    }
    if (err == WEIR_OK) {
        table->stats.cold_reads += missing;
        err = weir_cold_store_get(table->cold, table->cold_keys, missing, table->cold_found,
                                  table->cold_records, error);
    }
    for (size_t i = 0; i < missing && err == WEIR_OK; i++) {
        const char *record = table->cold_records + i * weir_table_cold_bytes(table);
        if (table->cold_found[i]) {
            weir_row_metadata_t metadata = metadata_of(table, record);
            if (!weir_table_is_expired(table, &metadata, step)) {
                err = take_in(table, table->cold_keys[i], record, error);
            } else {
                table->cold_keys[expired++] = table->cold_keys[i]; /* behind the loop */
            }
        }
    }
    if (err == WEIR_OK && now && expired > 0) {
        err = weir_cold_store_discard(table->cold, table->cold_keys, expired, error);
    }
    if (err == WEIR_OK) {
        weir_index_find(&table->index, keys, count, handles);
    }
    return err;
}

weir_err_t weir_table_peek_cold(weir_table_t *table, const weir_key_t *keys, size_t count,
                                uint64_t step, const weir_row_handle_t *handles, char *values,
                                weir_error_t *error) {
    size_t missing = 0, bytes = table->layout.value_bytes;
    weir_err_t err = weir_table_reserve_cold(table, count, error);
    for (size_t i = 0; i < count && err == WEIR_OK; i++) {
        if (handles[i] == WEIR_ROW_NONE) {
            table->cold_keys[missing++] = keys[i];
        }
    }
    if (err == WEIR_OK) {
        err = weir_cold_store_get(table->cold, table->cold_keys, missing, table->cold_found,
                                  table->cold_records, error);
    }
    for (size_t i = 0, m = 0; i < count && err == WEIR_OK; i++) {
        if (handles[i] != WEIR_ROW_NONE) {
            continue;
        }
        const char *record = table->cold_records + m * weir_table_cold_bytes(table);
        if (table->cold_found[m++]) {
            weir_row_metadata_t metadata = metadata_of(table, record);
            if (!weir_table_is_expired(table, &metadata, step)) {
                memcpy(values + i * bytes, record, bytes);
            }
        }
    }
    return err;
}

/* ---- ahead of the pull ---- */

static weir_err_t begin_fetch(weir_table_t *table, weir_key_t *keys, size_t count, uint64_t step,
                              weir_error_t *error) {
    if (table->fetch_count == table->fetch_capacity) {
        size_t capacity = table->fetch_capacity == 0 ? 16 : 2 * table->fetch_capacity;
        weir_table_fetch_t *grown = realloc(table->fetches, capacity * sizeof *grown);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory for cold rows",
                               table->options.row.name);
        }
        table->fetches = grown;
        table->fetch_capacity = capacity;
    }
    weir_table_fetch_t fetch = {.keys = keys, .count = count, .step = step};
    weir_err_t err = weir_cold_store_prefetch_begin(table->cold, keys, count, &fetch.ticket, error);
    if (err == WEIR_OK) {
        table->fetches[table->fetch_count++] = fetch;
    }
    return err;
}

weir_err_t weir_table_prefetch(weir_table_t *table, const weir_key_t *keys, size_t count,
                               uint64_t step, weir_error_t *error) {
    weir_row_handle_t handles[WEIR_TABLE_BATCH];
    size_t missing = 0;
    if (table->cold == NULL || count == 0) {
        return WEIR_OK;
    }
    weir_key_t *wanted = malloc(count * sizeof *wanted);
    if (wanted == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory for cold rows",
                           table->options.row.name);
    }
    for (size_t begin = 0; begin < count; begin += WEIR_TABLE_BATCH) {
        size_t now = count - begin < WEIR_TABLE_BATCH ? count - begin : WEIR_TABLE_BATCH;
        weir_index_find(&table->index, keys + begin, now, handles);
        for (size_t i = 0; i < now; i++) {
            if (handles[i] == WEIR_ROW_NONE) {
                wanted[missing++] = keys[begin + i];
            }
        }
    }
    weir_err_t err = missing == 0 ? WEIR_OK : begin_fetch(table, wanted, missing, step, error);
    if (err != WEIR_OK || missing == 0) {
        free(wanted);
    }
    return err;
}

/* After an error the rows of other tickets are not wanted, nor is why they could not be read. */
static void give_up(weir_cold_ticket_t *ticket) {
    if (weir_cold_store_prefetch_finish(ticket, NULL, NULL, NULL) != WEIR_OK) {
        return;
    }
}

static weir_err_t finish_fetch(weir_table_t *table, weir_table_fetch_t *fetch,
                               weir_error_t *error) {
    weir_err_t err = weir_table_reserve_cold(table, fetch->count, error);
    if (err != WEIR_OK) {
        give_up(fetch->ticket);
        return err;
    }
    err = weir_cold_store_prefetch_finish(fetch->ticket, table->cold_found, table->cold_records,
                                          error);
    table->stats.cold_reads += fetch->count;
    for (size_t i = 0; i < fetch->count && err == WEIR_OK; i++) {
        if (table->cold_found[i]) {
            err = take_in(table, fetch->keys[i],
                          table->cold_records + i * weir_table_cold_bytes(table), error);
        }
    }
    return err;
}

weir_err_t weir_table_finish_fetches(weir_table_t *table, uint64_t step, weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    size_t kept = 0;
    for (size_t i = 0; i < table->fetch_count; i++) {
        weir_table_fetch_t *fetch = &table->fetches[i];
        if (err == WEIR_OK && fetch->step > step) {
            table->fetches[kept++] = *fetch;
            continue;
        }
        if (err == WEIR_OK) {
            err = finish_fetch(table, fetch, error);
        } else {
            give_up(fetch->ticket);
        }
        free(fetch->keys);
    }
    table->fetch_count = kept;
    return err;
}

bool weir_table_ends_late(const weir_table_t *table) {
    return table->cold != NULL && table->admission == NULL && table->options.ttl == 0;
}

weir_err_t weir_table_warm(weir_table_t *table, const weir_key_t *keys, size_t count, uint64_t step,
                           bool now, weir_row_handle_t *handles, weir_error_t *error) {
    weir_err_t err = table->cold == NULL ? WEIR_OK : weir_table_finish_fetches(table, step, error);
    if (err == WEIR_OK) {
        weir_index_find(&table->index, keys, count, handles);
    }
    return err == WEIR_OK && table->cold != NULL
               ? read_missing(table, keys, count, step, now, handles, error)
               : err;
}

weir_err_t weir_table_take_in(weir_table_t *table, const weir_key_t *keys, size_t count,
                              uint64_t step, weir_row_handle_t *handles, weir_error_t *error) {
    return weir_table_warm(table, keys, count, step, false, handles, error);
}

/* ---- expired ---- */

/* Those of `keys`, all cold and expired, that are not in memory. */
static weir_err_t remove_expired(weir_table_t *table, weir_key_t *keys, size_t count,
                                 weir_error_t *error) {
    weir_row_handle_t handles[WEIR_TABLE_BATCH];
    size_t gone = 0;
    weir_index_find(&table->index, keys, count, handles);
    for (size_t i = 0; i < count; i++) {
        if (handles[i] == WEIR_ROW_NONE) {
            keys[gone++] = keys[i];
        }
    }
    return weir_cold_store_discard(table->cold, keys, gone, error);
}

static weir_err_t sweep_slots(weir_table_t *table, weir_slot_t first, weir_slot_t end,
                              uint64_t step, weir_error_t *error) {
    weir_key_t keys[WEIR_TABLE_BATCH], key;
    const void *record;
    size_t count = 0;
    weir_err_t err = WEIR_OK;
    weir_cold_iterator_t *rows = weir_cold_store_iterate(table->cold, first, end);
    if (rows == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "table %s: out of memory for cold rows",
                           table->options.row.name);
    }
    while (err == WEIR_OK && weir_cold_iterator_next(rows, &key, &record, &err, error)) {
        weir_row_metadata_t metadata = metadata_of(table, record);
        if (weir_table_is_expired(table, &metadata, step + 1)) {
            keys[count++] = key;
        }
        if (count == WEIR_TABLE_BATCH) {
            err = remove_expired(table, keys, count, error);
            count = 0;
        }
    }
    if (err == WEIR_OK) {
        err = remove_expired(table, keys, count, error);
    }
    weir_cold_iterator_destroy(rows);
    return err;
}

weir_err_t weir_table_sweep_cold(weir_table_t *table, uint64_t step, weir_error_t *error) {
    weir_slot_t first = table->options.first_slot;
    uint64_t slots = table->options.end_slot - first, ttl = table->options.ttl;
    uint64_t last = table->cold_swept == 0 ? step - 1 : table->cold_swept;
    last = step - last > ttl ? step - ttl : last;
    uint64_t begin = last * slots / ttl, end = step * slots / ttl;
    weir_err_t err = WEIR_OK;
    while (begin < end && err == WEIR_OK) {
        uint64_t from = begin % slots, to = from + (end - begin);
        to = to < slots ? to : slots;
        err = sweep_slots(table, first + (weir_slot_t)from, first + (weir_slot_t)to, step, error);
        begin += to - from;
    }
    table->cold_swept = err == WEIR_OK ? step : table->cold_swept;
    return err;
}

uint64_t weir_table_cold_scratch_bytes(const weir_table_t *table) {
    uint64_t key = sizeof *table->cold_keys + weir_table_cold_bytes(table) + sizeof(bool);
    uint64_t bytes = table->cold_capacity * key + table->fetch_capacity * sizeof *table->fetches;
    for (size_t i = 0; i < table->fetch_count; i++) {
        bytes += table->fetches[i].count * sizeof *table->fetches[i].keys;
    }
    return bytes;
}
