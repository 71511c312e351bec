/* Users of a global batch dealt to workers by cost. */
#ifndef WEIR_WORKER_DEAL_H
#define WEIR_WORKER_DEAL_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    double cost;
    uint32_t place; /* in the batch */
} weir_priced_t;

/* priced[i]: cost and place of user i, reordered. owners[place]: its worker. `load`: room for one
 * number a worker. Dearest first, each to the least loaded, equal ones in the order of the batch:
 * within 4/3 of the best (Graham, "Bounds on Multiprocessing Timing Anomalies", 1969), and the same
 * on all workers. Call: local. */
void weir_deal(weir_priced_t *priced, size_t count, uint32_t workers, double *load,
               uint32_t *owners);

#endif
