/* The coordinator and its job: the end, the status, and who is believed. */
#include "tests/suite.h"
#include "tests/unit/coordinator_cases.h"

#include <string.h>

START_TEST(a_stop_that_was_lost_with_its_connection_is_said_again_until_the_end) {
    const envelope_t *stop = NULL;
    case_join_all();
    case_stop_as("ctl-1", 0, false, false, "");
    case_forget_sent(); /* as if it had not arrived */
    weir_coordinator_tick(world.coordinator, world.now + 1.0);
    ck_assert_uint_eq(case_count_sent("rank-3", STOP, &stop), 1);
    ck_assert(!stop->stop->save);
    ck_assert(!stop->stop->done);
    case_stop_as("rank-3", JOB, false, true, "stopped");
    case_forget_sent();
    weir_coordinator_tick(world.coordinator, world.now + 2.0);
    ck_assert_uint_eq(case_count_sent("rank-3", STOP, &stop), 1);
    ck_assert(stop->stop->done);
}
END_TEST

START_TEST(too_many_waiting_ctl_are_told_so) {
    char who[32];
    const envelope_t *reply = NULL;
    case_join_all();
    for (int i = 0; i < 17; i++) {
        (void)snprintf(who, sizeof who, "ctl-%d", i);
        case_request_as(who, 0, 0, false, false);
    }
    ck_assert_uint_eq(case_count_sent("ctl-15", REPLY, NULL), 0);
    ck_assert_uint_eq(case_count_sent("ctl-16", REPLY, &reply), 1);
    ck_assert(!reply->reply->ok);
}
END_TEST

START_TEST(a_signal_asks_worker_0_once_to_save_and_stop) {
    const envelope_t *stop = NULL;
    case_join_all();
    weir_coordinator_ask_stop(world.coordinator);
    weir_coordinator_ask_stop(world.coordinator);
    ck_assert_uint_eq(case_count_sent("rank-3", STOP, &stop), 1);
    ck_assert(stop->stop->save);
    ck_assert_uint_eq(case_count_sent("rank-4", STOP, NULL), 0);
}
END_TEST

START_TEST(the_job_is_done_when_every_rank_has_answered_its_end) {
    const char *reason = NULL;
    const envelope_t *stop = NULL;
    case_join_all();
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        case_beat(rank, 5, WEIR__CONTROL__PHASE__PHASE_DONE); /* before the end it means nothing */
    }
    case_stop_as("rank-3", JOB, false, true, "finished");
    ck_assert(!weir_coordinator_is_done(world.coordinator, &reason));
    ck_assert_uint_eq(case_count_sent("rank-1", STOP, &stop), 1);
    ck_assert(stop->stop->done);
    ck_assert_str_eq(stop->stop->reason, "finished");
    for (uint32_t rank = 1; rank < LEAD; rank++) {
        case_beat(rank, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    }
    case_forget_sent();
    world.now += 1.0;
    weir_coordinator_tick(world.coordinator, world.now);
    ck_assert_uint_eq(case_count_sent("rank-1", STOP, NULL), 0);
    ck_assert_uint_eq(case_count_sent("rank-4", STOP, NULL), 1); /* said again */
    case_beat(LEAD, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    ck_assert(!weir_coordinator_is_done(world.coordinator, &reason));
    case_beat(4, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    ck_assert(weir_coordinator_is_done(world.coordinator, &reason));
    ck_assert_str_eq(reason, "finished");
}
END_TEST

START_TEST(a_rank_that_joins_after_the_end_is_told_and_one_that_never_answers_is_given_up) {
    const char *reason = NULL;
    case_join(1);
    case_join(LEAD);
    case_join(4);
    case_stop_as("rank-3", JOB, false, true, "stopped");
    case_forget_sent();
    case_join(2);
    ck_assert_uint_eq(case_count_sent("rank-2", STOP, NULL), 1);
    case_beat(1, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    case_beat(LEAD, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    case_beat(4, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    weir_coordinator_tick(world.coordinator, world.now + 4.0);
    ck_assert(!weir_coordinator_is_done(world.coordinator, &reason));
    weir_coordinator_tick(world.coordinator, world.now + 6.0);
    ck_assert(weir_coordinator_is_done(world.coordinator, &reason));
}
END_TEST

START_TEST(a_ctl_that_waits_when_the_job_ends_is_told) {
    const envelope_t *reply = NULL;
    case_join_all();
    case_request_as("ctl-1", 0, 0, false, false);
    case_stop_as("rank-3", JOB, false, true, "finished");
    ck_assert_uint_eq(case_count_sent("ctl-1", REPLY, &reply), 1);
    ck_assert(!reply->reply->ok);
    case_request_as("ctl-2", 0, 0, false, false);
    ck_assert_uint_eq(case_count_sent("ctl-2", REPLY, &reply), 1);
    ck_assert(!reply->reply->ok);
}
END_TEST

START_TEST(the_status_names_every_rank_its_step_and_what_it_does) {
    Weir__Control__StatusRequest body = WEIR__CONTROL__STATUS_REQUEST__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    const envelope_t *answer = NULL;
    case_join_all();
    case_beat(1, 29, WEIR__CONTROL__PHASE__PHASE_TRAINING);
    case_beat(LEAD, 30, WEIR__CONTROL__PHASE__PHASE_EVALUATING);
    world.now += 3.0;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STATUS_REQUEST;
    envelope.status_request = &body;
    case_say_as("ctl-1", 0, &envelope);
    ck_assert_uint_eq(case_count_sent("ctl-1", STATUS, &answer), 1);
    const Weir__Control__Status *status = answer->status;
    ck_assert_uint_eq(status->step, 30);
    ck_assert_int_eq(status->phase, WEIR__CONTROL__PHASE__PHASE_EVALUATING);
    ck_assert_double_eq(status->loss, 2.5);
    ck_assert_uint_eq(status->n_ranks, RANKS - 1);
    ck_assert_str_eq(status->ranks[0]->role, "ps");
    ck_assert_uint_eq(status->ranks[0]->step, 29);
    ck_assert_str_eq(status->ranks[3]->role, "worker");
    ck_assert_uint_eq(status->ranks[3]->index, 1);
    ck_assert_uint_eq(status->ranks[3]->pid, 104);
    ck_assert(status->ranks[0]->age_seconds > 2.5 && status->ranks[0]->age_seconds < 3.5);
}
END_TEST

START_TEST(a_rank_is_believed_only_about_itself_and_only_in_its_job) {
    const char *reason = NULL;
    case_join_all();
    ck_assert_uint_eq(case_refused(), 0);
    case_request_as("rank-4", JOB, 5, false, false); /* worker 1 asks for no checkpoints */
    case_request_as("rank-1", JOB, 5, false, false);
    case_request_as("rank-3", JOB + 1, 5, false, false); /* another job */
    case_request_as("rank-3", 0, 5, false, false);       /* a rank as a ctl */
    case_request_as("rank-0", JOB, 5, false, false);
    case_request_as("rank-5", JOB, 5, false, false);
    case_request_as("rank-03", JOB, 5, false, false);
    case_request_as("rank-3x", JOB, 5, false, false);
    case_request_as("rank-4294967299", JOB, 5, false, false);
    case_request_as("", JOB, 5, false, false);
    ck_assert_uint_eq(world.begun, 0);
    case_stop_as("rank-1", JOB, false, true, "finished");
    case_stop_as("ctl-1", JOB, false, true, "finished"); /* a ctl that knows the job is no rank */
    ck_assert(!weir_coordinator_is_done(world.coordinator, &reason));
    ck_assert_uint_eq(case_refused(), 12);
    Weir__Control__Heartbeat body = WEIR__CONTROL__HEARTBEAT__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    body.rank = 2;
    body.step = 1000;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &body;
    case_say(4, &envelope); /* a heartbeat in another's name */
    ck_assert_uint_eq(case_refused(), 13);
    ck_assert_uint_eq(weir_coordinator_counters(world.coordinator).step, 0);
}
END_TEST

START_TEST(garbage_is_counted_and_changes_nothing) {
    uint8_t noise[300];
    weir_identity_t from = case_identity("rank-3"), long_name = {.size = WEIR_IDENTITY_MAX + 1};
    case_join_all();
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (uint8_t)(i * 37 + 11);
    }
    weir_coordinator_receive(world.coordinator, &from, noise, sizeof noise, world.now);
    weir_coordinator_receive(world.coordinator, &from, noise, 0, world.now);
    weir_coordinator_receive(world.coordinator, &long_name, noise, sizeof noise, world.now);
    ck_assert_uint_eq(case_refused(), 3);
    case_request(7, false);
    case_report(1, 7, NULL);
    case_report(2, 7, NULL);
    case_report(LEAD, 7, NULL);
    ck_assert_uint_eq(world.published, 1);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("coordinator");
    TCase *t = tcase_create("coordinator");
    tcase_add_checked_fixture(t, coordinator_case_set_up, coordinator_case_tear_down);
    tcase_add_test(t, a_stop_that_was_lost_with_its_connection_is_said_again_until_the_end);
    tcase_add_test(t, too_many_waiting_ctl_are_told_so);
    tcase_add_test(t, a_signal_asks_worker_0_once_to_save_and_stop);
    tcase_add_test(t, the_job_is_done_when_every_rank_has_answered_its_end);
    tcase_add_test(t,
                   a_rank_that_joins_after_the_end_is_told_and_one_that_never_answers_is_given_up);
    tcase_add_test(t, a_ctl_that_waits_when_the_job_ends_is_told);
    tcase_add_test(t, the_status_names_every_rank_its_step_and_what_it_does);
    tcase_add_test(t, a_rank_is_believed_only_about_itself_and_only_in_its_job);
    tcase_add_test(t, garbage_is_counted_and_changes_nothing);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
