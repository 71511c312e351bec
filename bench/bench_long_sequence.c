/* How much memory do forward and backward of one long history take, against what was planned, and
 * what does it cost in time to plan for less?
 *
 *   bench_long_sequence [TOKENS [BLOCKS [DIM]]]
 *
 * One user of TOKENS events (65,536), one head, dqk = dv = DIM (16). Each plan (all layers kept,
 * about half of them, one) runs in a process of its own, so that the peak is its own. Verified: the
 * gradients of all plans are the same bits. One JSON line a plan; `peak_bytes` is what the process
 * took beyond its inputs and outputs (`input_bytes`), `planned_bytes` the encoder's activations,
 * `attention_bytes` the panels and buckets of attention beside them. */
#include "bench/measure.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/version.h"
#include "worker/hstu.h"
#include "worker/hstu_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    weir_hstu_config_t config;
    weir_sequence_batch_t batch;
    size_t offsets[2];
    int64_t *times, *next_times;
    weir_real_t *parameters, *items, *encoded, *d_encoded, *d_items, *d_parameters;
} bench_t;

typedef struct {
    weir_hstu_activations_t activations;
    size_t before, peak; /* bytes resident */
    double forward, backward;
    uint64_t hash; /* of the gradients */
} outcome_t;

static void stop(const char *what) {
    (void)fprintf(stderr, "bench_long_sequence: %s\n", what);
    exit(EXIT_FAILURE);
}

static void prepare(bench_t *bench, size_t tokens) {
    size_t cells = tokens * bench->config.embedding_dim;
    size_t elements = weir_hstu_parameter_elements(&bench->config);
    bench->offsets[1] = tokens;
    bench->times = weir_measure_allocate(tokens, sizeof(int64_t));
    bench->next_times = weir_measure_allocate(tokens, sizeof(int64_t));
    for (size_t i = 0; i < tokens; i++) {
        bench->times[i] = 1000000000 + (int64_t)(60 * i + i % 7);
        bench->next_times[i] = 1000000000 + (int64_t)(60 * (i + 1) + (i + 1) % 7);
    }
    bench->items = weir_measure_numbers(cells, 0.1, 1);
    bench->d_encoded = weir_measure_numbers(cells, 0.1, 2);
    bench->encoded = weir_measure_numbers(cells, 0.1, 3); /* written, so that it is resident */
    bench->d_items = weir_measure_numbers(cells, 0.1, 4);
    bench->d_parameters = weir_measure_numbers(elements, 0.1, 5);
    bench->parameters = weir_measure_allocate(elements, sizeof(weir_real_t));
    weir_hstu_initialise(&bench->config, 1, bench->parameters);
    bench->batch = (weir_sequence_batch_t){.users = 1,
                                           .tokens = tokens,
                                           .offsets = bench->offsets,
                                           .times = bench->times,
                                           .next_times = bench->next_times};
}

static size_t peak_bytes(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_maxrss * 1024;
}

/* One forward and backward, in a process of its own. */
static outcome_t run(bench_t *bench, size_t tokens, size_t kept) {
    outcome_t outcome = {0};
    weir_hstu_t *hstu = NULL;
    weir_error_t error = {0};
    weir_forward_mode_t mode = {.train = true, .seed = 1, .step = 1};
    prepare(bench, tokens);
    if (weir_hstu_create(&bench->config, &hstu, &error) != WEIR_OK) {
        stop(error.message);
    }
    weir_hstu_limit_activations(hstu, weir_hstu_memory_bytes(&bench->config, tokens, kept));
    outcome.before = peak_bytes();
    double started = weir_clock_seconds();
    if (weir_hstu_forward(hstu, bench->parameters, &bench->batch, bench->items, mode,
                          bench->encoded, &error) != WEIR_OK) {
        stop(error.message);
    }
    outcome.forward = weir_clock_seconds() - started;
    if (weir_hstu_backward(hstu, bench->parameters, bench->d_encoded, bench->d_items,
                           bench->d_parameters, NULL, NULL, &error) != WEIR_OK) {
        stop(error.message);
    }
    outcome.backward = weir_clock_seconds() - started - outcome.forward;
    outcome.peak = peak_bytes();
    outcome.activations = weir_hstu_activations(hstu);
    size_t elements = weir_hstu_parameter_elements(&bench->config);
    outcome.hash = weir_checksum(bench->d_parameters, elements * sizeof(weir_real_t), 0);
    return outcome;
}

static outcome_t run_apart(bench_t *bench, size_t tokens, size_t kept) {
    outcome_t outcome;
    int ends[2], status = 0;
    if (pipe(ends) != 0) {
        stop("no pipe");
    }
    pid_t child = fork();
    if (child < 0) {
        stop("no process");
    }
    if (child == 0) {
        outcome = run(bench, tokens, kept);
        _exit(write(ends[1], &outcome, sizeof outcome) == (ssize_t)sizeof outcome ? 0 : 1);
    }
    (void)close(ends[1]);
    ssize_t got = read(ends[0], &outcome, sizeof outcome);
    (void)close(ends[0]);
    if (waitpid(child, &status, 0) != child || status != 0 || got != (ssize_t)sizeof outcome) {
        stop("a run has failed");
    }
    return outcome;
}

static size_t argument(int argc, char **argv, int index, size_t otherwise) {
    size_t value = argc > index ? strtoul(argv[index], NULL, 10) : otherwise;
    if (value == 0) {
        stop("usage: bench_long_sequence [TOKENS [BLOCKS [DIM]]]");
    }
    return value;
}

static void print(const bench_t *bench, size_t tokens, const outcome_t *outcome,
                  const char *machine) {
    size_t dim = bench->config.embedding_dim;
    size_t attention = outcome->activations.attention_bytes;
    (void)printf("{\"bench\": \"long_sequence\", \"tokens\": %zu, \"blocks\": %zu, \"dim\": %zu, "
                 "\"kept_layers\": %zu, \"planned_bytes\": %zu, \"attention_bytes\": %zu, "
                 "\"peak_bytes\": %zu, \"input_bytes\": %zu, \"score_matrix_bytes\": %.0f, "
                 "\"forward_s\": %.2f, \"backward_s\": %.2f, \"version\": \"%s\", "
                 "\"machine\": \"%s\"}\n",
                 tokens, bench->config.blocks, dim, outcome->activations.kept_layers,
                 outcome->activations.bytes, attention, outcome->peak - outcome->before,
                 outcome->before, 4.0 * (double)tokens * (double)tokens, outcome->forward,
                 outcome->backward, WEIR_VERSION, machine);
    (void)fflush(stdout);
}

int main(int argc, char **argv) {
    char machine[WEIR_MEASURE_MACHINE];
    bench_t bench = {0};
    size_t tokens = argument(argc, argv, 1, 65536), blocks = argument(argc, argv, 2, 2);
    size_t dim = argument(argc, argv, 3, 16);
    bench.config = (weir_hstu_config_t){.embedding_dim = dim,
                                        .blocks = blocks,
                                        .heads = 1,
                                        .dqk = dim,
                                        .dv = dim,
                                        .max_sequence_length = tokens,
                                        .attention_length = tokens,
                                        .input_dropout = 0.1,
                                        .layer_dropout = 0.1,
                                        .position_bias = true,
                                        .time_bias = true};
    weir_measure_machine(machine);
    const size_t plans[] = {blocks, (blocks + 1) / 2, 1};
    uint64_t hash = 0;
    for (size_t i = 0, last = 0; i < sizeof plans / sizeof *plans; i++) {
        if (plans[i] == last) {
            continue;
        }
        outcome_t outcome = run_apart(&bench, tokens, plans[i]);
        if (last != 0 && outcome.hash != hash) {
            stop("the gradients of two plans differ");
        }
        hash = outcome.hash;
        last = plans[i];
        print(&bench, tokens, &outcome, machine);
    }
    return EXIT_SUCCESS;
}
