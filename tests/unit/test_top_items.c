#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/kernels.h"
#include "worker/rank.h"
#include "worker/top_items.h"

#include <stdio.h>
#include <string.h>

enum { ITEMS = 421, USERS = 9, DIM = 21, MOST_EXCLUDED = 30 };

typedef struct {
    weir_real_t rows[ITEMS * DIM], encoded[USERS * DIM];
    size_t offsets[USERS + 1];
    int64_t excluded[USERS * MOST_EXCLUDED];
} case_t;

typedef struct {
    double score;
    int64_t item;
} entry_t;

static int compare_items(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int compare_entries(const void *a, const void *b) {
    const entry_t *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

static case_t *make_case(uint64_t seed) {
    case_rng_t rng = {.seed = seed};
    case_t *c = case_allocate(1, sizeof *c);
    case_fill(&rng, c->rows, ITEMS * DIM, 0.1);
    case_fill(&rng, c->encoded, USERS * DIM, 1.0);
    weir_rank_normalise(c->rows, ITEMS, DIM);
    for (size_t u = 0; u < USERS; u++) {
        size_t excluded = case_below(&rng, MOST_EXCLUDED);
        c->offsets[u + 1] = c->offsets[u] + excluded;
        for (size_t i = c->offsets[u]; i < c->offsets[u + 1]; i++) {
            c->excluded[i] = (int64_t)case_below(&rng, ITEMS + 10); /* some twice, some not there */
        }
        qsort(c->excluded + c->offsets[u], excluded, sizeof(int64_t), compare_items);
    }
    return c;
}

static weir_top_items_t *find(const case_t *c, size_t k, size_t piece) {
    weir_error_t error = {0};
    weir_top_items_t *top = NULL;
    ck_assert_int_eq(weir_top_items_create(USERS, k, &top, &error), WEIR_OK);
    for (size_t first = 0; first < ITEMS; first += piece) {
        size_t count = ITEMS - first < piece ? ITEMS - first : piece;
        ck_assert_msg(weir_top_items_offer(top, c->encoded, weir_similarity_dot(DIM),
                                           c->rows + first * DIM, 1 + (int64_t)first, count,
                                           c->offsets, c->excluded, &error) == WEIR_OK,
                      "%s", error.message);
    }
    return top;
}

/* All that a user may be given, the best first, in float64. */
static size_t sort_all(const case_t *c, size_t user, entry_t entries[ITEMS]) {
    size_t count = 0;
    for (int64_t item = 1; item <= ITEMS; item++) {
        double score = 0.0;
        bool skip = false;
        for (size_t i = c->offsets[user]; i < c->offsets[user + 1]; i++) {
            skip = skip || c->excluded[i] == item;
        }
        for (size_t d = 0; d < DIM; d++) {
            score +=
                (double)c->encoded[user * DIM + d] * (double)c->rows[(size_t)(item - 1) * DIM + d];
        }
        if (!skip) {
            entries[count++] = (entry_t){score, item};
        }
    }
    qsort(entries, count, sizeof *entries, compare_entries);
    return count;
}

static void check_lists(const case_t *c, size_t k, size_t piece) {
    entry_t all[ITEMS];
    weir_top_items_t *top = find(c, k, piece);
    for (size_t u = 0; u < USERS; u++) {
        size_t left = sort_all(c, u, all), count = 0;
        const weir_scored_item_t *list = weir_top_items_list(top, u, &count);
        ck_assert_uint_eq(count, left < k ? left : k);
        for (size_t i = 0; i < count; i++) { /* scores are far apart: 1e-5 decides */
            ck_assert_double_eq_tol((double)list[i].score, all[i].score, 1e-5);
            bool same = list[i].item == all[i].item;
            bool close = (i > 0 && all[i - 1].score - all[i].score < 1e-5) ||
                         (i + 1 < left && all[i].score - all[i + 1].score < 1e-5);
            ck_assert_msg(same || close, "user %zu, place %zu: item %lld, not %lld", u, i,
                          (long long)list[i].item, (long long)all[i].item);
        }
    }
    weir_top_items_destroy(top);
}

START_TEST(lists_are_the_best_of_all) {
    static const size_t ks[] = {1, 2, 10, 64, 100, ITEMS, ITEMS + 5};
    for (uint64_t seed = 1; seed <= 4; seed++) {
        case_t *c = make_case(seed);
        for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
            check_lists(c, ks[i], ITEMS);
        }
        free(c);
    }
}
END_TEST

START_TEST(lists_do_not_depend_on_the_pieces) {
    static const size_t pieces[] = {1, 7, 63, 64, 65, 300};
    case_t *c = make_case(9);
    weir_top_items_t *whole = find(c, 20, ITEMS);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        weir_top_items_t *top = find(c, 20, pieces[i]);
        for (size_t u = 0; u < USERS; u++) {
            size_t count = 0, expected = 0;
            const weir_scored_item_t *list = weir_top_items_list(top, u, &count);
            const weir_scored_item_t *other = weir_top_items_list(whole, u, &expected);
            ck_assert_uint_eq(count, expected);
            for (size_t k = 0; k < count; k++) {
                ck_assert_int_eq(list[k].item, other[k].item);
                ck_assert_int_eq(memcmp(&list[k].score, &other[k].score, sizeof list[k].score), 0);
            }
        }
        weir_top_items_destroy(top);
    }
    weir_top_items_destroy(whole);
    free(c);
}
END_TEST

START_TEST(lists_are_right_on_every_level) {
    static const char *const levels[] = {"naive", "v2", "v3", "v4", "generic"};
    char chosen[32] = "";
    size_t run = 0;
    (void)snprintf(chosen, sizeof chosen, "%s",
                   getenv("WEIR_KERNELS") == NULL ? "" : getenv("WEIR_KERNELS"));
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        const weir_kernels_t *kernels = NULL;
        if (weir_kernels_find(levels[i], &kernels, NULL) != WEIR_OK) {
            continue; /* not of this build or processor */
        }
        ck_assert_int_eq(setenv("WEIR_KERNELS", levels[i], 1), 0);
        case_t *c = make_case(20 + i);
        check_lists(c, 12, 100);
        free(c);
        run++;
    }
    ck_assert_int_eq(setenv("WEIR_KERNELS", chosen, 1), 0);
    ck_assert_uint_ge(run, 2);
}
END_TEST

START_TEST(equal_scores_are_in_the_order_of_items) {
    case_t *c = make_case(5);
    for (size_t item = 1; item < ITEMS; item++) {
        memcpy(c->rows + item * DIM, c->rows, DIM * sizeof(weir_real_t));
    }
    memset(c->offsets, 0, sizeof c->offsets);
    c->offsets[USERS] = 2; /* the last one is not to be given items 1 and 3 */
    c->excluded[0] = 1;
    c->excluded[1] = 3;
    weir_top_items_t *top = find(c, 5, 100);
    static const int64_t expected[2][5] = {{1, 2, 3, 4, 5}, {2, 4, 5, 6, 7}};
    for (size_t u = 0; u < USERS; u++) {
        size_t count = 0;
        const weir_scored_item_t *list = weir_top_items_list(top, u, &count);
        ck_assert_uint_eq(count, 5);
        for (size_t i = 0; i < 5; i++) {
            ck_assert_int_eq(list[i].item, expected[u == USERS - 1 ? 1 : 0][i]);
        }
    }
    weir_top_items_destroy(top);
    free(c);
}
END_TEST

START_TEST(what_is_not_a_number_is_in_no_list) {
    case_t *c = make_case(6);
    for (size_t item = 0; item < ITEMS; item += 2) {
        c->rows[item * DIM + 3] = (weir_real_t)NAN;
    }
    memset(c->offsets, 0, sizeof c->offsets);
    weir_top_items_t *top = find(c, ITEMS, 50);
    for (size_t u = 0; u < USERS; u++) {
        size_t count = 0;
        const weir_scored_item_t *list = weir_top_items_list(top, u, &count);
        ck_assert_uint_eq(count, ITEMS / 2);
        for (size_t i = 0; i < count; i++) {
            ck_assert_int_eq(list[i].item % 2, 0);
        }
    }
    weir_top_items_destroy(top);
    free(c);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("top items " WEIR_REAL_NAME);
    TCase *t = tcase_create("top_items");
    tcase_add_test(t, lists_are_the_best_of_all);
    tcase_add_test(t, lists_do_not_depend_on_the_pieces);
    tcase_add_test(t, lists_are_right_on_every_level);
    tcase_add_test(t, equal_scores_are_in_the_order_of_items);
    tcase_add_test(t, what_is_not_a_number_is_in_no_list);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
