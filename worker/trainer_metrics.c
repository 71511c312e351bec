/* What this worker counts, for its heartbeats: sums since the process started. */
#include "worker/trainer_internal.h"

#include "common/clock.h"

static const double publish_seconds = 0.5;

void weir_trainer_add_totals(weir_trainer_t *trainer) {
    const interval_t *interval = &trainer->interval;
    totals_t *totals = &trainer->totals;
    totals->compute += interval->compute;
    totals->push_wait += interval->push_wait;
    totals->steps += interval->steps;
    totals->tokens += interval->own_tokens;
    totals->keys += interval->keys;
    totals->missed += interval->missed;
}

void weir_trainer_publish_metrics(weir_trainer_t *trainer) {
    double now = weir_clock_seconds();
    if (now - trainer->totals.published < publish_seconds) {
        return;
    }
    const interval_t *interval = &trainer->interval;
    const totals_t *totals = &trainer->totals;
    weir_ps_client_counters_t client = weir_ps_client_counters(trainer->options.client);
    const struct {
        weir_rank_metric_t metric;
        double value;
    } values[] = {
        {WEIR_METRIC_STEPS, (double)(totals->steps + interval->steps)},
        {WEIR_METRIC_TOKENS, (double)(totals->tokens + interval->own_tokens)},
        {WEIR_METRIC_COMPUTE_SECONDS, totals->compute + interval->compute},
        {WEIR_METRIC_PULL_SECONDS, client.seconds_waited},
        {WEIR_METRIC_PUSH_SECONDS, totals->push_wait + interval->push_wait},
        {WEIR_METRIC_REDUCE_SECONDS, weir_exchange_seconds_waited(trainer->options.exchange)},
        {WEIR_METRIC_KEYS, (double)(totals->keys + interval->keys)},
        {WEIR_METRIC_BYTES_PULLED, (double)client.bytes_pulled},
        {WEIR_METRIC_BYTES_PUSHED, (double)client.bytes_pushed},
        {WEIR_METRIC_ROWS_EARLY, (double)client.rows_early},
        {WEIR_METRIC_COPY_HITS, (double)client.rows_left_out},
        {WEIR_METRIC_COPY_FILLS, (double)client.rows_copied},
        {WEIR_METRIC_STALE_STEPS, (double)(totals->missed + interval->missed)},
    };
    weir_rank_metrics_t metrics = {.set = {false}, .values = {0.0}};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        weir_rank_metrics_set(&metrics, values[i].metric, values[i].value);
    }
    weir_control_client_publish_metrics(trainer->options.control, &metrics);
    trainer->totals.published = now;
}
