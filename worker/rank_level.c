/* Compiled once per level, with WEIR_LEVEL set. */
#include "worker/rank_level.h"
#include "worker/kernels_vector.h"

#define JOIN_NAMES(prefix, level) prefix##level
#define LEVEL_FUNCTION(prefix, level) JOIN_NAMES(prefix, level)

/* Vectors of candidates at a time: with GROUP rows, as many sums as registers hold. */
enum { COLUMNS = WEIR_VECTOR_BYTES == 64 ? 4 : 2, STEP = COLUMNS * LANES };

void LEVEL_FUNCTION(weir_rank_score_tile_, WEIR_LEVEL)(const weir_real_t *const *group,
                                                       const weir_real_t *tile, size_t depth,
                                                       weir_real_t *scores) {
    for (size_t first = 0; first < WEIR_RANK_TILE; first += STEP) {
        vec_t sums[WEIR_RANK_GROUP][COLUMNS];
        WEIR_UNROLL
        for (size_t i = 0; i < (size_t)WEIR_RANK_GROUP * COLUMNS; i++) {
            size_t user = i / COLUMNS, column = i % COLUMNS;
            sums[user][column] = load(scores + user * WEIR_RANK_TILE + first + column * LANES);
        }
        for (size_t d = 0; d < depth; d++) {
            const weir_real_t *line = tile + d * WEIR_RANK_TILE + first;
            WEIR_UNROLL
            for (size_t i = 0; i < (size_t)WEIR_RANK_GROUP * COLUMNS; i++) {
                size_t user = i / COLUMNS, column = i % COLUMNS;
                sums[user][column] += splat(group[user][d]) * load(line + column * LANES);
            }
        }
        WEIR_UNROLL
        for (size_t i = 0; i < (size_t)WEIR_RANK_GROUP * COLUMNS; i++) {
            size_t user = i / COLUMNS, column = i % COLUMNS;
            store(scores + user * WEIR_RANK_TILE + first + column * LANES, sums[user][column]);
        }
    }
}
