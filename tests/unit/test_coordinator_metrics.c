#include "coordinator/coordinator.h"
#include "proto/envelope.h"
#include "proto/rank_metrics.h"
#include "tests/suite.h"

#include <math.h>
#include <string.h>

typedef Weir__Control__Envelope envelope_t;

enum { JOB = 77, PS = 1, WORKERS = 1, RANKS = 1 + PS + WORKERS };

static weir_coordinator_t *coordinator;
static char *page;
static Weir__Control__Status *status; /* of the last envelope sent; owned by `sent` */
static envelope_t *sent;
static const double start = 1000.0;

static void keep_sent(void *argument, const weir_identity_t *to, const void *bytes, size_t size) {
    (void)argument;
    (void)to;
    weir_envelope_free(sent);
    ck_assert_int_eq(weir_envelope_unpack(bytes, size, &sent, NULL), WEIR_OK);
    status = sent->body_case == WEIR__CONTROL__ENVELOPE__BODY_STATUS ? sent->status : NULL;
}

static weir_err_t begin(void *argument, uint64_t step, char *folder, size_t capacity,
                        weir_error_t *error) {
    (void)argument;
    (void)step;
    (void)error;
    (void)snprintf(folder, capacity, "folder");
    return WEIR_OK;
}

static weir_err_t publish(void *argument, const weir_manifest_t *manifest, bool best,
                          weir_error_t *error) {
    (void)argument;
    (void)manifest;
    (void)best;
    (void)error;
    return WEIR_OK;
}

static void abandon(void *argument, const char *folder) {
    (void)argument;
    (void)folder;
}

static void set_up(void) {
    static const weir_coordinator_operations_t operations = {
        .send = keep_sent, .begin = begin, .publish = publish, .abandon = abandon};
    weir_coordinator_options_t options = {.job = JOB,
                                          .ps = PS,
                                          .workers = WORKERS,
                                          .config_yaml = "",
                                          .silence_seconds = 10.0,
                                          .checkpoint_seconds = 60.0,
                                          .leave_seconds = 5.0,
                                          .restarts = 3};
    page = NULL;
    sent = NULL;
    ck_assert_int_eq(weir_coordinator_create(&options, &operations, start, &coordinator, NULL),
                     WEIR_OK);
}

static void tear_down(void) {
    free(page);
    weir_envelope_free(sent);
    weir_coordinator_destroy(coordinator);
}

static void say_as(const char *who, uint64_t job, envelope_t *envelope, double now) {
    weir_packed_t packed;
    weir_identity_t from = {.size = strlen(who)};
    memcpy(from.bytes, who, from.size);
    envelope->job = job;
    ck_assert_int_eq(weir_envelope_pack(envelope, &packed, NULL), WEIR_OK);
    weir_coordinator_receive(coordinator, &from, packed.bytes, packed.size, now);
    free(packed.bytes);
}

static void join(uint32_t rank, const char *host_name, double now) {
    char ps[] = "ps", worker[] = "worker", host[64], version[] = "0", who[32];
    Weir__Control__Join body = WEIR__CONTROL__JOIN__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(host, sizeof host, "%s", host_name);
    (void)snprintf(who, sizeof who, "rank-%u", rank);
    body.rank = rank;
    body.role = rank <= PS ? ps : worker;
    body.host = host;
    body.version = version;
    body.pid = 100 + rank;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_JOIN;
    envelope.join = &body;
    say_as(who, JOB, &envelope, now);
}

/* `numbers` and `values` may be of different lengths. */
static void beat(uint32_t rank, uint64_t step, uint32_t *numbers, size_t number_count,
                 double *values, size_t value_count) {
    char who[32];
    Weir__Control__Heartbeat body = WEIR__CONTROL__HEARTBEAT__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(who, sizeof who, "rank-%u", rank);
    body.rank = rank;
    body.step = step;
    body.phase = WEIR__CONTROL__PHASE__PHASE_TRAINING;
    body.loss = 2.5;
    body.tokens_per_second = rank > PS ? 1024.0 : 0.0;
    body.n_metric = number_count;
    body.metric = numbers;
    body.n_value = value_count;
    body.value = values;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &body;
    say_as(who, JOB, &envelope, start + 1.0);
}

/* Whether the page has exactly this line. */
static bool shows(const char *line, double now) {
    char wanted[256];
    size_t size = 0;
    free(page);
    page = NULL;
    ck_assert_int_eq(weir_coordinator_show_metrics(coordinator, now, &page, &size, NULL), WEIR_OK);
    ck_assert_uint_eq(size, strlen(page));
    (void)snprintf(wanted, sizeof wanted, "\n%s\n", line);
    return strstr(page, wanted) != NULL;
}

START_TEST(the_page_tells_the_job_each_rank_and_what_it_counts) {
    uint32_t numbers[] = {WEIR_METRIC_ROWS, WEIR_METRIC_ROWS_BORN};
    double values[] = {12.0, 4503599627370497.0};
    join(1, "node", start);
    join(2, "node", start);
    beat(1, 41, numbers, 2, values, 2);
    beat(2, 42, NULL, 0, NULL, 0);
    ck_assert(shows("weir_step 42", start + 2.0));
    ck_assert(shows("weir_uptime_seconds 2", start + 2.0));
    ck_assert(shows("weir_restarts_total 3", start + 2.0));
    ck_assert(shows("weir_loss 2.5", start + 2.0));
    ck_assert(shows("weir_tokens_per_second 1024", start + 2.0));
    ck_assert(shows("weir_rank_step{rank=\"1\",role=\"ps\",index=\"0\"} 41", start + 2.0));
    ck_assert(shows("weir_rank_up{rank=\"2\",role=\"worker\",index=\"0\"} 1", start + 2.0));
    ck_assert(shows("weir_rank_phase{rank=\"2\",role=\"worker\",index=\"0\",phase=\"training\"} 1",
                    start + 2.0));
    ck_assert(shows("weir_ps_rows{rank=\"1\",role=\"ps\",index=\"0\"} 12", start + 2.0));
    ck_assert(shows("weir_ps_rows_born_total{rank=\"1\",role=\"ps\",index=\"0\"} 4503599627370497",
                    start + 2.0));
    ck_assert(shows("# TYPE weir_worker_tokens_total counter", start + 2.0));
    ck_assert_ptr_null(strstr(page, "weir_worker_tokens_total{"));
}
END_TEST

START_TEST(a_rank_that_is_silent_is_down) {
    join(1, "node", start);
    weir_coordinator_tick(coordinator, start + 9.0);
    ck_assert(shows("weir_rank_up{rank=\"1\",role=\"ps\",index=\"0\"} 1", start + 9.0));
    ck_assert(shows("weir_rank_up{rank=\"2\",role=\"worker\",index=\"0\"} 0", start + 9.0));
    weir_coordinator_tick(coordinator, start + 11.0);
    ck_assert(shows("weir_rank_up{rank=\"1\",role=\"ps\",index=\"0\"} 0", start + 11.0));
    ck_assert(
        shows("weir_rank_heard_seconds{rank=\"1\",role=\"ps\",index=\"0\"} 11", start + 11.0));
}
END_TEST

START_TEST(a_host_cannot_break_out_of_its_label) {
    join(1,
         "a\"b\\c\nd\x01"
         "e",
         start);
    ck_assert(shows("weir_rank_info{rank=\"1\",role=\"ps\",index=\"0\",host=\"a\\\"b\\\\c\\nde\","
                    "pid=\"101\"} 1",
                    start));
}
END_TEST

static uint64_t refused(void) {
    return weir_coordinator_counters(coordinator).refused_messages;
}

START_TEST(values_that_are_no_numbers_are_refused_and_later_metrics_passed_over) {
    uint32_t numbers[] = {WEIR_METRIC_ROWS, 100000};
    double values[] = {1.0, 2.0}, bad[] = {5.0, (double)NAN}, below[] = {5.0, -1.0};
    beat(1, 1, numbers, 2, values, 2);
    ck_assert_uint_eq(refused(), 0);
    beat(1, 2, numbers, 2, bad, 2);
    beat(1, 3, numbers, 2, below, 2);
    beat(1, 4, numbers, 2, values, 1);
    ck_assert_uint_eq(refused(), 3);
    ck_assert(shows("weir_ps_rows{rank=\"1\",role=\"ps\",index=\"0\"} 1", start + 2.0));
    ck_assert(shows("weir_control_refused_total 3", start + 2.0));
    ck_assert(shows("weir_rank_step{rank=\"1\",role=\"ps\",index=\"0\"} 4", start + 2.0));
}
END_TEST

static void save(uint64_t step, uint64_t bytes, double begun, double ended) {
    char name[] = "file", who[32];
    Weir__Control__CheckpointRequest request = WEIR__CONTROL__CHECKPOINT_REQUEST__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    request.step = step;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST;
    envelope.checkpoint_request = &request;
    say_as("rank-2", JOB, &envelope, begun);
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        Weir__Control__CheckpointFile file = WEIR__CONTROL__CHECKPOINT_FILE__INIT;
        Weir__Control__CheckpointFile *files[] = {&file};
        Weir__Control__CheckpointDone done = WEIR__CONTROL__CHECKPOINT_DONE__INIT;
        file.name = name;
        file.size = bytes;
        done.rank = rank;
        done.step = step;
        done.n_files = 1;
        done.files = files;
        envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE;
        envelope.checkpoint_done = &done;
        (void)snprintf(who, sizeof who, "rank-%u", rank);
        say_as(who, JOB, &envelope, ended);
    }
}

START_TEST(a_checkpoint_has_an_age_a_size_and_a_time) {
    join(1, "node", start);
    join(2, "node", start);
    ck_assert(shows("weir_checkpoints_total 0", start + 4.0));
    ck_assert(shows("weir_checkpoint_age_seconds 4", start + 4.0));
    ck_assert_ptr_null(strstr(page, "\nweir_checkpoint_bytes "));
    save(7, 1000, start + 10.0, start + 13.0);
    ck_assert(shows("weir_checkpoints_total 1", start + 20.0));
    ck_assert(shows("weir_checkpoint_step 7", start + 20.0));
    ck_assert(shows("weir_checkpoint_age_seconds 7", start + 20.0));
    ck_assert(shows("weir_checkpoint_seconds 3", start + 20.0));
    ck_assert(shows("weir_checkpoint_bytes 2000", start + 20.0));
}
END_TEST

START_TEST(the_status_carries_metrics_for_those_who_ask) {
    uint32_t numbers[] = {WEIR_METRIC_ROWS};
    double values[] = {12.0};
    Weir__Control__StatusRequest body = WEIR__CONTROL__STATUS_REQUEST__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    beat(1, 1, numbers, 1, values, 1);
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STATUS_REQUEST;
    envelope.status_request = &body;
    say_as("ctl", 0, &envelope, start);
    ck_assert_ptr_nonnull(status);
    ck_assert_uint_eq(status->ranks[0]->n_metric, 0);
    body.metrics = true;
    say_as("ctl", 0, &envelope, start);
    ck_assert_uint_eq(status->ranks[0]->n_metric, 1);
    ck_assert_uint_eq(status->ranks[0]->metric[0], WEIR_METRIC_ROWS);
    ck_assert_double_eq(status->ranks[0]->value[0], 12.0);
    ck_assert_uint_eq(status->ranks[1]->n_metric, 0);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("coordinator_metrics");
    TCase *t = tcase_create("coordinator_metrics");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_page_tells_the_job_each_rank_and_what_it_counts);
    tcase_add_test(t, a_rank_that_is_silent_is_down);
    tcase_add_test(t, a_host_cannot_break_out_of_its_label);
    tcase_add_test(t, values_that_are_no_numbers_are_refused_and_later_metrics_passed_over);
    tcase_add_test(t, a_checkpoint_has_an_age_a_size_and_a_time);
    tcase_add_test(t, the_status_carries_metrics_for_those_who_ask);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
