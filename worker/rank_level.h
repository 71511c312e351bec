/* The scores of a tile of candidates, compiled per processor level: the kernel `score_tile` of
 * worker/kernels.h. For worker/rank.c and the tables of kernels alone. */
#ifndef WEIR_WORKER_RANK_LEVEL_H
#define WEIR_WORKER_RANK_LEVEL_H

#include "common/real.h"

#include <stddef.h>

/* Candidates of a tile, encoded rows of a group. */
enum { WEIR_RANK_TILE = 64, WEIR_RANK_GROUP = 4 };

void weir_rank_score_tile_v2(const weir_real_t *const *group, const weir_real_t *tile, size_t depth,
                             weir_real_t *scores);
void weir_rank_score_tile_v3(const weir_real_t *const *group, const weir_real_t *tile, size_t depth,
                             weir_real_t *scores);
void weir_rank_score_tile_v4(const weir_real_t *const *group, const weir_real_t *tile, size_t depth,
                             weir_real_t *scores);
void weir_rank_score_tile_generic(const weir_real_t *const *group, const weir_real_t *tile,
                                  size_t depth, weir_real_t *scores);

#endif
