#include "common/hash.h"

#if defined(__x86_64__)
#include <xxh_x86dispatch.h> /* the same function, with the widest vectors that the processor has */
#else
#include <xxhash.h>
#endif

uint64_t weir_checksum(const void *bytes, size_t size, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes, size, seed);
}
