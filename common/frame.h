/* Wire frames: the unit of the data plane (docs/files/frame.md).
 *
 * A frame is a 64-byte little-endian header and a payload. A payload travels in pieces of at most
 * WEIR_FRAME_PIECE bytes, behind its header. Whatever arrives is checked (magic, version, job,
 * type, length under the cap, both checksums) before it is used. A payload of at most
 * WEIR_FRAME_EAGER bytes rides with its header in one message. */
#ifndef WEIR_COMMON_FRAME_H
#define WEIR_COMMON_FRAME_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

typedef enum {
    WEIR_FRAME_PULL_REQ = 1, /* worker -> ps: keys of step t */
    WEIR_FRAME_PULL_REP = 2, /* ps -> worker: rows, in the order of the keys */
    WEIR_FRAME_PUSH_REQ = 3, /* worker -> ps: gradients of step t, in the order of its pull */
    WEIR_FRAME_PEEK_REQ = 4, /* worker -> ps: keys, outside any step; no row is born */
    WEIR_FRAME_PEEK_REP = 5, /* ps -> worker */
    WEIR_FRAME_REDUCE = 6,   /* worker -> worker: the receiver's slice of a gradient bucket */
    WEIR_FRAME_GATHER = 7,   /* worker -> worker: the sender's updated slice of the parameters */
    WEIR_FRAME_BARRIER = 8,  /* worker -> worker: small agreed values at a boundary */
    WEIR_FRAME_CUT_REQ = 9,  /* worker -> ps: step t is to be saved */
    WEIR_FRAME_CUT_REP = 10, /* ps -> worker: it will be, whatever comes now */
    WEIR_FRAME_TYPE_COUNT
} weir_frame_type_t;

enum {
    WEIR_FRAME_HEADER_SIZE = 64,
    WEIR_FRAME_PIECE = 256 * 1024, /* bytes; the size at which MPI is fastest over shared memory */
    /* bytes; with the header it stays under the 4 KiB up to which Open MPI sends without asking */
    WEIR_FRAME_EAGER = 3968,
    WEIR_FRAME_VERSION = 1
};

/* A payload above this is refused before anything is allocated for it. */
#define WEIR_FRAME_MAX_PAYLOAD ((uint64_t)1 << 32)

typedef struct {
    uint16_t type;             /* weir_frame_type_t */
    uint16_t flags;            /* meaning by type */
    uint16_t number;           /* of the frames from its sender to its receiver, modulo 2^16 */
    uint32_t source;           /* rank of the sender in the job */
    uint64_t job;              /* identity of this run of the job, from the roster */
    uint64_t step;             /* step t the frame belongs to */
    uint32_t sequence;         /* by type: bucket or request number within the step */
    uint32_t count;            /* by type: keys, rows or elements in the payload */
    uint64_t payload_size;     /* bytes */
    uint64_t payload_checksum; /* weir_frame_checksum */
} weir_frame_header_t;

typedef struct {
    weir_frame_header_t header;
    void *payload; /* from weir_buffer_acquire; NULL when payload_size is 0 */
} weir_frame_t;

/* Encode into exactly WEIR_FRAME_HEADER_SIZE bytes; adds magic, version and header checksum. */
void weir_frame_encode_header(const weir_frame_header_t *header,
                              uint8_t bytes[WEIR_FRAME_HEADER_SIZE]);

/* Decode and check all but the payload's checksum. `job` 0 accepts any job. */
WEIR_MUST_USE weir_err_t weir_frame_decode_header(const uint8_t *bytes, size_t size, uint64_t job,
                                                  weir_frame_header_t *header, weir_error_t *error);

/* The checksum of a payload: over its pieces in order, each seeded with the result for those before
 * it (the first with 0), so that a receiver takes each piece as it comes. 0 when there is no
 * payload. */
uint64_t weir_frame_checksum(const void *payload, size_t size);

/* Buffers of frames: size classes with free lists, so that the steady state allocates nothing.
 * 64-byte aligned. Release accepts NULL. Threads: any. */
WEIR_MUST_USE void *weir_buffer_acquire(size_t size);
void weir_buffer_release(void *buffer);
/* Free the free lists, at exit. */
void weir_buffer_trim(void);

const char *weir_frame_type_name(weir_frame_type_t type); /* "pull_req", ... */

#endif
