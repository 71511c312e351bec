/* The memory of a table's rows: records in slabs, at places that never move, and beside each record
 * its last step, its count and its flags.
 *
 * A handle is the number of a row's place. Places of released rows are used again, the last
 * released first, so that a table of constant size takes no new memory. */
#ifndef WEIR_PS_ROW_STORE_H
#define WEIR_PS_ROW_STORE_H

#include "common/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t weir_row_handle_t;

/* No row. */
#define WEIR_ROW_NONE UINT32_MAX

typedef struct {
    uint32_t last_step;
    uint32_t count; /* updates; stops at the largest */
} weir_row_metadata_t;

typedef struct {
    size_t record_bytes;
    size_t stride;    /* bytes from record to record */
    size_t slab_size; /* bytes */
    uint32_t slab_bits;
    char **slabs; /* owned */
    size_t slab_count, slab_capacity;
    uint64_t places;          /* handles 0 .. places - 1 have been in use */
    uint64_t rows;            /* in use now */
    weir_row_handle_t vacant; /* last released, whose record begins with the one before; or NONE */
    uint64_t place_limit;     /* no more places than this; for tests of what happens then */
} weir_row_store_t;

/* `record_bytes` > 0. Takes no memory yet. */
void weir_row_store_init(weir_row_store_t *store, size_t record_bytes);
void weir_row_store_fini(weir_row_store_t *store);

/* Make sure that the next acquire cannot fail; false: out of memory or of 32-bit handles. */
bool weir_row_store_reserve(weir_row_store_t *store);

/* A place, after reserve; its record holds anything, its metadata and flag are zero. */
weir_row_handle_t weir_row_store_acquire(weir_row_store_t *store);
void weir_row_store_release(weir_row_store_t *store, weir_row_handle_t handle);

/* Bytes of the places that have been in use, with everything that belongs to them. */
uint64_t weir_row_store_bytes(const weir_row_store_t *store);
/* Bytes that one more row takes. */
size_t weir_row_store_row_bytes(const weir_row_store_t *store);

static inline void *weir_row_store_record(const weir_row_store_t *store, weir_row_handle_t handle) {
    WEIR_ASSERT(handle < store->places);
    size_t mask = ((size_t)1 << store->slab_bits) - 1;
    return store->slabs[handle >> store->slab_bits] + (handle & mask) * store->stride;
}

static inline weir_row_metadata_t *weir_row_store_metadata(const weir_row_store_t *store,
                                                           weir_row_handle_t handle) {
    size_t slab_rows = (size_t)1 << store->slab_bits;
    char *metadata = store->slabs[handle >> store->slab_bits] + slab_rows * store->stride;
    return (weir_row_metadata_t *)(void *)metadata + (handle & (slab_rows - 1));
}

/* One bit a row, for its user. */
static inline bool weir_row_store_flag(const weir_row_store_t *store, weir_row_handle_t handle) {
    size_t slab_rows = (size_t)1 << store->slab_bits, place = handle & (slab_rows - 1);
    const char *flags = store->slabs[handle >> store->slab_bits] +
                        slab_rows * (store->stride + sizeof(weir_row_metadata_t));
    return ((unsigned char)flags[place / 8] >> place % 8 & 1) != 0;
}
void weir_row_store_set_flag(weir_row_store_t *store, weir_row_handle_t handle, bool flag);

#endif
