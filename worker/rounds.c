#include "worker/rounds.h"

#include "common/clock.h"

#include <stdbool.h>
#include <stdlib.h>

/* One round: everyone says whether it is done. */
static weir_err_t meet(weir_rounds_t *rounds, uint64_t done, bool *all_done, weir_error_t *error) {
    uint32_t workers = weir_exchange_workers(rounds->exchange);
    uint64_t *answers = calloc(workers, sizeof *answers);
    if (answers == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    }
    weir_err_t err = weir_exchange_all_gather(rounds->exchange, rounds->round++, rounds->sequence,
                                              &done, sizeof done, answers, error);
    *all_done = true;
    for (uint32_t worker = 0; worker < workers; worker++) {
        *all_done = *all_done && answers[worker] != 0;
    }
    free(answers);
    rounds->last = weir_clock_seconds();
    return err;
}

weir_err_t weir_rounds_pause(weir_rounds_t *rounds, weir_error_t *error) {
    bool ignored = false;
    double now = weir_clock_seconds();
    rounds->last = rounds->last > 0.0 ? rounds->last : now;
    return now - rounds->last >= rounds->interval ? meet(rounds, 0, &ignored, error) : WEIR_OK;
}

weir_err_t weir_rounds_finish(weir_rounds_t *rounds, weir_error_t *error) {
    bool all_done = false;
    weir_err_t err = WEIR_OK;
    while (!all_done && err == WEIR_OK) {
        err = meet(rounds, 1, &all_done, error);
    }
    return err;
}
