/* How fast does one core gather rows, pull them and update them, and how fast do rows go through
 * client and server?
 *
 *   bench_table [ROWS]        rows of the table; default 2,000,000
 *
 * Last, how long births of a batch of keys make a pull, with and without memory made ready.
 *
 * Each answer is verified first, then timed: median of the repeats, one JSON line. Single-core
 * rates are per second of the thread's own CPU time, so that neighbours on a shared machine cost
 * less noise; rows through client and server are per second on the clock. Each prints its fraction
 * of a limit measured in the same run: a plain loop over random rows of the same size in huge
 * pages, prefetched, copied out (gather, pull) or read and written (update). Finds alone:
 * bench_index. */
#include "common/clock.h"
#include "common/rng.h"
#include "common/version.h"
#include "ps/arena.h"
#include "ps/client.h"
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
    DIM = 64,         /* of rows through client and server */
    MAX_DIM = 256,
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

/* ---- gather, pull and update of one table ---- */

static weir_table_t *create_table(weir_optimizer_kind_t optimizer, uint32_t dim) {
    weir_table_options_t options = {.row = {.name = "item",
                                            .seed = 1,
                                            .segment_count = 1,
                                            .segments = {{.dim = dim,
                                                          .initial_scale = 0.02,
                                                          .optimizer = {.kind = optimizer,
                                                                        .learning_rate = 1e-3,
                                                                        .beta1 = 0.9,
                                                                        .beta2 = 0.98,
                                                                        .epsilon = 1e-8}}}}};
    weir_table_t *table = NULL;
    check(weir_table_create(&options, &table, &error) == WEIR_OK, "create:");
    return table;
}

static void fill_table(weir_table_t *table, uint32_t rows, uint32_t dim) {
    float *record = calloc(weir_table_layout(table)->record_bytes, 1);
    check(record != NULL, "out of memory");
    for (uint32_t number = 0; number < rows; number++) {
        record[0] = (float)number;
        record[dim - 1] = -(float)number;
        weir_table_row_t row = {.key = key_of(number),
                                .value = record,
                                .rest = record + dim,
                                .last_step = 1,
                                .count = 1};
        check(weir_table_restore(table, &row, &error) == WEIR_OK, "restore:");
    }
    check(weir_table_end_restore(table, &error) == WEIR_OK, "restore:");
    free(record);
}

/* Rows a second that this core copies out of random places, or (`update`) reads and writes there.
 */
static double measure_limit(uint32_t table_rows, size_t row_bytes, bool update,
                            const uint32_t *order, char *out) {
    enum { AHEAD = 24 };
    char *rows = allocate(table_rows, row_bytes);
    memset(rows, 1, table_rows * row_bytes);
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
    weir_arena_unmap(rows, table_rows * row_bytes);
    return PROBES / median(seconds);
}

typedef struct {
    weir_table_t *table;
    uint32_t dim;
    const weir_key_t *keys;
    weir_row_handle_t *handles;
    float *values;
} rows_t;

typedef void (*operation_t)(const rows_t *rows, size_t begin);

static void gather(const rows_t *rows, size_t begin) {
    weir_table_gather(rows->table, rows->keys + begin, rows->handles + begin, BATCH, 1,
                      rows->values);
}

static void pull(const rows_t *rows, size_t begin) {
    check(weir_table_pull(rows->table, rows->keys + begin, BATCH, 1, rows->handles + begin,
                          rows->values, &error) == WEIR_OK,
          "pull:");
}

static void update(const rows_t *rows, size_t begin) {
    weir_table_applied_t applied = weir_table_apply(rows->table, rows->keys + begin,
                                                    rows->handles + begin, rows->values, BATCH, 2);
    check(applied.updated == BATCH, "not finite");
}

static double measure(const rows_t *rows, operation_t operation) {
    double seconds[REPEATS];
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double begin = core_seconds();
        for (size_t i = 0; i < PROBES; i += BATCH) {
            operation(rows, i);
        }
        seconds[repeat] = core_seconds() - begin;
    }
    return PROBES / median(seconds);
}

static void verify(const rows_t *rows, operation_t operation, const uint32_t *order) {
    for (size_t i = 0; i < PROBES; i += BATCH) {
        operation(rows, i);
        for (size_t j = 0; j < BATCH; j++) {
            const float *row = rows->values + j * rows->dim;
            check(row[0] == (float)order[i + j] && row[rows->dim - 1] == -(float)order[i + j],
                  "a row is wrong");
        }
    }
}

static void bench_rows(uint32_t table_rows, uint32_t dim) {
    weir_table_t *table = create_table(WEIR_OPTIMIZER_ROWWISE_ADAGRAD, dim);
    uint32_t *order = allocate(PROBES, sizeof *order);
    weir_key_t *keys = allocate(PROBES, sizeof *keys);
    weir_row_handle_t *handles = allocate(PROBES, sizeof *handles);
    float *values = allocate((size_t)BATCH * (dim + 1), sizeof *values);
    rows_t rows = {table, dim, keys, handles, values};
    fill_table(table, table_rows, dim);
    for (uint32_t i = 0; i < PROBES; i++) {
        order[i] = draw_below(i, 1, table_rows);
        keys[i] = key_of(order[i]);
    }
    verify(&rows, pull, order);
    verify(&rows, gather, order);
    size_t value_bytes = dim * sizeof(float), record_bytes = (dim + 1) * sizeof(float);
    double gathers = measure(&rows, gather), pulls = measure(&rows, pull);
    double gather_limit = measure_limit(table_rows, value_bytes, false, order, (char *)values);
    double updates = measure(&rows, update);
    double update_limit = measure_limit(table_rows, record_bytes, true, order, (char *)values);
    weir_table_stats_t stats = weir_table_stats(table);
    (void)printf("{\"bench\": \"table_rows\", \"version\": \"%s\", \"rows\": %u, \"dim\": %u, "
                 "\"gathers_per_second\": %.4g, \"pulls_per_second\": %.4g, "
                 "\"random_rows_per_second\": %.4g, \"gather_fraction\": %.3f, "
                 "\"pull_fraction\": %.3f, \"rowwise_adagrad_updates_per_second\": %.4g, "
                 "\"update_gigabytes_per_second\": %.4g, \"random_updates_per_second\": %.4g, "
                 "\"update_fraction\": %.3f, \"index_bytes_per_row\": %.4g}\n",
                 WEIR_VERSION, table_rows, dim, gathers, pulls, gather_limit,
                 gathers / gather_limit, pulls / gather_limit, updates,
                 1e-9 * updates * (double)(2 * record_bytes + value_bytes), update_limit,
                 updates / update_limit, (double)stats.index_bytes / table_rows);
    weir_table_destroy(table);
    weir_arena_unmap(order, PROBES * sizeof *order);
    weir_arena_unmap(keys, PROBES * sizeof *keys);
    weir_arena_unmap(handles, PROBES * sizeof *handles);
    weir_arena_unmap(values, (size_t)BATCH * (dim + 1) * sizeof *values);
}

/* ---- births ---- */

enum {
    FIRST_STEPS = 50 /* in the first slab, which is committed as rows are born */,
    BIRTH_STEPS = 400
};

/* The median and the longest pull of BATCH new keys, whose memory is made ready between steps if
 * `prepares`; and the longest piece of that. */
static void bear_steps(bool prepares, double seconds[BIRTH_STEPS], double *longest_piece) {
    weir_table_t *table = create_table(WEIR_OPTIMIZER_ADAMW, DIM);
    weir_key_t keys[BATCH];
    weir_row_handle_t handles[BATCH];
    *longest_piece = 0.0;
    for (uint32_t step = 0; step < FIRST_STEPS + BIRTH_STEPS; step++) {
        for (uint32_t i = 0; i < BATCH; i++) {
            keys[i] = key_of(step * BATCH + i);
        }
        double begin = core_seconds();
        check(weir_table_pull(table, keys, BATCH, step + 1, handles, NULL, &error) == WEIR_OK,
              "pull:");
        seconds[step < FIRST_STEPS ? 0 : step - FIRST_STEPS] = core_seconds() - begin;
        check(weir_table_stats(table).rows == (uint64_t)(step + 1) * BATCH, "births are missing");
        check(weir_table_end_step(table, step + 1, step + 2, &error) == WEIR_OK, "end:");
        bool more = prepares;
        while (more) {
            begin = core_seconds();
            more = weir_table_prepare(table);
            double piece = core_seconds() - begin;
            *longest_piece = piece > *longest_piece ? piece : *longest_piece;
        }
    }
    weir_table_destroy(table);
}

static void bench_births(void) {
    double seconds[BIRTH_STEPS], longest_piece;
    for (int prepares = 0; prepares < 2; prepares++) {
        bear_steps(prepares != 0, seconds, &longest_piece);
        qsort(seconds, BIRTH_STEPS, sizeof *seconds, compare_seconds);
        double middle = seconds[BIRTH_STEPS / 2], longest = seconds[BIRTH_STEPS - 1];
        (void)printf(
            "{\"bench\": \"table_births\", \"version\": \"%s\", \"dim\": %d, \"batch\": %d, "
            "\"prepared\": %s, \"median_ms\": %.3f, \"hundredth_ms\": %.3f, "
            "\"longest_ms\": %.3f, \"longest_over_median\": %.2f, "
            "\"longest_piece_ms\": %.3f}\n",
            WEIR_VERSION, DIM, BATCH, prepares != 0 ? "true" : "false", 1e3 * middle,
            1e3 * seconds[BIRTH_STEPS * 99 / 100], 1e3 * longest, longest / middle,
            1e3 * longest_piece);
    }
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
    weir_err_t err = weir_server_create(&options, &mine->table, 1, &server, &failure);
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
        weir_ps_keys_t wanted = {keys, BATCH};
        check(weir_ps_client_pull_begin(client, step, &wanted, &error) == WEIR_OK &&
                  weir_ps_client_pull_finish(client, &values, &error) == WEIR_OK &&
                  weir_ps_client_push(client, (const float *const *)&gradients, &error) == WEIR_OK,
              "step:");
        seconds += step > 20 ? weir_clock_seconds() - begin : 0.0; /* rows and buffers are there */
        check(weir_table_peek(oracle, keys, BATCH, step, expected, &error) == WEIR_OK, "peek:");
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
    weir_table_t *oracle = create_table(WEIR_OPTIMIZER_SGD, DIM);
    check(weir_comm_loop_create(SERVERS + 1, comms, &error) == WEIR_OK, "transport:");
    for (weir_rank_t rank = 0; rank <= SERVERS; rank++) {
        weir_comm_thread_options_t options = {.comm = comms[rank], .control_fd = -1};
        check(weir_comm_thread_start(&options, &threads[rank], &error) == WEIR_OK, "thread:");
    }
    for (uint32_t s = 0; s < SERVERS; s++) {
        servers[s] = (server_t){.thread = threads[s],
                                .index = s,
                                .over = &over,
                                .table = create_table(WEIR_OPTIMIZER_SGD, DIM)};
        check(pthread_create(&applying[s], NULL, run_server, &servers[s]) == 0, "no thread");
    }
    weir_ps_client_options_t options = {.comm_thread = threads[SERVERS],
                                        .ps = SERVERS,
                                        .tables = weir_table_schema(oracle),
                                        .table_count = 1,
                                        .timeout = 60.0};
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
    unsigned long rows = argc > 1 ? strtoul(argv[1], NULL, 10) : 2000000ul;
    if (rows < 10000 || rows > 16000000ul || argc > 2) {
        (void)fprintf(stderr, "usage: bench_table [ROWS], 10000 to 16000000\n");
        return EXIT_FAILURE;
    }
    for (uint32_t dim = 32; dim <= MAX_DIM; dim *= 2) {
        bench_rows((uint32_t)rows, dim);
    }
    bench_births();
    bench_protocol();
    return EXIT_SUCCESS;
}
