#include "tests/suite.h"
#include "tools/plot.h"

#include <math.h>
#include <string.h>

static char *written;

static const char *write_plot(const weir_plot_t *plot) {
    size_t size = 0;
    FILE *out = open_memstream(&written, &size);
    ck_assert_int_eq(weir_plot_write(out, plot, NULL), WEIR_OK);
    (void)fclose(out);
    return written;
}

static size_t count_in(const char *text, const char *word) {
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) {
        count++;
    }
    return count;
}

START_TEST(ticks_are_round_and_inside) {
    static const struct {
        double low, high, first, step;
        size_t most, count;
    } cases[] = {{0.0, 1.0, 0.0, 0.2, 6, 6},   {0.0, 101.0, 0.0, 20.0, 8, 6},
                 {2.61, 9.04, 4.0, 2.0, 4, 3}, {-3.0, 3.0, -2.0, 2.0, 6, 3},
                 {0.0, 3e-7, 0.0, 1e-7, 6, 4}, {1e12, 5e12, 1e12, 1e12, 6, 5}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weir_plot_ticks_t ticks = weir_plot_ticks(cases[i].low, cases[i].high, cases[i].most);
        ck_assert_msg(ticks.count == cases[i].count, "case %zu: %zu", i, ticks.count);
        for (size_t k = 0; k < ticks.count; k++) {
            double expected = cases[i].first + (double)k * cases[i].step;
            ck_assert_double_eq_tol(ticks.values[k], expected, cases[i].step * 1e-9);
        }
    }
}
END_TEST

START_TEST(ticks_of_any_range_are_few_and_inside) {
    for (double low = -1e9; low < 1e9; low = low < -1e-9 ? low / 7.0 : -low + 1e-9) {
        for (double span = 1e-6; span < 1e12; span *= 3.3) {
            weir_plot_ticks_t ticks = weir_plot_ticks(low, low + span, 6);
            ck_assert_uint_le(ticks.count, 6);
            for (size_t k = 0; k < ticks.count; k++) {
                ck_assert(ticks.values[k] >= low - span * 1e-3);
                ck_assert(ticks.values[k] <= low + span * 1.001);
            }
        }
        if (low > 0) {
            break;
        }
    }
    ck_assert_uint_eq(weir_plot_ticks(3.0, 3.0, 6).count, 1);
}
END_TEST

START_TEST(texts_are_escaped) {
    static const double x[] = {1, 2}, y[] = {3, 4};
    const weir_plot_series_t series[] = {{.name = "<script>a&b\"'\n", .x = x, .y = y, .count = 2},
                                         {.name = "b", .count = 0}};
    const weir_plot_t plot = {
        .title = "<b>", .x_label = "</svg>", .series = series, .series_count = 2};
    const char *text = write_plot(&plot);
    ck_assert_ptr_null(strstr(text, "<script"));
    ck_assert_uint_eq(count_in(text, "<b>"), 1); /* the caption's own */
    ck_assert_uint_eq(count_in(text, "</svg>"), 3);
    ck_assert_ptr_nonnull(strstr(text, "&lt;script&gt;a&amp;b&quot;&#39; "));
    free(written);
}
END_TEST

START_TEST(a_gap_lifts_the_pen) {
    static const double x[] = {1, 2, 3, 4, 5}, y[] = {1, 2, (double)NAN, 4, (double)INFINITY};
    const weir_plot_series_t series[] = {{.name = "a", .x = x, .y = y, .count = 5}};
    const weir_plot_t plot = {.title = "t", .x_label = "x", .series = series, .series_count = 1};
    const char *text = write_plot(&plot);
    const char *path = strstr(text, " d=\"M");
    ck_assert_ptr_nonnull(path);
    char line[128] = "";
    (void)snprintf(line, sizeof line, "%.*s", (int)strcspn(path + 4, "\""), path + 4);
    ck_assert_uint_eq(count_in(line, "M"), 2);
    ck_assert_uint_eq(count_in(line, "L"), 1);
    ck_assert_ptr_null(strstr(text, "nan"));
    ck_assert_ptr_null(strstr(text, "inf"));
    free(written);
}
END_TEST

START_TEST(a_plot_without_values_says_so) {
    static const double x[] = {1}, y[] = {(double)NAN};
    const weir_plot_series_t series[] = {{.name = "a", .x = x, .y = y, .count = 1}};
    const weir_plot_t plot = {.title = "t", .x_label = "x", .series = series, .series_count = 1};
    ck_assert_ptr_nonnull(strstr(write_plot(&plot), "no values"));
    free(written);
}
END_TEST

START_TEST(extreme_values_stay_inside_the_drawing) {
    static const double extremes[] = {1e-300, -1e299, 1e299, 1e18, 5e-324};
    for (size_t i = 0; i < 25; i++) {
        const double x[] = {extremes[i % 5], extremes[i % 5] + 1}, y[] = {extremes[i / 5], 1};
        const weir_plot_series_t series[] = {{.name = "a", .x = x, .y = y, .count = 2}};
        const weir_plot_t plot = {
            .title = "t", .x_label = "x", .series = series, .series_count = 1};
        const char *text = write_plot(&plot);
        ck_assert_msg(strstr(text, "nan") == NULL && strstr(text, "inf") == NULL, "%s", text);
        free(written);
    }
}
END_TEST

START_TEST(a_single_point_and_equal_points_have_room) {
    static const double x[] = {7, 7}, y[] = {0, 0};
    const weir_plot_series_t series[] = {{.name = "a", .x = x, .y = y, .count = 2, .dots = true}};
    const weir_plot_t plot = {
        .title = "t", .x_label = "x", .series = series, .series_count = 1, .from_zero = true};
    const char *text = write_plot(&plot);
    ck_assert_uint_eq(count_in(text, "<circle"), 2);
    ck_assert_ptr_null(strstr(text, "nan"));
    free(written);
}
END_TEST

START_TEST(long_lines_are_thinned_without_losing_a_peak) {
    enum { POINTS = 200000 };
    double *x = calloc(POINTS, sizeof *x), *y = calloc(POINTS, sizeof *y);
    for (size_t i = 0; i < POINTS; i++) {
        x[i] = (double)i;
    }
    y[123457] = 8.0; /* alone among zeros: the top of the plot, y = 12 */
    const weir_plot_series_t series[] = {{.name = "a", .x = x, .y = y, .count = POINTS}};
    const weir_plot_t plot = {.title = "t", .x_label = "x", .series = series, .series_count = 1};
    const char *text = write_plot(&plot);
    ck_assert_uint_lt(strlen(text), 100000);
    ck_assert_uint_eq(count_in(text, " 12.0L"), 1);
    free(written);
    free(x);
    free(y);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("plot");
    TCase *t = tcase_create("plot");
    tcase_add_test(t, ticks_are_round_and_inside);
    tcase_add_test(t, ticks_of_any_range_are_few_and_inside);
    tcase_add_test(t, texts_are_escaped);
    tcase_add_test(t, a_gap_lifts_the_pen);
    tcase_add_test(t, a_plot_without_values_says_so);
    tcase_add_test(t, extreme_values_stay_inside_the_drawing);
    tcase_add_test(t, a_single_point_and_equal_points_have_room);
    tcase_add_test(t, long_lines_are_thinned_without_losing_a_peak);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
