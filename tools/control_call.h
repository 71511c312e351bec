/* A question to the coordinator of a running job, and its answer. */
#ifndef WEIR_TOOLS_CONTROL_CALL_H
#define WEIR_TOOLS_CONTROL_CALL_H

#include "common/error.h"
#include "proto/curve.h"
#include "proto/envelope.h"

/* Where a coordinator listens, and with which keys. */
typedef struct {
    char endpoint[256];
    char server_key[WEIR_CURVE_KEY];
    weir_curve_keys_t keys;
} weir_control_address_t;

/* From RUN/control.json. Errors: NOT_FOUND (no job is running there), CORRUPT. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_control_address_read(const char *run, weir_control_address_t *address,
                                                   weir_error_t *error);

/* Ask and wait for the answer, `timeout` seconds at the most; *answer is freed by
 * weir_envelope_free. Errors: PEER, TIMEOUT, CORRUPT. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_control_call(const weir_control_address_t *address,
                                           const Weir__Control__Envelope *question, double timeout,
                                           Weir__Control__Envelope **answer, weir_error_t *error);

#endif
