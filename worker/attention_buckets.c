#include "worker/attention_buckets.h"

#include "worker/time_bucket.h"

#include <stdbool.h>
#include <string.h>

static size_t cell_of(uint64_t distance) {
    uint32_t zeros = (uint32_t)__builtin_clzll(distance | 1u);
    uint64_t below = zeros == 63 ? 0 : (distance << (zeros + 1)) >> 62; /* two bits under the top */
    return (63u - zeros) * 4u + (size_t)below;
}

static uint64_t cell_begin(size_t cell) {
    size_t exponent = cell / 4, quarter = cell % 4;
    uint64_t top = (uint64_t)1 << exponent;
    return exponent >= 2 ? top + quarter * (top >> 2) : top + ((quarter << exponent) >> 2);
}

/* The largest distance from `low` to `high` in a bucket up to `bucket`, that of `low` being one. */
static uint64_t last_distance(uint32_t bucket, uint64_t low, uint64_t high) {
    if (weir_time_bucket_of_distance(high) <= bucket) {
        return high;
    }
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (weir_time_bucket_of_distance(middle) <= bucket) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

void weir_bucket_cells_init(weir_bucket_cells_t *cells) {
    for (size_t cell = 0; cell < WEIR_BUCKET_CELLS; cell++) {
        uint64_t begin = cell_begin(cell);
        uint64_t end = cell + 1 < WEIR_BUCKET_CELLS ? cell_begin(cell + 1) - 1 : UINT64_MAX;
        uint32_t bucket = weir_time_bucket_of_distance(begin);
        uint64_t last = last_distance(bucket, begin, end > begin ? end : begin);
        cells->bucket[cell] = (uint8_t)bucket;
        cells->last[cell] = last >= end ? UINT64_MAX : last;
    }
    for (uint32_t bucket = 0; bucket < 129; bucket++) {
        cells->bucket_last[bucket] = last_distance(bucket, 0, UINT64_MAX);
    }
}

static uint8_t pair_bucket(const weir_bucket_cells_t *cells, int64_t next_time, int64_t time) {
    uint64_t distance = weir_time_distance(next_time, time);
    size_t cell = cell_of(distance);
    return (uint8_t)(cells->bucket[cell] + (distance > cells->last[cell] ? 1 : 0));
}

/* Distances of a key from queries whose times rise lie between those of the first and the last,
 * when the key is not after the first. */
static bool is_ascending(const int64_t *times, size_t count) {
    for (size_t i = 1; i < count; i++) {
        if (times[i] < times[i - 1]) {
            return false;
        }
    }
    return true;
}

/* Queries whose times rise, none before the key: their buckets rise too, in few runs. */
static void fill_ascending(const weir_bucket_cells_t *cells, const int64_t *queries, size_t count,
                           int64_t time, uint8_t *out) {
    size_t i = 0;
    while (i < count) {
        uint8_t bucket = pair_bucket(cells, queries[i], time);
        uint64_t last = cells->bucket_last[bucket];
        do {
            out[i++] = bucket;
        } while (i < count && (uint64_t)queries[i] - (uint64_t)time <= last);
    }
}

void weir_buckets_fill(const weir_bucket_source_t *source, size_t first_query, size_t first_key,
                       size_t end_key, uint8_t *out) {
    const int64_t *queries = source->next_times + first_query;
    size_t left = source->length - first_query;
    size_t count = left < source->panel ? left : source->panel;
    bool ascending = is_ascending(queries, count);
    for (size_t key = first_key; key < end_key; key++, out += source->panel) {
        int64_t time = source->times[key];
        uint8_t last = pair_bucket(source->cells, queries[count - 1], time);
        memset(out, last, source->panel);
        if (ascending && time <= queries[0]) {
            if (pair_bucket(source->cells, queries[0], time) != last) {
                fill_ascending(source->cells, queries, count, time, out);
            }
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            out[i] = pair_bucket(source->cells, queries[i], time);
        }
    }
}
