#include "analysis/sparse_model.h"

#include <stdlib.h>
#include <string.h>

static void list_items(weir_sparse_model_t *model) {
    const weir_item_set_t *set = model->set;
    for (size_t k = 0; k < model->target_count; k++) {
        model->items[k] = set->ids[weir_sparse_target(model->grid, k)];
    }
    model->item_count = model->target_count;
    if (model->grid->rank == 0) {
        memcpy(model->items + model->item_count, set->ids + set->n,
               (set->items - set->n) * sizeof *set->ids);
        model->item_count += set->items - set->n;
    }
}

/* By source, in the order they come. */
static void place_entries(weir_sparse_model_t *model, const weir_sparse_entry_t *entries,
                          size_t count) {
    size_t n = model->set->n;
    for (size_t e = 0; e < count; e++) {
        model->offsets[entries[e].source + 1]++;
    }
    for (size_t i = 0; i < n; i++) {
        model->offsets[i + 1] += model->offsets[i];
    }
    for (size_t e = 0; e < count; e++) {
        size_t place = model->offsets[entries[e].source]++;
        model->targets[place] = entries[e].target;
        model->weights[place] = entries[e].weight;
    }
    memmove(model->offsets + 1, model->offsets, n * sizeof *model->offsets); /* ends to begins */
    model->offsets[0] = 0;
}

weir_err_t weir_sparse_model_init(const weir_grid_t *grid, const weir_item_set_t *set,
                                  const weir_sparse_entry_t *entries, size_t count,
                                  weir_sparse_model_t *model, weir_error_t *error) {
    weir_sparse_model_t made = {
        .grid = grid, .set = set, .target_count = weir_sparse_targets(grid, set->n)};
    made.offsets = calloc(set->n + 1, sizeof *made.offsets);
    made.targets = calloc(count + 1, sizeof *made.targets);
    made.weights = calloc(count + 1, sizeof *made.weights);
    made.items = calloc(set->items + 1, sizeof *made.items);
    if (made.offsets == NULL || made.targets == NULL || made.weights == NULL ||
        made.items == NULL) {
        weir_sparse_model_fini(&made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu weights", count);
    }
    place_entries(&made, entries, count);
    list_items(&made);
    *model = made;
    return WEIR_OK;
}

void weir_sparse_model_fini(weir_sparse_model_t *model) {
    free(model->offsets);
    free(model->targets);
    free(model->weights);
    free(model->base);
    free(model->items);
    *model = (weir_sparse_model_t){.grid = NULL};
}

static void add_weights(const weir_sparse_model_t *model, int64_t item, double *scores) {
    int32_t number = model->set->numbers[item];
    if (number < 0) {
        return;
    }
    for (size_t e = model->offsets[number]; e < model->offsets[number + 1]; e++) {
        scores[model->targets[e]] += model->weights[e];
    }
}

static void score_histories(void *argument, const weir_ranking_histories_t *histories,
                            double *scores) {
    const weir_sparse_model_t *model = argument;
    for (size_t u = 0; u < histories->users; u++) {
        double *out = scores + u * model->item_count;
        if (model->base != NULL) {
            memcpy(out, model->base, model->target_count * sizeof *out);
        }
        if (model->last_event) {
            add_weights(model, histories->items[histories->offsets[u + 1] - 1], out);
            continue;
        }
        for (size_t i = histories->distinct_offsets[u]; i < histories->distinct_offsets[u + 1];
             i++) {
            add_weights(model, histories->distinct[i], out);
        }
    }
}

weir_ranking_scorer_t weir_sparse_model_scorer(weir_sparse_model_t *model) {
    return (weir_ranking_scorer_t){.count = model->item_count,
                                   .items = model->items,
                                   .counts = true,
                                   .score = score_histories,
                                   .model = model};
}
