/* Baselines of ranking against plain loops, and against what was planted. */
#include "common/dataset.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tools/baseline_tasks.h"
#include "tools/dataset_writer.h"
#include "tools/synth_actions.h"

#include <math.h>
#include <string.h>

enum { USERS = 400, ITEMS = 300, CLUSTERS = 12, LONGEST = 2000 };

static weir_error_t error;

static void must(weir_err_t code) {
    ck_assert_msg(code == WEIR_OK, "%s", error.message);
}

static void get_letter(void *list, uint64_t index, const char **bytes, size_t *size) {
    (void)list;
    *bytes = &"abcdefghijklmnopqrstuvwxyz"[index % 26];
    *size = 1;
}

/* What was planted, over all events. */
typedef struct {
    weir_scratch_t scratch;
    weir_dataset_t *dataset;
    double events, clicks, likes, expected[2];
    double loss; /* of the planted chance of a click */
} planted_t;

static void make_planted(planted_t *planted, uint64_t seed) {
    weir_synth_options_t options = {.users = USERS,
                                    .items = ITEMS,
                                    .clusters = CLUSTERS,
                                    .events_mean = 40,
                                    .skew = 1.0,
                                    .days = 100,
                                    .seed = seed};
    weir_synth_t *synth = NULL;
    weir_dataset_writer_t *writer = NULL;
    static weir_dataset_columns_t columns;
    static uint32_t words[LONGEST * WEIR_SYNTH_WORDS], clusters[ITEMS];
    memset(planted, 0, sizeof *planted);
    weir_scratch_init(&planted->scratch);
    must(weir_synth_create(&options, &synth, &error));
    must(weir_dataset_writer_create(planted->scratch.path, true, &writer, &error));
    for (int64_t item = 1; item <= ITEMS; item++) {
        clusters[item - 1] = (uint32_t)weir_synth_cluster(synth, item) + 1;
    }
    weir_synth_action_columns(CLUSTERS, clusters, &columns);
    must(weir_dataset_writer_extend(writer, &columns, &error));
    for (uint64_t user = 0; user < USERS; user++) {
        weir_synth_events_t events = weir_synth_user(synth, user);
        ck_assert_uint_le(events.count, LONGEST);
        for (size_t i = 0; i < events.count; i++) {
            weir_synth_action_t action =
                weir_synth_action_of(synth, seed, user, i, events.items[i], events.times[i]);
            double chance = 1.0 / (1.0 + exp(-action.logits[0]));
            weir_synth_action_words(&action, words + i * WEIR_SYNTH_WORDS);
            ck_assert(action.actions[0] || !action.actions[1]);
            planted->events += 1.0;
            planted->clicks += action.actions[0] ? 1.0 : 0.0;
            planted->likes += action.actions[1] ? 1.0 : 0.0;
            planted->expected[0] += chance;
            planted->expected[1] += 1.0 / (1.0 + exp(-action.logits[1]));
            planted->loss -= log(action.actions[0] ? chance : 1.0 - chance);
        }
        must(weir_dataset_writer_add_user(writer, events.items, events.times, events.actions,
                                          events.count, &error));
        must(weir_dataset_writer_add_words(writer, words, events.count, &error));
    }
    weir_dataset_names_t names = {.items = ITEMS,
                                  .item_ids = {get_letter, NULL},
                                  .user_ids = {get_letter, NULL},
                                  .source = "test"};
    must(weir_dataset_writer_finish(writer, &names, &error));
    weir_dataset_writer_destroy(writer);
    weir_synth_destroy(synth);
    must(weir_dataset_open(planted->scratch.path, &planted->dataset, &error));
}

static void end_planted(planted_t *planted) {
    weir_dataset_close(planted->dataset);
    weir_scratch_fini(&planted->scratch);
}

static weir_task_result_t run(weir_baseline_tasks_model_t *model, const planted_t *planted,
                              const weir_baseline_tasks_options_t *options, size_t task,
                              weir_baseline_tasks_counts_t *counts) {
    weir_task_metrics_t *metrics = NULL;
    weir_task_result_t result;
    must(model(planted->dataset, options, counts, &metrics, &error));
    must(weir_task_metrics_result(metrics, task, &result, &error));
    weir_task_metrics_destroy(metrics);
    return result;
}

START_TEST(planted_chances_are_those_of_the_actions) {
    planted_t planted;
    make_planted(&planted, 3);
    double deviation = sqrt(planted.events) * 0.5; /* of a sum of so many coins, at most */
    ck_assert_double_gt(planted.events, 8000.0);
    ck_assert_double_le(fabs(planted.clicks - planted.expected[0]), 4.0 * deviation);
    ck_assert_double_le(fabs(planted.likes - planted.expected[1]), 4.0 * deviation);
    double rate = planted.clicks / planted.events;
    double entropy = -rate * log(rate) - (1.0 - rate) * log(1.0 - rate);
    ck_assert_double_lt(planted.loss / planted.events, 0.85 * entropy); /* there is what to learn */
    end_planted(&planted);
}
END_TEST

/* Every test's rate by a loop over all training events. */
START_TEST(rates_are_those_of_plain_loops) {
    planted_t planted;
    make_planted(&planted, 4);
    weir_baseline_tasks_options_t options;
    weir_baseline_tasks_counts_t counts;
    const weir_dataset_t *data = planted.dataset;
    const weir_dataset_columns_t *columns = weir_dataset_columns(data);
    must(weir_baseline_tasks_defaults(data, &options, &error));
    options.prior = 7.0;
    options.test_until = options.test_from + 86400 * 5;
    weir_task_result_t got = run(weir_baseline_tasks_rates, &planted, &options, 1, &counts);
    double trained[ITEMS + 1][2] = {{0.0}}, all[2] = {0.0}, loss = 0.0, tests = 0.0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint64_t user = 0; user < USERS; user++) {
            weir_user_events_t events = weir_dataset_user(data, user);
            for (size_t i = 0; i < events.count; i++) {
                bool like = columns->action_bits[weir_dataset_first_event(data, user) + i] >> 1 & 1;
                bool test = events.times[i] >= options.test_from;
                if (pass == 0 && !test) {
                    trained[events.items[i]][like] += 1.0;
                    all[like] += 1.0;
                } else if (pass == 1 && test && events.times[i] < options.test_until) {
                    const double *mine = trained[events.items[i]];
                    double mean = (all[1] + 0.5) / (all[0] + all[1] + 1.0);
                    double rate = (mine[1] + 7.0 * mean) / (mine[0] + mine[1] + 7.0);
                    loss -= log(like ? rate : 1.0 - rate);
                    tests += 1.0;
                }
            }
        }
    }
    ck_assert_double_gt(tests, 100.0);
    ck_assert_double_eq_tol((double)counts.test, tests, 0.5);
    ck_assert_double_eq_tol((double)counts.train, all[0] + all[1], 0.5);
    ck_assert_double_eq_tol(got.log_loss, loss / tests, 1e-6);
    end_planted(&planted);
}
END_TEST

START_TEST(logistic_learns_more_than_rates_and_no_more_than_was_planted) {
    planted_t planted;
    make_planted(&planted, 5);
    weir_baseline_tasks_options_t options;
    weir_baseline_tasks_counts_t counts;
    must(weir_baseline_tasks_defaults(planted.dataset, &options, &error));
    options.bits = 16;
    options.rate = 0.1;
    weir_task_result_t rates = run(weir_baseline_tasks_rates, &planted, &options, 0, &counts);
    weir_task_result_t logistic = run(weir_baseline_tasks_logistic, &planted, &options, 0, &counts);
    ck_assert_double_lt(rates.ne, 1.0);
    ck_assert_double_lt(logistic.ne, rates.ne - 0.01);
    ck_assert_double_gt(logistic.auc, rates.auc);
    ck_assert_double_gt(logistic.log_loss, planted.loss / planted.events * 0.95);
    weir_task_result_t again = run(weir_baseline_tasks_logistic, &planted, &options, 0, &counts);
    ck_assert_int_eq(memcmp(&logistic.ne, &again.ne, sizeof again.ne), 0);
    options.epochs = 0; /* the rate of all events, for everyone */
    weir_task_result_t untrained =
        run(weir_baseline_tasks_logistic, &planted, &options, 0, &counts);
    ck_assert_double_eq_tol(untrained.auc, 0.5, 1e-12);
    ck_assert_double_ge(untrained.ne, 1.0);
    ck_assert_double_lt(untrained.ne, 1.05);
    end_planted(&planted);
}
END_TEST

START_TEST(splits_and_options_that_make_no_sense_are_refused) {
    planted_t planted;
    make_planted(&planted, 6);
    weir_baseline_tasks_options_t good, options;
    weir_baseline_tasks_counts_t counts;
    weir_task_metrics_t *metrics = NULL;
    must(weir_baseline_tasks_defaults(planted.dataset, &good, &error));
    options = good;
    options.test_from = 0;
    ck_assert_int_eq(
        weir_baseline_tasks_rates(planted.dataset, &options, &counts, &metrics, &error),
        WEIR_ERR_INVALID);
    options.test_from = INT64_MAX;
    ck_assert_int_eq(
        weir_baseline_tasks_logistic(planted.dataset, &options, &counts, &metrics, &error),
        WEIR_ERR_INVALID);
    options = good;
    options.prior = 0.0;
    ck_assert_int_eq(
        weir_baseline_tasks_rates(planted.dataset, &options, &counts, &metrics, &error),
        WEIR_ERR_INVALID);
    options = good;
    options.rate = (double)NAN;
    ck_assert_int_eq(
        weir_baseline_tasks_logistic(planted.dataset, &options, &counts, &metrics, &error),
        WEIR_ERR_INVALID);
    ck_assert_ptr_null(metrics);
    end_planted(&planted);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("baseline_tasks");
    TCase *t = tcase_create("baseline_tasks");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, planted_chances_are_those_of_the_actions);
    tcase_add_test(t, rates_are_those_of_plain_loops);
    tcase_add_test(t, logistic_learns_more_than_rates_and_no_more_than_was_planted);
    tcase_add_test(t, splits_and_options_that_make_no_sense_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
