/* What goes out of the coordinator. */
#include "coordinator/coordinator_internal.h"

#include "common/log.h"
#include "common/version.h"

#include <stdio.h>
#include <stdlib.h>

static void send_envelope(weir_coordinator_t *coordinator, const weir_identity_t *to,
                          weir_envelope_t *envelope) {
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

void weir_coordinator_send_rank(weir_coordinator_t *coordinator, uint32_t rank,
                                weir_envelope_t *envelope) {
    weir_identity_t to;
    weir_identity_of_rank(rank, &to);
    send_envelope(coordinator, &to, envelope);
}

void weir_coordinator_reply(weir_coordinator_t *coordinator, const weir_identity_t *to, bool ok,
                            const char *text) {
    char message[600];
    Weir__Control__Reply body = WEIR__CONTROL__REPLY__INIT;
    weir_envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(message, sizeof message, "%s", text);
    body.ok = ok;
    body.message = message;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_REPLY;
    envelope.reply = &body;
    send_envelope(coordinator, to, &envelope);
}

void weir_coordinator_send_stop(weir_coordinator_t *coordinator, uint32_t rank, bool save,
                                bool done) {
    char reason[64];
    Weir__Control__Stop stop = WEIR__CONTROL__STOP__INIT;
    weir_envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    (void)snprintf(reason, sizeof reason, "%s", coordinator->reason);
    stop.save = save;
    stop.done = done;
    stop.reason = reason;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_STOP;
    envelope.stop = &stop;
    weir_coordinator_send_rank(coordinator, rank, &envelope);
}

/* Texts and lists of a row, which points to them. */
typedef struct {
    char role[16], waits[96];
    uint32_t numbers[WEIR_RANK_METRICS];
    double values[WEIR_RANK_METRICS];
} texts_t;

/* `host` of the row points into the member. */
static void fill_row(weir_member_t *member, uint32_t rank, double now, bool metrics, texts_t *texts,
                     Weir__Control__RankStatus *row) {
    weir__control__rank_status__init(row);
    (void)snprintf(texts->role, sizeof texts->role, "%s", member->role);
    row->rank = rank;
    row->role = texts->role;
    row->waits = texts->waits;
    row->index = member->index;
    row->host = member->host;
    row->pid = member->pid;
    row->step = member->step;
    row->phase = (Weir__Control__Phase)member->phase;
    row->age_seconds = now - member->heard;
    row->rows = member->rows;
    row->bytes = member->bytes;
    if (metrics) {
        row->n_metric = row->n_value =
            weir_rank_metrics_pack(&member->metrics, texts->numbers, texts->values);
        row->metric = texts->numbers;
        row->value = texts->values;
    }
}

void weir_coordinator_send_status(weir_coordinator_t *coordinator, const weir_identity_t *to,
                                  bool metrics, double now) {
    char version[] = WEIR_VERSION;
    uint32_t count = coordinator->rank_count - 1;
    const weir_member_t *lead = &coordinator->ranks[weir_coordinator_lead(coordinator)];
    Weir__Control__Status status = WEIR__CONTROL__STATUS__INIT;
    weir_envelope_t envelope = WEIR__CONTROL__ENVELOPE__INIT;
    Weir__Control__RankStatus *rows = calloc(count, sizeof *rows);
    Weir__Control__RankStatus **pointers = calloc(count, sizeof *pointers);
    texts_t *texts = calloc(count, sizeof *texts);
    if (rows == NULL || pointers == NULL || texts == NULL) {
        weir_coordinator_reply(coordinator, to, false, "the coordinator is out of memory");
        goto out;
    }
    for (uint32_t i = 0; i < count; i++) {
        weir_coordinator_describe_wait(coordinator, &coordinator->ranks[i + 1], texts[i].waits,
                                       sizeof texts[i].waits);
        fill_row(&coordinator->ranks[i + 1], i + 1, now, metrics, &texts[i], &rows[i]);
        pointers[i] = &rows[i];
    }
    status.job = coordinator->options.job;
    status.version = version;
    status.step = weir_coordinator_counters(coordinator).step;
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
    send_envelope(coordinator, to, &envelope);
out:
    free(rows);
    free(pointers);
    free(texts);
}
