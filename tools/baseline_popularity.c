#include "tools/baseline_popularity.h"

#include "worker/protocol.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t items;
    uint64_t *counts;    /* items + 1: training events of item 1 .. C */
    uint64_t *ascending; /* items: the same numbers, sorted */
    uint64_t *seen;      /* items + 1: number of the user's turn that met the item last */
    uint64_t turn;
} popularity_t;

static int compare_counts(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static void count_events(popularity_t *popularity, const weir_dataset_t *dataset,
                         const weir_popularity_options_t *options) {
    size_t held_out = options->validation ? 1 : 0;
    for (uint64_t user = 0; user < weir_dataset_users(dataset); user++) {
        weir_user_events_t events = weir_dataset_user(dataset, user);
        size_t known = weir_protocol_known(events, options->test_from);
        for (size_t i = 0; i + held_out < known; i++) {
            popularity->counts[events.items[i]]++;
        }
    }
    memcpy(popularity->ascending, popularity->counts + 1,
           popularity->items * sizeof *popularity->ascending);
    qsort(popularity->ascending, popularity->items, sizeof *popularity->ascending, compare_counts);
}

/* Items with at least `count` events. */
static uint64_t count_at_least(const popularity_t *popularity, uint64_t count) {
    uint64_t low = 0, high = popularity->items;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (popularity->ascending[middle] < count) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return popularity->items - low;
}

/* The rank of event `target` of a user after the `length` events before it. */
static uint64_t rank_target(popularity_t *popularity, weir_user_events_t events, size_t target,
                            size_t length) {
    int64_t item = events.items[target];
    uint64_t count = popularity->counts[item];
    uint64_t better = count_at_least(popularity, count) - 1; /* without the target */
    popularity->turn++;
    popularity->seen[item] = popularity->turn;
    for (size_t i = target - length; i < target; i++) {
        int64_t known = events.items[i];
        if (popularity->seen[known] != popularity->turn) {
            popularity->seen[known] = popularity->turn;
            better -= popularity->counts[known] >= count ? 1 : 0;
        }
    }
    return better + 1;
}

/* Rank the event `before` the first test by so many, 0 or 1, of every user that has it and one
 * before; into `results`, with room for all users. Returns how many. */
static size_t rank_users(popularity_t *popularity, const weir_dataset_t *dataset,
                         const weir_popularity_options_t *options, size_t before,
                         weir_user_result_t *results) {
    size_t count = 0;
    for (uint64_t user = 0; user < weir_dataset_users(dataset); user++) {
        weir_user_events_t events = weir_dataset_user(dataset, user);
        size_t known = weir_protocol_known(events, options->test_from);
        size_t target = known > before ? known - before : 0;
        if (target > 0 && target < events.count) {
            size_t length = weir_protocol_history(target, options->max_sequence_length);
            results[count++] = (weir_user_result_t){
                user, events.items[target], rank_target(popularity, events, target, length)};
        }
    }
    return count;
}

static void release(popularity_t *popularity) {
    free(popularity->counts);
    free(popularity->ascending);
    free(popularity->seen);
}

/* Count the training events. On failure nothing is kept. */
static weir_err_t learn(popularity_t *popularity, const weir_dataset_t *dataset,
                        const weir_popularity_options_t *options, weir_error_t *error) {
    if (options->max_sequence_length < 1) {
        return weir_errorf(error, WEIR_ERR_INVALID, "a history of no events is none");
    }
    popularity_t made = {.items = weir_dataset_items(dataset)};
    made.counts = calloc(made.items + 1, sizeof *made.counts);
    made.ascending = calloc(made.items + 1, sizeof *made.ascending);
    made.seen = calloc(made.items + 1, sizeof *made.seen);
    if (made.counts == NULL || made.ascending == NULL || made.seen == NULL) {
        release(&made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to count %llu items",
                           (unsigned long long)made.items);
    }
    count_events(&made, dataset, options);
    *popularity = made;
    return WEIR_OK;
}

static weir_err_t rank_split(const weir_dataset_t *dataset,
                             const weir_popularity_options_t *options, size_t before,
                             weir_user_result_t **results, size_t *count, weir_error_t *error) {
    popularity_t popularity = {.items = 0};
    weir_err_t err = learn(&popularity, dataset, options, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_user_result_t *made = calloc((size_t)weir_dataset_users(dataset) + 1, sizeof *made);
    if (made == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the ranks of %llu users",
                          (unsigned long long)weir_dataset_users(dataset));
    } else {
        *count = rank_users(&popularity, dataset, options, before, made);
        *results = made;
    }
    release(&popularity);
    return err;
}

weir_err_t weir_popularity_users(const weir_dataset_t *dataset,
                                 const weir_popularity_options_t *options,
                                 weir_user_result_t **results, size_t *count, weir_error_t *error) {
    return rank_split(dataset, options, 0, results, count, error);
}

weir_err_t weir_popularity_evaluate(const weir_dataset_t *dataset,
                                    const weir_popularity_options_t *options, weir_metrics_t *test,
                                    weir_metrics_t *validation, weir_error_t *error) {
    weir_metrics_t metrics[2] = {{0}, {0}};
    for (size_t before = 0; before < (options->validation ? 2 : 1); before++) {
        weir_user_result_t *results = NULL;
        size_t count = 0;
        weir_err_t err = rank_split(dataset, options, before, &results, &count, error);
        if (err != WEIR_OK) {
            return err;
        }
        for (size_t i = 0; i < count; i++) {
            weir_metrics_add(&metrics[before], results[i].rank);
        }
        free(results);
    }
    *test = metrics[0];
    *validation = metrics[1];
    return WEIR_OK;
}
