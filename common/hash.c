#include "common/hash.h"

#include <xxhash.h>

uint64_t weir_checksum(const void *bytes, size_t size, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes, size, seed);
}
