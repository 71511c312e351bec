#include "tools/top_view.h"

#include "proto/control_client.h"
#include "tools/human.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- taking ---- */

static double rate_of(double now, double before, double seconds) {
    return seconds > 0.0 && now >= before ? (now - before) / seconds : (double)NAN;
}

static const weir_top_rank_t *same_rank(const weir_top_t *before, const weir_top_rank_t *now) {
    for (size_t i = 0; before != NULL && i < before->rank_count; i++) {
        const weir_top_rank_t *rank = &before->ranks[i];
        if (rank->rank == now->rank && rank->pid == now->pid) {
            return rank;
        }
    }
    return NULL;
}

static void take_rank(const Weir__Control__RankStatus *row, weir_top_rank_t *rank) {
    *rank = (weir_top_rank_t){.rank = row->rank,
                              .index = row->index,
                              .phase = weir_phase_name((weir_phase_t)row->phase),
                              .pid = row->pid,
                              .step = row->step,
                              .heard = row->age_seconds,
                              .steps_per_second = (double)NAN};
    (void)snprintf(rank->role, sizeof rank->role, "%s", row->role);
    (void)snprintf(rank->host, sizeof rank->host, "%s", row->host);
    (void)snprintf(rank->waits, sizeof rank->waits, "%s", row->waits);
    if (!weir_rank_metrics_unpack(row->metric, row->n_metric, row->value, row->n_value,
                                  &rank->metrics)) {
        rank->metrics = (weir_rank_metrics_t){.set = {false}, .values = {0.0}};
    }
}

static void take_rates(weir_top_rank_t *rank, const weir_top_rank_t *before, double seconds) {
    rank->steps_per_second = rate_of((double)rank->step, (double)before->step, seconds);
    for (int i = 0; i < WEIR_RANK_METRICS; i++) {
        weir_rank_metric_t metric = (weir_rank_metric_t)i;
        if (weir_rank_metric_row(metric)->kind == WEIR_METRIC_COUNTER && rank->metrics.set[i] &&
            before->metrics.set[i]) { /* one that is not finite is left out */
            weir_rank_metrics_set(
                &rank->rates, metric,
                rate_of(rank->metrics.values[i], before->metrics.values[i], seconds));
        }
    }
}

weir_err_t weir_top_take(const Weir__Control__Status *status, double at, const weir_top_t *before,
                         weir_top_t **top, weir_error_t *error) {
    weir_top_t *taken = calloc(1, sizeof *taken + status->n_ranks * sizeof taken->ranks[0]);
    if (taken == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the status of %zu ranks",
                           status->n_ranks);
    }
    taken->at = at;
    taken->job = status->job;
    taken->step = status->step;
    taken->epoch = status->epoch;
    taken->last_checkpoint = status->last_checkpoint_step;
    taken->phase = weir_phase_name((weir_phase_t)status->phase);
    taken->loss = status->loss;
    taken->tokens_per_second = status->tokens_per_second;
    taken->uptime = status->uptime_seconds;
    taken->rank_count = status->n_ranks;
    bool same = before != NULL && before->job == status->job;
    double seconds = same ? at - before->at : 0.0;
    taken->steps_per_second =
        rate_of((double)status->step, same ? (double)before->step : 0.0, seconds);
    for (size_t i = 0; i < status->n_ranks; i++) {
        take_rank(status->ranks[i], &taken->ranks[i]);
        const weir_top_rank_t *earlier = same ? same_rank(before, &taken->ranks[i]) : NULL;
        if (earlier != NULL) {
            take_rates(&taken->ranks[i], earlier, seconds);
        }
    }
    *top = taken;
    return WEIR_OK;
}

/* ---- for a person ---- */

/* "-" where it is not known. */
static const char *count_text(bool known, double value, char text[32]) {
    if (!known || !isfinite(value)) {
        return "-";
    }
    if (value > 0.0 && value < 100.0 && value != floor(value)) {
        (void)snprintf(text, 32, "%.1f", value);
        return text;
    }
    return weir_human_count(value, text);
}

static const char *rate_text(const weir_top_rank_t *rank, weir_rank_metric_t metric,
                             char text[32]) {
    return count_text(rank->rates.set[metric], rank->rates.values[metric], text);
}

static const char *value_text(const weir_top_rank_t *rank, weir_rank_metric_t metric,
                              char text[32]) {
    return count_text(rank->metrics.set[metric], rank->metrics.values[metric], text);
}

static const char *memory_text(const weir_top_rank_t *rank, weir_rank_metric_t metric,
                               char text[32]) {
    return rank->metrics.set[metric] ? weir_human_bytes(rank->metrics.values[metric], text) : "-";
}

/* Seconds in a second, as a percentage. */
static const char *part_text(const weir_top_rank_t *rank, weir_rank_metric_t metric,
                             char text[32]) {
    if (!rank->rates.set[metric]) {
        return "-";
    }
    (void)snprintf(text, 32, "%.0f%%", 100.0 * rank->rates.values[metric]);
    return text;
}

/* One count's rate by another's; `percent`: as a percentage. */
static const char *quotient_text(const weir_top_rank_t *rank, weir_rank_metric_t above,
                                 weir_rank_metric_t below, bool percent, char text[32]) {
    if (!rank->rates.set[above] || !rank->rates.set[below] || !(rank->rates.values[below] > 0.0)) {
        return "-";
    }
    double quotient = rank->rates.values[above] / rank->rates.values[below];
    (void)snprintf(text, 32, "%.*f%s", percent ? 0 : 1, percent ? 100.0 * quotient : quotient,
                   percent ? "%" : "");
    return text;
}

static void print_job(const weir_top_t *top, FILE *out) {
    char up[32], rate[32], tokens[32];
    (void)fprintf(out,
                  "step %llu  %s steps/s  %s tokens/s  epoch %llu  %s  loss %.4f  up %s  "
                  "last checkpoint: ",
                  (unsigned long long)top->step, count_text(true, top->steps_per_second, rate),
                  weir_human_count(top->tokens_per_second, tokens), (unsigned long long)top->epoch,
                  top->phase, top->loss, weir_human_seconds(top->uptime, up));
    if (top->last_checkpoint > 0) {
        (void)fprintf(out, "step %llu\n", (unsigned long long)top->last_checkpoint);
    } else {
        (void)fprintf(out, "none\n");
    }
}

static void print_worker(const weir_top_rank_t *rank, FILE *out) {
    char text[9][32], queues[72];
    (void)snprintf(queues, sizeof queues, "%s/%s",
                   value_text(rank, WEIR_METRIC_SEND_QUEUE, text[0]),
                   value_text(rank, WEIR_METRIC_RECEIVE_QUEUE, text[1]));
    (void)fprintf(
        out, "%6u %-16.16s %9llu %-13s %8s %11s %8s %6s %6s %6s %7s %7s %10s %7s %6.1f  %s\n",
        rank->index, rank->host, (unsigned long long)rank->step, rank->phase,
        count_text(true, rank->steps_per_second, text[8]),
        rate_text(rank, WEIR_METRIC_TOKENS, text[2]),
        part_text(rank, WEIR_METRIC_COMPUTE_SECONDS, text[3]),
        part_text(rank, WEIR_METRIC_PULL_SECONDS, text[4]),
        part_text(rank, WEIR_METRIC_PUSH_SECONDS, text[5]),
        part_text(rank, WEIR_METRIC_REDUCE_SECONDS, text[6]),
        quotient_text(rank, WEIR_METRIC_COPY_HITS, WEIR_METRIC_KEYS, true, text[7]),
        quotient_text(rank, WEIR_METRIC_STALE_STEPS, WEIR_METRIC_STEPS, false, text[0]),
        memory_text(rank, WEIR_METRIC_RESIDENT_BYTES, text[1]), queues, rank->heard, rank->waits);
}

static void print_server(const weir_top_rank_t *rank, FILE *out) {
    char text[9][32], resident[32], queues[72];
    (void)snprintf(queues, sizeof queues, "%s/%s",
                   value_text(rank, WEIR_METRIC_SEND_QUEUE, text[0]),
                   value_text(rank, WEIR_METRIC_RECEIVE_QUEUE, text[1]));
    (void)fprintf(
        out, "%6u %-16.16s %9llu %13s %12s %10s %8s %11s %11s %8s %8s %6s %10s %7s %6.1f  %s\n",
        rank->index, rank->host, (unsigned long long)rank->step,
        value_text(rank, WEIR_METRIC_ROWS, text[0]),
        value_text(rank, WEIR_METRIC_COLD_ROWS, text[1]),
        memory_text(rank, WEIR_METRIC_TABLE_BYTES, text[2]),
        rate_text(rank, WEIR_METRIC_PULLS, text[3]),
        rate_text(rank, WEIR_METRIC_KEYS_PULLED, text[4]),
        rate_text(rank, WEIR_METRIC_ROWS_UPDATED, text[5]),
        rate_text(rank, WEIR_METRIC_ROWS_EVICTED, text[6]),
        rate_text(rank, WEIR_METRIC_KEYS_REJECTED, text[7]),
        quotient_text(rank, WEIR_METRIC_COLD_HITS, WEIR_METRIC_COLD_READS, true, text[8]),
        memory_text(rank, WEIR_METRIC_RESIDENT_BYTES, resident), queues, rank->heard, rank->waits);
}

void weir_top_print(const weir_top_t *top, FILE *out) {
    print_job(top, out);
    (void)fprintf(out, "\n%6s %-16s %9s %-13s %8s %11s %8s %6s %6s %6s %7s %7s %10s %7s %6s  %s\n",
                  "worker", "host", "step", "phase", "steps/s", "tokens/s", "compute", "pull",
                  "push", "reduce", "copies", "stale", "resident", "queues", "heard", "waits for");
    for (size_t i = 0; i < top->rank_count; i++) {
        if (strcmp(top->ranks[i].role, "worker") == 0) {
            print_worker(&top->ranks[i], out);
        }
    }
    (void)fprintf(
        out, "\n%6s %-16s %9s %13s %12s %10s %8s %11s %11s %8s %8s %6s %10s %7s %6s  %s\n",
        "server", "host", "step", "rows", "cold", "tables", "pulls/s", "keys/s", "updates/s",
        "evict/s", "reject/s", "cold", "resident", "queues", "heard", "waits for");
    for (size_t i = 0; i < top->rank_count; i++) {
        if (strcmp(top->ranks[i].role, "ps") == 0) {
            print_server(&top->ranks[i], out);
        }
    }
}

/* ---- for a program ---- */

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *metrics_to_json(const weir_rank_metrics_t *metrics) {
    json_t *object = json_object();
    for (int i = 0; i < WEIR_RANK_METRICS; i++) {
        if (metrics->set[i]) {
            (void)json_object_set_new(object, weir_rank_metric_row((weir_rank_metric_t)i)->name,
                                      json_real(metrics->values[i]));
        }
    }
    return object;
}

json_t *weir_top_to_json(const weir_top_t *top) {
    json_t *ranks = json_array();
    for (size_t i = 0; i < top->rank_count; i++) {
        const weir_top_rank_t *rank = &top->ranks[i];
        (void)json_array_append_new(
            ranks,
            json_pack("{s:i, s:s, s:i, s:s, s:I, s:I, s:s, s:f, s:s, s:o, s:o, s:o}", "rank",
                      (int)rank->rank, "role", rank->role, "index", (int)rank->index, "host",
                      rank->host, "pid", (json_int_t)rank->pid, "step", (json_int_t)rank->step,
                      "phase", rank->phase, "heard_seconds_ago", rank->heard, "waits_for",
                      rank->waits, "steps_per_second", number(rank->steps_per_second), "metrics",
                      metrics_to_json(&rank->metrics), "per_second",
                      metrics_to_json(&rank->rates)));
    }
    return json_pack("{s:I, s:I, s:s, s:f, s:f, s:f, s:o, s:I, s:o}", "step", (json_int_t)top->step,
                     "epoch", (json_int_t)top->epoch, "phase", top->phase, "loss", top->loss,
                     "tokens_per_second", top->tokens_per_second, "uptime_seconds", top->uptime,
                     "steps_per_second", number(top->steps_per_second), "last_checkpoint_step",
                     (json_int_t)top->last_checkpoint, "ranks", ranks);
}
