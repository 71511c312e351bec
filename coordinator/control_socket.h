/* The coordinator's end of the control plane: a ZeroMQ ROUTER. Ranks and ctl connect to it, each
 * under an identity; a message is one body.
 *
 * With keys, the socket speaks CURVE: a peer whose key was not admitted is turned away before its
 * first message, and what an admitted one says counts under its own identity alone. */
#ifndef WEIR_COORDINATOR_CONTROL_SOCKET_H
#define WEIR_COORDINATOR_CONTROL_SOCKET_H

#include "common/error.h"
#include "coordinator/coordinator.h"
#include "proto/curve.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_control_socket weir_control_socket_t;

/* Listen. `host`: an address, an interface, a host name, or "*" for all interfaces; `port` 0: any
 * free one. `keys`: of this end; NULL: without CURVE, for everybody. `endpoint` (capacity at least
 * 128) becomes what others connect to: for "*" the name of this host. Errors: EXISTS when the port
 * is in use, INVALID for a host that is none of ours. Call: blocks (resolves the name). Threads:
 * one, for all calls. */
WEIR_MUST_USE weir_err_t weir_control_socket_open(const char *host, int64_t port,
                                                  const weir_curve_keys_t *keys, char *endpoint,
                                                  size_t capacity, weir_control_socket_t **socket,
                                                  weir_error_t *error);

/* The owner of `public_key` may speak: as rank `rank`, or with WEIR_CONTROL_CTL as a ctl. Peers
 * wait with their first message until the first call of wait. Nothing without CURVE. */
#define WEIR_CONTROL_CTL UINT32_MAX
WEIR_MUST_USE weir_err_t weir_control_socket_admit(weir_control_socket_t *socket,
                                                   const char *public_key, uint32_t rank,
                                                   weir_error_t *error);

/* Let what was sent go out, for a second at the most. Accepts NULL. */
void weir_control_socket_close(weir_control_socket_t *socket);

/* Until there may be a message, the descriptor `other` (-1: none) is readable, a signal came, or
 * `seconds` have passed. */
void weir_control_socket_wait(weir_control_socket_t *socket, int other, double seconds);

/* The next message, if there is one: `*bytes` are the socket's and valid until the next call.
 * Anything but one body under a short identity, which with CURVE must be that of its key, is
 * dropped; `*whole` says that this was not. */
bool weir_control_socket_receive(weir_control_socket_t *socket, weir_identity_t *from,
                                 const void **bytes, size_t *size, bool *whole);

/* Never blocks: a peer that is gone or slow loses its message, never the coordinator its time. */
void weir_control_socket_send(weir_control_socket_t *socket, const weir_identity_t *to,
                              const void *bytes, size_t size);

#endif
