/* How well the items of a catalogue are known from training: how many users have each, and which
 * are the head.
 *
 * The *popularity* of an item is the number of users among whose training events it is; an item of
 * popularity 0 is *cold*. The *head* are the most popular fifth of the items that are not cold,
 * rounded up, of equals those with the lower number; all others are the *tail* (Abdollahpouri,
 * Burke and Mobasher, RecSys 2017: short head and long tail). */
#ifndef WEIR_WORKER_ITEM_POPULARITY_H
#define WEIR_WORKER_ITEM_POPULARITY_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t items;   /* C */
    uint64_t users;   /* with a training event */
    uint64_t warm;    /* items that are not cold */
    uint64_t *counts; /* C + 1: popularity; of item 0 nothing */
    uint8_t *head;    /* C + 1: 1 in the head */
} weir_item_popularity_t;

/* All cold. Errors: out of memory. Call: local. */
WEIR_MUST_USE weir_err_t weir_item_popularity_init(weir_item_popularity_t *popularity,
                                                   uint64_t items, weir_error_t *error);
void weir_item_popularity_fini(weir_item_popularity_t *popularity); /* accepts a zeroed one */

/* Count a user's training items, each once; `count` 0 is no user. `items` are in 1 .. C, and are
 * put in order, repeats dropped. Call: local. */
void weir_item_popularity_add(weir_item_popularity_t *popularity, int64_t *items, size_t count);

/* After the last add: find the head. Errors: out of memory. Call: local. */
WEIR_MUST_USE weir_err_t weir_item_popularity_close(weir_item_popularity_t *popularity,
                                                    weir_error_t *error);

#endif
