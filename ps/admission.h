#ifndef WEIR_PS_ADMISSION_H
#define WEIR_PS_ADMISSION_H
#include "common/config.h"
#include "common/error.h"
#include "common/hash.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
typedef struct weir_admission weir_admission_t;
typedef struct {
    weir_admission_kind_t kind;
    double probability;
    uint32_t threshold;
    uint64_t window;
    uint32_t counters;
    uint64_t seed;
    uint32_t table_id;
    weir_slot_t first_slot, end_slot;
} weir_admission_options_t;
WEIR_MUST_USE weir_err_t weir_admission_create(const weir_admission_options_t *options,
                                               weir_admission_t **admission, weir_error_t *error);
void weir_admission_destroy(weir_admission_t *admission);
void weir_admission_decide_batch(const weir_admission_t *admission, const weir_key_t *keys,
                                 size_t count, uint64_t step, bool *admitted);
bool weir_admission_note(weir_admission_t *admission, weir_key_t key);
void weir_admission_end_step(weir_admission_t *admission, uint64_t step);
uint64_t weir_admission_bytes(const weir_admission_t *admission);
void weir_admission_slot(weir_admission_t *admission, weir_slot_t slot, const uint16_t **values,
                         size_t *count);
WEIR_MUST_USE weir_err_t weir_admission_restore_slot(weir_admission_t *admission, weir_slot_t slot,
                                                     const uint16_t *values, size_t count,
                                                     weir_error_t *error);
#endif
