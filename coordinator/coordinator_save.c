/* A checkpoint as the coordinator sees it:
 *
 *   worker 0: checkpoint_request (all workers stand at step s)
 *     -> a folder is begun -> checkpoint_begin to the servers and worker 0
 *     -> each reports its files by checkpoint_done -> manifest, publication
 *     -> checkpoint_done to all ranks, a reply to each ctl that waits
 *
 * A failure anywhere, or the deadline, removes the folder and is told to the same. */
#include "coordinator/coordinator_internal.h"

#include "common/log.h"
#include "common/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Who writes files of a checkpoint: the servers and worker 0. */
static bool writes_files(const weir_coordinator_t *coordinator, uint32_t rank) {
    return rank >= 1 && rank <= weir_coordinator_lead(coordinator);
}

void weir_coordinator_end_save(weir_coordinator_t *coordinator) {
    free(coordinator->save.metrics_json);
    free(coordinator->save.files);
    coordinator->save = (weir_save_t){.active = false};
}

static void answer_waiting(weir_coordinator_t *coordinator, bool ok, const char *message) {
    for (size_t i = 0; i < coordinator->waiting_count; i++) {
        weir_coordinator_reply(coordinator, &coordinator->waiting[i], ok, message);
    }
    coordinator->waiting_count = 0;
}

void weir_coordinator_end_waiting(weir_coordinator_t *coordinator, const char *why) {
    answer_waiting(coordinator, false, why);
}

/* Whether any server wrote what changed alone. */
static bool is_delta(const weir_save_t *save) {
    for (size_t i = 0; i < save->file_count; i++) {
        if (save->files[i].base != 0) {
            return true;
        }
    }
    return false;
}

/* What a checkpoint of `step` may build on. The first of a job is full, and so is one after
 * full_every
 * - 1 deltas, and one of a step that is saved again, which replaces its base. */
static uint64_t choose_base(const weir_coordinator_t *coordinator, uint64_t step) {
    return coordinator->base < step && coordinator->deltas + 1 < coordinator->options.full_every
               ? coordinator->base
               : 0;
}

static void count_published(weir_coordinator_t *coordinator) {
    const weir_save_t *save = &coordinator->save;
    coordinator->published++;
    coordinator->published_at = coordinator->now;
    coordinator->save_seconds = coordinator->now - save->started;
    coordinator->save_bytes = 0;
    for (size_t i = 0; i < save->file_count; i++) {
        coordinator->save_bytes += save->files[i].size;
    }
}

/* Tell everybody how the checkpoint under way ended; `failure` NULL: it is published. */
static void settle(weir_coordinator_t *coordinator, const weir_error_t *failure) {
    char text[512], kind[32], message[600];
    Weir__Control__CheckpointDone done = WEIR__CONTROL__CHECKPOINT_DONE__INIT;
    weir_envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    unsigned long long step = coordinator->save.step;
    (void)snprintf(text, sizeof text, "%s", failure != NULL ? failure->message : "");
    (void)snprintf(kind, sizeof kind, "%s", failure != NULL ? weir_err_name(failure->code) : "");
    done.step = step;
    done.error = text;
    done.kind = kind;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE;
    envelope.checkpoint_done = &done;
    if (failure == NULL) {
        coordinator->last_checkpoint = step;
        count_published(coordinator);
        coordinator->base = step;
        coordinator->deltas = is_delta(&coordinator->save) ? coordinator->deltas + 1 : 0;
        (void)snprintf(message, sizeof message, "checkpoint of step %llu published", step);
    } else {
        coordinator->failed++;
        coordinator->operations.abandon(coordinator->operations.argument, coordinator->save.folder);
        weir_log(WEIR_LOG_ERROR, "coordinator", "checkpoint not saved: %s|at_step=%llu",
                 failure->message, step);
        (void)snprintf(message, sizeof message, "checkpoint of step %llu not saved: %s", step,
                       failure->message);
    }
    for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
        weir_coordinator_send_rank(coordinator, rank, &envelope);
    }
    answer_waiting(coordinator, failure == NULL, message);
    weir_coordinator_end_save(coordinator);
}

static int compare_file_names(const void *a, const void *b) {
    const weir_checkpoint_file_t *left = a, *right = b;
    return strcmp(left->name, right->name);
}

static void publish(weir_coordinator_t *coordinator) {
    weir_save_t *save = &coordinator->save;
    weir_error_t error = {0};
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    char *config = strdup(coordinator->options.config_yaml);
    /* Reports come in any order; a manifest does not say in which. */
    qsort(save->files, save->file_count, sizeof *save->files, compare_file_names);
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
    settle(coordinator, err == WEIR_OK ? NULL : &error);
}

static void send_begin(weir_coordinator_t *coordinator, uint32_t rank) {
    Weir__Control__CheckpointBegin begin = WEIR__CONTROL__CHECKPOINT_BEGIN__INIT;
    weir_envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    begin.step = coordinator->save.step;
    begin.folder = coordinator->save.folder;
    begin.may_build_on = coordinator->save.base;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_BEGIN;
    envelope.checkpoint_begin = &begin;
    weir_coordinator_send_rank(coordinator, rank, &envelope);
}

void weir_coordinator_begin_save(weir_coordinator_t *coordinator,
                                 const Weir__Control__CheckpointRequest *request, double now) {
    weir_error_t error = {0};
    weir_save_t *save = &coordinator->save;
    if (save->active) { /* worker 0 waits for one before it asks for the next */
        weir_coordinator_refuse(coordinator, "a checkpoint is under way already");
        return;
    }
    *save = (weir_save_t){.active = true,
                          .best = request->best,
                          .step = request->step,
                          .base = choose_base(coordinator, request->step),
                          .epoch = request->epoch,
                          .started = now,
                          .awaited = 1 + coordinator->options.ps};
    if (request->metrics_json[0] != '\0') {
        save->metrics_json = strdup(request->metrics_json);
        if (save->metrics_json == NULL) {
            (void)weir_errorf(&error, WEIR_ERR_MEMORY, "no memory for the metrics");
            settle(coordinator, &error);
            return;
        }
    }
    weir_err_t err = coordinator->operations.begin(coordinator->operations.argument, save->step,
                                                   save->folder, sizeof save->folder, &error);
    if (err != WEIR_OK) {
        settle(coordinator, &error);
        return;
    }
    for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
        coordinator->ranks[rank].written = false;
        weir_coordinator_catch_up_save(coordinator, rank);
    }
}

void weir_coordinator_catch_up_save(weir_coordinator_t *coordinator, uint32_t rank) {
    const weir_member_t *member = &coordinator->ranks[rank];
    if (coordinator->save.active && member->joined && !member->written &&
        writes_files(coordinator, rank)) {
        send_begin(coordinator, rank);
    }
    if (rank == weir_coordinator_lead(coordinator) && coordinator->checkpoint_wished &&
        member->joined) {
        Weir__Control__CheckpointRequest wish = WEIR__CONTROL__CHECKPOINT_REQUEST__INIT;
        weir_envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
        envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST;
        envelope.checkpoint_request = &wish;
        coordinator->checkpoint_wished = false;
        weir_coordinator_send_rank(coordinator, rank, &envelope);
    }
}

void weir_coordinator_wish_save(weir_coordinator_t *coordinator, const weir_identity_t *from,
                                const Weir__Control__CheckpointRequest *request) {
    if (coordinator->finished) {
        weir_coordinator_reply(coordinator, from, false, "the job is over");
        return;
    }
    if (request->no_wait) {
        weir_coordinator_reply(coordinator, from, true, "a checkpoint is saved at the next step");
    } else if (coordinator->waiting_count == WEIR_MAX_WAITING_CTL) {
        weir_coordinator_reply(coordinator, from, false, "too many wait for a checkpoint already");
        return;
    } else {
        coordinator->waiting[coordinator->waiting_count++] = *from;
    }
    coordinator->checkpoint_wished = true;
    weir_coordinator_catch_up_save(coordinator, weir_coordinator_lead(coordinator));
}

static bool add_files(weir_save_t *save, const Weir__Control__CheckpointDone *done) {
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
                                         .checksum = done->files[i]->checksum,
                                         .blocks = done->files[i]->blocks,
                                         .base = done->files[i]->builds_on};
        (void)snprintf(file->name, sizeof file->name, "%s", done->files[i]->name);
    }
    return true;
}

void weir_coordinator_take_report(weir_coordinator_t *coordinator, uint32_t rank,
                                  const Weir__Control__CheckpointDone *done) {
    weir_save_t *save = &coordinator->save;
    weir_member_t *member = &coordinator->ranks[rank];
    weir_error_t failure = {0};
    if (!save->active || done->step != save->step || !writes_files(coordinator, rank) ||
        member->written) {
        weir_coordinator_refuse(coordinator, "a report of a checkpoint that is not under way");
        return;
    }
    if (done->error[0] != '\0') {
        (void)weir_errorf(&failure, weir_err_of_name(done->kind), "rank %u (%s %u on %s): %s", rank,
                          member->role, member->index, member->host, done->error);
        settle(coordinator, &failure);
        return;
    }
    member->written = true;
    if (!add_files(save, done)) {
        (void)weir_errorf(&failure, WEIR_ERR_MEMORY, "no memory for the list of files");
        settle(coordinator, &failure);
    } else if (--save->awaited == 0) {
        publish(coordinator);
    }
}

void weir_coordinator_tick_save(weir_coordinator_t *coordinator, double now) {
    weir_error_t failure = {0};
    char missing[256] = "";
    if (!coordinator->save.active ||
        now - coordinator->save.started <= coordinator->options.checkpoint_seconds) {
        return;
    }
    for (uint32_t rank = 1; rank < coordinator->rank_count && missing[0] == '\0'; rank++) {
        const weir_member_t *member = &coordinator->ranks[rank];
        if (writes_files(coordinator, rank) && !member->written) {
            (void)snprintf(missing, sizeof missing, "; rank %u (%s %u on %s) has not written", rank,
                           member->role, member->index,
                           member->host[0] != '\0' ? member->host : "a host unknown");
        }
    }
    (void)weir_errorf(&failure, WEIR_ERR_TIMEOUT, "it took longer than %.0f s%s",
                      coordinator->options.checkpoint_seconds, missing);
    settle(coordinator, &failure);
}
