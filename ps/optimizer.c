/* Compiled with -ffp-contract=off (ps/CMakeLists.txt): fused products would make results depend on
 * the CPU that a server happens to run on. */
#include "ps/optimizer.h"

#include "common/assert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, MAX_CORRECTIONS = 1 << 16 };

#define INLINE static inline __attribute__((always_inline))

/* Mean of squares: LANES partial sums, then their sum in order; the same order for every vector
 * width. */
INLINE float mean_square(const float *gradient, size_t dim) {
    float lanes[LANES] = {0};
    size_t whole = dim / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            lanes[lane] += gradient[i + lane] * gradient[i + lane];
        }
    }
    for (size_t i = whole; i < dim; i++) {
        lanes[i - whole] += gradient[i] * gradient[i];
    }
    for (size_t width = LANES / 2; width > 0; width /= 2) {
        for (size_t lane = 0; lane < width; lane++) {
            lanes[lane] += lanes[lane + width];
        }
    }
    return lanes[0] / (float)dim;
}

INLINE bool all_finite(const float *gradient, size_t count) {
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &gradient[i], sizeof bits);
        bits &= 0x7FFFFFFFu;
        largest = bits > largest ? bits : largest;
    }
    return largest < 0x7F800000u;
}

INLINE void update_sgd(const weir_optimizer_t *o, float *restrict value, float *restrict state,
                       const float *restrict gradient, weir_bias_correction_t correction) {
    (void)correction;
    (void)state;
    const float rate = o->learning_rate, decay = o->decay;
    for (size_t i = 0; i < o->dim; i++) {
        value[i] = value[i] * decay - rate * gradient[i];
    }
}

INLINE void update_adagrad(const weir_optimizer_t *o, float *restrict value, float *restrict state,
                           const float *restrict gradient, weir_bias_correction_t correction) {
    (void)correction;
    const float rate = o->learning_rate, decay = o->decay, epsilon = o->epsilon;
    const size_t dim = o->dim;
    float *restrict sum = state;
    for (size_t i = 0; i < dim; i++) {
        float g = gradient[i];
        float s = sum[i] + g * g;
        sum[i] = s;
        value[i] = value[i] * decay - rate * g / (sqrtf(s) + epsilon);
    }
}

INLINE void update_rowwise_adagrad(const weir_optimizer_t *o, float *restrict value,
                                   float *restrict state, const float *restrict gradient,
                                   weir_bias_correction_t correction) {
    (void)correction;
    const size_t dim = o->dim;
    const float s = state[0] + mean_square(gradient, dim);
    const float rate = o->learning_rate, decay = o->decay;
    const float scale = rate / (sqrtf(s) + o->epsilon);
    state[0] = s;
    for (size_t i = 0; i < dim; i++) {
        value[i] = value[i] * decay - scale * gradient[i];
    }
}

INLINE void update_adamw(const weir_optimizer_t *o, float *restrict value, float *restrict state,
                         const float *restrict gradient, weir_bias_correction_t correction) {
    const float beta1 = o->beta1, rest1 = o->one_minus_beta1;
    const float beta2 = o->beta2, rest2 = o->one_minus_beta2;
    const float decay = o->decay, epsilon = o->epsilon;
    const float step_size = correction.step_size, inverse_root = correction.inverse_root;
    const size_t dim = o->dim;
    float *restrict first = state;
    float *restrict second = state + dim;
    for (size_t i = 0; i < dim; i++) {
        float g = gradient[i];
        float m = beta1 * first[i] + rest1 * g;
        float v = beta2 * second[i] + rest2 * (g * g);
        first[i] = m;
        second[i] = v;
        value[i] = value[i] * decay - step_size * m / (sqrtf(v) * inverse_root + epsilon);
    }
}

INLINE void update_rowwise_adamw(const weir_optimizer_t *o, float *restrict value,
                                 float *restrict state, const float *restrict gradient,
                                 weir_bias_correction_t correction) {
    const float beta1 = o->beta1, rest1 = o->one_minus_beta1, decay = o->decay;
    const size_t dim = o->dim;
    float *restrict first = state;
    const float v = o->beta2 * state[dim] + o->one_minus_beta2 * mean_square(gradient, dim);
    const float scale = correction.step_size / (sqrtf(v) * correction.inverse_root + o->epsilon);
    state[dim] = v;
    for (size_t i = 0; i < dim; i++) {
        float m = beta1 * first[i] + rest1 * gradient[i];
        first[i] = m;
        value[i] = value[i] * decay - scale * m;
    }
}

/* One body, compiled per vector width. */
#define VARIANT(suffix, attribute)                                                                 \
    attribute static bool finite_##suffix(const float *gradient, size_t count) {                   \
        return all_finite(gradient, count);                                                        \
    }                                                                                              \
    VARIANT_OF(sgd, suffix, attribute)                                                             \
    VARIANT_OF(adagrad, suffix, attribute)                                                         \
    VARIANT_OF(rowwise_adagrad, suffix, attribute)                                                 \
    VARIANT_OF(adamw, suffix, attribute)                                                           \
    VARIANT_OF(rowwise_adamw, suffix, attribute)                                                   \
    static const variant_t variant_##suffix = {                                                    \
        finite_##suffix,                                                                           \
        {[WEIR_OPTIMIZER_SGD] = sgd_##suffix,                                                      \
         [WEIR_OPTIMIZER_ADAGRAD] = adagrad_##suffix,                                              \
         [WEIR_OPTIMIZER_ROWWISE_ADAGRAD] = rowwise_adagrad_##suffix,                              \
         [WEIR_OPTIMIZER_ADAMW] = adamw_##suffix,                                                  \
         [WEIR_OPTIMIZER_ROWWISE_ADAMW] = rowwise_adamw_##suffix}};
#define VARIANT_OF(kind, suffix, attribute)                                                        \
    attribute static void kind##_##suffix(const weir_optimizer_t *optimizer, float *value,         \
                                          float *state, const float *gradient,                     \
                                          weir_bias_correction_t correction) {                     \
        update_##kind(optimizer, value, state, gradient, correction);                              \
    }

typedef struct {
    bool (*finite)(const float *gradient, size_t count);
    weir_optimizer_update_t update[WEIR_OPTIMIZER_COUNT];
} variant_t;

VARIANT(portable, )
#ifdef __x86_64__
VARIANT(avx2, __attribute__((target("avx2"))))
VARIANT(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))
#endif

/* NULL: not on this CPU. */
static const variant_t *find_variant(uint32_t bits) {
#ifdef __x86_64__
    if (bits == 512) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
                   ? &variant_avx512
                   : NULL;
    }
    if (bits == 256) {
        return __builtin_cpu_supports("avx2") ? &variant_avx2 : NULL;
    }
#endif
    return bits == 128 ? &variant_portable : NULL;
}

static const variant_t *choose_variant(void) {
    const variant_t *variant = find_variant(512);
    if (variant == NULL) {
        variant = find_variant(256);
    }
    return variant != NULL ? variant : &variant_portable;
}

bool weir_optimizer_set_width(weir_optimizer_t *optimizer, uint32_t bits) {
    const variant_t *variant = find_variant(bits);
    if (variant == NULL) {
        return false;
    }
    optimizer->finite = variant->finite;
    optimizer->update = variant->update[optimizer->settings.kind];
    return true;
}

static weir_bias_correction_t compute_correction(const weir_optimizer_t *optimizer, uint64_t n) {
    double first = 1.0 - pow(optimizer->settings.beta1, (double)n);
    double second = 1.0 - pow(optimizer->settings.beta2, (double)n);
    return (weir_bias_correction_t){.step_size = (float)(optimizer->settings.learning_rate / first),
                                    .inverse_root = (float)(1.0 / sqrt(second))};
}

weir_bias_correction_t weir_optimizer_correction(const weir_optimizer_t *optimizer, uint64_t n) {
    if (optimizer->corrections == NULL) {
        return (weir_bias_correction_t){.step_size = optimizer->learning_rate,
                                        .inverse_root = 1.0F};
    }
    WEIR_ASSERT(n >= 1);
    return n <= optimizer->correction_count ? optimizer->corrections[n - 1]
                                            : compute_correction(optimizer, n);
}

/* A table of the corrections up to where both are 1 in float: pow() for each row would cost as much
 * as its update. */
static weir_err_t tabulate_corrections(weir_optimizer_t *optimizer, weir_error_t *error) {
    double slowest = fmax(optimizer->settings.beta1, optimizer->settings.beta2);
    double needed = slowest > 0.0 ? log(1e-9) / log(slowest) : 1.0;
    size_t count = needed < MAX_CORRECTIONS ? (size_t)needed + 1 : MAX_CORRECTIONS;
    optimizer->corrections = malloc(count * sizeof *optimizer->corrections);
    if (optimizer->corrections == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for an optimiser's tables");
    }
    for (size_t n = 1; n <= count; n++) {
        optimizer->corrections[n - 1] = compute_correction(optimizer, n);
    }
    optimizer->correction_count = count;
    return WEIR_OK;
}

static weir_err_t check_numbers(const weir_optimizer_settings_t *settings, const char *name,
                                weir_error_t *error) {
    if ((unsigned)settings->kind >= WEIR_OPTIMIZER_COUNT) {
        return weir_errorf(error, WEIR_ERR_INVALID, "table %.31s: no optimiser has number %d", name,
                           (int)settings->kind);
    }
    if (!isfinite(settings->learning_rate) || !isfinite(settings->weight_decay) ||
        !isfinite(settings->epsilon)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "table %.31s: learning rate, weight decay and epsilon must be finite "
                           "numbers",
                           name);
    }
    /* A row that never had a gradient would divide nothing by nothing. */
    if (settings->kind != WEIR_OPTIMIZER_SGD && !((float)settings->epsilon > 0.0F)) {
        return weir_errorf(error, WEIR_ERR_INVALID, "table %.31s: epsilon must be above 0", name);
    }
    if (!(settings->beta1 >= 0.0 && settings->beta1 < 1.0 && settings->beta2 >= 0.0 &&
          settings->beta2 < 1.0)) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "table %.31s: beta1 and beta2 must be in [0, 1)", name);
    }
    return WEIR_OK;
}

weir_err_t weir_optimizer_init(weir_optimizer_t *optimizer,
                               const weir_optimizer_settings_t *settings, uint32_t dim,
                               const char *name, weir_error_t *error) {
    weir_err_t err = check_numbers(settings, name, error);
    if (err != WEIR_OK) {
        return err;
    }
    const variant_t *variant = choose_variant();
    weir_optimizer_t made = {.settings = *settings,
                             .dim = dim,
                             .beta1 = (float)settings->beta1,
                             .beta2 = (float)settings->beta2,
                             .epsilon = (float)settings->epsilon,
                             .one_minus_beta1 = (float)(1.0 - settings->beta1),
                             .one_minus_beta2 = (float)(1.0 - settings->beta2),
                             .update = variant->update[settings->kind],
                             .finite = variant->finite};
    weir_optimizer_begin_step(&made, 1);
    if (settings->kind == WEIR_OPTIMIZER_ADAMW || settings->kind == WEIR_OPTIMIZER_ROWWISE_ADAMW) {
        err = tabulate_corrections(&made, error);
        if (err != WEIR_OK) {
            return err;
        }
    }
    *optimizer = made;
    return WEIR_OK;
}

void weir_optimizer_begin_step(weir_optimizer_t *optimizer, uint64_t step) {
    const weir_optimizer_settings_t *settings = &optimizer->settings;
    (void)step;
    optimizer->learning_rate = (float)settings->learning_rate;
    optimizer->decay = (float)(1.0 - settings->learning_rate * settings->weight_decay);
}

void weir_optimizer_fini(weir_optimizer_t *optimizer) {
    free(optimizer->corrections);
    optimizer->corrections = NULL;
    optimizer->correction_count = 0;
}

weir_optimizer_state_t weir_optimizer_state(weir_optimizer_kind_t kind, uint32_t dim) {
    switch (kind) {
    case WEIR_OPTIMIZER_ADAGRAD:
        return (weir_optimizer_state_t){.runs = {{"s", dim}}, .run_count = 1, .floats = dim};
    case WEIR_OPTIMIZER_ROWWISE_ADAGRAD:
        return (weir_optimizer_state_t){.runs = {{"s", 1}}, .run_count = 1, .floats = 1};
    case WEIR_OPTIMIZER_ADAMW:
        return (weir_optimizer_state_t){
            .runs = {{"m", dim}, {"v", dim}}, .run_count = 2, .floats = 2 * dim};
    case WEIR_OPTIMIZER_ROWWISE_ADAMW:
        return (weir_optimizer_state_t){
            .runs = {{"m", dim}, {"v", 1}}, .run_count = 2, .floats = dim + 1};
    case WEIR_OPTIMIZER_SGD:
    case WEIR_OPTIMIZER_COUNT:
        break;
    }
    return (weir_optimizer_state_t){.run_count = 0};
}
