/* What a rank counts: a value a row of proto/rank_metrics.def, told in heartbeats. A rank sets
 * those that its role has; the others are absent, which is not 0. */
#ifndef WEIR_PROTO_RANK_METRICS_H
#define WEIR_PROTO_RANK_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
#define METRIC(id, name, kind, help) WEIR_METRIC_##id,
#include "proto/rank_metrics.def"
#undef METRIC
    WEIR_RANK_METRICS
} weir_rank_metric_t;

typedef enum { WEIR_METRIC_COUNTER, WEIR_METRIC_GAUGE } weir_metric_kind_t;

typedef struct {
    const char *name, *help; /* static */
    weir_metric_kind_t kind;
} weir_metric_row_t;

/* The row of a metric; metric < WEIR_RANK_METRICS. Call: local. Threads: any. */
const weir_metric_row_t *weir_rank_metric_row(weir_rank_metric_t metric);

typedef struct {
    double values[WEIR_RANK_METRICS];
    bool set[WEIR_RANK_METRICS];
} weir_rank_metrics_t;

/* A value that is not finite is left out. */
void weir_rank_metrics_set(weir_rank_metrics_t *metrics, weir_rank_metric_t metric, double value);

/* Take over those that `other` has. */
void weir_rank_metrics_merge(weir_rank_metrics_t *metrics, const weir_rank_metrics_t *other);

/* As two lists of a message, each with room for WEIR_RANK_METRICS; returns their length. */
size_t weir_rank_metrics_pack(const weir_rank_metrics_t *metrics, uint32_t *numbers,
                              double *values);

/* From two lists of a message. Numbers of a later version are passed over. False, and `metrics`
 * untouched: the lists are not of one length, or a value is not finite or below 0. */
bool weir_rank_metrics_unpack(const uint32_t *numbers, size_t number_count, const double *values,
                              size_t value_count, weir_rank_metrics_t *metrics);

#endif
