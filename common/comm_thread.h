/* The comm thread: the one thread of a process that owns its transport and its control socket.
 *
 * Compute and apply threads hand it frames to send and take received frames from it, through
 * bounded rings; they never call MPI or ZeroMQ. It sleeps whenever it can, so
 * that ranks that share cores do not starve each other; a post wakes it at once, and so does the
 * doorbell of a rank of the same host that has sent something (docs/design/0005). */
#ifndef WEIR_COMMON_COMM_THREAD_H
#define WEIR_COMMON_COMM_THREAD_H

#include "common/comm.h"
#include "common/error.h"

#include <stdbool.h>

typedef struct weir_comm_thread weir_comm_thread_t;

typedef struct {
    weir_comm_t *comm; /* not owned; used by the comm thread alone between start and stop */
    /* Called on each turn of the comm thread, for the control socket; true when it did something,
     * upon which a thread that blocks in take is woken. May be NULL. Threads: comm. */
    bool (*poll_control)(void *control);
    void *control;
    /* A descriptor that becomes readable when the control socket may have something (ZMQ_FD), to be
     * woken from a long sleep by; -1: none. */
    int control_fd;
    /* Ranks that send frames to this one, for doorbells (common/doorbell.h); 0: no bell. The job of
     * the transport is set. */
    uint32_t callers;
} weir_comm_thread_options_t;

/* MPI was initialised by the caller's thread with MPI_THREAD_SERIALIZED; from start to stop only
 * the comm thread uses it. */
WEIR_MUST_USE weir_err_t weir_comm_thread_start(const weir_comm_thread_options_t *options,
                                                weir_comm_thread_t **thread, weir_error_t *error);

/* Hand over a frame to send (payload ownership moves, also on failure). Blocks while the ring is
 * full. Fails at once when the comm thread has failed. Call: blocks. Threads: one (compute or
 * apply). */
WEIR_MUST_USE weir_err_t weir_comm_thread_post(weir_comm_thread_t *thread, weir_rank_t to,
                                               weir_frame_t frame, weir_error_t *error);

/* Take the oldest received frame whose type is in `types` (bits 1 << weir_frame_type_t); frames of
 * other types are kept, in order, for later calls. Caller owns the payload. `*received` false: none
 * came within `timeout_seconds` (0: look and return), or poll_control said that there is something
 * else to do. Call: blocks. Threads: one (compute or apply). */
WEIR_MUST_USE weir_err_t weir_comm_thread_take(weir_comm_thread_t *thread, uint32_t types,
                                               double timeout_seconds, weir_frame_t *frame,
                                               bool *received, weir_error_t *error);

/* Frames posted that the transport has not got yet, and frames received that nobody has taken,
 * those kept for later calls not counted. Threads: any; a moment's truth. */
void weir_comm_thread_depths(weir_comm_thread_t *thread, size_t *posted, size_t *received);

/* Drain sends (up to `timeout_seconds`), end the thread, free all. Accepts NULL. */
WEIR_MUST_USE weir_err_t weir_comm_thread_stop(weir_comm_thread_t *thread, double timeout_seconds,
                                               weir_error_t *error);

#endif
