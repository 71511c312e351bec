#include "bench/measure.h"
#include "bench/pull_push.h"
#include "common/clock.h"
#include "ps/server.h"

#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define TIMEOUT 60.0

void weir_pull_push_check(bool good, const char *what, const weir_error_t *error) {
    if (!good) {
        (void)fprintf(stderr, "bench_pull_push: %s %s\n", what,
                      error != NULL ? error->message : "");
        (void)MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
        exit(EXIT_FAILURE);
    }
}

double weir_pull_push_processor_seconds(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

weir_row_schema_t weir_pull_push_schema(uint32_t table, uint32_t dim,
                                        weir_optimizer_kind_t optimizer) {
    weir_row_schema_t schema = {
        .table_id = table,
        .seed = 1,
        .segment_count = 1,
        .segments = {{.dim = dim,
                      .initial_scale = 0.02,
                      .optimizer = {.kind = optimizer, .learning_rate = 0.05, .epsilon = 1e-8}}}};
    (void)snprintf(schema.name, sizeof schema.name, "table%u", table);
    return schema;
}

weir_table_t *weir_pull_push_table(const weir_pull_push_t *job, const weir_row_schema_t *schema) {
    weir_error_t error = {0};
    weir_table_t *table = NULL;
    weir_table_options_t options = {.row = *schema,
                                    .first_slot = weir_slot_first(job->comm->rank, job->servers),
                                    .end_slot = weir_slot_first(job->comm->rank + 1, job->servers)};
    weir_pull_push_check(weir_table_create(&options, &table, &error) == WEIR_OK, "table:", &error);
    return table;
}

/* ---- servers ---- */

static weir_err_t post_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *error) {
    return weir_comm_thread_post(argument, to, frame, error);
}

static weir_comm_thread_t *start_thread(const weir_pull_push_t *job) {
    weir_error_t error = {0};
    weir_comm_thread_t *thread = NULL;
    weir_comm_thread_options_t options = {.comm = job->comm, .control_fd = -1};
    weir_pull_push_check(weir_comm_thread_start(&options, &thread, &error) == WEIR_OK,
                         "comm thread:", &error);
    return thread;
}

static void stop_thread(weir_comm_thread_t *thread) {
    weir_error_t error = {0};
    weir_pull_push_check(weir_comm_thread_stop(thread, TIMEOUT, &error) == WEIR_OK,
                         "comm thread:", &error);
    (void)MPI_Barrier(MPI_COMM_WORLD);
}

weir_pull_push_cost_t weir_pull_push_serve(const weir_pull_push_t *job, weir_table_t *const *tables,
                                           uint32_t table_count, uint64_t step, uint64_t from,
                                           uint64_t to) {
    const uint32_t types = 1u << WEIR_FRAME_PULL_REQ | 1u << WEIR_FRAME_PUSH_REQ |
                           1u << WEIR_FRAME_PEEK_REQ | 1u << WEIR_FRAME_BARRIER;
    weir_error_t error = {0};
    weir_server_t *server = NULL;
    weir_comm_thread_t *thread = start_thread(job);
    weir_server_options_t options = {.index = job->comm->rank,
                                     .ps = job->servers,
                                     .first_worker_rank = job->servers,
                                     .workers = job->workers,
                                     .step = step,
                                     .send = post_answer,
                                     .argument = thread};
    weir_pull_push_cost_t cost = {0.0, 0.0};
    uint64_t seen = step;
    weir_pull_push_check(weir_server_create(&options, tables, table_count, &server, &error) ==
                             WEIR_OK,
                         "server:", &error);
    for (uint32_t ended = 0; ended < job->workers;) {
        weir_frame_t frame;
        bool received = false;
        weir_pull_push_check(
            weir_comm_thread_take(thread, types, TIMEOUT, &frame, &received, &error) == WEIR_OK &&
                received,
            "no worker speaks", &error);
        if (frame.header.type == WEIR_FRAME_BARRIER) {
            ended++;
            weir_buffer_release(frame.payload);
            continue;
        }
        weir_pull_push_check(weir_server_handle(server, frame, &error) == WEIR_OK,
                             "server:", &error);
        uint64_t now = weir_server_step(server);
        if (now != seen && (now == from || now == to)) {
            double sign = now == from ? -1.0 : 1.0;
            cost.wall += sign * weir_clock_seconds();
            cost.processor += sign * weir_pull_push_processor_seconds();
        }
        seen = now;
    }
    weir_server_destroy(server);
    stop_thread(thread);
    return cost;
}

/* ---- workers ---- */

weir_pull_push_worker_t weir_pull_push_begin(const weir_pull_push_t *job,
                                             const weir_row_schema_t *schemas, uint32_t table_count,
                                             uint32_t ahead) {
    weir_error_t error = {0};
    weir_pull_push_worker_t worker = {.thread = start_thread(job)};
    weir_ps_client_options_t options = {.comm_thread = worker.thread,
                                        .ps = job->servers,
                                        .tables = schemas,
                                        .table_count = table_count,
                                        .ahead = ahead,
                                        .timeout = TIMEOUT};
    weir_pull_push_check(weir_ps_client_create(&options, &worker.client, &error) == WEIR_OK,
                         "client:", &error);
    return worker;
}

void weir_pull_push_end(const weir_pull_push_t *job, weir_pull_push_worker_t *worker) {
    weir_error_t error = {0};
    for (weir_rank_t server = 0; server < job->servers; server++) {
        weir_frame_t frame = {.header = {.type = WEIR_FRAME_BARRIER}};
        weir_pull_push_check(weir_comm_thread_post(worker->thread, server, frame, &error) ==
                                 WEIR_OK,
                             "end:", &error);
    }
    weir_ps_client_destroy(worker->client);
    stop_thread(worker->thread);
}

/* ---- keys ---- */

/* Uniform in [0, 1), number `i` of a stream. */
static double draw(uint32_t stream, uint32_t batch, uint64_t i) {
    uint64_t seed = weir_hash64((uint64_t)stream << 32 | batch);
    return (double)(weir_hash64(seed + i) >> 11) * 0x1p-53;
}

/* Sums of 1 / rank^0.99. */
static double *sum_zipf(uint32_t rows) {
    double *sums = weir_measure_allocate(rows, sizeof *sums), sum = 0.0;
    for (uint32_t row = 0; row < rows; row++) {
        sum += pow((double)row + 1.0, -0.99);
        sums[row] = sum;
    }
    return sums;
}

/* The first row whose sum is not below `value`. */
static uint32_t find_row(const double *sums, uint32_t rows, double value) {
    uint32_t low = 0, high = rows - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sums[middle] < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

weir_pull_push_keys_t weir_pull_push_draw(size_t batches, size_t draws, uint32_t rows, bool zipf,
                                          uint32_t stream) {
    weir_pull_push_keys_t made = {.keys = weir_measure_allocate(batches * draws, sizeof *made.keys),
                                  .counts = weir_measure_allocate(batches, sizeof *made.counts),
                                  .batches = batches,
                                  .draws = draws};
    uint32_t *last = weir_measure_allocate(rows, sizeof *last); /* batch + 1 that has the row */
    double *sums = zipf ? sum_zipf(rows) : NULL;
    weir_pull_push_check(zipf || draws <= rows, "more keys than rows", NULL);
    for (uint32_t batch = 0; batch < batches; batch++) {
        weir_key_t *keys = made.keys + batch * draws;
        size_t count = 0;
        for (uint64_t i = 0; zipf ? i < draws : count < draws; i++) {
            double drawn = draw(stream, batch, i);
            uint32_t row = zipf ? find_row(sums, rows, drawn * sums[rows - 1])
                                : (uint32_t)(drawn * (double)rows);
            if (last[row] != batch + 1) {
                last[row] = batch + 1;
                keys[count++] = weir_pull_push_key(row);
            }
        }
        made.counts[batch] = count;
    }
    free(last);
    free(sums);
    return made;
}

void weir_pull_push_drop(weir_pull_push_keys_t *keys) {
    free(keys->keys);
    free(keys->counts);
}
