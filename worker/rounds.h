/* Workers that do different amounts of work meet now and then, so that one that is done does not
 * wait longer for the others than a wait may last, and nobody leaves before all are done. */
#ifndef WEIR_WORKER_ROUNDS_H
#define WEIR_WORKER_ROUNDS_H

#include "worker/exchange.h"

typedef struct {
    weir_exchange_t *exchange; /* not owned */
    uint32_t sequence;         /* of its exchanges; not used otherwise */
    double interval;           /* seconds between two rounds: well below the exchange's timeout */
    double last;               /* when the last one was; 0: none yet */
    uint64_t round;
} weir_rounds_t;

/* Between two pieces of work: take part in a round when one is due. Call: collective(workers),
 * though not at once. */
WEIR_MUST_USE weir_err_t weir_rounds_pause(weir_rounds_t *rounds, weir_error_t *error);

/* After the last piece: returns when all are here. Call: collective(workers). */
WEIR_MUST_USE weir_err_t weir_rounds_finish(weir_rounds_t *rounds, weir_error_t *error);

#endif
