/* What does the exact softmax over a catalogue cost beside sampled negatives, and how near is it to
 * the matrix products that it consists of?
 *
 *   bench_loss
 *
 * Forward and backward on one core, ML-1M's shape first. One JSON line a form; "fraction" is of
 * the rate of large square products in the same run, counting three products of T x U x D (or R)
 * multiply-adds and nothing else. The full softmax is first verified against plain float64 loops.
 */
#include "bench/measure.h"
#include "common/rng.h"
#include "common/version.h"
#include "worker/loss.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    const char *name;
    weir_loss_form_t *form;
    size_t tokens, rows, dim;
    size_t negatives, negative_rows; /* R, length of the list; of the full softmax 0 */
} shape_t;

/* T = 7,261 tokens: 64 users of ML-1M. */
static const shape_t shapes[] = {
    {"per token, 128", weir_loss_per_token, 7261, 3706, 50, 128, 7261 * 128},
    {"shared, 4096", weir_loss_shared, 7261, 3706, 50, 4096, 4096},
    {"catalogue, 3706", weir_loss_catalogue, 7261, 3706, 50, 0, 0},
    {"catalogue, 3706, D 256", weir_loss_catalogue, 7261, 3706, 256, 0, 0},
    {"catalogue, 100000", weir_loss_catalogue, 1024, 100000, 50, 0, 0},
};

typedef struct {
    const shape_t *shape;
    weir_loss_batch_t batch;
    weir_loss_t *loss;
    uint32_t *targets, *negatives;
    weir_real_t *encoded, *rows, *d_encoded, *d_rows;
    double sum;
} case_t;

static void draw_below(uint32_t *numbers, size_t count, size_t bound, unsigned stream) {
    weir_rng_key_t key = weir_rng_key(2, WEIR_STREAM_TEST);
    for (size_t i = 0; i < count; i++) {
        uint32_t word = weir_philox(key, (uint32_t)i, 0, stream, 0).word[0];
        numbers[i] = weir_uniform_below(word, (uint32_t)bound);
    }
}

static double dot_of(const weir_real_t *x, const weir_real_t *y, size_t dim) {
    double sum = 0.0;
    for (size_t d = 0; d < dim; d++) {
        sum += (double)x[d] * (double)y[d];
    }
    return sum;
}

static void begin_case(case_t *c, const shape_t *shape) {
    size_t cells = shape->rows * shape->dim, encoded = shape->tokens * shape->dim;
    *c = (case_t){.shape = shape};
    c->targets = weir_measure_allocate(shape->tokens, sizeof *c->targets);
    c->negatives = weir_measure_allocate(shape->negative_rows, sizeof *c->negatives);
    draw_below(c->targets, shape->tokens, shape->rows, 0);
    draw_below(c->negatives, shape->negative_rows, shape->rows, 1);
    c->encoded = weir_measure_numbers(encoded, 1.0, 3);
    c->rows = weir_measure_numbers(cells, 0.02, 4);
    c->d_encoded = weir_measure_allocate(encoded, sizeof *c->d_encoded);
    c->d_rows = weir_measure_allocate(cells, sizeof *c->d_rows);
    for (size_t t = 0; t < shape->tokens; t++) {
        weir_real_t *e = c->encoded + t * shape->dim;
        double norm = sqrt(dot_of(e, e, shape->dim));
        for (size_t d = 0; d < shape->dim; d++) {
            e[d] = (weir_real_t)((double)e[d] / norm);
        }
    }
    c->batch = (weir_loss_batch_t){.tokens = shape->tokens,
                                   .rows = shape->rows,
                                   .dim = shape->dim,
                                   .negatives = shape->negatives,
                                   .targets = c->targets,
                                   .negative_rows = c->negatives,
                                   .temperature = 0.05,
                                   .scale = 1.0 / (double)shape->tokens};
    if (weir_loss_create(&c->loss, NULL) != WEIR_OK) {
        (void)fprintf(stderr, "bench_loss: no loss can be created\n");
        exit(EXIT_FAILURE);
    }
}

static void end_case(case_t *c) {
    weir_loss_destroy(c->loss);
    free(c->targets);
    free(c->negatives);
    free(c->encoded);
    free(c->rows);
    free(c->d_encoded);
    free(c->d_rows);
}

static void run_form(void *argument) {
    case_t *c = argument;
    weir_error_t error = {0};
    if (c->shape->form(c->loss, &c->batch, c->encoded, c->rows, &c->sum, c->d_encoded, c->d_rows,
                       &error) != WEIR_OK) {
        (void)fprintf(stderr, "bench_loss: %s\n", error.message);
        exit(EXIT_FAILURE);
    }
}

/* The softmax over all rows by its definition: the losses' sum, and the gradient of e. */
static void verify(void) {
    static const shape_t small = {"verify", weir_loss_catalogue, 40, 5000, 50, 0, 0};
    case_t c;
    begin_case(&c, &small);
    run_form(&c);
    double *logits = weir_measure_allocate(small.rows, sizeof *logits), loss = 0.0, worst = 0.0;
    double *norms = weir_measure_allocate(small.rows, sizeof *norms);
    for (size_t row = 0; row < small.rows; row++) {
        const weir_real_t *x = c.rows + row * small.dim;
        norms[row] = sqrt(dot_of(x, x, small.dim));
    }
    for (size_t t = 0; t < small.tokens; t++) {
        double sum = 0.0;
        for (size_t row = 0; row < small.rows; row++) {
            logits[row] = dot_of(c.encoded + t * small.dim, c.rows + row * small.dim, small.dim) /
                          norms[row] / 0.05;
            sum += exp(logits[row]);
        }
        loss += log(sum) - logits[c.targets[t]];
        for (size_t d = 0; d < small.dim; d++) {
            double slope = 0.0;
            for (size_t row = 0; row < small.rows; row++) {
                double weight = exp(logits[row]) / sum - (row == c.targets[t] ? 1.0 : 0.0);
                slope += weight * (double)c.rows[row * small.dim + d] / norms[row];
            }
            slope *= c.batch.scale / 0.05;
            worst = fmax(worst, fabs(slope - (double)c.d_encoded[t * small.dim + d]));
        }
    }
    if (!(fabs(loss - c.sum) < 1e-4 * loss) || !(worst < 1e-5)) {
        (void)fprintf(stderr,
                      "bench_loss: not verified: loss %.9g, not %.9g; gradients off by %g\n", c.sum,
                      loss, worst);
        exit(EXIT_FAILURE);
    }
    free(logits);
    free(norms);
    end_case(&c);
}

int main(void) {
    char machine[WEIR_MEASURE_MACHINE];
    weir_measure_machine(machine);
    verify();
    double peak = weir_measure_gemm_peak();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const shape_t *s = &shapes[i];
        case_t c;
        begin_case(&c, s);
        double seconds = weir_measure_seconds(run_form, &c, 1.0);
        double classes = (double)(s->negatives > 0 ? s->negatives : s->rows);
        double rate = 6.0 * (double)s->tokens * classes * (double)s->dim / seconds * 1e-9;
        (void)printf("{\"bench\": \"loss\", \"form\": \"%s\", \"tokens\": %zu, \"rows\": %zu, "
                     "\"dim\": %zu, \"milliseconds\": %.2f, \"tokens_per_second\": %.0f, "
                     "\"gflops\": %.1f, \"peak_gflops\": %.1f, \"fraction\": %.3f, "
                     "\"machine\": \"%s\", \"version\": \"%s\"}\n",
                     s->name, s->tokens, s->rows, s->dim, seconds * 1e3,
                     (double)s->tokens / seconds, rate, peak, rate / peak, machine, WEIR_VERSION);
        end_case(&c);
    }
    return EXIT_SUCCESS;
}
