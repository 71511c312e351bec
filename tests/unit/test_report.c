#include "tests/suite.h"
#include "tools/report_page.h"

#include <string.h>

static weir_error_t error;

/* The page of a run that said `lines`. Caller frees. */
static char *make_page(const char *lines, const char *name, const weir_config_t *config) {
    static const weir_report_checkpoint_t checkpoints[] = {
        {.step = 10, .bytes = 2048, .ps = 2, .workers = 3, .best = true},
        {.step = 20, .bytes = 4096, .ps = 2, .workers = 3, .latest = true}};
    weir_run_metrics_t metrics = {0};
    const weir_report_t report = {.name = name,
                                  .metrics = &metrics,
                                  .config = config,
                                  .config_error = "config.yaml: <broken>",
                                  .checkpoints = checkpoints,
                                  .checkpoint_count = 2};
    char *page = NULL;
    size_t size = 0;
    ck_assert_int_eq(weir_run_metrics_parse(lines, strlen(lines), "m", NULL, &metrics, &error),
                     WEIR_OK);
    FILE *out = open_memstream(&page, &size);
    ck_assert_int_eq(weir_report_write(out, &report, &error), WEIR_OK);
    (void)fclose(out);
    weir_run_metrics_fini(&metrics);
    return page;
}

static size_t count_in(const char *text, const char *word) {
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) {
        count++;
    }
    return count;
}

static const char good_run[] =
    "{\"kind\":\"start\",\"step\":0,\"time\":\"2026-01-02T03:04:05Z\",\"ps\":2,\"workers\":3,"
    "\"parameters\":12345,\"total_steps\":20,\"steps_per_epoch\":10}\n"
    "{\"kind\":\"train\",\"t\":1,\"step\":10,\"epoch\":1,\"loss\":5,\"tokens_per_second\":90000,"
    "\"pull_wait\":0.1}\n"
    "{\"kind\":\"eval\",\"t\":1,\"step\":10,\"epoch\":1,\"split\":\"test\",\"hr@10\":0.4321,"
    "\"ndcg@10\":0.25,\"best\":true}\n"
    "{\"kind\":\"checkpoint\",\"t\":1,\"step\":10,\"seconds\":0.25,\"best\":true}\n"
    "{\"kind\":\"train\",\"t\":2,\"step\":20,\"epoch\":2,\"loss\":4,\"tokens_per_second\":80000}\n"
    "{\"kind\":\"eval\",\"t\":2,\"step\":20,\"epoch\":2,\"split\":\"test\",\"hr@10\":0.1111,"
    "\"ndcg@10\":0.2,\"best\":false}\n"
    "{\"kind\":\"end\",\"t\":2.4,\"step\":20,\"reason\":\"finished\"}\n";

START_TEST(a_page_shows_the_run_and_its_best) {
    weir_config_t config;
    weir_config_defaults(&config);
    config.model.heads = 7;
    char *page = make_page(good_run, "a run", &config);
    ck_assert_ptr_nonnull(strstr(page, "<h1>a run</h1>"));
    ck_assert_ptr_nonnull(strstr(page, "finished at step 20 of 20, after 2s of training begun "
                                       "2026-01-02T03:04:05Z"));
    ck_assert_ptr_nonnull(strstr(page, "<b>0.4321</b><span>HR@10, best</span>"));
    ck_assert_ptr_nonnull(strstr(page, "<tr><td>last</td>"));
    ck_assert_ptr_nonnull(strstr(page, "<b>12,345</b><span>dense parameters</span>"));
    ck_assert_ptr_nonnull(strstr(page, "<tr><td>best</td><td>10</td><td>1.00</td><td>2.0 KiB</td>"
                                       "<td>2</td><td>3</td><td>1s</td><td>0.25</td></tr>"));
    ck_assert_ptr_nonnull(strstr(page, "<tr><td>model.heads</td><td>7</td><td>1</td></tr>"));
    ck_assert_uint_eq(count_in(page, "<figure>"), 6);
    ck_assert_uint_eq(count_in(page, "no values"), 1); /* nothing was said of bytes */
    free(page);
}
END_TEST

START_TEST(what_comes_from_outside_is_escaped) {
    weir_config_t config;
    weir_config_defaults(&config);
    (void)snprintf(config.data.path, sizeof config.data.path, "<script>alert('1')</script>");
    char *page = make_page("{\"kind\":\"start\",\"step\":0,\"time\":\"<script>\"}\n"
                           "{\"kind\":\"end\",\"step\":0,\"reason\":\"</p><script>\"}\n",
                           "<script>\"&", &config);
    ck_assert_ptr_null(strstr(page, "<script"));
    ck_assert_ptr_nonnull(strstr(page, "<h1>&lt;script&gt;&quot;&amp;</h1>"));
    ck_assert_ptr_nonnull(strstr(page, "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"));
    ck_assert_ptr_nonnull(strstr(page, "not evaluated yet"));
    free(page);
}
END_TEST

START_TEST(a_page_opens_nothing_and_lacks_nothing) {
    char *page = make_page(good_run, "r", NULL);
    ck_assert_ptr_null(strstr(page, "http:"));
    ck_assert_ptr_null(strstr(page, "https:"));
    ck_assert_ptr_null(strstr(page, "url("));
    ck_assert_ptr_nonnull(strstr(page, "config.yaml: &lt;broken&gt;"));
    ck_assert_ptr_null(strstr(page, ">nan<"));
    static const char *const pairs[] = {"svg",     "figure", "table", "section", "div",
                                        "details", "tr",     "td",    "g",       "text"};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char open_tag[32], attributed[32], close_tag[32];
        (void)snprintf(open_tag, sizeof open_tag, "<%s>", pairs[i]);
        (void)snprintf(attributed, sizeof attributed, "<%s ", pairs[i]);
        (void)snprintf(close_tag, sizeof close_tag, "</%s>", pairs[i]);
        ck_assert_msg(count_in(page, open_tag) + count_in(page, attributed) ==
                          count_in(page, close_tag),
                      "%s", pairs[i]);
    }
    free(page);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("report");
    TCase *t = tcase_create("report");
    tcase_add_test(t, a_page_shows_the_run_and_its_best);
    tcase_add_test(t, what_comes_from_outside_is_escaped);
    tcase_add_test(t, a_page_opens_nothing_and_lacks_nothing);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
