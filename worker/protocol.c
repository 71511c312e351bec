#include "worker/protocol.h"

#include <stdlib.h>
#include <string.h>

bool weir_protocol_target(size_t events, size_t after, size_t *target) {
    if (events < after + 2) {
        return false;
    }
    *target = events - after - 1;
    return true;
}

static int compare_items(const void *a, const void *b) {
    int64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

size_t weir_protocol_distinct(int64_t *items, size_t count) {
    size_t kept = 0;
    qsort(items, count, sizeof *items, compare_items);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || items[kept - 1] != items[i]) {
            items[kept++] = items[i];
        }
    }
    return kept;
}
