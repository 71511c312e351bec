#include "common/rng.h"
#include "ps/arena.h"
#include "tests/suite.h"

#include <stdint.h>
#include <string.h>

enum { BLOCKS = 600 };

typedef struct {
    unsigned char *start;
    size_t size;
    unsigned char mark;
} block_t;

static void check_block(const block_t *block) {
    ck_assert_uint_eq((uintptr_t)block->start % WEIR_ARENA_ALIGNMENT, 0);
    size_t wrong = 0;
    for (size_t i = 0; i < block->size; i++) {
        wrong += block->start[i] != block->mark;
    }
    ck_assert_uint_eq(wrong, 0);
}

START_TEST(blocks_never_overlap_and_all_memory_comes_back) {
    weir_arena_t arena = {0};
    block_t blocks[BLOCKS] = {{0}};
    for (uint32_t turn = 0; turn < 20000; turn++) {
        weir_philox_t random = weir_philox(weir_rng_key(5, WEIR_STREAM_TEST), turn, 0, 0, 0);
        block_t *block = &blocks[random.word[0] % BLOCKS];
        if (block->start != NULL) {
            check_block(block);
            weir_arena_release(&arena, block->start, block->size);
            block->start = NULL;
        } else {
            block->size = random.word[1] % 3000 + 1;
            block->mark = (unsigned char)random.word[2];
            block->start = weir_arena_acquire(&arena, block->size);
            ck_assert_ptr_nonnull(block->start);
            memset(block->start, block->mark, block->size);
        }
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (blocks[i].start != NULL) {
            check_block(&blocks[i]);
        }
        weir_arena_release(&arena, blocks[i].start, blocks[i].size);
    }
    ck_assert_uint_eq(arena.in_use, 0);
    ck_assert_uint_eq(arena.mapped, 0);
    ck_assert_ptr_null(arena.regions);
    weir_arena_fini(&arena);
}
END_TEST

START_TEST(freed_neighbours_become_one_block_again) {
    weir_arena_t arena = {0};
    char *blocks[64];
    for (size_t i = 0; i < 64; i++) {
        blocks[i] = weir_arena_acquire(&arena, 1 << 20);
        ck_assert_ptr_nonnull(blocks[i]);
    }
    size_t mapped = arena.mapped;
    for (size_t i = 0; i < 64; i += 2) {
        weir_arena_release(&arena, blocks[i], 1 << 20);
    }
    for (size_t i = 1; i < 62; i += 2) {
        weir_arena_release(&arena, blocks[i], 1 << 20);
    }
    char *large = weir_arena_acquire(&arena, 60 << 20);
    ck_assert_ptr_nonnull(large);
    ck_assert_uint_eq(arena.mapped, mapped);
    weir_arena_fini(&arena);
}
END_TEST

START_TEST(a_block_larger_than_a_region_has_its_own_and_nonsense_is_refused) {
    weir_arena_t arena = {0};
    char *large = weir_arena_acquire(&arena, (size_t)100 << 20);
    ck_assert_ptr_nonnull(large);
    large[0] = 1;
    large[((size_t)100 << 20) - 1] = 1;
    ck_assert_ptr_null(weir_arena_acquire(&arena, 0));
    ck_assert_ptr_null(weir_arena_acquire(&arena, SIZE_MAX));
    ck_assert_ptr_null(weir_arena_acquire(&arena, SIZE_MAX / 2));
    weir_arena_release(&arena, large, (size_t)100 << 20);
    ck_assert_uint_eq(arena.mapped, 0);
    weir_arena_fini(&arena);
}
END_TEST

START_TEST(a_mapping_is_zeroed_and_aligned_to_a_huge_page) {
    char *mapping = weir_arena_map(12345);
    ck_assert_ptr_nonnull(mapping);
    ck_assert_uint_eq((uintptr_t)mapping % (2 << 20), 0);
    size_t wrong = 0;
    for (size_t i = 0; i < 12345; i++) {
        wrong += mapping[i] != 0;
    }
    ck_assert_uint_eq(wrong, 0);
    weir_arena_unmap(mapping, 12345);
    ck_assert_ptr_null(weir_arena_map(SIZE_MAX));
}
END_TEST

START_TEST(a_limit_holds_and_the_peak_is_remembered) {
    weir_arena_t arena = {.limit = 1000};
    void *first = weir_arena_acquire(&arena, 600); /* 640 */
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_null(weir_arena_acquire(&arena, 400));
    ck_assert_uint_eq(arena.in_use, 640);
    void *second = weir_arena_acquire(&arena, 320);
    ck_assert_ptr_nonnull(second);
    weir_arena_release(&arena, first, 600);
    ck_assert_ptr_null(weir_arena_acquire(&arena, 1001));
    arena.limit = 0;
    ck_assert_uint_eq(arena.in_use, 320);
    ck_assert_uint_eq(arena.peak, 960);
    ck_assert_ptr_nonnull(weir_arena_acquire(&arena, 600));
    weir_arena_release(&arena, second, 320);
    weir_arena_fini(&arena);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("arena");
    TCase *t = tcase_create("arena");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, blocks_never_overlap_and_all_memory_comes_back);
    tcase_add_test(t, freed_neighbours_become_one_block_again);
    tcase_add_test(t, a_block_larger_than_a_region_has_its_own_and_nonsense_is_refused);
    tcase_add_test(t, a_mapping_is_zeroed_and_aligned_to_a_huge_page);
    tcase_add_test(t, a_limit_holds_and_the_peak_is_remembered);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
