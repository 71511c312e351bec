/* The tables of the levels that this build has; each is made by compiling kernels_level.c and
 * attention_level.c with WEIR_LEVEL set. For those files and worker/kernels.c. */
#ifndef WEIR_WORKER_KERNELS_LEVELS_H
#define WEIR_WORKER_KERNELS_LEVELS_H

#include "worker/kernels.h"

#if defined(__x86_64__)
const weir_kernels_t *weir_kernels_v2(void);
const weir_kernels_t *weir_kernels_v3(void);
const weir_kernels_t *weir_kernels_v4(void);
void weir_product_level_v4(const weir_product_t *product);
#else
const weir_kernels_t *weir_kernels_generic(void);
#endif

#endif
