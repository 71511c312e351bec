#include "tests/unit/coordinator_cases.h"

#include "tests/suite.h"

#include <string.h>

world_t world;

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

void coordinator_case_set_up(void) {
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

void case_forget_sent(void) {
    for (size_t i = 0; i < world.count; i++) {
        weir_envelope_free(world.sent[i].envelope);
    }
    world.count = 0;
}

void coordinator_case_tear_down(void) {
    case_forget_sent();
    weir_coordinator_destroy(world.coordinator);
}

/* ---- ranks and ctl without processes ---- */

weir_identity_t case_identity(const char *text) {
    weir_identity_t made = {.size = strlen(text)};
    memcpy(made.bytes, text, made.size);
    return made;
}

void case_say_as(const char *who, uint64_t job, envelope_t *envelope) {
    weir_packed_t packed;
    weir_identity_t from = case_identity(who);
    envelope->job = job;
    ck_assert_int_eq(weir_envelope_pack(envelope, &packed, NULL), WEIR_OK);
    weir_coordinator_receive(world.coordinator, &from, packed.bytes, packed.size, world.now);
    free(packed.bytes);
}

void case_say(uint32_t rank, envelope_t *envelope) {
    char who[32];
    (void)snprintf(who, sizeof who, "rank-%u", rank);
    case_say_as(who, JOB, envelope);
}

void case_join(uint32_t rank) {
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
    case_say(rank, &envelope);
}

void case_join_all(void) {
    for (uint32_t rank = 1; rank < RANKS; rank++) {
        case_join(rank);
    }
}

void case_beat(uint32_t rank, uint64_t step, Weir__Control__Phase phase) {
    Weir__Control__Heartbeat body = WEIR__CONTROL__HEARTBEAT__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    body.rank = rank;
    body.step = step;
    body.phase = phase;
    body.loss = 2.5;
    body.tokens_per_second = rank == LEAD ? 1000.0 : 0.0;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT;
    envelope.heartbeat = &body;
    case_say(rank, &envelope);
}

void case_request_as(const char *who, uint64_t job, uint64_t step, bool best, bool no_wait) {
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
    case_say_as(who, job, &envelope);
}

void case_request(uint64_t step, bool best) {
    case_request_as("rank-3", JOB, step, best, false);
}

void case_report(uint32_t rank, uint64_t step, const char *failure) {
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
    case_say(rank, &envelope);
}

void case_stop_as(const char *who, uint64_t job, bool save, bool done, const char *why) {
    char reason[32];
    Weir__Control__Stop body = WEIR__CONTROL__STOP__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(reason, sizeof reason, "%s", why);
    body.save = save;
    body.done = done;
    body.reason = reason;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STOP;
    envelope.stop = &body;
    case_say_as(who, job, &envelope);
}

size_t case_count_sent(const char *who, int body_case, const envelope_t **last) {
    weir_identity_t to = case_identity(who);
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

uint64_t case_refused(void) {
    return weir_coordinator_counters(world.coordinator).refused_messages;
}
