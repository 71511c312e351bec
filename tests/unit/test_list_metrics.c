/* Metrics of lists against plain loops over all places, pairs and items, in float64, and against
 * examples worked out by hand. */
#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/list_metrics.h"

#include <math.h>
#include <string.h>

enum {
    ITEMS = 97,
    USERS = 60,
    LONGEST = 20,
    MOST_RELEVANT = 30,
    DIM = 7,
    STRIDE = 9,
    HISTORY = 12
};

static const weir_list_cutoffs_t cutoffs = {.count = 4, .at = {1, 3, 10, LONGEST}};

typedef struct {
    weir_item_popularity_t popularity;
    float rows[(ITEMS + 1) * STRIDE]; /* the first DIM of a row are of length 1 */
    int64_t items[USERS][LONGEST], relevant[USERS][MOST_RELEVANT];
    size_t count[USERS], relevant_count[USERS];
    double diversity[USERS][WEIR_LIST_CUTOFFS];
} case_t;

static void draw_items(case_rng_t *rng, size_t most, int64_t *items, size_t count) {
    for (size_t i = 0; i < count; i++) {
        bool again = true;
        while (again) {
            items[i] = 1 + (int64_t)case_below(rng, (uint32_t)most);
            again = false;
            for (size_t j = 0; j < i; j++) {
                again = again || items[j] == items[i];
            }
        }
    }
}

static int compare_items(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static case_t *make_case(uint64_t seed) {
    case_rng_t rng = {.seed = seed};
    case_t *c = case_allocate(1, sizeof *c);
    ck_assert_int_eq(weir_item_popularity_init(&c->popularity, ITEMS, NULL), WEIR_OK);
    for (size_t u = 0; u < USERS; u++) {
        int64_t history[HISTORY];
        uint32_t known = case_below(&rng, HISTORY + 1);
        draw_items(&rng, ITEMS / 2 + u / 4, history, known);
        weir_item_popularity_add(&c->popularity, history, known);
        c->count[u] = u % 5 == 0 ? case_below(&rng, LONGEST) : LONGEST;
        c->relevant_count[u] = 1 + case_below(&rng, u % 3 == 0 ? 1 : MOST_RELEVANT);
        draw_items(&rng, ITEMS - 5, c->items[u], c->count[u]);
        draw_items(&rng, ITEMS, c->relevant[u], c->relevant_count[u]);
        qsort(c->relevant[u], c->relevant_count[u], sizeof(int64_t), compare_items);
    }
    ck_assert_int_eq(weir_item_popularity_close(&c->popularity, NULL), WEIR_OK);
    for (size_t i = 0; i < (ITEMS + 1) * STRIDE; i++) {
        c->rows[i] = (float)weir_uniform01(case_word(&rng)) - 0.5f;
    }
    for (size_t i = 0; i <= ITEMS; i++) {
        double square = 0.0;
        for (size_t d = 0; d < DIM; d++) {
            square += pow((double)c->rows[i * STRIDE + d], 2.0);
        }
        for (size_t d = 0; d < DIM; d++) {
            c->rows[i * STRIDE + d] = (float)((double)c->rows[i * STRIDE + d] / sqrt(square));
        }
    }
    return c;
}

static void end_case(case_t *c) {
    weir_item_popularity_fini(&c->popularity);
    free(c);
}

static weir_list_metrics_t *make_metrics(const case_t *c) {
    weir_list_metrics_t *metrics = NULL;
    ck_assert_int_eq(weir_list_metrics_create(&cutoffs, &c->popularity, &metrics, NULL), WEIR_OK);
    return metrics;
}

static void add_user(case_t *c, weir_list_metrics_t *metrics, size_t u) {
    float rows[LONGEST * STRIDE];
    for (size_t i = 0; i < c->count[u]; i++) {
        memcpy(rows + i * STRIDE, c->rows + (size_t)c->items[u][i] * STRIDE,
               STRIDE * sizeof(float));
    }
    ck_assert_int_eq(
        weir_list_diversity(rows, c->count[u], DIM, STRIDE, &cutoffs, c->diversity[u], NULL),
        WEIR_OK);
    weir_list_t list = {.items = c->items[u],
                        .count = c->count[u],
                        .relevant = c->relevant[u],
                        .relevant_count = c->relevant_count[u],
                        .diversity = c->diversity[u]};
    weir_list_metrics_add(metrics, &list);
}

/* ---- the plain way ---- */

static double hit(const case_t *c, size_t u, size_t place) {
    for (size_t i = 0; i < c->relevant_count[u] && place < c->count[u]; i++) {
        if (c->relevant[u][i] == c->items[u][place]) {
            return 1.0;
        }
    }
    return 0.0;
}

static double hits(const case_t *c, size_t u, size_t k) {
    double sum = 0.0;
    for (size_t place = 0; place < k; place++) {
        sum += hit(c, u, place);
    }
    return sum;
}

static double smaller(size_t a, size_t b) {
    return (double)(a < b ? a : b);
}

static double seen(const case_t *c, size_t u, size_t place) {
    return (double)c->popularity.counts[c->items[u][place]] / (double)c->popularity.users;
}

static double cosine(const case_t *c, int64_t a, int64_t b) {
    double sum = 0.0;
    for (size_t d = 0; d < DIM; d++) {
        sum += (double)c->rows[(size_t)a * STRIDE + d] * (double)c->rows[(size_t)b * STRIDE + d];
    }
    return sum;
}

/* Of one user; not a number: it does not count. */
static double plain_value(const case_t *c, size_t u, weir_list_kind_t kind, size_t k) {
    double sum = 0.0, discounts = 0.0, pairs = 0.0;
    size_t places = c->count[u] < k ? c->count[u] : k;
    for (size_t place = 0; place < k; place++) {
        discounts += log(2.0) / log((double)(place + 2));
    }
    switch (kind) {
    case WEIR_LIST_RECALL:
        return hits(c, u, k) / (double)c->relevant_count[u];
    case WEIR_LIST_PRECISION:
        return hits(c, u, k) / (double)k;
    case WEIR_LIST_MAP:
        for (size_t place = 0; place < places; place++) {
            sum += hit(c, u, place) * hits(c, u, place + 1) / (double)(place + 1);
        }
        return sum / smaller(k, c->relevant_count[u]);
    case WEIR_LIST_NDCG:
        for (size_t place = 0; place < k; place++) {
            sum += hit(c, u, place) / log2((double)(place + 2));
            pairs += place < c->relevant_count[u] ? 1.0 / log2((double)(place + 2)) : 0.0;
        }
        return sum / pairs;
    case WEIR_LIST_EPC:
        for (size_t place = 0; place < places; place++) {
            sum += (1.0 - seen(c, u, place)) / (double)places;
        }
        return sum;
    case WEIR_LIST_EPC_RELEVANT:
        for (size_t place = 0; place < places; place++) {
            sum += hit(c, u, place) * (1.0 - seen(c, u, place)) * log(2.0) /
                   log((double)(place + 2)) / discounts;
        }
        return sum;
    case WEIR_LIST_POPULARITY:
        for (size_t place = 0; place < places; place++) {
            sum += seen(c, u, place) * (double)c->popularity.users / (double)places;
        }
        return sum;
    default: /* diversity */
        for (size_t i = 0; i < places; i++) {
            for (size_t j = i + 1; j < places; j++) {
                sum += 1.0 - cosine(c, c->items[u][i], c->items[u][j]);
                pairs += 1.0;
            }
        }
        return pairs > 0.0 ? sum / pairs : (double)NAN;
    }
}

static double plain_mean(const case_t *c, weir_list_kind_t kind, size_t k) {
    double sum = 0.0, count = 0.0;
    for (size_t u = 0; u < USERS; u++) {
        double value = plain_value(c, u, kind, k);
        if (!isnan(value)) {
            sum += value;
            count += 1.0;
        }
    }
    return sum / count;
}

static double plain_coverage(const case_t *c, size_t k) {
    double covered = 0.0;
    for (int64_t item = 1; item <= ITEMS; item++) {
        bool found = false;
        for (size_t u = 0; u < USERS; u++) {
            for (size_t place = 0; place < c->count[u] && place < k; place++) {
                found = found || c->items[u][place] == item;
            }
        }
        covered += found ? 1.0 : 0.0;
    }
    return covered / (double)ITEMS;
}

/* Items that are more popular, or as popular and of a lower number. */
static bool plain_head(const case_t *c, int64_t item) {
    const uint64_t *counts = c->popularity.counts;
    size_t before = 0, warm = 0;
    for (int64_t other = 1; other <= ITEMS; other++) {
        warm += counts[other] > 0 ? 1 : 0;
        before +=
            counts[other] > counts[item] || (counts[other] == counts[item] && other < item) ? 1 : 0;
    }
    return counts[item] > 0 && (double)before < (double)warm / 5.0;
}

static double plain_opportunity(const case_t *c, bool head, size_t k) {
    double hits_of = 0.0, all = 0.0;
    for (size_t u = 0; u < USERS; u++) {
        for (size_t i = 0; i < c->relevant_count[u]; i++) {
            if (plain_head(c, c->relevant[u][i]) != head) {
                continue;
            }
            all += 1.0;
            for (size_t place = 0; place < c->count[u] && place < k; place++) {
                hits_of += c->items[u][place] == c->relevant[u][i] ? 1.0 : 0.0;
            }
        }
    }
    return hits_of / all;
}

static void check_near(double value, double expected) {
    ck_assert_double_le(fabs(value - expected), 1e-12 * (1.0 + fabs(expected)));
}

/* ---- tests ---- */

START_TEST(means_are_those_of_plain_loops) {
    case_t *c = make_case((uint64_t)_i);
    weir_list_metrics_t *metrics = make_metrics(c);
    double r_precision = 0.0;
    for (size_t u = 0; u < USERS; u++) {
        size_t r = c->relevant_count[u] < LONGEST ? c->relevant_count[u] : LONGEST;
        add_user(c, metrics, u);
        r_precision += hits(c, u, r) / (double)r / (double)USERS;
    }
    ck_assert_uint_eq(weir_list_metrics_users(metrics), USERS);
    for (size_t i = 0; i < cutoffs.count; i++) {
        for (int kind = 0; kind < WEIR_LIST_DIVERSITY; kind++) {
            check_near(weir_list_metrics_value(metrics, (weir_list_kind_t)kind, i),
                       plain_mean(c, (weir_list_kind_t)kind, cutoffs.at[i]));
        }
        double diversity = weir_list_metrics_value(metrics, WEIR_LIST_DIVERSITY, i);
        if (cutoffs.at[i] == 1) {
            ck_assert(isnan(diversity));
        } else { /* rows of float are of length 1 to rounding only */
            double expected = plain_mean(c, WEIR_LIST_DIVERSITY, cutoffs.at[i]);
            ck_assert_double_le(fabs(diversity - expected), 1e-12);
        }
    }
    check_near(weir_list_metrics_r_precision(metrics), r_precision);
    weir_list_metrics_destroy(metrics);
    end_case(c);
}
END_TEST

START_TEST(what_all_lists_have_together_is_that_of_plain_loops) {
    case_t *c = make_case(100 + (uint64_t)_i);
    weir_list_metrics_t *metrics = make_metrics(c);
    for (size_t u = 0; u < USERS; u++) {
        add_user(c, metrics, u);
    }
    for (size_t i = 0; i < cutoffs.count; i++) {
        size_t k = cutoffs.at[i];
        double head = plain_opportunity(c, true, k), tail = plain_opportunity(c, false, k);
        double middle = (head + tail) / 2.0;
        double deviation = sqrt((pow(head - middle, 2.0) + pow(tail - middle, 2.0)) / 2.0);
        check_near(weir_list_metrics_value(metrics, WEIR_LIST_COVERAGE, i), plain_coverage(c, k));
        check_near(weir_list_metrics_value(metrics, WEIR_LIST_OPPORTUNITY_HEAD, i), head);
        check_near(weir_list_metrics_value(metrics, WEIR_LIST_OPPORTUNITY_TAIL, i), tail);
        if (middle > 0.0) {
            check_near(weir_list_metrics_value(metrics, WEIR_LIST_OPPORTUNITY_SPREAD, i),
                       deviation / middle);
        }
    }
    weir_list_metrics_destroy(metrics);
    end_case(c);
}
END_TEST

START_TEST(users_spread_over_workers_give_the_same_bits) {
    enum { WORKERS = 3 };
    case_t *c = make_case(7);
    weir_list_metrics_t *alone = make_metrics(c), *merged = make_metrics(c), *of[WORKERS];
    size_t size = 0;
    for (size_t u = 0; u < USERS; u++) {
        add_user(c, alone, u);
    }
    for (size_t w = 0; w < WORKERS; w++) {
        of[w] = make_metrics(c);
        for (size_t u = w; u < USERS; u += WORKERS) {
            add_user(c, of[w], u);
        }
    }
    for (size_t w = WORKERS; w-- > 0;) {
        weir_list_metrics_merge(merged, weir_list_metrics_state(of[w], &size));
        weir_list_metrics_destroy(of[w]);
    }
    for (size_t i = 0; i < cutoffs.count; i++) {
        for (int kind = 0; kind < WEIR_LIST_KINDS; kind++) {
            double a = weir_list_metrics_value(alone, (weir_list_kind_t)kind, i);
            double b = weir_list_metrics_value(merged, (weir_list_kind_t)kind, i);
            ck_assert((isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0);
        }
    }
    double a = weir_list_metrics_r_precision(alone), b = weir_list_metrics_r_precision(merged);
    ck_assert(memcmp(&a, &b, sizeof a) == 0);
    weir_list_metrics_destroy(alone);
    weir_list_metrics_destroy(merged);
    end_case(c);
}
END_TEST

/* Relevant at places 1, 3, 6, 9 and 10 of ten, all five found: AP is the mean of 1, 2/3, 3/6, 4/9
 * and 5/10, each the precision at its place.
 */
START_TEST(an_average_precision_worked_out_by_hand) {
    static const weir_list_cutoffs_t ten = {.count = 2, .at = {3, 10}};
    weir_item_popularity_t popularity;
    weir_list_metrics_t *metrics = NULL;
    const int64_t items[] = {11, 2, 13, 4, 5, 16, 7, 8, 19, 20}, relevant[] = {11, 13, 16, 19, 20};
    const double diversity[] = {(double)NAN, (double)NAN};
    const weir_list_t list = {items, 10, relevant, 5, diversity};
    ck_assert_int_eq(weir_item_popularity_init(&popularity, 20, NULL), WEIR_OK);
    ck_assert_int_eq(weir_item_popularity_close(&popularity, NULL), WEIR_OK);
    ck_assert_int_eq(weir_list_metrics_create(&ten, &popularity, &metrics, NULL), WEIR_OK);
    weir_list_metrics_add(metrics, &list);
    check_near(weir_list_metrics_value(metrics, WEIR_LIST_MAP, 1),
               (1.0 + 2.0 / 3.0 + 3.0 / 6.0 + 4.0 / 9.0 + 5.0 / 10.0) / 5.0);
    check_near(weir_list_metrics_value(metrics, WEIR_LIST_MAP, 0), (1.0 + 2.0 / 3.0) / 3.0);
    check_near(weir_list_metrics_value(metrics, WEIR_LIST_RECALL, 0), 0.4);
    check_near(weir_list_metrics_value(metrics, WEIR_LIST_PRECISION, 1), 0.5);
    check_near(weir_list_metrics_r_precision(metrics), 0.4); /* two in the first five */
    check_near(weir_list_metrics_value(metrics, WEIR_LIST_EPC, 1), 1.0);
    check_near(weir_list_metrics_value(metrics, WEIR_LIST_COVERAGE, 1), 0.5);
    weir_list_metrics_destroy(metrics);
    weir_item_popularity_fini(&popularity);
}
END_TEST

START_TEST(with_one_relevant_item_they_coincide_with_those_of_ranks) {
    static const weir_list_cutoffs_t two = {.count = 2, .at = {1, 4}};
    const int64_t items[] = {5, 3, 9, 1};
    for (size_t rank = 1; rank <= 5; rank++) {
        weir_item_popularity_t popularity;
        weir_list_metrics_t *metrics = NULL;
        const int64_t relevant = rank <= 4 ? items[rank - 1] : 7;
        const double diversity[] = {(double)NAN, 0.5}, hit_ratio = rank <= 4 ? 1.0 : 0.0;
        const weir_list_t list = {items, 4, &relevant, 1, diversity};
        ck_assert_int_eq(weir_item_popularity_init(&popularity, 9, NULL), WEIR_OK);
        ck_assert_int_eq(weir_list_metrics_create(&two, &popularity, &metrics, NULL), WEIR_OK);
        weir_list_metrics_add(metrics, &list);
        ck_assert(weir_list_metrics_value(metrics, WEIR_LIST_RECALL, 1) == hit_ratio);
        ck_assert(weir_list_metrics_value(metrics, WEIR_LIST_PRECISION, 1) == hit_ratio / 4.0);
        check_near(weir_list_metrics_value(metrics, WEIR_LIST_MAP, 1), hit_ratio / (double)rank);
        check_near(weir_list_metrics_value(metrics, WEIR_LIST_NDCG, 1),
                   hit_ratio / log2((double)rank + 1.0));
        ck_assert(weir_list_metrics_r_precision(metrics) == (rank == 1 ? 1.0 : 0.0));
        ck_assert(weir_list_metrics_value(metrics, WEIR_LIST_DIVERSITY, 1) == 0.5);
        ck_assert(isnan(weir_list_metrics_value(metrics, WEIR_LIST_OPPORTUNITY_HEAD, 1)));
        weir_list_metrics_destroy(metrics);
        weir_item_popularity_fini(&popularity);
    }
}
END_TEST

START_TEST(an_item_is_popular_by_users_not_by_events) {
    weir_item_popularity_t popularity;
    int64_t once[] = {3, 3, 2, 3}, again[] = {3, 1};
    ck_assert_int_eq(weir_item_popularity_init(&popularity, 4, NULL), WEIR_OK);
    weir_item_popularity_add(&popularity, once, 4);
    weir_item_popularity_add(&popularity, again, 2);
    weir_item_popularity_add(&popularity, again, 0);
    ck_assert_int_eq(weir_item_popularity_close(&popularity, NULL), WEIR_OK);
    ck_assert_uint_eq(popularity.users, 2);
    ck_assert_uint_eq(popularity.warm, 3);
    ck_assert_uint_eq(popularity.counts[3], 2);
    ck_assert_uint_eq(popularity.counts[2], 1);
    ck_assert_uint_eq(popularity.counts[4], 0);
    ck_assert_uint_eq(popularity.head[3], 1);
    ck_assert(popularity.head[1] == 0 && popularity.head[2] == 0 && popularity.head[4] == 0);
    weir_item_popularity_fini(&popularity);
}
END_TEST

START_TEST(lengths_are_read_from_text_and_rise) {
    static const char *const wrong[] = {"",
                                        "0",
                                        "5,5",
                                        "5,3",
                                        "a",
                                        "1,",
                                        ",1",
                                        "1;2",
                                        "-1",
                                        "+1",
                                        " 1",
                                        "1, 2",
                                        "101",
                                        "1e3",
                                        "1,,2",
                                        "1,2,3,4,5,6,7,8,9",
                                        "99999999999999999999999"};
    weir_list_cutoffs_t found = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_int_eq(weir_list_cutoffs_parse(wrong[i], 100, &found, NULL), WEIR_ERR_INVALID);
    }
    ck_assert_uint_eq(found.count, 0);
    ck_assert_int_eq(weir_list_cutoffs_parse("1,7,100", 100, &found, NULL), WEIR_OK);
    ck_assert_uint_eq(found.count, 3);
    ck_assert_uint_eq(found.at[1], 7);
    ck_assert_uint_eq(found.at[2], 100);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("list metrics");
    TCase *t = tcase_create("list_metrics");
    tcase_add_loop_test(t, means_are_those_of_plain_loops, 0, 20);
    tcase_add_loop_test(t, what_all_lists_have_together_is_that_of_plain_loops, 0, 20);
    tcase_add_test(t, users_spread_over_workers_give_the_same_bits);
    tcase_add_test(t, an_average_precision_worked_out_by_hand);
    tcase_add_test(t, with_one_relevant_item_they_coincide_with_those_of_ranks);
    tcase_add_test(t, an_item_is_popular_by_users_not_by_events);
    tcase_add_test(t, lengths_are_read_from_text_and_rise);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
