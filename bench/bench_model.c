/* How many tokens a second do forward, loss and backward of the model take on one core, and which
 * part takes the time? No network, no table servers, no optimiser.
 *
 *   bench_model [hstu|large] [SHARED_NEGATIVES]
 *
 * ML-1M's shapes: 64 users with histories of about 110 events (longest 200), D 50, 128 negatives of
 * every token's own, or SHARED_NEGATIVES for the batch. Verified first against the naive kernels
 * and the naive loss. One JSON line: the median of the repeats in processor time of the one
 * thread, and the parts timed alone. */
#include "common/rng.h"
#include "worker/attention.h"
#include "worker/blas.h"
#include "worker/hstu.h"
#include "worker/kernels.h"
#include "worker/loss.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { USERS = 64, LONGEST = 200, SHORTEST = 19, ITEMS = 3883, NEGATIVES = 128, REPEATS = 15 };

typedef struct {
    weir_hstu_config_t config;
    weir_sequence_batch_t batch;
    weir_loss_batch_t loss_batch;
    bool shared;
    size_t offsets[USERS + 1];
    int64_t *times, *next_times;
    uint32_t *item_rows, *targets, *negatives;
    weir_real_t *parameters, *table;
    weir_real_t *items, *encoded, *d_encoded, *d_items, *d_parameters, *d_table;
} bench_t;

/* Seconds of each part. */
typedef struct {
    double forward, loss, backward;
} step_time_t;

static void stop(const weir_error_t *error) {
    (void)fprintf(stderr, "bench_model: %s\n", error->message);
    exit(EXIT_FAILURE);
}

/* Of this thread on the processor: on a machine shared with others its neighbours do not count. */
static double thread_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *allocate(size_t count, size_t size) {
    void *block = calloc(count + 1, size);
    if (block == NULL) {
        (void)fprintf(stderr, "bench_model: out of memory\n");
        exit(EXIT_FAILURE);
    }
    return block;
}

static uint32_t draw(uint32_t *at) {
    return weir_philox(weir_rng_key(1, WEIR_STREAM_TEST), (*at)++, 0, 0, 0).word[0];
}

static double draw_normal(uint32_t *at) {
    return weir_normal_quantile(weir_uniform01(draw(at)));
}

/* Lengths like ML-1M's: median 96, cut at 200. */
static void draw_lengths(bench_t *bench, uint32_t *at) {
    for (size_t u = 0; u < USERS; u++) {
        double length = 96.0 * exp(0.9 * draw_normal(at));
        length = fmin(fmax(length, SHORTEST), LONGEST);
        bench->offsets[u + 1] = bench->offsets[u] + (size_t)length;
    }
}

static void draw_events(bench_t *bench, uint32_t *at) {
    size_t negatives = bench->shared ? bench->loss_batch.negatives
                                     : bench->batch.tokens * bench->loss_batch.negatives;
    for (size_t u = 0; u < USERS; u++) {
        int64_t time = 950000000;
        for (size_t t = bench->offsets[u]; t < bench->offsets[u + 1]; t++) {
            bench->times[t] = time;
            time += (int64_t)exp(3.0 + 2.0 * draw_normal(at));
            bench->next_times[t] = time;
            bench->item_rows[t] = weir_uniform_below(draw(at), ITEMS);
            bench->targets[t] = weir_uniform_below(draw(at), ITEMS);
        }
    }
    for (size_t i = 0; i < negatives; i++) {
        bench->negatives[i] = weir_uniform_below(draw(at), ITEMS);
    }
    for (size_t i = 0; i < (size_t)ITEMS * bench->config.embedding_dim; i++) {
        bench->table[i] = (weir_real_t)(0.02 * draw_normal(at));
    }
}

static bench_t *create_bench(bool large, size_t shared_negatives) {
    bench_t *bench = allocate(1, sizeof *bench);
    uint32_t at = 0;
    bench->config = (weir_hstu_config_t){.embedding_dim = 50,
                                         .blocks = large ? 8 : 2,
                                         .heads = large ? 2 : 1,
                                         .dqk = large ? 25 : 50,
                                         .dv = large ? 25 : 50,
                                         .max_sequence_length = LONGEST,
                                         .attention_length = LONGEST + 11,
                                         .input_dropout = 0.2,
                                         .layer_dropout = 0.2,
                                         .position_bias = true,
                                         .time_bias = true};
    draw_lengths(bench, &at);
    size_t tokens = bench->offsets[USERS], dim = bench->config.embedding_dim;
    size_t elements = weir_hstu_parameter_elements(&bench->config), real = sizeof(weir_real_t);
    bench->shared = shared_negatives > 0;
    size_t negatives = bench->shared ? shared_negatives : NEGATIVES;
    bench->times = allocate(tokens, sizeof(int64_t));
    bench->next_times = allocate(tokens, sizeof(int64_t));
    bench->item_rows = allocate(tokens, sizeof(uint32_t));
    bench->targets = allocate(tokens, sizeof(uint32_t));
    bench->negatives = allocate(bench->shared ? negatives : tokens * negatives, sizeof(uint32_t));
    bench->parameters = allocate(elements, real);
    bench->d_parameters = allocate(elements, real);
    bench->table = allocate(ITEMS * dim, real);
    bench->d_table = allocate(ITEMS * dim, real);
    bench->items = allocate(tokens * dim, real);
    bench->d_items = allocate(tokens * dim, real);
    bench->encoded = allocate(tokens * dim, real);
    bench->d_encoded = allocate(tokens * dim, real);
    bench->batch = (weir_sequence_batch_t){.users = USERS,
                                           .tokens = tokens,
                                           .offsets = bench->offsets,
                                           .times = bench->times,
                                           .next_times = bench->next_times};
    bench->loss_batch = (weir_loss_batch_t){.tokens = tokens,
                                            .rows = ITEMS,
                                            .dim = dim,
                                            .negatives = negatives,
                                            .targets = bench->targets,
                                            .negative_rows = bench->negatives,
                                            .temperature = 0.05,
                                            .scale = 1.0 / (double)tokens};
    draw_events(bench, &at);
    weir_hstu_initialise(&bench->config, 1, bench->parameters);
    for (size_t t = 0; t < tokens; t++) {
        memcpy(bench->items + t * dim, bench->table + bench->item_rows[t] * dim, dim * real);
    }
    return bench;
}

static void destroy_bench(bench_t *bench) {
    void *blocks[] = {bench->times,     bench->next_times, bench->item_rows, bench->targets,
                      bench->negatives, bench->parameters, bench->table,     bench->items,
                      bench->encoded,   bench->d_encoded,  bench->d_items,   bench->d_parameters,
                      bench->d_table};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
    }
    free(bench);
}

/* One step; `naive`: the loss too by its oracle. */
static double run_step(bench_t *bench, weir_hstu_t *hstu, weir_loss_t *loss, bool naive,
                       step_time_t *time) {
    weir_error_t error = {0};
    const weir_forward_mode_t mode = {.train = true, .seed = 1, .step = 1};
    double sum = 0.0, begin = thread_seconds();
    if (weir_hstu_forward(hstu, bench->parameters, &bench->batch, bench->items, mode,
                          bench->encoded, &error) != WEIR_OK) {
        stop(&error);
    }
    double encoded = thread_seconds();
    weir_err_t err;
    if (naive && !bench->shared) {
        err = weir_loss_per_token_naive(&bench->loss_batch, bench->encoded, bench->table, &sum,
                                        bench->d_encoded, bench->d_table, &error);
    } else if (bench->shared) {
        err = weir_loss_shared(loss, &bench->loss_batch, bench->encoded, bench->table, &sum,
                               bench->d_encoded, bench->d_table, &error);
    } else {
        err = weir_loss_per_token(loss, &bench->loss_batch, bench->encoded, bench->table, &sum,
                                  bench->d_encoded, bench->d_table, &error);
    }
    if (err != WEIR_OK) {
        stop(&error);
    }
    double lost = thread_seconds();
    if (weir_hstu_backward(hstu, bench->parameters, bench->d_encoded, bench->d_items,
                           bench->d_parameters, NULL, NULL, &error) != WEIR_OK) {
        stop(&error);
    }
    *time = (step_time_t){encoded - begin, lost - encoded, thread_seconds() - lost};
    return sum;
}

static void create_model(const bench_t *bench, weir_hstu_t **hstu, weir_loss_t **loss) {
    weir_error_t error = {0};
    if (weir_hstu_create(&bench->config, hstu, &error) != WEIR_OK ||
        weir_loss_create(loss, &error) != WEIR_OK) {
        stop(&error);
    }
}

static double relative_error(const weir_real_t *got, const weir_real_t *expected, size_t count) {
    double error = 0.0, largest = 0.0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)got[i] - (double)expected[i]);
        error = difference > error || isnan(difference) ? difference : error;
        largest = fmax(largest, fabs((double)expected[i]));
    }
    return error / largest;
}

/* Gradients and loss against those of the naive kernels; ends the program when they differ. */
static void verify(bench_t *bench, weir_hstu_t *hstu, weir_loss_t *loss) {
    size_t elements = weir_hstu_parameter_elements(&bench->config);
    size_t cells = (size_t)ITEMS * bench->config.embedding_dim;
    weir_real_t *gradient = allocate(elements, sizeof *gradient);
    weir_real_t *d_table = allocate(cells, sizeof *d_table);
    const char *level = getenv("WEIR_KERNELS");
    weir_hstu_t *naive_hstu = NULL;
    weir_loss_t *naive_loss = NULL;
    step_time_t time;
    char kept[16] = "";
    (void)snprintf(kept, sizeof kept, "%s", level == NULL ? "" : level);
    (void)setenv("WEIR_KERNELS", "naive", 1);
    create_model(bench, &naive_hstu, &naive_loss);
    (void)setenv("WEIR_KERNELS", kept, 1);
    double expected = run_step(bench, naive_hstu, naive_loss, true, &time);
    memcpy(gradient, bench->d_parameters, elements * sizeof *gradient);
    memcpy(d_table, bench->d_table, cells * sizeof *d_table);
    double value = run_step(bench, hstu, loss, false, &time);
    double errors[] = {fabs(value - expected) / fabs(expected),
                       relative_error(bench->d_parameters, gradient, elements),
                       relative_error(bench->d_table, d_table, cells)};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        if (!(errors[i] < 1e-4)) {
            (void)fprintf(stderr,
                          "bench_model: not verified: errors of loss, parameters and table "
                          "are %g, %g, %g\n",
                          errors[0], errors[1], errors[2]);
            exit(EXIT_FAILURE);
        }
    }
    weir_hstu_destroy(naive_hstu);
    weir_loss_destroy(naive_loss);
    free(gradient);
    free(d_table);
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values) {
    qsort(values, REPEATS, sizeof *values, compare_doubles);
    return values[REPEATS / 2];
}

/* The matrix products of one step, alone: five projections of every layer, forward and backward. */
static double time_products(const bench_t *bench) {
    const weir_hstu_config_t *c = &bench->config;
    size_t tokens = bench->batch.tokens, dim = c->embedding_dim, width = c->heads * c->dv;
    size_t projected = 2 * c->heads * (c->dqk + c->dv), real = sizeof(weir_real_t);
    weir_real_t *x = allocate(tokens * dim, real), *z = allocate(tokens * projected, real);
    weir_real_t *g = allocate(tokens * width, real), *w = allocate(dim * projected, real);
    double samples[REPEATS];
    for (size_t i = 0; i < REPEATS; i++) {
        double begin = thread_seconds();
        for (size_t layer = 0; layer < c->blocks; layer++) {
            weir_blas_gemm(WEIR_BLAS_PLAIN, WEIR_BLAS_PLAIN, tokens, projected, dim, 1, x, dim, w,
                           projected, 0, z, projected);
            weir_blas_gemm(WEIR_BLAS_PLAIN, WEIR_BLAS_PLAIN, tokens, dim, width, 1, g, width, w,
                           dim, 1, x, dim);
            weir_blas_gemm(WEIR_BLAS_TRANSPOSED, WEIR_BLAS_PLAIN, width, dim, tokens, 1, g, width,
                           x, dim, 0, w, dim);
            weir_blas_gemm(WEIR_BLAS_PLAIN, WEIR_BLAS_TRANSPOSED, tokens, width, dim, 1, x, dim, w,
                           dim, 0, g, width);
            weir_blas_gemm(WEIR_BLAS_TRANSPOSED, WEIR_BLAS_PLAIN, dim, projected, tokens, 1, x, dim,
                           z, projected, 0, w, projected);
            weir_blas_gemm(WEIR_BLAS_PLAIN, WEIR_BLAS_TRANSPOSED, tokens, dim, projected, 1, z,
                           projected, w, projected, 0, x, dim);
        }
        samples[i] = thread_seconds() - begin;
    }
    free(x);
    free(z);
    free(g);
    free(w);
    return median(samples);
}

/* Attention of all layers, forward and backward, alone. */
static double time_attention(const bench_t *bench) {
    const weir_hstu_config_t *c = &bench->config;
    const weir_attention_config_t config = {.heads = c->heads,
                                            .dqk = c->dqk,
                                            .dv = c->dv,
                                            .attention_length = c->attention_length,
                                            .position_bias = true,
                                            .time_bias = true};
    size_t tokens = bench->batch.tokens, width = c->heads * c->dv, real = sizeof(weir_real_t);
    size_t projected = 2 * c->heads * (c->dqk + c->dv), biases = 2 * c->attention_length;
    weir_real_t *z = allocate(tokens * projected, real), *d_z = allocate(tokens * projected, real);
    weir_real_t *y = allocate(tokens * width, real), *d_y = allocate(tokens * width, real);
    weir_real_t *bias = allocate(2 * biases, real), *time_bias = allocate(2 * 129, real);
    weir_attention_t *attention = NULL;
    weir_error_t error = {0};
    uint32_t at = 77;
    double samples[REPEATS];
    for (size_t i = 0; i < tokens * projected; i++) {
        z[i] = (weir_real_t)(0.1 * weir_uniform01(draw(&at)));
    }
    if (weir_attention_create(&config, NULL, &attention, &error) != WEIR_OK) {
        stop(&error);
    }
    const weir_attention_input_t input = {.z = z, .position_bias = bias, .time_bias = time_bias};
    const weir_attention_gradient_t gradient = {
        .d_z = d_z, .d_position_bias = bias + biases, .d_time_bias = time_bias + 129};
    for (size_t i = 0; i < REPEATS; i++) {
        double begin = thread_seconds();
        if (weir_attention_prepare(attention, &bench->batch, &error) != WEIR_OK) {
            stop(&error);
        }
        for (size_t layer = 0; layer < c->blocks; layer++) {
            weir_attention_forward(attention, &input, y);
            weir_attention_backward(attention, &input, d_y, &gradient);
        }
        samples[i] = thread_seconds() - begin;
    }
    weir_attention_destroy(attention);
    void *blocks[] = {z, d_z, y, d_y, bias, time_bias};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        free(blocks[i]);
    }
    return median(samples);
}

int main(int count, char **arguments) {
    bool large = count > 1 && strcmp(arguments[1], "large") == 0;
    size_t shared = count > 2 ? (size_t)strtoul(arguments[2], NULL, 10) : 0;
    if (count > 1 && !large && strcmp(arguments[1], "hstu") != 0) {
        (void)fprintf(stderr, "usage: bench_model [hstu|large] [SHARED_NEGATIVES]\n");
        return EXIT_FAILURE;
    }
    bench_t *bench = create_bench(large, shared);
    weir_hstu_t *hstu = NULL;
    weir_loss_t *loss = NULL;
    const weir_kernels_t *kernels = NULL;
    weir_error_t error = {0};
    double forward[REPEATS], lost[REPEATS], backward[REPEATS], total[REPEATS];
    create_model(bench, &hstu, &loss);
    verify(bench, hstu, loss);
    if (weir_kernels_select(&kernels, &error) != WEIR_OK) {
        stop(&error);
    }
    for (size_t i = 0; i < REPEATS; i++) {
        step_time_t time;
        (void)run_step(bench, hstu, loss, false, &time);
        forward[i] = time.forward;
        lost[i] = time.loss;
        backward[i] = time.backward;
        total[i] = time.forward + time.loss + time.backward;
    }
    double step = median(total), loss_time = median(lost);
    double products = time_products(bench), attention = time_attention(bench);
    (void)printf("{\"bench\": \"model\", \"model\": \"%s\", \"kernels\": \"%s\", \"tokens\": %zu, "
                 "\"negatives\": %zu, \"shared\": %s, \"n\": %d, \"tokens_per_second\": %.0f, "
                 "\"ms\": {\"step\": %.2f, \"forward\": %.2f, \"loss\": %.2f, \"backward\": %.2f}, "
                 "\"alone_ms\": {\"projections\": %.2f, \"attention\": %.2f, \"rest\": %.2f}}\n",
                 large ? "large" : "hstu", kernels->level, bench->batch.tokens,
                 bench->loss_batch.negatives, bench->shared ? "true" : "false", REPEATS,
                 (double)bench->batch.tokens / step, 1e3 * step, 1e3 * median(forward),
                 1e3 * loss_time, 1e3 * median(backward), 1e3 * products, 1e3 * attention,
                 1e3 * (step - loss_time - products - attention));
    weir_hstu_destroy(hstu);
    weir_loss_destroy(loss);
    destroy_bench(bench);
    return EXIT_SUCCESS;
}
