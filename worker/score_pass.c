#include "worker/score_pass.h"

#include "worker/kernels.h"
#include "worker/mixture.h"
#include "worker/parallel.h"
#include "worker/rank_level.h"
#include "worker/screen_pass.h"

#include <stdlib.h>
#include <string.h>

/* A tile of candidates stands transposed, D x TILE, so that one vector holds the same column of
 * many candidates and every score is its own chain over D. Users come GROUP at a time; a short
 * group repeats its last user, a short tile ends in zeros, so that there is one code path and not a
 * second one for remainders that might round otherwise. */
enum { TILE = WEIR_RANK_TILE, GROUP = WEIR_RANK_GROUP, DEPTH = 32, ALIGNMENT = 64 };
enum { TASK_USERS = WEIR_SCORE_TASK_USERS };

typedef weir_score_work_t pass_t;

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

/* Column `column` of the encoded rows of users [first, first + GROUP), the last one repeated past
 * the end. */
static void point_group(const weir_real_t *encoded, size_t first, size_t users, size_t dim,
                        size_t column, const weir_real_t *group[GROUP]) {
    for (size_t u = 0; u < GROUP; u++) {
        size_t user = first + u < users ? first + u : users - 1;
        group[u] = encoded + user * dim + column;
    }
}

void weir_score_tile_of(const weir_score_work_t *pass, const size_t *users, size_t count,
                        size_t first, weir_real_t *tile) {
    size_t dim = pass->similarity.item_width;
    size_t width = pass->count - first < TILE ? pass->count - first : TILE;
    transpose_tile(pass->rows, first, width, dim, 0, dim, tile);
    for (size_t at = 0; at < count; at += GROUP) {
        const weir_real_t *group[GROUP];
        weir_real_t scores[GROUP * TILE] = {0};
        for (size_t g = 0; g < GROUP; g++) {
            group[g] = pass->encoded + users[at + g < count ? at + g : count - 1] * dim;
        }
        pass->kernels->score_tile(group, tile, dim, scores);
        for (size_t g = 0; g < GROUP && at + g < count; g++) {
            pass->visit(pass->argument, users[at + g], scores + g * TILE,
                        pass->first_item + (int64_t)first, width);
        }
    }
}

static void score_users(void *argument, size_t task, uint32_t thread) {
    const pass_t *pass = argument;
    size_t begin = task * TASK_USERS, users[TASK_USERS];
    size_t count = pass->users - begin < TASK_USERS ? pass->users - begin : TASK_USERS;
    for (size_t u = 0; u < count; u++) {
        users[u] = begin + u;
    }
    for (size_t first = 0; first < pass->count; first += TILE) {
        weir_score_tile_of(pass, users, count, first, pass->tiles + thread * pass->room);
    }
}

/* A short tile is filled up with zeros, so that there is one code path. */
static void mix_users(void *argument, size_t task, uint32_t thread) {
    const pass_t *pass = argument;
    const weir_similarity_t *similarity = &pass->similarity;
    size_t begin = task * TASK_USERS, width = similarity->item_width;
    size_t end = pass->users - begin < TASK_USERS ? pass->users : begin + TASK_USERS;
    weir_real_t *room = pass->tiles + thread * pass->room, *tile = room + pass->room - TILE * width;
    for (size_t first = 0; first < pass->count; first += TILE) {
        size_t count = pass->count - first < TILE ? pass->count - first : TILE;
        const weir_real_t *items = pass->rows + first * width;
        if (count < TILE) {
            memcpy(tile, items, count * width * sizeof *tile);
            memset(tile + count * width, 0, (TILE - count) * width * sizeof *tile);
            items = tile;
        }
        for (size_t user = begin; user < end; user++) {
            weir_real_t scores[TILE];
            weir_mixture_score(similarity, pass->encoded + user * similarity->query_width, items,
                               TILE, room, scores);
            pass->visit(pass->argument, user, scores, pass->first_item + (int64_t)first, count);
        }
    }
}

/* Numbers of a thread's own room: a tile, and what a mixture computes with. */
static size_t room_of(weir_similarity_t similarity) {
    size_t tile = similarity.item_width * TILE;
    return similarity.mixture == NULL ? tile
                                      : tile + weir_mixture_scratch(similarity.mixture, TILE);
}

weir_err_t weir_score_pass(const weir_real_t *encoded, size_t users, weir_similarity_t similarity,
                           const weir_real_t *rows, int64_t first_item, size_t count,
                           weir_score_visit_t visit, const weir_score_screen_t *screen,
                           void *argument, weir_error_t *error) {
    pass_t pass = {.encoded = encoded,
                   .users = users,
                   .similarity = similarity,
                   .rows = rows,
                   .first_item = first_item,
                   .count = count,
                   .visit = visit,
                   .screen = screen,
                   .argument = argument};
    weir_err_t err = weir_kernels_select(&pass.kernels, error);
    if (err != WEIR_OK) {
        return err;
    }
    if (first_item < 0 || count > (size_t)(INT64_MAX - first_item) ||
        similarity.item_width > SIZE_MAX / (TILE * sizeof(weir_real_t)) / 1024) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "cannot score %zu items from %lld on, of width %zu", count,
                           (long long)first_item, similarity.item_width);
    }
    pass.room = (room_of(similarity) + 15) / 16 * 16;
    pass.tiles = aligned_alloc(
        ALIGNMENT, weir_parallel_threads() * pass.room * sizeof(weir_real_t) + ALIGNMENT);
    if (pass.tiles == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for scoring %zu users", users);
    }
    if (!weir_screen_pass(&pass)) {
        weir_parallel_run((users + TASK_USERS - 1) / TASK_USERS,
                          similarity.mixture != NULL ? mix_users : score_users, &pass);
    }
    free(pass.tiles);
    return WEIR_OK;
}

/* ---- a user against its own row ---- */

/* One table of kernels for all scores of a process. A wrong WEIR_KERNELS is weir_score_pass's
 * error. */
static const weir_kernels_t *choose_kernels(void) {
    const weir_kernels_t *kernels = NULL;
    return weir_kernels_select(&kernels, NULL) == WEIR_OK ? kernels : weir_kernels_naive();
}

/* Scores of GROUP users against TILE rows, of which the caller wants the diagonal. Columns come
 * DEPTH at a time, so that the tile is small whatever D: no allocation that could fail. */
static void score_group(const weir_kernels_t *kernels, const weir_real_t *encoded,
                        const weir_real_t *rows, size_t first, size_t users, size_t dim,
                        weir_real_t scores[GROUP * TILE]) {
    weir_real_t tile[DEPTH * TILE];
    size_t count = users - first < GROUP ? users - first : GROUP;
    memset(scores, 0, GROUP * TILE * sizeof *scores);
    for (size_t begin = 0; begin < dim; begin += DEPTH) {
        const weir_real_t *group[GROUP];
        size_t end = dim - begin < DEPTH ? dim : begin + DEPTH;
        transpose_tile(rows, first, count, dim, begin, end, tile);
        point_group(encoded, first, users, dim, begin, group);
        kernels->score_tile(group, tile, end - begin, scores);
    }
}

static weir_err_t mix_own(const weir_real_t *encoded, const weir_real_t *rows, size_t users,
                          weir_similarity_t similarity, weir_real_t *scores, weir_error_t *error) {
    size_t width = similarity.item_width;
    weir_real_t *room =
        aligned_alloc(ALIGNMENT, (room_of(similarity) + 16) / 16 * 16 * sizeof *room + ALIGNMENT);
    if (room == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for scoring %zu users", users);
    }
    weir_real_t *tile = room, *scratch = room + TILE * width;
    memset(tile, 0, TILE * width * sizeof *tile);
    for (size_t u = 0; u < users; u++) {
        weir_real_t all[TILE];
        memcpy(tile, rows + u * width, width * sizeof *tile);
        weir_mixture_score(&similarity, encoded + u * similarity.query_width, tile, TILE, scratch,
                           all);
        scores[u] = all[0];
    }
    free(room);
    return WEIR_OK;
}

weir_err_t weir_score_own(const weir_real_t *encoded, const weir_real_t *rows, size_t users,
                          weir_similarity_t similarity, weir_real_t *scores, weir_error_t *error) {
    if (similarity.mixture != NULL) {
        return mix_own(encoded, rows, users, similarity, scores, error);
    }
    const weir_kernels_t *kernels = choose_kernels();
    size_t first = 0;
#ifndef WEIR_REAL_F64
    const weir_screen_kernels_t *chains = weir_screen_kernels(kernels);
    for (; chains != NULL && first + WEIR_SCREEN_CHAINS <= users; first += WEIR_SCREEN_CHAINS) {
        const weir_real_t *queries[WEIR_SCREEN_CHAINS], *items[WEIR_SCREEN_CHAINS];
        for (size_t i = 0; i < WEIR_SCREEN_CHAINS; i++) {
            queries[i] = encoded + (first + i) * similarity.item_width;
            items[i] = rows + (first + i) * similarity.item_width;
        }
        chains->score(queries, items, similarity.item_width, scores + first);
    }
#endif
    for (; first < users; first += GROUP) {
        weir_real_t all[GROUP * TILE];
        score_group(kernels, encoded, rows, first, users, similarity.item_width, all);
        for (size_t g = 0; g < GROUP && first + g < users; g++) {
            scores[first + g] = all[g * TILE + g];
        }
    }
    return WEIR_OK;
}
