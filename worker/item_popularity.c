#include "worker/item_popularity.h"

#include "worker/protocol.h"

#include <stdlib.h>

enum { HEAD_OF = 5 }; /* one item of so many */

typedef struct {
    uint64_t popularity, item;
} ranked_t;

weir_err_t weir_item_popularity_init(weir_item_popularity_t *popularity, uint64_t items,
                                     weir_error_t *error) {
    weir_item_popularity_t made = {.items = items,
                                   .counts = calloc((size_t)items + 1, sizeof *made.counts),
                                   .head = calloc((size_t)items + 1, sizeof *made.head)};
    if (made.counts == NULL || made.head == NULL) {
        weir_item_popularity_fini(&made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the popularity of %llu items",
                           (unsigned long long)items);
    }
    *popularity = made;
    return WEIR_OK;
}

void weir_item_popularity_fini(weir_item_popularity_t *popularity) {
    free(popularity->counts);
    free(popularity->head);
    *popularity = (weir_item_popularity_t){0};
}

void weir_item_popularity_add(weir_item_popularity_t *popularity, int64_t *items, size_t count) {
    size_t distinct = weir_protocol_distinct(items, count);
    for (size_t i = 0; i < distinct; i++) {
        popularity->warm += popularity->counts[items[i]] == 0 ? 1 : 0;
        popularity->counts[items[i]]++;
    }
    popularity->users += count > 0 ? 1 : 0;
}

static int compare_ranked(const void *left, const void *right) {
    const ranked_t *a = left, *b = right;
    if (a->popularity != b->popularity) {
        return a->popularity < b->popularity ? 1 : -1;
    }
    return (a->item > b->item) - (a->item < b->item);
}

weir_err_t weir_item_popularity_close(weir_item_popularity_t *popularity, weir_error_t *error) {
    size_t count = 0;
    ranked_t *ranked = calloc((size_t)popularity->warm + 1, sizeof *ranked);
    if (ranked == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to order %llu items",
                           (unsigned long long)popularity->warm);
    }
    for (uint64_t item = 1; item <= popularity->items; item++) {
        if (popularity->counts[item] > 0) {
            ranked[count++] = (ranked_t){popularity->counts[item], item};
        }
    }
    qsort(ranked, count, sizeof *ranked, compare_ranked);
    for (size_t i = 0; i < (count + HEAD_OF - 1) / HEAD_OF; i++) {
        popularity->head[ranked[i].item] = 1;
    }
    free(ranked);
    return WEIR_OK;
}
