#include "ps/admission.h"
weir_err_t weir_admission_create(const weir_admission_options_t *options,
                                 weir_admission_t **admission, weir_error_t *error) {
    (void)options;
    (void)admission;
    return weir_errorf(error, WEIR_ERR_INVALID, "not yet");
}
void weir_admission_destroy(weir_admission_t *admission) {
    (void)admission;
}
void weir_admission_decide_batch(const weir_admission_t *admission, const weir_key_t *keys,
                                 size_t count, uint64_t step, bool *admitted) {
    (void)admission;
    (void)keys;
    (void)step;
    for (size_t i = 0; i < count; i++) {
        admitted[i] = true;
    }
}
bool weir_admission_note(weir_admission_t *admission, weir_key_t key) {
    (void)admission;
    (void)key;
    return true;
}
void weir_admission_end_step(weir_admission_t *admission, uint64_t step) {
    (void)admission;
    (void)step;
}
uint64_t weir_admission_bytes(const weir_admission_t *admission) {
    (void)admission;
    return 0;
}
void weir_admission_slot(weir_admission_t *admission, weir_slot_t slot, const uint16_t **values,
                         size_t *count) {
    (void)admission;
    (void)slot;
    *values = NULL;
    *count = 0;
}
weir_err_t weir_admission_restore_slot(weir_admission_t *admission, weir_slot_t slot,
                                       const uint16_t *values, size_t count, weir_error_t *error) {
    (void)admission;
    (void)slot;
    (void)values;
    (void)count;
    (void)error;
    return WEIR_OK;
}
