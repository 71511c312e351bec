/* Results of users: their file, cold targets, and the correlation with popularity. */
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/model_cases.h"
#include "worker/user_results.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ITEMS = 25, USERS = 80 };

static void make_results(case_rng_t *rng, weir_user_result_t *results,
                         weir_item_popularity_t *popularity) {
    ck_assert_int_eq(weir_item_popularity_init(popularity, ITEMS, NULL), WEIR_OK);
    for (size_t u = 0; u < USERS; u++) {
        int64_t items[6];
        for (size_t i = 0; i < 6; i++) {
            items[i] = 1 + case_below(rng, 1 + case_below(rng, ITEMS - 3)); /* a few stay cold */
        }
        weir_item_popularity_add(popularity, items, 6);
        results[u] = (weir_user_result_t){3 * u, 1 + case_below(rng, ITEMS),
                                          1 + case_below(rng, 1 + case_below(rng, ITEMS))};
    }
    ck_assert_int_eq(weir_item_popularity_close(popularity, NULL), WEIR_OK);
}

/* Its place among all, from 1; of equal ones the mean of theirs. */
static double place(const double *values, const bool *used, size_t count, size_t of) {
    double below = 0.0, equal = 0.0;
    for (size_t i = 0; i < count; i++) {
        below += used[i] && values[i] < values[of] ? 1.0 : 0.0;
        equal += used[i] && !(values[i] < values[of]) && !(values[of] < values[i]) ? 1.0 : 0.0;
    }
    return below + (equal + 1.0) / 2.0;
}

static double plain_correlation(const weir_user_result_t *results,
                                const weir_item_popularity_t *popularity) {
    double known[ITEMS + 1] = {0.0}, rank[ITEMS + 1] = {0.0}, n = 0.0;
    double x = 0.0, y = 0.0, xx = 0.0, yy = 0.0, xy = 0.0;
    bool used[ITEMS + 1] = {false};
    for (size_t item = 1; item <= ITEMS; item++) {
        double users = 0.0;
        for (size_t u = 0; u < USERS; u++) {
            if (results[u].target == (int64_t)item && popularity->counts[item] > 0) {
                rank[item] += (double)results[u].rank;
                users += 1.0;
            }
        }
        used[item] = users > 0.0;
        rank[item] /= used[item] ? users : 1.0;
        known[item] = (double)popularity->counts[item];
    }
    for (size_t item = 1; item <= ITEMS; item++) {
        if (used[item]) {
            double a = place(known, used, ITEMS + 1, item), b = place(rank, used, ITEMS + 1, item);
            n += 1.0;
            x += a;
            y += b;
            xx += a * a;
            yy += b * b;
            xy += a * b;
        }
    }
    return -(n * xy - x * y) / sqrt((n * xx - x * x) * (n * yy - y * y));
}

START_TEST(the_correlation_with_popularity_is_that_of_plain_loops) {
    case_rng_t rng = {.seed = (uint64_t)_i};
    weir_user_result_t results[USERS];
    weir_item_popularity_t popularity;
    double correlation = 0.0;
    make_results(&rng, results, &popularity);
    ck_assert_int_eq(weir_user_results_opportunity(results, USERS, &popularity, &correlation, NULL),
                     WEIR_OK);
    ck_assert_double_le(fabs(correlation - plain_correlation(results, &popularity)), 1e-12);
    ck_assert_int_eq(weir_user_results_opportunity(results, 1, &popularity, &correlation, NULL),
                     WEIR_OK);
    ck_assert(isnan(correlation));
    weir_item_popularity_fini(&popularity);
}
END_TEST

START_TEST(popular_targets_that_rank_first_are_no_equal_opportunity) {
    weir_item_popularity_t popularity;
    double correlation = 0.0;
    ck_assert_int_eq(weir_item_popularity_init(&popularity, 4, NULL), WEIR_OK);
    for (int64_t item = 1; item <= 4; item++) {
        for (int64_t user = 0; user < item; user++) {
            int64_t items[] = {item};
            weir_item_popularity_add(&popularity, items, 1);
        }
    }
    const weir_user_result_t results[] = {{0, 4, 1}, {1, 4, 3}, {2, 3, 5}, {3, 1, 100}};
    ck_assert_int_eq(weir_user_results_opportunity(results, 4, &popularity, &correlation, NULL),
                     WEIR_OK);
    ck_assert_double_eq_tol(correlation, 1.0, 1e-12);
    weir_item_popularity_fini(&popularity);
}
END_TEST

START_TEST(cold_targets_are_counted_apart) {
    case_rng_t rng = {.seed = 3};
    weir_user_result_t results[USERS];
    weir_item_popularity_t popularity;
    weir_metrics_t cold, warm;
    uint64_t users = 0;
    double reciprocal = 0.0;
    make_results(&rng, results, &popularity);
    weir_user_results_split_cold(results, USERS, &popularity, &cold, &warm);
    for (size_t u = 0; u < USERS; u++) {
        if (popularity.counts[results[u].target] == 0) {
            users++;
            reciprocal += 1.0 / (double)results[u].rank;
        }
    }
    ck_assert_uint_gt(users, 0);
    ck_assert_uint_eq(cold.users, users);
    ck_assert_uint_eq(warm.users, USERS - users);
    ck_assert_double_eq_tol(cold.mrr, reciprocal, 1e-12);
    weir_item_popularity_fini(&popularity);
}
END_TEST

START_TEST(a_file_gives_back_what_was_written) {
    case_rng_t rng = {.seed = 9};
    weir_scratch_t scratch;
    weir_user_result_t results[USERS], *read = NULL;
    weir_item_popularity_t popularity;
    char path[600], copy[600];
    size_t count = 0;
    weir_scratch_init(&scratch);
    make_results(&rng, results, &popularity);
    (void)snprintf(path, sizeof path, "%s/users.safetensors", scratch.path);
    (void)snprintf(copy, sizeof copy, "%s/copy.safetensors", scratch.path);
    ck_assert_int_eq(weir_user_results_write(path, "test", "a test", results, USERS, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_user_results_copy(path, copy, NULL), WEIR_OK);
    ck_assert_int_eq(weir_user_results_read(copy, &read, &count, NULL), WEIR_OK);
    ck_assert_uint_eq(count, USERS);
    ck_assert_mem_eq(read, results, sizeof results);
    free(read);
    results[5].user = results[4].user; /* twice the same */
    ck_assert_int_eq(weir_user_results_write(path, "test", "a test", results, USERS, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_user_results_read(path, &read, &count, NULL), WEIR_ERR_CORRUPT);
    results[5].user++;
    results[7].rank = 0;
    ck_assert_int_eq(weir_user_results_write(path, "test", "a test", results, USERS, NULL),
                     WEIR_OK);
    ck_assert_int_eq(weir_user_results_read(path, &read, &count, NULL), WEIR_ERR_CORRUPT);
    weir_item_popularity_fini(&popularity);
    weir_scratch_fini(&scratch);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("user results");
    TCase *t = tcase_create("user_results");
    tcase_add_loop_test(t, the_correlation_with_popularity_is_that_of_plain_loops, 0, 30);
    tcase_add_test(t, popular_targets_that_rank_first_are_no_equal_opportunity);
    tcase_add_test(t, cold_targets_are_counted_apart);
    tcase_add_test(t, a_file_gives_back_what_was_written);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
