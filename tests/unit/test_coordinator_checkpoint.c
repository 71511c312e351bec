/* Checkpoints as the coordinator leads them. */
#include "tests/suite.h"
#include "tests/unit/coordinator_cases.h"

#include <string.h>

START_TEST(a_checkpoint_is_published_when_all_servers_and_worker_0_have_reported) {
    const envelope_t *done = NULL;
    case_join_all();
    case_request(40, true);
    ck_assert_uint_eq(world.begun, 1);
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        char who[32];
        (void)snprintf(who, sizeof who, "rank-%u", rank);
        ck_assert_uint_eq(case_count_sent(who, BEGIN, NULL), rank <= LEAD ? 1 : 0);
    }
    case_report(LEAD, 40, NULL);
    case_report(1, 40, NULL);
    ck_assert_uint_eq(world.published, 0);
    case_report(2, 40, NULL);
    ck_assert_uint_eq(world.published, 1);
    ck_assert_uint_eq(world.published_step, 40);
    ck_assert_uint_eq(world.published_files, 3);
    ck_assert_str_eq(world.first_file, "file-1");
    ck_assert_str_eq(world.metrics, "{\"mrr\": 0.5}");
    ck_assert(world.best);
    ck_assert_uint_eq(case_count_sent("rank-3", DONE, &done), 1);
    ck_assert_str_eq(done->checkpoint_done->error, "");
    ck_assert_uint_eq(case_count_sent("rank-4", DONE, NULL), 1);
    ck_assert_uint_eq(weir_coordinator_counters(world.coordinator).last_checkpoint, 40);
    ck_assert_uint_eq(world.abandoned, 0);
}
END_TEST

START_TEST(a_report_counts_once_and_only_for_its_step) {
    case_join_all();
    case_request(40, false);
    case_report(1, 40, NULL);
    case_report(1, 40, NULL);
    case_report(2, 39, NULL);
    case_report(4, 40, NULL); /* worker 1 writes nothing */
    case_report(LEAD, 40, NULL);
    ck_assert_uint_eq(world.published, 0);
    ck_assert_uint_eq(case_refused(), 3);
    case_report(2, 40, NULL);
    ck_assert_uint_eq(world.published, 1);
    ck_assert_uint_eq(world.published_files, 3);
}
END_TEST

START_TEST(a_failed_rank_fails_the_checkpoint_and_all_are_told_why) {
    const envelope_t *done = NULL;
    case_join_all();
    case_request(8, false);
    case_report(1, 8, NULL);
    case_report(2, 8, "no space left");
    ck_assert_uint_eq(world.abandoned, 1);
    ck_assert_uint_eq(world.published, 0);
    ck_assert_uint_eq(case_count_sent("rank-3", DONE, &done), 1);
    ck_assert_ptr_nonnull(strstr(done->checkpoint_done->error, "no space left"));
    ck_assert_str_eq(done->checkpoint_done->kind, "disk_full");
    ck_assert_ptr_nonnull(strstr(done->checkpoint_done->error, "rank 2 (ps 1 on node)"));
    case_forget_sent();
    case_request(9, false); /* the next one starts clean */
    case_report(1, 9, NULL);
    case_report(2, 9, NULL);
    case_report(LEAD, 9, NULL);
    ck_assert_uint_eq(world.published, 1);
    ck_assert_uint_eq(world.published_files, 3);
}
END_TEST

START_TEST(a_checkpoint_that_cannot_begin_or_be_published_is_told) {
    const envelope_t *done = NULL;
    case_join_all();
    world.begin_fails = true;
    case_request(8, false);
    ck_assert_uint_eq(case_count_sent("rank-3", DONE, &done), 1);
    ck_assert_str_eq(done->checkpoint_done->error, "no room");
    ck_assert_str_eq(done->checkpoint_done->kind, "disk_full");
    ck_assert_uint_eq(case_count_sent("rank-1", BEGIN, NULL), 0);
    case_forget_sent();
    world.begin_fails = false;
    world.publish_fails = true;
    case_request(9, false);
    case_report(1, 9, NULL);
    case_report(2, 9, NULL);
    case_report(LEAD, 9, NULL);
    ck_assert_uint_eq(case_count_sent("rank-3", DONE, &done), 1);
    ck_assert_str_eq(done->checkpoint_done->error, "cannot rename");
    ck_assert_str_eq(done->checkpoint_done->kind, "io");
    ck_assert_uint_eq(weir_coordinator_counters(world.coordinator).last_checkpoint, 0);
}
END_TEST

START_TEST(a_checkpoint_that_takes_too_long_fails_and_names_who_is_missing) {
    const envelope_t *done = NULL;
    case_join_all();
    case_request(8, false);
    case_report(1, 8, NULL);
    world.now += 59.0;
    weir_coordinator_tick(world.coordinator, world.now);
    ck_assert_uint_eq(case_count_sent("rank-3", DONE, NULL), 0);
    world.now += 2.0;
    weir_coordinator_tick(world.coordinator, world.now);
    ck_assert_uint_eq(case_count_sent("rank-3", DONE, &done), 1);
    ck_assert_ptr_nonnull(strstr(done->checkpoint_done->error, "rank 2 (ps 1 on node)"));
    ck_assert_uint_eq(world.abandoned, 1);
    case_report(2, 8, NULL); /* late: nobody waits for it */
    ck_assert_uint_eq(world.published, 0);
}
END_TEST

START_TEST(a_rank_that_joins_late_is_told_of_the_checkpoint_under_way) {
    case_join(1);
    case_join(LEAD);
    case_request(8, false);
    ck_assert_uint_eq(case_count_sent("rank-2", BEGIN, NULL), 0);
    case_join(2);
    ck_assert_uint_eq(case_count_sent("rank-2", BEGIN, NULL), 1);
    ck_assert_uint_eq(case_count_sent("rank-1", BEGIN, NULL), 1);
    case_join(4);
    ck_assert_uint_eq(case_count_sent("rank-4", BEGIN, NULL), 0);
}
END_TEST

START_TEST(a_ctl_that_asks_for_a_checkpoint_is_answered_when_it_is_published) {
    const envelope_t *reply = NULL;
    case_join_all();
    case_request_as("ctl-1", 0, 0, false, false);
    ck_assert_uint_eq(case_count_sent("rank-3", REQUEST, NULL), 1);
    ck_assert_uint_eq(case_count_sent("ctl-1", REPLY, NULL), 0);
    case_request(12, false);
    case_report(1, 12, NULL);
    case_report(2, 12, NULL);
    case_report(LEAD, 12, NULL);
    ck_assert_uint_eq(case_count_sent("ctl-1", REPLY, &reply), 1);
    ck_assert(reply->reply->ok);
    ck_assert_ptr_nonnull(strstr(reply->reply->message, "step 12"));
}
END_TEST

START_TEST(a_ctl_that_does_not_wait_is_answered_at_once) {
    const envelope_t *reply = NULL;
    case_join_all();
    case_request_as("ctl-1", 0, 0, false, true);
    ck_assert_uint_eq(case_count_sent("ctl-1", REPLY, &reply), 1);
    ck_assert(reply->reply->ok);
    ck_assert_uint_eq(case_count_sent("rank-3", REQUEST, NULL), 1);
}
END_TEST

START_TEST(wishes_made_before_worker_0_joined_wait_for_it) {
    const envelope_t *stop = NULL;
    case_request_as("ctl-1", 0, 0, false, false);
    case_stop_as("ctl-2", 0, false, false, "");
    ck_assert_uint_eq(case_count_sent("rank-3", REQUEST, NULL), 0);
    ck_assert_uint_eq(case_count_sent("rank-3", STOP, NULL), 0);
    case_join(LEAD);
    ck_assert_uint_eq(case_count_sent("rank-3", REQUEST, NULL), 1);
    ck_assert_uint_eq(case_count_sent("rank-3", STOP, &stop), 1);
    ck_assert(!stop->stop->save);
    ck_assert(!stop->stop->done);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("coordinator_checkpoint");
    TCase *t = tcase_create("coordinator_checkpoint");
    tcase_add_checked_fixture(t, coordinator_case_set_up, coordinator_case_tear_down);
    tcase_add_test(t, a_checkpoint_is_published_when_all_servers_and_worker_0_have_reported);
    tcase_add_test(t, a_report_counts_once_and_only_for_its_step);
    tcase_add_test(t, a_failed_rank_fails_the_checkpoint_and_all_are_told_why);
    tcase_add_test(t, a_checkpoint_that_cannot_begin_or_be_published_is_told);
    tcase_add_test(t, a_checkpoint_that_takes_too_long_fails_and_names_who_is_missing);
    tcase_add_test(t, a_rank_that_joins_late_is_told_of_the_checkpoint_under_way);
    tcase_add_test(t, a_ctl_that_asks_for_a_checkpoint_is_answered_when_it_is_published);
    tcase_add_test(t, a_ctl_that_does_not_wait_is_answered_at_once);
    tcase_add_test(t, wishes_made_before_worker_0_joined_wait_for_it);
    suite_add_tcase(s, t);
    return s;
}

WEIR_TEST_MAIN(suite())
