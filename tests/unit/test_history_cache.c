#include "common/rng.h"
#include "tests/suite.h"
#include "worker/history_cache.h"

#include <string.h>

enum { TOKENS = 6, DIM = 4, MANY = 50 };

static const weir_stu_config_t layers = {
    .embedding_dim = DIM, .blocks = 2, .heads = 1, .dqk = 3, .dv = 2, .max_tokens = 20};
static weir_stu_cache_t *engine;
static float *parameters;

static void set_up(void) {
    weir_error_t error = {0};
    parameters = calloc(weir_stu_parameter_elements(&layers), sizeof *parameters);
    ck_assert_ptr_nonnull(parameters);
    ck_assert_int_eq(weir_stu_cache_create(&layers, &engine, &error), WEIR_OK);
}

static void tear_down(void) {
    weir_stu_cache_destroy(engine);
    free(parameters);
}

static weir_stu_history_t *make_history(size_t tokens) {
    weir_error_t error = {0};
    float x[TOKENS * DIM] = {0.0f};
    ck_assert_int_eq(weir_stu_cache_fill(engine, parameters, x, tokens, &error), WEIR_OK);
    weir_stu_history_t *history = weir_stu_cache_take(engine);
    ck_assert_ptr_nonnull(history);
    ck_assert_ptr_null(weir_stu_cache_take(engine));
    return history;
}

static weir_history_id_t id_of(size_t number) {
    return (weir_history_id_t){.user = (int64_t)(number / 4),
                               .events = (int64_t)(number / 2 % 2),
                               .time = (int64_t)(number % 2)};
}

static const weir_stu_history_t *put(weir_history_cache_t *cache, size_t number) {
    weir_error_t error = {0};
    const weir_stu_history_t *kept = NULL;
    ck_assert_int_eq(weir_history_cache_put(cache, id_of(number), make_history(1 + number % TOKENS),
                                            &kept, &error),
                     WEIR_OK);
    return kept;
}

START_TEST(all_that_fits_is_kept_apart) {
    weir_error_t error = {0};
    weir_history_cache_t *cache = NULL;
    const weir_stu_history_t *kept[MANY];
    ck_assert_int_eq(weir_history_cache_create(1 << 20, &cache, &error), WEIR_OK);
    size_t bytes = 0;
    for (size_t i = 0; i < MANY; i++) {
        ck_assert_ptr_null(weir_history_cache_get(cache, id_of(i)));
        kept[i] = put(cache, i);
        bytes += weir_stu_history_bytes(kept[i]);
        ck_assert_uint_eq(weir_history_cache_bytes(cache), bytes);
    }
    for (size_t i = 0; i < MANY; i++) {
        ck_assert_ptr_eq(weir_history_cache_get(cache, id_of(i)), kept[i]);
    }
    weir_history_cache_destroy(cache);
}
END_TEST

/* Against a plain list in the order of use. */
START_TEST(what_was_used_longest_ago_goes_first) {
    weir_error_t error = {0};
    weir_history_cache_t *cache = NULL;
    size_t list[MANY], count = 0, limit = 12 * 1024 / 8;
    size_t sizes[TOKENS + 1] = {0};
    for (size_t tokens = 1; tokens <= TOKENS; tokens++) {
        weir_stu_history_t *history = make_history(tokens);
        sizes[tokens] = weir_stu_history_bytes(history);
        weir_stu_history_free(history);
    }
    ck_assert_int_eq(weir_history_cache_create(limit, &cache, &error), WEIR_OK);
    uint64_t state = 5;
    size_t dropped = 0;
    for (size_t turn = 0; turn < 3000; turn++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t number = (size_t)(state >> 40) % MANY, at = 0;
        while (at < count && list[at] != number) {
            at++;
        }
        const weir_stu_history_t *found = weir_history_cache_get(cache, id_of(number));
        ck_assert_int_eq(found != NULL, at < count);
        if (at == count) {
            ck_assert_ptr_nonnull(put(cache, number));
            count++;
        }
        memmove(list + 1, list, at * sizeof *list);
        list[0] = number;
        size_t bytes = 0, keep = 0;
        for (; keep < count; keep++) {
            bytes += sizes[1 + list[keep] % TOKENS];
            if (bytes > limit && keep > 0) {
                break;
            }
        }
        dropped += count - keep;
        count = keep;
        ck_assert_uint_le(weir_history_cache_bytes(cache), limit);
    }
    ck_assert_uint_gt(dropped, 100);
    weir_history_cache_destroy(cache);
}
END_TEST

START_TEST(without_room_the_last_one_stays) {
    weir_error_t error = {0};
    weir_history_cache_t *cache = NULL;
    ck_assert_int_eq(weir_history_cache_create(0, &cache, &error), WEIR_OK);
    const weir_stu_history_t *kept = put(cache, 1);
    ck_assert_ptr_eq(weir_history_cache_get(cache, id_of(1)), kept);
    kept = put(cache, 2);
    ck_assert_ptr_null(weir_history_cache_get(cache, id_of(1)));
    ck_assert_ptr_eq(weir_history_cache_get(cache, id_of(2)), kept);
    kept = put(cache, 2); /* in its place */
    ck_assert_ptr_eq(weir_history_cache_get(cache, id_of(2)), kept);
    weir_history_cache_destroy(cache);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("history cache");
    TCase *t = tcase_create("history_cache");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, all_that_fits_is_kept_apart);
    tcase_add_test(t, what_was_used_longest_ago_goes_first);
    tcase_add_test(t, without_room_the_last_one_stays);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
