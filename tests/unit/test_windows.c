/* Streams: windows against a plain recount, and batches of them. */
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tests/unit/data_cases.h"
#include "worker/batch.h"
#include "worker/ranking_batch.h"

#include <stdio.h>
#include <string.h>

enum { USERS = DATA_USERS, ITEMS = 400, BATCH = 4, MOST = DATA_USERS * DATA_MAX_EVENTS };

static weir_scratch_t scratch;
static weir_dataset_t *dataset;

/* Items appear in the order of time, nearly: later users know higher ones. */
static int64_t item_of_event(size_t user, size_t k) {
    return (int64_t)(7 * user + k) % ITEMS + 1;
}

static void open_data(void) {
    weir_error_t error = {0};
    weir_scratch_init(&scratch);
    data_write(scratch.path, ITEMS, item_of_event);
    ck_assert_int_eq(weir_dataset_open(scratch.path, &dataset, &error), WEIR_OK);
}

static void close_data(void) {
    weir_dataset_close(dataset);
    weir_scratch_fini(&scratch);
}

static int64_t window_of_event(size_t user, size_t k, int64_t seconds) {
    return (data_time_of_event(user, k) - data_time_of_event(0, 0)) / seconds;
}

/* The entries of window number `window` of the span, users in the order of their first event there:
 * users begin one after the other, so that this is their own order unless a window cuts them. */
static size_t recount(int64_t seconds, int64_t window, weir_windows_entry_t entries[USERS]) {
    size_t count = 0;
    for (size_t user = 0; user < USERS; user++) {
        uint32_t first = UINT32_MAX, end = 0;
        for (size_t k = 0; k < data_events_of_user(user); k++) {
            if (window_of_event(user, k, seconds) == window) {
                first = first == UINT32_MAX ? (uint32_t)k : first;
                end = (uint32_t)k + 1;
            }
        }
        if (end >= 2) {
            entries[count++] = (weir_windows_entry_t){user, first, end};
        }
    }
    return count;
}

static int64_t start_of(const weir_windows_entry_t *entry) {
    return data_time_of_event(entry->user, entry->first);
}

START_TEST(windows_are_those_of_a_recount) {
    static const int64_t lengths[] = {35, 60, 100, 250, 1000, 2600};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        weir_error_t error = {0};
        weir_windows_t *windows = NULL;
        size_t found = 0;
        uint64_t catalogue = 0, steps = 0;
        ck_assert_msg(weir_windows_create(dataset, lengths[i], NULL, BATCH, &windows, &error) ==
                          WEIR_OK,
                      "%s", error.message);
        for (int64_t w = 0; w <= window_of_event(USERS - 1, 20, lengths[i]); w++) {
            weir_windows_entry_t expected[USERS];
            size_t wanted = recount(lengths[i], w, expected), count = 0;
            for (size_t user = 0; user < USERS; user++) {
                for (size_t k = 0; k < data_events_of_user(user); k++) {
                    uint64_t item = (uint64_t)item_of_event(user, k);
                    bool seen = window_of_event(user, k, lengths[i]) <= w;
                    catalogue = seen && item > catalogue ? item : catalogue;
                }
            }
            if (wanted == 0) {
                continue;
            }
            const weir_windows_entry_t *entries = weir_windows_entries(windows, found, &count);
            ck_assert_uint_eq(count, wanted);
            for (size_t e = 0; e < count; e++) { /* the same set, in the order of time */
                size_t at = 0;
                while (at < wanted && expected[at].user != entries[e].user) {
                    at++;
                }
                ck_assert_uint_lt(at, wanted);
                ck_assert_uint_eq(entries[e].first, expected[at].first);
                ck_assert_uint_eq(entries[e].end, expected[at].end);
                ck_assert(e == 0 || start_of(&entries[e - 1]) <= start_of(&entries[e]));
            }
            ck_assert_uint_eq(weir_windows_catalogue(windows, found), catalogue);
            if (found + 1 < weir_windows_count(windows)) {
                for (uint64_t step = steps + 1; step <= steps + (count + BATCH - 1) / BATCH;
                     step++) {
                    ck_assert_uint_eq(weir_windows_of_step(windows, step), found);
                }
                steps += (count + BATCH - 1) / BATCH;
                ck_assert_uint_eq(weir_windows_last_step(windows, found), steps);
            }
            found++;
        }
        ck_assert_uint_eq(weir_windows_count(windows), found);
        ck_assert_uint_eq(weir_windows_steps(windows), steps);
        weir_windows_destroy(windows);
    }
}
END_TEST

START_TEST(one_window_is_no_stream) {
    weir_error_t error = {0};
    weir_windows_t *windows = NULL;
    ck_assert_int_eq(weir_windows_create(dataset, 1000000, NULL, BATCH, &windows, &error),
                     WEIR_ERR_INVALID);
    ck_assert_ptr_null(windows);
}
END_TEST

static weir_config_t config_of(size_t max_length, int64_t window) {
    weir_config_t config;
    weir_config_defaults(&config);
    config.train.batch_users = BATCH;
    config.train.order = WEIR_ORDER_STREAM;
    config.train.stream_window = window;
    config.model.max_sequence_length = (int64_t)max_length;
    config.loss.negatives = 5;
    return config;
}

/* Every event before the last window that has one before it is predicted once, and no other; what
 * is drawn has been seen by then. */
START_TEST(events_are_predicted_once_in_order) {
    enum { WINDOW = 250 };
    static uint8_t predicted[USERS][DATA_MAX_EVENTS];
    weir_config_t config = config_of(DATA_MAX_EVENTS, WINDOW);
    memset(predicted, 0, sizeof predicted);
    for (uint32_t worker = 0; worker < 2; worker++) {
        weir_error_t error = {0};
        weir_batch_reader_options_t options = {
            .dataset = dataset, .worker = worker, .workers = 2, .alive = 1};
        weir_batch_reader_t *reader = NULL;
        ck_assert_int_eq(weir_batch_reader_create(&config, &options, &reader, &error), WEIR_OK);
        const weir_windows_t *windows = weir_batch_windows(reader);
        ck_assert_uint_eq(weir_batch_steps_per_epoch(reader), weir_windows_steps(windows));
        for (uint64_t step = 1; step <= weir_windows_steps(windows); step++) {
            const weir_train_batch_t *batch = NULL;
            uint64_t count = 0,
                     seen = weir_windows_catalogue(windows, weir_windows_of_step(windows, step));
            ck_assert_int_eq(weir_batch_read(reader, step, &batch, &error), WEIR_OK);
            for (size_t u = 0; u < batch->sequence.users; u++) {
                uint64_t user = batch->users[u];
                for (size_t t = batch->sequence.offsets[u]; t < batch->sequence.offsets[u + 1];
                     t++) {
                    size_t k =
                        (size_t)(batch->sequence.next_times[t] - data_time_of_event(user, 0)) / 10;
                    ck_assert_uint_eq(batch->keys[batch->target_rows[t]],
                                      (uint64_t)item_of_event(user, k));
                    if (batch->predicted[t] != 0) {
                        predicted[user][k]++;
                        count++;
                    }
                }
            }
            for (size_t r = 0; r < batch->sequence.tokens * 5; r++) {
                ck_assert_uint_le(batch->keys[batch->negative_rows[r]], seen);
            }
            ck_assert_uint_eq(batch->predictions, count);
            ck_assert_uint_ge(batch->global_predictions, count);
        }
        weir_batch_reader_destroy(reader);
    }
    size_t last = 0; /* the last window with entries */
    weir_windows_entry_t ignored[USERS];
    for (int64_t w = 0; w <= window_of_event(USERS - 1, 20, WINDOW); w++) {
        last = recount(WINDOW, w, ignored) > 0 ? (size_t)w : last;
    }
    for (size_t user = 0; user < USERS; user++) {
        for (size_t k = 0; k < data_events_of_user(user); k++) {
            bool wanted = k > 0 && window_of_event(user, k, WINDOW) < (int64_t)last;
            ck_assert_msg(predicted[user][k] == (wanted ? 1 : 0), "user %zu, event %zu: %d", user,
                          k, predicted[user][k]);
        }
    }
}
END_TEST

START_TEST(long_histories_keep_their_last_events) {
    weir_config_t config = config_of(3, 1000);
    weir_error_t error = {0};
    weir_batch_reader_options_t options = {.dataset = dataset, .workers = 1, .alive = 1};
    weir_batch_reader_t *reader = NULL;
    ck_assert_int_eq(weir_batch_reader_create(&config, &options, &reader, &error), WEIR_OK);
    const weir_train_batch_t *batch = NULL;
    ck_assert_int_eq(weir_batch_read(reader, 2, &batch, &error), WEIR_OK);
    for (size_t u = 0; u < batch->sequence.users; u++) {
        size_t length = batch->sequence.offsets[u + 1] - batch->sequence.offsets[u];
        size_t events = data_events_of_user(batch->users[u]);
        ck_assert_uint_eq(length, events - 1 < 3 ? events - 1 : 3);
    }
    weir_batch_reader_destroy(reader);
}
END_TEST

/* Sessions of a window: every event is in one, none is longer than allowed, and each ends where it
 * must and nowhere else. */
START_TEST(entries_are_sessions_where_a_rule_is_given) {
    static const weir_session_rule_t rules[] = {{10, 100, 500}, {10, 3, 0}, {5, 100, 0}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        enum { WINDOW = 130 };
        uint8_t seen[USERS][DATA_MAX_EVENTS] = {{0}};
        weir_error_t error = {0};
        weir_windows_t *windows = NULL;
        size_t events = 0, all = 0;
        ck_assert_int_eq(weir_windows_create(dataset, WINDOW, &rules[i], BATCH, &windows, &error),
                         WEIR_OK);
        for (size_t w = 0; w < weir_windows_count(windows); w++) {
            size_t count = 0;
            const weir_windows_entry_t *entries = weir_windows_entries(windows, w, &count);
            for (size_t e = 0; e < count; e++) {
                uint64_t user = entries[e].user;
                size_t first = entries[e].first, end = entries[e].end;
                int64_t window = window_of_event(user, first, WINDOW);
                ck_assert_uint_le(end - first, rules[i].most);
                for (size_t k = first; k < end; k++) {
                    seen[user][k]++;
                    events++;
                    ck_assert_int_eq(window_of_event(user, k, WINDOW), window);
                    ck_assert(k == first || rules[i].gap >= 10);
                }
                ck_assert(end == data_events_of_user(user) || end - first == rules[i].most ||
                          rules[i].gap < 10 || window_of_event(user, end, WINDOW) != window);
            }
        }
        for (size_t user = 0; user < USERS; user++) {
            for (size_t k = 0; k < data_events_of_user(user); k++, all++) {
                ck_assert_uint_eq(seen[user][k], 1);
            }
        }
        ck_assert_uint_eq(events, all);
        weir_windows_destroy(windows);
    }
}
END_TEST

/* A ranking model on a stream: each session of all windows but the last once, and its history ends
 * so many seconds before it. */
START_TEST(histories_end_a_gap_before_their_session) {
    enum { LONGEST = 4 };
    weir_config_t config = config_of(LONGEST, 250);
    config.model.kind = WEIR_MODEL_RANKING;
    config.ranking.session_gap = 10;
    config.ranking.max_targets = 3;
    config.ranking.history_gap = 25; /* events are 10 s apart: two are not known */
    config.ranking.tokens = WEIR_TOKENS_SUMMED;
    uint64_t predictions = 0, all = 0;
    for (uint32_t worker = 0; worker < 2; worker++) {
        weir_error_t error = {0};
        const weir_batch_reader_options_t options = {
            .dataset = dataset, .worker = worker, .workers = 2, .alive = 1};
        weir_ranking_reader_t *reader = NULL;
        ck_assert_msg(weir_ranking_reader_create(&config, &options, &reader, &error) == WEIR_OK,
                      "%s", error.message);
        const weir_windows_t *windows = weir_ranking_windows(reader);
        ck_assert_uint_eq(weir_ranking_steps_per_epoch(reader), weir_windows_steps(windows));
        for (uint64_t step = 1; step <= weir_windows_steps(windows); step++) {
            const weir_ranking_train_batch_t *batch = NULL;
            size_t count = 0, matched = 0;
            const weir_windows_entry_t *entries = weir_windows_step_entries(windows, step, &count);
            ck_assert_int_eq(weir_ranking_read(reader, step, &batch, &error), WEIR_OK);
            for (size_t u = 0; u < batch->ranking.sequence.users; u++) {
                size_t length =
                    batch->ranking.sequence.offsets[u + 1] - batch->ranking.sequence.offsets[u];
                size_t targets = batch->ranking.sequence.targets[u];
                for (size_t e = 0; e < count; e++) { /* a user has one session of a length here */
                    size_t known = entries[e].first > 2 ? entries[e].first - 2 : 0;
                    known = known < LONGEST ? known : LONGEST;
                    matched += entries[e].user == batch->train.users[u] &&
                                       entries[e].end - entries[e].first == targets &&
                                       known + targets == length
                                   ? 1
                                   : 0;
                }
                predictions += targets;
            }
            ck_assert_uint_ge(matched, batch->ranking.sequence.users);
            all += worker == 0 ? batch->global_predictions : 0;
        }
        weir_ranking_reader_destroy(reader);
    }
    ck_assert_uint_gt(predictions, USERS);
    ck_assert_uint_eq(predictions, all);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("windows");
    TCase *t = tcase_create("windows");
    tcase_add_checked_fixture(t, open_data, close_data);
    tcase_add_test(t, windows_are_those_of_a_recount);
    tcase_add_test(t, one_window_is_no_stream);
    tcase_add_test(t, events_are_predicted_once_in_order);
    tcase_add_test(t, long_histories_keep_their_last_events);
    tcase_add_test(t, entries_are_sessions_where_a_rule_is_given);
    tcase_add_test(t, histories_end_a_gap_before_their_session);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
