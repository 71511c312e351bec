/* Keys, slots and checksums.
 *
 * A key is 64 bits. hash64 is a bijection of 64 bits (the finaliser of SplitMix64: Steele, Lea,
 * Flood, OOPSLA 2014), so that hash order is a total order of keys. A slot is its upper 14 bits:
 * the unit in which tables are sharded, ordered on disk, and resharded. */
#ifndef WEIR_COMMON_HASH_H
#define WEIR_COMMON_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t weir_key_t;
typedef uint32_t weir_slot_t;

enum { WEIR_SLOT_BITS = 14, WEIR_SLOT_COUNT = 1 << WEIR_SLOT_BITS };

static inline uint64_t weir_hash64(weir_key_t key) {
    uint64_t x = key + 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

static inline weir_slot_t weir_slot_of_hash(uint64_t hash) {
    return (weir_slot_t)(hash >> (64 - WEIR_SLOT_BITS));
}

/* First slot that server `index` of `count` owns; servers own contiguous ranges
 * [first(index), first(index + 1)). 0 <= index <= count, 1 <= count <= WEIR_SLOT_COUNT. */
static inline weir_slot_t weir_slot_first(uint32_t index, uint32_t count) {
    return (weir_slot_t)(((uint64_t)index * WEIR_SLOT_COUNT + count - 1) / count);
}

/* The server of `count` that owns `slot`. */
static inline uint32_t weir_slot_owner(weir_slot_t slot, uint32_t count) {
    return (uint32_t)(((uint64_t)slot * count) / WEIR_SLOT_COUNT);
}

/* XXH3, 64 bits, of bytes: the checksum of frames and files. `seed` chains pieces. */
uint64_t weir_checksum(const void *bytes, size_t size, uint64_t seed);

#endif
