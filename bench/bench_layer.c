/* How long do forward and backward of one HSTU layer take, as the history grows?
 *
 *   bench_layer WIDTH HEADS LENGTH...
 *
 * One user, float32 and bfloat16 (where the processor multiplies it), dropout 0.1, both biases; dqk
 * = dv = WIDTH / HEADS. The encoder around the layer (position embedding, norm of the output) is in
 * the figures. Verified first, at 256 events, against the naive kernels in float32. One JSON line a
 * length: the best of at least three calls, and the rate as a fraction of the best large product of
 * the same run, counting the products alone: with L events, forward L (8 WIDTH^2 + 2 WIDTH^2) + 2
 * L^2 WIDTH, backward twice the first and 2.5 times the second. */
#include "bench/measure.h"
#include "common/clock.h"
#include "common/version.h"
#include "worker/bf16.h"
#include "worker/hstu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERIFIED = 256 };

typedef struct {
    weir_hstu_config_t config;
    weir_sequence_batch_t batch;
    size_t offsets[2];
    int64_t *times, *next_times;
    weir_real_t *parameters, *items, *encoded, *d_encoded, *d_items, *d_parameters;
} bench_t;

static void stop(const char *what) {
    (void)fprintf(stderr, "bench_layer: %s\n", what);
    exit(EXIT_FAILURE);
}

static void prepare(bench_t *bench, size_t width, size_t heads, size_t tokens, bool bf16) {
    bench->config = (weir_hstu_config_t){.embedding_dim = width,
                                         .blocks = 1,
                                         .heads = heads,
                                         .dqk = width / heads,
                                         .dv = width / heads,
                                         .max_sequence_length = tokens,
                                         .attention_length = tokens,
                                         .input_dropout = 0.1,
                                         .layer_dropout = 0.1,
                                         .position_bias = true,
                                         .time_bias = true,
                                         .bf16 = bf16};
    size_t cells = tokens * width, elements = weir_hstu_parameter_elements(&bench->config);
    bench->offsets[1] = tokens;
    bench->times = weir_measure_allocate(tokens, sizeof(int64_t));
    bench->next_times = weir_measure_allocate(tokens, sizeof(int64_t));
    for (size_t i = 0; i < tokens; i++) {
        bench->times[i] = 1000000000 + (int64_t)(60 * i + i % 7);
        bench->next_times[i] = 1000000000 + (int64_t)(60 * (i + 1) + (i + 1) % 7);
    }
    bench->items = weir_measure_numbers(cells, 0.1, 1);
    bench->d_encoded = weir_measure_numbers(cells, 0.1, 2);
    bench->encoded = weir_measure_allocate(cells, sizeof(weir_real_t));
    bench->d_items = weir_measure_allocate(cells, sizeof(weir_real_t));
    bench->d_parameters = weir_measure_allocate(elements, sizeof(weir_real_t));
    bench->parameters = weir_measure_allocate(elements, sizeof(weir_real_t));
    weir_hstu_initialise(&bench->config, 1, bench->parameters);
    bench->batch = (weir_sequence_batch_t){.users = 1,
                                           .tokens = tokens,
                                           .offsets = bench->offsets,
                                           .times = bench->times,
                                           .next_times = bench->next_times};
}

static void release(bench_t *bench) {
    free(bench->times);
    free(bench->next_times);
    free(bench->items);
    free(bench->d_encoded);
    free(bench->encoded);
    free(bench->d_items);
    free(bench->d_parameters);
    free(bench->parameters);
}

static weir_hstu_t *create(const bench_t *bench) {
    weir_hstu_t *hstu = NULL;
    weir_error_t error = {0};
    if (weir_hstu_create(&bench->config, &hstu, &error) != WEIR_OK) {
        stop(error.message);
    }
    return hstu;
}

/* One call of both; seconds of each. */
static void step(bench_t *bench, weir_hstu_t *hstu, double *forward, double *backward) {
    weir_error_t error = {0};
    weir_forward_mode_t mode = {.train = true, .seed = 1, .step = 1};
    double started = weir_clock_seconds();
    if (weir_hstu_forward(hstu, bench->parameters, &bench->batch, bench->items, mode,
                          bench->encoded, &error) != WEIR_OK) {
        stop(error.message);
    }
    *forward = weir_clock_seconds() - started;
    if (weir_hstu_backward(hstu, bench->parameters, bench->d_encoded, bench->d_items,
                           bench->d_parameters, NULL, NULL, &error) != WEIR_OK) {
        stop(error.message);
    }
    *backward = weir_clock_seconds() - started - *forward;
}

static double distance(const weir_real_t *a, const weir_real_t *b, size_t count) {
    double worst = 0.0, largest = 0.0;
    for (size_t i = 0; i < count; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

/* The kernels chosen for this machine against the naive ones. */
static void verify(size_t width, size_t heads, bool bf16) {
    bench_t fast = {0}, naive = {0};
    double ignored, allowed = bf16 ? 16 * WEIR_BF16_UNIT : 1e-3; /* tests/golden/golden_run.c */
    const char *wished = getenv("WEIR_KERNELS");
    char kept[64] = "";
    (void)snprintf(kept, sizeof kept, "%s", wished != NULL ? wished : "");
    prepare(&fast, width, heads, VERIFIED, bf16);
    prepare(&naive, width, heads, VERIFIED, false);
    weir_hstu_t *fast_hstu = create(&fast);
    (void)setenv("WEIR_KERNELS", "naive", 1);
    weir_hstu_t *naive_hstu = create(&naive);
    if (kept[0] != '\0') {
        (void)setenv("WEIR_KERNELS", kept, 1);
    } else {
        (void)unsetenv("WEIR_KERNELS");
    }
    step(&fast, fast_hstu, &ignored, &ignored);
    step(&naive, naive_hstu, &ignored, &ignored);
    size_t elements = weir_hstu_parameter_elements(&fast.config), cells = VERIFIED * width;
    if (!(distance(fast.encoded, naive.encoded, cells) < allowed) ||
        !(distance(fast.d_items, naive.d_items, cells) < allowed) ||
        !(distance(fast.d_parameters, naive.d_parameters, elements) < allowed)) {
        stop("not verified: the kernels differ from the naive ones");
    }
    weir_hstu_destroy(fast_hstu);
    weir_hstu_destroy(naive_hstu);
    release(&fast);
    release(&naive);
}

static void measure(size_t width, size_t heads, size_t tokens, bool bf16, double peak) {
    bench_t bench = {0};
    char machine[WEIR_MEASURE_MACHINE];
    double forward = 1e30, backward = 1e30, began = weir_clock_seconds();
    prepare(&bench, width, heads, tokens, bf16);
    weir_hstu_t *hstu = create(&bench);
    for (int call = 0; call < 4 || weir_clock_seconds() - began < 2.0; call++) {
        double one, other;
        step(&bench, hstu, &one, &other);
        if (call > 0) { /* the first touches memory */
            forward = fmin(forward, one);
            backward = fmin(backward, other);
        }
    }
    double length = (double)tokens, wide = (double)width;
    double linear = 10.0 * length * wide * wide, square = 2.0 * length * length * wide;
    weir_measure_machine(machine);
    (void)printf("{\"bench\": \"layer\", \"side\": \"weir\", \"compute\": \"%s\", \"width\": %zu, "
                 "\"heads\": %zu, "
                 "\"tokens\": %zu, \"forward_s\": %.5f, \"backward_s\": %.5f, "
                 "\"forward_fraction\": %.3f, \"backward_fraction\": %.3f, \"peak_gflops\": %.1f, "
                 "\"version\": \"%s\", \"machine\": \"%s\"}\n",
                 bf16 ? "bf16" : "float32", width, heads, tokens, forward, backward,
                 (linear + square) * 1e-9 / forward / peak,
                 (2.0 * linear + 2.5 * square) * 1e-9 / backward / peak, peak, WEIR_VERSION,
                 machine);
    (void)fflush(stdout);
    weir_hstu_destroy(hstu);
    release(&bench);
}

static size_t number(const char *text) {
    char *end = NULL;
    size_t value = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || value == 0 || value > 1 << 20) {
        stop("usage: bench_layer WIDTH HEADS LENGTH...");
    }
    return value;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        stop("usage: bench_layer WIDTH HEADS LENGTH...");
    }
    size_t width = number(argv[1]), heads = number(argv[2]);
    if (width % heads != 0) {
        stop("WIDTH must be a multiple of HEADS");
    }
    double bf16_peak = weir_measure_bf16_peak();
    verify(width, heads, false);
    if (bf16_peak > 0.0) {
        verify(width, heads, true);
    }
    double peak = weir_measure_gemm_peak();
    for (int i = 3; i < argc; i++) {
        measure(width, heads, number(argv[i]), false, peak);
        if (bf16_peak > 0.0) {
            measure(width, heads, number(argv[i]), true, bf16_peak);
        }
    }
    return EXIT_SUCCESS;
}
