#include "ps/row_store.h"

#include "ps/arena.h"

#include <stdlib.h>
#include <string.h>

/* Slabs are mapped whole and committed as rows are born, so a small table costs little and a slab
 * can be large: a server with a terabyte of rows has some 20,000 mappings, under the kernel's limit
 * of 65,530. */
enum { SLAB_BYTES = 64 << 20, PIECE_BYTES = 2 << 20 };

/* Whole cache lines, or halves of one, where that wastes an eighth at most. */
static size_t choose_stride(size_t bytes) {
    for (size_t alignment = 64; alignment > 4; alignment /= 2) {
        size_t padded = (bytes + alignment - 1) / alignment * alignment;
        if (padded - bytes <= bytes / 8) {
            return padded;
        }
    }
    return (bytes + 3) / 4 * 4;
}

void weir_row_store_init(weir_row_store_t *store, size_t value_bytes, size_t rest_bytes,
                         bool owners) {
    size_t rest = sizeof(weir_row_metadata_t) + rest_bytes;
    *store = (weir_row_store_t){.value_bytes = value_bytes,
                                .rest_bytes = rest_bytes,
                                .value_stride = choose_stride(value_bytes),
                                .rest_stride = choose_stride(rest),
                                .slab_bits = 3,
                                .vacant = WEIR_ROW_NONE,
                                .place_limit = WEIR_ROW_NONE};
    size_t row = store->value_stride + store->rest_stride;
    size_t owner = owners ? sizeof(weir_row_owner_t) : 0;
    while ((row + owner + 1) << (store->slab_bits + 1) <= SLAB_BYTES) {
        store->slab_bits++;
    }
    store->slab_size = (row << store->slab_bits) + ((size_t)1 << store->slab_bits) / 8;
    if (owners) {
        store->owners = (store->slab_size + 7) / 8 * 8;
        store->slab_size = store->owners + (owner << store->slab_bits);
    }
}

void weir_row_store_fini(weir_row_store_t *store) {
    for (size_t i = 0; i < store->slab_count; i++) {
        weir_arena_unmap(store->slabs[i], store->slab_size);
    }
    free(store->slabs);
    *store = (weir_row_store_t){.slabs = NULL};
}

static bool add_slab(weir_row_store_t *store) {
    if (store->slab_count == store->slab_capacity) {
        size_t capacity = store->slab_capacity == 0 ? 16 : store->slab_capacity * 2;
        char **slabs = realloc(store->slabs, capacity * sizeof *slabs);
        if (slabs == NULL) {
            return false;
        }
        store->slabs = slabs;
        store->slab_capacity = capacity;
    }
    char *slab = weir_arena_map(store->slab_size);
    if (slab == NULL) {
        return false;
    }
    store->slabs[store->slab_count++] = slab;
    return true;
}

bool weir_row_store_reserve(weir_row_store_t *store) {
    if (store->vacant != WEIR_ROW_NONE) {
        return true;
    }
    if (store->places >= store->place_limit) {
        return false;
    }
    return store->places >> store->slab_bits < store->slab_count || add_slab(store);
}

bool weir_row_store_prepare(weir_row_store_t *store, uint64_t ahead) {
    uint64_t slab_rows = (uint64_t)1 << store->slab_bits;
    uint64_t piece = PIECE_BYTES / (store->value_stride + store->rest_stride) + 1;
    uint64_t from = store->ready > store->places ? store->ready : store->places;
    if (store->places < slab_rows || store->vacant != WEIR_ROW_NONE ||
        from >= store->places + ahead || from >= store->place_limit) {
        return false;
    }
    if (from >> store->slab_bits == store->slab_count && !add_slab(store)) {
        return false;
    }
    uint64_t place = from & (slab_rows - 1);
    uint64_t rows = slab_rows - place < piece ? slab_rows - place : piece;
    char *slab = store->slabs[from >> store->slab_bits];
    weir_arena_commit(slab + place * store->value_stride, rows * store->value_stride);
    weir_arena_commit(slab + (store->value_stride << store->slab_bits) + place * store->rest_stride,
                      rows * store->rest_stride);
    if (place == 0) {
        size_t records = (store->value_stride + store->rest_stride) << store->slab_bits;
        weir_arena_commit(slab + records, store->slab_size - records); /* flags, owners */
    }
    store->ready = from + rows;
    return true;
}

weir_row_handle_t weir_row_store_acquire(weir_row_store_t *store) {
    weir_row_handle_t handle = store->vacant;
    if (handle == WEIR_ROW_NONE) {
        handle = (weir_row_handle_t)store->places++;
    } else {
        memcpy(&store->vacant, weir_row_store_value(store, handle), sizeof store->vacant);
    }
    store->rows++;
    *weir_row_store_metadata(store, handle) = (weir_row_metadata_t){.count = 0};
    weir_row_store_set_flag(store, handle, false);
    if (store->owners != 0) {
        *weir_row_store_owner(store, handle) = (weir_row_owner_t){.worker = 0};
    }
    return handle;
}

void weir_row_store_release(weir_row_store_t *store, weir_row_handle_t handle) {
    memcpy(weir_row_store_value(store, handle), &store->vacant, sizeof store->vacant);
    store->vacant = handle;
    store->rows--;
}

void weir_row_store_set_flag(weir_row_store_t *store, weir_row_handle_t handle, bool flag) {
    size_t place = weir_row_store_place(store, handle);
    char *flags = weir_row_store_slab(store, handle) +
                  ((store->value_stride + store->rest_stride) << store->slab_bits);
    unsigned char bit = (unsigned char)(1u << place % 8);
    unsigned char *byte = (unsigned char *)flags + place / 8;
    *byte = flag ? *byte | bit : (unsigned char)(*byte & ~bit);
}

size_t weir_row_store_row_bytes(const weir_row_store_t *store) {
    return store->value_stride + store->rest_stride +
           (store->owners == 0 ? 0 : sizeof(weir_row_owner_t));
}

uint64_t weir_row_store_bytes(const weir_row_store_t *store) {
    uint64_t places = store->ready > store->places ? store->ready : store->places;
    return places * weir_row_store_row_bytes(store) + places / 8 +
           store->slab_capacity * sizeof *store->slabs;
}
