#include "worker/top_items.h"

#include "worker/rank.h"
#include "worker/score_pass.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* A list is a heap while items are offered: its root is the worst, which the next one has to beat.
 */
struct weir_top_items {
    size_t users, k;
    weir_scored_item_t *heaps; /* users x k */
    size_t *counts;            /* users */
};

weir_err_t weir_top_items_create(size_t users, size_t k, weir_top_items_t **top,
                                 weir_error_t *error) {
    size_t entries = 0;
    weir_top_items_t *made = calloc(1, sizeof *made);
    bool fits = !__builtin_mul_overflow(users, k, &entries);
    if (made != NULL && fits) {
        made->users = users;
        made->k = k;
        made->heaps = calloc(entries + 1, sizeof *made->heaps);
        made->counts = calloc(users + 1, sizeof *made->counts);
    }
    if (made == NULL || made->heaps == NULL || made->counts == NULL) {
        weir_top_items_destroy(made);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu lists of %zu items", users,
                           k);
    }
    *top = made;
    return WEIR_OK;
}

void weir_top_items_destroy(weir_top_items_t *top) {
    if (top != NULL) {
        free(top->heaps);
        free(top->counts);
        free(top);
    }
}

static bool is_worse(weir_scored_item_t a, weir_scored_item_t b) {
    return a.score < b.score || (!(b.score < a.score) && a.item > b.item);
}

/* Let the entry at `at` sink to where no child is worse. */
static void sink(weir_scored_item_t *heap, size_t count, size_t at) {
    weir_scored_item_t entry = heap[at];
    for (size_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
        child += child + 1 < count && is_worse(heap[child + 1], heap[child]) ? 1 : 0;
        if (!is_worse(heap[child], entry)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = entry;
}

static void rise(weir_scored_item_t *heap, size_t at) {
    weir_scored_item_t entry = heap[at];
    while (at > 0 && is_worse(entry, heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = entry;
}

typedef struct {
    weir_top_items_t *top;
    const size_t *excluded_offsets;
    const int64_t *excluded;
} offer_t;

/* Items come in ascending order: one that is only as good as the worst has lost to it. */
static bool beats(const weir_top_items_t *top, size_t user, weir_real_t score) {
    return top->counts[user] < top->k ? !isnan(score) : score > top->heaps[user * top->k].score;
}

static void offer_item(void *argument, size_t user, int64_t item, weir_real_t score) {
    const offer_t *offer = argument;
    weir_top_items_t *top = offer->top;
    weir_scored_item_t *heap = top->heaps + user * top->k;
    size_t begin = offer->excluded_offsets[user], end = offer->excluded_offsets[user + 1];
    if (!beats(top, user, score)) {
        return;
    }
    size_t at = weir_rank_first_excluded(offer->excluded, begin, end, item);
    if (at < end && offer->excluded[at] == item) {
        return;
    }
    if (top->counts[user] < top->k) {
        heap[top->counts[user]] = (weir_scored_item_t){score, item};
        rise(heap, top->counts[user]++);
    } else {
        heap[0] = (weir_scored_item_t){score, item};
        sink(heap, top->k, 0);
    }
}

static void offer_tile(void *argument, size_t user, const weir_real_t *scores, int64_t first_item,
                       size_t count) {
    const offer_t *offer = argument;
    const weir_top_items_t *top = offer->top;
    if (top->counts[user] == top->k) { /* mostly none is better than the worst */
        const weir_real_t worst = top->heaps[user * top->k].score;
        int any = 0;
        for (size_t c = 0; c < count; c++) {
            any |= scores[c] > worst;
        }
        if (any == 0) {
            return;
        }
    }
    for (size_t c = 0; c < count; c++) {
        offer_item(argument, user, first_item + (int64_t)c, scores[c]);
    }
}

/* The worst of a full list: the next item has to beat it. */
static bool threshold_of(void *argument, size_t user, weir_real_t *threshold) {
    const offer_t *offer = argument;
    const weir_top_items_t *top = offer->top;
    *threshold = top->heaps[user * top->k].score;
    return top->counts[user] == top->k;
}

static uint64_t want_screened(void *argument, size_t user, int64_t first_item,
                              const weir_screen_answer_t *answer) {
    (void)argument;
    (void)user;
    (void)first_item;
    return answer->above | answer->open;
}

static const weir_score_screen_t screen = {
    .threshold = threshold_of, .screened = want_screened, .scored = offer_item};

weir_err_t weir_top_items_offer(weir_top_items_t *top, const weir_real_t *encoded,
                                weir_similarity_t similarity, const weir_real_t *rows,
                                int64_t first_item, size_t count, const size_t *excluded_offsets,
                                const int64_t *excluded, weir_error_t *error) {
    offer_t offer = {.top = top, .excluded_offsets = excluded_offsets, .excluded = excluded};
    return weir_score_pass(encoded, top->users, similarity, rows, first_item, count, offer_tile,
                           &screen, &offer, error);
}

static int compare_better(const void *a, const void *b) {
    const weir_scored_item_t *x = a, *y = b;
    return is_worse(*x, *y) ? 1 : is_worse(*y, *x) ? -1 : 0;
}

const weir_scored_item_t *weir_top_items_list(weir_top_items_t *top, size_t user, size_t *count) {
    weir_scored_item_t *list = top->heaps + user * top->k;
    *count = top->counts[user];
    qsort(list, *count, sizeof *list, compare_better);
    return list;
}
