/* Scores of users against candidates, a tile of candidates at a time: what ranking a target
 * (worker/rank.h) and finding the best items (worker/top_items.h) share.
 *
 * A score is the same bits for the same user and row whatever the piece, tile or thread: of a dot
 * product one chain of multiply-adds (fused where the processor has them) over the columns in
 * order. */
#ifndef WEIR_WORKER_SCORE_PASS_H
#define WEIR_WORKER_SCORE_PASS_H

#include "common/error.h"
#include "common/real.h"
#include "worker/screen.h"
#include "worker/similarity.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Scores of `count` candidates from `first_item` on, at most WEIR_RANK_TILE of them. A user is
 * visited by one thread at a time, its candidates in ascending order; different users by several
 * threads. */
typedef void (*weir_score_visit_t)(void *argument, size_t user, const weir_real_t *scores,
                                   int64_t first_item, size_t count);

/* Who asks only which candidates score above a threshold need not see all scores: a pass that
 * screens (worker/screen.h) answers most of that without them, and visits the tiles that it leaves
 * too open as any pass does. In which way a tile is visited says nothing about its scores. All for
 * one user by one thread at a time, in ascending order of items. */
typedef struct {
    /* The threshold of a user from now on; false: there is none yet, visit with scores. It may rise
     * during the pass, never fall. */
    bool (*threshold)(void *argument, size_t user, weir_real_t *threshold);
    /* Of candidates first_item + bit: the scores of those in `above` are greater than the
     * threshold, of those in `open` greater, equal or less, of the others less. Returns those whose
     * scores are wanted, of these two alone. Not called where both are empty. */
    uint64_t (*screened)(void *argument, size_t user, int64_t first_item,
                         const weir_screen_answer_t *answer);
    /* The score of one that was wanted. */
    void (*scored)(void *argument, size_t user, int64_t item, weir_real_t score);
} weir_score_screen_t;

/* Visit all users with all candidates; `screen`: NULL, or what is called instead of `visit` for
 * tiles that are screened. encoded: users x query_width; rows: count x item_width,
 * items first_item .. first_item + count - 1. Errors: out of memory, unknown WEIR_KERNELS, numbers
 * out of range. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_score_pass(const weir_real_t *encoded, size_t users,
                                         weir_similarity_t similarity, const weir_real_t *rows,
                                         int64_t first_item, size_t count, weir_score_visit_t visit,
                                         const weir_score_screen_t *screen, void *argument,
                                         weir_error_t *error);

/* scores[u] = score of user u against row u. Errors: out of memory. Threads: compute. */
WEIR_MUST_USE weir_err_t weir_score_own(const weir_real_t *encoded, const weir_real_t *rows,
                                        size_t users, weir_similarity_t similarity,
                                        weir_real_t *scores, weir_error_t *error);

#endif
