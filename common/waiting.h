/* What a rank's main thread waits for, and for whom: told in every heartbeat, so that the
 * coordinator can follow who waits for whom when a job stands still.
 *
 * One writer, the thread that waits; one reader, the comm thread. A wait costs three relaxed
 * stores; nothing is published with them, and a reader that sees half of a change sees the other
 * half with the next heartbeat. */
#ifndef WEIR_COMMON_WAITING_H
#define WEIR_COMMON_WAITING_H

#include "common/comm.h"

#include <stdatomic.h>
#include <stdint.h>

typedef enum {
    WEIR_WAIT_NOTHING, /* it computes, or has nothing to do */
    WEIR_WAIT_PULL,    /* rows, from a server */
    WEIR_WAIT_PEEK,    /* rows of an evaluation, from a server */
    WEIR_WAIT_REDUCE,  /* dense gradients, from a worker */
    WEIR_WAIT_GATHER,  /* dense parameters, from a worker */
    WEIR_WAIT_BARRIER, /* what a worker has to say of the step */
    WEIR_WAIT_PUSH,    /* gradients of rows, from a worker */
    WEIR_WAIT_CUT,     /* a server's word that it has remembered a step */
    WEIR_WAIT_KINDS
} weir_wait_kind_t;

typedef struct {
    weir_wait_kind_t kind;
    weir_rank_t rank;  /* whom it waits for */
    uint64_t progress; /* waits that have ended, or frames that were handled */
} weir_wait_t;

typedef struct {
    _Atomic uint32_t kind, rank;
    _Atomic uint64_t progress;
} weir_waiting_t;

/* Accept NULL: nobody asks. Threads: the one that waits. */
static inline void weir_waiting_begin(weir_waiting_t *waiting, weir_wait_kind_t kind,
                                      weir_rank_t rank) {
    if (waiting != NULL) {
        atomic_store_explicit(&waiting->rank, rank, memory_order_relaxed);
        atomic_store_explicit(&waiting->kind, (uint32_t)kind, memory_order_relaxed);
    }
}

static inline void weir_waiting_end(weir_waiting_t *waiting) {
    if (waiting != NULL) {
        atomic_store_explicit(&waiting->kind, WEIR_WAIT_NOTHING, memory_order_relaxed);
        /* One writer: no exchange is needed. */
        uint64_t progress = atomic_load_explicit(&waiting->progress, memory_order_relaxed);
        atomic_store_explicit(&waiting->progress, progress + 1, memory_order_relaxed);
    }
}

/* Threads: any. */
static inline weir_wait_t weir_waiting_read(weir_waiting_t *waiting) {
    weir_wait_t now = {.kind = WEIR_WAIT_NOTHING};
    if (waiting != NULL) {
        now.kind = (weir_wait_kind_t)atomic_load_explicit(&waiting->kind, memory_order_relaxed);
        now.rank = atomic_load_explicit(&waiting->rank, memory_order_relaxed);
        now.progress = atomic_load_explicit(&waiting->progress, memory_order_relaxed);
    }
    return now;
}

#endif
