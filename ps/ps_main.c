/* weir-ps: one parameter server. Frames in, frames out, a snapshot when told. */
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/trace.h"
#include "proto/job.h"
#include "ps/model_tables.h"
#include "ps/server.h"
#include "ps/snapshot.h"
#include "ps/table_saver.h"

#include <stdio.h>
#include <string.h>

enum {
    TYPES = 1u << WEIR_FRAME_PULL_REQ | 1u << WEIR_FRAME_PUSH_REQ | 1u << WEIR_FRAME_PEEK_REQ |
            1u << WEIR_FRAME_CUT_REQ
};

typedef struct {
    weir_job_t job;
    weir_table_t *tables[WEIR_MODEL_MAX_TABLES];
    uint32_t table_count;
    weir_server_t *server;
    double published; /* when the state was last given to the heartbeat */
    weir_table_saver_t *saver;
    uint64_t save_step; /* of the checkpoint begun last */
} process_t;

static weir_err_t send_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    process_t *process = argument;
    return weir_comm_thread_post(process->job.comm_thread, to, frame, error);
}

/* Every worker has done `step` and waits: remember the tables. */
static weir_err_t cut(void *argument, uint64_t step, weir_error_t *error) {
    process_t *process = argument;
    int64_t begun = weir_trace_begin();
    weir_err_t err = weir_table_saver_cut(process->saver, step, error);
    weir_trace_end(begun, "cut", step, WEIR_TRACE_NOBODY);
    return err;
}

static void add_stats(weir_table_stats_t *sum, weir_table_stats_t stats) {
    sum->rows += stats.rows;
    sum->cold_rows += stats.cold_rows;
    sum->bytes += stats.bytes;
    sum->index_bytes += stats.index_bytes;
    sum->born += stats.born;
    sum->evicted += stats.evicted;
    sum->expired += stats.expired;
    sum->rejected += stats.rejected;
    sum->cold_reads += stats.cold_reads;
    sum->cold_hits += stats.cold_hits;
    sum->cold_writes += stats.cold_writes;
}

static void publish_metrics(const process_t *process, const weir_table_stats_t *tables) {
    weir_server_counters_t server = weir_server_counters(process->server);
    weir_rank_metrics_t metrics = {.set = {false}, .values = {0.0}};
    const struct {
        weir_rank_metric_t metric;
        uint64_t value;
    } values[] = {
        {WEIR_METRIC_ROWS, tables->rows},
        {WEIR_METRIC_COLD_ROWS, tables->cold_rows},
        {WEIR_METRIC_TABLE_BYTES, tables->bytes},
        {WEIR_METRIC_INDEX_BYTES, tables->index_bytes},
        {WEIR_METRIC_ROWS_BORN, tables->born},
        {WEIR_METRIC_ROWS_EVICTED, tables->evicted},
        {WEIR_METRIC_ROWS_EXPIRED, tables->expired},
        {WEIR_METRIC_KEYS_REJECTED, tables->rejected},
        {WEIR_METRIC_COLD_READS, tables->cold_reads},
        {WEIR_METRIC_COLD_HITS, tables->cold_hits},
        {WEIR_METRIC_COLD_WRITES, tables->cold_writes},
        {WEIR_METRIC_PULLS, server.pulls},
        {WEIR_METRIC_KEYS_PULLED, server.keys_pulled},
        {WEIR_METRIC_KEYS_PEEKED, server.keys_peeked},
        {WEIR_METRIC_ROWS_UPDATED, server.rows_updated},
        {WEIR_METRIC_PULL_STALENESS, server.staleness_sum},
        {WEIR_METRIC_GRADIENTS_DROPPED, server.gradients_dropped},
        {WEIR_METRIC_GRADIENTS_NOT_FINITE, server.gradients_not_finite},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        weir_rank_metrics_set(&metrics, values[i].metric, (double)values[i].value);
    }
    weir_control_client_publish_metrics(process->job.control, &metrics);
}

static void publish(process_t *process, weir_phase_t phase) {
    weir_rank_state_t state = {.step = weir_server_step(process->server), .phase = phase};
    weir_table_stats_t tables = {.rows = 0};
    for (uint32_t k = 0; k < process->table_count; k++) {
        add_stats(&tables, weir_table_stats(process->tables[k]));
    }
    state.rows = tables.rows + tables.cold_rows;
    state.bytes = tables.bytes;
    weir_control_client_publish(process->job.control, &state);
    publish_metrics(process, &tables);
    weir_log_set_step(state.step);
    process->published = weir_clock_seconds();
}

static weir_err_t create_table(process_t *process, const weir_row_schema_t *schema,
                               weir_error_t *error) {
    weir_job_t *job = &process->job;
    const weir_config_table_t *config = weir_model_table_config(&job->config, schema->table_id);
    char cold[WEIR_PATH_MAX] = "", name[64];
    weir_table_options_t options = {.row = *schema,
                                    .first_slot = weir_slot_first(job->index, job->ps),
                                    .end_slot = weir_slot_first(job->index + 1, job->ps),
                                    .memory_budget = (uint64_t)(config->memory_mib * 1048576.0),
                                    .eviction = (weir_eviction_kind_t)config->eviction,
                                    .ttl = (uint64_t)config->ttl,
                                    .admission = (weir_admission_kind_t)config->admission,
                                    .admission_probability = config->admission_probability,
                                    .admission_threshold = (uint32_t)config->admission_threshold,
                                    .admission_window = (uint64_t)config->admission_window,
                                    .admission_counters = (uint32_t)config->admission_counters,
                                    .cold_cache = (uint64_t)(config->cold_cache_mib * 1048576.0),
                                    .owners = config->worker_cache_rows > 0};
    if (config->cold_folder[0] != '\0') {
        /* Servers of one host, and tables of one server, have folders of their own. */
        (void)snprintf(name, sizeof name, "%.31s.ps-%04u", schema->name, job->index);
        weir_err_t err = weir_path_join(cold, sizeof cold, config->cold_folder, name, error);
        if (err != WEIR_OK) {
            return err;
        }
        options.cold_folder = cold;
    }
    return weir_table_create(&options, &process->tables[schema->table_id], error);
}

/* The tables of this server's slots, empty or as they were saved. */
static weir_err_t create_tables(process_t *process, const weir_manifest_t *manifest,
                                weir_error_t *error) {
    weir_job_t *job = &process->job;
    weir_row_schema_t schemas[WEIR_MODEL_MAX_TABLES];
    uint32_t count = weir_model_tables(&job->config, schemas);
    weir_err_t err = WEIR_OK;
    for (uint32_t k = 0; k < count && err == WEIR_OK; k++) {
        err = create_table(process, &schemas[k], error);
        if (err == WEIR_OK) {
            process->table_count++;
        }
        if (err == WEIR_OK && job->checkpoint[0] != '\0') {
            err = weir_snapshot_load(process->tables[k], job->index, job->ps, job->checkpoint,
                                     manifest, error);
        }
    }
    return err;
}

/* The server has one answer for its tables: the strictest. */
static bool stops_at_not_finite(const process_t *process) {
    bool stops = false;
    for (uint32_t k = 0; k < process->table_count; k++) {
        stops = stops || weir_model_table_config(&process->job.config, k)->not_finite ==
                             WEIR_NOT_FINITE_FATAL;
    }
    return stops;
}

static weir_err_t set_up(process_t *process, weir_error_t *error) {
    weir_job_t *job = &process->job;
    weir_manifest_t manifest = {0};
    weir_err_t err = job->checkpoint[0] == '\0'
                         ? WEIR_OK
                         : weir_manifest_read(job->checkpoint, false, &manifest, error);
    if (err == WEIR_OK) {
        err = create_tables(process, &manifest, error);
    }
    if (err == WEIR_OK) {
        weir_server_options_t options = {.index = job->index,
                                         .ps = job->ps,
                                         .first_worker_rank = job->first_worker_rank,
                                         .workers = job->workers,
                                         .step = manifest.step,
                                         .consistency =
                                             (weir_consistency_t)job->config.train.consistency,
                                         .staleness = (uint32_t)job->config.train.staleness,
                                         .not_finite_fatal = stops_at_not_finite(process),
                                         .send = send_answer,
                                         .cut = cut,
                                         .argument = process};
        err = weir_server_create(&options, process->tables, process->table_count, &process->server,
                                 error);
    }
    if (err == WEIR_OK) {
        weir_table_saver_options_t options = {.tables = process->tables,
                                              .table_count = process->table_count,
                                              .index = job->index,
                                              .ps = job->ps,
                                              .deltas =
                                                  job->config.train.checkpoint_full_every > 1};
        err = weir_table_saver_create(&options, &process->saver, error);
    }
    if (err == WEIR_OK) {
        weir_trace_options_t trace = {
            .run = job->options.run,
            .role = weir_role_name(job->role),
            .rank = job->first_ps_rank + job->index,
            .index = job->index,
            .after = manifest.step,
            .steps = job->options.eval_only ? 0 : (uint64_t)job->config.train.trace_steps};
        err = weir_trace_open(&trace, error);
    }
    weir_manifest_fini(&manifest);
    return err;
}

static weir_err_t report(process_t *process, uint64_t step, const weir_checkpoint_file_t *files,
                         const weir_error_t *failure, weir_error_t *error) {
    weir_table_save_t save = weir_table_saver_last(process->saver);
    if (failure == NULL && save.stalled > 0.0) {
        weir_log(WEIR_LOG_INFO, "ps_main",
                 "training waited for the disk|saved=%llu seconds=%.3f stalled=%.3f copies=%llu",
                 (unsigned long long)save.step, save.seconds, save.stalled,
                 (unsigned long long)save.most_copies);
    }
    return weir_control_client_report_written(process->job.control, step, files,
                                              process->table_count, failure, error);
}

/* A piece more of the checkpoint under way; a failure is the coordinator's to judge. `*waits`:
 * there is one, and nothing can be done for it now. */
static weir_err_t save_some(process_t *process, bool *waits, weir_error_t *error) {
    weir_job_t *job = &process->job;
    weir_checkpoint_file_t files[WEIR_MODEL_MAX_TABLES] = {{.size = 0}};
    weir_snapshot_state_t state = WEIR_SNAPSHOT_WAITS;
    weir_error_t failure = {0};
    weir_err_t err = WEIR_OK;
    char folder[WEIR_PATH_MAX];
    uint64_t step;
    if (weir_control_client_take_begin(job->control, &step, folder, sizeof folder)) {
        process->save_step = step;
        err = weir_table_saver_open(process->saver, step,
                                    weir_control_client_begun_base(job->control), folder, &failure);
    } else if (!weir_table_saver_writes(process->saver)) {
        return WEIR_OK;
    }
    if (err == WEIR_OK) {
        int64_t begun = weir_trace_begin();
        err = weir_table_saver_advance(process->saver, &state, files, &failure);
        weir_trace_end(begun, "save rows", process->save_step, WEIR_TRACE_NOBODY);
    }
    *waits = err == WEIR_OK && state == WEIR_SNAPSHOT_WAITS;
    if (err != WEIR_OK || state == WEIR_SNAPSHOT_WRITTEN) {
        return report(process, process->save_step, files, err == WEIR_OK ? NULL : &failure, error);
    }
    return WEIR_OK;
}

/* Handle a frame; in the timeline, by its type. */
static weir_err_t handle(process_t *process, weir_frame_t frame, weir_error_t *error) {
    static const char *const names[WEIR_FRAME_TYPE_COUNT] = {[WEIR_FRAME_PULL_REQ] = "handle pull",
                                                             [WEIR_FRAME_PUSH_REQ] = "handle push",
                                                             [WEIR_FRAME_PEEK_REQ] = "handle peek",
                                                             [WEIR_FRAME_CUT_REQ] = "handle cut"};
    weir_frame_header_t header = frame.header;
    weir_trace_set_step(weir_server_step(process->server) + 1);
    int64_t begun = weir_trace_begin();
    weir_err_t err = weir_server_handle(process->server, frame, error);
    weir_trace_end(begun, names[header.type], header.step, header.source);
    return err;
}

/* Nothing has come: memory of rows to come, a piece of it. False: there is nothing to do. */
static bool prepare(process_t *process) {
    bool more = false;
    for (uint32_t k = 0; k < process->table_count && !more; k++) {
        more = weir_table_prepare(process->tables[k]);
    }
    return more;
}

static weir_err_t serve(process_t *process, weir_error_t *error) {
    weir_job_t *job = &process->job;
    bool idle = false;  /* there was nothing to do either */
    bool waits = false; /* and what is being saved waits for the disk */
    weir_err_t err = WEIR_OK;
    publish(process, WEIR_PHASE_TRAINING);
    while (err == WEIR_OK && !weir_control_client_done(job->control)) {
        weir_frame_t frame;
        bool received = false;
        uint32_t missing;
        if (weir_server_waits_for(process->server, &missing)) {
            weir_waiting_begin(&job->waiting, WEIR_WAIT_PUSH, job->first_worker_rank + missing);
        }
        /* Control messages wake us. */
        err = weir_comm_thread_take(job->comm_thread, TYPES, idle ? (waits ? 0.002 : 0.25) : 0.0,
                                    &frame, &received, error);
        if (err == WEIR_OK && received) {
            weir_waiting_end(&job->waiting);
            err = handle(process, frame, error);
        }
        waits = false;
        if (err == WEIR_OK) {
            err = save_some(process, &waits, error);
        }
        idle =
            !received && !prepare(process) && (waits || !weir_table_saver_writes(process->saver));
        if (weir_clock_seconds() - process->published > 0.5) {
            publish(process, WEIR_PHASE_TRAINING);
        }
    }
    return err;
}

/* What the server did, where it did more than keep every row and answer in turn. */
static void log_counters(const process_t *process) {
    weir_server_counters_t counters = weir_server_counters(process->server);
    if (counters.gradients_not_finite > 0) {
        weir_log(WEIR_LOG_WARN, "ps_main", "gradients that were not finite were skipped|rows=%llu",
                 (unsigned long long)counters.gradients_not_finite);
    }
    if (counters.staleness_max > 0) {
        weir_log(WEIR_LOG_INFO, "ps_main", "staleness of pulls|mean=%.3f max=%llu pulls=%llu",
                 (double)counters.staleness_sum / (double)counters.pulls,
                 (unsigned long long)counters.staleness_max, (unsigned long long)counters.pulls);
    }
    for (uint32_t k = 0; k < process->table_count; k++) {
        weir_table_stats_t stats = weir_table_stats(process->tables[k]);
        if (stats.evicted + stats.expired + stats.rejected + stats.cold_writes > 0) {
            weir_log(WEIR_LOG_INFO, "ps_main",
                     "table|name=%s rows=%llu cold=%llu bytes=%llu born=%llu evicted=%llu "
                     "expired=%llu rejected=%llu cold_reads=%llu cold_hits=%llu cold_writes=%llu",
                     weir_table_schema(process->tables[k])->name, (unsigned long long)stats.rows,
                     (unsigned long long)stats.cold_rows, (unsigned long long)stats.bytes,
                     (unsigned long long)stats.born, (unsigned long long)stats.evicted,
                     (unsigned long long)stats.expired, (unsigned long long)stats.rejected,
                     (unsigned long long)stats.cold_reads, (unsigned long long)stats.cold_hits,
                     (unsigned long long)stats.cold_writes);
        }
    }
}

int main(int argc, char **argv) {
    process_t process = {.saver = NULL};
    weir_error_t error = {0};
    weir_job_enter(WEIR_ROLE_PS, argc, argv, &process.job);
    weir_err_t err = set_up(&process, &error);
    if (err == WEIR_OK) {
        err = serve(&process, &error);
    }
    if (err != WEIR_OK) {
        weir_fatal(&error);
    }
    log_counters(&process);
    weir_job_leave(&process.job);
    weir_trace_close();
    weir_table_saver_destroy(process.saver);
    weir_server_destroy(process.server);
    for (uint32_t k = 0; k < process.table_count; k++) {
        weir_table_destroy(process.tables[k]);
    }
    return 0;
}
