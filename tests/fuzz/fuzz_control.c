/* A control message from anybody: the first byte chooses the sender, the rest is the message. The
 * same bytes go through the decoder and through a coordinator that has a checkpoint under way. */
#include "common/log.h"
#include "coordinator/coordinator.h"
#include "proto/envelope.h"
#include "tests/fuzz/target.h"

#include <stdlib.h>
#include <string.h>

enum { JOB = 1, PS = 1, WORKERS = 2, LEAD = 2 };

static void send_nowhere(void *argument, const weir_identity_t *to, const void *bytes,
                         size_t size) {
    Weir__Control__Envelope *envelope = NULL;
    (void)argument;
    (void)to;
    if (weir_envelope_unpack(bytes, size, &envelope, NULL) != WEIR_OK) {
        abort(); /* what the coordinator sends, the other end must understand */
    }
    weir_envelope_free(envelope);
}

static weir_err_t begin(void *argument, uint64_t step, char *folder, size_t capacity,
                        weir_error_t *error) {
    (void)argument;
    (void)step;
    (void)error;
    (void)strncpy(folder, "folder", capacity);
    return WEIR_OK;
}

static weir_err_t publish(void *argument, const weir_manifest_t *manifest, bool best,
                          weir_error_t *error) {
    (void)argument;
    (void)best;
    char *text = NULL;
    size_t size = 0;
    weir_err_t err = weir_manifest_format(manifest, &text, &size, error);
    free(text);
    return err;
}

static void abandon(void *argument, const char *folder) {
    (void)argument;
    (void)folder;
}

static weir_coordinator_t *create_coordinator(void) {
    static const weir_coordinator_operations_t operations = {
        .send = send_nowhere, .begin = begin, .publish = publish, .abandon = abandon};
    weir_coordinator_options_t options = {.job = JOB,
                                          .ps = PS,
                                          .workers = WORKERS,
                                          .config_yaml = "model: {}\n",
                                          .silence_seconds = 10.0,
                                          .checkpoint_seconds = 10.0,
                                          .leave_seconds = 10.0};
    weir_coordinator_t *coordinator = NULL;
    if (weir_coordinator_create(&options, &operations, 0.0, &coordinator, NULL) != WEIR_OK) {
        abort();
    }
    return coordinator;
}

static void receive(weir_coordinator_t *coordinator, uint8_t who, const uint8_t *bytes,
                    size_t size) {
    weir_identity_t from = {.bytes = "ctl", .size = 3};
    if (who % 4 != 0) {
        weir_identity_of_rank(who % 4, &from);
    }
    weir_coordinator_receive(coordinator, &from, bytes, size, 1.0);
}

static void begin_checkpoint(weir_coordinator_t *coordinator) {
    Weir__Control__CheckpointRequest request = WEIR__CONTROL__CHECKPOINT_REQUEST__INIT;
    Weir__Control__Envelope envelope = WEIR__CONTROL__ENVELOPE__INIT;
    weir_packed_t packed;
    request.step = 1;
    envelope.job = JOB;
    envelope.body_case = WEIR__CONTROL__ENVELOPE__BODY_CHECKPOINT_REQUEST;
    envelope.checkpoint_request = &request;
    if (weir_envelope_pack(&envelope, &packed, NULL) != WEIR_OK) {
        return;
    }
    receive(coordinator, LEAD, packed.bytes, packed.size);
    free(packed.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const uint8_t nothing;
    weir_coordinator_t *coordinator = create_coordinator();
    const char *reason = NULL;
    weir_log_init("fuzz", -1,
                  (weir_log_level_t)(WEIR_LOG_ERROR + 1)); /* refusals are the rule here */
    uint8_t who = size > 0 ? bytes[0] : 0;
    bytes = size > 0 ? bytes + 1 : &nothing;
    size = size > 0 ? size - 1 : 0;
    receive(coordinator, who, bytes, size);
    begin_checkpoint(coordinator);
    receive(coordinator, who, bytes, size);
    weir_coordinator_tick(coordinator, 5.0);
    weir_coordinator_tick(coordinator, 20.0);
    (void)weir_coordinator_is_done(coordinator, &reason);
    weir_coordinator_destroy(coordinator);
    return 0;
}
