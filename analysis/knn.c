#include "analysis/sparse_model.h"

#include <math.h>
#include <stdlib.h>

enum { TARGETS_BETWEEN_LOOKS = 256 };

/* Who has what, as numbers: the items of every user, and the users of the targets. */
typedef struct {
    const weir_grid_t *grid;
    const weir_item_set_t *set;
    size_t targets;
    size_t *user_offsets;   /* users + 1 */
    int32_t *user_items;    /* distinct, ascending */
    size_t *target_offsets; /* targets + 1 */
    uint64_t *target_users;
    uint32_t *users_of; /* n: how many users an item has */
    /* of one target */
    uint32_t *common;                /* n: users in common, zeros between targets */
    int32_t *met;                    /* n: items with any */
    weir_sparse_entry_t *candidates; /* n */
} counts_t;

double weir_knn_bytes(const weir_grid_t *grid, const weir_dataset_t *dataset, size_t n,
                      size_t neighbors) {
    double events = (double)weir_dataset_events(dataset), ranks = (double)grid->ranks;
    double kept = neighbors == 0 || neighbors > n ? (double)n : (double)neighbors;
    return events * (4.0 + 8.0 / ranks) + 40.0 * (double)n +
           28.0 * kept * ((double)n / ranks + 1.0) + 8.0 * (double)weir_dataset_users(dataset);
}

static weir_err_t reserve(counts_t *counts, weir_error_t *error) {
    const weir_dataset_t *dataset = counts->set->dataset;
    size_t n = counts->set->n, events = weir_dataset_events(dataset);
    counts->user_offsets = calloc(weir_dataset_users(dataset) + 1, sizeof(size_t));
    counts->user_items = calloc(events + 1, sizeof(int32_t));
    counts->target_offsets = calloc(counts->targets + 2, sizeof(size_t));
    counts->users_of = calloc(n + 1, sizeof(uint32_t));
    counts->common = calloc(n + 1, sizeof(uint32_t));
    counts->met = calloc(n + 1, sizeof(int32_t));
    counts->candidates = calloc(n + 1, sizeof *counts->candidates);
    if (counts->user_offsets == NULL || counts->user_items == NULL ||
        counts->target_offsets == NULL || counts->users_of == NULL || counts->common == NULL ||
        counts->met == NULL || counts->candidates == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to count pairs of %zu items", n);
    }
    return WEIR_OK;
}

static void release(counts_t *counts) {
    free(counts->user_offsets);
    free(counts->user_items);
    free(counts->target_offsets);
    free(counts->target_users);
    free(counts->users_of);
    free(counts->common);
    free(counts->met);
    free(counts->candidates);
}

/* The place of an item among this process's targets; -1. */
static int64_t place_of(const counts_t *counts, int32_t item) {
    int32_t ranks = counts->grid->ranks;
    return item % ranks == counts->grid->rank ? item / ranks : -1;
}

static weir_err_t read_events(counts_t *counts, weir_error_t *error) {
    uint64_t users = weir_dataset_users(counts->set->dataset);
    for (uint64_t user = 0; user < users; user++) {
        size_t count = 0, at = counts->user_offsets[user];
        const int64_t *items = weir_item_set_user(counts->set, user, &count);
        for (size_t i = 0; i < count; i++) {
            int32_t item = (int32_t)items[i];
            int64_t place = place_of(counts, item);
            counts->user_items[at + i] = item;
            counts->users_of[item]++;
            if (place >= 0) {
                counts->target_offsets[place + 2]++;
            }
        }
        counts->user_offsets[user + 1] = at + count;
    }
    for (size_t k = 0; k < counts->targets; k++) {
        counts->target_offsets[k + 2] += counts->target_offsets[k + 1];
    }
    counts->target_users =
        calloc(counts->target_offsets[counts->targets + 1] + 1, sizeof *counts->target_users);
    if (counts->target_users == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the users of items");
    }
    for (uint64_t user = 0; user < users; user++) {
        for (size_t i = counts->user_offsets[user]; i < counts->user_offsets[user + 1]; i++) {
            int64_t place = place_of(counts, counts->user_items[i]);
            if (place >= 0) { /* the begin of the next, while it is filled */
                counts->target_users[counts->target_offsets[place + 1]++] = user;
            }
        }
    }
    return WEIR_OK;
}

/* The most similar first, of equal ones the lowest number. */
static int compare_candidates(const void *a, const void *b) {
    const weir_sparse_entry_t *x = a, *y = b;
    if (x->weight > y->weight || x->weight < y->weight) {
        return x->weight > y->weight ? -1 : 1;
    }
    return (x->source > y->source) - (x->source < y->source);
}

/* The neighbours of the k-th target into candidates; returns how many. */
static size_t find_neighbors(counts_t *counts, size_t k, size_t neighbors) {
    size_t target = weir_sparse_target(counts->grid, k), met = 0;
    for (size_t i = counts->target_offsets[k]; i < counts->target_offsets[k + 1]; i++) {
        uint64_t user = counts->target_users[i];
        for (size_t e = counts->user_offsets[user]; e < counts->user_offsets[user + 1]; e++) {
            int32_t item = counts->user_items[e];
            if (counts->common[item]++ == 0) {
                counts->met[met++] = item;
            }
        }
    }
    size_t count = 0;
    for (size_t i = 0; i < met; i++) {
        int32_t item = counts->met[i];
        double users = (double)counts->users_of[item] * (double)counts->users_of[target];
        if (item != (int32_t)target) {
            counts->candidates[count++] =
                (weir_sparse_entry_t){.source = item,
                                      .target = (int32_t)k,
                                      .weight = (double)counts->common[item] / sqrt(users)};
        }
        counts->common[item] = 0;
    }
    if (neighbors > 0 && count > neighbors) {
        qsort(counts->candidates, count, sizeof *counts->candidates, compare_candidates);
        count = neighbors;
    }
    return count;
}

/* All neighbours of all targets into a list that grows. */
static weir_err_t list_neighbors(counts_t *counts, size_t neighbors, weir_sparse_entry_t **entries,
                                 size_t *used, weir_error_t *error) {
    size_t capacity = 0, most = weir_sparse_targets(counts->grid, counts->set->n);
    weir_err_t err = WEIR_OK;
    /* the rank with the most targets looks as often as any */
    size_t looks = (counts->set->n + (size_t)counts->grid->ranks - 1) / (size_t)counts->grid->ranks;
    for (size_t k = 0; k < looks && err == WEIR_OK; k++) {
        size_t count = k < most ? find_neighbors(counts, k, neighbors) : 0;
        if (*used + count > capacity) {
            capacity = 2 * (*used + count);
            weir_sparse_entry_t *grown = realloc(*entries, capacity * sizeof *grown);
            if (grown == NULL) {
                return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu neighbours",
                                   capacity);
            }
            *entries = grown;
        }
        for (size_t i = 0; i < count; i++) {
            (*entries)[(*used)++] = counts->candidates[i];
        }
        if (k % TARGETS_BETWEEN_LOOKS == TARGETS_BETWEEN_LOOKS - 1) {
            err = weir_grid_check_stop(counts->grid, error);
        }
    }
    return err;
}

weir_err_t weir_knn_fit(const weir_grid_t *grid, const weir_item_set_t *set, size_t neighbors,
                        weir_sparse_model_t *model, weir_error_t *error) {
    counts_t counts = {.grid = grid, .set = set, .targets = weir_sparse_targets(grid, set->n)};
    weir_sparse_entry_t *entries = NULL;
    size_t used = 0;
    weir_err_t err = reserve(&counts, error);
    if (err == WEIR_OK) {
        err = read_events(&counts, error);
    }
    if (err == WEIR_OK) {
        err = list_neighbors(&counts, neighbors, &entries, &used, error);
    }
    release(&counts);
    if (err == WEIR_OK) {
        err = weir_sparse_model_init(grid, set, entries, used, model, error);
    }
    free(entries);
    return err;
}
