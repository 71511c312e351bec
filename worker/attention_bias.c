/* The biases of attention under a softmax: distances in position and buckets of time, looked up for
 * a tile of scores. */
#include "worker/attention_task.h"

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Buckets of the panel of queries from `query` on against the tile's keys: key by key, the panel's
 * queries side by side. */
static const uint8_t *panel_buckets(const weir_attention_task_t *task,
                                    const weir_softmax_tile_t *tile, size_t query) {
    size_t panel = task->buckets.panel;
    if (task->buckets.prepared != NULL) {
        return task->buckets.prepared + weir_bucket_offset(query / panel, panel) +
               tile->key * panel;
    }
    uint8_t *filled = (uint8_t *)task->workspace;
    size_t end = smaller(tile->key + tile->keys, smaller(task->length, query + panel));
    weir_buckets_fill(&task->buckets, query, tile->key, end, filled);
    return filled;
}

/* How many keys of the tile the user's token `i` sees. */
static size_t seen_keys(const weir_softmax_tile_t *tile, size_t i) {
    return smaller(tile->keys, i + 1 - tile->key);
}

void weir_attention_add_bias(const void *argument, const weir_softmax_tile_t *tile,
                             weir_real_t *scores) {
    const weir_attention_task_t *task = argument;
    for (size_t i = tile->query; i < tile->query + tile->queries; i++) {
        weir_real_t *s = scores + (i - tile->query) * WEIR_SOFTMAX_TILE;
        for (size_t j = 0; j < seen_keys(tile, i); j++) {
            s[j] += task->position[i - tile->key - j];
        }
    }
    if (task->time == NULL) {
        return;
    }
    size_t panel = task->buckets.panel, end = tile->query + tile->queries;
    for (size_t query = tile->query; query < end; query += panel) {
        const uint8_t *buckets = panel_buckets(task, tile, query);
        for (size_t i = query; i < smaller(query + panel, end); i++) {
            weir_real_t *s = scores + (i - tile->query) * WEIR_SOFTMAX_TILE;
            for (size_t j = 0; j < seen_keys(tile, i); j++) {
                s[j] += task->time[buckets[j * panel + (i - query)]];
            }
        }
    }
}

void weir_attention_take_bias(const void *argument, const weir_softmax_tile_t *tile,
                              const weir_real_t *d_scores) {
    const weir_attention_task_t *task = argument;
    for (size_t i = tile->query; i < tile->query + tile->queries; i++) {
        const weir_real_t *d = d_scores + (i - tile->query) * WEIR_SOFTMAX_TILE;
        for (size_t j = 0; j < seen_keys(tile, i); j++) {
            task->d_position[i - tile->key - j] += d[j];
        }
    }
    if (task->time == NULL) {
        return;
    }
    size_t panel = task->buckets.panel, end = tile->query + tile->queries, lanes = panel / 2;
    for (size_t query = tile->query; query < end; query += panel) {
        const uint8_t *buckets = panel_buckets(task, tile, query);
        for (size_t i = query; i < smaller(query + panel, end); i++) {
            const weir_real_t *d = d_scores + (i - tile->query) * WEIR_SOFTMAX_TILE;
            for (size_t j = 0; j < seen_keys(tile, i); j++) {
                task->d_time[(size_t)buckets[j * panel + (i - query)] * lanes] += d[j];
            }
        }
    }
}
