#include "worker/kernels.h"

#include "worker/kernels_levels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)

static bool processor_has_v2(void) {
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") &&
           __builtin_cpu_supports("popcnt");
}

static bool processor_has_v3(void) {
    return processor_has_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

static bool processor_has_v4(void) {
    return processor_has_v3() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

#endif

static bool always(void) {
    return true;
}

typedef struct {
    const char *name;
    const weir_kernels_t *(*kernels)(void);
    bool (*runs_here)(void);
} level_t;

/* The best first; naive is never chosen unasked. */
static const level_t levels[] = {
#if defined(__x86_64__)
    {"v4", weir_kernels_v4, processor_has_v4},
    {"v3", weir_kernels_v3, processor_has_v3},
    {"v2", weir_kernels_v2, processor_has_v2},
#else
    {"generic", weir_kernels_generic, always},
#endif
    {"naive", weir_kernels_naive, always},
};
enum { LEVEL_COUNT = sizeof levels / sizeof levels[0] };

weir_err_t weir_kernels_find(const char *name, const weir_kernels_t **kernels,
                             weir_error_t *error) {
    bool any = name == NULL || name[0] == '\0';
    for (size_t i = 0; i < LEVEL_COUNT; i++) {
        if (!any && strcmp(name, levels[i].name) != 0) {
            continue;
        }
        if (levels[i].runs_here()) {
            *kernels = levels[i].kernels();
            return WEIR_OK;
        }
        if (!any) {
            return weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                               "this processor cannot run the kernels of level \"%s\"", name);
        }
    }
    weir_err_t err = weir_errorf(error, WEIR_ERR_INVALID, "there are no kernels of level \"%s\"",
                                 any ? "" : name);
    weir_error_hint(error, "levels of this build: %s, naive; unset WEIR_KERNELS for the best",
                    LEVEL_COUNT > 2 ? "v4, v3, v2" : levels[0].name);
    return err;
}

weir_err_t weir_kernels_select(const weir_kernels_t **kernels, weir_error_t *error) {
    weir_err_t err = weir_kernels_find(getenv("WEIR_KERNELS"), kernels, error);
    if (err != WEIR_OK) {
        weir_error_prefix(error, "WEIR_KERNELS");
    }
    return err;
}

weir_dropout_t weir_dropout_at(uint64_t seed, uint64_t step, uint32_t site, double probability) {
    uint32_t threshold = (uint32_t)fmin(rint(probability * 65536.0), 65535.0);
    return (weir_dropout_t){.key = weir_rng_key(seed, WEIR_STREAM_DROPOUT),
                            .step = (uint32_t)step,
                            .site = site,
                            .threshold = threshold,
                            .scale = (weir_real_t)(65536.0 / (65536.0 - (double)threshold))};
}

weir_adamw_t weir_adamw_at(uint64_t step, double learning_rate, double beta1, double beta2,
                           double epsilon, double weight_decay) {
    return (weir_adamw_t){.learning_rate = learning_rate,
                          .beta1 = beta1,
                          .beta2 = beta2,
                          .epsilon = epsilon,
                          .weight_decay = weight_decay,
                          .correction1 = 1.0 - pow(beta1, (double)step),
                          .correction2 = 1.0 - pow(beta2, (double)step)};
}
