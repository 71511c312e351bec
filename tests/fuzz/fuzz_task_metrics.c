/* A saved state of metrics of tasks, as another worker sends it: merged, or refused; what is merged
 * gives results in their ranges, and is saved and merged again as the same. */
#include "tests/fuzz/target.h"
#include "worker/task_metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SAMPLES = 8 };

static const weir_task_kind_t kinds[2] = {WEIR_TASK_BINARY, WEIR_TASK_REGRESSION};

static bool is_share(double value) {
    return isnan(value) || (value >= 0.0 && value <= 1.0);
}

static void check(weir_task_metrics_t *metrics) {
    weir_task_metrics_t *again = NULL;
    weir_task_result_t one, other;
    void *bytes = NULL;
    size_t size = 0;
    if (weir_task_metrics_result(metrics, 0, &one, NULL) != WEIR_OK || !is_share(one.auc) ||
        !is_share(one.auc_error) || !is_share(one.grouped_auc) || !is_share(one.accuracy)) {
        abort();
    }
    if (weir_task_metrics_create(kinds, 2, MOST_SAMPLES, &again, NULL) != WEIR_OK) {
        return;
    }
    if (weir_task_metrics_save(metrics, &bytes, &size, NULL) == WEIR_OK) {
        if (weir_task_metrics_merge_saved(again, bytes, size, NULL) != WEIR_OK ||
            weir_task_metrics_result(again, 0, &other, NULL) != WEIR_OK ||
            one.samples != other.samples || memcmp(&one.auc, &other.auc, sizeof one.auc) != 0) {
            abort();
        }
    }
    free(bytes);
    weir_task_metrics_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    weir_task_metrics_t *metrics = NULL;
    if (weir_task_metrics_create(kinds, 2, MOST_SAMPLES, &metrics, NULL) == WEIR_OK) {
        if (weir_task_metrics_merge_saved(metrics, bytes, size, NULL) == WEIR_OK) {
            check(metrics);
        }
        weir_task_metrics_destroy(metrics);
    }
    return 0;
}
