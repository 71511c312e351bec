/* The split by time: events before a moment are for training, those at or after it are tests. The
 * history of a test are all events before it, tests among them: what was known when it came. */
#ifndef WEIR_COMMON_DATASET_SPLIT_H
#define WEIR_COMMON_DATASET_SPLIT_H

#include "common/dataset.h"

/* The first of a user's events that is a test; events.count when none is. Call: local. */
static inline size_t weir_dataset_first_test(weir_user_events_t events, int64_t test_from) {
    size_t begin = 0, end = events.count;
    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;
        if (events.times[middle] < test_from) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin;
}

#endif
