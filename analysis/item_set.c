#include "analysis/item_set.h"

#include "worker/protocol.h"

#include <limits.h>
#include <stdlib.h>

/* Count events; returns the most that one user has. */
static size_t count_events(weir_item_set_t *set) {
    size_t most = 0;
    for (uint64_t user = 0; user < weir_dataset_users(set->dataset); user++) {
        weir_user_events_t events = weir_dataset_user(set->dataset, user);
        size_t count = weir_item_set_training(set, events);
        most = count > most ? count : most;
        for (size_t i = 0; i < count; i++) {
            set->events[events.items[i]]++;
        }
    }
    return most;
}

static void number_items(weir_item_set_t *set) {
    size_t others = 0;
    for (uint64_t item = 1; item <= set->items; item++) {
        set->numbers[item] = set->events[item] > 0 ? (int32_t)set->n : -1;
        if (set->events[item] > 0) {
            set->ids[set->n++] = (int64_t)item;
        }
    }
    for (uint64_t item = 1; item <= set->items; item++) {
        if (set->events[item] == 0) {
            set->ids[set->n + others++] = (int64_t)item;
        }
    }
}

weir_err_t weir_item_set_init(const weir_dataset_t *dataset, size_t holdout, weir_item_set_t *set,
                              weir_error_t *error) {
    weir_err_t err = WEIR_OK;
    weir_item_set_t made = {
        .dataset = dataset, .holdout = holdout, .items = weir_dataset_items(dataset)};
    if (made.items > INT_MAX) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED, "a catalogue of %llu items is too large",
                           (unsigned long long)made.items);
    }
    made.ids = calloc(made.items + 1, sizeof *made.ids);
    made.numbers = calloc(made.items + 1, sizeof *made.numbers);
    made.events = calloc(made.items + 1, sizeof *made.events);
    if (made.ids == NULL || made.numbers == NULL || made.events == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory to count %llu items",
                          (unsigned long long)made.items);
        goto out;
    }
    made.scratch = calloc(count_events(&made) + 1, sizeof *made.scratch);
    if (made.scratch == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the events of a user");
        goto out;
    }
    number_items(&made);
    *set = made;
    made = (weir_item_set_t){.dataset = NULL};
out:
    weir_item_set_fini(&made);
    return err;
}

void weir_item_set_fini(weir_item_set_t *set) {
    free(set->ids);
    free(set->numbers);
    free(set->events);
    free(set->scratch);
    *set = (weir_item_set_t){.dataset = NULL};
}

double weir_item_set_bytes(const weir_dataset_t *dataset) {
    return 20.0 * (double)weir_dataset_items(dataset);
}

const int64_t *weir_item_set_user(const weir_item_set_t *set, uint64_t user, size_t *count) {
    weir_user_events_t events = weir_dataset_user(set->dataset, user);
    size_t training = weir_item_set_training(set, events);
    for (size_t i = 0; i < training; i++) {
        set->scratch[i] = set->numbers[events.items[i]];
    }
    *count = weir_protocol_distinct(set->scratch, training);
    return set->scratch;
}
