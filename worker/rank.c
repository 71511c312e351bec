#include "worker/rank.h"

#include "worker/score_pass.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

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

size_t weir_rank_first_excluded(const int64_t *excluded, size_t begin, size_t end, int64_t item) {
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
 * the target and the excluded, each once. `cursor` stands at or before the first excluded item >=
 * first and is moved behind the tile. */
static uint64_t count_unranked(const weir_real_t *scores, int64_t first, size_t count,
                               int64_t target_item, weir_real_t target, const int64_t *excluded,
                               size_t end, size_t *cursor) {
    uint64_t unranked = 0;
    if (target_item >= first && target_item - first < (int64_t)count) {
        unranked += beats(scores[target_item - first], target) ? 1u : 0u;
    }
    size_t at = *cursor;
    for (; at < end && excluded[at] < first; at++) { /* of tiles that were screened */
    }
    size_t from = at;
    for (; at < end && excluded[at] - first < (int64_t)count; at++) {
        bool repeated = at > from && excluded[at] == excluded[at - 1];
        if (!repeated && excluded[at] != target_item) {
            unranked += beats(scores[excluded[at] - first], target) ? 1u : 0u;
        }
    }
    *cursor = at;
    return unranked;
}

/* One call of weir_rank_count. */
typedef struct {
    const weir_real_t *target_scores;
    const int64_t *targets;
    const size_t *excluded_offsets;
    const int64_t *excluded;
    size_t *cursors; /* per user: the first excluded item of the tiles to come */
    uint64_t *counts;
} ranking_t;

static void rank_user(void *argument, size_t user, const weir_real_t *scores, int64_t first_item,
                      size_t count) {
    const ranking_t *ranking = argument;
    weir_real_t target = ranking->target_scores[user];
    ranking->counts[user] +=
        count_better(scores, count, target) -
        count_unranked(scores, first_item, count, ranking->targets[user], target, ranking->excluded,
                       ranking->excluded_offsets[user + 1], &ranking->cursors[user]);
}

enum { TILE = WEIR_SCREEN_TILE };

static bool threshold_of(void *argument, size_t user, weir_real_t *threshold) {
    const ranking_t *ranking = argument;
    *threshold = ranking->target_scores[user];
    return true;
}

/* Counts those above at once; the open ones are wanted. */
static uint64_t rank_screened(void *argument, size_t user, int64_t first_item,
                              const weir_screen_answer_t *answer) {
    const ranking_t *ranking = argument;
    int64_t target = ranking->targets[user] - first_item;
    size_t at = ranking->cursors[user], end = ranking->excluded_offsets[user + 1];
    uint64_t unranked = target >= 0 && target < TILE ? (uint64_t)1 << target : 0;
    while (at < end && ranking->excluded[at] < first_item) {
        at++;
    }
    for (; at < end && ranking->excluded[at] - first_item < TILE; at++) {
        unranked |= (uint64_t)1 << (ranking->excluded[at] - first_item);
    }
    ranking->cursors[user] = at;
    ranking->counts[user] += answer->count;
    for (uint64_t left = answer->above & unranked; left != 0; left &= left - 1) {
        ranking->counts[user]--;
    }
    return answer->open & ~unranked;
}

static void rank_scored(void *argument, size_t user, int64_t item, weir_real_t score) {
    const ranking_t *ranking = argument;
    (void)item;
    ranking->counts[user] += beats(score, ranking->target_scores[user]) ? 1u : 0u;
}

static const weir_score_screen_t screen = {
    .threshold = threshold_of, .screened = rank_screened, .scored = rank_scored};

weir_err_t weir_rank_count(const weir_real_t *encoded, size_t users, weir_similarity_t similarity,
                           const weir_real_t *rows, int64_t first_item, size_t count,
                           const int64_t *targets, const weir_real_t *target_scores,
                           const size_t *excluded_offsets, const int64_t *excluded,
                           uint64_t *counts, weir_error_t *error) {
    ranking_t ranking = {.target_scores = target_scores,
                         .targets = targets,
                         .excluded_offsets = excluded_offsets,
                         .excluded = excluded,
                         .counts = counts};
    ranking.cursors = calloc(users + 1, sizeof *ranking.cursors);
    if (ranking.cursors == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for ranking %zu users", users);
    }
    for (size_t u = 0; u < users; u++) {
        ranking.cursors[u] = weir_rank_first_excluded(excluded, excluded_offsets[u],
                                                      excluded_offsets[u + 1], first_item);
    }
    weir_err_t err = weir_score_pass(encoded, users, similarity, rows, first_item, count, rank_user,
                                     &screen, &ranking, error);
    free(ranking.cursors);
    return err;
}
