/* Checks that every kind of encoder makes. */
#ifndef WEIR_WORKER_ENCODER_CHECKS_H
#define WEIR_WORKER_ENCODER_CHECKS_H

#include "worker/encoder.h"

/* Widths, lengths, blocks and dropout within bounds in which no size overflows. */
WEIR_MUST_USE weir_err_t weir_encoder_check_config(const weir_encoder_config_t *config,
                                                   weir_error_t *error);

/* Offsets ascend from 0 to T, every user has 1 to max_sequence_length events. */
WEIR_MUST_USE weir_err_t weir_encoder_check_batch(const weir_encoder_config_t *config,
                                                  const weir_sequence_batch_t *batch,
                                                  weir_error_t *error);

#endif
