#include "worker/task_gather.h"

#include "common/frame.h"

#include <stdlib.h>

/* `sizes` of all workers are known: send mine, merge theirs in worker order. */
static weir_err_t merge_others(weir_exchange_t *exchange, uint64_t step, uint32_t sequence,
                               const void *mine, const uint64_t *sizes,
                               weir_task_metrics_t *metrics, weir_error_t *error) {
    uint32_t me = weir_exchange_worker(exchange), workers = weir_exchange_workers(exchange);
    weir_err_t err =
        weir_exchange_all_gather_begin(exchange, step, sequence, mine, (size_t)sizes[me], error);
    for (uint32_t other = 0; other < workers && err == WEIR_OK; other++) {
        void *payload = NULL;
        if (other == me) {
            continue;
        }
        err = weir_exchange_receive(exchange, WEIR_FRAME_BARRIER, step, sequence, other,
                                    (size_t)sizes[other], &payload, error);
        if (err == WEIR_OK) {
            err = weir_task_metrics_merge_saved(metrics, payload, (size_t)sizes[other], error);
        }
        weir_buffer_release(payload);
    }
    return err;
}

weir_err_t weir_task_gather_merge(weir_exchange_t *exchange, uint64_t step, uint32_t sequence,
                                  weir_task_metrics_t *metrics, weir_error_t *error) {
    uint32_t workers = weir_exchange_workers(exchange);
    void *mine = NULL;
    size_t size = 0;
    uint64_t *sizes = calloc(workers, sizeof *sizes);
    if (sizes == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the sizes of %u workers' metrics",
                           workers);
    }
    weir_err_t err = weir_task_metrics_save(metrics, &mine, &size, error);
    if (err == WEIR_OK) {
        uint64_t my_size = size;
        err = weir_exchange_all_gather(exchange, step, sequence, &my_size, sizeof my_size, sizes,
                                       error);
    }
    if (err == WEIR_OK) {
        err = merge_others(exchange, step, sequence + 1, mine, sizes, metrics, error);
    }
    free(mine);
    free(sizes);
    return err;
}
