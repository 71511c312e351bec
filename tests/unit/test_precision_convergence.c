/* Training in low precision with steps below half the distance of two codes: plain rounding returns
 * to where it was, stochastic rounding gets there on average. */
#include "common/rng.h"
#include "ps/precision.h"
#include "tests/suite.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { DIM = 24, SAMPLES = 256, MAX_BYTES = 4 + 4 * DIM, SEEDS = 3 };

typedef enum { LEAST_SQUARES, LOGISTIC } task_t;
typedef enum { SGD, ADAGRAD } rule_t;

typedef struct {
    task_t task;
    rule_t rule;
    float learning_rate;
    uint64_t steps;
} problem_t;

/* Steps of about 1e-5, of weights about 1: fp16 there has codes every 5e-4, bf16 and int8 every
 * 8e-3. Adagrad's are larger at first, when its sums are small. */
static const problem_t problems[] = {{LEAST_SQUARES, SGD, 2e-5F, 250000},
                                     {LOGISTIC, SGD, 2e-4F, 250000},
                                     {LEAST_SQUARES, ADAGRAD, 2e-3F, 250000}};

typedef struct {
    float inputs[SAMPLES][DIM], targets[SAMPLES], start[DIM];
} samples_t;

/* Weights off their start by up to 0.8 have made the targets, with some noise. */
static void make_samples(task_t task, samples_t *samples) {
    weir_rng_key_t key = weir_rng_key(11, WEIR_STREAM_TEST);
    float truth[DIM], noise[SAMPLES];
    weir_fill_truncated_normal(key, 0, 0, 0, 0.5, truth, DIM);
    weir_fill_truncated_normal(key, 1, 0, 0, 0.1, noise, SAMPLES);
    for (uint32_t i = 0; i < DIM; i++) {
        samples->start[i] = i % 2 == 0 ? 1.0F : -1.0F;
        truth[i] = samples->start[i] + 0.8F * truth[i];
    }
    for (uint32_t s = 0; s < SAMPLES; s++) {
        weir_fill_truncated_normal(key, 2, s, 0, 1.0, samples->inputs[s], DIM);
        float sum = noise[s];
        for (uint32_t i = 0; i < DIM; i++) {
            sum += truth[i] * samples->inputs[s][i];
        }
        samples->targets[s] = task == LOGISTIC ? (sum > 0.0F ? 1.0F : 0.0F) : sum;
    }
}

static float predict(const float *weights, const float *inputs, task_t task) {
    float sum = 0.0F;
    for (size_t i = 0; i < DIM; i++) {
        sum += weights[i] * inputs[i];
    }
    return task == LOGISTIC ? 1.0F / (1.0F + expf(-sum)) : sum;
}

static double mean_loss(const float *weights, const samples_t *samples, task_t task) {
    double total = 0.0;
    for (size_t s = 0; s < SAMPLES; s++) {
        double predicted = (double)predict(weights, samples->inputs[s], task);
        double target = (double)samples->targets[s];
        if (task == LOGISTIC) {
            double right = target > 0.5 ? predicted : 1.0 - predicted;
            total -= log(fmax(right, 1e-30));
        } else {
            total += 0.5 * (predicted - target) * (predicted - target);
        }
    }
    return total / SAMPLES;
}

/* The loss after training one row whose value is stored between any two steps; rounding 0: plain,
 * else the seed of stochastic rounding. */
static double train(const problem_t *problem, const samples_t *samples, weir_precision_t precision,
                    uint64_t rounding, float *weights) {
    _Alignas(4) unsigned char value[MAX_BYTES], hidden[MAX_BYTES];
    float sums[DIM] = {0};
    weir_precision_store(precision, samples->start, DIM, NULL, value, hidden);
    for (uint64_t step = 0; step < problem->steps; step++) {
        size_t s = (size_t)step % SAMPLES;
        const float *inputs = samples->inputs[s];
        weir_precision_load(precision, value, hidden, DIM, weights);
        float error = predict(weights, inputs, problem->task) - samples->targets[s];
        for (size_t i = 0; i < DIM; i++) {
            float gradient = error * inputs[i];
            sums[i] += gradient * gradient;
            weights[i] -= problem->learning_rate * gradient /
                          (problem->rule == ADAGRAD ? sqrtf(sums[i]) + 1e-6F : 1.0F);
        }
        uint64_t seed = weir_precision_seed(rounding, 0, 0, 0, step);
        weir_precision_store(precision, weights, DIM, rounding != 0 ? &seed : NULL, value, hidden);
    }
    weir_precision_load(precision, value, hidden, DIM, weights);
    return mean_loss(weights, samples, problem->task);
}

START_TEST(stochastic_rounding_learns_where_plain_rounding_stalls) {
    static const weir_precision_t rounded[] = {WEIR_PRECISION_BF16, WEIR_PRECISION_F16,
                                               WEIR_PRECISION_INT8};
    const problem_t *problem = &problems[_i];
    samples_t samples;
    float weights[DIM];
    make_samples(problem->task, &samples);
    double before = mean_loss(samples.start, &samples, problem->task);
    double best = train(problem, &samples, WEIR_PRECISION_F32, 0, weights);
    double gain = before - best;
    ck_assert_double_lt(best, 0.5 * before);
    for (size_t p = 0; p < sizeof rounded / sizeof *rounded; p++) {
        const char *name = weir_precision_name(rounded[p]);
        double plain = train(problem, &samples, rounded[p], 0, weights);
        /* Over twelve seeds the worst was 6% short of float32's gain, the best of plain rounding
         * 75%.
         */
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            double stochastic = train(problem, &samples, rounded[p], seed, weights);
            ck_assert_msg(stochastic < best + 0.1 * gain, "%s: stochastic %g, float32 %g", name,
                          stochastic, best);
        }
        ck_assert_msg(plain > best + 0.5 * gain, "%s: plain %g, float32 %g", name, plain, best);
    }
}
END_TEST

START_TEST(split_bf16_trains_as_float32_to_the_bit) {
    const problem_t *problem = &problems[_i];
    samples_t samples;
    float exact[DIM], split[DIM];
    make_samples(problem->task, &samples);
    (void)train(problem, &samples, WEIR_PRECISION_F32, 0, exact);
    (void)train(problem, &samples, WEIR_PRECISION_SPLIT_BF16, 1, split);
    ck_assert_mem_eq(split, exact, sizeof exact);
}
END_TEST

static Suite *precision_convergence_suite(void) {
    Suite *suite = suite_create("precision_convergence");
    TCase *cases = tcase_create("precision_convergence");
    const int count = (int)(sizeof problems / sizeof *problems);
    tcase_set_timeout(cases, 240);
    tcase_add_loop_test(cases, stochastic_rounding_learns_where_plain_rounding_stalls, 0, count);
    tcase_add_loop_test(cases, split_bf16_trains_as_float32_to_the_bit, 0, count);
    suite_add_tcase(suite, cases);
    return suite;
}

WEIR_TEST_MAIN(precision_convergence_suite())
