#include "worker/rank.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void weir_metrics_add(weir_metrics_t *metrics, uint64_t rank) {
    metrics->users++;
    for (size_t c = 0; c < WEIR_METRIC_CUTOFFS; c++) {
        if (rank <= weir_metric_cutoffs[c]) {
            metrics->hr[c] += 1.0;
            metrics->ndcg[c] += 1.0 / log2((double)rank + 1.0);
        }
    }
    metrics->mrr += 1.0 / (double)rank;
}

static double mean(const weir_metrics_t *metrics, double sum) {
    return metrics->users == 0 ? 0.0 : sum / (double)metrics->users;
}

weir_err_t weir_metrics_value(const weir_metrics_t *metrics, const char *name, double *value,
                              weir_error_t *error) {
    if (strcmp(name, "mrr") == 0) {
        *value = mean(metrics, metrics->mrr);
        return WEIR_OK;
    }
    for (size_t c = 0; c < WEIR_METRIC_CUTOFFS; c++) {
        char known[32];
        (void)snprintf(known, sizeof known, "hr@%" PRIu64, weir_metric_cutoffs[c]);
        if (strcmp(name, known) == 0) {
            *value = mean(metrics, metrics->hr[c]);
            return WEIR_OK;
        }
        (void)snprintf(known, sizeof known, "ndcg@%" PRIu64, weir_metric_cutoffs[c]);
        if (strcmp(name, known) == 0) {
            *value = mean(metrics, metrics->ndcg[c]);
            return WEIR_OK;
        }
    }
    return weir_errorf(error, WEIR_ERR_INVALID,
                       "unknown metric \"%.64s\"; known are mrr and hr@K, ndcg@K with K of 1, 10, "
                       "50, 200",
                       name);
}

void weir_metrics_to_json(const weir_metrics_t *metrics, char *out, size_t capacity) {
    char text[512]; /* names and nine numbers of at most 24 characters: under 400 */
    int used = snprintf(text, sizeof text, "{\"users\": %" PRIu64, metrics->users);
    for (size_t c = 0; c < WEIR_METRIC_CUTOFFS; c++) {
        used += snprintf(text + used, sizeof text - (size_t)used,
                         ", \"hr@%" PRIu64 "\": %.8g, \"ndcg@%" PRIu64 "\": %.8g",
                         weir_metric_cutoffs[c], mean(metrics, metrics->hr[c]),
                         weir_metric_cutoffs[c], mean(metrics, metrics->ndcg[c]));
    }
    (void)snprintf(text + used, sizeof text - (size_t)used, ", \"mrr\": %.8g}",
                   mean(metrics, metrics->mrr));
    if (capacity > 0) {
        (void)snprintf(out, capacity, "%s", text);
    }
}
