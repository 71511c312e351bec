#include "tests/golden/golden_internal.h"
#include "worker/rank.h"
#include "worker/score_pass.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one user's ranking needs; items are 1 .. I and stand in rows 0 .. I-1 here. */
typedef struct {
    weir_real_t *catalogue; /* I x D, normalised */
    weir_real_t *repeated;  /* I x D: the user's encoded row, once per item */
    weir_real_t *scores;    /* I */
    int64_t *history;       /* ascending */
} evaluation_t;

static int compare_items(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static weir_err_t score_user(golden_model_t *model, const weir_real_t *encoded,
                             const double *expected, evaluation_t *evaluation,
                             weir_error_t *error) {
    size_t items = model->golden->items, dim = model->dim;
    for (size_t i = 0; i < items; i++) {
        memcpy(evaluation->repeated + i * dim, encoded, dim * sizeof(weir_real_t));
    }
    weir_err_t err = weir_score_own(evaluation->repeated, evaluation->catalogue, items,
                                    weir_similarity_dot(dim), evaluation->scores, error);
    if (err == WEIR_OK) {
        golden_compare(model->report, "eval_scores", evaluation->scores, expected, 1, items, NULL);
    }
    return err;
}

/* Items that may stand before or behind the target by rounding alone. */
static uint64_t count_close(const double *scores, size_t items, int64_t target, double allowed) {
    uint64_t close = 0;
    for (size_t i = 0; i < items; i++) {
        close += fabs(scores[i] - scores[target - 1]) <= allowed ? 1u : 0u;
    }
    return close - 1; /* not the target itself */
}

static weir_err_t rank_user(golden_model_t *model, size_t user, const double *expected_scores,
                            int64_t expected_rank, evaluation_t *evaluation, weir_error_t *error) {
    const golden_case_t *golden = model->golden;
    size_t begin = golden->offsets[user], end = golden->offsets[user + 1];
    size_t offsets[2] = {0, end - begin};
    int64_t target = golden->target_rows[end - 1];
    const weir_real_t *encoded = model->encoded + (end - 1) * model->dim;
    weir_real_t target_score = 0;
    uint64_t better = 0;
    for (size_t t = begin; t < end; t++) {
        evaluation->history[t - begin] = golden->item_rows[t];
    }
    qsort(evaluation->history, end - begin, sizeof(int64_t), compare_items);
    weir_similarity_t similarity = weir_similarity_dot(model->dim);
    weir_err_t err =
        weir_score_own(encoded, evaluation->catalogue + (size_t)(target - 1) * model->dim, 1,
                       similarity, &target_score, error);
    if (err == WEIR_OK) {
        err = weir_rank_count(encoded, 1, similarity, evaluation->catalogue, 1, golden->items,
                              &target, &target_score, offsets, evaluation->history, &better, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    uint64_t close = count_close(expected_scores, golden->items, target, model->report->tolerance);
    int64_t rank = (int64_t)better + 1;
    bool bad = rank > expected_rank + (int64_t)close || rank < expected_rank - (int64_t)close;
    model->report->compared++;
    model->report->failed += bad ? 1 : 0;
    if (bad) {
        (void)printf("    eval_ranks: user %zu is %lld, expected %lld\n", user, (long long)rank,
                     (long long)expected_rank);
    }
    return WEIR_OK;
}

weir_err_t golden_evaluate(golden_model_t *model, weir_error_t *error) {
    const golden_case_t *golden = model->golden;
    size_t items = golden->items, dim = model->dim, real = sizeof(weir_real_t);
    const void *scores = NULL, *ranks = NULL;
    evaluation_t evaluation = {0};
    weir_err_t err =
        golden_require(golden, "eval_scores", WEIR_DTYPE_F64, golden->users, items, &scores, error);
    if (err == WEIR_OK) {
        err = golden_require(golden, "eval_ranks", WEIR_DTYPE_I64, golden->users, 0, &ranks, error);
    }
    if (err == WEIR_OK) {
        err = golden_encode(model, error);
    }
    if (err != WEIR_OK) {
        return err;
    }
    evaluation.catalogue = calloc(items * dim, real);
    evaluation.repeated = calloc(items * dim, real);
    evaluation.scores = calloc(items, real);
    evaluation.history = calloc(golden->config.max_sequence_length, sizeof(int64_t));
    if (evaluation.catalogue == NULL || evaluation.repeated == NULL || evaluation.scores == NULL ||
        evaluation.history == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for %zu items", items);
        goto out;
    }
    memcpy(evaluation.catalogue, model->table + dim, items * dim * real);
    weir_rank_normalise(evaluation.catalogue, items, dim);
    for (size_t u = 0; err == WEIR_OK && u < golden->users; u++) {
        const double *expected = (const double *)scores + u * items;
        const weir_real_t *encoded = model->encoded + (golden->offsets[u + 1] - 1) * dim;
        err = score_user(model, encoded, expected, &evaluation, error);
        if (err == WEIR_OK) {
            err = rank_user(model, u, expected, ((const int64_t *)ranks)[u], &evaluation, error);
        }
    }
out:
    free(evaluation.catalogue);
    free(evaluation.repeated);
    free(evaluation.scores);
    free(evaluation.history);
    return err;
}
