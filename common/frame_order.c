#include "common/frame_order.h"

#include <stdlib.h>

typedef struct waiting {
    struct waiting *next;
    weir_frame_t frame;
} waiting_t;

typedef struct {
    uint16_t sent;      /* number of the next frame to it */
    uint16_t wanted;    /* number of the next frame from it that is handed on */
    waiting_t *waiting; /* frames from it, by number from `wanted` on */
    uint32_t count;
    double since; /* when the first of them began to wait for what is missing */
} peer_t;

struct weir_frame_order {
    uint32_t ranks;
    double patience;
    uint32_t turn;    /* the sender that is looked at first */
    uint32_t waiting; /* frames, of all senders */
    weir_frame_order_counters_t counters;
    peer_t peers[];
};

weir_err_t weir_frame_order_create(uint32_t ranks, double patience, weir_frame_order_t **order,
                                   weir_error_t *error) {
    weir_frame_order_t *created = calloc(1, sizeof *created + ranks * sizeof created->peers[0]);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the frames of %u ranks", ranks);
    }
    created->ranks = ranks;
    created->patience = patience;
    *order = created;
    return WEIR_OK;
}

void weir_frame_order_destroy(weir_frame_order_t *order) {
    for (uint32_t rank = 0; order != NULL && rank < order->ranks; rank++) {
        waiting_t *next;
        for (waiting_t *at = order->peers[rank].waiting; at != NULL; at = next) {
            next = at->next;
            weir_buffer_release(at->frame.payload);
            free(at);
        }
    }
    free(order);
}

uint16_t weir_frame_order_number(weir_frame_order_t *order, uint32_t to) {
    return order->peers[to].sent++;
}

/* How far a number lies ahead of the one that is wanted; 2^15 and more: behind. */
static uint16_t distance(const peer_t *peer, uint16_t number) {
    return (uint16_t)(number - peer->wanted);
}

bool weir_frame_order_pass(weir_frame_order_t *order, const weir_frame_t *frame) {
    if (order->waiting > 0 || frame->header.source >= order->ranks ||
        distance(&order->peers[frame->header.source], frame->header.number) != 0) {
        return false;
    }
    order->peers[frame->header.source].wanted++;
    return true;
}

static weir_err_t drop_copy(weir_frame_order_t *order, weir_frame_t frame) {
    weir_buffer_release(frame.payload);
    order->counters.copies++;
    return WEIR_OK;
}

weir_err_t weir_frame_order_take(weir_frame_order_t *order, weir_frame_t frame, double now,
                                 weir_error_t *error) {
    uint32_t source = frame.header.source;
    if (source >= order->ranks) {
        weir_buffer_release(frame.payload);
        return weir_errorf(error, WEIR_ERR_PEER, "a frame is from rank %u of %u", source,
                           order->ranks);
    }
    peer_t *peer = &order->peers[source];
    uint16_t ahead = distance(peer, frame.header.number);
    if (ahead >= 1u << 15) {
        return drop_copy(order, frame);
    }
    waiting_t **place = &peer->waiting;
    while (*place != NULL && distance(peer, (*place)->frame.header.number) < ahead) {
        place = &(*place)->next;
    }
    if (*place != NULL && (*place)->frame.header.number == frame.header.number) {
        return drop_copy(order, frame);
    }
    waiting_t *made = peer->count < WEIR_FRAME_ORDER_WAITING ? malloc(sizeof *made) : NULL;
    if (made == NULL) {
        weir_buffer_release(frame.payload);
        return peer->count < WEIR_FRAME_ORDER_WAITING
                   ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a frame of rank %u", source)
                   : weir_errorf(error, WEIR_ERR_PEER,
                                 "rank %u: %u frames wait for one that does not come", source,
                                 peer->count);
    }
    *made = (waiting_t){.next = *place, .frame = frame};
    *place = made;
    peer->since = peer->count == 0 ? now : peer->since;
    peer->count++;
    order->waiting++;
    order->counters.waited += ahead > 0 ? 1 : 0;
    return WEIR_OK;
}

bool weir_frame_order_next(weir_frame_order_t *order, weir_frame_t *frame) {
    for (uint32_t i = 0; i < order->ranks && order->waiting > 0; i++) {
        uint32_t rank = (order->turn + i) % order->ranks;
        peer_t *peer = &order->peers[rank];
        waiting_t *first = peer->waiting;
        if (first == NULL || first->frame.header.number != peer->wanted) {
            continue;
        }
        *frame = first->frame;
        peer->waiting = first->next;
        peer->wanted++;
        peer->count--;
        order->waiting--;
        order->turn = (rank + 1) % order->ranks;
        free(first);
        return true;
    }
    return false;
}

bool weir_frame_order_waits(const weir_frame_order_t *order) {
    return order->waiting > 0;
}

weir_err_t weir_frame_order_check(weir_frame_order_t *order, double now, weir_error_t *error) {
    for (uint32_t rank = 0; rank < order->ranks && order->waiting > 0; rank++) {
        peer_t *peer = &order->peers[rank];
        if (peer->waiting == NULL || peer->waiting->frame.header.number == peer->wanted) {
            peer->since = now;
        } else if (now - peer->since > order->patience) {
            (void)weir_errorf(
                error, WEIR_ERR_PEER,
                "rank %u: %u frames before a %s of step %llu did not come in %.0f s", rank,
                distance(peer, peer->waiting->frame.header.number),
                weir_frame_type_name((weir_frame_type_t)peer->waiting->frame.header.type),
                (unsigned long long)peer->waiting->frame.header.step, order->patience);
            weir_error_hint(error, "the network between the hosts loses messages; resume from the "
                                   "last checkpoint");
            return WEIR_ERR_PEER;
        }
    }
    return WEIR_OK;
}

weir_frame_order_counters_t weir_frame_order_counters(const weir_frame_order_t *order) {
    return order->counters;
}
