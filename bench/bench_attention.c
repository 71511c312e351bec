/* How fast is HSTU attention, forward and backward, against the best matrix product of this
 * machine, whichever of OpenBLAS's sets of kernels gives it? In bfloat16, against our own best.
 *
 *   bench_attention [SECONDS [CASE]]    about how long to measure each direction of each case (all,
 * or the one of this number, from 0)
 *
 * Every case is first verified against the naive attention (long users: the first 300 tokens of
 * them). One JSON line a case. GFLOP/s count what the formulas need: pairs j <= i, 2 (dqk + dv)
 * each forward, 2 (3 dqk + 2 dv) each backward. WEIR_KERNELS chooses the level. */
#include "bench/measure.h"
#include "common/rng.h"
#include "common/version.h"
#include "worker/attention.h"
#include "worker/bf16.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    size_t users, length; /* length 0: lengths like ML-1M's, mean 110, at most 200 */
    size_t heads, dqk, dv;
    bool biases;
} case_t;

static const case_t cases[] = {
    {"ml-1m hstu", 64, 0, 1, 50, 50, true},
    {"ml-1m hstu-large", 64, 0, 2, 25, 25, true},
    {"ml-1m hstu, no bias", 64, 0, 1, 50, 50, false},
    {"ml-1m hstu, full", 32, 200, 1, 50, 50, true},
    {"1,024 x 8 x 64", 1, 1024, 8, 64, 64, true},
    {"2,048 x 8 x 64", 1, 2048, 8, 64, 64, true},
    {"4,096 x 8 x 64", 1, 4096, 8, 64, 64, true},
    {"8,192 x 8 x 64", 1, 8192, 8, 64, 64, true},
    {"1,024 x 4 x 128", 1, 1024, 4, 128, 128, true},
    {"2,048 x 4 x 128", 1, 2048, 4, 128, 128, true},
    {"4,096 x 4 x 128", 1, 4096, 4, 128, 128, true},
    {"8,192 x 4 x 128", 1, 8192, 4, 128, 128, true},
};

typedef struct {
    weir_attention_config_t config;
    weir_sequence_batch_t batch;
    size_t *offsets;
    int64_t *times, *next_times;
    weir_real_t *z, *y, *d_y, *d_z, *position, *time, *d_position, *d_time;
    weir_attention_t *attention;
    weir_attention_input_t input;
    weir_attention_gradient_t gradient;
} problem_t;

static void stop(const weir_error_t *error) {
    (void)fprintf(stderr, "bench_attention: %s\n", error->message);
    exit(EXIT_FAILURE);
}

static void draw_batch(problem_t *p, const case_t *shape, size_t limit) {
    weir_rng_key_t key = weir_rng_key(1, WEIR_STREAM_TEST);
    p->offsets = weir_measure_allocate(shape->users + 1, sizeof *p->offsets);
    for (size_t user = 0; user < shape->users; user++) {
        size_t length = shape->length;
        if (length == 0) {
            double normal = weir_normal_quantile(
                weir_uniform01(weir_philox(key, (uint32_t)user, 0, 0, 1).word[0]));
            length = (size_t)fmin(fmax(96.0 * exp(0.9 * normal), 19.0), 200.0);
        }
        p->offsets[user + 1] = p->offsets[user] + (length < limit ? length : limit);
    }
    size_t tokens = p->offsets[shape->users];
    p->times = weir_measure_allocate(tokens, sizeof *p->times);
    p->next_times = weir_measure_allocate(tokens, sizeof *p->next_times);
    for (size_t user = 0; user < shape->users; user++) {
        int64_t now = 950000000;
        for (size_t t = p->offsets[user]; t < p->offsets[user + 1]; t++) {
            double normal = weir_normal_quantile(
                weir_uniform01(weir_philox(key, (uint32_t)t, 0, 0, 2).word[0]));
            p->times[t] = now;
            now += (int64_t)exp(2.5 + 2.5 * normal);
            p->next_times[t] = now;
        }
    }
    p->batch = (weir_sequence_batch_t){.users = shape->users,
                                       .tokens = tokens,
                                       .offsets = p->offsets,
                                       .times = p->times,
                                       .next_times = p->next_times};
}

static problem_t *create_problem(const case_t *shape, size_t limit, bool bf16) {
    problem_t *p = weir_measure_allocate(1, sizeof *p);
    weir_error_t error = {0};
    size_t longest = shape->length == 0 ? 200 : shape->length;
    draw_batch(p, shape, limit);
    p->config = (weir_attention_config_t){.heads = shape->heads,
                                          .dqk = shape->dqk,
                                          .dv = shape->dv,
                                          .attention_length = longest + 11,
                                          .position_bias = shape->biases,
                                          .time_bias = shape->biases,
                                          .bf16 = bf16};
    size_t width = 2 * shape->heads * (shape->dqk + shape->dv), tokens = p->batch.tokens;
    size_t positions = 2 * p->config.attention_length - 1;
    p->z = weir_measure_numbers(tokens * width, 1.0, 3);
    p->d_y = weir_measure_numbers(tokens * shape->heads * shape->dv, 1.0, 4);
    p->position = weir_measure_numbers(positions, 0.1, 5);
    p->time = weir_measure_numbers(WEIR_HSTU_TIME_BUCKETS, 0.1, 6);
    p->y = weir_measure_numbers(tokens * shape->heads * shape->dv, 1.0, 7);
    p->d_z = weir_measure_allocate(tokens * width, sizeof *p->d_z);
    p->d_position = weir_measure_allocate(positions, sizeof *p->d_position);
    p->d_time = weir_measure_allocate(WEIR_HSTU_TIME_BUCKETS, sizeof *p->d_time);
    p->input = (weir_attention_input_t){p->z, p->position, p->time};
    p->gradient = (weir_attention_gradient_t){p->d_z, p->d_position, p->d_time};
    if (weir_attention_create(&p->config, NULL, &p->attention, &error) != WEIR_OK ||
        weir_attention_prepare(p->attention, &p->batch, &error) != WEIR_OK) {
        stop(&error);
    }
    return p;
}

static void destroy_problem(problem_t *p) {
    void *memory[] = {p->offsets, p->times,    p->next_times, p->z,          p->y,     p->d_y,
                      p->d_z,     p->position, p->time,       p->d_position, p->d_time};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
        free(memory[i]);
    }
    weir_attention_destroy(p->attention);
    free(p);
}

static void assert_close(const case_t *shape, const char *what, const weir_real_t *got,
                         const weir_real_t *expected, size_t count, bool bf16) {
    double worst = 0.0, largest = 1e-30;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)got[i] - (double)expected[i]);
        worst = difference > worst || isnan(difference) ? difference : worst;
        largest = fmax(largest, fabs((double)expected[i]));
    }
    if (!(worst <= (bf16 ? WEIR_BF16_UNIT : 1e-4) * largest)) {
        (void)fprintf(stderr, "bench_attention: not verified: %s of %s is off by %g of %g\n", what,
                      shape->name, worst, largest);
        exit(EXIT_FAILURE);
    }
}

static void verify(const case_t *shape, bool bf16) {
    problem_t *p = create_problem(shape, 300, bf16), *naive = create_problem(shape, 300, bf16);
    size_t tokens = p->batch.tokens;
    weir_attention_forward(p->attention, &p->input, p->y);
    weir_attention_backward(p->attention, &p->input, p->d_y, &p->gradient);
    weir_attention_forward_naive(&naive->config, &naive->batch, &naive->input, naive->y);
    weir_attention_backward_naive(&naive->config, &naive->batch, &naive->input, naive->d_y,
                                  &naive->gradient);
    assert_close(shape, "y", p->y, naive->y, tokens * shape->heads * shape->dv, bf16);
    assert_close(shape, "d_z", p->d_z, naive->d_z,
                 tokens * 2 * shape->heads * (shape->dqk + shape->dv), bf16);
    assert_close(shape, "d_position", p->d_position, naive->d_position,
                 2 * p->config.attention_length - 1, bf16);
    assert_close(shape, "d_time", p->d_time, naive->d_time, WEIR_HSTU_TIME_BUCKETS, bf16);
    destroy_problem(p);
    destroy_problem(naive);
}

static void run_prepare(void *argument) {
    problem_t *p = argument;
    weir_error_t error = {0};
    if (weir_attention_prepare(p->attention, &p->batch, &error) != WEIR_OK) {
        stop(&error);
    }
}

static void run_forward(void *argument) {
    problem_t *p = argument;
    weir_attention_forward(p->attention, &p->input, p->y);
}

static void run_backward(void *argument) {
    problem_t *p = argument;
    weir_attention_backward(p->attention, &p->input, p->d_y, &p->gradient);
}

static void measure(const case_t *shape, bool bf16, double budget, double peak, const char *level,
                    const char *machine) {
    problem_t *p = create_problem(shape, SIZE_MAX, bf16);
    double tokens = (double)p->batch.tokens, pairs = 0.0;
    for (size_t user = 0; user < p->batch.users; user++) {
        double length = (double)(p->offsets[user + 1] - p->offsets[user]);
        pairs += (double)shape->heads * length * (length + 1.0) / 2.0;
    }
    double prepare = weir_measure_seconds(run_prepare, p, budget);
    double forward = weir_measure_seconds(run_forward, p, budget);
    double backward = weir_measure_seconds(run_backward, p, budget);
    double forward_rate = 2e-9 * pairs * (double)(shape->dqk + shape->dv) / forward;
    double backward_rate = 2e-9 * pairs * (double)(3 * shape->dqk + 2 * shape->dv) / backward;
    (void)printf("{\"bench\": \"attention\", \"case\": \"%s\", \"level\": \"%s\", \"compute\": "
                 "\"%s\", \"tokens\": %.0f, "
                 "\"heads\": %zu, \"dqk\": %zu, \"dv\": %zu, \"prepare_ms\": %.3f, "
                 "\"forward_ms\": %.3f, \"backward_ms\": %.3f, \"tokens_per_second\": %.0f, "
                 "\"forward_gflops\": %.1f, \"backward_gflops\": %.1f, "
                 "\"peak_gflops\": %.1f, \"forward_fraction\": %.3f, \"backward_fraction\": %.3f, "
                 "\"machine\": \"%s\", \"version\": \"%s\"}\n",
                 shape->name, level, bf16 ? "bf16" : "float32", tokens, shape->heads, shape->dqk,
                 shape->dv, 1e3 * prepare, 1e3 * forward, 1e3 * backward,
                 tokens / (forward + backward), forward_rate, backward_rate, peak,
                 forward_rate / peak, backward_rate / peak, machine, WEIR_VERSION);
    (void)fflush(stdout);
    destroy_problem(p);
}

int main(int argc, char **argv) {
    char machine[WEIR_MEASURE_MACHINE];
    const weir_kernels_t *kernels = NULL;
    weir_error_t error = {0};
    if (argc > 1 && strcmp(argv[1], WEIR_MEASURE_PEAK) == 0) {
        weir_measure_print_peak();
        return EXIT_SUCCESS;
    }
    double budget = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    if (weir_kernels_select(&kernels, &error) != WEIR_OK) {
        stop(&error);
    }
    weir_measure_machine(machine);
    double peak = weir_measure_best_peak(argv[0]), bf16_peak = weir_measure_bf16_peak();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (argc > 2 && strtoul(argv[2], NULL, 10) != i) {
            continue;
        }
        verify(&cases[i], false);
        measure(&cases[i], false, budget, peak, kernels->level, machine);
        if (bf16_peak > 0.0) {
            verify(&cases[i], true);
            measure(&cases[i], true, budget, bf16_peak, kernels->level, machine);
        }
    }
    return EXIT_SUCCESS;
}
