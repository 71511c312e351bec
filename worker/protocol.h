/* Who is ranked against what: the public-data protocol (docs/model.md), for every model alike.
 *
 * A user's *target* is the event that `after` others follow (0: test, 1: validation). Its *history*
 * is the events before it, at most max_length, whose items are not ranked. */
#ifndef WEIR_WORKER_PROTOCOL_H
#define WEIR_WORKER_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The place of the target among a user's `events`; false: no history is before it. Call: local. */
bool weir_protocol_target(size_t events, size_t after, size_t *target);

static inline size_t weir_protocol_history(size_t target, size_t max_length) {
    return target < max_length ? target : max_length;
}

/* Sort items and drop repeats; returns how many are left. Call: local. */
size_t weir_protocol_distinct(int64_t *items, size_t count);

#endif
