/* Who may connect to the control socket: the answers to ZeroMQ's questions about the keys of peers
 * (ZAP, ZeroMQ RFC 27), asked by its I/O thread before a peer's first message is taken. */
#ifndef WEIR_COORDINATOR_CONTROL_GUARD_H
#define WEIR_COORDINATOR_CONTROL_GUARD_H

#include "common/error.h"

#include <stdint.h>

typedef struct weir_control_guard weir_control_guard_t;

/* Answers for all sockets of `context`, which must outlive it. */
WEIR_MUST_USE weir_err_t weir_control_guard_open(void *context, weir_control_guard_t **guard,
                                                 weir_error_t *error);
/* Accepts NULL. */
void weir_control_guard_close(weir_control_guard_t *guard);

/* Let the owner of `public_key` (Z85) in, under a name: at most 31 bytes, which
 * zmq_msg_gets(.., "User-Id") then says of its messages. */
WEIR_MUST_USE weir_err_t weir_control_guard_admit(weir_control_guard_t *guard,
                                                  const char *public_key, const char *name,
                                                  weir_error_t *error);

/* Of the questions, for zmq_poll. */
void *weir_control_guard_socket(weir_control_guard_t *guard);

/* Answer all questions that are there. Never blocks. */
void weir_control_guard_serve(weir_control_guard_t *guard);

#endif
