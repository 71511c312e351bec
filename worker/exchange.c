#include "worker/exchange.h"

#include "common/assert.h"
#include "common/clock.h"
#include "common/trace.h"

#include <stdlib.h>
#include <string.h>

/* More early frames than this means that a worker runs ahead of the protocol. A worker can be one
 * step ahead: its reduce and gather frames of one step for each bucket, and a few small ones. */
enum {
    MAX_EARLY_FRAMES = 1 << 16,
    EXCHANGE_TYPES = 1u << WEIR_FRAME_REDUCE | 1u << WEIR_FRAME_GATHER | 1u << WEIR_FRAME_BARRIER
};

struct weir_exchange {
    weir_exchange_options_t options;
    /* Received and not yet asked for, in order of arrival: elements first .. end - 1. Mostly they
     * are asked for in that order, so that one leaves at the front at no cost. */
    weir_frame_t *early;
    size_t early_first, early_end, early_capacity;
    double seconds_waited;
};

weir_err_t weir_exchange_create(const weir_exchange_options_t *options, weir_exchange_t **exchange,
                                weir_error_t *error) {
    if (options->workers == 0 || options->worker >= options->workers) {
        return weir_errorf(error, WEIR_ERR_INVALID, "worker %u of %u cannot be", options->worker,
                           options->workers);
    }
    weir_exchange_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the workers' exchange");
    }
    created->options = *options;
    *exchange = created;
    return WEIR_OK;
}

void weir_exchange_destroy(weir_exchange_t *exchange) {
    if (exchange != NULL) {
        for (size_t i = exchange->early_first; i < exchange->early_end; i++) {
            weir_buffer_release(exchange->early[i].payload);
        }
        free(exchange->early);
        free(exchange);
    }
}

uint32_t weir_exchange_worker(const weir_exchange_t *exchange) {
    return exchange->options.worker;
}

uint32_t weir_exchange_workers(const weir_exchange_t *exchange) {
    return exchange->options.workers;
}

double weir_exchange_seconds_waited(const weir_exchange_t *exchange) {
    return exchange->seconds_waited;
}

weir_err_t weir_exchange_send(weir_exchange_t *exchange, weir_frame_type_t type, uint64_t step,
                              uint32_t sequence, uint32_t to, const void *payload, size_t size,
                              weir_error_t *error) {
    WEIR_ASSERT(to < exchange->options.workers && to != exchange->options.worker);
    weir_frame_t frame = {
        .header = {
            .type = (uint16_t)type, .step = step, .sequence = sequence, .payload_size = size}};
    if (size > 0) {
        frame.payload = weir_buffer_acquire(size);
        if (frame.payload == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a frame of %zu bytes", size);
        }
        memcpy(frame.payload, payload, size);
    }
    return weir_comm_thread_post(exchange->options.comm_thread,
                                 exchange->options.first_worker_rank + to, frame, error);
}

/* What the timeline calls waiting for a frame. */
static const char *name_wait(weir_frame_type_t type) {
    return type == WEIR_FRAME_REDUCE   ? "wait reduce"
           : type == WEIR_FRAME_GATHER ? "wait gather"
                                       : "wait agree";
}

static bool has_name(const weir_frame_header_t *header, weir_frame_type_t type, uint64_t step,
                     uint32_t sequence, weir_rank_t source) {
    return header->type == type && header->step == step && header->sequence == sequence &&
           header->source == source;
}

/* Hand out a frame of the right name, if its length is right too. */
static weir_err_t open_frame(weir_frame_t frame, size_t size, void **payload, weir_error_t *error) {
    if (frame.header.payload_size != size) {
        weir_buffer_release(frame.payload);
        return weir_errorf(error, WEIR_ERR_PEER,
                           "rank %u sent a %s frame of %llu bytes for step %llu where %zu belong",
                           frame.header.source,
                           weir_frame_type_name((weir_frame_type_t)frame.header.type),
                           (unsigned long long)frame.header.payload_size,
                           (unsigned long long)frame.header.step, size);
    }
    *payload = frame.payload;
    return WEIR_OK;
}

/* Room for one more early frame: at the front, where frames have left, or by growing. */
static bool make_room(weir_exchange_t *exchange) {
    size_t count = exchange->early_end - exchange->early_first;
    if (exchange->early_end < exchange->early_capacity) {
        return true;
    }
    if (exchange->early_first > exchange->early_capacity / 2) {
        memmove(exchange->early, exchange->early + exchange->early_first,
                count * sizeof *exchange->early);
        exchange->early_first = 0;
        exchange->early_end = count;
        return true;
    }
    size_t capacity = exchange->early_capacity == 0 ? 64 : 2 * exchange->early_capacity;
    weir_frame_t *grown =
        capacity > 2 * MAX_EARLY_FRAMES ? NULL : realloc(exchange->early, capacity * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    exchange->early = grown;
    exchange->early_capacity = capacity;
    return true;
}

static weir_err_t keep_early(weir_exchange_t *exchange, weir_frame_t frame, weir_error_t *error) {
    size_t count = exchange->early_end - exchange->early_first;
    if (count >= MAX_EARLY_FRAMES || !make_room(exchange)) {
        weir_buffer_release(frame.payload);
        return weir_errorf(error, WEIR_ERR_PEER,
                           "rank %u sends frames that nobody asked for (%zu are waiting)",
                           frame.header.source, count);
    }
    exchange->early[exchange->early_end++] = frame;
    return WEIR_OK;
}

/* Its place among the early frames; early_end: it is not there. */
static size_t find_early(const weir_exchange_t *exchange, weir_frame_type_t type, uint64_t step,
                         uint32_t sequence, uint32_t from) {
    weir_rank_t source = exchange->options.first_worker_rank + from;
    size_t i = exchange->early_first;
    while (i < exchange->early_end &&
           !has_name(&exchange->early[i].header, type, step, sequence, source)) {
        i++;
    }
    return i;
}

bool weir_exchange_has(const weir_exchange_t *exchange, weir_frame_type_t type, uint64_t step,
                       uint32_t sequence, uint32_t from) {
    return find_early(exchange, type, step, sequence, from) < exchange->early_end;
}

weir_err_t weir_exchange_look(weir_exchange_t *exchange, weir_error_t *error) {
    bool received = exchange->options.workers > 1;
    weir_err_t err = WEIR_OK;
    while (err == WEIR_OK && received) {
        weir_frame_t frame;
        err = weir_comm_thread_take(exchange->options.comm_thread, EXCHANGE_TYPES, 0.0, &frame,
                                    &received, error);
        if (err == WEIR_OK && received) {
            err = keep_early(exchange, frame, error);
        }
    }
    return err;
}

weir_err_t weir_exchange_receive(weir_exchange_t *exchange, weir_frame_type_t type, uint64_t step,
                                 uint32_t sequence, uint32_t from, size_t size, void **payload,
                                 weir_error_t *error) {
    weir_rank_t source = exchange->options.first_worker_rank + from;
    size_t at = find_early(exchange, type, step, sequence, from);
    if (at < exchange->early_end) {
        weir_frame_t early = exchange->early[at];
        weir_frame_t *front = &exchange->early[exchange->early_first];
        memmove(front + 1, front, (at - exchange->early_first) * sizeof early);
        exchange->early_first++;
        return open_frame(early, size, payload, error);
    }
    double start = weir_clock_seconds(), deadline = start + exchange->options.timeout;
    int64_t begun = weir_trace_begin();
    weir_waiting_begin(exchange->options.waiting,
                       type == WEIR_FRAME_REDUCE   ? WEIR_WAIT_REDUCE
                       : type == WEIR_FRAME_GATHER ? WEIR_WAIT_GATHER
                                                   : WEIR_WAIT_BARRIER,
                       source);
    for (;;) {
        weir_frame_t frame;
        bool received = false;
        double now = weir_clock_seconds();
        if (now >= deadline) {
            weir_err_t err = weir_errorf(
                error, WEIR_ERR_TIMEOUT,
                "worker %u waited %.0f s for the %s frame %u of step %llu from worker %u (rank %u)",
                exchange->options.worker, exchange->options.timeout, weir_frame_type_name(type),
                sequence, (unsigned long long)step, from, source);
            weir_error_hint(error, "see what that rank logged; cluster.timeout sets the limit");
            return err;
        }
        weir_err_t err = weir_comm_thread_take(exchange->options.comm_thread, EXCHANGE_TYPES,
                                               deadline - now, &frame, &received, error);
        if (err != WEIR_OK) {
            return err;
        }
        if (!received) {
            continue;
        }
        if (has_name(&frame.header, type, step, sequence, source)) {
            exchange->seconds_waited += weir_clock_seconds() - start;
            weir_trace_end(begun, name_wait(type), step, source);
            weir_waiting_end(exchange->options.waiting);
            return open_frame(frame, size, payload, error);
        }
        err = keep_early(exchange, frame, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
}

weir_err_t weir_exchange_all_gather_begin(weir_exchange_t *exchange, uint64_t step,
                                          uint32_t sequence, const void *mine, size_t size,
                                          weir_error_t *error) {
    for (uint32_t other = 0; other < exchange->options.workers; other++) {
        if (other != exchange->options.worker) {
            weir_err_t err = weir_exchange_send(exchange, WEIR_FRAME_BARRIER, step, sequence, other,
                                                mine, size, error);
            if (err != WEIR_OK) {
                return err;
            }
        }
    }
    return WEIR_OK;
}

weir_err_t weir_exchange_all_gather_finish(weir_exchange_t *exchange, uint64_t step,
                                           uint32_t sequence, const void *mine, size_t size,
                                           void *all, weir_error_t *error) {
    for (uint32_t other = 0; other < exchange->options.workers; other++) {
        uint8_t *place = (uint8_t *)all + (size_t)other * size;
        if (other == exchange->options.worker) {
            memmove(place, mine, size);
            continue;
        }
        void *payload = NULL;
        weir_err_t err = weir_exchange_receive(exchange, WEIR_FRAME_BARRIER, step, sequence, other,
                                               size, &payload, error);
        if (err != WEIR_OK) {
            return err;
        }
        memcpy(place, payload, size);
        weir_buffer_release(payload);
    }
    return WEIR_OK;
}

weir_err_t weir_exchange_all_gather(weir_exchange_t *exchange, uint64_t step, uint32_t sequence,
                                    const void *mine, size_t size, void *all, weir_error_t *error) {
    weir_err_t err = weir_exchange_all_gather_begin(exchange, step, sequence, mine, size, error);
    if (err == WEIR_OK) {
        err = weir_exchange_all_gather_finish(exchange, step, sequence, mine, size, all, error);
    }
    return err;
}
