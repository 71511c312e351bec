#include "coordinator/coordinator.h"

#include "common/log.h"
#include "coordinator/coordinator_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    created->started = created->now = now;
    created->last_checkpoint = options->step;
    for (uint32_t rank = 0; rank < created->rank_count; rank++) {
        bool worker = rank > options->ps;
        created->ranks[rank].role = rank == 0 ? "coordinator" : worker ? "worker" : "ps";
        created->ranks[rank].index = rank == 0 ? 0 : worker ? rank - 1 - options->ps : rank - 1;
        created->ranks[rank].heard = created->ranks[rank].moved = now;
    }
    *coordinator = created;
    return WEIR_OK;
}

void weir_coordinator_destroy(weir_coordinator_t *coordinator) {
    if (coordinator != NULL) {
        weir_coordinator_end_save(coordinator);
        free(coordinator->ranks);
        free(coordinator);
    }
}

uint32_t weir_coordinator_lead(const weir_coordinator_t *coordinator) {
    return 1 + coordinator->options.ps;
}

weir_coordinator_counters_t weir_coordinator_counters(const weir_coordinator_t *coordinator) {
    uint64_t step = coordinator->options.step;
    for (uint32_t rank = weir_coordinator_lead(coordinator); rank < coordinator->rank_count;
         rank++) {
        step = coordinator->ranks[rank].step > step ? coordinator->ranks[rank].step : step;
    }
    return (weir_coordinator_counters_t){.step = step,
                                         .last_checkpoint = coordinator->last_checkpoint,
                                         .refused_messages = coordinator->refused};
}

void weir_coordinator_refuse(weir_coordinator_t *coordinator, const char *why) {
    if (coordinator->refused++ == 0) {
        weir_log(WEIR_LOG_WARN, "coordinator",
                 "a control message was refused: %s; others are counted only", why);
    }
}

/* ---- who speaks ---- */

void weir_identity_of_rank(uint32_t rank, weir_identity_t *identity) {
    char text[WEIR_IDENTITY_MAX];
    int length = snprintf(text, sizeof text, "rank-%u", rank);
    *identity = (weir_identity_t){.size = (size_t)length};
    memcpy(identity->bytes, text, identity->size);
}

/* The server or worker of this job with exactly this identity; 0: none. */
static uint32_t rank_of_identity(const weir_coordinator_t *coordinator,
                                 const weir_identity_t *from) {
    weir_identity_t same;
    uint32_t rank = 0;
    for (size_t i = sizeof "rank-" - 1; i < from->size && i < 16; i++) {
        rank = 10 * rank + (uint32_t)(from->bytes[i] - '0'); /* nonsense does not compare equal */
    }
    if (rank == 0 || rank >= coordinator->rank_count) {
        return 0;
    }
    weir_identity_of_rank(rank, &same);
    return from->size == same.size && memcmp(from->bytes, same.bytes, same.size) == 0 ? rank : 0;
}

/* ---- the end ---- */

/* Worker 0 said that training is over; every rank is told until it answers. */
static void finish(weir_coordinator_t *coordinator, const char *reason, double now) {
    if (coordinator->finished) {
        return;
    }
    coordinator->finished = true;
    coordinator->finished_at = now;
    (void)snprintf(coordinator->reason, sizeof coordinator->reason, "%s", reason);
    weir_coordinator_end_waiting(coordinator, "the job ended before it could save");
    for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
        weir_coordinator_send_stop(coordinator, rank, false, true);
    }
}

bool weir_coordinator_is_done(const weir_coordinator_t *coordinator, const char **reason) {
    *reason = coordinator->reason;
    for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
        if (!coordinator->ranks[rank].left) {
            return false;
        }
    }
    return coordinator->finished;
}

/* A message may be lost with its connection: say it again to who has not answered, and give up on
 * who never does, so that the others can leave. */
static void tick_end(weir_coordinator_t *coordinator, double now) {
    bool late = now - coordinator->finished_at > coordinator->options.leave_seconds;
    for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
        weir_member_t *member = &coordinator->ranks[rank];
        if (member->left) {
            continue;
        }
        weir_coordinator_send_stop(coordinator, rank, false, true);
        if (late) {
            member->left = true;
            weir_log(WEIR_LOG_WARN, "coordinator",
                     "a rank did not answer the end of the job|of=%u role=%s host=%s", rank,
                     member->role, member->host[0] != '\0' ? member->host : "unknown");
        }
    }
}

/* What was wished before worker 0 joined waits for it; and what was sent may be lost with its
 * connection. */
static void pass_on_stop(weir_coordinator_t *coordinator) {
    uint32_t lead = weir_coordinator_lead(coordinator);
    if (coordinator->stop_wished && coordinator->ranks[lead].joined) {
        weir_coordinator_send_stop(coordinator, lead, coordinator->stop_saves, false);
    }
}

void weir_coordinator_ask_stop(weir_coordinator_t *coordinator) {
    if (!coordinator->stop_wished && !coordinator->finished) {
        coordinator->stop_wished = coordinator->stop_saves = true;
        pass_on_stop(coordinator);
    }
}

/* ---- receiving ---- */

static void on_join(weir_coordinator_t *coordinator, uint32_t number,
                    const Weir__Control__Join *join) {
    weir_member_t *rank = &coordinator->ranks[number];
    if (join->rank != number || join->index != rank->index || strcmp(join->role, rank->role) != 0) {
        weir_coordinator_refuse(coordinator, "a join of another rank than its sender");
        return;
    }
    rank->joined = true;
    rank->pid = join->pid;
    (void)snprintf(rank->host, sizeof rank->host, "%s", join->host);
    weir_coordinator_catch_up_save(coordinator, number);
    if (coordinator->finished) {
        weir_coordinator_send_stop(coordinator, number, false, true);
    } else if (number == weir_coordinator_lead(coordinator)) {
        pass_on_stop(coordinator);
    }
}

static void on_heartbeat(weir_coordinator_t *coordinator, uint32_t number,
                         const Weir__Control__Heartbeat *heartbeat, double now) {
    weir_member_t *rank = &coordinator->ranks[number];
    if (heartbeat->rank != number || (unsigned)heartbeat->phase > WEIR_PHASE_DONE) {
        weir_coordinator_refuse(coordinator, "a heartbeat of another rank than its sender");
        return;
    }
    if (rank->step != heartbeat->step || rank->phase != (weir_phase_t)heartbeat->phase ||
        rank->wait.progress != heartbeat->progress) {
        rank->moved = now;
    }
    rank->step = heartbeat->step;
    rank->epoch = heartbeat->epoch;
    rank->phase = (weir_phase_t)heartbeat->phase;
    rank->wait =
        (weir_wait_t){.kind = heartbeat->wait < WEIR_WAIT_KINDS ? (weir_wait_kind_t)heartbeat->wait
                                                                : WEIR_WAIT_NOTHING,
                      .rank = heartbeat->wait_rank,
                      .progress = heartbeat->progress};
    if (heartbeat->tokens_per_second > 0.0) { /* between reports: keep the last */
        rank->loss = heartbeat->loss;
        rank->tokens_per_second = heartbeat->tokens_per_second;
    }
    rank->rows = heartbeat->rows;
    rank->bytes = heartbeat->bytes;
    if (!weir_rank_metrics_unpack(heartbeat->metric, heartbeat->n_metric, heartbeat->value,
                                  heartbeat->n_value, &rank->metrics)) {
        weir_coordinator_refuse(coordinator, "metrics that are no numbers");
    }
    rank->left = coordinator->finished && rank->phase == WEIR_PHASE_DONE;
}

static void receive_from_rank(weir_coordinator_t *coordinator, uint32_t number,
                              const weir_envelope_t *envelope, double now) {
    weir_member_t *rank = &coordinator->ranks[number];
    bool lead = number == weir_coordinator_lead(coordinator);
    rank->heard = now;
    if (rank->silent) {
        rank->silent = false;
        weir_log(WEIR_LOG_INFO, "coordinator", "a rank is heard again|of=%u", number);
    }
    switch (envelope->body_case) {
    case WEIR__CONTROL__ENVELOPE__BODY_JOIN:
        on_join(coordinator, number, envelope->join);
        return;
    case WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT:
        on_heartbeat(coordinator, number, envelope->heartbeat, now);
        return;
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE:
        weir_coordinator_take_report(coordinator, number, envelope->checkpoint_done);
        return;
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST:
        if (lead && !coordinator->finished) {
            weir_coordinator_begin_save(coordinator, envelope->checkpoint_request, now);
            return;
        }
        break;
    case WEIR__CONTROL__ENVELOPE__BODY_STOP:
        if (lead && envelope->stop->done) {
            finish(coordinator, envelope->stop->reason, now);
            return;
        }
        break;
    default:
        break;
    }
    weir_coordinator_refuse(coordinator, "not for this rank to say");
}

static void receive_from_ctl(weir_coordinator_t *coordinator, const weir_identity_t *from,
                             const weir_envelope_t *envelope, double now) {
    switch (envelope->body_case) {
    case WEIR__CONTROL__ENVELOPE__BODY_STATUS_REQUEST:
        weir_coordinator_send_status(coordinator, from, envelope->status_request->metrics, now);
        break;
    case WEIR__CONTROL__ENVELOPE__BODY_STOP:
        if (!coordinator->finished) {
            coordinator->stop_wished = true;
            coordinator->stop_saves = envelope->stop->save;
            pass_on_stop(coordinator);
        }
        weir_coordinator_reply(coordinator, from, true,
                               envelope->stop->save
                                   ? "the job stops at the next step and saves"
                                   : "the job stops at the next step without saving");
        break;
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST:
        weir_coordinator_wish_save(coordinator, from, envelope->checkpoint_request);
        break;
    default:
        weir_coordinator_refuse(coordinator, "not for a ctl to say");
        break;
    }
}

void weir_coordinator_receive(weir_coordinator_t *coordinator, const weir_identity_t *from,
                              const void *bytes, size_t size, double now) {
    weir_envelope_t *envelope = NULL;
    weir_error_t error = {.message = "its sender has too long a name"};
    coordinator->now = now;
    if (from->size > WEIR_IDENTITY_MAX ||
        weir_envelope_unpack(bytes, size, &envelope, &error) != WEIR_OK) {
        weir_coordinator_refuse(coordinator, error.message);
        return;
    }
    uint32_t rank = rank_of_identity(coordinator, from);
    if (rank != 0 && envelope->job == coordinator->options.job) {
        receive_from_rank(coordinator, rank, envelope, now);
    } else if (rank == 0 && envelope->job == 0) {
        receive_from_ctl(coordinator, from, envelope, now);
    } else {
        weir_coordinator_refuse(coordinator, "it is of another job");
    }
    weir_envelope_free(envelope);
}

static void look_for_silence(weir_coordinator_t *coordinator, uint32_t number, double now) {
    weir_member_t *rank = &coordinator->ranks[number];
    if (rank->silent || now - rank->heard <= coordinator->options.silence_seconds) {
        return;
    }
    rank->silent = true;
    if (rank->joined) {
        weir_log(WEIR_LOG_WARN, "coordinator",
                 "a rank is silent|of=%u role=%s index=%u host=%s seconds=%.0f phase=%s "
                 "at_step=%llu",
                 number, rank->role, rank->index, rank->host, now - rank->heard,
                 weir_phase_name(rank->phase), (unsigned long long)rank->step);
    } else {
        weir_log(WEIR_LOG_WARN, "coordinator",
                 "a rank has never reached the control socket|of=%u role=%s index=%u seconds=%.0f",
                 number, rank->role, rank->index, now - rank->heard);
    }
}

void weir_coordinator_tick(weir_coordinator_t *coordinator, double now) {
    coordinator->now = now;
    weir_coordinator_tick_save(coordinator, now);
    if (coordinator->finished) {
        tick_end(coordinator, now);
        return;
    }
    pass_on_stop(coordinator); /* again, until worker 0 says that it is over */
    for (uint32_t number = 1; number < coordinator->rank_count; number++) {
        look_for_silence(coordinator, number, now);
    }
    weir_coordinator_tick_hang(coordinator, now);
}
