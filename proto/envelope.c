#include "proto/envelope.h"

#include "common/checkpoint.h"

#include <stdlib.h>
#include <string.h>

/* Longer texts and lists are nobody's who speaks this protocol. */
enum { MAX_TEXT = 64 * 1024, MAX_FILES = 4096, MAX_RANKS = 1 << 16, MAX_METRICS = 1024 };

weir_err_t weir_envelope_pack(const Weir__Control__Envelope *envelope, weir_packed_t *packed,
                              weir_error_t *error) {
    size_t size = weir__control__envelope__get_packed_size(envelope);
    if (size > WEIR_ENVELOPE_MAX) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "a control message of %zu bytes, the most is %d", size,
                           WEIR_ENVELOPE_MAX);
    }
    void *bytes = malloc(size > 0 ? size : 1);
    if (bytes == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a control message");
    }
    (void)weir__control__envelope__pack(envelope, bytes);
    *packed = (weir_packed_t){.bytes = bytes, .size = size};
    return WEIR_OK;
}

static bool is_short(const char *text) {
    return text == NULL || strlen(text) <= MAX_TEXT;
}

static bool has_sane_files(const Weir__Control__CheckpointDone *done) {
    if (done->n_files > MAX_FILES || !is_short(done->error) || !is_short(done->kind)) {
        return false;
    }
    for (size_t i = 0; i < done->n_files; i++) {
        if (strlen(done->files[i]->name) >= WEIR_CHECKPOINT_NAME_MAX) {
            return false;
        }
    }
    return true;
}

static bool is_sane(const Weir__Control__Envelope *envelope) {
    switch (envelope->body_case) {
    case WEIR__CONTROL__ENVELOPE__BODY_JOIN:
        return is_short(envelope->join->role) && is_short(envelope->join->host) &&
               is_short(envelope->join->version);
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST:
        return is_short(envelope->checkpoint_request->metrics_json);
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_BEGIN:
        return is_short(envelope->checkpoint_begin->folder);
    case WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_DONE:
        return has_sane_files(envelope->checkpoint_done);
    case WEIR__CONTROL__ENVELOPE__BODY_STATUS:
        return is_short(envelope->status->version) && envelope->status->n_ranks <= MAX_RANKS;
    case WEIR__CONTROL__ENVELOPE__BODY_STOP:
        return is_short(envelope->stop->reason);
    case WEIR__CONTROL__ENVELOPE__BODY_REPLY:
        return is_short(envelope->reply->message);
    case WEIR__CONTROL__ENVELOPE__BODY_HEARTBEAT:
        return envelope->heartbeat->n_metric <= MAX_METRICS &&
               envelope->heartbeat->n_value <= MAX_METRICS;
    case WEIR__CONTROL__ENVELOPE__BODY_STATUS_REQUEST:
        return true;
    default:
        return false;
    }
}

weir_err_t weir_envelope_unpack(const void *bytes, size_t size, Weir__Control__Envelope **envelope,
                                weir_error_t *error) {
    if (size > WEIR_ENVELOPE_MAX) {
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "a control message of %zu bytes, the most is %d", size,
                           WEIR_ENVELOPE_MAX);
    }
    Weir__Control__Envelope *unpacked = weir__control__envelope__unpack(NULL, size, bytes);
    if (unpacked == NULL) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "a control message of %zu bytes is no message",
                           size);
    }
    if (!is_sane(unpacked)) {
        weir_envelope_free(unpacked);
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "a control message without a known body, or with parts too large");
    }
    *envelope = unpacked;
    return WEIR_OK;
}

void weir_envelope_free(Weir__Control__Envelope *envelope) {
    if (envelope != NULL) {
        weir__control__envelope__free_unpacked(envelope, NULL);
    }
}
