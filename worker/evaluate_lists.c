#include "worker/evaluate_lists.h"

#include "worker/protocol.h"
#include "worker/top_items.h"

#include <stdlib.h>
#include <string.h>

/* Users for whom the catalogue passes by once, where their lists are short; items whose rows are
 * fetched together. */
enum { BLOCK_USERS = 65536, BLOCK_ENTRIES = 1 << 23, ROWS_AT_ONCE = 16384 };

typedef struct {
    const weir_evaluate_parts_t *parts;
    weir_retrieval_t *retrieval;
    weir_split_t split;
    const weir_list_cutoffs_t *cutoffs;
    weir_list_metrics_t *metrics;
    weir_similarity_t similarity;
    size_t dim, k;
    /* of a block */
    size_t block, count;
    weir_history_t *histories;                   /* block */
    float *encoded;                              /* block x query_width */
    size_t *excluded_offsets, *relevant_offsets; /* block + 1 */
    int64_t *excluded, *relevant;
    size_t excluded_room, relevant_room;
    weir_top_items_t *top;
    /* of some users, whose rows are fetched together: room for `together` lists */
    size_t together;
    size_t *lengths; /* together */
    int64_t *items;  /* together x k */
    float *rows;     /* together x k x D */
} work_t;

static weir_err_t no_memory(const work_t *work, weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to list %zu items for %zu users", work->k,
                       work->block);
}

static weir_err_t reserve(work_t *work, weir_error_t *error) {
    uint64_t users = weir_dataset_users(work->parts->dataset);
    size_t all = (size_t)(users / weir_exchange_workers(work->parts->exchange)) + 1;
    size_t most = BLOCK_ENTRIES / work->k + 1;
    work->block = most < BLOCK_USERS ? most : BLOCK_USERS;
    work->block = work->block < all ? work->block : all;
    work->together = ROWS_AT_ONCE / work->k + 1;
    work->histories = calloc(work->block, sizeof *work->histories);
    work->encoded = calloc(work->block * work->similarity.query_width, sizeof *work->encoded);
    work->excluded_offsets = calloc(work->block + 1, sizeof *work->excluded_offsets);
    work->relevant_offsets = calloc(work->block + 1, sizeof *work->relevant_offsets);
    work->lengths = calloc(work->together, sizeof *work->lengths);
    work->items = calloc(work->together * work->k, sizeof *work->items);
    work->rows = calloc(work->together * work->k * work->dim, sizeof *work->rows);
    return work->histories != NULL && work->encoded != NULL && work->excluded_offsets != NULL &&
                   work->relevant_offsets != NULL && work->lengths != NULL && work->items != NULL &&
                   work->rows != NULL
               ? WEIR_OK
               : no_memory(work, error);
}

/* ---- what is relevant, and what is left out ---- */

/* The events from the target on that are relevant. */
static size_t relevant_events(const work_t *work, const weir_history_t *history, size_t events) {
    bool all = work->parts->config->eval.test_from != 0 && work->split == WEIR_SPLIT_TEST;
    return all ? events - history->first - history->count : 1;
}

static weir_err_t grow(const work_t *work, int64_t **items, size_t *room, size_t needed,
                       weir_error_t *error) {
    if (needed <= *room) {
        return WEIR_OK;
    }
    int64_t *grown = realloc(*items, needed * sizeof *grown);
    if (grown == NULL) {
        return no_memory(work, error);
    }
    *items = grown;
    *room = needed;
    return WEIR_OK;
}

static bool has(const int64_t *items, size_t count, int64_t item) {
    size_t begin = 0, end = count;
    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;
        if (items[middle] < item) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin < count && items[begin] == item;
}

static void gather_items(work_t *work) {
    size_t excluded = 0, relevant = 0;
    for (size_t i = 0; i < work->count; i++) {
        const weir_history_t *history = &work->histories[i];
        weir_user_events_t events = weir_dataset_user(work->parts->dataset, history->user);
        const int64_t *known = events.items + history->first;
        int64_t *wanted = work->relevant + relevant, *left_out = work->excluded + excluded;
        size_t tests = relevant_events(work, history, events.count), kept = 0;
        memcpy(wanted, known + history->count, tests * sizeof(int64_t));
        tests = weir_protocol_distinct(wanted, tests);
        memcpy(left_out, known, history->count * sizeof(int64_t));
        size_t distinct = weir_protocol_distinct(left_out, history->count);
        for (size_t j = 0; j < distinct; j++) {
            if (!work->parts->config->eval.rank_known && !has(wanted, tests, left_out[j])) {
                left_out[kept++] = left_out[j];
            }
        }
        excluded += kept;
        relevant += tests;
        work->excluded_offsets[i + 1] = excluded;
        work->relevant_offsets[i + 1] = relevant;
    }
}

static weir_err_t gather(work_t *work, weir_error_t *error) {
    size_t excluded = 0, relevant = 0;
    for (size_t i = 0; i < work->count; i++) {
        const weir_history_t *history = &work->histories[i];
        excluded += history->count;
        relevant += relevant_events(work, history,
                                    weir_dataset_user(work->parts->dataset, history->user).count);
    }
    weir_err_t err = grow(work, &work->excluded, &work->excluded_room, excluded + 1, error);
    if (err == WEIR_OK) {
        err = grow(work, &work->relevant, &work->relevant_room, relevant + 1, error);
    }
    if (err == WEIR_OK) {
        gather_items(work);
    }
    return err;
}

/* ---- lists ---- */

static weir_err_t offer(void *argument, const float *rows, int64_t first_item, size_t count,
                        weir_error_t *error) {
    work_t *work = argument;
    return weir_top_items_offer(work->top, work->encoded, work->similarity, rows, first_item, count,
                                work->excluded_offsets, work->excluded, error);
}

/* The lists of users `begin` .. `begin` + count - 1 of the block. */
static weir_err_t count_lists(work_t *work, size_t begin, size_t count, weir_error_t *error) {
    size_t *lengths = work->lengths, used = 0;
    double diversity[WEIR_LIST_CUTOFFS];
    for (size_t i = 0; i < count; i++) {
        const weir_scored_item_t *list = weir_top_items_list(work->top, begin + i, &lengths[i]);
        for (size_t place = 0; place < lengths[i]; place++) {
            work->items[used++] = list[place].item;
        }
    }
    weir_err_t err =
        weir_retrieval_embeddings(work->retrieval, work->items, used, work->rows, error);
    used = 0;
    for (size_t i = 0; i < count && err == WEIR_OK; i++) {
        const size_t *relevant = work->relevant_offsets + begin + i;
        err = weir_list_diversity(work->rows + used * work->dim, lengths[i], work->dim, work->dim,
                                  work->cutoffs, diversity, error);
        if (err == WEIR_OK) {
            weir_list_t list = {.items = work->items + used,
                                .count = lengths[i],
                                .relevant = work->relevant + relevant[0],
                                .relevant_count = relevant[1] - relevant[0],
                                .diversity = diversity};
            weir_list_metrics_add(work->metrics, &list);
        }
        used += lengths[i];
    }
    return err;
}

static weir_err_t list_block(work_t *work, weir_error_t *error) {
    weir_err_t err = gather(work, error);
    if (err == WEIR_OK) {
        err = weir_retrieval_encode(work->retrieval, work->histories, work->count, work->encoded,
                                    error);
    }
    if (err == WEIR_OK) {
        err = weir_top_items_create(work->count, work->k, &work->top, error);
    }
    if (err == WEIR_OK) {
        err = weir_retrieval_catalogue(work->retrieval, weir_dataset_items(work->parts->dataset),
                                       offer, work, error);
    }
    for (size_t begin = 0; begin < work->count && err == WEIR_OK; begin += work->together) {
        size_t left = work->count - begin;
        err = count_lists(work, begin, left < work->together ? left : work->together, error);
    }
    weir_top_items_destroy(work->top);
    work->top = NULL;
    return err;
}

static weir_err_t list_users(work_t *work, weir_error_t *error) {
    uint64_t users = weir_dataset_users(work->parts->dataset);
    uint32_t workers = weir_exchange_workers(work->parts->exchange);
    weir_err_t err = WEIR_OK;
    for (uint64_t user = weir_exchange_worker(work->parts->exchange);
         user < users && err == WEIR_OK; user += workers) {
        if (weir_evaluate_history(work->parts, work->split, user, &work->histories[work->count]) &&
            ++work->count == work->block) {
            err = list_block(work, error);
            work->count = 0;
        }
    }
    return err == WEIR_OK && work->count > 0 ? list_block(work, error) : err;
}

weir_err_t weir_evaluate_lists(const weir_evaluate_parts_t *parts, const float *parameters,
                               weir_split_t split, const weir_list_cutoffs_t *cutoffs,
                               weir_list_metrics_t *metrics, weir_error_t *error) {
    const weir_retrieval_parts_t retrieval = {.config = parts->config,
                                              .dataset = parts->dataset,
                                              .encoder = parts->encoder,
                                              .client = parts->client,
                                              .parameters = parameters,
                                              .mixture = parts->mixture,
                                              .mixture_offset = parts->mixture_offset};
    work_t work = {.parts = parts,
                   .split = split,
                   .cutoffs = cutoffs,
                   .metrics = metrics,
                   .dim = (size_t)parts->config->model.embedding_dim,
                   .k = cutoffs->at[cutoffs->count - 1]};
    weir_err_t err = weir_retrieval_create(&retrieval, &work.retrieval, error);
    if (err == WEIR_OK) {
        work.similarity = weir_retrieval_similarity(work.retrieval);
        err = reserve(&work, error);
    }
    if (err == WEIR_OK) {
        err = list_users(&work, error);
    }
    weir_retrieval_destroy(work.retrieval);
    free(work.histories);
    free(work.encoded);
    free(work.excluded_offsets);
    free(work.relevant_offsets);
    free(work.excluded);
    free(work.relevant);
    free(work.lengths);
    free(work.items);
    free(work.rows);
    return err;
}

/* ---- popularity ---- */

weir_err_t weir_evaluate_popularity(const weir_evaluate_parts_t *parts,
                                    weir_item_popularity_t *popularity, weir_error_t *error) {
    uint64_t users = weir_dataset_users(parts->dataset);
    size_t longest = 0, held_out = parts->config->eval.validation ? 1 : 0;
    for (uint64_t user = 0; user < users; user++) {
        size_t count = weir_dataset_user(parts->dataset, user).count;
        longest = count > longest ? count : longest;
    }
    int64_t *items = malloc((longest + 1) * sizeof *items);
    if (items == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for a user's %zu items", longest);
    }
    weir_err_t err =
        weir_item_popularity_init(popularity, weir_dataset_items(parts->dataset), error);
    for (uint64_t user = 0; user < users && err == WEIR_OK; user++) {
        weir_user_events_t events = weir_dataset_user(parts->dataset, user);
        size_t known = weir_protocol_known(events, parts->config->eval.test_from);
        known -= known > held_out ? held_out : known;
        memcpy(items, events.items, known * sizeof *items);
        weir_item_popularity_add(popularity, items, known);
    }
    if (err == WEIR_OK) {
        err = weir_item_popularity_close(popularity, error);
    }
    free(items);
    return err;
}
