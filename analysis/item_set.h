/* The items that a baseline learns about: those with a training event, numbered 0 .. n - 1 in order
 * of id; and users as sets of them (binary interactions). */
#ifndef WEIR_ANALYSIS_ITEM_SET_H
#define WEIR_ANALYSIS_ITEM_SET_H

#include "common/dataset.h"
#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const weir_dataset_t *dataset;
    size_t holdout;   /* last events of each user that are not training */
    uint64_t items;   /* of the catalogue */
    size_t n;         /* items with a training event */
    int64_t *ids;     /* items: first the n in order of id, then the others */
    int32_t *numbers; /* items + 1: of item 1 .. C; -1 where it has no event */
    uint64_t *events; /* items + 1: training events of item 1 .. C */
    int64_t *scratch; /* most events of a user */
} weir_item_set_t;

/* Errors: MEMORY; UNSUPPORTED beyond 2^31 - 1 items. Call: local. */
WEIR_MUST_USE weir_err_t weir_item_set_init(const weir_dataset_t *dataset, size_t holdout,
                                            weir_item_set_t *set, weir_error_t *error);
void weir_item_set_fini(weir_item_set_t *set);

/* Bytes that it takes, before it is made. */
double weir_item_set_bytes(const weir_dataset_t *dataset);

/* Training events of a user. */
static inline size_t weir_item_set_training(const weir_item_set_t *set, weir_user_events_t events) {
    return events.count > set->holdout ? events.count - set->holdout : 0;
}

/* The distinct items of a user's training events, as numbers, ascending; `count` of them, valid
 * until the next call. Threads: owner. */
const int64_t *weir_item_set_user(const weir_item_set_t *set, uint64_t user, size_t *count);

#endif
