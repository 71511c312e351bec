#include "worker/bf16.h"

#include "worker/amx.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    const weir_bf16_kernels_t *kernels; /* NULL: not here */
} way_t;
enum { WAYS = 3 };

/* The best first. */
static void find_ways(const weir_kernels_t *kernels, way_t *ways) {
    ways[0] = (way_t){.name = "amx"};
    ways[1] = (way_t){.name = "avx512_bf16"};
    ways[2] = (way_t){.name = "rounded"};
    if (strcmp(kernels->level, "v4") != 0) {
        return;
    }
#if defined(WEIR_HAVE_AMX)
    if (__builtin_cpu_supports("avx512bf16") && weir_amx_permitted()) {
        ways[0].kernels = weir_bf16_kernels_amx();
    }
#endif
#if defined(WEIR_HAVE_AVX512_BF16)
    if (__builtin_cpu_supports("avx512bf16")) {
        ways[1].kernels = weir_bf16_kernels_avx512();
    }
#endif
}

/* WAYS: none. */
static size_t find_way(const way_t *ways, const char *name) {
    size_t way = 0;
    while (way < WAYS && strcmp(ways[way].name, name) != 0) {
        way++;
    }
    return way;
}

static const char *wish(void) {
    const char *name = getenv("WEIR_BF16");
    return name != NULL && name[0] != '\0' ? name : NULL;
}

const weir_bf16_kernels_t *weir_bf16_kernels(const weir_kernels_t *kernels) {
    way_t ways[WAYS];
    find_ways(kernels, ways);
    const char *name = wish();
    size_t way = name != NULL ? find_way(ways, name) : WAYS;
    if (way < WAYS && (ways[way].kernels != NULL || way == WAYS - 1)) {
        return ways[way].kernels;
    }
    return ways[0].kernels != NULL ? ways[0].kernels : ways[1].kernels;
}

weir_err_t weir_bf16_check(const weir_kernels_t *kernels, weir_error_t *error) {
    way_t ways[WAYS];
    find_ways(kernels, ways);
    const char *name = wish();
    size_t way = name != NULL ? find_way(ways, name) : WAYS - 1;
    weir_err_t err = WEIR_OK;
    if (way == WAYS) {
        err = weir_errorf(error, WEIR_ERR_INVALID,
                          "WEIR_BF16: there is no way \"%s\" to multiply in bfloat16", name);
    } else if (way < WAYS - 1 && ways[way].kernels == NULL) {
        err =
            weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                        "WEIR_BF16: this build on this processor cannot multiply by \"%s\"", name);
    }
    if (err != WEIR_OK) {
        weir_error_hint(error, "ways here: %s%srounded; unset WEIR_BF16 for the best",
                        ways[0].kernels != NULL ? "amx, " : "",
                        ways[1].kernels != NULL ? "avx512_bf16, " : "");
    }
    return err;
}
