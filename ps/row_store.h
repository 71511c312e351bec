/* The memory of a table's rows: slabs of places that never move.
 *
 * A slab holds these arrays: the *values* of its rows, which are all that a pull reads, in whole
 * cache lines where that wastes little; their *rests* (hidden bits and optimiser state, ps/row.h)
 * with last step and count in front; a flag each; and, where that is asked for, an owner each. A
 * row's record is its value and its rest, one after the other.
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

/* Who updated a row last, if that was one worker alone. */
typedef struct {
    uint16_t worker; /* its number + 1; 0: nobody, or several */
    uint8_t run;     /* such updates in a row that a copy would have saved; stops at the largest */
    uint8_t copied;  /* it has a copy of the record, which it has kept right */
} weir_row_owner_t;

typedef struct {
    size_t value_bytes, rest_bytes;
    size_t value_stride; /* bytes from value to value */
    size_t rest_stride;  /* bytes from metadata to metadata */
    size_t slab_size;    /* bytes */
    uint32_t slab_bits;
    size_t owners; /* bytes from the start of a slab; 0: there are none */
    char **slabs;  /* owned */
    size_t slab_count, slab_capacity;
    uint64_t places;          /* handles 0 .. places - 1 have been in use */
    uint64_t rows;            /* in use now */
    uint64_t ready;           /* places before it have memory; or fewer than `places` */
    weir_row_handle_t vacant; /* last released, whose value begins with the one before; or NONE */
    uint64_t place_limit;     /* no more places than this; for tests of what happens then */
} weir_row_store_t;

/* `value_bytes` >= 4; both multiples of 4. Takes no memory yet. */
void weir_row_store_init(weir_row_store_t *store, size_t value_bytes, size_t rest_bytes,
                         bool owners);
void weir_row_store_fini(weir_row_store_t *store);

/* Make sure that the next acquire cannot fail; false: out of memory or of 32-bit handles. */
bool weir_row_store_reserve(weir_row_store_t *store);

/* Commit about a huge page of the memory of places that come next, `ahead` of them at most (and one
 * piece); of a store of less than a slab nothing. False: there is nothing to do. Call: local; as
 * weir_arena_prepare. */
bool weir_row_store_prepare(weir_row_store_t *store, uint64_t ahead);

/* A place, after reserve; its record holds anything, its metadata, flag and owner are zero. */
weir_row_handle_t weir_row_store_acquire(weir_row_store_t *store);
void weir_row_store_release(weir_row_store_t *store, weir_row_handle_t handle);

/* Bytes of the places that have been in use or made ready, with everything that belongs to them. */
uint64_t weir_row_store_bytes(const weir_row_store_t *store);
/* Bytes that one more row takes. */
size_t weir_row_store_row_bytes(const weir_row_store_t *store);

static inline char *weir_row_store_slab(const weir_row_store_t *store, weir_row_handle_t handle) {
    WEIR_ASSERT(handle < store->places);
    return store->slabs[handle >> store->slab_bits];
}

static inline size_t weir_row_store_place(const weir_row_store_t *store, weir_row_handle_t handle) {
    return handle & (((size_t)1 << store->slab_bits) - 1);
}

static inline void *weir_row_store_value(const weir_row_store_t *store, weir_row_handle_t handle) {
    return weir_row_store_slab(store, handle) +
           weir_row_store_place(store, handle) * store->value_stride;
}

static inline weir_row_metadata_t *weir_row_store_metadata(const weir_row_store_t *store,
                                                           weir_row_handle_t handle) {
    char *rests = weir_row_store_slab(store, handle) + (store->value_stride << store->slab_bits);
    return (weir_row_metadata_t *)(void *)(rests + weir_row_store_place(store, handle) *
                                                       store->rest_stride);
}

static inline void *weir_row_store_rest(const weir_row_store_t *store, weir_row_handle_t handle) {
    return weir_row_store_metadata(store, handle) + 1;
}

/* One bit a row, for its user. */
static inline bool weir_row_store_flag(const weir_row_store_t *store, weir_row_handle_t handle) {
    size_t place = weir_row_store_place(store, handle);
    const char *flags = weir_row_store_slab(store, handle) +
                        ((store->value_stride + store->rest_stride) << store->slab_bits);
    return ((unsigned char)flags[place / 8] >> place % 8 & 1) != 0;
}
void weir_row_store_set_flag(weir_row_store_t *store, weir_row_handle_t handle, bool flag);

/* Only where there are owners. */
static inline weir_row_owner_t *weir_row_store_owner(const weir_row_store_t *store,
                                                     weir_row_handle_t handle) {
    char *owners = weir_row_store_slab(store, handle) + store->owners;
    return (weir_row_owner_t *)(void *)owners + weir_row_store_place(store, handle);
}

#endif
