/* Every frame once, in the order in which it was sent, or an error: whatever the network between
 * two ranks repeats, delays or overtakes.
 *
 * A sender numbers its frames to each rank from 0, modulo 2^16. The receiver hands on number after
 * number: a number that was handed on already is a copy, and dropped; one that is ahead waits for
 * those before it. When these have not come for a while, they are lost: that is an error, for a
 * lost gradient cannot be made good but by the last checkpoint. MPI never does any of this; a wrong
 * frame that does come is then known by its number. */
#ifndef WEIR_COMMON_FRAME_ORDER_H
#define WEIR_COMMON_FRAME_ORDER_H

#include "common/error.h"
#include "common/frame.h"

#include <stdbool.h>

typedef struct weir_frame_order weir_frame_order_t;

enum { WEIR_FRAME_ORDER_WAITING = 4096 }; /* frames of one sender that may wait: far below 2^15 */

/* Of a job of `ranks` ranks. A gap is an error after `patience` seconds. */
WEIR_MUST_USE weir_err_t weir_frame_order_create(uint32_t ranks, double patience,
                                                 weir_frame_order_t **order, weir_error_t *error);
/* Releases the frames that wait. Accepts NULL. */
void weir_frame_order_destroy(weir_frame_order_t *order);

/* The number of the next frame to rank `to`. */
uint16_t weir_frame_order_number(weir_frame_order_t *order, uint32_t to);

/* Whether a frame that came may be handed on at once: it is its turn, and none waits. */
bool weir_frame_order_pass(weir_frame_order_t *order, const weir_frame_t *frame);

/* Take over a frame that came at `now` (seconds, monotonic); weir_frame_order_next hands it on at
 * its turn. Errors: PEER when more wait than
 * may, or from no rank; memory. */
WEIR_MUST_USE weir_err_t weir_frame_order_take(weir_frame_order_t *order, weir_frame_t frame,
                                               double now, weir_error_t *error);

/* A frame whose turn it is, of any sender; the caller owns its payload. False: none. */
bool weir_frame_order_next(weir_frame_order_t *order, weir_frame_t *frame);

/* Whether any frame waits, for its turn or to be handed on. */
bool weir_frame_order_waits(const weir_frame_order_t *order);

/* PEER, with the sender and what is missing, when a frame has waited for longer than `patience`. */
WEIR_MUST_USE weir_err_t weir_frame_order_check(weir_frame_order_t *order, double now,
                                                weir_error_t *error);

typedef struct {
    uint64_t copies; /* frames that came again, and were dropped */
    uint64_t waited; /* frames that came before their turn */
} weir_frame_order_counters_t;
weir_frame_order_counters_t weir_frame_order_counters(const weir_frame_order_t *order);

#endif
