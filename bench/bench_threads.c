/* How much faster is a worker's step with several threads than with one?
 *
 *   bench_threads [THREADS]
 *
 * Forward, per-token loss and backward of one batch, float32, with one thread and with THREADS (2)
 * in turn; verified: the same bits. Three shapes: ML-1M's HSTU and HSTU-large with 64 users of 20
 * to 200 events, and one user of 8,192 events, D = 512, 8 heads. One JSON line a shape: the best
 * seconds of each, and `scaling`, the speed-up divided by the number of threads (1: perfect; only
 * on processors that nobody else uses). */
#include "bench/measure.h"
#include "common/clock.h"
#include "common/version.h"
#include "worker/hstu.h"
#include "worker/loss.h"
#include "worker/parallel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_USERS = 64, ITEMS = 3883 };

typedef struct {
    const char *name;
    weir_hstu_config_t config;
    size_t users, negatives;
} shape_t;

typedef struct {
    const shape_t *shape;
    weir_sequence_batch_t batch;
    weir_loss_batch_t loss_batch;
    size_t offsets[MOST_USERS + 1];
    weir_real_t *parameters, *items, *table;
    weir_real_t *encoded, *d_encoded, *d_items, *d_parameters, *d_table;
} bench_t;

static void stop(const char *what) {
    (void)fprintf(stderr, "bench_threads: %s\n", what);
    exit(EXIT_FAILURE);
}

static void prepare(bench_t *bench, const shape_t *shape) {
    size_t dim = shape->config.embedding_dim;
    *bench = (bench_t){.shape = shape};
    for (size_t u = 0; u < shape->users; u++) {
        size_t longest = shape->config.max_sequence_length;
        size_t length = shape->users == 1 ? longest : 20 + u * u * 53 % (longest - 19);
        bench->offsets[u + 1] = bench->offsets[u] + length;
    }
    size_t tokens = bench->offsets[shape->users], cells = tokens * dim;
    size_t elements = weir_hstu_parameter_elements(&shape->config), real = sizeof(weir_real_t);
    int64_t *times = weir_measure_allocate(tokens, sizeof *times);
    int64_t *next_times = weir_measure_allocate(tokens, sizeof *next_times);
    uint32_t *targets = weir_measure_allocate(tokens, sizeof *targets);
    uint32_t *negatives = weir_measure_allocate(tokens * shape->negatives, sizeof *negatives);
    for (size_t t = 0; t < tokens; t++) {
        times[t] = 950000000 + (int64_t)(60 * t + t % 7);
        next_times[t] = 950000000 + (int64_t)(60 * (t + 1) + (t + 1) % 7);
        targets[t] = (uint32_t)(t * 7919 % ITEMS);
    }
    for (size_t i = 0; i < tokens * shape->negatives; i++) {
        negatives[i] = (uint32_t)((i * 2654435761u >> 7) % ITEMS);
    }
    bench->batch = (weir_sequence_batch_t){.users = shape->users,
                                           .tokens = tokens,
                                           .offsets = bench->offsets,
                                           .times = times,
                                           .next_times = next_times};
    bench->loss_batch = (weir_loss_batch_t){.tokens = tokens,
                                            .rows = ITEMS,
                                            .dim = dim,
                                            .negatives = shape->negatives,
                                            .targets = targets,
                                            .negative_rows = negatives,
                                            .temperature = 0.05,
                                            .scale = 1.0 / (double)tokens};
    bench->parameters = weir_measure_allocate(elements, real);
    weir_hstu_initialise(&shape->config, 1, bench->parameters);
    bench->items = weir_measure_numbers(cells, 0.1, 1);
    bench->table = weir_measure_numbers(ITEMS * dim, 0.1, 2);
    bench->encoded = weir_measure_allocate(cells, real);
    bench->d_encoded = weir_measure_allocate(cells, real);
    bench->d_items = weir_measure_allocate(cells, real);
    bench->d_parameters = weir_measure_allocate(elements, real);
    bench->d_table = weir_measure_allocate(ITEMS * dim, real);
}

/* Seconds of one step. */
static double step(bench_t *bench, weir_hstu_t *hstu, weir_loss_t *loss) {
    weir_error_t error = {0};
    weir_forward_mode_t mode = {.train = true, .seed = 1, .step = 1};
    double started = weir_clock_seconds(), value;
    if (weir_hstu_forward(hstu, bench->parameters, &bench->batch, bench->items, mode,
                          bench->encoded, &error) != WEIR_OK ||
        weir_loss_per_token(loss, &bench->loss_batch, bench->encoded, bench->table, &value,
                            bench->d_encoded, bench->d_table, &error) != WEIR_OK ||
        weir_hstu_backward(hstu, bench->parameters, bench->d_encoded, bench->d_items,
                           bench->d_parameters, NULL, NULL, &error) != WEIR_OK) {
        stop(error.message);
    }
    return weir_clock_seconds() - started;
}

static void measure(const shape_t *shape, uint32_t threads) {
    static bench_t benches[2]; /* one thread, several */
    const uint32_t counts[2] = {1, threads};
    weir_hstu_t *hstu[2];
    weir_loss_t *loss[2];
    char machine[WEIR_MEASURE_MACHINE];
    double best[2] = {1e30, 1e30}, began = weir_clock_seconds();
    size_t elements = weir_hstu_parameter_elements(&shape->config), real = sizeof(weir_real_t);
    for (int i = 0; i < 2; i++) {
        prepare(&benches[i], shape);
        if (weir_hstu_create(&shape->config, &hstu[i], NULL) != WEIR_OK ||
            weir_loss_create(&loss[i], NULL) != WEIR_OK) {
            stop("no encoder");
        }
    }
    for (int round = 0; round < 4 || weir_clock_seconds() - began < 6.0; round++) {
        for (int i = 0; i < 2; i++) {
            weir_parallel_set_threads(counts[i]);
            double seconds = step(&benches[i], hstu[i], loss[i]);
            best[i] = round > 0 ? fmin(best[i], seconds) : best[i]; /* the first touches memory */
        }
    }
    if (memcmp(benches[0].d_parameters, benches[1].d_parameters, elements * real) != 0 ||
        memcmp(benches[0].d_table, benches[1].d_table,
               ITEMS * shape->config.embedding_dim * real) != 0) {
        stop("not verified: several threads give another result");
    }
    weir_measure_machine(machine);
    (void)printf("{\"bench\": \"threads\", \"shape\": \"%s\", \"tokens\": %zu, \"threads\": %u, "
                 "\"one_s\": %.5f, \"threads_s\": %.5f, \"scaling\": %.3f, "
                 "\"tokens_per_second\": %.0f, \"version\": \"%s\", \"machine\": \"%s\"}\n",
                 shape->name, benches[0].batch.tokens, threads, best[0], best[1],
                 best[0] / best[1] / threads, (double)benches[0].batch.tokens / best[1],
                 WEIR_VERSION, machine);
    (void)fflush(stdout);
    for (int i = 0; i < 2; i++) {
        weir_hstu_destroy(hstu[i]);
        weir_loss_destroy(loss[i]);
    }
}

static weir_hstu_config_t config_of(size_t dim, size_t blocks, size_t heads, size_t head_dim,
                                    size_t longest) {
    return (weir_hstu_config_t){.embedding_dim = dim,
                                .blocks = blocks,
                                .heads = heads,
                                .dqk = head_dim,
                                .dv = head_dim,
                                .max_sequence_length = longest,
                                .attention_length = longest + 11,
                                .input_dropout = 0.2,
                                .layer_dropout = 0.2,
                                .position_bias = true,
                                .time_bias = true};
}

int main(int argc, char **argv) {
    uint32_t threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 2;
    if (argc > 2 || threads < 2 || threads > 1024) {
        stop("usage: bench_threads [THREADS]");
    }
    const shape_t shapes[] = {
        {"ml-1m hstu", config_of(50, 2, 1, 50, 200), MOST_USERS, 128},
        {"ml-1m hstu-large", config_of(50, 8, 2, 25, 200), MOST_USERS, 128},
        {"one user of 8,192", config_of(512, 1, 8, 64, 8192), 1, 16},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        measure(&shapes[i], threads);
    }
    return EXIT_SUCCESS;
}
