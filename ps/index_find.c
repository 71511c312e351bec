#include "ps/index_group.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { CHUNK = 32 /* keys whose cache misses are in flight together */ };

/* Keys on their way: each one's hash, the first group to probe. */
typedef struct {
    uint64_t hashes[CHUNK];
    const weir_index_group_t *groups[CHUNK];
    uint32_t masks[CHUNK]; /* entries with its tag */
} chunk_t;

typedef void (*locate_t)(const weir_index_t *index, const weir_key_t *keys, size_t count,
                         chunk_t *chunk);

#define INLINE static inline __attribute__((always_inline))

INLINE void locate_hash(const weir_index_t *index, uint64_t hash, chunk_t *chunk, size_t i) {
    const weir_index_subtable_t *subtable = &index->directory[place_of(index, hash)];
    const weir_index_group_t *group =
        subtable->groups + position_of(hash, subtable->group_count); /* empty: the first */
    __builtin_prefetch(group);
    chunk->hashes[i] = hash;
    chunk->groups[i] = group;
}

INLINE void locate_portable(const weir_index_t *index, const weir_key_t *keys, size_t count,
                            chunk_t *chunk) {
    for (size_t i = 0; i < count; i++) {
        locate_hash(index, weir_hash64(keys[i]), chunk, i);
    }
}

/* Beyond the first group: the sub-table is looked up again, which few keys need. */
static uint32_t resolve_further(const weir_index_t *index, uint64_t hash, weir_key_t key) {
    const weir_index_subtable_t *subtable = &index->directory[place_of(index, hash)];
    uint32_t position = position_of(hash, subtable->group_count);
    uint8_t tag = tag_of(hash);
    for (uint32_t probed = 1; probed < subtable->group_count; probed++) {
        position = position_after(position, subtable->group_count);
        const weir_index_group_t *group = &subtable->groups[position];
        for (uint32_t mask = match_tags(group, tag); mask != 0; mask &= mask - 1) {
            uint32_t entry = (uint32_t)__builtin_ctz(mask);
            if (load_key(group, entry) == key) {
                return load_row(group, entry);
            }
        }
        if (!passes_on(group, hash)) {
            break;
        }
    }
    return WEIR_INDEX_NONE;
}

INLINE uint32_t resolve_key(const weir_index_t *index, const weir_index_group_t *group,
                            uint64_t hash, weir_key_t key, uint32_t mask) {
    for (; mask != 0; mask &= mask - 1) {
        uint32_t entry = (uint32_t)__builtin_ctz(mask);
        if (load_key(group, entry) == key) {
            return load_row(group, entry);
        }
    }
    return passes_on(group, hash) ? resolve_further(index, hash, key) : WEIR_INDEX_NONE;
}

/* Which entries have the key's tag; the first one's line travels, or that of the next group when
 * there is none and keys went past this one. */
INLINE void match_chunk(chunk_t *chunk, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const weir_index_group_t *group = chunk->groups[i];
        uint32_t mask = match_tags(group, tag_of(chunk->hashes[i]));
        const weir_index_group_t *next_group = group + passes_on(group, chunk->hashes[i]);
        const void *key =
            (const char *)group + key_offsets[__builtin_ctz(mask | 1u << GROUP_ENTRIES)];
        chunk->masks[i] = mask;
        __builtin_prefetch(mask != 0 ? key : (const void *)next_group);
    }
}

INLINE size_t chunk_size(size_t begin, size_t count) {
    return begin >= count ? 0 : count - begin < CHUNK ? count - begin : CHUNK;
}

/* Three chunks at a time: the groups of one travel while the tags of the one before it are matched
 * and the keys of the one before that compared. */
INLINE void find_with(locate_t locate, const weir_index_t *index, const weir_key_t *keys,
                      size_t count, uint32_t *rows) {
    chunk_t chunks[3];
    chunk_t *first = &chunks[0], *second = &chunks[1], *third = &chunks[2];
    locate(index, keys, chunk_size(0, count), first);
    locate(index, keys + chunk_size(0, count), chunk_size(CHUNK, count), second);
    match_chunk(first, chunk_size(0, count));
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        size_t ahead = begin + 2 * (size_t)CHUNK;
        if (ahead < count) {
            locate(index, keys + ahead, chunk_size(ahead, count), third);
        }
        match_chunk(second, chunk_size(begin + CHUNK, count));
        size_t now = chunk_size(begin, count);
        for (size_t i = 0; i < now; i++) {
            rows[begin + i] = resolve_key(index, first->groups[i], first->hashes[i],
                                          keys[begin + i], first->masks[i]);
        }
        chunk_t *free_chunk = first;
        first = second;
        second = third;
        third = free_chunk;
    }
}

static void find_portable(const weir_index_t *index, const weir_key_t *keys, size_t count,
                          uint32_t *rows) {
    find_with(locate_portable, index, keys, count, rows);
}

#ifdef __x86_64__

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

/* Lower 64 bits of the products: three 32-bit ones, as AVX2 has no other. */
AVX2 static inline __m256i multiply256(__m256i a, __m256i b) {
    __m256i cross = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(a, 32), b),
                                     _mm256_mul_epu32(a, _mm256_srli_epi64(b, 32)));
    return _mm256_add_epi64(_mm256_mul_epu32(a, b), _mm256_slli_epi64(cross, 32));
}

AVX2 static inline __m256i hash256(__m256i x) {
    x = _mm256_add_epi64(x, _mm256_set1_epi64x((long long)0x9E3779B97F4A7C15ull));
    x = multiply256(_mm256_xor_si256(x, _mm256_srli_epi64(x, 30)),
                    _mm256_set1_epi64x((long long)0xBF58476D1CE4E5B9ull));
    x = multiply256(_mm256_xor_si256(x, _mm256_srli_epi64(x, 27)),
                    _mm256_set1_epi64x((long long)0x94D049BB133111EBull));
    return _mm256_xor_si256(x, _mm256_srli_epi64(x, 31));
}

AVX2 static inline void locate_avx2(const weir_index_t *index, const weir_key_t *keys, size_t count,
                                    chunk_t *chunk) {
    size_t whole = count / 4 * 4;
    uint64_t hashes[CHUNK];
    for (size_t i = 0; i < whole; i += 4) {
        __m256i four = _mm256_loadu_si256((const __m256i *)(const void *)(keys + i));
        _mm256_storeu_si256((__m256i *)(void *)(hashes + i), hash256(four));
    }
    for (size_t i = whole; i < count; i++) {
        hashes[i] = weir_hash64(keys[i]);
    }
    for (size_t i = 0; i < count; i++) {
        locate_hash(index, hashes[i], chunk, i);
    }
}

AVX2 static void find_avx2(const weir_index_t *index, const weir_key_t *keys, size_t count,
                           uint32_t *rows) {
    find_with(locate_avx2, index, keys, count, rows);
}

AVX512 static inline __m512i hash512(__m512i x) {
    x = _mm512_add_epi64(x, _mm512_set1_epi64((long long)0x9E3779B97F4A7C15ull));
    x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 30)),
                           _mm512_set1_epi64((long long)0xBF58476D1CE4E5B9ull));
    x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 27)),
                           _mm512_set1_epi64((long long)0x94D049BB133111EBull));
    return _mm512_xor_si512(x, _mm512_srli_epi64(x, 31));
}

AVX512 static inline void locate_avx512(const weir_index_t *index, const weir_key_t *keys,
                                        size_t count, chunk_t *chunk) {
    size_t whole = count / 8 * 8;
    uint64_t hashes[CHUNK];
    for (size_t i = 0; i < whole; i += 8) {
        __m512i eight = hash512(_mm512_loadu_si512(keys + i));
        _mm256_storeu_si256((__m256i *)(void *)(hashes + i), _mm512_castsi512_si256(eight));
        _mm256_storeu_si256((__m256i *)(void *)(hashes + i + 4),
                            _mm512_extracti64x4_epi64(eight, 1));
    }
    for (size_t i = whole; i < count; i++) {
        hashes[i] = weir_hash64(keys[i]);
    }
    for (size_t i = 0; i < count; i++) {
        locate_hash(index, hashes[i], chunk, i);
    }
}

AVX512 static void find_avx512(const weir_index_t *index, const weir_key_t *keys, size_t count,
                               uint32_t *rows) {
    find_with(locate_avx512, index, keys, count, rows);
}
#endif

/* NULL: not on this CPU. */
static weir_index_find_t find_of_width(uint32_t bits) {
#ifdef __x86_64__
    if (bits == 512) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
                   ? find_avx512
                   : NULL;
    }
    if (bits == 256) {
        return __builtin_cpu_supports("avx2") ? find_avx2 : NULL;
    }
#endif
    return bits == 128 ? find_portable : NULL;
}

weir_index_find_t weir_index_choose_find(void) {
    weir_index_find_t find = find_of_width(512);
    if (find == NULL) {
        find = find_of_width(256);
    }
    return find != NULL ? find : find_portable;
}

bool weir_index_set_width(weir_index_t *index, uint32_t bits) {
    weir_index_find_t find = find_of_width(bits);
    if (find == NULL) {
        return false;
    }
    index->find = find;
    return true;
}
