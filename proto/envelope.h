/* Control messages in memory: one Envelope of control.proto in one ZeroMQ message of at most
 * WEIR_ENVELOPE_MAX bytes. Larger ones are refused before they are decoded. */
#ifndef WEIR_PROTO_ENVELOPE_H
#define WEIR_PROTO_ENVELOPE_H

#include "common/error.h"
#include "proto/control.pb-c.h"

#include <stddef.h>
#include <stdint.h>

/* The INIT macros of protobuf-c cast a const away. gcc knows that they are a system header's; clang
 * warns where they are used. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wcast-qual"
#endif

enum { WEIR_ENVELOPE_MAX = 1 << 20 };

typedef struct {
    void *bytes; /* owned: free with free() */
    size_t size;
} weir_packed_t;

/* Encode; the envelope stays the caller's. */
WEIR_MUST_USE weir_err_t weir_envelope_pack(const Weir__Control__Envelope *envelope,
                                            weir_packed_t *packed, weir_error_t *error);

/* Decode and check: known body, texts within bounds, counts within bounds. Caller frees with
 * weir_envelope_free. */
WEIR_MUST_USE weir_err_t weir_envelope_unpack(const void *bytes, size_t size,
                                              Weir__Control__Envelope **envelope,
                                              weir_error_t *error);
void weir_envelope_free(Weir__Control__Envelope *envelope);

#endif
