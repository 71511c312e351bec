#include "coordinator/coordinator.h"

#include "common/log.h"
#include "common/version.h"
#include "proto/control_client.h"
#include "proto/envelope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef Weir__Control__Envelope envelope_t;

enum { MAX_WAITING_CTL = 16, FOLDER_MAX = 4096 };

typedef struct {
    bool joined, silent; /* silent: said so in the log */
    uint32_t index;
    char role[16], host[64];
    uint64_t pid, step, epoch, rows, bytes;
    weir_phase_t phase;
    double loss, tokens_per_second, heard;
    bool written; /* its files of the checkpoint under way are on disk */
} rank_t;

/* A checkpoint under way. */
typedef struct {
    bool active, best;
    uint64_t step, epoch;
    double started;
    char folder[FOLDER_MAX];
    char *metrics_json;            /* owned; NULL: none */
    weir_checkpoint_file_t *files; /* owned */
    size_t file_count, file_capacity;
    uint32_t awaited; /* ranks that have not reported */
} save_t;

struct weir_coordinator {
    weir_coordinator_options_t options;
    weir_coordinator_operations_t operations;
    rank_t *ranks; /* 1 + P + W; entry 0 is the coordinator itself */
    uint32_t rank_count;
    double started;
    save_t save;
    weir_identity_t waiting[MAX_WAITING_CTL]; /* ctl that asked for a checkpoint */
    size_t waiting_count;
    bool stop_sent, done;
    char reason[64];
    uint64_t last_checkpoint, refused;
};

weir_err_t weir_coordinator_create(const weir_coordinator_options_t *options,
                                   const weir_coordinator_operations_t *operations, double now,
                                   weir_coordinator_t **coordinator, weir_error_t *error) {
    weir_coordinator_t *created = calloc(1, sizeof *created);
    if (created != NULL) {
        created->rank_count = 1 + options->ps + options->workers;
        created->ranks = calloc(created->rank_count, sizeof *created->ranks);
    }
    if (created == NULL || created->ranks == NULL) {
        weir_coordinator_destroy(created);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the coordinator");
    }
    created->options = *options;
    created->operations = *operations;
    created->started = now;
    created->last_checkpoint = options->step;
    for (uint32_t rank = 0; rank < created->rank_count; rank++) {
        created->ranks[rank].heard = now;
    }
    *coordinator = created;
    return WEIR_OK;
}

static void end_save(weir_coordinator_t *coordinator) {
    free(coordinator->save.metrics_json);
    free(coordinator->save.files);
    coordinator->save = (save_t){.active = false};
}

void weir_coordinator_destroy(weir_coordinator_t *coordinator) {
    if (coordinator != NULL) {
        end_save(coordinator);
        free(coordinator->ranks);
        free(coordinator);
    }
}

bool weir_coordinator_is_done(const weir_coordinator_t *coordinator, const char **reason) {
    *reason = coordinator->reason;
    return coordinator->done;
}

static uint64_t furthest_step(const weir_coordinator_t *coordinator) {
    uint64_t step = coordinator->options.step;
    for (uint32_t rank = 1 + coordinator->options.ps; rank < coordinator->rank_count; rank++) {
        step = coordinator->ranks[rank].step > step ? coordinator->ranks[rank].step : step;
    }
    return step;
}

weir_coordinator_counters_t weir_coordinator_counters(const weir_coordinator_t *coordinator) {
    return (weir_coordinator_counters_t){.step = furthest_step(coordinator),
                                         .last_checkpoint = coordinator->last_checkpoint,
                                         .refused_messages = coordinator->refused};
}

/* ---- sending ---- */

static void send_envelope(weir_coordinator_t *coordinator, const weir_identity_t *to,
                          envelope_t *envelope) {
    weir_packed_t packed;
    weir_error_t error = {0};
    envelope->job = coordinator->options.job;
    if (weir_envelope_pack(envelope, &packed, &error) != WEIR_OK) {
        weir_log(WEIR_LOG_ERROR, "coordinator", "a message could not be sent: %s", error.message);
        return;
    }
    coordinator->operations.send(coordinator->operations.argument, to, packed.bytes, packed.size);
    free(packed.bytes);
}

static void send_to_rank(weir_coordinator_t *coordinator, uint32_t rank, envelope_t *envelope) {
    weir_identity_t to = {.size = 0};
    int length = snprintf((char *)to.bytes, sizeof to.bytes, "rank-%u", rank);
    to.size = (size_t)length;
    send_envelope(coordinator, &to, envelope);
}

static void reply(weir_coordinator_t *coordinator, const weir_identity_t *to, bool ok,
                  const char *text) {
    char message[600];
    Weir__Control__Reply body = WEIR__CONTROL__REPLY__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(message, sizeof message, "%s", text);
    body.ok = ok;
    body.message = message;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_REPLY;
    envelope.reply = &body;
    send_envelope(coordinator, to, &envelope);
}

static uint32_t worker_0(const weir_coordinator_t *coordinator) {
    return 1 + coordinator->options.ps;
}

/* Who writes files of a checkpoint: the servers and worker 0. */
static bool writes_files(const weir_coordinator_t *coordinator, uint32_t rank) {
    return rank >= 1 && rank <= worker_0(coordinator);
}

static void send_stop(weir_coordinator_t *coordinator, uint32_t rank, bool save, bool done) {
    char reason[64];
    Weir__Control__Stop stop = WEIR__CONTROL__STOP__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(reason, sizeof reason, "%s", coordinator->reason);
    stop.save = save;
    stop.done = done;
    stop.reason = reason;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STOP;
    envelope.stop = &stop;
    send_to_rank(coordinator, rank, &envelope);
}

/* ---- checkpoints ---- */

/* Tell everybody how the checkpoint under way ended; `failure` NULL: it is published. */
static void settle_save(weir_coordinator_t *coordinator, const char *failure) {
    char text[512], message[600];
    Weir__Control__CheckpointDone done = WEIR__CONTROL__CHECKPOINT_DONE__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    unsigned long long step = coordinator->save.step;
    (void)snprintf(text, sizeof text, "%s", failure != NULL ? failure : "");
    done.step = step;
    done.error = text;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE;
    envelope.checkpoint_done = &done;
    if (failure == NULL) {
        coordinator->last_checkpoint = step;
        (void)snprintf(message, sizeof message, "checkpoint of step %llu published", step);
    } else {
        coordinator->operations.abandon(coordinator->operations.argument, coordinator->save.folder);
        weir_log(WEIR_LOG_ERROR, "coordinator", "checkpoint not saved: %s|step=%llu", failure,
                 step);
        (void)snprintf(message, sizeof message, "checkpoint of step %llu not saved: %s", step,
                       failure);
    }
    for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
        send_to_rank(coordinator, rank, &envelope);
    }
    for (size_t i = 0; i < coordinator->waiting_count; i++) {
        reply(coordinator, &coordinator->waiting[i], failure == NULL, message);
    }
    coordinator->waiting_count = 0;
    end_save(coordinator);
}

static void publish_save(weir_coordinator_t *coordinator) {
    save_t *save = &coordinator->save;
    weir_error_t error = {0};
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    char *config = strdup(coordinator->options.config_yaml);
    weir_manifest_t manifest = {.step = save->step,
                                .epoch = save->epoch,
                                .job = coordinator->options.job,
                                .ps = coordinator->options.ps,
                                .workers = coordinator->options.workers,
                                .created = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec,
                                .config_yaml = config,
                                .metrics_json = save->metrics_json,
                                .files = save->files,
                                .file_count = save->file_count};
    (void)snprintf(manifest.version, sizeof manifest.version, "%s", WEIR_VERSION);
    weir_err_t err = config == NULL
                         ? weir_errorf(&error, WEIR_ERR_MEMORY, "no memory for a manifest")
                         : coordinator->operations.publish(coordinator->operations.argument,
                                                           &manifest, save->best, &error);
    free(config);
    settle_save(coordinator, err == WEIR_OK ? NULL : error.message);
}

/* Worker 0: all workers stand at this step. */
static void on_checkpoint_request(weir_coordinator_t *coordinator,
                                  const Weir__Control__CheckpointRequest *request, double now) {
    weir_error_t error = {0};
    Weir__Control__CheckpointBegin begin = WEIR__CONTROL__CHECKPOINT_BEGIN__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    save_t *save = &coordinator->save;
    if (save->active) { /* worker 0 waits for one before it asks for the next */
        coordinator->refused++;
        return;
    }
    *save = (save_t){.active = true,
                     .best = request->best,
                     .step = request->step,
                     .epoch = request->epoch,
                     .started = now,
                     .awaited = 1 + coordinator->options.ps};
    save->metrics_json = request->metrics_json[0] != '\0' ? strdup(request->metrics_json) : NULL;
    weir_err_t err = coordinator->operations.begin(coordinator->operations.argument, save->step,
                                                   save->folder, sizeof save->folder, &error);
    if (err != WEIR_OK) {
        settle_save(coordinator, error.message);
        return;
    }
    begin.step = save->step;
    begin.folder = save->folder;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_BEGIN;
    envelope.checkpoint_begin = &begin;
    for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
        coordinator->ranks[rank].written = false;
        if (writes_files(coordinator, rank)) {
            send_to_rank(coordinator, rank, &envelope);
        }
    }
}

static bool add_files(save_t *save, const Weir__Control__CheckpointDone *done) {
    for (size_t i = 0; i < done->n_files; i++) {
        if (save->file_count == save->file_capacity) {
            size_t capacity = save->file_capacity == 0 ? 16 : 2 * save->file_capacity;
            weir_checkpoint_file_t *grown = realloc(save->files, capacity * sizeof *grown);
            if (grown == NULL) {
                return false;
            }
            save->files = grown;
            save->file_capacity = capacity;
        }
        weir_checkpoint_file_t *file = &save->files[save->file_count++];
        *file = (weir_checkpoint_file_t){.size = done->files[i]->size,
                                         .checksum = done->files[i]->checksum};
        (void)snprintf(file->name, sizeof file->name, "%s", done->files[i]->name);
    }
    return true;
}

static void on_checkpoint_done(weir_coordinator_t *coordinator, uint32_t rank,
                               const Weir__Control__CheckpointDone *done) {
    save_t *save = &coordinator->save;
    char failure[512];
    if (!save->active || done->step != save->step || !writes_files(coordinator, rank) ||
        coordinator->ranks[rank].written) {
        coordinator->refused++;
        return;
    }
    if (done->error[0] != '\0') {
        (void)snprintf(failure, sizeof failure, "rank %u (%s): %s", rank,
                       coordinator->ranks[rank].role, done->error);
        settle_save(coordinator, failure);
        return;
    }
    coordinator->ranks[rank].written = true;
    if (!add_files(save, done)) {
        settle_save(coordinator, "no memory for the list of files");
    } else if (--save->awaited == 0) {
        publish_save(coordinator);
    }
}

/* ---- status ---- */

static void on_status_request(weir_coordinator_t *coordinator, const weir_identity_t *from,
                              double now) {
    char version[] = WEIR_VERSION;
    uint32_t count = coordinator->rank_count - 1;
    const rank_t *lead = &coordinator->ranks[worker_0(coordinator)];
    Weir__Control__Status status = WEIR__CONTROL__STATUS__INIT;
    envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    Weir__Control__RankStatus *rows = calloc(count, sizeof *rows);
    Weir__Control__RankStatus **pointers = calloc(count, sizeof *pointers);
    if (rows == NULL || pointers == NULL) {
        reply(coordinator, from, false, "the coordinator is out of memory");
        goto out;
    }
    for (uint32_t i = 0; i < count; i++) {
        rank_t *rank = &coordinator->ranks[i + 1];
        weir__control__rank_status__init(&rows[i]);
        rows[i].rank = i + 1;
        rows[i].role = rank->role;
        rows[i].index = rank->index;
        rows[i].host = rank->host;
        rows[i].pid = rank->pid;
        rows[i].step = rank->step;
        rows[i].phase = (Weir__Control__Phase)rank->phase;
        rows[i].age_seconds = now - rank->heard;
        rows[i].rows = rank->rows;
        rows[i].bytes = rank->bytes;
        pointers[i] = &rows[i];
    }
    status.job = coordinator->options.job;
    status.version = version;
    status.step = furthest_step(coordinator);
    status.epoch = lead->epoch;
    status.phase = (Weir__Control__Phase)lead->phase;
    status.loss = lead->loss;
    status.tokens_per_second = lead->tokens_per_second;
    status.uptime_seconds = now - coordinator->started;
    status.last_checkpoint_step = coordinator->last_checkpoint;
    status.n_ranks = count;
    status.ranks = pointers;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STATUS;
    envelope.status = &status;
    send_envelope(coordinator, from, &envelope);
out:
    free(rows);
    free(pointers);
}

/* ---- receiving ---- */

static void on_join(rank_t *rank, const Weir__Control__Join *join) {
    rank->joined = true;
    rank->index = join->index;
    rank->pid = join->pid;
    (void)snprintf(rank->role, sizeof rank->role, "%s", join->role);
    (void)snprintf(rank->host, sizeof rank->host, "%s", join->host);
}

static void on_heartbeat(rank_t *rank, const Weir__Control__Heartbeat *heartbeat) {
    rank->step = heartbeat->step;
    rank->epoch = heartbeat->epoch;
    rank->phase = heartbeat->phase <= WEIR__CONTROL__PHASE__PHASE_DONE
                      ? (weir_phase_t)heartbeat->phase
                      : WEIR_PHASE_STARTING;
    if (heartbeat->tokens_per_second > 0.0) { /* between reports: keep the last */
        rank->loss = heartbeat->loss;
        rank->tokens_per_second = heartbeat->tokens_per_second;
    }
    rank->rows = heartbeat->rows;
    rank->bytes = heartbeat->bytes;
}

static void on_finish(weir_coordinator_t *coordinator, const Weir__Control__Stop *stop) {
    coordinator->done = true;
    (void)snprintf(coordinator->reason, sizeof coordinator->reason, "%s", stop->reason);
    for (size_t i = 0; i < coordinator->waiting_count; i++) {
        reply(coordinator, &coordinator->waiting[i], false, "the job ended before it could save");
    }
    coordinator->waiting_count = 0;
    for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
        send_stop(coordinator, rank, false, true);
    }
}

static void receive_from_rank(weir_coordinator_t *coordinator, uint32_t number,
                              const envelope_t *envelope, double now) {
    rank_t *rank = &coordinator->ranks[number];
    bool lead = number == worker_0(coordinator);
    rank->heard = now;
    if (rank->silent) {
        rank->silent = false;
        weir_log(WEIR_LOG_INFO, "coordinator", "a rank is heard again|of=%u", number);
    }
    switch (envelope->body_case) {
    case WEIR__CONTROL__ENVELOPE__BODY_JOIN:
        on_join(rank, envelope->join);
        return;
    case WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT:
        on_heartbeat(rank, envelope->heartbeat);
        return;
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE:
        on_checkpoint_done(coordinator, number, envelope->checkpoint_done);
        return;
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST:
        if (lead) {
            on_checkpoint_request(coordinator, envelope->checkpoint_request, now);
            return;
        }
        break;
    case WEIR__CONTROL__ENVELOPE__BODY_STOP:
        if (lead && envelope->stop->done) {
            on_finish(coordinator, envelope->stop);
            return;
        }
        break;
    default:
        break;
    }
    coordinator->refused++;
}

static void receive_from_ctl(weir_coordinator_t *coordinator, const weir_identity_t *from,
                             const envelope_t *envelope, double now) {
    envelope_t wish = WEIR__CONTROL__ENVELOPE__INIT;
    Weir__Control__CheckpointRequest request = WEIR__CONTROL__CHECKPOINT_REQUEST__INIT;
    switch (envelope->body_case) {
    case WEIR__CONTROL__ENVELOPE__BODY_STATUS_REQUEST:
        on_status_request(coordinator, from, now);
        break;
    case WEIR__CONTROL__ENVELOPE__BODY_STOP:
        send_stop(coordinator, worker_0(coordinator), envelope->stop->save, false);
        reply(coordinator, from, true,
              envelope->stop->save ? "the job stops at the next step and saves"
                                   : "the job stops at the next step without saving");
        break;
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST:
        if (coordinator->waiting_count == MAX_WAITING_CTL) {
            reply(coordinator, from, false, "too many wait for a checkpoint already");
            break;
        }
        coordinator->waiting[coordinator->waiting_count++] = *from;
        wish.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST;
        wish.checkpoint_request = &request;
        send_to_rank(coordinator, worker_0(coordinator), &wish);
        break;
    default:
        coordinator->refused++;
        break;
    }
}

/* "rank-N" with N a server or worker of this job; 0: not a rank. */
static uint32_t rank_of_identity(const weir_coordinator_t *coordinator,
                                 const weir_identity_t *from) {
    char text[WEIR_IDENTITY_MAX + 1];
    unsigned rank = 0;
    char end = '\0';
    memcpy(text, from->bytes, from->size);
    text[from->size] = '\0';
    if (sscanf(text, "rank-%8u%c", &rank, &end) != 1 || rank == 0 ||
        rank >= coordinator->rank_count) {
        return 0;
    }
    return rank;
}

void weir_coordinator_receive(weir_coordinator_t *coordinator, const weir_identity_t *from,
                              const void *bytes, size_t size, double now) {
    envelope_t *envelope = NULL;
    weir_error_t error = {0};
    if (from->size > WEIR_IDENTITY_MAX ||
        weir_envelope_unpack(bytes, size, &envelope, &error) != WEIR_OK) {
        if (coordinator->refused++ == 0) {
            weir_log(WEIR_LOG_WARN, "coordinator", "a control message was refused: %s",
                     error.message);
        }
        return;
    }
    uint32_t rank = rank_of_identity(coordinator, from);
    if (rank != 0 && envelope->job == coordinator->options.job) {
        receive_from_rank(coordinator, rank, envelope, now);
    } else if (rank == 0 && envelope->job == 0) {
        receive_from_ctl(coordinator, from, envelope, now);
    } else {
        coordinator->refused++;
    }
    weir_envelope_free(envelope);
}

void weir_coordinator_tick(weir_coordinator_t *coordinator, double now) {
    if (coordinator->save.active &&
        now - coordinator->save.started > coordinator->options.checkpoint_seconds) {
        char failure[128], missing[64] = "";
        for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
            if (writes_files(coordinator, rank) && !coordinator->ranks[rank].written) {
                (void)snprintf(missing, sizeof missing, "; rank %u (%s) has not answered", rank,
                               coordinator->ranks[rank].role);
                break;
            }
        }
        (void)snprintf(failure, sizeof failure, "it took longer than %.0f s%s",
                       coordinator->options.checkpoint_seconds, missing);
        settle_save(coordinator, failure);
    }
    for (uint32_t number = 1; number < coordinator->rank_count && !coordinator->done; number++) {
        rank_t *rank = &coordinator->ranks[number];
        if (!rank->silent && now - rank->heard > coordinator->options.silence_seconds) {
            rank->silent = true;
            weir_log(WEIR_LOG_WARN, "coordinator",
                     "a rank is silent|of=%u role=%s host=%s seconds=%.0f phase=%s at_step=%llu",
                     number, rank->joined ? rank->role : "unknown",
                     rank->joined ? rank->host : "unknown", now - rank->heard,
                     weir_phase_name(rank->phase), (unsigned long long)rank->step);
        }
    }
}

void weir_coordinator_ask_stop(weir_coordinator_t *coordinator) {
    if (!coordinator->stop_sent && !coordinator->done) {
        coordinator->stop_sent = true;
        send_stop(coordinator, worker_0(coordinator), true, false);
    }
}
