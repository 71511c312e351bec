/* Cold rows in RocksDB. The owner writes, and counts rows: it reads every key before a batch
 * changes it. Reads are done in pieces, by cold_prefetch.c's threads or the owner. */
#include "ps/cold_store.h"

#include "common/assert.h"
#include "ps/cold_store_internal.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES = 8, ITERATOR_READAHEAD = 2 << 20 };

struct weir_cold_iterator {
    const weir_cold_store_t *store;
    rocksdb_readoptions_t *reading;
    rocksdb_iterator_t *rows;
    bool begun;
    char lower[KEY_BYTES], upper[KEY_BYTES]; /* RocksDB keeps pointers to both */
};

/* ---- keys ---- */

static void write_hash(uint64_t hash, char bytes[KEY_BYTES]) {
    for (int i = 0; i < KEY_BYTES; i++) {
        bytes[i] = (char)(unsigned char)(hash >> (56 - 8 * i));
    }
}

static uint64_t read_hash(const char *bytes) {
    uint64_t hash = 0;
    for (int i = 0; i < KEY_BYTES; i++) {
        hash = hash << 8 | (unsigned char)bytes[i];
    }
    return hash;
}

/* weir_hash64 backwards: its multipliers are odd and so have inverses mod 2^64. */
static weir_key_t key_of_hash(uint64_t hash) {
    uint64_t x = hash;
    x = (x ^ (x >> 31) ^ (x >> 62)) * 0x319642B2D24D8EC3ull;
    x = (x ^ (x >> 27) ^ (x >> 54)) * 0x96DE1B173F119089ull;
    x = x ^ (x >> 30) ^ (x >> 60);
    return x - 0x9E3779B97F4A7C15ull;
}

static int compare_order(const void *a, const void *b) {
    const weir_cold_order_t *x = a, *y = b;
    if (x->hash != y->hash) {
        return x->hash < y->hash ? -1 : 1;
    }
    return (x->place > y->place) - (x->place < y->place);
}

void weir_cold_order(const weir_key_t *keys, size_t count, weir_cold_order_t *order) {
    for (size_t i = 0; i < count; i++) {
        order[i] = (weir_cold_order_t){.hash = weir_hash64(keys[i]), .place = i};
    }
    qsort(order, count, sizeof *order, compare_order);
}

/* ---- life ---- */

weir_err_t weir_cold_store_create(const weir_cold_store_options_t *options,
                                  weir_cold_store_t **store, weir_error_t *error) {
    size_t length = options->folder == NULL ? 0 : strlen(options->folder);
    if (length == 0 || length >= WEIR_PATH_MAX || options->record_bytes == 0 ||
        options->record_bytes > WEIR_COLD_MAX_RECORD_BYTES) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "cold rows need a folder, and records of 1 to %d bytes, not %zu",
                           WEIR_COLD_MAX_RECORD_BYTES, options->record_bytes);
    }
    weir_cold_store_t *made = calloc(1, sizeof *made);
    if (made != NULL) {
        made->marker_fd = -1;
        made->changed = calloc((size_t)1 << WEIR_COLD_STAMP_BITS, sizeof *made->changed);
    }
    if (made == NULL || made->changed == NULL) {
        free(made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for cold rows");
    }
    memcpy(made->folder, options->folder, length + 1);
    made->record_bytes = options->record_bytes;
    made->batch = rocksdb_writebatch_create();
    weir_err_t err = weir_cold_files_take(made, error);
    if (err == WEIR_OK) {
        err = weir_cold_files_open(made, options, error);
    }
    if (err == WEIR_OK) {
        err = weir_cold_threads_start(made, error);
    }
    if (err != WEIR_OK) {
        weir_cold_store_destroy(made);
        return err;
    }
    *store = made;
    return WEIR_OK;
}

void weir_cold_store_destroy(weir_cold_store_t *store) {
    if (store == NULL) {
        return;
    }
    weir_cold_threads_stop(store);
    if (store->db != NULL) {
        rocksdb_cancel_all_background_work(store->db, 1);
        rocksdb_column_family_handle_destroy(store->family);
        rocksdb_close(store->db);
        rocksdb_readoptions_destroy(store->reading);
        rocksdb_writeoptions_destroy(store->writing);
    }
    rocksdb_writebatch_destroy(store->batch);
    weir_cold_files_remove(store);
    free(store->changed);
    free(store->order);
    free(store->present);
    free(store);
}

uint64_t weir_cold_store_rows(const weir_cold_store_t *store) {
    return atomic_load(&store->rows);
}

uint64_t weir_cold_store_bytes(const weir_cold_store_t *store) {
    uint64_t bytes = 0;
    int known = rocksdb_property_int(store->db, "rocksdb.total-sst-files-size", &bytes);
    WEIR_ASSERT(known == 0);
    return known == 0 ? bytes : 0;
}

/* ---- reading ---- */

weir_err_t weir_cold_read(const weir_cold_store_t *store, const weir_cold_order_t *order,
                          size_t count, bool *found, char *records, weir_error_t *error) {
    char bytes[WEIR_COLD_PIECE][KEY_BYTES];
    const char *keys[WEIR_COLD_PIECE] = {NULL};
    size_t sizes[WEIR_COLD_PIECE] = {0};
    rocksdb_pinnableslice_t *values[WEIR_COLD_PIECE];
    char *failures[WEIR_COLD_PIECE];
    weir_err_t err = WEIR_OK;
    WEIR_ASSERT(count <= WEIR_COLD_PIECE);
    for (size_t i = 0; i < count; i++) {
        write_hash(order[i].hash, bytes[i]);
        keys[i] = bytes[i];
        sizes[i] = KEY_BYTES;
    }
    rocksdb_batched_multi_get_cf(store->db, store->reading, store->family, count, keys, sizes,
                                 values, failures, true);
    for (size_t i = 0; i < count; i++) {
        size_t place = order[i].place, size = 0;
        const char *value =
            values[i] == NULL ? NULL : rocksdb_pinnableslice_value(values[i], &size);
        if (failures[i] != NULL && err == WEIR_OK) {
            err = weir_cold_files_error(store, "read", failures[i], error);
        } else if (failures[i] != NULL) {
            rocksdb_free(failures[i]);
        } else if (value != NULL && size != store->record_bytes && err == WEIR_OK) {
            err = weir_errorf(error, WEIR_ERR_CORRUPT,
                              "a cold row in '%s' has %zu bytes in place of %zu", store->folder,
                              size, store->record_bytes);
        } else if (err == WEIR_OK) {
            found[place] = value != NULL;
            if (value != NULL && records != NULL) {
                memcpy(records + place * store->record_bytes, value, size);
            }
        }
        if (values[i] != NULL) {
            rocksdb_pinnableslice_destroy(values[i]);
        }
    }
    return err;
}

/* ---- writing ---- */

static weir_err_t reserve(weir_cold_store_t *store, size_t count, weir_error_t *error) {
    if (count > store->capacity) {
        weir_cold_order_t *order = malloc(count * sizeof *order);
        bool *present = malloc(count * sizeof *present);
        if (order == NULL || present == NULL) {
            free(order);
            free(present);
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu cold rows", count);
        }
        free(store->order);
        free(store->present);
        store->order = order;
        store->present = present;
        store->capacity = count;
    }
    return WEIR_OK;
}

/* Order the keys of a change and find which are there. */
static weir_err_t begin_change(weir_cold_store_t *store, const weir_key_t *keys, size_t count,
                               weir_error_t *error) {
    weir_err_t err = reserve(store, count, error);
    if (err == WEIR_OK) {
        err = weir_cold_store_get(store, keys, count, store->present, NULL, error);
    }
    if (err == WEIR_OK) {
        weir_cold_order(keys, count, store->order);
    }
    return err;
}

/* Write the batch, of which `added` rows (two's complement: removed) are new. */
static weir_err_t end_change(weir_cold_store_t *store, size_t count, uint64_t added,
                             const char *doing, weir_error_t *error) {
    char *failure = NULL;
    store->change++;
    for (size_t i = 0; i < count; i++) {
        store->changed[store->order[i].hash % ((uint64_t)1 << WEIR_COLD_STAMP_BITS)] =
            store->change;
    }
    rocksdb_write(store->db, store->writing, store->batch, &failure);
    rocksdb_writebatch_clear(store->batch);
    if (failure != NULL) {
        return weir_cold_files_error(store, doing, failure, error);
    }
    atomic_store(&store->rows, atomic_load(&store->rows) + added);
    return WEIR_OK;
}

static bool is_last_of_key(const weir_cold_store_t *store, size_t i, size_t count) {
    return i + 1 == count || store->order[i].hash != store->order[i + 1].hash;
}

/* Add the ordered keys' records to the batch; returns how many of the keys are new. */
static uint64_t add_records(const weir_cold_store_t *store, const char *records, size_t count) {
    uint64_t added = 0;
    char key[KEY_BYTES];
    for (size_t i = 0; i < count; i++) {
        if (is_last_of_key(store, i, count)) {
            size_t place = store->order[i].place;
            write_hash(store->order[i].hash, key);
            rocksdb_writebatch_put(store->batch, key, KEY_BYTES,
                                   records + place * store->record_bytes, store->record_bytes);
            added += !store->present[place];
        }
    }
    return added;
}

weir_err_t weir_cold_store_put(weir_cold_store_t *store, const weir_key_t *keys,
                               const void *records, size_t count, weir_error_t *error) {
    weir_err_t err = begin_change(store, keys, count, error);
    if (err != WEIR_OK || count == 0) {
        return err;
    }
    return end_change(store, count, add_records(store, records, count), "write", error);
}

/* begin_change, of keys that are all there: none is looked up. */
static weir_err_t begin_known(weir_cold_store_t *store, const weir_key_t *keys, size_t count,
                              weir_error_t *error) {
    if (count == 0) {
        return WEIR_OK;
    }
    weir_err_t err = reserve(store, count, error);
#ifdef WEIR_CHECKED
    err = err == WEIR_OK ? begin_change(store, keys, count, error) : err;
    for (size_t i = 0; err == WEIR_OK && i < count; i++) {
        WEIR_ASSERT(store->present[i]);
    }
#endif
    if (err == WEIR_OK) {
        weir_cold_order(keys, count, store->order);
        memset(store->present, true, count);
    }
    return err;
}

weir_err_t weir_cold_store_replace(weir_cold_store_t *store, const weir_key_t *keys,
                                   const void *records, size_t count, weir_error_t *error) {
    weir_err_t err = begin_known(store, keys, count, error);
    if (err != WEIR_OK || count == 0) {
        return err;
    }
    return end_change(store, count, add_records(store, records, count), "write", error);
}

/* Remove those of the ordered keys that are there. */
static weir_err_t remove_present(weir_cold_store_t *store, size_t count, weir_error_t *error) {
    uint64_t removed = 0;
    char key[KEY_BYTES];
    for (size_t i = 0; i < count; i++) {
        if (is_last_of_key(store, i, count) && store->present[store->order[i].place]) {
            write_hash(store->order[i].hash, key);
            rocksdb_writebatch_delete(store->batch, key, KEY_BYTES);
            removed++;
        }
    }
    return end_change(store, count, 0 - removed, "remove", error);
}

weir_err_t weir_cold_store_remove(weir_cold_store_t *store, const weir_key_t *keys, size_t count,
                                  weir_error_t *error) {
    weir_err_t err = begin_change(store, keys, count, error);
    return err != WEIR_OK || count == 0 ? err : remove_present(store, count, error);
}

weir_err_t weir_cold_store_discard(weir_cold_store_t *store, const weir_key_t *keys, size_t count,
                                   weir_error_t *error) {
    weir_err_t err = begin_known(store, keys, count, error);
    return err != WEIR_OK || count == 0 ? err : remove_present(store, count, error);
}

/* ---- all rows ---- */

weir_cold_iterator_t *weir_cold_store_iterate(weir_cold_store_t *store, weir_slot_t first_slot,
                                              weir_slot_t end_slot) {
    weir_cold_iterator_t *iterator = calloc(1, sizeof *iterator);
    if (iterator == NULL) {
        return NULL;
    }
    iterator->store = store;
    iterator->reading = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(iterator->reading, 1);
    rocksdb_readoptions_set_fill_cache(iterator->reading, 0);
    rocksdb_readoptions_set_readahead_size(iterator->reading, ITERATOR_READAHEAD);
    const int shift = 64 - WEIR_SLOT_BITS;
    WEIR_ASSERT(first_slot <= end_slot && end_slot <= WEIR_SLOT_COUNT);
    if (first_slot < WEIR_SLOT_COUNT) {
        write_hash((uint64_t)first_slot << shift, iterator->lower);
        rocksdb_readoptions_set_iterate_lower_bound(iterator->reading, iterator->lower, KEY_BYTES);
    }
    if (end_slot < WEIR_SLOT_COUNT) {
        write_hash((uint64_t)end_slot << shift, iterator->upper);
        rocksdb_readoptions_set_iterate_upper_bound(iterator->reading, iterator->upper, KEY_BYTES);
    }
    iterator->rows = rocksdb_create_iterator(store->db, iterator->reading);
    return iterator;
}

bool weir_cold_iterator_next(weir_cold_iterator_t *iterator, weir_key_t *key, const void **record,
                             weir_err_t *err, weir_error_t *error) {
    char *failure = NULL;
    if (!iterator->begun) {
        rocksdb_iter_seek_to_first(iterator->rows);
        iterator->begun = true;
    } else if (rocksdb_iter_valid(iterator->rows)) {
        rocksdb_iter_next(iterator->rows);
    }
    *err = WEIR_OK;
    if (!rocksdb_iter_valid(iterator->rows)) {
        rocksdb_iter_get_error(iterator->rows, &failure);
        if (failure != NULL) {
            *err = weir_cold_files_error(iterator->store, "read", failure, error);
        }
        return false;
    }
    size_t key_bytes, record_bytes;
    const char *hash = rocksdb_iter_key(iterator->rows, &key_bytes);
    const char *bytes = rocksdb_iter_value(iterator->rows, &record_bytes);
    if (key_bytes != KEY_BYTES || record_bytes != iterator->store->record_bytes) {
        *err =
            weir_errorf(error, WEIR_ERR_CORRUPT, "a cold row in '%s' has %zu bytes in place of %zu",
                        iterator->store->folder, record_bytes, iterator->store->record_bytes);
        return false;
    }
    *key = key_of_hash(read_hash(hash));
    *record = bytes;
    return true;
}

void weir_cold_iterator_destroy(weir_cold_iterator_t *iterator) {
    if (iterator != NULL) {
        rocksdb_iter_destroy(iterator->rows);
        rocksdb_readoptions_destroy(iterator->reading);
        free(iterator);
    }
}
