#include "worker/bf16.h"

#include <string.h>

const weir_bf16_kernels_t *weir_bf16_kernels(const weir_kernels_t *kernels) {
#if defined(WEIR_HAVE_AVX512_BF16)
    if (strcmp(kernels->level, "v4") == 0 && __builtin_cpu_supports("avx512bf16")) {
        return weir_bf16_kernels_avx512();
    }
#else
    (void)kernels;
#endif
    return NULL;
}
