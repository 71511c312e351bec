/* A pass over users and candidates (worker/score_pass.h) that screens them (worker/screen.h).
 * For worker/score_pass.c and worker/screen_pass.c alone. */
#ifndef WEIR_WORKER_SCREEN_PASS_H
#define WEIR_WORKER_SCREEN_PASS_H

#include "worker/kernels.h"
#include "worker/rank_level.h"
#include "worker/score_pass.h"

#include <stdbool.h>

/* Users of a task: so many that the transposition of tiles does not count, and a multiple of
 * WEIR_RANK_GROUP. */
enum { WEIR_SCORE_TASK_USERS = 64 * WEIR_RANK_GROUP };

typedef struct {
    const weir_kernels_t *kernels;
    const weir_real_t *encoded; /* users x query_width */
    size_t users;
    weir_similarity_t similarity;
    const weir_real_t *rows; /* count x item_width */
    int64_t first_item;
    size_t count;
    weir_real_t *tiles; /* for each thread `room` numbers: a tile, D x WEIR_RANK_TILE */
    size_t room;
    weir_score_visit_t visit;
    const weir_score_screen_t *screen; /* NULL: all scores are visited */
    void *argument;
} weir_score_work_t;

/* Score `count` of the users, given by number, against the tile of candidates from `first` on and
 * visit them. `tile`: a thread's own. */
void weir_score_tile_of(const weir_score_work_t *work, const size_t *users, size_t count,
                        size_t first, weir_real_t *tile);

/* The whole pass; false: nothing was done, since it cannot be screened (or there is no memory for
 * it) or too few users make it not worth while. Threads: compute. */
bool weir_screen_pass(const weir_score_work_t *work);

#endif
