/* The best k items of the catalogue for each user, exact: the catalogue comes in pieces of
 * ascending items, as in worker/rank.h.
 *
 * Better is the higher score; of equal scores the lower item. A score that is not a number is no
 * score: such an item is in no list. */
#ifndef WEIR_WORKER_TOP_ITEMS_H
#define WEIR_WORKER_TOP_ITEMS_H

#include "common/error.h"
#include "common/real.h"
#include "worker/similarity.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    weir_real_t score;
    int64_t item;
} weir_scored_item_t;

typedef struct weir_top_items weir_top_items_t;

/* Empty lists of `users`, each of at most k (1 or more). Errors: out of memory. */
WEIR_MUST_USE weir_err_t weir_top_items_create(size_t users, size_t k, weir_top_items_t **top,
                                               weir_error_t *error);
void weir_top_items_destroy(weir_top_items_t *top); /* accepts NULL */

/* Offer the items first_item .. first_item + count - 1, whose rows are count x item_width, to all
 * users.
 * `excluded`: per user the items that are not for it, ascending, [excluded_offsets[u], [u + 1]).
 * Errors: those of weir_score_pass. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_top_items_offer(weir_top_items_t *top, const weir_real_t *encoded,
                                              weir_similarity_t similarity, const weir_real_t *rows,
                                              int64_t first_item, size_t count,
                                              const size_t *excluded_offsets,
                                              const int64_t *excluded, weir_error_t *error);

/* The list of a user, the best first; `*count` is less than k only where fewer items were left. It
 * is sorted in place: nothing is offered afterwards. Valid until destroy. */
const weir_scored_item_t *weir_top_items_list(weir_top_items_t *top, size_t user, size_t *count);

#endif
