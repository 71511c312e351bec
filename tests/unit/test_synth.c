#include "tools/synth_model.h"

#include "tests/suite.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ITEMS = 400, USERS = 600, CLUSTERS = 20, TOP = 10 };

static weir_error_t error;

static weir_synth_options_t small_options(void) {
    return (weir_synth_options_t){.users = USERS,
                                  .items = ITEMS,
                                  .clusters = CLUSTERS,
                                  .events_mean = 40,
                                  .skew = 1.0,
                                  .days = 200,
                                  .seed = 5};
}

static weir_synth_t *create(const weir_synth_options_t *options) {
    weir_synth_t *synth = NULL;
    ck_assert_msg(weir_synth_create(options, &synth, &error) == WEIR_OK, "%s", error.message);
    return synth;
}

START_TEST(a_user_is_a_function_of_seed_and_number_alone) {
    weir_synth_options_t options = small_options();
    weir_synth_t *one = create(&options);
    options.users = UINT64_C(1) << 40;
    weir_synth_t *many = create(&options);
    options.seed = 6;
    weir_synth_t *other = create(&options);
    bool differs = false;
    for (uint64_t user = 0; user < 20; user++) {
        weir_synth_events_t a = weir_synth_user(one, user);
        (void)weir_synth_user(many, (UINT64_C(1) << 39) - user); /* order is of no account */
        weir_synth_events_t b = weir_synth_user(many, user);
        weir_synth_events_t c = weir_synth_user(other, user);
        ck_assert_uint_eq(a.count, b.count);
        ck_assert_mem_eq(a.items, b.items, a.count * sizeof *a.items);
        ck_assert_mem_eq(a.times, b.times, a.count * sizeof *a.times);
        ck_assert_mem_eq(a.actions, b.actions, a.count * sizeof *a.actions);
        differs = differs || c.count != a.count || c.items[0] != a.items[0];
    }
    ck_assert(differs);
    weir_synth_destroy(one);
    weir_synth_destroy(many);
    weir_synth_destroy(other);
}
END_TEST

START_TEST(events_are_well_formed_and_after_release) {
    static const struct {
        uint64_t items, clusters;
        double mean, skew;
    } shapes[] = {{ITEMS, CLUSTERS, 40, 1.0},
                  {1, 1, 4, 0.0},
                  {7, 7, 10, 2.5},
                  {UINT64_C(1) << 40, 1000, 10, 1.0}};
    for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++) {
        weir_synth_options_t options = small_options();
        options.items = shapes[k].items;
        options.clusters = shapes[k].clusters;
        options.events_mean = shapes[k].mean;
        options.skew = shapes[k].skew;
        weir_synth_t *synth = create(&options);
        for (uint64_t user = 0; user < 100; user++) {
            weir_synth_events_t made = weir_synth_user(synth, user);
            ck_assert_uint_ge(made.count, WEIR_SYNTH_FEWEST);
            for (size_t i = 0; i < made.count; i++) {
                ck_assert_int_ge(made.items[i], 1);
                ck_assert_uint_le((uint64_t)made.items[i], options.items);
                ck_assert_int_ge(made.times[i], weir_synth_release(synth, made.items[i]));
                ck_assert(i == 0 || made.times[i] >= made.times[i - 1]);
                ck_assert(made.actions[i] >= 1.0f && made.actions[i] <= 5.0f);
            }
        }
        weir_synth_destroy(synth);
    }
}
END_TEST

START_TEST(the_mean_length_is_as_asked) {
    weir_synth_options_t options = small_options();
    weir_synth_t *synth = create(&options);
    double sum = 0.0;
    for (uint64_t user = 0; user < 4000; user++) {
        sum += (double)weir_synth_user(synth, user).count;
    }
    ck_assert_double_ge(sum / 4000.0, 37.0);
    ck_assert_double_le(sum / 4000.0, 43.0);
    weir_synth_destroy(synth);
}
END_TEST

/* How often each item is followed by each: what the simplest sequence model would learn. */
static void count_pairs(weir_synth_t *synth, uint32_t (*pairs)[ITEMS + 1], uint64_t *popularity) {
    for (uint64_t user = 0; user < USERS; user++) {
        weir_synth_events_t made = weir_synth_user(synth, user);
        for (size_t i = 0; i + 1 < made.count; i++) { /* the last event is the target */
            popularity[made.items[i]]++;
            if (i > 0) {
                pairs[made.items[i - 1]][made.items[i]]++;
            }
        }
    }
}

START_TEST(the_last_item_tells_the_next_several_times_better_than_popularity) {
    weir_synth_options_t options = small_options();
    weir_synth_t *synth = create(&options);
    uint32_t(*pairs)[ITEMS + 1] = calloc(ITEMS + 1, sizeof *pairs);
    uint64_t *popularity = calloc(ITEMS + 1, sizeof *popularity);
    ck_assert(pairs != NULL && popularity != NULL);
    count_pairs(synth, pairs, popularity);
    unsigned pair_hits = 0, popular_hits = 0;
    for (uint64_t user = 0; user < USERS; user++) {
        weir_synth_events_t made = weir_synth_user(synth, user);
        int64_t last = made.items[made.count - 2], target = made.items[made.count - 1];
        unsigned better_pairs = 0, more_popular = 0;
        for (int64_t item = 1; item <= ITEMS; item++) {
            better_pairs += item != target && pairs[last][item] >= pairs[last][target];
            more_popular += item != target && popularity[item] >= popularity[target];
        }
        pair_hits += better_pairs < TOP;
        popular_hits += more_popular < TOP;
    }
    ck_assert_msg(pair_hits > 3 * popular_hits && pair_hits > USERS / 3,
                  "HR@10 by the last item %u, by popularity %u of %d", pair_hits, popular_hits,
                  USERS);
    free(popularity);
    free(pairs);
    weir_synth_destroy(synth);
}
END_TEST

START_TEST(the_time_between_events_tells_whether_the_cluster_stays) {
    weir_synth_options_t options = small_options();
    weir_synth_t *synth = create(&options);
    unsigned stays[2] = {0}, all[2] = {0};
    for (uint64_t user = 0; user < USERS; user++) {
        weir_synth_events_t made = weir_synth_user(synth, user);
        for (size_t i = 1; i < made.count; i++) {
            int after_pause = made.times[i] - made.times[i - 1] > 1800;
            all[after_pause]++;
            stays[after_pause] += weir_synth_cluster(synth, made.items[i]) ==
                                  weir_synth_cluster(synth, made.items[i - 1]);
        }
    }
    double within = (double)stays[0] / all[0], across = (double)stays[1] / all[1];
    ck_assert_msg(within > 0.85 && across < 0.6, "%g within, %g across", within, across);
    weir_synth_destroy(synth);
}
END_TEST

START_TEST(new_clusters_keep_appearing_and_items_come_back) {
    weir_synth_options_t options = small_options();
    options.events_mean = 200;
    weir_synth_t *synth = create(&options);
    unsigned fresh = 0, repeated = 0, users = 0;
    for (uint64_t user = 0; user < 200; user++) {
        weir_synth_events_t made = weir_synth_user(synth, user);
        bool clusters[CLUSTERS] = {false}, items[ITEMS + 1] = {false};
        for (size_t i = 0; i < made.count; i++) {
            uint64_t cluster = weir_synth_cluster(synth, made.items[i]);
            fresh += i >= made.count / 2 && !clusters[cluster];
            repeated += items[made.items[i]];
            clusters[cluster] = true;
            items[made.items[i]] = true;
        }
        users++;
    }
    ck_assert_uint_gt(fresh, users / 2);
    ck_assert_uint_gt(repeated, users * 10);
    weir_synth_destroy(synth);
}
END_TEST

START_TEST(options_out_of_range_are_refused) {
    weir_synth_t *synth = NULL;
    for (int k = 0; k < 9; k++) {
        weir_synth_options_t options = small_options();
        options.users = k == 0 ? 0 : options.users;
        options.items = k == 1 ? 0 : k == 2 ? (UINT64_C(1) << 41) : options.items;
        options.clusters = k == 3 ? 0 : k == 4 ? ITEMS + 1 : options.clusters;
        options.events_mean = k == 5 ? 1.0 : k == 6 ? 1e9 : options.events_mean;
        options.skew = k == 7 ? -1.0 : options.skew;
        options.days = k == 8 ? 0.0 : options.days;
        ck_assert_int_eq(weir_synth_create(&options, &synth, &error), WEIR_ERR_INVALID);
        ck_assert_ptr_null(synth);
    }
    weir_synth_destroy(NULL);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("synth");
    TCase *t = tcase_create("synth");
    tcase_add_test(t, a_user_is_a_function_of_seed_and_number_alone);
    tcase_add_test(t, events_are_well_formed_and_after_release);
    tcase_add_test(t, the_mean_length_is_as_asked);
    tcase_add_test(t, the_last_item_tells_the_next_several_times_better_than_popularity);
    tcase_add_test(t, the_time_between_events_tells_whether_the_cluster_stays);
    tcase_add_test(t, new_clusters_keep_appearing_and_items_come_back);
    tcase_add_test(t, options_out_of_range_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
