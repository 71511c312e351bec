/* Time buckets of all pairs of a user, one byte each, in the order that the tiles of attention
 * read: panel by panel of queries; within a panel, key by key up to the panel's end; within a key,
 * the panel's queries side by side. */
#ifndef WEIR_WORKER_ATTENTION_BUCKETS_H
#define WEIR_WORKER_ATTENTION_BUCKETS_H

#include <stddef.h>
#include <stdint.h>

enum { WEIR_BUCKET_CELLS = 4 * 64 };

/* Distances by their power of two and the next two bits: at most one bucket begins inside a cell.
 */
typedef struct {
    uint64_t last[WEIR_BUCKET_CELLS];  /* last distance of the first bucket in the cell */
    uint8_t bucket[WEIR_BUCKET_CELLS]; /* of the cell's first distance */
    uint64_t bucket_last[129]; /* last distance of each bucket; of an empty one, of those below */
} weir_bucket_cells_t;

void weir_bucket_cells_init(weir_bucket_cells_t *cells);

/* One user's. */
typedef struct {
    const weir_bucket_cells_t *cells;
    const int64_t *times;      /* L */
    const int64_t *next_times; /* L */
    size_t length;             /* L */
    size_t panel;              /* queries in a panel */
    const uint8_t *prepared;   /* all of the user's; NULL: fill when needed */
} weir_bucket_source_t;

/* Bytes of the panels before `panel_number`: the place of that panel in what is prepared. */
static inline size_t weir_bucket_offset(size_t panel_number, size_t panel) {
    return panel * panel * (panel_number * (panel_number + 1) / 2);
}

/* Buckets of the queries first_query .. + panel - 1 against the keys [first_key, end_key), rows of
 * `panel` bytes into `out`; pairs of no query, or of a key beyond its query, get a valid byte. */
void weir_buckets_fill(const weir_bucket_source_t *source, size_t first_query, size_t first_key,
                       size_t end_key, uint8_t *out);

#endif
