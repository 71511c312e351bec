/* How many rows a second do workers pull from servers and push back, over MPI, end to end?
 *
 *     mpirun -n S+W bench_pull_push S [quick]     S servers, the other ranks are workers
 *
 * A server is weir_server over a weir_table of row-wise Adagrad behind a comm thread; a worker is
 * weir_ps_client: everything of a training job but the model. Verified first: every row that the
 * steps over two tables pull is held against plain loops in float64. Then timed: steps of pull and
 * push of distinct keys, of 1,000,000 rows that the servers hold, uniform or drawn by a Zipf law
 * and then made distinct; median of the rounds. One JSON line each; a row counts once for its pull
 * and its push.
 *
 * Limits measured in the same run: `mpi_rows_per_second`, the same bytes by MPI alone in the same
 * order, and `table_rows_per_second`, pull and update of the same keys by the servers' tables in
 * place. One after the other they give `predicted`; a step that overlaps them can be faster. */
#include "bench/measure.h"
#include "bench/pull_push.h"
#include "common/clock.h"
#include "common/version.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 7, WARM = 2, BATCHES = 32, ROWS = 1000000, QUICK_ROWS = 200000, MAX_RANKS = 64 };

/* Rows of one round and one worker, about. */
#define ROUND_ROWS 400000.0

typedef struct {
    weir_pull_push_t job;
    char machine[WEIR_MEASURE_MACHINE];
    uint32_t rows;
    uint32_t dim;
    weir_row_schema_t schema;
    weir_table_t *table; /* of a server: its slots' rows */
    uint64_t step;       /* applied to the table, on all ranks the same */
    weir_error_t error;
} bench_t;

/* One question. */
typedef struct {
    size_t draws;
    bool zipf;
    uint32_t ahead;
    weir_pull_push_keys_t keys; /* a worker's own; on servers those of the first worker */
    size_t round_steps;
    double mean_rows; /* distinct ones in a batch of the first worker */
} question_t;

static void check(const bench_t *bench, bool good, const char *what) {
    weir_pull_push_check(good, what, &bench->error);
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *samples) {
    qsort(samples, ROUNDS, sizeof *samples, compare);
    return samples[ROUNDS / 2];
}

static bool is_server(const bench_t *bench) {
    return bench->job.comm->rank < bench->job.servers;
}

static uint32_t server_of(const bench_t *bench, weir_key_t key) {
    return weir_slot_owner(weir_slot_of_hash(weir_hash64(key)), bench->job.servers);
}

static size_t batch_at(size_t step) {
    return step % BATCHES;
}

/* ---- the table ---- */

static void create_table(bench_t *bench, uint32_t dim) {
    bench->dim = dim;
    bench->schema = weir_pull_push_schema(0, dim, WEIR_OPTIMIZER_ROWWISE_ADAGRAD);
    bench->step = 1;
    if (!is_server(bench)) {
        return;
    }
    bench->table = weir_pull_push_table(&bench->job, &bench->schema);
    float *record = weir_measure_allocate(weir_table_layout(bench->table)->record_bytes, 1);
    for (uint32_t row = 0; row < bench->rows; row++) {
        weir_table_row_t saved = {.key = weir_pull_push_key(row),
                                  .value = record,
                                  .rest = record + dim,
                                  .last_step = 1,
                                  .count = 1};
        record[0] = (float)row;
        if (server_of(bench, saved.key) == bench->job.comm->rank) {
            check(bench, weir_table_restore(bench->table, &saved, &bench->error) == WEIR_OK,
                  "restore:");
        }
    }
    check(bench, weir_table_end_restore(bench->table, &bench->error) == WEIR_OK, "restore:");
    free(record);
}

static void destroy_table(bench_t *bench) {
    weir_table_destroy(bench->table);
    bench->table = NULL;
}

/* ---- limits ---- */

/* The keys of a worker's batch that this server owns. */
static size_t choose_keys(const bench_t *bench, const weir_pull_push_keys_t *keys, size_t batch,
                          weir_key_t *chosen) {
    size_t count = 0;
    for (size_t i = 0; i < keys->counts[batch]; i++) {
        weir_key_t key = keys->keys[batch * keys->draws + i];
        chosen[count] = key;
        count += server_of(bench, key) == bench->job.comm->rank;
    }
    return count;
}

/* Rows a second that this server pulls and updates in place. */
static double measure_table(bench_t *bench, const question_t *question) {
    weir_key_t *keys = weir_measure_allocate(question->draws + 1, sizeof *keys);
    weir_row_handle_t *handles = weir_measure_allocate(question->draws, sizeof *handles);
    float *values = weir_measure_allocate(question->draws * bench->dim, sizeof *values);
    float *gradients = weir_measure_allocate(question->draws * bench->dim, sizeof *gradients);
    double samples[ROUNDS] = {0};
    uint64_t step = bench->step;
    for (int round = -1; round < ROUNDS; round++) {
        double seconds = 0.0;
        size_t rows = 0;
        for (size_t i = 0; i < BATCHES; i++) {
            size_t count = choose_keys(bench, &question->keys, i, keys);
            double begin = weir_clock_seconds();
            step++;
            check(bench,
                  weir_table_pull(bench->table, keys, count, step, handles, values,
                                  &bench->error) == WEIR_OK,
                  "pull:");
            (void)weir_table_apply(bench->table, keys, handles, gradients, count, step);
            check(bench,
                  weir_table_end_step(bench->table, step, step + 1, &bench->error) == WEIR_OK,
                  "end of step:");
            seconds += weir_clock_seconds() - begin;
            rows += count;
        }
        samples[round < 0 ? 0 : round] = (double)rows / seconds;
    }
    free(keys);
    free(handles);
    free(values);
    free(gradients);
    return median(samples);
}

/* A step's bytes by MPI alone. `buffer` holds the rows of all peers. */
static void exchange_bytes(const bench_t *bench, size_t rows, char *buffer) {
    MPI_Request requests[MAX_RANKS];
    MPI_Status statuses[MAX_RANKS];
    bool server = is_server(bench);
    int first = server ? (int)bench->job.servers : 0;
    int peers = (int)(server ? bench->job.workers : bench->job.servers);
    size_t sizes[3] = {rows * sizeof(weir_key_t), rows * bench->dim * sizeof(float),
                       rows * bench->dim * sizeof(float)};
    for (int part = 0; part < 3; part++) {
        bool sends = server == (part == 1); /* keys, then rows back, then gradients */
        for (int p = 0; p < peers; p++) {
            char *place = buffer + (size_t)p * sizes[1];
            if (sends) {
                (void)MPI_Isend(place, (int)sizes[part], MPI_BYTE, first + p, part, MPI_COMM_WORLD,
                                &requests[p]);
            } else {
                (void)MPI_Irecv(place, (int)sizes[part], MPI_BYTE, first + p, part, MPI_COMM_WORLD,
                                &requests[p]);
            }
        }
        (void)MPI_Waitall(peers, requests, statuses);
    }
}

/* Rows a second of all workers. */
static double measure_mpi(const bench_t *bench, const question_t *question) {
    size_t rows = (size_t)question->mean_rows / bench->job.servers;
    uint32_t peers = is_server(bench) ? bench->job.workers : bench->job.servers;
    size_t widest = bench->dim * sizeof(float) > 8 ? bench->dim * sizeof(float) : 8;
    char *buffer = weir_measure_allocate(rows * widest, peers);
    double samples[ROUNDS] = {0};
    for (int round = -1; round < ROUNDS; round++) {
        (void)MPI_Barrier(MPI_COMM_WORLD);
        double begin = weir_clock_seconds();
        for (size_t step = 0; step < question->round_steps; step++) {
            exchange_bytes(bench, rows, buffer);
        }
        samples[round < 0 ? 0 : round] =
            (double)(rows * bench->job.servers * bench->job.workers * question->round_steps) /
            (weir_clock_seconds() - begin);
    }
    free(buffer);
    return median(samples);
}

/* ---- client and servers ---- */

/* What one worker saw, or one server. */
typedef struct {
    double rates[ROUNDS];   /* worker: rows a second, by round */
    double wall, processor; /* of all rounds */
} outcome_t;

static void begin_pull(bench_t *bench, const question_t *question, weir_ps_client_t *client,
                       size_t step) {
    const weir_pull_push_keys_t *keys = &question->keys;
    weir_ps_keys_t wanted = {keys->keys + batch_at(step) * keys->draws,
                             keys->counts[batch_at(step)]};
    check(bench,
          weir_ps_client_pull_begin(client, bench->step + step + 1, &wanted, &bench->error) ==
              WEIR_OK,
          "pull:");
}

/* Finish the pull of a step, look whose rows came, push. */
static void end_step(bench_t *bench, const question_t *question, weir_ps_client_t *client,
                     size_t step, float *values, const float *gradients) {
    const weir_key_t *keys = question->keys.keys + batch_at(step) * question->keys.draws;
    size_t last = question->keys.counts[batch_at(step)] - 1;
    check(bench, weir_ps_client_pull_finish(client, &values, &bench->error) == WEIR_OK, "pull:");
    check(bench,
          weir_pull_push_key((uint32_t)values[0]) == keys[0] &&
              weir_pull_push_key((uint32_t)values[last * bench->dim]) == keys[last],
          "a row is another's");
    check(bench, weir_ps_client_push(client, &gradients, &bench->error) == WEIR_OK, "push:");
}

static outcome_t time_worker(bench_t *bench, const question_t *question) {
    weir_pull_push_worker_t worker =
        weir_pull_push_begin(&bench->job, &bench->schema, 1, question->ahead);
    float *values = weir_measure_allocate(question->draws * bench->dim, sizeof *values);
    float *gradients = weir_measure_allocate(question->draws * bench->dim, sizeof *gradients);
    for (size_t i = 0; i < question->draws * bench->dim; i++) {
        /* None for the first column, which says which row it is. */
        gradients[i] = i % bench->dim == 0 ? 0.0f : 1e-3f * (float)(i % 7);
    }
    outcome_t outcome = {.wall = 0.0};
    size_t steps = (WARM + ROUNDS) * question->round_steps, begun = 0, step = 0;
    for (int round = -WARM; round < ROUNDS; round++) {
        double begin = weir_clock_seconds(), processor = weir_pull_push_processor_seconds();
        size_t rows = 0;
        for (size_t end = step + question->round_steps; step < end; step++) {
            for (; begun < steps && begun <= step + question->ahead; begun++) {
                begin_pull(bench, question, worker.client, begun);
            }
            end_step(bench, question, worker.client, step, values, gradients);
            rows += question->keys.counts[batch_at(step)];
        }
        if (round >= 0) {
            double wall = weir_clock_seconds() - begin;
            outcome.rates[round] = (double)rows / wall;
            outcome.wall += wall;
            outcome.processor += weir_pull_push_processor_seconds() - processor;
        }
    }
    weir_pull_push_end(&bench->job, &worker);
    free(values);
    free(gradients);
    return outcome;
}

static outcome_t time_server(bench_t *bench, const question_t *question) {
    uint64_t from = bench->step + WARM * question->round_steps;
    weir_pull_push_cost_t cost = weir_pull_push_serve(&bench->job, &bench->table, 1, bench->step,
                                                      from, from + ROUNDS * question->round_steps);
    return (outcome_t){.wall = cost.wall, .processor = cost.processor};
}

/* ---- report ---- */

static void report(const bench_t *bench, const question_t *question, const outcome_t *outcomes,
                   double mpi, double table) {
    double rates[ROUNDS] = {0}, cores[2] = {0}, best = 0.0; /* of servers, of workers */
    uint32_t ranks = bench->job.servers + bench->job.workers;
    for (uint32_t rank = 0; rank < ranks; rank++) {
        cores[rank >= bench->job.servers] += outcomes[rank].processor / outcomes[rank].wall;
        for (int round = 0; round < ROUNDS; round++) {
            rates[round] += outcomes[rank].rates[round];
        }
    }
    double rate = median(rates), predicted = 1.0 / (1.0 / mpi + 1.0 / table);
    best = rates[ROUNDS - 1];
    (void)printf("{\"bench\": \"pull_push\", \"version\": \"%s\", \"machine\": \"%s\", "
                 "\"transport\": \"mpi\", \"servers\": %u, \"workers\": %u, \"dim\": %u, "
                 "\"keys\": \"%s\", \"draws\": %zu, \"rows\": %.0f, \"ahead\": %u, "
                 "\"rows_per_second\": %.4g, \"best\": %.4g, \"server_cores\": %.2f, "
                 "\"worker_cores\": %.2f, \"rows_per_core_second\": %.4g, "
                 "\"mpi_rows_per_second\": %.4g, \"table_rows_per_second\": %.4g, "
                 "\"predicted\": %.4g, \"of_predicted\": %.3f}\n",
                 WEIR_VERSION, bench->machine, bench->job.servers, bench->job.workers, bench->dim,
                 question->zipf ? "zipf" : "uniform", question->draws, question->mean_rows,
                 question->ahead, rate, best, cores[0], cores[1], rate / (cores[0] + cores[1]), mpi,
                 table, predicted, rate / predicted);
    (void)fflush(stdout);
}

static void ask(bench_t *bench, question_t *question) {
    outcome_t outcomes[MAX_RANKS];
    size_t rows = 0;
    uint32_t stream = is_server(bench) ? 0 : bench->job.comm->rank - bench->job.servers;
    question->keys =
        weir_pull_push_draw(BATCHES, question->draws, bench->rows, question->zipf, stream);
    for (size_t i = 0; i < BATCHES; i++) {
        rows += question->keys.counts[i];
    }
    question->mean_rows = (double)rows / BATCHES;
    (void)MPI_Bcast(&question->mean_rows, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    question->round_steps = 8 + (size_t)(ROUND_ROWS / question->mean_rows);
    double table = is_server(bench) ? measure_table(bench, question) : 0.0;
    (void)MPI_Allreduce(MPI_IN_PLACE, &table, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    bench->step += (ROUNDS + 1) * BATCHES;
    double mpi = measure_mpi(bench, question);
    outcome_t mine = is_server(bench) ? time_server(bench, question) : time_worker(bench, question);
    bench->step += (WARM + ROUNDS) * question->round_steps;
    (void)MPI_Gather(&mine, sizeof mine, MPI_BYTE, outcomes, sizeof mine, MPI_BYTE, 0,
                     MPI_COMM_WORLD);
    if (bench->job.comm->rank == 0) {
        report(bench, question, outcomes, mpi, table);
    }
    weir_pull_push_drop(&question->keys);
}

static void verify(const bench_t *bench, uint32_t dim, size_t keys) {
    for (uint32_t ahead = 0; ahead < 2; ahead++) {
        size_t rows = weir_pull_push_verify(&bench->job, dim, keys, ahead);
        if (bench->job.comm->rank == 0) {
            (void)printf("{\"bench\": \"pull_push\", \"what\": \"verified\", \"dim\": %u, "
                         "\"ahead\": %u, \"rows\": %zu}\n",
                         dim, ahead, rows);
            (void)fflush(stdout);
        }
    }
}

static void run(bench_t *bench, bool quick) {
    static const uint32_t dims[] = {64, 32, 128};
    static const size_t draws[] = {4096, 32768};
    for (size_t d = 0; d < (quick ? 1 : 3); d++) {
        verify(bench, dims[d], 4096);
        create_table(bench, dims[d]);
        for (size_t i = 0; i < (quick ? 1 : 2); i++) {
            for (uint32_t j = 0; j < 4; j++) {
                question_t question = {.draws = draws[i], .zipf = j >= 2, .ahead = j % 2};
                ask(bench, &question);
            }
        }
        destroy_table(bench);
    }
}

int main(int argc, char **argv) {
    bench_t bench = {.rows = ROWS};
    weir_error_t error = {0};
    if (weir_comm_mpi_init(&argc, &argv, &bench.job.comm, &error) != WEIR_OK) {
        (void)fprintf(stderr, "bench_pull_push: %s\n", error.message);
        return EXIT_FAILURE;
    }
    bool quick = argc == 3 && strcmp(argv[2], "quick") == 0;
    unsigned long servers = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    weir_rank_t size = bench.job.comm->size;
    weir_pull_push_check((argc == 2 || quick) && servers >= 1 && servers < size &&
                             size <= MAX_RANKS,
                         "usage: mpirun -n S+W bench_pull_push S [quick]", NULL);
    bench.job.comm->job = 1;
    bench.job.servers = (uint32_t)servers;
    bench.job.workers = size - (uint32_t)servers;
    bench.rows = quick ? QUICK_ROWS : ROWS;
    weir_measure_machine(bench.machine);
    run(&bench, quick);
    weir_comm_mpi_finalize(bench.job.comm);
    weir_buffer_trim();
    return EXIT_SUCCESS;
}
