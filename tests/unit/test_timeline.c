#include "common/file.h"
#include "tests/suite.h"
#include "tools/report_page.h"
#include "tools/timeline.h"

#include <string.h>

static weir_error_t error;

/* Two steps of a server (rank 1) and a worker (rank 2), in us. In the first step the pull of 100 us
 * (40 there, 20 in the server, 40 back) is waited for during its last 30; then 10 us are waited
 * while nothing is on its way. The second step waits for nothing. */
static const char played[] =
    "[\n"
    "{\"ph\":\"M\",\"pid\":1,\"tid\":0,\"name\":\"process_name\",\"args\":{\"name\":\"ps 0\","
    "\"role\":\"ps\",\"first_step\":6,\"steps\":2}},\n"
    "{\"ph\":\"M\",\"pid\":1,\"tid\":1,\"name\":\"thread_name\",\"args\":{\"name\":\"main\"}},\n"
    "{\"ph\":\"X\",\"pid\":1,\"tid\":1,\"name\":\"handle pull\",\"ts\":1140,\"dur\":20,"
    "\"args\":{\"step\":6,\"peer\":2}},\n"
    "{\"ph\":\"s\",\"pid\":1,\"tid\":1,\"name\":\"pull_rep\",\"ts\":1160,"
    "\"id\":\"pull_rep/6/0/0/1>2\",\"args\":{\"step\":6}},\n"
    "{\"ph\":\"f\",\"pid\":1,\"tid\":2,\"name\":\"pull_req\",\"ts\":1140,"
    "\"id\":\"pull_req/6/0/0/2>1\",\"args\":{\"step\":6}},\n"
    "{\"ph\":\"M\",\"pid\":2,\"tid\":0,\"name\":\"process_name\",\"args\":{\"name\":\"worker 0\","
    "\"role\":\"worker\",\"first_step\":6,\"steps\":2}},\n"
    "{\"ph\":\"M\",\"pid\":2,\"tid\":1,\"name\":\"thread_name\",\"args\":{\"name\":\"main\"}},\n"
    "{\"ph\":\"X\",\"pid\":2,\"tid\":1,\"name\":\"step\",\"ts\":1000,\"dur\":1000,"
    "\"args\":{\"step\":6}},\n"
    "{\"ph\":\"s\",\"pid\":2,\"tid\":1,\"name\":\"pull_req\",\"ts\":1100,"
    "\"id\":\"pull_req/6/0/0/2>1\",\"args\":{\"step\":6}},\n"
    "{\"ph\":\"X\",\"pid\":2,\"tid\":1,\"name\":\"take rows\",\"ts\":1160,\"dur\":60,"
    "\"args\":{\"step\":6}},\n"
    "{\"ph\":\"X\",\"pid\":2,\"tid\":1,\"name\":\"wait pull\",\"ts\":1170,\"dur\":40,"
    "\"args\":{\"step\":6,\"peer\":1}},\n"
    "{\"ph\":\"X\",\"pid\":2,\"tid\":1,\"name\":\"compute\",\"ts\":1300,\"dur\":500,"
    "\"args\":{\"step\":6}},\n"
    "{\"ph\":\"X\",\"pid\":2,\"tid\":1,\"name\":\"forward\",\"ts\":1300,\"dur\":200,"
    "\"args\":{\"step\":6}},\n"
    "{\"ph\":\"X\",\"pid\":2,\"tid\":1,\"name\":\"step\",\"ts\":2000,\"dur\":1000,"
    "\"args\":{\"step\":7}},\n"
    "{\"ph\":\"X\",\"pid\":2,\"tid\":2,\"name\":\"receive\",\"ts\":1199,\"dur\":1,"
    "\"args\":{\"step\":6}},\n"
    "{\"ph\":\"f\",\"pid\":2,\"tid\":2,\"name\":\"pull_rep\",\"ts\":1200,"
    "\"id\":\"pull_rep/6/0/0/1>2\",\"args\":{\"step\":6}}\n"
    "]\n";

static void check_ms(double ms, double us) {
    ck_assert_double_eq_tol(ms, us / 1000.0, 1e-9);
}

START_TEST(parts_add_up_and_what_was_waited_for_is_told_from_what_was_hidden) {
    weir_timeline_t timeline = {0};
    ck_assert_int_eq(weir_timeline_parse(played, strlen(played), "t", &timeline, &error), WEIR_OK);
    ck_assert_uint_eq(timeline.rank_count, 3);
    ck_assert_uint_eq(timeline.first_step, 6);
    const weir_timeline_rank_t *server = &timeline.ranks[1], *worker = &timeline.ranks[2];
    ck_assert_str_eq(worker->name, "worker 0");
    ck_assert(worker->worker && !server->worker);
    ck_assert_uint_eq(worker->steps, 2);
    check_ms(worker->parts[WEIR_TIMELINE_FORWARD], 100); /* us a step, of two */
    check_ms(worker->parts[WEIR_TIMELINE_COPY], 10);
    check_ms(worker->parts[WEIR_TIMELINE_WAIT_ROWS], 20);
    check_ms(worker->parts[WEIR_TIMELINE_REST], 1000 - 130);
    check_ms(timeline.waits[2 * 3 + 1], 20);
    check_ms(timeline.waits[1 * 3 + 2], 0);
    check_ms(worker->rows.time, 50);
    check_ms(worker->rows.exposed, 15);
    check_ms(worker->rows.waited, 20);
    check_ms(worker->dense.time, 0);
    check_ms(server->parts[WEIR_TIMELINE_PULL], 10);
    check_ms(server->parts[WEIR_TIMELINE_IDLE], 990);
    weir_timeline_fini(&timeline);
}
END_TEST

START_TEST(a_page_shows_the_timeline) {
    weir_timeline_t timeline = {0};
    char *page = NULL;
    size_t size = 0;
    ck_assert_int_eq(weir_timeline_parse(played, strlen(played), "t", &timeline, &error), WEIR_OK);
    (void)snprintf(timeline.ranks[2].name, sizeof timeline.ranks[2].name, "<worker>");
    FILE *out = open_memstream(&page, &size);
    weir_report_write_timeline(out, &timeline);
    weir_timeline_print(out, &timeline);
    (void)fclose(out);
    ck_assert_ptr_nonnull(strstr(page, "steps 6 to 7"));
    ck_assert_ptr_nonnull(strstr(page, "<td>&lt;worker&gt;</td>"));
    ck_assert_ptr_nonnull(strstr(page, "<td>70.0%</td>"));
    ck_assert_ptr_nonnull(strstr(page, "hidden  70.0%"));
    ck_assert_ptr_nonnull(strstr(page, "Who waits for whom"));
    weir_timeline_fini(&timeline);
    free(page);
}
END_TEST

START_TEST(what_is_no_timeline_is_refused_or_left_out) {
    static const char *const refused[] = {
        "", "{}", "[]", "[1, 2]", "[{\"pid\":-1}]", "[{\"pid\":99999999999}]"};
    static const char *const poor[] = {
        "[{\"pid\":1}]", "[{\"ph\":\"X\",\"pid\":0,\"tid\":1,\"name\":7}]",
        "[{\"ph\":\"s\",\"pid\":0,\"id\":\"a\"},{\"ph\":\"f\",\"pid\":0,\"id\":\"a\"}]",
        "[{\"ph\":\"s\",\"pid\":0,\"id\":\"/////>\"},{\"ph\":\"f\",\"pid\":0,\"id\":\"/////>\"}]",
        "[{\"ph\":\"M\",\"pid\":0,\"name\":\"process_name\",\"args\":[]}]"};
    weir_timeline_t timeline = {0};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        ck_assert_int_eq(
            weir_timeline_parse(refused[i], strlen(refused[i]), "t", &timeline, &error),
            WEIR_ERR_CORRUPT);
    }
    for (size_t i = 0; i < sizeof poor / sizeof poor[0]; i++) {
        ck_assert_int_eq(weir_timeline_parse(poor[i], strlen(poor[i]), "t", &timeline, &error),
                         WEIR_OK);
        weir_timeline_fini(&timeline);
    }
    for (size_t size = 0; size < strlen(played) - 2; size += 7) { /* cut anywhere */
        ck_assert_int_eq(weir_timeline_parse(played, size, "t", &timeline, &error),
                         WEIR_ERR_CORRUPT);
    }
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("timeline");
    TCase *t = tcase_create("timeline");
    tcase_add_test(t, parts_add_up_and_what_was_waited_for_is_told_from_what_was_hidden);
    tcase_add_test(t, a_page_shows_the_timeline);
    tcase_add_test(t, what_is_no_timeline_is_refused_or_left_out);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
