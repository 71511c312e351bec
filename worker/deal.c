#include "worker/deal.h"

#include <stdlib.h>
#include <string.h>

/* Dearest first; equal ones as in the batch, so that the order is the same everywhere. */
static int compare_priced(const void *left, const void *right) {
    const weir_priced_t *a = left, *b = right;
    if (a->cost > b->cost || a->cost < b->cost) {
        return a->cost < b->cost ? 1 : -1;
    }
    return (a->place > b->place) - (a->place < b->place);
}

void weir_deal(weir_priced_t *priced, size_t count, uint32_t workers, double *load,
               uint32_t *owners) {
    qsort(priced, count, sizeof *priced, compare_priced);
    memset(load, 0, workers * sizeof *load);
    for (size_t i = 0; i < count; i++) {
        uint32_t least = 0;
        for (uint32_t worker = 1; worker < workers; worker++) {
            least = load[worker] < load[least] ? worker : least;
        }
        owners[priced[i].place] = least;
        load[least] += priced[i].cost;
    }
}
