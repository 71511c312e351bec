#include "coordinator/coordinator.h"
#include "proto/control_client.h"
#include "proto/envelope.h"
#include "tests/suite.h"

#include <string.h>

typedef Weir__Control__Envelope envelope_t;

enum { JOB = 77, PS = 2, WORKERS = 2, LEAD = 1 + PS, RANKS = 1 + PS + WORKERS, MAX_SENT = 256 };

/* What the coordinator sent, in order. */
typedef struct {
    weir_identity_t to;
    envelope_t *envelope;
} sent_t;

typedef struct {
    weir_coordinator_t *coordinator;
    sent_t sent[MAX_SENT];
    size_t count;
    size_t begun, published, abandoned;
    bool begin_fails, publish_fails, best;
    uint64_t published_step;
    size_t published_files;
    char first_file[WEIR_CHECKPOINT_NAME_MAX], metrics[64];
    double now;
} world_t;

static world_t world;

/* ---- a process without sockets and disks ---- */

static void keep_sent(void *argument, const weir_identity_t *to, const void *bytes, size_t size) {
    (void)argument;
    ck_assert_uint_lt(world.count, MAX_SENT);
    sent_t *sent = &world.sent[world.count++];
    sent->to = *to;
    ck_assert_int_eq(weir_envelope_unpack(bytes, size, &sent->envelope, NULL), WEIR_OK);
}

static weir_err_t begin(void *argument, uint64_t step, char *folder, size_t capacity,
                        weir_error_t *error) {
    (void)argument;
    world.begun++;
    if (world.begin_fails) {
        return weir_errorf(error, WEIR_ERR_DISK_FULL, "no room");
    }
    (void)snprintf(folder, capacity, "step-%llu.tmp", (unsigned long long)step);
    return WEIR_OK;
}

static weir_err_t publish(void *argument, const weir_manifest_t *manifest, bool best,
                          weir_error_t *error) {
    (void)argument;
    if (world.publish_fails) {
        return weir_errorf(error, WEIR_ERR_IO, "cannot rename");
    }
    world.published++;
    world.published_step = manifest->step;
    world.published_files = manifest->file_count;
    world.best = best;
    (void)snprintf(world.first_file, sizeof world.first_file, "%s", manifest->files[0].name);
    (void)snprintf(world.metrics, sizeof world.metrics, "%s",
                   manifest->metrics_json != NULL ? manifest->metrics_json : "");
    ck_assert_str_eq(manifest->config_yaml, "model: {}\n");
    ck_assert_uint_eq(manifest->ps, PS);
    return WEIR_OK;
}

static void abandon(void *argument, const char *folder) {
    (void)argument;
    (void)folder;
    world.abandoned++;
}

static void set_up(void) {
    static const weir_coordinator_operations_t operations = {
        .send = keep_sent, .begin = begin, .publish = publish, .abandon = abandon};
    weir_coordinator_options_t options = {.job = JOB,
                                          .ps = PS,
                                          .workers = WORKERS,
                                          .config_yaml = "model: {}\n",
                                          .silence_seconds = 10.0,
                                          .checkpoint_seconds = 60.0,
                                          .leave_seconds = 5.0};
    world = (world_t){.now = 1000.0};
    ck_assert_int_eq(
        weir_coordinator_create(&options, &operations, world.now, &world.coordinator, NULL),
        WEIR_OK);
}

static void forget_sent(void) {
    for (size_t i = 0; i < world.count; i++) {
        weir_envelope_free(world.sent[i].envelope);
    }
    world.count = 0;
}

static void tear_down(void) {
    forget_sent();
    weir_coordinator_destroy(world.coordinator);
}

/* ---- ranks and ctl without processes ---- */

static weir_identity_t identity(const char *text) {
    weir_identity_t made = {.size = strlen(text)};
    memcpy(made.bytes, text, made.size);
    return made;
}

static void say_as(const char *who, uint64_t job, envelope_t *envelope) {
    weir_packed_t packed;
    weir_identity_t from = identity(who);
    envelope->job = job;
    ck_assert_int_eq(weir_envelope_pack(envelope, &packed, NULL), WEIR_OK);
    weir_coordinator_receive(world.coordinator, &from, packed.bytes, packed.size, world.now);
    free(packed.bytes);
}

static void say(uint32_t rank, envelope_t *envelope) {
    char who[32];
    (void)snprintf(who, sizeof who, "rank-%u", rank);
    say_as(who, JOB, envelope);
}

static void join(uint32_t rank) {
    char ps[] = "ps", worker[] = "worker", host[] = "node", version[] = "0";
    Weir__Control__Join body = WEIR__CONTROL__JOIN__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    body.rank = rank;
    body.role = rank <= PS ? ps : worker;
    body.index = rank <= PS ? rank - 1 : rank - LEAD;
    body.host = host;
    body.version = version;
    body.pid = 100 + rank;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_JOIN;
    envelope.join = &body;
    say(rank, &envelope);
}

static void join_all(void) {
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        join(rank);
    }
}

static void beat(uint32_t rank, uint64_t step, Weir__Control__Phase phase) {
    Weir__Control__Heartbeat body = WEIR__CONTROL__HEARTBEAT__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    body.rank = rank;
    body.step = step;
    body.phase = phase;
    body.loss = 2.5;
    body.tokens_per_second = rank == LEAD ? 1000.0 : 0.0;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &body;
    say(rank, &envelope);
}

static void request_as(const char *who, uint64_t job, uint64_t step, bool best, bool no_wait) {
    char metrics[] = "{\"mrr\": 0.5}";
    Weir__Control__CheckpointRequest body = WEIR__CONTROL__CHECKPOINT_REQUEST__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    body.step = step;
    body.epoch = 3;
    body.best = best;
    body.no_wait = no_wait;
    if (job != 0) {
        body.metrics_json = metrics;
    }
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST;
    envelope.checkpoint_request = &body;
    say_as(who, job, &envelope);
}

static void request(uint64_t step, bool best) {
    request_as("rank-3", JOB, step, best, false);
}

static void report(uint32_t rank, uint64_t step, const char *failure) {
    char name[32], reason[64], kind[] = "disk_full";
    Weir__Control__CheckpointFile file = WEIR__CONTROL__CHECKPOINT_FILE__INIT, *files[] = {&file};
    Weir__Control__CheckpointDone body = WEIR__CONTROL__CHECKPOINT_DONE__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(name, sizeof name, "file-%u", rank);
    (void)snprintf(reason, sizeof reason, "%s", failure != NULL ? failure : "");
    file.name = name;
    file.size = 10;
    body.rank = rank;
    body.step = step;
    body.n_files = failure == NULL ? 1 : 0;
    body.files = files;
    body.error = reason;
    body.kind = failure != NULL ? kind : body.kind;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE;
    envelope.checkpoint_done = &body;
    say(rank, &envelope);
}

static void stop_as(const char *who, uint64_t job, bool save, bool done, const char *why) {
    char reason[32];
    Weir__Control__Stop body = WEIR__CONTROL__STOP__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(reason, sizeof reason, "%s", why);
    body.save = save;
    body.done = done;
    body.reason = reason;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STOP;
    envelope.stop = &body;
    say_as(who, job, &envelope);
}

/* How many messages of a kind went to a peer since the last forget; the last of them. */
static size_t count_sent(const char *who, int body_case, const envelope_t **last) {
    weir_identity_t to = identity(who);
    size_t found = 0;
    for (size_t i = 0; i < world.count; i++) {
        const sent_t *sent = &world.sent[i];
        if (sent->to.size == to.size && memcmp(sent->to.bytes, to.bytes, to.size) == 0 &&
            (int)sent->envelope->body_case == body_case) {
            found++;
            if (last != NULL) {
                *last = sent->envelope;
            }
        }
    }
    return found;
}

enum {
    BEGIN = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_BEGIN,
    DONE = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE,
    REQUEST = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST,
    STATUS = WEIR__CONTROL__ENVELOPE__BODY_STATUS,
    STOP = WEIR__CONTROL__ENVELOPE__BODY_STOP,
    REPLY = WEIR__CONTROL__ENVELOPE__BODY_REPLY
};

static uint64_t refused(void) {
    return weir_coordinator_counters(world.coordinator).refused_messages;
}

/* ---- tests ---- */

START_TEST(a_checkpoint_is_published_when_all_servers_and_worker_0_have_reported) {
    const envelope_t *done = NULL;
    join_all();
    request(40, true);
    ck_assert_uint_eq(world.begun, 1);
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        char who[32];
        (void)snprintf(who, sizeof who, "rank-%u", rank);
        ck_assert_uint_eq(count_sent(who, BEGIN, NULL), rank <= LEAD ? 1 : 0);
    }
    report(LEAD, 40, NULL);
    report(1, 40, NULL);
    ck_assert_uint_eq(world.published, 0);
    report(2, 40, NULL);
    ck_assert_uint_eq(world.published, 1);
    ck_assert_uint_eq(world.published_step, 40);
    ck_assert_uint_eq(world.published_files, 3);
    ck_assert_str_eq(world.first_file, "file-1");
    ck_assert_str_eq(world.metrics, "{\"mrr\": 0.5}");
    ck_assert(world.best);
    ck_assert_uint_eq(count_sent("rank-3", DONE, &done), 1);
    ck_assert_str_eq(done->checkpoint_done->error, "");
    ck_assert_uint_eq(count_sent("rank-4", DONE, NULL), 1);
    ck_assert_uint_eq(weir_coordinator_counters(world.coordinator).last_checkpoint, 40);
    ck_assert_uint_eq(world.abandoned, 0);
}
END_TEST

START_TEST(a_report_counts_once_and_only_for_its_step) {
    join_all();
    request(40, false);
    report(1, 40, NULL);
    report(1, 40, NULL);
    report(2, 39, NULL);
    report(4, 40, NULL); /* worker 1 writes nothing */
    report(LEAD, 40, NULL);
    ck_assert_uint_eq(world.published, 0);
    ck_assert_uint_eq(refused(), 3);
    report(2, 40, NULL);
    ck_assert_uint_eq(world.published, 1);
    ck_assert_uint_eq(world.published_files, 3);
}
END_TEST

START_TEST(a_failed_rank_fails_the_checkpoint_and_all_are_told_why) {
    const envelope_t *done = NULL;
    join_all();
    request(8, false);
    report(1, 8, NULL);
    report(2, 8, "no space left");
    ck_assert_uint_eq(world.abandoned, 1);
    ck_assert_uint_eq(world.published, 0);
    ck_assert_uint_eq(count_sent("rank-3", DONE, &done), 1);
    ck_assert_ptr_nonnull(strstr(done->checkpoint_done->error, "no space left"));
    ck_assert_str_eq(done->checkpoint_done->kind, "disk_full");
    ck_assert_ptr_nonnull(strstr(done->checkpoint_done->error, "rank 2 (ps 1 on node)"));
    forget_sent();
    request(9, false); /* the next one starts clean */
    report(1, 9, NULL);
    report(2, 9, NULL);
    report(LEAD, 9, NULL);
    ck_assert_uint_eq(world.published, 1);
    ck_assert_uint_eq(world.published_files, 3);
}
END_TEST

START_TEST(a_checkpoint_that_cannot_begin_or_be_published_is_told) {
    const envelope_t *done = NULL;
    join_all();
    world.begin_fails = true;
    request(8, false);
    ck_assert_uint_eq(count_sent("rank-3", DONE, &done), 1);
    ck_assert_str_eq(done->checkpoint_done->error, "no room");
    ck_assert_str_eq(done->checkpoint_done->kind, "disk_full");
    ck_assert_uint_eq(count_sent("rank-1", BEGIN, NULL), 0);
    forget_sent();
    world.begin_fails = false;
    world.publish_fails = true;
    request(9, false);
    report(1, 9, NULL);
    report(2, 9, NULL);
    report(LEAD, 9, NULL);
    ck_assert_uint_eq(count_sent("rank-3", DONE, &done), 1);
    ck_assert_str_eq(done->checkpoint_done->error, "cannot rename");
    ck_assert_str_eq(done->checkpoint_done->kind, "io");
    ck_assert_uint_eq(weir_coordinator_counters(world.coordinator).last_checkpoint, 0);
}
END_TEST

START_TEST(a_checkpoint_that_takes_too_long_fails_and_names_who_is_missing) {
    const envelope_t *done = NULL;
    join_all();
    request(8, false);
    report(1, 8, NULL);
    world.now += 59.0;
    weir_coordinator_tick(world.coordinator, world.now);
    ck_assert_uint_eq(count_sent("rank-3", DONE, NULL), 0);
    world.now += 2.0;
    weir_coordinator_tick(world.coordinator, world.now);
    ck_assert_uint_eq(count_sent("rank-3", DONE, &done), 1);
    ck_assert_ptr_nonnull(strstr(done->checkpoint_done->error, "rank 2 (ps 1 on node)"));
    ck_assert_uint_eq(world.abandoned, 1);
    report(2, 8, NULL); /* late: nobody waits for it */
    ck_assert_uint_eq(world.published, 0);
}
END_TEST

START_TEST(a_rank_that_joins_late_is_told_of_the_checkpoint_under_way) {
    join(1);
    join(LEAD);
    request(8, false);
    ck_assert_uint_eq(count_sent("rank-2", BEGIN, NULL), 0);
    join(2);
    ck_assert_uint_eq(count_sent("rank-2", BEGIN, NULL), 1);
    ck_assert_uint_eq(count_sent("rank-1", BEGIN, NULL), 1);
    join(4);
    ck_assert_uint_eq(count_sent("rank-4", BEGIN, NULL), 0);
}
END_TEST

START_TEST(a_ctl_that_asks_for_a_checkpoint_is_answered_when_it_is_published) {
    const envelope_t *reply = NULL;
    join_all();
    request_as("ctl-1", 0, 0, false, false);
    ck_assert_uint_eq(count_sent("rank-3", REQUEST, NULL), 1);
    ck_assert_uint_eq(count_sent("ctl-1", REPLY, NULL), 0);
    request(12, false);
    report(1, 12, NULL);
    report(2, 12, NULL);
    report(LEAD, 12, NULL);
    ck_assert_uint_eq(count_sent("ctl-1", REPLY, &reply), 1);
    ck_assert(reply->reply->ok);
    ck_assert_ptr_nonnull(strstr(reply->reply->message, "step 12"));
}
END_TEST

START_TEST(a_ctl_that_does_not_wait_is_answered_at_once) {
    const envelope_t *reply = NULL;
    join_all();
    request_as("ctl-1", 0, 0, false, true);
    ck_assert_uint_eq(count_sent("ctl-1", REPLY, &reply), 1);
    ck_assert(reply->reply->ok);
    ck_assert_uint_eq(count_sent("rank-3", REQUEST, NULL), 1);
}
END_TEST

START_TEST(wishes_made_before_worker_0_joined_wait_for_it) {
    const envelope_t *stop = NULL;
    request_as("ctl-1", 0, 0, false, false);
    stop_as("ctl-2", 0, false, false, "");
    ck_assert_uint_eq(count_sent("rank-3", REQUEST, NULL), 0);
    ck_assert_uint_eq(count_sent("rank-3", STOP, NULL), 0);
    join(LEAD);
    ck_assert_uint_eq(count_sent("rank-3", REQUEST, NULL), 1);
    ck_assert_uint_eq(count_sent("rank-3", STOP, &stop), 1);
    ck_assert(!stop->stop->save);
    ck_assert(!stop->stop->done);
}
END_TEST

START_TEST(a_stop_that_was_lost_with_its_connection_is_said_again_until_the_end) {
    const envelope_t *stop = NULL;
    join_all();
    stop_as("ctl-1", 0, false, false, "");
    forget_sent(); /* as if it had not arrived */
    weir_coordinator_tick(world.coordinator, world.now + 1.0);
    ck_assert_uint_eq(count_sent("rank-3", STOP, &stop), 1);
    ck_assert(!stop->stop->save);
    ck_assert(!stop->stop->done);
    stop_as("rank-3", JOB, false, true, "stopped");
    forget_sent();
    weir_coordinator_tick(world.coordinator, world.now + 2.0);
    ck_assert_uint_eq(count_sent("rank-3", STOP, &stop), 1);
    ck_assert(stop->stop->done);
}
END_TEST

START_TEST(too_many_waiting_ctl_are_told_so) {
    char who[32];
    const envelope_t *reply = NULL;
    join_all();
    for (int i = 0; i < 17; i++) {
        (void)snprintf(who, sizeof who, "ctl-%d", i);
        request_as(who, 0, 0, false, false);
    }
    ck_assert_uint_eq(count_sent("ctl-15", REPLY, NULL), 0);
    ck_assert_uint_eq(count_sent("ctl-16", REPLY, &reply), 1);
    ck_assert(!reply->reply->ok);
}
END_TEST

START_TEST(a_signal_asks_worker_0_once_to_save_and_stop) {
    const envelope_t *stop = NULL;
    join_all();
    weir_coordinator_ask_stop(world.coordinator);
    weir_coordinator_ask_stop(world.coordinator);
    ck_assert_uint_eq(count_sent("rank-3", STOP, &stop), 1);
    ck_assert(stop->stop->save);
    ck_assert_uint_eq(count_sent("rank-4", STOP, NULL), 0);
}
END_TEST

START_TEST(the_job_is_done_when_every_rank_has_answered_its_end) {
    const char *reason = NULL;
    const envelope_t *stop = NULL;
    join_all();
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        beat(rank, 5, WEIR__CONTROL__PHASE__PHASE_DONE); /* before the end it means nothing */
    }
    stop_as("rank-3", JOB, false, true, "finished");
    ck_assert(!weir_coordinator_is_done(world.coordinator, &reason));
    ck_assert_uint_eq(count_sent("rank-1", STOP, &stop), 1);
    ck_assert(stop->stop->done);
    ck_assert_str_eq(stop->stop->reason, "finished");
    for (uint32_t rank = 1; rank < LEAD; rank++) {
        beat(rank, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    }
    forget_sent();
    world.now += 1.0;
    weir_coordinator_tick(world.coordinator, world.now);
    ck_assert_uint_eq(count_sent("rank-1", STOP, NULL), 0);
    ck_assert_uint_eq(count_sent("rank-4", STOP, NULL), 1); /* said again */
    beat(LEAD, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    ck_assert(!weir_coordinator_is_done(world.coordinator, &reason));
    beat(4, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    ck_assert(weir_coordinator_is_done(world.coordinator, &reason));
    ck_assert_str_eq(reason, "finished");
}
END_TEST

START_TEST(a_rank_that_joins_after_the_end_is_told_and_one_that_never_answers_is_given_up) {
    const char *reason = NULL;
    join(1);
    join(LEAD);
    join(4);
    stop_as("rank-3", JOB, false, true, "stopped");
    forget_sent();
    join(2);
    ck_assert_uint_eq(count_sent("rank-2", STOP, NULL), 1);
    beat(1, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    beat(LEAD, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    beat(4, 5, WEIR__CONTROL__PHASE__PHASE_DONE);
    weir_coordinator_tick(world.coordinator, world.now + 4.0);
    ck_assert(!weir_coordinator_is_done(world.coordinator, &reason));
    weir_coordinator_tick(world.coordinator, world.now + 6.0);
    ck_assert(weir_coordinator_is_done(world.coordinator, &reason));
}
END_TEST

START_TEST(a_ctl_that_waits_when_the_job_ends_is_told) {
    const envelope_t *reply = NULL;
    join_all();
    request_as("ctl-1", 0, 0, false, false);
    stop_as("rank-3", JOB, false, true, "finished");
    ck_assert_uint_eq(count_sent("ctl-1", REPLY, &reply), 1);
    ck_assert(!reply->reply->ok);
    request_as("ctl-2", 0, 0, false, false);
    ck_assert_uint_eq(count_sent("ctl-2", REPLY, &reply), 1);
    ck_assert(!reply->reply->ok);
}
END_TEST

START_TEST(the_status_names_every_rank_its_step_and_what_it_does) {
    Weir__Control__StatusRequest body = WEIR__CONTROL__STATUS_REQUEST__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    const envelope_t *answer = NULL;
    join_all();
    beat(1, 29, WEIR__CONTROL__PHASE__PHASE_TRAINING);
    beat(LEAD, 30, WEIR__CONTROL__PHASE__PHASE_EVALUATING);
    world.now += 3.0;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STATUS_REQUEST;
    envelope.status_request = &body;
    say_as("ctl-1", 0, &envelope);
    ck_assert_uint_eq(count_sent("ctl-1", STATUS, &answer), 1);
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
    join_all();
    ck_assert_uint_eq(refused(), 0);
    request_as("rank-4", JOB, 5, false, false); /* worker 1 asks for no checkpoints */
    request_as("rank-1", JOB, 5, false, false);
    request_as("rank-3", JOB + 1, 5, false, false); /* another job */
    request_as("rank-3", 0, 5, false, false);       /* a rank as a ctl */
    request_as("rank-0", JOB, 5, false, false);
    request_as("rank-5", JOB, 5, false, false);
    request_as("rank-03", JOB, 5, false, false);
    request_as("rank-3x", JOB, 5, false, false);
    request_as("rank-4294967299", JOB, 5, false, false);
    request_as("", JOB, 5, false, false);
    ck_assert_uint_eq(world.begun, 0);
    stop_as("rank-1", JOB, false, true, "finished");
    stop_as("ctl-1", JOB, false, true, "finished"); /* a ctl that knows the job is no rank */
    ck_assert(!weir_coordinator_is_done(world.coordinator, &reason));
    ck_assert_uint_eq(refused(), 12);
    Weir__Control__Heartbeat body = WEIR__CONTROL__HEARTBEAT__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    body.rank = 2;
    body.step = 1000;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &body;
    say(4, &envelope); /* a heartbeat in another's name */
    ck_assert_uint_eq(refused(), 13);
    ck_assert_uint_eq(weir_coordinator_counters(world.coordinator).step, 0);
}
END_TEST

START_TEST(garbage_is_counted_and_changes_nothing) {
    uint8_t noise[300];
    weir_identity_t from = identity("rank-3"), long_name = {.size = WEIR_IDENTITY_MAX + 1};
    join_all();
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (uint8_t)(i * 37 + 11);
    }
    weir_coordinator_receive(world.coordinator, &from, noise, sizeof noise, world.now);
    weir_coordinator_receive(world.coordinator, &from, noise, 0, world.now);
    weir_coordinator_receive(world.coordinator, &long_name, noise, sizeof noise, world.now);
    ck_assert_uint_eq(refused(), 3);
    request(7, false);
    report(1, 7, NULL);
    report(2, 7, NULL);
    report(LEAD, 7, NULL);
    ck_assert_uint_eq(world.published, 1);
}
END_TEST

static Suite *suite(void) {
    Suite *s = suite_create("coordinator");
    TCase *t = tcase_create("coordinator");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_checkpoint_is_published_when_all_servers_and_worker_0_have_reported);
    tcase_add_test(t, a_report_counts_once_and_only_for_its_step);
    tcase_add_test(t, a_failed_rank_fails_the_checkpoint_and_all_are_told_why);
    tcase_add_test(t, a_checkpoint_that_cannot_begin_or_be_published_is_told);
    tcase_add_test(t, a_checkpoint_that_takes_too_long_fails_and_names_who_is_missing);
    tcase_add_test(t, a_rank_that_joins_late_is_told_of_the_checkpoint_under_way);
    tcase_add_test(t, a_ctl_that_asks_for_a_checkpoint_is_answered_when_it_is_published);
    tcase_add_test(t, a_ctl_that_does_not_wait_is_answered_at_once);
    tcase_add_test(t, wishes_made_before_worker_0_joined_wait_for_it);
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
