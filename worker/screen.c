#include "worker/screen.h"

#include <math.h>
#include <string.h>

int32_t weir_screen_reach(size_t width) {
    double unit = (double)width * 0x1p-24, error = 0.5 * sqrt((double)width) + 0.0078125;
    double summing = unit / (1.0 - unit) * WEIR_SCREEN_MOST * WEIR_SCREEN_MOST;
    return (int32_t)ceil(2.0 * WEIR_SCREEN_MOST * error + summing) + 8;
}

/* No product is beyond 2^30: a threshold farther out is as good as one a little beyond. */
void weir_screen_bounds(double threshold, double scale, int32_t reach, int32_t *low,
                        int32_t *high) {
    const double farthest = 1.25 * 0x1p30;
    double place = threshold * scale;
    place = place < farthest ? place : farthest;
    place = place > -farthest ? place : -farthest;
    int32_t nearest = (int32_t)place; /* within 1, which the reach has room for */
    *low = nearest - reach;
    *high = nearest + reach;
}

const weir_screen_kernels_t *weir_screen_kernels(const weir_kernels_t *kernels) {
#if defined(WEIR_HAVE_AVX512_VNNI)
    if (strcmp(kernels->level, "v4") == 0 && __builtin_cpu_supports("avx512vnni")) {
        return weir_screen_kernels_vnni();
    }
#else
    (void)kernels;
#endif
    return NULL;
}
