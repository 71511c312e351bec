/* Compiled with -ffp-contract=off (ps/CMakeLists.txt): fused products would make results depend on
 * the CPU that a server happens to run on. */
#include "ps/optimizer.h"

#include "common/assert.h"
#include "ps/optimizer_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CORRECTIONS = 1 << 16 };

/* Of the rate before the schedule: what the proximal ones divide by at least. */
static const double lowest_rate = 1e-6;

/* Every kind: its number, its body in ps/optimizer_kernels.h. */
#define EVERY_KIND(DO, suffix, attribute)                                                          \
    DO(SGD, sgd, suffix, attribute)                                                                \
    DO(MOMENTUM, momentum, suffix, attribute)                                                      \
    DO(NESTEROV, nesterov, suffix, attribute)                                                      \
    DO(ADAGRAD, adagrad, suffix, attribute)                                                        \
    DO(ROWWISE_ADAGRAD, rowwise_adagrad, suffix, attribute)                                        \
    DO(ADAM, adam, suffix, attribute)                                                              \
    DO(ADAMW, adamw, suffix, attribute)                                                            \
    DO(ROWWISE_ADAMW, rowwise_adamw, suffix, attribute)                                            \
    DO(FTRL, ftrl, suffix, attribute)                                                              \
    DO(GROUP_FTRL, group_ftrl, suffix, attribute)                                                  \
    DO(GROUP_ADAGRAD, group_adagrad, suffix, attribute)                                            \
    DO(GROUP_ADAM, group_adam, suffix, attribute)

/* One body, compiled per vector width. */
#define VARIANT(suffix, attribute)                                                                 \
    attribute static bool finite_##suffix(const float *gradient, size_t count) {                   \
        return all_finite(gradient, count);                                                        \
    }                                                                                              \
    attribute static void clip_##suffix(const weir_optimizer_t *optimizer, float *value,           \
                                        float *state, const float *gradient,                       \
                                        weir_bias_correction_t correction) {                       \
        clip_gradient(optimizer, gradient);                                                        \
        optimizer->unclipped(optimizer, value, state, optimizer->clip->gradient, correction);      \
    }                                                                                              \
    EVERY_KIND(VARIANT_UPDATE, suffix, attribute)                                                  \
    static const variant_t variant_##suffix = {                                                    \
        finite_##suffix, clip_##suffix, {EVERY_KIND(VARIANT_ENTRY, suffix, attribute)}};
#define VARIANT_UPDATE(number, kind, suffix, attribute)                                            \
    attribute static void kind##_##suffix(const weir_optimizer_t *optimizer, float *value,         \
                                          float *state, const float *gradient,                     \
                                          weir_bias_correction_t correction) {                     \
        update_##kind(optimizer, value, state, gradient, correction);                              \
    }
#define VARIANT_ENTRY(number, kind, suffix, attribute) [WEIR_OPTIMIZER_##number] = kind##_##suffix,

typedef struct {
    bool (*finite)(const float *gradient, size_t count);
    weir_optimizer_update_t clip;
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

static void use_variant(weir_optimizer_t *optimizer, const variant_t *variant) {
    optimizer->finite = variant->finite;
    optimizer->unclipped = variant->update[optimizer->settings.kind];
    optimizer->update = optimizer->clip != NULL ? variant->clip : optimizer->unclipped;
}

bool weir_optimizer_set_width(weir_optimizer_t *optimizer, uint32_t bits) {
    const variant_t *variant = find_variant(bits);
    if (variant == NULL) {
        return false;
    }
    use_variant(optimizer, variant);
    return true;
}

/* ---- the kinds ---- */

static bool is_proximal(weir_optimizer_kind_t kind) {
    return kind >= WEIR_OPTIMIZER_FTRL && kind <= WEIR_OPTIMIZER_GROUP_ADAM;
}

static bool has_bias(weir_optimizer_kind_t kind) {
    return kind == WEIR_OPTIMIZER_ADAM || kind == WEIR_OPTIMIZER_ADAMW ||
           kind == WEIR_OPTIMIZER_ROWWISE_ADAMW || kind == WEIR_OPTIMIZER_GROUP_ADAM;
}

static bool has_beta(weir_optimizer_kind_t kind) {
    return kind == WEIR_OPTIMIZER_FTRL || kind == WEIR_OPTIMIZER_GROUP_FTRL;
}

weir_optimizer_state_t weir_optimizer_state(weir_optimizer_kind_t kind, uint32_t dim) {
    switch (kind) {
    case WEIR_OPTIMIZER_MOMENTUM:
    case WEIR_OPTIMIZER_NESTEROV:
        return (weir_optimizer_state_t){.runs = {{"u", dim}}, .run_count = 1, .floats = dim};
    case WEIR_OPTIMIZER_ADAGRAD:
        return (weir_optimizer_state_t){.runs = {{"s", dim}}, .run_count = 1, .floats = dim};
    case WEIR_OPTIMIZER_ROWWISE_ADAGRAD:
        return (weir_optimizer_state_t){.runs = {{"s", 1}}, .run_count = 1, .floats = 1};
    case WEIR_OPTIMIZER_ADAM:
    case WEIR_OPTIMIZER_ADAMW:
        return (weir_optimizer_state_t){
            .runs = {{"m", dim}, {"v", dim}}, .run_count = 2, .floats = 2 * dim};
    case WEIR_OPTIMIZER_ROWWISE_ADAMW:
        return (weir_optimizer_state_t){
            .runs = {{"m", dim}, {"v", 1}}, .run_count = 2, .floats = dim + 1};
    case WEIR_OPTIMIZER_FTRL:
    case WEIR_OPTIMIZER_GROUP_FTRL:
    case WEIR_OPTIMIZER_GROUP_ADAGRAD:
        return (weir_optimizer_state_t){
            .runs = {{"z", dim}, {"v", dim}, {"a", 2}}, .run_count = 3, .floats = 2 * dim + 2};
    case WEIR_OPTIMIZER_GROUP_ADAM:
        return (weir_optimizer_state_t){.runs = {{"z", dim}, {"v", dim}, {"m", dim}, {"a", 2}},
                                        .run_count = 4,
                                        .floats = 3 * dim + 2};
    case WEIR_OPTIMIZER_SGD:
    case WEIR_OPTIMIZER_COUNT:
        break;
    }
    return (weir_optimizer_state_t){.run_count = 0};
}

/* ---- bias correction ---- */

static weir_bias_entry_t compute_correction(const weir_optimizer_t *optimizer, uint64_t n) {
    double first = 1.0 - pow(optimizer->settings.beta1, (double)n);
    double second = 1.0 - pow(optimizer->settings.beta2, (double)n);
    return (weir_bias_entry_t){.inverse_mean = 1.0 / first,
                               .inverse_root = (float)(1.0 / sqrt(second))};
}

weir_bias_correction_t weir_optimizer_correction(const weir_optimizer_t *optimizer, uint64_t n) {
    if (optimizer->corrections == NULL) {
        return (weir_bias_correction_t){
            .step_size = optimizer->learning_rate, .inverse_mean = 1.0F, .inverse_root = 1.0F};
    }
    WEIR_ASSERT(n >= 1);
    weir_bias_entry_t entry = n <= optimizer->correction_count ? optimizer->corrections[n - 1]
                                                               : compute_correction(optimizer, n);
    return (weir_bias_correction_t){.step_size =
                                        (float)(optimizer->scheduled_rate * entry.inverse_mean),
                                    .inverse_mean = (float)entry.inverse_mean,
                                    .inverse_root = entry.inverse_root};
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

/* ---- lifecycle ---- */

static weir_err_t refuse(const char *name, const char *sentence, weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_INVALID, "table %.31s: %s", name, sentence);
}

static bool is_size(double number) {
    return number >= 0.0 && isfinite(number);
}

static weir_err_t check_penalties(const weir_optimizer_settings_t *settings, const char *name,
                                  weir_error_t *error) {
    weir_optimizer_kind_t kind = settings->kind;
    if (!is_size(settings->l1) || !is_size(settings->l2) || !is_size(settings->group_l1)) {
        return refuse(name, "l1, l2 and group_l1 must be finite and not negative", error);
    }
    if (!is_proximal(kind)) {
        return settings->l1 == 0.0 && settings->l2 == 0.0 && settings->group_l1 == 0.0
                   ? WEIR_OK
                   : refuse(name, "l1, l2 and group_l1 are of ftrl and the group_ optimisers alone",
                            error);
    }
    if (kind == WEIR_OPTIMIZER_FTRL && settings->group_l1 != 0.0) {
        return refuse(name, "group_l1 is of the group_ optimisers (group_ftrl), not of ftrl",
                      error);
    }
    if (settings->weight_decay != 0.0) {
        return refuse(name, "ftrl and the group_ optimisers have l2, not weight_decay", error);
    }
    if (!((float)(settings->learning_rate * lowest_rate) > 0.0F)) {
        return refuse(name, "ftrl and the group_ optimisers divide by the learning rate: above 0",
                      error);
    }
    return has_beta(kind) && !(isfinite(settings->beta) && (float)settings->beta > 0.0F)
               ? refuse(name, "beta must be a finite number above 0", error)
               : WEIR_OK;
}

static weir_err_t check_numbers(const weir_optimizer_settings_t *settings, const char *name,
                                weir_error_t *error) {
    if ((unsigned)settings->kind >= WEIR_OPTIMIZER_COUNT) {
        return weir_errorf(error, WEIR_ERR_INVALID, "table %.31s: no optimiser has number %d", name,
                           (int)settings->kind);
    }
    if (!isfinite(settings->learning_rate) || !isfinite(settings->weight_decay) ||
        !isfinite(settings->epsilon)) {
        return refuse(name, "learning rate, weight decay and epsilon must be finite numbers",
                      error);
    }
    /* A row that never had a gradient would divide nothing by nothing. */
    bool divides = settings->kind >= WEIR_OPTIMIZER_ADAGRAD && !has_beta(settings->kind);
    if (divides && !((float)settings->epsilon > 0.0F)) {
        return refuse(name, "epsilon must be above 0", error);
    }
    if (!(settings->beta1 >= 0.0 && settings->beta1 < 1.0 && settings->beta2 >= 0.0 &&
          settings->beta2 < 1.0)) {
        return refuse(name, "beta1 and beta2 must be in [0, 1)", error);
    }
    if (!is_size(settings->clip_value) || !is_size(settings->clip_norm)) {
        return refuse(name, "clip_value and clip_norm must be finite and not negative", error);
    }
    weir_err_t err = check_penalties(settings, name, error);
    return err != WEIR_OK ? err : weir_schedule_check(&settings->schedule, name, error);
}

/* What neither row nor step changes. */
static void set_constants(weir_optimizer_t *optimizer) {
    const weir_optimizer_settings_t *settings = &optimizer->settings;
    optimizer->beta1 = (float)settings->beta1;
    optimizer->beta2 = (float)settings->beta2;
    optimizer->epsilon = (float)settings->epsilon;
    optimizer->one_minus_beta1 = (float)(1.0 - settings->beta1);
    optimizer->one_minus_beta2 = (float)(1.0 - settings->beta2);
    optimizer->l1 = (float)settings->l1;
    optimizer->ridge = (float)(has_beta(settings->kind) ? settings->l2 : 2.0 * settings->l2);
    optimizer->group_threshold = (float)(settings->group_l1 * sqrt((double)optimizer->dim));
    optimizer->clip_value = settings->clip_value > 0.0 ? (float)settings->clip_value : INFINITY;
    optimizer->clip_norm = settings->clip_norm > 0.0 ? settings->clip_norm : (double)INFINITY;
}

weir_err_t weir_optimizer_init(weir_optimizer_t *optimizer,
                               const weir_optimizer_settings_t *settings, uint32_t dim,
                               const char *name, weir_error_t *error) {
    weir_err_t err = check_numbers(settings, name, error);
    if (err != WEIR_OK) {
        return err;
    }
    weir_optimizer_t made = {.settings = *settings, .dim = dim};
    set_constants(&made);
    if (settings->clip_value > 0.0 || settings->clip_norm > 0.0) {
        made.clip = calloc(1, sizeof *made.clip + dim * sizeof made.clip->gradient[0]);
        if (made.clip == NULL) {
            err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for an optimiser's gradient");
        }
    }
    if (err == WEIR_OK && has_bias(settings->kind)) {
        err = tabulate_corrections(&made, error);
    }
    if (err != WEIR_OK) {
        weir_optimizer_fini(&made);
        return err;
    }
    use_variant(&made, choose_variant());
    weir_optimizer_begin_step(&made, 1);
    *optimizer = made;
    return WEIR_OK;
}

void weir_optimizer_begin_step(weir_optimizer_t *optimizer, uint64_t step) {
    const weir_optimizer_settings_t *settings = &optimizer->settings;
    double rate = weir_schedule_rate(&settings->schedule, settings->learning_rate, step);
    if (is_proximal(settings->kind)) {
        rate = fmax(rate, settings->learning_rate * lowest_rate);
        optimizer->inverse_rate = (float)(1.0 / rate);
        optimizer->addend =
            (float)((has_beta(settings->kind) ? settings->beta : settings->epsilon) / rate);
    }
    optimizer->scheduled_rate = rate;
    optimizer->learning_rate = (float)rate;
    optimizer->decay =
        (float)(settings->kind == WEIR_OPTIMIZER_ADAM ? settings->weight_decay
                                                      : 1.0 - rate * settings->weight_decay);
}

void weir_optimizer_fini(weir_optimizer_t *optimizer) {
    free(optimizer->corrections);
    free(optimizer->clip);
    optimizer->corrections = NULL;
    optimizer->correction_count = 0;
    optimizer->clip = NULL;
}

uint64_t weir_optimizer_clipped_rows(const weir_optimizer_t *optimizer) {
    return optimizer->clip != NULL ? optimizer->clip->rows : 0;
}
