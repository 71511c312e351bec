#include "ps/split.h"
#include "tests/suite.h"

START_TEST(a_split_gives_every_key_to_its_owner_once_and_in_order) {
    enum { COUNT = 5000 };
    static weir_key_t keys[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        keys[i] = i * i * 31;
    }
    static const uint32_t servers[] = {1, 2, 3, 7, 1000, WEIR_SLOT_COUNT};
    for (size_t n = 0; n < sizeof servers / sizeof *servers; n++) {
        weir_split_t split;
        ck_assert(weir_split_init(&split, servers[n]));
        for (size_t count = 0; count <= COUNT; count += COUNT / 2) {
            ck_assert_int_eq(weir_split_keys(&split, keys, count, NULL), WEIR_OK);
            size_t total = 0, wrong = 0;
            for (uint32_t s = 0; s < servers[n]; s++) {
                const uint32_t *part = weir_split_part(&split, s);
                weir_slot_t first = weir_slot_first(s, servers[n]);
                weir_slot_t end = weir_slot_first(s + 1, servers[n]);
                total += weir_split_count(&split, s);
                for (size_t i = 0; i < weir_split_count(&split, s); i++) {
                    weir_slot_t slot = weir_slot_of_hash(weir_hash64(keys[part[i]]));
                    wrong += slot < first || slot >= end || (i > 0 && part[i] <= part[i - 1]);
                }
            }
            ck_assert_uint_eq(total, count);
            ck_assert_uint_eq(wrong, 0);
        }
        weir_split_fini(&split);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("split");
    TCase *t = tcase_create("split");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, a_split_gives_every_key_to_its_owner_once_and_in_order);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
