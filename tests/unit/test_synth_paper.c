/* The paper's stream: what its definition says of a record, and what a Dirichlet process says of
 * many (the expected number of fresh draws, computed in plain sums). */
#include "tests/suite.h"
#include "tools/synth_paper.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { ITEMS = 2000, CATEGORIES = 50, LENGTH = 128, RECORDS = 2000 };

static const weir_synth_paper_options_t options = {
    .records = RECORDS, .items = ITEMS, .categories = CATEGORIES, .length = LENGTH, .seed = 9};

static size_t category_of(int64_t item) {
    return (size_t)(item - 1) % CATEGORIES;
}

START_TEST(records_keep_to_what_is_released_and_to_five_categories) {
    size_t histogram[WEIR_SYNTH_PAPER_MOST_CATEGORIES + 1] = {0};
    bool seen[ITEMS + 1] = {false};
    for (uint64_t r = 0; r < RECORDS; r++) {
        int64_t items[LENGTH];
        bool used[CATEGORIES] = {false};
        size_t count = 0;
        uint64_t released = (uint64_t)((0.4 + 0.6 * (double)r / RECORDS) * ITEMS);
        ck_assert_uint_eq(weir_synth_paper_released(&options, r), released);
        weir_synth_paper_record(&options, r, items);
        for (size_t n = 0; n < LENGTH; n++) {
            ck_assert_int_ge(items[n], 1);
            ck_assert_int_le(items[n], (int64_t)released);
            seen[items[n]] = true;
            count += used[category_of(items[n])] ? 0 : 1;
            used[category_of(items[n])] = true;
        }
        ck_assert_uint_le(count, WEIR_SYNTH_PAPER_MOST_CATEGORIES);
        histogram[count]++;
    }
    size_t all = 0;
    for (size_t i = 1; i <= ITEMS; i++) {
        all += seen[i] ? 1 : 0;
    }
    ck_assert_uint_gt(all, ITEMS * 99 / 100);
    for (size_t k = 1; k <= WEIR_SYNTH_PAPER_MOST_CATEGORIES; k++) { /* about a fifth each */
        ck_assert_uint_gt(histogram[k], RECORDS / 8);
        ck_assert_uint_lt(histogram[k], RECORDS * 2 / 7);
    }
}
END_TEST

START_TEST(a_record_depends_on_its_number_alone) {
    weir_synth_paper_options_t same = options, other = options;
    int64_t a[LENGTH], b[LENGTH];
    other.seed++;
    weir_synth_paper_record(&options, 77, a);
    weir_synth_paper_record(&same, 77, b);
    ck_assert_int_eq(memcmp(a, b, sizeof a), 0);
    weir_synth_paper_record(&other, 77, b);
    ck_assert_int_ne(memcmp(a, b, sizeof a), 0);
    weir_synth_paper_record(&options, 78, b);
    ck_assert_int_ne(memcmp(a, b, sizeof a), 0);
}
END_TEST

/* Of a process with few categories P(n + 1 is of the same category as n) is the mean over alpha and
 * prior of: sum over c of E[share of c]^2-like terms, which has no simple form; but two events are
 * exchangeable, so P(events 1 and 2 agree) = P(events 1 and n agree) for every n. */
START_TEST(events_are_exchangeable) {
    enum { PLACES = 4 };
    static const size_t places[PLACES] = {1, 20, 60, 127};
    size_t agree[PLACES] = {0};
    for (uint64_t r = 0; r < RECORDS; r++) {
        int64_t items[LENGTH];
        weir_synth_paper_record(&options, r, items);
        for (size_t i = 0; i < PLACES; i++) {
            agree[i] += category_of(items[0]) == category_of(items[places[i]]) ? 1 : 0;
        }
    }
    double rate = (double)agree[0] / RECORDS, deviation = sqrt(rate * (1 - rate) * 2 / RECORDS);
    for (size_t i = 1; i < PLACES; i++) {
        ck_assert_double_lt(fabs((double)agree[i] / RECORDS - rate), 4 * deviation);
    }
    /* One to five categories with normalised uniform priors: the sum of squared shares is on
     * average 1, .60, .42, .32, .26 and a little more for the process' memory. */
    ck_assert_double_gt(rate, 0.48);
    ck_assert_double_lt(rate, 0.60);
}
END_TEST

START_TEST(options_out_of_range_are_refused) {
    weir_synth_paper_options_t wrong[] = {options, options, options, options, options, options};
    wrong[0].records = 0;
    wrong[1].categories = 0;
    wrong[2].items = 5 * CATEGORIES - 1;
    wrong[3].items = UINT64_C(1) << 33;
    wrong[4].length = 1;
    wrong[5].length = 1 << 20;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        weir_error_t error = {0};
        ck_assert_int_eq(weir_synth_paper_check(&wrong[i], &error), WEIR_ERR_INVALID);
    }
    weir_error_t error = {0};
    ck_assert_int_eq(weir_synth_paper_check(&options, &error), WEIR_OK);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("synth paper");
    TCase *t = tcase_create("synth_paper");
    tcase_add_test(t, records_keep_to_what_is_released_and_to_five_categories);
    tcase_add_test(t, a_record_depends_on_its_number_alone);
    tcase_add_test(t, events_are_exchangeable);
    tcase_add_test(t, options_out_of_range_are_refused);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
