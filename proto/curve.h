/* CurveZMQ (ZeroMQ RFC 26) on the control plane: who may speak, and that nobody else can read.
 *
 * Keys are made anew for every job. Each rank makes its own pair and tells its public key on its
 * card; a secret key leaves its process only in RUN/control.json (mode 0600), for `weir ctl`. */
#ifndef WEIR_PROTO_CURVE_H
#define WEIR_PROTO_CURVE_H

#include "common/error.h"

#include <stdbool.h>

enum { WEIR_CURVE_KEY = 41 }; /* Z85 text of 32 bytes, and its NUL */

/* Both empty: the control plane is open to everybody. */
typedef struct {
    char public_key[WEIR_CURVE_KEY], secret_key[WEIR_CURVE_KEY];
} weir_curve_keys_t;

/* Errors: UNSUPPORTED, with a hint, where this libzmq was built without CURVE. */
WEIR_MUST_USE weir_err_t weir_curve_make_keys(weir_curve_keys_t *keys, weir_error_t *error);

/* A public key as text: 40 characters of Z85. */
bool weir_curve_is_key(const char *text);

/* Before zmq_connect: speak to the owner of `server_key` alone, as the owner of `keys`. Nothing
 * when `server_key` is empty. Errors: INVALID for keys that are none. */
WEIR_MUST_USE weir_err_t weir_curve_connect(void *socket, const char *server_key,
                                            const weir_curve_keys_t *keys, weir_error_t *error);

#endif
