#include "worker/rank.h"

#include "worker/parallel.h"

#include "worker/kernels.h"
#include "worker/rank_level.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A tile of candidates stands transposed, D x TILE, so that one vector holds the same column of
 * many candidates and every score is its own chain over D. Users come GROUP at a time; a short
 * group repeats its last user, a short tile ends in zeros, so that there is one code path and not a
 * second one for remainders that might round otherwise. */
enum { TILE = WEIR_RANK_TILE, GROUP = WEIR_RANK_GROUP, DEPTH = 32, ALIGNMENT = 64 };

void weir_rank_normalise(weir_real_t *rows, size_t count, size_t dim) {
    for (size_t row = 0; row < count; row++) {
        weir_real_t *values = rows + row * dim;
        double sum = 0.0;
        for (size_t d = 0; d < dim; d++) {
            sum += (double)values[d] * (double)values[d];
        }
        double norm = fmax(sqrt(sum), 1e-6);
        for (size_t d = 0; d < dim; d++) {
            values[d] = (weir_real_t)((double)values[d] / norm);
        }
    }
}

/* Columns [begin, end) of candidates [first, first + count) of `rows` into `tile`, zeros after
 * them. */
static void transpose_tile(const weir_real_t *rows, size_t first, size_t count, size_t dim,
                           size_t begin, size_t end, weir_real_t *tile) {
    for (size_t d = begin; d < end; d++) {
        weir_real_t *line = tile + (d - begin) * TILE;
        for (size_t c = 0; c < count; c++) {
            line[c] = rows[(first + c) * dim + d];
        }
        for (size_t c = count; c < TILE; c++) {
            line[c] = 0;
        }
    }
}

/* One table of kernels for all scores of a process. A wrong WEIR_KERNELS is weir_rank_count's
 * error. */
static const weir_kernels_t *choose_kernels(void) {
    const weir_kernels_t *kernels = NULL;
    return weir_kernels_select(&kernels, NULL) == WEIR_OK ? kernels : weir_kernels_naive();
}

/* Column `column` of the encoded rows of users [first, first + GROUP), the last one repeated past
 * the end. */
static void point_group(const weir_real_t *encoded, size_t first, size_t users, size_t dim,
                        size_t column, const weir_real_t *group[GROUP]) {
    for (size_t u = 0; u < GROUP; u++) {
        size_t user = first + u < users ? first + u : users - 1;
        group[u] = encoded + user * dim + column;
    }
}

/* Scores of GROUP users against TILE target rows, of which the caller wants the diagonal. Columns
 * come DEPTH at a time, so that the tile is small whatever D: no allocation that could fail. */
static void score_targets(const weir_kernels_t *kernels, const weir_real_t *encoded,
                          const weir_real_t *target_rows, size_t first, size_t users, size_t dim,
                          weir_real_t scores[GROUP * TILE]) {
    weir_real_t tile[DEPTH * TILE];
    size_t count = users - first < GROUP ? users - first : GROUP;
    memset(scores, 0, GROUP * TILE * sizeof *scores);
    for (size_t begin = 0; begin < dim; begin += DEPTH) {
        const weir_real_t *group[GROUP];
        size_t end = dim - begin < DEPTH ? dim : begin + DEPTH;
        transpose_tile(target_rows, first, count, dim, begin, end, tile);
        point_group(encoded, first, users, dim, begin, group);
        kernels->score_tile(group, tile, end - begin, scores);
    }
}

void weir_rank_target_scores(const weir_real_t *encoded, const weir_real_t *target_rows,
                             size_t users, size_t dim, weir_real_t *scores) {
    const weir_kernels_t *kernels = choose_kernels();
    for (size_t first = 0; first < users; first += GROUP) {
        weir_real_t all[GROUP * TILE];
        score_targets(kernels, encoded, target_rows, first, users, dim, all);
        for (size_t g = 0; g < GROUP && first + g < users; g++) {
            scores[first + g] = all[g * TILE + g];
        }
    }
}

/* A score that is not a number counts against us, as a tie does: a model that broke must not rank
 * well. */
static bool beats(weir_real_t score, weir_real_t target) {
    return !(score < target);
}

static uint64_t count_better(const weir_real_t *scores, size_t count, weir_real_t target) {
    uint32_t better = 0; /* at most TILE */
    for (size_t c = 0; c < count; c++) {
        better += beats(scores[c], target) ? 1u : 0u;
    }
    return better;
}

/* First place in excluded[begin, end) whose item is >= `item`. */
static size_t find_first(const int64_t *excluded, size_t begin, size_t end, int64_t item) {
    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;
        if (excluded[middle] < item) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin;
}

/* Of the tile's items first .. first + count - 1: how many were counted but are not to be ranked:
 * the target and the excluded, each once. `cursor` stands at the first excluded item >= first and
 * is moved on. */
static uint64_t count_unranked(const weir_real_t *scores, int64_t first, size_t count,
                               int64_t target_item, weir_real_t target, const int64_t *excluded,
                               size_t end, size_t *cursor) {
    uint64_t unranked = 0;
    if (target_item >= first && target_item - first < (int64_t)count) {
        unranked += beats(scores[target_item - first], target) ? 1u : 0u;
    }
    size_t at = *cursor;
    for (; at < end && excluded[at] - first < (int64_t)count; at++) {
        bool repeated = at > *cursor && excluded[at] == excluded[at - 1];
        if (!repeated && excluded[at] != target_item) {
            unranked += beats(scores[excluded[at] - first], target) ? 1u : 0u;
        }
    }
    *cursor = at;
    return unranked;
}

/* One call of weir_rank_count, after its checks. */
typedef struct {
    const weir_kernels_t *kernels;
    const weir_real_t *encoded; /* users x D */
    const weir_real_t *target_scores;
    const int64_t *targets;
    const size_t *excluded_offsets;
    const int64_t *excluded;
    size_t users, dim;
    size_t *cursors; /* per user: the first excluded item of the tiles to come */
    const weir_real_t *rows;
    int64_t first_item;
    size_t count;
    weir_real_t *tiles; /* D x TILE, for each thread */
    size_t tile_size;   /* numbers from one to the next */
    uint64_t *counts;
} ranking_t;

/* Users [begin, end) against the tile, whose first candidate is `item`. */
static void rank_tile(const ranking_t *ranking, const weir_real_t *tile, int64_t item, size_t width,
                      size_t begin, size_t end) {
    for (size_t first = begin; first < end; first += GROUP) {
        const weir_real_t *group[GROUP];
        weir_real_t all[GROUP * TILE] = {0};
        point_group(ranking->encoded, first, ranking->users, ranking->dim, 0, group);
        ranking->kernels->score_tile(group, tile, ranking->dim, all);
        for (size_t g = 0; g < GROUP && first + g < end; g++) {
            size_t user = first + g;
            const weir_real_t *scores = all + g * TILE;
            weir_real_t target = ranking->target_scores[user];
            ranking->counts[user] +=
                count_better(scores, width, target) -
                count_unranked(scores, item, width, ranking->targets[user], target,
                               ranking->excluded, ranking->excluded_offsets[user + 1],
                               &ranking->cursors[user]);
        }
    }
}

/* Users of a task: so many that the transposition of the tiles does not count, and a multiple of
 * GROUP. */
enum { TASK_USERS = 64 * GROUP };

static void rank_users(void *argument, size_t task, uint32_t thread) {
    const ranking_t *ranking = argument;
    weir_real_t *tile = ranking->tiles + thread * ranking->tile_size;
    size_t begin = task * TASK_USERS;
    size_t end = ranking->users - begin < TASK_USERS ? ranking->users : begin + TASK_USERS;
    for (size_t first = 0; first < ranking->count; first += TILE) {
        size_t width = ranking->count - first < TILE ? ranking->count - first : TILE;
        transpose_tile(ranking->rows, first, width, ranking->dim, 0, ranking->dim, tile);
        rank_tile(ranking, tile, ranking->first_item + (int64_t)first, width, begin, end);
    }
}

weir_err_t weir_rank_count(const weir_real_t *encoded, size_t users, size_t dim,
                           const weir_real_t *rows, int64_t first_item, size_t count,
                           const int64_t *targets, const weir_real_t *target_scores,
                           const size_t *excluded_offsets, const int64_t *excluded,
                           uint64_t *counts, weir_error_t *error) {
    size_t tile_bytes;
    const weir_kernels_t *kernels = NULL;
    weir_err_t err = weir_kernels_select(&kernels, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (first_item < 0 || count > (size_t)(INT64_MAX - first_item) ||
        __builtin_mul_overflow(dim, TILE * sizeof(weir_real_t), &tile_bytes)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "cannot rank %zu items from %lld on, of width %zu", count,
                           (long long)first_item, dim);
    }
    ranking_t ranking = {.kernels = kernels,
                         .encoded = encoded,
                         .target_scores = target_scores,
                         .targets = targets,
                         .excluded_offsets = excluded_offsets,
                         .excluded = excluded,
                         .users = users,
                         .dim = dim,
                         .rows = rows,
                         .first_item = first_item,
                         .count = count,
                         .tile_size = dim * TILE,
                         .counts = counts};
    ranking.cursors = calloc(users + 1, sizeof *ranking.cursors);
    ranking.tiles = aligned_alloc(ALIGNMENT, weir_parallel_threads() * tile_bytes + ALIGNMENT);
    if (ranking.cursors == NULL || ranking.tiles == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for ranking %zu users", users);
        goto out;
    }
    for (size_t u = 0; u < users; u++) {
        ranking.cursors[u] =
            find_first(excluded, excluded_offsets[u], excluded_offsets[u + 1], first_item);
    }
    weir_parallel_run((users + TASK_USERS - 1) / TASK_USERS, rank_users, &ranking);
out:
    free(ranking.cursors);
    free(ranking.tiles);
    return err;
}
