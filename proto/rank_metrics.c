#include "proto/rank_metrics.h"

#include <math.h>

static const weir_metric_row_t rows[WEIR_RANK_METRICS] = {
#define METRIC(id, metric_name, metric_kind, metric_help)                                          \
    [WEIR_METRIC_##                                                                                \
        id] = {.name = (metric_name), .help = (metric_help), .kind = WEIR_METRIC_##metric_kind},
#include "proto/rank_metrics.def"
#undef METRIC
};

const weir_metric_row_t *weir_rank_metric_row(weir_rank_metric_t metric) {
    return &rows[metric];
}

void weir_rank_metrics_set(weir_rank_metrics_t *metrics, weir_rank_metric_t metric, double value) {
    if (isfinite(value)) {
        metrics->values[metric] = value;
        metrics->set[metric] = true;
    }
}

void weir_rank_metrics_merge(weir_rank_metrics_t *metrics, const weir_rank_metrics_t *other) {
    for (size_t i = 0; i < WEIR_RANK_METRICS; i++) {
        if (other->set[i]) {
            metrics->values[i] = other->values[i];
            metrics->set[i] = true;
        }
    }
}

size_t weir_rank_metrics_pack(const weir_rank_metrics_t *metrics, uint32_t *numbers,
                              double *values) {
    size_t count = 0;
    for (size_t i = 0; i < WEIR_RANK_METRICS; i++) {
        if (metrics->set[i]) {
            numbers[count] = (uint32_t)i;
            values[count++] = metrics->values[i];
        }
    }
    return count;
}

bool weir_rank_metrics_unpack(const uint32_t *numbers, size_t number_count, const double *values,
                              size_t value_count, weir_rank_metrics_t *metrics) {
    if (number_count != value_count) {
        return false;
    }
    for (size_t i = 0; i < value_count; i++) {
        if (!isfinite(values[i]) || values[i] < 0.0) {
            return false;
        }
    }
    for (size_t i = 0; i < value_count; i++) {
        if (numbers[i] < WEIR_RANK_METRICS) {
            weir_rank_metrics_set(metrics, (weir_rank_metric_t)numbers[i], values[i]);
        }
    }
    return true;
}
