/* Copies of rows that workers keep: whose they are, and what they hold. */
#include "ps/table_internal.h"

#include <string.h>

enum { AHEAD = 8 };

weir_row_owner_t weir_table_owner(const weir_table_t *table, weir_row_handle_t handle) {
    if (!table->options.owners || handle == WEIR_ROW_NONE) {
        return (weir_row_owner_t){.worker = 0};
    }
    return *weir_row_store_owner(&table->store, handle);
}

static void set_owner(weir_row_owner_t *owner, uint32_t worker, uint8_t kept) {
    if (worker >= UINT16_MAX) { /* WEIR_TABLE_SEVERAL too */
        *owner = (weir_row_owner_t){.worker = 0};
        return;
    }
    bool goes_on = owner->worker == worker + 1 && kept != WEIR_ROW_NOT_KEPT;
    uint8_t run = owner->run < UINT8_MAX ? (uint8_t)(owner->run + 1) : owner->run;
    *owner = (weir_row_owner_t){.worker = (uint16_t)(worker + 1),
                                .run = goes_on ? run : 0,
                                .copied = kept == WEIR_ROW_COPIED};
}

void weir_table_set_owners(weir_table_t *table, const weir_row_handle_t *handles,
                           const uint32_t *workers, const uint8_t *kept, size_t count) {
    for (size_t i = 0; table->options.owners && i < count; i++) {
        if (i + AHEAD < count) {
            __builtin_prefetch(weir_row_store_owner(&table->store, handles[i + AHEAD]), 1);
        }
        set_owner(weir_row_store_owner(&table->store, handles[i]), workers[i], kept[i]);
    }
}

size_t weir_table_copy_bytes(const weir_table_t *table) {
    return table->layout.record_bytes + sizeof(uint64_t);
}

void weir_table_copy(const weir_table_t *table, const weir_row_handle_t *handles, size_t count,
                     void *copies) {
    const weir_row_store_t *store = &table->store;
    char *to = copies;
    for (size_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            weir_row_handle_t next = handles[i + AHEAD];
            weir_table_prefetch_lines(weir_row_store_value(store, next), store->value_bytes);
            weir_table_prefetch_lines(weir_row_store_metadata(store, next),
                                      sizeof(weir_row_metadata_t) + store->rest_bytes);
        }
        uint64_t updates = weir_row_store_metadata(store, handles[i])->count;
        memcpy(to, weir_row_store_value(store, handles[i]), store->value_bytes);
        to += store->value_bytes;
        memcpy(to, weir_row_store_rest(store, handles[i]), store->rest_bytes);
        to += store->rest_bytes;
        memcpy(to, &updates, sizeof updates);
        to += sizeof updates;
    }
}
