#include "common/waiting.h"
#include "coordinator/coordinator.h"
#include "proto/control_client.h"
#include "proto/envelope.h"
#include "tests/suite.h"

#include <stdlib.h>
#include <string.h>

/* Ranks 1 and 2 are ps 0 and 1, 3 to 5 are worker 0 to 2. */
enum { JOB = 5, PS = 2, WORKERS = 3, RANKS = 1 + PS + WORKERS, LIMIT = 30 };

typedef struct {
    uint64_t step, progress;
    weir_phase_t phase;
    weir_wait_kind_t wait;
    weir_rank_t wait_rank;
    bool stopped; /* says nothing */
} rank_t;

static weir_coordinator_t *coordinator;
static rank_t ranks[RANKS];
static double now;

static void drop(void *argument, const weir_identity_t *to, const void *bytes, size_t size) {
    (void)argument;
    (void)to;
    (void)bytes;
    (void)size;
}

static weir_err_t begin(void *argument, uint64_t step, char *folder, size_t capacity,
                        weir_error_t *error) {
    (void)argument;
    (void)step;
    (void)error;
    (void)snprintf(folder, capacity, "folder");
    return WEIR_OK;
}

static void give(uint32_t rank, Weir__Control__Envelope *envelope) {
    weir_identity_t from;
    weir_packed_t packed;
    envelope->job = JOB;
    ck_assert_int_eq(weir_envelope_pack(envelope, &packed, NULL), WEIR_OK);
    weir_identity_of_rank(rank, &from);
    weir_coordinator_receive(coordinator, &from, packed.bytes, packed.size, now);
    free(packed.bytes);
}

static void join(uint32_t rank) {
    bool worker = rank > PS;
    char role[16], host[] = "h", version[] = "";
    Weir__Control__Join body = WEIR__CONTROL__JOIN__INIT;
    Weir__Control__Envelope envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(role, sizeof role, worker ? "worker" : "ps");
    body.rank = rank;
    body.role = role;
    body.index = rank - 1 - (worker ? PS : 0);
    body.host = host;
    body.pid = 100 + rank;
    body.version = version;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_JOIN;
    envelope.join = &body;
    give(rank, &envelope);
}

static void heartbeat(uint32_t rank) {
    const rank_t *state = &ranks[rank];
    Weir__Control__Heartbeat body = WEIR__CONTROL__HEARTBEAT__INIT;
    Weir__Control__Envelope envelope = WEIR__CONTROL__ENVELOPE__INIT;
    body.rank = rank;
    body.step = state->step;
    body.phase = (Weir__Control__Phase)state->phase;
    body.wait = (uint32_t)state->wait;
    body.wait_rank = state->wait_rank;
    body.progress = state->progress;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &body;
    give(rank, &envelope);
}

/* Let `seconds` pass, a heartbeat of every rank a second; true when the job is found hung. */
static bool pass(double seconds, const char **culprit) {
    for (double end = now + seconds; now < end; now += 1.0) {
        for (uint32_t rank = 1; rank < RANKS; rank++) {
            if (!ranks[rank].stopped) {
                heartbeat(rank);
            }
        }
        weir_coordinator_tick(coordinator, now);
    }
    return weir_coordinator_is_hung(coordinator, culprit);
}

static void set_up(void) {
    static const weir_coordinator_operations_t operations = {.send = drop, .begin = begin};
    weir_coordinator_options_t options = {.job = JOB,
                                          .ps = PS,
                                          .workers = WORKERS,
                                          .config_yaml = "",
                                          .silence_seconds = 1e6,
                                          .checkpoint_seconds = 1e6,
                                          .hang_seconds = LIMIT};
    now = 1000.0;
    ck_assert_int_eq(weir_coordinator_create(&options, &operations, now, &coordinator, NULL),
                     WEIR_OK);
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        ranks[rank] = (rank_t){.step = 811, .phase = WEIR_PHASE_TRAINING};
        join(rank);
    }
    const char *culprit;
    ck_assert(!pass(3.0, &culprit));
}

static void tear_down(void) {
    weir_coordinator_destroy(coordinator);
}

static void wait_for(uint32_t rank, weir_wait_kind_t kind, uint32_t other) {
    ranks[rank].wait = kind;
    ranks[rank].wait_rank = other;
}

/* worker 0 waits for ps 1, ps 1 for worker 1; worker 2 and ps 0 for worker 1 too. */
static void stand_still_for_worker_1(void) {
    wait_for(3, WEIR_WAIT_PULL, 2);
    wait_for(2, WEIR_WAIT_PUSH, 4);
    wait_for(1, WEIR_WAIT_PUSH, 4);
    wait_for(5, WEIR_WAIT_BARRIER, 4);
}

START_TEST(who_computes_for_ever_is_named_and_not_who_waits) {
    const char *culprit;
    stand_still_for_worker_1();
    ck_assert(!pass(LIMIT - 5.0, &culprit));
    ck_assert(pass(8.0, &culprit));
    ck_assert_msg(strstr(culprit, "worker 1 (rank 4 on h, process 104) has computed step 812") ==
                      culprit,
                  "%s", culprit);
    ck_assert_ptr_nonnull(strstr(culprit, "; ps 0, ps 1, worker 0, worker 2 wait for it"));
}
END_TEST

START_TEST(who_is_silent_is_named_whatever_it_waited_for_before) {
    const char *culprit;
    stand_still_for_worker_1();
    wait_for(4, WEIR_WAIT_PULL, 1);
    ranks[4].stopped = true;
    ck_assert(pass(LIMIT + 5.0, &culprit));
    ck_assert_msg(strstr(culprit, "worker 1 (rank 4 on h, process 104) has been silent for") ==
                      culprit,
                  "%s", culprit);
}
END_TEST

START_TEST(a_server_that_handles_one_frame_for_ever_is_named) {
    const char *culprit;
    for (uint32_t rank = 3; rank < RANKS; rank++) {
        wait_for(rank, WEIR_WAIT_PULL, 1);
    }
    ck_assert(pass(LIMIT + 5.0, &culprit));
    ck_assert_msg(strstr(culprit, "ps 0 (rank 1 on h, process 101) has worked on step 812") ==
                      culprit,
                  "%s", culprit);
}
END_TEST

START_TEST(those_that_wait_for_each_other_are_told_so) {
    const char *culprit;
    wait_for(3, WEIR_WAIT_BARRIER, 4);
    wait_for(4, WEIR_WAIT_REDUCE, 5);
    wait_for(5, WEIR_WAIT_GATHER, 3);
    ck_assert(pass(LIMIT + 5.0, &culprit));
    ck_assert_ptr_nonnull(strstr(culprit, "and others wait for each other"));
}
END_TEST

START_TEST(any_progress_of_the_workers_is_no_hang) {
    const char *culprit;
    stand_still_for_worker_1();
    for (int i = 0; i < 20; i++) { /* an evaluation: waits end, steps do not */
        for (uint32_t rank = 3; rank < RANKS; rank++) {
            ranks[rank].progress++;
        }
        ck_assert(!pass(LIMIT - 2.0, &culprit));
    }
}
END_TEST

START_TEST(a_worker_whose_messages_are_lost_hangs_nobody) {
    const char *culprit;
    ranks[5].stopped = true;
    for (int i = 0; i < 5 * LIMIT; i++) {
        for (uint32_t rank = 1; rank < RANKS; rank++) {
            ranks[rank].step++;
        }
        ck_assert(!pass(1.0, &culprit));
    }
}
END_TEST

START_TEST(a_coordinator_that_hears_nobody_blames_nobody) {
    const char *culprit;
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        ranks[rank].stopped = true;
    }
    ck_assert(!pass(10.0 * LIMIT, &culprit));
    for (uint32_t rank = 1; rank < RANKS; rank++) { /* they are heard again, and went on */
        ranks[rank].stopped = false;
        ranks[rank].step++;
    }
    ck_assert(!pass(LIMIT - 2.0, &culprit));
}
END_TEST

static void begin_save(void) {
    char nothing[] = "";
    Weir__Control__CheckpointRequest request = WEIR__CONTROL__CHECKPOINT_REQUEST__INIT;
    Weir__Control__Envelope envelope = WEIR__CONTROL__ENVELOPE__INIT;
    request.step = 811;
    request.metrics_json = nothing;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST;
    envelope.checkpoint_request = &request;
    ranks[3].phase = WEIR_PHASE_CHECKPOINTING;
    give(3, &envelope);
}

START_TEST(a_start_and_a_checkpoint_have_limits_of_their_own) {
    const char *culprit;
    stand_still_for_worker_1();
    ranks[2].phase = WEIR_PHASE_LOADING;
    ck_assert(!pass(3.0 * LIMIT, &culprit));
    ranks[2].phase = WEIR_PHASE_TRAINING;
    ck_assert(!pass(3.0, &culprit));
    begin_save();
    ck_assert(!pass(3.0 * LIMIT, &culprit));
}
END_TEST

START_TEST(who_is_silent_while_a_checkpoint_needs_it_is_named) {
    const char *culprit;
    begin_save();
    wait_for(4, WEIR_WAIT_BARRIER, 3);
    wait_for(5, WEIR_WAIT_BARRIER, 3);
    ranks[2].stopped = true;
    ck_assert(!pass(LIMIT - 2.0, &culprit));
    ck_assert(pass(5.0, &culprit));
    ck_assert_msg(strstr(culprit, "ps 1 (rank 2 on h, process 102) has been silent") == culprit,
                  "%s", culprit);
}
END_TEST

START_TEST(who_is_silent_while_others_wait_for_it_after_a_checkpoint_is_named) {
    const char *culprit;
    begin_save();
    wait_for(5, WEIR_WAIT_BARRIER, 3);
    wait_for(3, WEIR_WAIT_BARRIER, 4);
    ranks[4].stopped = true;
    ck_assert(pass(LIMIT + 5.0, &culprit));
    ck_assert_msg(strstr(culprit, "worker 1 (rank 4 on h, process 104) has been silent") == culprit,
                  "%s", culprit);
    ck_assert_ptr_nonnull(strstr(culprit, "; worker 0, worker 2 wait for it"));
}
END_TEST

START_TEST(a_worker_whose_messages_are_lost_during_a_checkpoint_hangs_nobody) {
    const char *culprit;
    begin_save();
    wait_for(5, WEIR_WAIT_BARRIER, 3); /* for worker 0, which is heard and writes */
    ranks[4].stopped = true;
    ck_assert(!pass(3.0 * LIMIT, &culprit));
}
END_TEST

START_TEST(what_a_rank_cannot_wait_for_is_no_wait) {
    const char *culprit;
    stand_still_for_worker_1();
    ranks[4].wait = (weir_wait_kind_t)99;
    ranks[4].wait_rank = 77;
    wait_for(5, WEIR_WAIT_BARRIER, 4000000000u);
    ck_assert(pass(LIMIT + 5.0, &culprit));
    ck_assert_ptr_nonnull(strstr(culprit, "worker 1 (rank 4"));
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("coordinator_hang");
    TCase *t = tcase_create("coordinator_hang");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, who_computes_for_ever_is_named_and_not_who_waits);
    tcase_add_test(t, who_is_silent_is_named_whatever_it_waited_for_before);
    tcase_add_test(t, a_server_that_handles_one_frame_for_ever_is_named);
    tcase_add_test(t, those_that_wait_for_each_other_are_told_so);
    tcase_add_test(t, any_progress_of_the_workers_is_no_hang);
    tcase_add_test(t, a_worker_whose_messages_are_lost_hangs_nobody);
    tcase_add_test(t, a_coordinator_that_hears_nobody_blames_nobody);
    tcase_add_test(t, a_start_and_a_checkpoint_have_limits_of_their_own);
    tcase_add_test(t, who_is_silent_while_a_checkpoint_needs_it_is_named);
    tcase_add_test(t, who_is_silent_while_others_wait_for_it_after_a_checkpoint_is_named);
    tcase_add_test(t, a_worker_whose_messages_are_lost_during_a_checkpoint_hangs_nobody);
    tcase_add_test(t, what_a_rank_cannot_wait_for_is_no_wait);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
