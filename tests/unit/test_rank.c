#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/kernels.h"
#include "worker/rank.h"
#include "worker/score_pass.h"

#include <string.h>

enum { ITEMS = 333, USERS = 11, DIM = 37 };

/* A catalogue of items 1 .. ITEMS, users with targets and excluded items. */
typedef struct {
    weir_real_t rows[ITEMS * DIM], encoded[USERS * DIM], target_rows[USERS * DIM];
    weir_real_t target_scores[USERS];
    int64_t targets[USERS], excluded[USERS * 20];
    size_t offsets[USERS + 1];
    uint64_t counts[USERS];
} case_t;

static int compare_items(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static case_t *make_case(uint64_t seed) {
    case_rng_t rng = {.seed = seed};
    case_t *c = case_allocate(1, sizeof *c);
    case_fill(&rng, c->rows, ITEMS * DIM, 0.02);
    case_fill(&rng, c->encoded, USERS * DIM, 1.0);
    weir_rank_normalise(c->rows, ITEMS, DIM);
    weir_rank_normalise(c->encoded, USERS, DIM);
    for (size_t u = 0; u < USERS; u++) {
        size_t excluded = case_below(&rng, 21);
        c->targets[u] = 1 + (int64_t)case_below(&rng, ITEMS);
        memcpy(c->target_rows + u * DIM, c->rows + (size_t)(c->targets[u] - 1) * DIM,
               DIM * sizeof(weir_real_t));
        c->offsets[u + 1] = c->offsets[u] + excluded;
        for (size_t i = c->offsets[u]; i < c->offsets[u + 1]; i++) {
            /* with repeats, with the target, and with items outside the catalogue */
            c->excluded[i] = i % 5 == 0 ? c->targets[u] : (int64_t)case_below(&rng, ITEMS + 40);
        }
        qsort(c->excluded + c->offsets[u], excluded, sizeof(int64_t), compare_items);
    }
    ck_assert_int_eq(weir_score_own(c->encoded, c->target_rows, USERS, weir_similarity_dot(DIM),
                                    c->target_scores, NULL),
                     WEIR_OK);
    return c;
}

static void count_in_pieces(case_t *c, size_t piece) {
    memset(c->counts, 0, sizeof c->counts);
    for (size_t first = 0; first < ITEMS; first += piece) {
        size_t count = ITEMS - first < piece ? ITEMS - first : piece;
        weir_error_t error = {0};
        ck_assert_msg(weir_rank_count(c->encoded, USERS, weir_similarity_dot(DIM),
                                      c->rows + first * DIM, 1 + (int64_t)first, count, c->targets,
                                      c->target_scores, c->offsets, c->excluded, c->counts,
                                      &error) == WEIR_OK,
                      "%s", error.message);
    }
}

/* By the definition, in float64. A score within rounding of the target's may fall either way:
 * `doubtful` counts those. */
static uint64_t count_naive(const case_t *c, size_t u, uint64_t *doubtful) {
    uint64_t better = 0;
    double target = 0.0;
    for (size_t d = 0; d < DIM; d++) {
        target += (double)c->encoded[u * DIM + d] * (double)c->target_rows[u * DIM + d];
    }
    *doubtful = 0;
    for (int64_t item = 1; item <= ITEMS; item++) {
        double score = 0.0;
        bool skip = item == c->targets[u];
        for (size_t i = c->offsets[u]; i < c->offsets[u + 1]; i++) {
            skip = skip || c->excluded[i] == item;
        }
        for (size_t d = 0; d < DIM; d++) {
            score +=
                (double)c->encoded[u * DIM + d] * (double)c->rows[(size_t)(item - 1) * DIM + d];
        }
        if (!skip && fabs(score - target) < 1e-6) {
            (*doubtful)++;
        } else if (!skip && score > target) {
            better++;
        }
    }
    return better;
}

START_TEST(counts_follow_the_definition) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        case_t *c = make_case(seed);
        count_in_pieces(c, ITEMS);
        for (size_t u = 0; u < USERS; u++) {
            uint64_t doubtful, better = count_naive(c, u, &doubtful);
            ck_assert_uint_ge(c->counts[u], better);
            ck_assert_uint_le(c->counts[u], better + doubtful);
        }
        free(c);
    }
}
END_TEST

START_TEST(counts_do_not_depend_on_the_pieces) {
    static const size_t pieces[] = {1, 3, 63, 64, 65, 200};
    case_t *c = make_case(3);
    uint64_t whole[USERS];
    count_in_pieces(c, ITEMS);
    memcpy(whole, c->counts, sizeof whole);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        count_in_pieces(c, pieces[i]);
        ck_assert_int_eq(memcmp(whole, c->counts, sizeof whole), 0);
    }
    free(c);
}
END_TEST

/* The naive kernels round differently: only a score next to the target's may move. */
START_TEST(counts_follow_the_definition_on_every_level) {
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
        case_t *c = make_case(40 + i);
        count_in_pieces(c, 100);
        for (size_t u = 0; u < USERS; u++) {
            uint64_t doubtful, better = count_naive(c, u, &doubtful);
            ck_assert_uint_ge(c->counts[u], better);
            ck_assert_uint_le(c->counts[u], better + doubtful);
        }
        free(c);
        run++;
    }
    ck_assert_int_eq(setenv("WEIR_KERNELS", chosen, 1), 0); /* "" is the best */
    ck_assert_uint_ge(run, 2);
}
END_TEST

START_TEST(ties_count_against_us_wherever_they_stand) {
    case_t *c = make_case(4);
    for (size_t u = 0; u < USERS; u++) { /* every item is the target's double */
        c->offsets[u + 1] = 0;
    }
    for (size_t item = 0; item < ITEMS; item++) {
        memcpy(c->rows + item * DIM, c->rows, DIM * sizeof(weir_real_t));
    }
    for (size_t u = 0; u < USERS; u++) {
        memcpy(c->target_rows + u * DIM, c->rows, DIM * sizeof(weir_real_t));
    }
    ck_assert_int_eq(weir_score_own(c->encoded, c->target_rows, USERS, weir_similarity_dot(DIM),
                                    c->target_scores, NULL),
                     WEIR_OK);
    count_in_pieces(c, 100);
    for (size_t u = 0; u < USERS; u++) {
        ck_assert_uint_eq(c->counts[u], ITEMS - 1);
    }
    free(c);
}
END_TEST

START_TEST(a_model_that_broke_does_not_rank_well) {
    case_t *c = make_case(5);
    c->encoded[0] = (weir_real_t)NAN;
    c->offsets[1] = 0;
    ck_assert_int_eq(weir_score_own(c->encoded, c->target_rows, USERS, weir_similarity_dot(DIM),
                                    c->target_scores, NULL),
                     WEIR_OK);
    count_in_pieces(c, ITEMS);
    ck_assert_uint_eq(c->counts[0], ITEMS - 1);
    free(c);
}
END_TEST

START_TEST(rows_are_normalised_down_to_the_floor) {
    weir_real_t rows[6] = {3, 4, 0, 0, (weir_real_t)1e-7, 0};
    weir_rank_normalise(rows, 3, 2);
    ck_assert_double_eq_tol((double)rows[0], 0.6, 1e-7);
    ck_assert_double_eq_tol((double)rows[1], 0.8, 1e-7);
    ck_assert_double_eq((double)rows[2], 0.0);
    ck_assert_double_eq_tol((double)rows[4], 0.1, 1e-7);
}
END_TEST

START_TEST(items_out_of_range_are_refused) {
    case_t *c = make_case(6);
    weir_error_t error = {0};
    ck_assert_int_eq(weir_rank_count(c->encoded, USERS, weir_similarity_dot(DIM), c->rows,
                                     INT64_MAX - 3, ITEMS, c->targets, c->target_scores, c->offsets,
                                     c->excluded, c->counts, &error),
                     WEIR_ERR_INVALID);
    free(c);
}
END_TEST

START_TEST(metrics_are_means_over_users) {
    weir_metrics_t metrics = {0};
    double value = 0.0;
    weir_error_t error = {0};
    char json[512];
    weir_metrics_add(&metrics, 1);
    weir_metrics_add(&metrics, 3);
    weir_metrics_add(&metrics, 11);
    weir_metrics_add(&metrics, 201);
    ck_assert_int_eq(weir_metrics_value(&metrics, "hr@1", &value, &error), WEIR_OK);
    ck_assert_double_eq_tol(value, 0.25, 1e-15);
    ck_assert_int_eq(weir_metrics_value(&metrics, "hr@10", &value, &error), WEIR_OK);
    ck_assert_double_eq_tol(value, 0.5, 1e-15);
    ck_assert_int_eq(weir_metrics_value(&metrics, "ndcg@10", &value, &error), WEIR_OK);
    ck_assert_double_eq_tol(value, (1.0 + 0.5) / 4.0, 1e-15);
    ck_assert_int_eq(weir_metrics_value(&metrics, "hr@200", &value, &error), WEIR_OK);
    ck_assert_double_eq_tol(value, 0.75, 1e-15);
    ck_assert_int_eq(weir_metrics_value(&metrics, "mrr", &value, &error), WEIR_OK);
    ck_assert_double_eq_tol(value, (1.0 + 1.0 / 3 + 1.0 / 11 + 1.0 / 201) / 4.0, 1e-15);
    ck_assert_int_eq(weir_metrics_value(&metrics, "hr@7", &value, &error), WEIR_ERR_INVALID);
    weir_metrics_to_json(&metrics, json, sizeof json);
    ck_assert(strstr(json, "{\"users\": 4, \"hr@1\": 0.25, ") == json);
    ck_assert(json[strlen(json) - 1] == '}');
    weir_metrics_to_json(&metrics, json, 8);
    ck_assert_str_eq(json, "{\"users");
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("rank " WEIR_REAL_NAME);
    TCase *t = tcase_create("rank");
    tcase_add_test(t, counts_follow_the_definition);
    tcase_add_test(t, counts_do_not_depend_on_the_pieces);
    tcase_add_test(t, counts_follow_the_definition_on_every_level);
    tcase_add_test(t, ties_count_against_us_wherever_they_stand);
    tcase_add_test(t, a_model_that_broke_does_not_rank_well);
    tcase_add_test(t, rows_are_normalised_down_to_the_floor);
    tcase_add_test(t, items_out_of_range_are_refused);
    tcase_add_test(t, metrics_are_means_over_users);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
