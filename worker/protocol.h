/* Who is ranked against what: the public-data protocol (docs/model.md), for every model alike.
 *
 * A user's *target* is the event that `after` others follow (0: test, 1: validation). Its *history*
 * is the events before it, at most max_length, whose items are not ranked. */
#ifndef WEIR_WORKER_PROTOCOL_H
#define WEIR_WORKER_PROTOCOL_H

#include "common/dataset_split.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A user's events before its tests: all but the last one, or, split by time (test_from other than
 * 0), those before that moment. The first test is the event after them, where there is one. Call:
 * local. */
static inline size_t weir_protocol_known(weir_user_events_t events, int64_t test_from) {
    return test_from != 0 ? weir_dataset_first_test(events, test_from)
                          : events.count - (events.count > 0 ? 1 : 0);
}

/* The place of the target among a user's `events`; false: no history is before it. Call: local. */
bool weir_protocol_target(size_t events, size_t after, size_t *target);

static inline size_t weir_protocol_history(size_t target, size_t max_length) {
    return target < max_length ? target : max_length;
}

/* Sort items and drop repeats; returns how many are left. Call: local. */
size_t weir_protocol_distinct(int64_t *items, size_t count);

#endif
