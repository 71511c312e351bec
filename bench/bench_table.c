/* How fast does one core find keys, gather rows and update them, and how fast do rows go through
 * client and server?
 *
 *   bench_table [KEYS]        finds at KEYS / 10 and KEYS keys; default 10,000,000
 *
 * Each answer is verified first, then timed: median of the repeats, one JSON line. Single-core
 * rates are per second of the thread's own CPU time, so that neighbours on a shared machine cost
 * less noise; rows through client and server are per second on the clock. Gather and update print
 * their fraction of a limit measured in the same run: a plain loop over random rows of the same
 * size in huge pages, prefetched, copied out (gather) or read and written (update). */
#include "common/clock.h"
#include "common/rng.h"
#include "common/version.h"
#include "ps/client.h"
#include "ps/index.h"
#include "ps/server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REPEATS = 7,
    PROBES = 1 << 20, /* keys of one timed pass */
    BATCH = 4096,     /* keys of one call: what a worker's part of a step may be */
    DIM = 64,
    TABLE_ROWS = 2000000,
    SERVERS = 2,
    STEPS = 60
};

static weir_error_t error;

static void check(bool good, const char *what) {
    if (!good) {
        (void)fprintf(stderr, "bench_table: %s %s\n", what, error.message);
        exit(EXIT_FAILURE);
    }
}

static void *allocate(size_t count, size_t size) {
    void *block = weir_arena_map(count * size);
    check(block != NULL, "out of memory");
    return block;
}

static int compare_seconds(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *seconds) {
    qsort(seconds, REPEATS, sizeof *seconds, compare_seconds);
    return seconds[REPEATS / 2];
}

/* CPU time of this thread. */
static double core_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static uint32_t draw_below(uint32_t at, uint32_t stream, uint32_t bound) {
    return weir_uniform_below(
        weir_philox(weir_rng_key(11, WEIR_STREAM_TEST), at, stream, 0, 0).word[0], bound);
}

static weir_key_t key_of(uint32_t row) {
    return (weir_key_t)row * 0x9E3779B97F4A7C15ull; /* odd factor: distinct */
}

/* ---- finds ---- */

static double time_finds(const weir_index_t *index, const weir_key_t *keys, uint32_t *rows) {
    double seconds[REPEATS];
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double begin = core_seconds();
        for (size_t i = 0; i < PROBES; i += BATCH) {
            weir_index_find(index, keys + i, BATCH, rows + i);
        }
        seconds[repeat] = core_seconds() - begin;
    }
    return PROBES / median(seconds);
}

static void bench_finds(uint32_t count) {
    weir_arena_t arena = {0};
    weir_index_t index;
    weir_key_t *hits = allocate(PROBES, sizeof *hits), *misses = allocate(PROBES, sizeof *misses);
    uint32_t *rows = allocate(PROBES, sizeof *rows), *wanted = allocate(PROBES, sizeof *wanted);
    check(weir_index_init(&index, &arena), "out of memory");
    double begin = core_seconds();
    for (uint32_t row = 0; row < count; row++) {
        check(weir_index_reserve(&index, key_of(row)), "out of memory");
        weir_index_insert(&index, key_of(row), row);
    }
    double insert_seconds = core_seconds() - begin;
    for (uint32_t i = 0; i < PROBES; i++) {
        wanted[i] = draw_below(i, 0, count);
        hits[i] = key_of(wanted[i]);
        misses[i] = key_of(count + i);
    }
    weir_index_find(&index, hits, PROBES, rows);
    check(memcmp(rows, wanted, PROBES * sizeof *rows) == 0, "a find is wrong");
    weir_index_find(&index, misses, PROBES, rows);
    for (uint32_t i = 0; i < PROBES; i++) {
        check(rows[i] == WEIR_INDEX_NONE, "a miss was found");
    }
    double hit_rate = time_finds(&index, hits, rows);
    double miss_rate = time_finds(&index, misses, rows);
    (void)printf("{\"bench\": \"table_find\", \"version\": \"%s\", \"keys\": %u, \"batch\": %d, "
                 "\"hits_per_second\": %.4g, \"misses_per_second\": %.4g, "
                 "\"inserts_per_second\": %.4g, \"bytes_per_key\": %.4g}\n",
                 WEIR_VERSION, count, BATCH, hit_rate, miss_rate, count / insert_seconds,
                 (double)arena.in_use / count);
    weir_index_fini(&index);
    weir_arena_fini(&arena);
    weir_arena_unmap(hits, PROBES * sizeof *hits);
    weir_arena_unmap(misses, PROBES * sizeof *misses);
    weir_arena_unmap(rows, PROBES * sizeof *rows);
    weir_arena_unmap(wanted, PROBES * sizeof *wanted);
}

/* ---- gather and update of one table ---- */

static weir_table_t *create_table(weir_optimizer_kind_t optimizer) {
    weir_table_schema_t schema = {.name = "item",
                                  .dim = DIM,
                                  .optimizer = optimizer,
                                  .learning_rate = 1e-3,
                                  .beta1 = 0.9,
                                  .beta2 = 0.98,
                                  .epsilon = 1e-8,
                                  .initial_sigma = 0.02,
                                  .seed = 1};
    weir_table_t *table = NULL;
    check(weir_table_create(&schema, &table, &error) == WEIR_OK, "create:");
    return table;
}

static void fill_table(weir_table_t *table, uint32_t rows) {
    weir_row_layout_t layout = weir_row_layout(weir_table_schema(table));
    float *record = calloc(layout.floats, sizeof *record);
    check(record != NULL, "out of memory");
    for (uint32_t row = 0; row < rows; row++) {
        record[0] = (float)row;
        record[DIM - 1] = -(float)row;
        check(weir_table_restore(table, key_of(row), record, 1, 1, &error) == WEIR_OK, "restore:");
    }
    free(record);
}

/* Rows a second that this core copies out of random places, or (`update`) reads and writes there.
 */
static double measure_limit(size_t row_bytes, bool update, const uint32_t *order, char *out) {
    enum { AHEAD = 24 };
    char *rows = allocate(TABLE_ROWS, row_bytes);
    memset(rows, 1, TABLE_ROWS * row_bytes);
    double seconds[REPEATS];
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double begin = core_seconds();
        for (size_t i = 0; i < PROBES; i++) {
            if (i + AHEAD < PROBES) {
                const char *next = rows + order[i + AHEAD] * row_bytes;
                for (size_t line = 0; line < row_bytes; line += 64) {
                    __builtin_prefetch(next + line);
                }
            }
            char *row = rows + order[i] * row_bytes;
            if (update) {
                for (size_t byte = 0; byte < row_bytes; byte++) {
                    row[byte] = (char)(row[byte] + 1);
                }
            } else {
                memcpy(out + i % BATCH * row_bytes, row, row_bytes);
            }
        }
        seconds[repeat] = core_seconds() - begin;
    }
    weir_arena_unmap(rows, TABLE_ROWS * row_bytes);
    return PROBES / median(seconds);
}

static void bench_rows(void) {
    weir_table_t *table = create_table(WEIR_OPTIMIZER_ROWWISE_ADAGRAD);
    uint32_t *order = allocate(PROBES, sizeof *order);
    weir_key_t *keys = allocate(PROBES, sizeof *keys);
    weir_row_handle_t *handles = allocate(PROBES, sizeof *handles);
    float *values = allocate((size_t)BATCH * DIM, sizeof *values);
    double pulls[REPEATS], updates[REPEATS];
    fill_table(table, TABLE_ROWS);
    for (uint32_t i = 0; i < PROBES; i++) {
        order[i] = draw_below(i, 1, TABLE_ROWS);
        keys[i] = key_of(order[i]);
    }
    for (size_t i = 0; i < PROBES; i += BATCH) {
        weir_err_t err = weir_table_pull(table, keys + i, BATCH, handles + i, values, &error);
        check(err == WEIR_OK, "pull:");
        for (size_t j = 0; j < BATCH; j++) {
            check(values[j * DIM] == (float)order[i + j] &&
                      values[j * DIM + DIM - 1] == -(float)order[i + j],
                  "a row is wrong");
        }
    }
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double begin = core_seconds();
        for (size_t i = 0; i < PROBES; i += BATCH) {
            check(weir_table_pull(table, keys + i, BATCH, handles + i, values, &error) == WEIR_OK,
                  "pull:");
        }
        pulls[repeat] = core_seconds() - begin;
        begin = core_seconds();
        for (size_t i = 0; i < PROBES; i += BATCH) {
            check(weir_table_apply(table, handles + i, values, BATCH, 2) == 0, "not finite");
        }
        updates[repeat] = core_seconds() - begin;
    }
    size_t record_bytes = (DIM + 1) * sizeof(float);
    double pull_rate = PROBES / median(pulls), update_rate = PROBES / median(updates);
    double gather_limit = measure_limit(DIM * sizeof(float), false, order, (char *)values);
    double update_limit = measure_limit(record_bytes, true, order, (char *)values);
    (void)printf("{\"bench\": \"table_rows\", \"version\": \"%s\", \"rows\": %d, \"dim\": %d, "
                 "\"pulls_per_second\": %.4g, \"random_rows_per_second\": %.4g, "
                 "\"pull_fraction\": %.3f, \"rowwise_adagrad_updates_per_second\": %.4g, "
                 "\"random_updates_per_second\": %.4g, \"update_fraction\": %.3f}\n",
                 WEIR_VERSION, TABLE_ROWS, DIM, pull_rate, gather_limit, pull_rate / gather_limit,
                 update_rate, update_limit, update_rate / update_limit);
    weir_table_destroy(table);
    weir_arena_unmap(order, PROBES * sizeof *order);
    weir_arena_unmap(keys, PROBES * sizeof *keys);
    weir_arena_unmap(handles, PROBES * sizeof *handles);
    weir_arena_unmap(values, (size_t)BATCH * DIM * sizeof *values);
}

/* ---- through client and server, in threads ---- */

typedef struct {
    weir_comm_thread_t *thread;
    uint32_t index;
    atomic_bool *over;
    weir_table_t *table;
} server_t;

static weir_err_t post_answer(void *argument, weir_rank_t to, weir_frame_t frame,
                              weir_error_t *failure) {
    return weir_comm_thread_post(((server_t *)argument)->thread, to, frame, failure);
}

static void *run_server(void *argument) {
    server_t *mine = argument;
    weir_error_t failure = {0};
    weir_server_t *server = NULL;
    weir_server_options_t options = {.index = mine->index,
                                     .ps = SERVERS,
                                     .first_worker_rank = SERVERS,
                                     .workers = 1,
                                     .send = post_answer,
                                     .argument = mine};
    weir_err_t err = weir_server_create(&options, mine->table, &server, &failure);
    const uint32_t types =
        1u << WEIR_FRAME_PULL_REQ | 1u << WEIR_FRAME_PUSH_REQ | 1u << WEIR_FRAME_PEEK_REQ;
    while (err == WEIR_OK && !atomic_load(mine->over)) {
        weir_frame_t frame;
        bool received;
        err = weir_comm_thread_take(mine->thread, types, 0.01, &frame, &received, &failure);
        if (err == WEIR_OK && received) {
            err = weir_server_handle(server, frame, &failure);
        }
    }
    if (err != WEIR_OK) {
        (void)fprintf(stderr, "bench_table: server %u: %s\n", mine->index, failure.message);
    }
    weir_server_destroy(server);
    return NULL;
}

/* One step after the other; gradients are zero, so that the rows keep the values they were born
 * with. */
static double run_steps(weir_ps_client_t *client, weir_table_t *oracle) {
    weir_key_t *keys = allocate(BATCH, sizeof *keys);
    float *values = allocate((size_t)BATCH * DIM, sizeof *values);
    float *expected = allocate((size_t)BATCH * DIM, sizeof *expected);
    float *gradients = allocate((size_t)BATCH * DIM, sizeof *gradients);
    double seconds = 0.0;
    for (uint32_t step = 1; step <= STEPS; step++) {
        for (uint32_t i = 0; i < BATCH; i++) {
            keys[i] = key_of((step % 10) * BATCH + i);
        }
        double begin = weir_clock_seconds();
        check(weir_ps_client_pull_begin(client, step, keys, BATCH, &error) == WEIR_OK &&
                  weir_ps_client_pull_finish(client, values, &error) == WEIR_OK &&
                  weir_ps_client_push(client, gradients, &error) == WEIR_OK,
              "step:");
        seconds += step > 20 ? weir_clock_seconds() - begin : 0.0; /* rows and buffers are there */
        weir_table_peek(oracle, keys, BATCH, expected);
        check(memcmp(values, expected, (size_t)BATCH * DIM * sizeof *values) == 0,
              "rows through the servers are wrong");
    }
    weir_arena_unmap(keys, BATCH * sizeof *keys);
    weir_arena_unmap(values, (size_t)BATCH * DIM * sizeof *values);
    weir_arena_unmap(expected, (size_t)BATCH * DIM * sizeof *expected);
    weir_arena_unmap(gradients, (size_t)BATCH * DIM * sizeof *gradients);
    return seconds / (STEPS - 20);
}

static void bench_protocol(void) {
    weir_comm_t *comms[SERVERS + 1];
    weir_comm_thread_t *threads[SERVERS + 1];
    server_t servers[SERVERS];
    pthread_t applying[SERVERS];
    atomic_bool over = false;
    weir_table_t *oracle = create_table(WEIR_OPTIMIZER_SGD);
    check(weir_comm_loop_create(SERVERS + 1, comms, &error) == WEIR_OK, "transport:");
    for (weir_rank_t rank = 0; rank <= SERVERS; rank++) {
        weir_comm_thread_options_t options = {.comm = comms[rank], .control_fd = -1};
        check(weir_comm_thread_start(&options, &threads[rank], &error) == WEIR_OK, "thread:");
    }
    for (uint32_t s = 0; s < SERVERS; s++) {
        servers[s] = (server_t){.thread = threads[s],
                                .index = s,
                                .over = &over,
                                .table = create_table(WEIR_OPTIMIZER_SGD)};
        check(pthread_create(&applying[s], NULL, run_server, &servers[s]) == 0, "no thread");
    }
    weir_ps_client_options_t options = {
        .comm_thread = threads[SERVERS], .ps = SERVERS, .dim = DIM, .timeout = 60.0};
    weir_ps_client_t *client = NULL;
    check(weir_ps_client_create(&options, &client, &error) == WEIR_OK, "client:");
    double seconds = run_steps(client, oracle);
    (void)printf("{\"bench\": \"pull_push\", \"version\": \"%s\", \"transport\": \"in-process\", "
                 "\"workers\": 1, \"ps\": %d, \"rows\": %d, \"dim\": %d, "
                 "\"rows_per_second\": %.4g}\n",
                 WEIR_VERSION, SERVERS, BATCH, DIM, BATCH / seconds);
    atomic_store(&over, true);
    for (uint32_t s = 0; s < SERVERS; s++) {
        (void)pthread_join(applying[s], NULL);
        weir_table_destroy(servers[s].table);
    }
    for (weir_rank_t rank = 0; rank <= SERVERS; rank++) {
        check(weir_comm_thread_stop(threads[rank], 1.0, &error) == WEIR_OK, "stop:");
    }
    for (weir_rank_t rank = 0; rank <= SERVERS; rank++) {
        weir_comm_destroy(comms[rank]);
    }
    weir_ps_client_destroy(client);
    weir_table_destroy(oracle);
}

int main(int argc, char **argv) {
    unsigned long keys = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000000ul;
    if (keys < 10 || keys > 1000000000ul || argc > 2) {
        (void)fprintf(stderr, "usage: bench_table [KEYS], 10 to 1000000000\n");
        return EXIT_FAILURE;
    }
    bench_finds((uint32_t)keys / 10);
    bench_finds((uint32_t)keys);
    bench_rows();
    bench_protocol();
    return EXIT_SUCCESS;
}
