/* The page of metrics: first what the coordinator knows of the job, then a block for each metric of
 * the ranks. A metric without a value keeps its HELP and TYPE lines, so that a reader learns every
 * name from any page. */
#include "coordinator/coordinator_internal.h"

#include "common/version.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void describe(FILE *out, const char *name, const char *kind, const char *help) {
    (void)fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

/* A metric of the whole job; `known` false: without a value. */
static void show(FILE *out, const char *name, const char *kind, const char *help, bool known,
                 double value) {
    describe(out, name, kind, help);
    if (known) {
        (void)fprintf(out, "%s %.17g\n", name, value);
    }
}

/* A label's value: backslash, quote and line feed are escaped, other control characters dropped. */
static void write_label(FILE *out, const char *name, const char *value) {
    (void)fprintf(out, "%s=\"", name);
    for (const char *c = value; *c != '\0'; c++) {
        if (*c == '\\' || *c == '"') {
            (void)fprintf(out, "\\%c", *c);
        } else if (*c == '\n') {
            (void)fputs("\\n", out);
        } else if ((unsigned char)*c >= 0x20 && (unsigned char)*c < 0x7f) {
            (void)fputc(*c, out);
        }
    }
    (void)fputc('"', out);
}

/* {rank="2",role="worker",index="0" and then `more`, which ends the braces, or not. */
static void write_rank(FILE *out, const char *name, const weir_member_t *member, uint32_t rank) {
    (void)fprintf(out, "%s{rank=\"%" PRIu32 "\",role=\"%s\",index=\"%" PRIu32 "\"", name, rank,
                  member->role, member->index);
}

static void show_job(FILE *out, const weir_coordinator_t *coordinator, double now) {
    const weir_member_t *lead = &coordinator->ranks[weir_coordinator_lead(coordinator)];
    bool saved = coordinator->published > 0, reported = lead->tokens_per_second > 0.0;
    describe(out, "weir_job_info", "gauge", "The job; always 1.");
    (void)fprintf(out, "weir_job_info{job=\"%016llx\",version=\"%s\"} 1\n",
                  (unsigned long long)coordinator->options.job, WEIR_VERSION);
    show(out, "weir_uptime_seconds", "gauge", "Since the job began.", true,
         now - coordinator->started);
    show(out, "weir_restarts_total", "counter", "Times that the run was started again.", true,
         (double)coordinator->options.restarts);
    show(out, "weir_step", "gauge", "The furthest step that a worker has done.", true,
         (double)weir_coordinator_counters(coordinator).step);
    show(out, "weir_epoch", "gauge", "Epochs done.", true, (double)lead->epoch);
    show(out, "weir_loss", "gauge", "Training loss of the last interval.", reported, lead->loss);
    show(out, "weir_tokens_per_second", "gauge",
         "Tokens trained on by all workers, of the last interval.", reported,
         lead->tokens_per_second);
    show(out, "weir_checkpoints_total", "counter", "Checkpoints that this job published.", true,
         (double)coordinator->published);
    show(out, "weir_checkpoints_failed_total", "counter", "Checkpoints that were not saved.", true,
         (double)coordinator->failed);
    show(out, "weir_checkpoint_running", "gauge", "1 while a checkpoint is being saved.", true,
         coordinator->save.active ? 1.0 : 0.0);
    show(out, "weir_checkpoint_step", "gauge", "Step of the newest checkpoint.",
         coordinator->last_checkpoint > 0, (double)coordinator->last_checkpoint);
    show(out, "weir_checkpoint_age_seconds", "gauge",
         "Since this job published a checkpoint, or began.", true,
         now - (saved ? coordinator->published_at : coordinator->started));
    show(out, "weir_checkpoint_bytes", "gauge", "Size of the last one published.", saved,
         (double)coordinator->save_bytes);
    show(out, "weir_checkpoint_seconds", "gauge", "What the last one published took.", saved,
         coordinator->save_seconds);
    show(out, "weir_control_refused_total", "counter",
         "Control messages not understood, or not their sender's to say.", true,
         (double)coordinator->refused);
}

/* What the coordinator itself knows of each rank. */
static void show_ranks(FILE *out, const weir_coordinator_t *coordinator, double now) {
    uint32_t count = coordinator->rank_count;
    describe(out, "weir_rank_info", "gauge", "Where a rank runs; 1 once it has joined.");
    for (uint32_t rank = 1; rank < count; rank++) {
        const weir_member_t *member = &coordinator->ranks[rank];
        if (member->joined) {
            write_rank(out, "weir_rank_info", member, rank);
            (void)fputc(',', out);
            write_label(out, "host", member->host);
            (void)fprintf(out, ",pid=\"%" PRIu64 "\"} 1\n", member->pid);
        }
    }
    describe(out, "weir_rank_up", "gauge", "1: the rank is heard; 0: silent, or never heard.");
    for (uint32_t rank = 1; rank < count; rank++) {
        const weir_member_t *member = &coordinator->ranks[rank];
        write_rank(out, "weir_rank_up", member, rank);
        (void)fprintf(out, "} %d\n", member->joined && !member->silent ? 1 : 0);
    }
    describe(out, "weir_rank_heard_seconds", "gauge", "Since the rank's last message.");
    for (uint32_t rank = 1; rank < count; rank++) {
        const weir_member_t *member = &coordinator->ranks[rank];
        write_rank(out, "weir_rank_heard_seconds", member, rank);
        (void)fprintf(out, "} %.17g\n", now - member->heard);
    }
    describe(out, "weir_rank_step", "gauge", "Steps that the rank has done.");
    for (uint32_t rank = 1; rank < count; rank++) {
        const weir_member_t *member = &coordinator->ranks[rank];
        write_rank(out, "weir_rank_step", member, rank);
        (void)fprintf(out, "} %" PRIu64 "\n", member->step);
    }
    describe(out, "weir_rank_phase", "gauge", "1 for the phase that the rank is in.");
    for (uint32_t rank = 1; rank < count; rank++) {
        const weir_member_t *member = &coordinator->ranks[rank];
        write_rank(out, "weir_rank_phase", member, rank);
        (void)fprintf(out, ",phase=\"%s\"} 1\n", weir_phase_name(member->phase));
    }
    describe(out, "weir_rank_waits", "gauge", "1 for what the rank's main thread waits for.");
    for (uint32_t rank = 1; rank < count; rank++) {
        const weir_member_t *member = &coordinator->ranks[rank];
        char waits[96];
        weir_coordinator_describe_wait(coordinator, member, waits, sizeof waits);
        if (waits[0] != '\0') {
            write_rank(out, "weir_rank_waits", member, rank);
            (void)fputc(',', out);
            write_label(out, "for", waits);
            (void)fputs("} 1\n", out);
        }
    }
}

/* What each rank says of itself. */
static void show_counted(FILE *out, const weir_coordinator_t *coordinator) {
    for (int i = 0; i < WEIR_RANK_METRICS; i++) {
        const weir_metric_row_t *row = weir_rank_metric_row((weir_rank_metric_t)i);
        describe(out, row->name, row->kind == WEIR_METRIC_COUNTER ? "counter" : "gauge", row->help);
        for (uint32_t rank = 1; rank < coordinator->rank_count; rank++) {
            const weir_member_t *member = &coordinator->ranks[rank];
            if (member->metrics.set[i]) {
                write_rank(out, row->name, member, rank);
                (void)fprintf(out, "} %.17g\n", member->metrics.values[i]);
            }
        }
    }
}

weir_err_t weir_coordinator_show_metrics(const weir_coordinator_t *coordinator, double now,
                                         char **page, size_t *size, weir_error_t *error) {
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the metrics");
    }
    show_job(out, coordinator, now);
    show_ranks(out, coordinator, now);
    show_counted(out, coordinator);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the metrics");
    }
    *page = text;
    *size = length;
    return WEIR_OK;
}
