#include "tests/scratch.h"
#include "tests/suite.h"
#include "tools/baseline_popularity.h"
#include "tools/dataset_writer.h"

#include <string.h>

enum { ITEMS = 5, MANY_USERS = 60, MANY_ITEMS = 25, MOST_EVENTS = 30 };

static weir_error_t error;
static weir_scratch_t scratch;

static void must(weir_err_t code) {
    ck_assert_msg(code == WEIR_OK, "%s", error.message);
}

static void set_up(void) {
    weir_scratch_init(&scratch);
}

static void tear_down(void) {
    weir_scratch_fini(&scratch);
}

static void name_entry(void *list, uint64_t index, const char **bytes, size_t *size) {
    char *name = list;
    (void)snprintf(name, 32, "%llu", (unsigned long long)index);
    *bytes = name;
    *size = strlen(name);
}

/* Users' items one after the other, 0 after each; event i of a user is at time i. */
static weir_dataset_t *write_users(const int64_t *items, size_t count, uint64_t catalogue) {
    char name[32];
    weir_dataset_writer_t *writer = NULL;
    weir_dataset_t *dataset = NULL;
    int64_t times[MOST_EVENTS];
    float actions[MOST_EVENTS];
    for (size_t i = 0; i < MOST_EVENTS; i++) {
        actions[i] = 1.0f;
        times[i] = (int64_t)i;
    }
    must(weir_dataset_writer_create(weir_scratch_path(&scratch, "data"), true, &writer, &error));
    for (size_t begin = 0, i = 0; i < count; i++) {
        if (items[i] == 0) {
            must(weir_dataset_writer_add_user(writer, items + begin, times, actions, i - begin,
                                              &error));
            begin = i + 1;
        }
    }
    weir_strings_t ids = {name_entry, name};
    weir_dataset_names_t names = {
        .items = catalogue, .item_ids = ids, .user_ids = ids, .source = "a test"};
    must(weir_dataset_writer_finish(writer, &names, &error));
    weir_dataset_writer_destroy(writer);
    must(weir_dataset_open(weir_scratch_path(&scratch, "data"), &dataset, &error));
    return dataset;
}

static const int64_t users[] = {1, 2, 1, 3, 0, /**/ 1, 2, 4, 0, /**/ 3, 1, 0, /**/ 5, 0};

/* Events to train on: three of item 1, two of item 2, one of item 3. Ranks 1, 3, 1. */
START_TEST(items_of_the_history_are_left_out_and_ties_count_against_the_target) {
    weir_metrics_t test, validation;
    weir_dataset_t *dataset = write_users(users, sizeof users / sizeof users[0], ITEMS);
    weir_popularity_options_t options = {.max_sequence_length = 10};
    must(weir_popularity_evaluate(dataset, &options, &test, &validation, &error));
    ck_assert_uint_eq(test.users, 3);
    ck_assert_double_eq_tol(test.mrr, 1.0 + 1.0 / 3.0 + 1.0, 1e-12);
    ck_assert_double_eq(test.hr[0], 2.0);
    ck_assert_double_eq(test.hr[1], 3.0);
    ck_assert_uint_eq(validation.users, 0);
    weir_dataset_close(dataset);
}
END_TEST

START_TEST(a_history_is_cut_to_its_newest_events) {
    weir_metrics_t test, validation;
    weir_dataset_t *dataset = write_users(users, sizeof users / sizeof users[0], ITEMS);
    weir_popularity_options_t options = {.max_sequence_length = 1};
    must(weir_popularity_evaluate(dataset, &options, &test, &validation, &error));
    ck_assert_double_eq_tol(test.mrr, 1.0 / 2.0 + 1.0 / 4.0 + 1.0, 1e-12);
    options.max_sequence_length = 0;
    ck_assert_int_eq(weir_popularity_evaluate(dataset, &options, &test, &validation, &error),
                     WEIR_ERR_INVALID);
    weir_dataset_close(dataset);
}
END_TEST

START_TEST(validation_holds_out_two_events_of_each_user) {
    weir_metrics_t test, validation;
    weir_dataset_t *dataset = write_users(users, sizeof users / sizeof users[0], ITEMS);
    weir_popularity_options_t options = {.max_sequence_length = 10, .validation = true};
    must(weir_popularity_evaluate(dataset, &options, &test, &validation, &error));
    ck_assert_uint_eq(test.users, 3);
    ck_assert_double_eq_tol(test.mrr, 1.0 / 3.0 + 1.0 / 3.0 + 1.0, 1e-12);
    ck_assert_uint_eq(validation.users, 2);
    ck_assert_double_eq_tol(validation.mrr, 2.0, 1e-12);
    weir_dataset_close(dataset);
}
END_TEST

/* The definition, word by word. `from`: the event that is the test of those who have it; 0: the
 * last one. */
static uint64_t naive_rank(const weir_dataset_t *dataset, uint64_t user, size_t max_length,
                           size_t from) {
    uint64_t counts[MANY_ITEMS + 1] = {0}, rank = 1;
    for (uint64_t other = 0; other < weir_dataset_users(dataset); other++) {
        weir_user_events_t events = weir_dataset_user(dataset, other);
        for (size_t i = 0; from > 0 ? i < events.count && i < from : i + 1 < events.count; i++) {
            counts[events.items[i]]++;
        }
    }
    weir_user_events_t events = weir_dataset_user(dataset, user);
    size_t target = from > 0 ? from : events.count - 1;
    for (int64_t item = 1; item <= MANY_ITEMS; item++) {
        bool known = false;
        for (size_t i = target > max_length ? target - max_length : 0; i < target; i++) {
            known = known || events.items[i] == item;
        }
        if (item != events.items[target] && !known &&
            counts[item] >= counts[events.items[target]]) {
            rank++;
        }
    }
    return rank;
}

START_TEST(random_data_agree_with_the_definition) {
    int64_t items[MANY_USERS * (MOST_EVENTS + 1)];
    size_t count = 0;
    uint32_t state = 12345;
    for (int user = 0; user < MANY_USERS; user++) {
        state = state * 1664525u + 1013904223u;
        uint32_t events = 1 + (state >> 16) % (MOST_EVENTS - 1);
        for (uint32_t i = 0; i < events; i++) {
            state = state * 1664525u + 1013904223u;
            uint32_t a = (state >> 16) % MANY_ITEMS, b = (state >> 8) % MANY_ITEMS;
            items[count++] = 1 + (a < b ? a : b);
        }
        items[count++] = 0;
    }
    weir_dataset_t *dataset = write_users(items, count, MANY_ITEMS);
    for (size_t max_length = 1, from = 0; max_length < MOST_EVENTS; max_length += 7, from += 5) {
        weir_metrics_t test, validation, expected = {0};
        weir_popularity_options_t options = {.max_sequence_length = max_length,
                                             .test_from = (int64_t)from};
        must(weir_popularity_evaluate(dataset, &options, &test, &validation, &error));
        for (uint64_t user = 0; user < MANY_USERS; user++) {
            if (weir_dataset_user(dataset, user).count > (from > 0 ? from : 1)) {
                weir_metrics_add(&expected, naive_rank(dataset, user, max_length, from));
            }
        }
        ck_assert_uint_gt(expected.users, 10);
        ck_assert_uint_eq(test.users, expected.users);
        ck_assert_double_eq(test.mrr, expected.mrr);
        ck_assert_double_eq(test.ndcg[1], expected.ndcg[1]);
    }
    weir_dataset_close(dataset);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("baseline_popularity");
    TCase *t = tcase_create("baseline_popularity");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, items_of_the_history_are_left_out_and_ties_count_against_the_target);
    tcase_add_test(t, a_history_is_cut_to_its_newest_events);
    tcase_add_test(t, validation_holds_out_two_events_of_each_user);
    tcase_add_test(t, random_data_agree_with_the_definition);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
