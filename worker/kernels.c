#include "worker/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
    return (weir_dropout_t){.key = weir_rng_key(seed, WEIR_STREAM_DROPOUT),
                            .step = (uint32_t)step,
                            .site = site,
                            .threshold = (uint32_t)(probability * 4294967296.0),
                            .scale = (weir_real_t)(1.0 / (1.0 - probability))};
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
