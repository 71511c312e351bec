#include "ps/index_group.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { CHUNK = 32 /* keys whose cache misses are in flight together */ };

/* Keys on their way: each one's hash and the first group to probe. */
typedef struct {
    uint64_t hashes[CHUNK];
    const weir_index_group_t *groups[CHUNK];
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
        if (group->tags[PASSED] == 0) {
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
    return group->tags[PASSED] == 0 ? WEIR_INDEX_NONE : resolve_further(index, hash, key);
}

/* The lines of the next chunk travel while this one is compared. */
INLINE void find_with(locate_t locate, const weir_index_t *index, const weir_key_t *keys,
                      size_t count, uint32_t *rows) {
    chunk_t chunks[2];
    uint32_t masks[CHUNK];
    size_t now = count < CHUNK ? count : CHUNK;
    locate(index, keys, now, &chunks[0]);
    for (size_t begin = 0, turn = 0; begin < count; turn ^= 1) {
        size_t left = count - begin - now;
        size_t next = left < CHUNK ? left : CHUNK;
        locate(index, keys + begin + now, next, &chunks[turn ^ 1]);
        const chunk_t *current = &chunks[turn];
        for (size_t i = 0; i < now; i++) {
            const weir_index_group_t *group = current->groups[i];
            uint32_t mask = match_tags(group, tag_of(current->hashes[i]));
            const weir_index_group_t *next_group = group + (group->tags[PASSED] != 0);
            const void *key =
                (const char *)group + key_offsets[__builtin_ctz(mask | 1u << GROUP_ENTRIES)];
            masks[i] = mask;
            __builtin_prefetch(mask != 0 ? key : (const void *)next_group);
        }
        for (size_t i = 0; i < now; i++) {
            rows[begin + i] = resolve_key(index, current->groups[i], current->hashes[i],
                                          keys[begin + i], masks[i]);
        }
        begin += now;
        now = next;
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

/* In halves: a load of 8 bytes behind a store of 64 waits until that is in the cache, which costs
 * a third of the finds on Zen 5. */
AVX512 static inline void store512(void *to, __m512i x) {
    _mm256_storeu_si256(to, _mm512_castsi512_si256(x));
    _mm256_storeu_si256((__m256i *)to + 1, _mm512_extracti64x4_epi64(x, 1));
}

AVX512 static inline void locate_avx512(const weir_index_t *index, const weir_key_t *keys,
                                        size_t count, chunk_t *chunk) {
    const __m512i first = _mm512_set1_epi64((long long)index->first_hash);
    const __m512i last = _mm512_set1_epi64((long long)index->places - 1);
    const __m128i shift = _mm_cvtsi32_si128((int)index->shift);
    for (size_t i = 0; i < count; i += 8) {
        __mmask8 lanes = (__mmask8)(count - i >= 8 ? 0xFF : (1u << (count - i)) - 1);
        __m512i hashes = hash512(_mm512_maskz_loadu_epi64(lanes, keys + i));
        __m512i places =
            _mm512_min_epu64(_mm512_srl_epi64(_mm512_sub_epi64(hashes, first), shift), last);
        /* Directory entries are 16 bytes: pointer, then count in the lower half of a word. */
        __m512i offsets = _mm512_slli_epi64(places, 1);
        __m512i starts = _mm512_i64gather_epi64(offsets, (const void *)index->directory, 8);
        __m512i counts =
            _mm512_i64gather_epi64(offsets, (const void *)((const char *)index->directory + 8), 8);
        __m512i positions = _mm512_srli_epi64(
            _mm512_mul_epu32(_mm512_slli_epi64(hashes, POSITION_SHIFT), counts), 32);
        __m512i groups = _mm512_add_epi64(
            starts, _mm512_mul_epu32(positions, _mm512_set1_epi64(sizeof(weir_index_group_t))));
        store512(chunk->hashes + i, hashes);
        store512((void *)(chunk->groups + i), groups);
        for (size_t j = i; j < i + 8; j++) {
            __builtin_prefetch(chunk->groups[j]);
        }
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
    weir_index_find_t find = find_of_width(256);
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
