/* The control client against a coordinator in the same process, over TCP on the loopback. */
#include "proto/control_client.h"

#include "common/clock.h"
#include "coordinator/control_socket.h"
#include "coordinator/coordinator.h"
#include "tests/suite.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { JOB = 4711, PS = 1, WORKERS = 1, SERVER = 1, LEAD = 2 };

/* Long enough for any machine; nothing waits for it unless the test fails. */
#define PATIENCE 30.0

static weir_coordinator_t *coordinator;
static weir_control_socket_t *control_socket;
static weir_control_client_t *clients[3]; /* by rank; 0: none */
static char endpoint[128];
static size_t published_files;
static char failure[64];

/* ---- the coordinator's process ---- */

static void send_message(void *argument, const weir_identity_t *to, const void *bytes,
                         size_t size) {
    (void)argument;
    weir_control_socket_send(control_socket, to, bytes, size);
}

static weir_err_t begin(void *argument, uint64_t step, char *folder, size_t capacity,
                        weir_error_t *error) {
    (void)argument;
    (void)error;
    (void)snprintf(folder, capacity, "run/step-%llu.tmp", (unsigned long long)step);
    return WEIR_OK;
}

static weir_err_t publish(void *argument, const weir_manifest_t *manifest, bool best,
                          weir_error_t *error) {
    (void)argument;
    (void)best;
    published_files = manifest->file_count;
    return failure[0] == '\0' ? WEIR_OK : weir_errorf(error, WEIR_ERR_IO, "%s", failure);
}

static void abandon(void *argument, const char *folder) {
    (void)argument;
    (void)folder;
}

static void open_coordinator(int64_t port) {
    static const weir_coordinator_operations_t operations = {
        .send = send_message, .begin = begin, .publish = publish, .abandon = abandon};
    weir_coordinator_options_t options = {.job = JOB,
                                          .ps = PS,
                                          .workers = WORKERS,
                                          .config_yaml = "model: {}\n",
                                          .silence_seconds = 1e6,
                                          .checkpoint_seconds = 1e6,
                                          .leave_seconds = 1e6};
    weir_error_t error = {0};
    ck_assert_msg(weir_control_socket_open("127.0.0.1", port, NULL, endpoint, sizeof endpoint,
                                           &control_socket, &error) == WEIR_OK,
                  "%s", error.message);
    ck_assert_int_eq(
        weir_coordinator_create(&options, &operations, weir_clock_seconds(), &coordinator, NULL),
        WEIR_OK);
}

static void close_coordinator(void) {
    weir_control_socket_close(control_socket);
    weir_coordinator_destroy(coordinator);
    control_socket = NULL;
    coordinator = NULL;
}

static void open_client(uint32_t rank, uint64_t job) {
    weir_control_client_options_t options = {.endpoint = endpoint,
                                             .job = job,
                                             .rank = rank,
                                             .role = rank == SERVER ? "ps" : "worker",
                                             .index = 0,
                                             .heartbeat_seconds = 0.01};
    ck_assert_int_eq(weir_control_client_create(&options, &clients[rank], NULL), WEIR_OK);
}

static void set_up(void) {
    failure[0] = '\0';
    published_files = 0;
    open_coordinator(0);
    open_client(SERVER, JOB);
    open_client(LEAD, JOB);
}

static void tear_down(void) {
    for (size_t rank = 0; rank < 3; rank++) {
        weir_control_client_destroy(clients[rank]);
        clients[rank] = NULL;
    }
    close_coordinator();
}

/* One turn of everybody. */
static void turn(void) {
    weir_identity_t from;
    const void *bytes;
    size_t size;
    bool whole = false;
    for (size_t rank = 1; rank < 3; rank++) {
        if (clients[rank] != NULL) {
            (void)weir_control_client_poll(clients[rank]);
        }
    }
    if (control_socket == NULL) {
        return;
    }
    weir_control_socket_wait(control_socket, -1, 0.001);
    while (weir_control_socket_receive(control_socket, &from, &bytes, &size, &whole)) {
        if (whole) {
            weir_coordinator_receive(coordinator, &from, bytes, size, weir_clock_seconds());
        }
    }
}

/* Turns until the condition holds. */
#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        double until = weir_clock_seconds() + PATIENCE;                                            \
        bool holds = (condition);                                                                  \
        while (!holds && weir_clock_seconds() < until) {                                           \
            turn();                                                                                \
            holds = (condition);                                                                   \
        }                                                                                          \
        ck_assert_msg(holds, "never: " #condition);                                                \
    } while (0)

static void publish_state(uint32_t rank, uint64_t step, weir_phase_t phase) {
    weir_rank_state_t state = {.step = step, .phase = phase};
    weir_control_client_publish(clients[rank], &state);
}

static uint64_t step_known(void) {
    return weir_coordinator_counters(coordinator).step;
}

/* ---- wait_published blocks, so the comm threads' part is done by another thread ---- */

static atomic_bool turning;

static void *keep_turning(void *argument) {
    (void)argument;
    while (atomic_load(&turning)) {
        turn();
    }
    return NULL;
}

/* ---- tests ---- */

START_TEST(heartbeats_carry_what_was_published) {
    publish_state(LEAD, 12, WEIR_PHASE_TRAINING);
    AWAIT(step_known() == 12);
    publish_state(LEAD, 13, WEIR_PHASE_TRAINING);
    AWAIT(step_known() == 13);
}
END_TEST

static weir_err_t save(uint64_t step, const weir_error_t *reason, weir_error_t *error) {
    uint64_t begun = 0;
    char folder[4096] = "", small[4];
    weir_checkpoint_file_t files[2] = {{.name = "a", .size = 1}, {.name = "b", .size = 2}};
    ck_assert_int_eq(
        weir_control_client_request_checkpoint(clients[LEAD], step, 1, false, "{\"mrr\": 1}", NULL),
        WEIR_OK);
    AWAIT(weir_control_client_take_begin(clients[SERVER], &begun, folder, sizeof folder));
    ck_assert_uint_eq(begun, step);
    AWAIT(weir_control_client_take_begin(clients[LEAD], &begun, folder, sizeof folder));
    ck_assert_ptr_nonnull(strstr(folder, "run/step-"));
    ck_assert(!weir_control_client_take_begin(clients[LEAD], &begun, folder, sizeof folder));
    ck_assert(!weir_control_client_take_begin(clients[LEAD], &begun, small, sizeof small));
    ck_assert_int_eq(
        weir_control_client_report_written(clients[SERVER], step, files, 1, reason, NULL), WEIR_OK);
    ck_assert_int_eq(weir_control_client_report_written(clients[LEAD], step, files, 2, NULL, NULL),
                     WEIR_OK);
    pthread_t others;
    atomic_store(&turning, true);
    ck_assert_int_eq(pthread_create(&others, NULL, keep_turning, NULL), 0);
    weir_err_t err = weir_control_client_wait_published(clients[LEAD], step, PATIENCE, error);
    atomic_store(&turning, false);
    (void)pthread_join(others, NULL);
    return err;
}

START_TEST(a_checkpoint_goes_round_and_worker_0_learns_of_its_publication) {
    ck_assert_int_eq(save(40, NULL, NULL), WEIR_OK);
    ck_assert_uint_eq(published_files, 3);
    ck_assert_uint_eq(weir_coordinator_counters(coordinator).last_checkpoint, 40);
    ck_assert_int_eq(save(50, NULL, NULL), WEIR_OK);
    ck_assert_uint_eq(weir_coordinator_counters(coordinator).last_checkpoint, 50);
}
END_TEST

START_TEST(a_checkpoint_that_fails_anywhere_fails_at_worker_0_with_its_sentence_and_code) {
    weir_error_t error = {0};
    const weir_error_t full = {.code = WEIR_ERR_DISK_FULL, .message = "the disk is full"};
    ck_assert_int_eq(save(40, &full, &error), WEIR_ERR_DISK_FULL);
    ck_assert_ptr_nonnull(strstr(error.message, "the disk is full"));
    (void)snprintf(failure, sizeof failure, "cannot rename");
    ck_assert_int_eq(save(41, NULL, &error), WEIR_ERR_IO);
    ck_assert_str_eq(error.message, "cannot rename");
    failure[0] = '\0';
    ck_assert_int_eq(save(42, NULL, &error), WEIR_OK);
}
END_TEST

START_TEST(waiting_for_a_checkpoint_that_nobody_makes_has_an_end) {
    weir_error_t error = {0};
    ck_assert_int_eq(weir_control_client_wait_published(clients[LEAD], 7, 0.05, &error),
                     WEIR_ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(error.message, "step 7"));
}
END_TEST

START_TEST(a_stop_reaches_worker_0_and_the_end_everybody) {
    bool save_first = false;
    const char *reason = NULL;
    ck_assert(!weir_control_client_stop_wished(clients[LEAD], &save_first));
    publish_state(LEAD, 1, WEIR_PHASE_TRAINING);
    AWAIT(step_known() == 1);
    weir_coordinator_ask_stop(coordinator);
    AWAIT(weir_control_client_stop_wished(clients[LEAD], &save_first));
    ck_assert(save_first);
    ck_assert(!weir_control_client_stop_wished(clients[SERVER], &save_first));
    ck_assert(!weir_control_client_done(clients[LEAD]));
    ck_assert_int_eq(weir_control_client_finish(clients[LEAD], "stopped", NULL), WEIR_OK);
    AWAIT(weir_coordinator_is_done(coordinator, &reason));
    ck_assert_str_eq(reason, "stopped");
    ck_assert(weir_control_client_done(clients[LEAD]));
    ck_assert(weir_control_client_done(clients[SERVER]));
}
END_TEST

START_TEST(a_server_that_comes_up_after_the_end_is_told_of_it) {
    const char *reason = NULL;
    weir_control_client_destroy(clients[SERVER]);
    clients[SERVER] = NULL;
    publish_state(LEAD, 1, WEIR_PHASE_TRAINING);
    AWAIT(step_known() == 1);
    ck_assert_int_eq(weir_control_client_finish(clients[LEAD], "finished", NULL), WEIR_OK);
    AWAIT(weir_control_client_done(clients[LEAD]));
    ck_assert(!weir_coordinator_is_done(coordinator, &reason));
    open_client(SERVER, JOB);
    AWAIT(weir_coordinator_is_done(coordinator, &reason));
    ck_assert(weir_control_client_done(clients[SERVER]));
}
END_TEST

START_TEST(a_client_of_another_job_is_not_heard_and_hears_nothing) {
    weir_control_client_destroy(clients[LEAD]);
    open_client(LEAD, JOB + 1);
    publish_state(LEAD, 99, WEIR_PHASE_TRAINING);
    AWAIT(weir_coordinator_counters(coordinator).refused_messages > 2);
    ck_assert_uint_eq(step_known(), 0);
}
END_TEST

START_TEST(a_lost_coordinator_stops_nothing_and_a_new_one_is_found) {
    int64_t port = strtoll(strrchr(endpoint, ':') + 1, NULL, 10);
    publish_state(LEAD, 1, WEIR_PHASE_TRAINING);
    AWAIT(step_known() == 1);
    close_coordinator();
    publish_state(LEAD, 2, WEIR_PHASE_TRAINING);
    for (int i = 0; i < 2000; i++) { /* far more heartbeats than may be queued */
        (void)weir_control_client_poll(clients[LEAD]);
        weir_clock_sleep(0.0001);
    }
    ck_assert(!weir_control_client_done(clients[LEAD]));
    open_coordinator(port);
    AWAIT(step_known() == 2);
}
END_TEST

START_TEST(a_port_in_use_and_a_host_that_is_not_ours_are_told) {
    weir_control_socket_t *second = NULL;
    weir_error_t error = {0};
    char other[128], wanted[16];
    const char *port = strrchr(endpoint, ':') + 1;
    (void)snprintf(wanted, sizeof wanted, "port %s", port);
    ck_assert_int_eq(weir_control_socket_open("127.0.0.1", strtoll(port, NULL, 10), NULL, other,
                                              sizeof other, &second, &error),
                     WEIR_ERR_EXISTS);
    ck_assert_ptr_nonnull(strstr(error.message, wanted));
    ck_assert_int_eq(
        weir_control_socket_open("203.0.113.5", 0, NULL, other, sizeof other, &second, &error),
        WEIR_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "203.0.113.5"));
    ck_assert_ptr_null(second);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("control_client");
    TCase *t = tcase_create("control_client");
    tcase_set_timeout(t, 4 * PATIENCE);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, heartbeats_carry_what_was_published);
    tcase_add_test(t, a_checkpoint_goes_round_and_worker_0_learns_of_its_publication);
    tcase_add_test(t,
                   a_checkpoint_that_fails_anywhere_fails_at_worker_0_with_its_sentence_and_code);
    tcase_add_test(t, waiting_for_a_checkpoint_that_nobody_makes_has_an_end);
    tcase_add_test(t, a_stop_reaches_worker_0_and_the_end_everybody);
    tcase_add_test(t, a_server_that_comes_up_after_the_end_is_told_of_it);
    tcase_add_test(t, a_client_of_another_job_is_not_heard_and_hears_nothing);
    tcase_add_test(t, a_lost_coordinator_stops_nothing_and_a_new_one_is_found);
    tcase_add_test(t, a_port_in_use_and_a_host_that_is_not_ours_are_told);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
