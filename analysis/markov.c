#include "analysis/sparse_model.h"

#include <stdlib.h>

double weir_markov_bytes(const weir_grid_t *grid, const weir_dataset_t *dataset, size_t n) {
    return 28.0 * (double)weir_dataset_events(dataset) / (double)grid->ranks + 16.0 * (double)n;
}

static int compare_entries(const void *a, const void *b) {
    const weir_sparse_entry_t *x = a, *y = b;
    if (x->source != y->source) {
        return x->source < y->source ? -1 : 1;
    }
    return (x->target > y->target) - (x->target < y->target);
}

/* Transitions to the targets of this process; with `entries` NULL they are only counted. */
static size_t list_transitions(const weir_grid_t *grid, const weir_item_set_t *set,
                               weir_sparse_entry_t *entries) {
    size_t used = 0;
    for (uint64_t user = 0; user < weir_dataset_users(set->dataset); user++) {
        weir_user_events_t events = weir_dataset_user(set->dataset, user);
        size_t count = weir_item_set_training(set, events);
        for (size_t i = 1; i < count; i++) {
            int32_t target = set->numbers[events.items[i]];
            if (target % grid->ranks == grid->rank) {
                if (entries != NULL) {
                    entries[used] =
                        (weir_sparse_entry_t){.source = set->numbers[events.items[i - 1]],
                                              .target = target / grid->ranks,
                                              .weight = 1.0};
                }
                used++;
            }
        }
    }
    return used;
}

/* Equal pairs, which follow each other, into one; returns how many are left. */
static size_t add_up(weir_sparse_entry_t *entries, size_t count) {
    size_t kept = 0;
    for (size_t e = 0; e < count; e++) {
        if (kept > 0 && compare_entries(&entries[kept - 1], &entries[e]) == 0) {
            entries[kept - 1].weight += 1.0;
        } else {
            entries[kept++] = entries[e];
        }
    }
    return kept;
}

static weir_err_t set_base(weir_sparse_model_t *model, double smoothing, weir_error_t *error) {
    const weir_item_set_t *set = model->set;
    double all = 0.0;
    model->base = calloc(model->target_count + 1, sizeof *model->base);
    if (model->base == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu items", model->target_count);
    }
    for (uint64_t item = 1; item <= set->items; item++) {
        all += (double)set->events[item];
    }
    for (size_t k = 0; k < model->target_count; k++) {
        model->base[k] = smoothing * ((double)set->events[model->items[k]] / all);
    }
    return WEIR_OK;
}

weir_err_t weir_markov_fit(const weir_grid_t *grid, const weir_item_set_t *set, double smoothing,
                           weir_sparse_model_t *model, weir_error_t *error) {
    weir_sparse_model_t made = {.grid = NULL};
    size_t count = list_transitions(grid, set, NULL);
    weir_sparse_entry_t *entries = calloc(count + 1, sizeof *entries);
    if (entries == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu transitions", count);
    }
    (void)list_transitions(grid, set, entries);
    qsort(entries, count, sizeof *entries, compare_entries);
    count = add_up(entries, count);
    weir_err_t err = weir_sparse_model_init(grid, set, entries, count, &made, error);
    if (err == WEIR_OK) {
        made.last_event = true;
        err = set_base(&made, smoothing, error);
    }
    free(entries);
    if (err == WEIR_OK) {
        *model = made;
    } else {
        weir_sparse_model_fini(&made);
    }
    return err;
}
