/* How many candidates a second does one core score against a history?
 *
 *   bench_candidates WIDTH HEADS LAYERS HISTORY BATCH COUNT...
 *
 * Three ways, of the same result (verified first): a pass of history and candidate for each
 * candidate (`passes`); one pass over the history, whose keys and values are kept, and microbatches
 * of BATCH candidates (`falcon`: M-FALCON, worker/stu_cache.h); and microbatches alone, when the
 * history was there from an earlier request (`again`). One pass is measured, best of several, and
 * counted COUNT times. One JSON line a count; `fraction_of_peak` is
 * of `again`: flops of the products over those of the best large product of the same run. */
#include "bench/measure.h"
#include "common/clock.h"
#include "common/version.h"
#include "worker/stu_cache.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    weir_stu_config_t config;
    size_t history, batch;
    weir_stu_t *stu;
    weir_stu_cache_t *cache;
    weir_real_t *parameters, *sequence, *candidates, *out, *alone;
} bench_t;

static void stop(const char *what) {
    (void)fprintf(stderr, "bench_candidates: %s\n", what);
    exit(EXIT_FAILURE);
}

static size_t number(const char *text) {
    char *end = NULL;
    size_t value = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || value == 0 || value > 1 << 20) {
        stop("usage: bench_candidates WIDTH HEADS LAYERS HISTORY BATCH COUNT...");
    }
    return value;
}

/* x of one candidate, alone behind the history, into `alone`. */
static void pass(bench_t *bench, size_t candidate) {
    size_t dim = bench->config.embedding_dim;
    const size_t offsets[] = {0, bench->history + 1};
    const uint32_t targets[] = {1};
    const weir_stu_batch_t batch = {
        .users = 1, .tokens = bench->history + 1, .offsets = offsets, .targets = targets};
    memcpy(bench->sequence + bench->history * dim, bench->candidates + candidate * dim,
           dim * sizeof *bench->sequence);
    if (weir_stu_forward(bench->stu, bench->parameters, &batch, bench->sequence,
                         (weir_forward_mode_t){0}, bench->alone, NULL) != WEIR_OK) {
        stop("forward failed");
    }
}

static void fill(bench_t *bench) {
    if (weir_stu_cache_fill(bench->cache, bench->parameters, bench->sequence, bench->history,
                            NULL) != WEIR_OK) {
        stop("the cache was not filled");
    }
}

static void score(bench_t *bench, size_t count) {
    size_t dim = bench->config.embedding_dim;
    for (size_t first = 0; first < count; first += bench->batch) {
        size_t some = count - first < bench->batch ? count - first : bench->batch;
        if (weir_stu_cache_score(bench->cache, bench->candidates + first * dim, some,
                                 bench->out + first * dim, NULL) != WEIR_OK) {
            stop("candidates were not scored");
        }
    }
}

static void verify(bench_t *bench, size_t count) {
    size_t dim = bench->config.embedding_dim;
    fill(bench);
    score(bench, count);
    for (size_t c = 0; c < count; c += count / 4 + 1) {
        pass(bench, c);
        for (size_t d = 0; d < dim; d++) {
            double expected = (double)bench->alone[bench->history * dim + d];
            if (!(fabs((double)bench->out[c * dim + d] - expected) <=
                  1e-4 * fmax(1.0, fabs(expected)))) {
                stop("not verified: a microbatch differs from a single pass");
            }
        }
    }
}

/* Products of `tokens` rows through the layers, beside attention. */
static double linear_flops(const weir_stu_config_t *config, double tokens) {
    double dim = (double)config->embedding_dim, heads = (double)config->heads;
    double columns = heads * (2.0 * (double)(config->dqk + config->dv) + 3.0 * (double)config->dv);
    return (double)config->blocks * 2.0 * tokens * dim * columns;
}

static double pair_flops(const weir_stu_config_t *config, double pairs) {
    return (double)config->blocks * 2.0 * pairs *
           (double)(config->heads * (config->dqk + config->dv));
}

static double best_of(bench_t *bench, size_t count, void (*work)(bench_t *, size_t)) {
    double best = HUGE_VAL, began = weir_clock_seconds();
    for (size_t calls = 0; calls < 3 || weir_clock_seconds() - began < 0.5; calls++) {
        double started = weir_clock_seconds();
        work(bench, count);
        best = fmin(best, weir_clock_seconds() - started);
    }
    return best;
}

static void fill_and_score(bench_t *bench, size_t count) {
    fill(bench);
    score(bench, count);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], WEIR_MEASURE_PEAK) == 0) {
        weir_measure_print_peak();
        return EXIT_SUCCESS;
    }
    if (argc < 7) {
        stop("usage: bench_candidates WIDTH HEADS LAYERS HISTORY BATCH COUNT...");
    }
    bench_t bench = {.history = number(argv[4]), .batch = number(argv[5])};
    size_t dim = number(argv[1]), heads = number(argv[2]), most = 0;
    char machine[WEIR_MEASURE_MACHINE];
    bench.config = (weir_stu_config_t){.embedding_dim = dim,
                                       .blocks = number(argv[3]),
                                       .heads = heads,
                                       .dqk = dim / heads,
                                       .dv = dim / heads,
                                       .max_tokens = bench.history + 1};
    for (int i = 6; i < argc; i++) {
        size_t count = number(argv[i]);
        most = count > most ? count : most;
    }
    bench.parameters = weir_measure_numbers(weir_stu_parameter_elements(&bench.config), 0.1, 1);
    bench.sequence = weir_measure_numbers((bench.history + 1) * dim, 1.0, 2);
    bench.candidates = weir_measure_numbers(most * dim, 1.0, 3);
    bench.out = weir_measure_allocate(most * dim, sizeof *bench.out);
    bench.alone = weir_measure_allocate((bench.history + 1) * dim, sizeof *bench.alone);
    if (weir_stu_create(&bench.config, &bench.stu, NULL) != WEIR_OK ||
        weir_stu_cache_create(&bench.config, &bench.cache, NULL) != WEIR_OK) {
        stop("no model of this shape");
    }
    weir_measure_machine(machine);
    verify(&bench, most < 300 ? most : 300);
    double peak = weir_measure_best_peak(argv[0]), n = (double)bench.history;
    double single = best_of(&bench, 0, pass);
    for (int i = 6; i < argc; i++) {
        size_t count = number(argv[i]);
        double m = (double)count;
        double falcon = best_of(&bench, count, fill_and_score);
        double again = best_of(&bench, count, score);
        double work = linear_flops(&bench.config, m) + pair_flops(&bench.config, m * (n + 1.0));
        (void)printf("{\"bench\": \"candidates\", \"width\": %zu, \"heads\": %zu, \"layers\": %zu, "
                     "\"history\": %zu, \"microbatch\": %zu, \"candidates\": %zu, "
                     "\"passes_s\": %.6g, \"falcon_s\": %.6g, \"again_s\": %.6g, "
                     "\"passes_over_falcon\": %.2f, \"falcon_over_again\": %.2f, "
                     "\"candidates_per_s\": %.6g, \"fraction_of_peak\": %.3f, "
                     "\"version\": \"%s\", \"machine\": \"%s\"}\n",
                     dim, heads, bench.config.blocks, bench.history, bench.batch, count, m * single,
                     falcon, again, m * single / falcon, falcon / again, m / falcon,
                     work * 1e-9 / again / peak, WEIR_VERSION, machine);
        (void)fflush(stdout);
    }
    weir_stu_destroy(bench.stu);
    weir_stu_cache_destroy(bench.cache);
    free(bench.parameters);
    free(bench.sequence);
    free(bench.candidates);
    free(bench.out);
    free(bench.alone);
    return EXIT_SUCCESS;
}
