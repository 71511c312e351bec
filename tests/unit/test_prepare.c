/* The parts of `weir prepare` below its command line: ids, numbers, the log, and the writer. */
#include "common/dataset.h"
#include "common/file.h"
#include "tests/scratch.h"
#include "tests/suite.h"
#include "tools/bad_lines.h"
#include "tools/dataset_writer.h"
#include "tools/event_log.h"
#include "tools/interner.h"
#include "tools/number.h"

#include <string.h>

static weir_error_t error;

static void must(weir_err_t code) {
    ck_assert_msg(code == WEIR_OK, "%s", error.message);
}

START_TEST(strings_are_numbered_by_first_appearance) {
    weir_interner_t *interner = NULL;
    must(weir_interner_create(&interner, &error));
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 20000; i++) {
            char text[16];
            uint32_t number = 0;
            bool fresh = false;
            int size = snprintf(text, sizeof text, "%u", i * 7919u);
            must(weir_interner_add(interner, text, (size_t)size, &number, &fresh, &error));
            ck_assert_uint_eq(number, i);
            ck_assert(fresh == (round == 0));
        }
    }
    uint32_t number = 0;
    must(weir_interner_add(interner, "", 0, &number, NULL, &error));
    ck_assert_uint_eq(number, 20000);
    must(weir_interner_add(interner, "a\0b", 3, &number, NULL, &error));
    must(weir_interner_add(interner, "a\0c", 3, &number, NULL, &error));
    ck_assert_uint_eq(number, 20002);
    ck_assert_uint_eq(weir_interner_count(interner), 20003);
    const char *bytes = NULL;
    size_t size = 0;
    weir_interner_get(interner, 20001, &bytes, &size);
    ck_assert_uint_eq(size, 3);
    ck_assert_mem_eq(bytes, "a\0b", 3);
    weir_interner_get(interner, 3, &bytes, &size);
    ck_assert_mem_eq(bytes, "23757", 5);
    weir_interner_destroy(interner);
}
END_TEST

START_TEST(times_are_whole_seconds_rounded_down) {
    static const struct {
        const char *text;
        int64_t per_second;
        bool good;
        int64_t seconds;
    } cases[] = {
        {"978300760", 1, true, 978300760},
        {" 12 ", 1, true, 12},
        {"1506826828999", 1000, true, 1506826828},
        {"1500000", 1000000, true, 1},
        {"12.75", 1, true, 12},
        {"-12.75", 1, true, -13},
        {"-1", 1000, true, -1},
        {"-1000", 1000, true, -1},
        {"-1001", 1000, true, -2},
        {"12.", 1, true, 12},
        {"+5", 1, true, 5},
        {"-0", 1, true, 0},
        {"", 1, false, 0},
        {"-", 1, false, 0},
        {" ", 1, false, 0},
        {"nan", 1, false, 0},
        {"1e9", 1, false, 0},
        {"12a", 1, false, 0},
        {"0x10", 1, false, 0},
        {"1.2.3", 1, false, 0},
        {"2020-01-01", 1, false, 0},
        {"1152921504606846976", 1, true, WEIR_DATASET_TIME_LIMIT},
        {"1152921504606846977", 1, false, 0},
        {"9999999999999999999", 1, false, 0},
        {"99999999999999999999999999", 1, false, 0},
        {"-99999999999999999999999999", 1, false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t seconds = 4711;
        bool good = weir_number_parse_time(cases[i].text, strlen(cases[i].text),
                                           cases[i].per_second, &seconds);
        ck_assert_msg(good == cases[i].good, "%s", cases[i].text);
        ck_assert_msg(seconds == (good ? cases[i].seconds : 4711), "%s: %lld", cases[i].text,
                      (long long)seconds);
    }
}
END_TEST

START_TEST(ratings_are_finite_decimal_numbers) {
    static const char *const bad[] = {"", " ", "nan", "inf", "1e99", "0x1", "1,5", "1-", "five"};
    static const char *const good[] = {"4", "4.5", "-1e-3", " 3.25 ", "+10"};
    static const double values[] = {4, 4.5, -1e-3, 3.25, 10};
    float value = 7.0f;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!weir_number_parse_real(bad[i], strlen(bad[i]), &value), "%s", bad[i]);
        ck_assert(value == 7.0f);
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert(weir_number_parse_real(good[i], strlen(good[i]), &value));
        ck_assert(value == (float)values[i]);
    }
    ck_assert(!weir_number_parse_real("4\0x", 3, &value));
}
END_TEST

static void get_letter(void *list, uint64_t index, const char **bytes, size_t *size) {
    (void)list;
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    *bytes = &letters[index];
    *size = 1;
}

static void write_log(weir_event_log_t *log, uint32_t users, uint32_t items, uint64_t min_user,
                      uint64_t min_item, const char *folder, weir_renumbering_t *kept_users,
                      weir_renumbering_t *kept_items, weir_event_log_summary_t *summary) {
    weir_dataset_writer_t *writer = NULL;
    must(weir_event_log_filter(log, users, items, min_user, min_item, kept_users, kept_items,
                               &error));
    must(weir_dataset_writer_create(folder, true, &writer, &error));
    must(weir_event_log_write(log, kept_users, kept_items, writer, summary, &error));
    weir_dataset_names_t names = {.items = kept_items->kept_count,
                                  .item_ids = {get_letter, NULL},
                                  .user_ids = {get_letter, NULL},
                                  .source = "a test \xff"};
    must(weir_dataset_writer_finish(writer, &names, &error));
    weir_dataset_writer_destroy(writer);
}

START_TEST(events_are_sorted_by_time_and_ties_keep_their_order) {
    weir_scratch_t scratch;
    weir_event_log_t log = {0};
    weir_renumbering_t users = {0}, items = {0};
    weir_event_log_summary_t summary;
    weir_dataset_t *dataset = NULL;
    weir_scratch_init(&scratch);
    /* user 0: many events with few distinct times; user 1: already sorted; user 2 has none */
    for (uint32_t i = 0; i < 100; i++) {
        must(weir_event_log_add(&log, 0, i % 26, (i * 7) % 5, (float)i, &error));
    }
    must(weir_event_log_add(&log, 1, 25, 3, 1.0f, &error));
    write_log(&log, 3, 26, 0, 0, scratch.path, &users, &items, &summary);
    ck_assert_uint_eq(users.kept_count, 2);
    ck_assert_uint_eq(items.kept_count, 26);
    ck_assert_uint_eq(summary.single_users, 1);
    ck_assert_uint_eq(summary.longest, 100);
    ck_assert_int_eq(summary.last_time, 4);
    must(weir_dataset_open(scratch.path, &dataset, &error));
    weir_user_events_t events = weir_dataset_user(dataset, 0);
    ck_assert_uint_eq(events.count, 100);
    for (size_t i = 1; i < events.count; i++) {
        ck_assert_int_le(events.times[i - 1], events.times[i]);
        if (events.times[i - 1] == events.times[i]) {
            ck_assert(events.actions[i - 1] < events.actions[i]);
        }
    }
    ck_assert_str_eq(weir_dataset_source(dataset), "a test ?");
    weir_dataset_close(dataset);
    weir_renumbering_fini(&users);
    weir_renumbering_fini(&items);
    weir_event_log_fini(&log);
    weir_scratch_fini(&scratch);
}
END_TEST

START_TEST(filters_run_until_nothing_changes) {
    weir_event_log_t log = {0};
    weir_renumbering_t users = {0}, items = {0};
    /* a chain: dropping item 4 leaves user 3 short, then item 3, then user 2, ... down to users 0
     * and 1 on items 0 and 1 */
    static const uint32_t pairs[][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 1},
                                        {2, 2}, {3, 2}, {3, 3}, {4, 3}, {4, 4}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        must(weir_event_log_add(&log, pairs[i][0], pairs[i][1], 0, 1.0f, &error));
    }
    must(weir_event_log_filter(&log, 5, 5, 2, 2, &users, &items, &error));
    ck_assert_uint_eq(log.count, 4);
    ck_assert_uint_eq(users.kept_count, 2);
    ck_assert_uint_eq(items.kept_count, 2);
    ck_assert_uint_eq(users.number[4], UINT32_MAX);
    weir_renumbering_fini(&users);
    weir_renumbering_fini(&items);
    must(weir_event_log_filter(&log, 5, 5, 3, 0, &users, &items, &error));
    ck_assert_uint_eq(log.count, 0);
    ck_assert_uint_eq(users.kept_count, 0);
    ck_assert_uint_eq(items.kept_count, 5); /* no limit for items: the catalogue stays */
    weir_renumbering_fini(&users);
    weir_renumbering_fini(&items);
    weir_event_log_fini(&log);
}
END_TEST

START_TEST(numbers_follow_the_old_order) {
    weir_event_log_t log = {0};
    weir_renumbering_t users = {0}, items = {0};
    static const uint32_t pairs[][2] = {{3, 2}, {1, 2}, {3, 0}, {1, 0}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        must(weir_event_log_add(&log, pairs[i][0], pairs[i][1], 0, 1.0f, &error));
    }
    must(weir_event_log_filter(&log, 4, 3, 1, 1, &users, &items, &error));
    ck_assert_uint_eq(users.kept_count, 2);
    ck_assert_uint_eq(users.kept[0], 1);
    ck_assert_uint_eq(users.number[3], 1);
    ck_assert_uint_eq(items.number[2], 1);
    ck_assert_uint_eq(items.number[1], UINT32_MAX);
    weir_renumbering_fini(&users);
    weir_renumbering_fini(&items);
    weir_event_log_fini(&log);
}
END_TEST

START_TEST(a_folder_with_something_in_it_is_refused_unless_forced) {
    weir_scratch_t scratch;
    weir_dataset_writer_t *writer = NULL;
    weir_scratch_init(&scratch);
    must(weir_dataset_writer_check(scratch.path, false, &error)); /* empty */
    must(weir_file_replace(weir_scratch_path(&scratch, "x"), "x", 1, &error));
    ck_assert_int_eq(weir_dataset_writer_create(scratch.path, false, &writer, &error),
                     WEIR_ERR_EXISTS);
    ck_assert_ptr_null(writer);
    ck_assert_str_ne(error.hint, "");
    must(weir_dataset_writer_check(scratch.path, true, &error));
    weir_scratch_fini(&scratch);
}
END_TEST

START_TEST(an_abandoned_writer_leaves_nothing) {
    weir_scratch_t scratch;
    weir_dataset_writer_t *writer = NULL;
    weir_scratch_init(&scratch);
    const char *folder = weir_scratch_path(&scratch, "made");
    must(weir_dataset_writer_create(folder, false, &writer, &error));
    int64_t one = 1;
    float action = 1.0f;
    must(weir_dataset_writer_add_user(writer, &one, &one, &action, 1, &error));
    weir_dataset_writer_destroy(writer);
    ck_assert(!weir_file_exists(weir_scratch_path(&scratch, "made")));

    weir_dataset_names_t names = {
        .items = 1, .item_ids = {get_letter, NULL}, .user_ids = {get_letter, NULL}, .source = ""};
    must(weir_dataset_writer_create(weir_scratch_path(&scratch, "made"), false, &writer, &error));
    ck_assert_int_eq(weir_dataset_writer_finish(writer, &names, &error), WEIR_ERR_INVALID);
    weir_dataset_writer_destroy(writer);
    ck_assert(!weir_file_exists(weir_scratch_path(&scratch, "made")));
    weir_scratch_fini(&scratch);
}
END_TEST

START_TEST(bad_lines_are_counted_by_reason_or_stop_at_once) {
    weir_bad_lines_t bad = {0};
    for (int i = 0; i < 5; i++) {
        must(weir_bad_lines_add(&bad, "f", 7, i < 3 ? "one" : "two", "\x1b[2J\"", 5, &error));
    }
    ck_assert_uint_eq(bad.total, 5);
    ck_assert_uint_eq(bad.reason_count, 2);
    ck_assert_uint_eq(bad.reasons[0].count, 3);
    bad.strict = true;
    ck_assert_int_eq(weir_bad_lines_add(&bad, "f", 8, "one", "\x1b[2J\"", 5, &error),
                     WEIR_ERR_INVALID);
    ck_assert_str_eq(error.message, "f:8: one: \"\\x1b[2J\\x22\"");
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("prepare");
    TCase *t = tcase_create("prepare");
    tcase_add_test(t, strings_are_numbered_by_first_appearance);
    tcase_add_test(t, times_are_whole_seconds_rounded_down);
    tcase_add_test(t, ratings_are_finite_decimal_numbers);
    tcase_add_test(t, events_are_sorted_by_time_and_ties_keep_their_order);
    tcase_add_test(t, filters_run_until_nothing_changes);
    tcase_add_test(t, numbers_follow_the_old_order);
    tcase_add_test(t, a_folder_with_something_in_it_is_refused_unless_forced);
    tcase_add_test(t, an_abandoned_writer_leaves_nothing);
    tcase_add_test(t, bad_lines_are_counted_by_reason_or_stop_at_once);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
