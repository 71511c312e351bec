/* What fraction of OpenBLAS's own best, over all of its sets of kernels, do the projections of HSTU
 * reach at their shapes?
 *
 *   bench_gemm
 *
 * The best is that of large square products, measured in the same run. One JSON line a shape; a
 * product is first verified against plain loops. OPENBLAS_CORETYPE chooses OpenBLAS's kernels. */
#include "bench/measure.h"
#include "common/version.h"
#include "worker/blas.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    size_t m, n, k;
} shape_t;

/* T = 7,000 tokens, about 64 users of ML-1M; T = 4,096, one long user of width 512. */
static const shape_t shapes[] = {
    {"ml-1m uvqk", 7000, 200, 50},        {"ml-1m output", 7000, 50, 50},
    {"ml-1m d_input", 7000, 50, 200},     {"ml-1m d_uvqk", 50, 200, 7000},
    {"ml-1m d_output", 50, 50, 7000},     {"ml-20m uvqk", 7000, 1024, 256},
    {"ml-20m output", 7000, 256, 256},    {"wide uvqk", 4096, 2048, 512},
    {"attention tile q k", 128, 32, 50},  {"attention tile a v", 50, 32, 128},
    {"attention user q k", 110, 110, 50}, {"batch negatives 4096", 7000, 4096, 50},
};

static void verify(void) {
    enum { M = 37, N = 29, K = 50 };
    weir_real_t *a = weir_measure_numbers(M * K, 1.0, 1), *b = weir_measure_numbers(K * N, 1.0, 2);
    weir_real_t *c = weir_measure_allocate(M * N, sizeof *c);
    weir_blas_gemm(WEIR_BLAS_PLAIN, WEIR_BLAS_PLAIN, M, N, K, 1, a, K, b, N, 0, c, N);
    for (size_t i = 0; i < M; i++) {
        for (size_t j = 0; j < N; j++) {
            double sum = 0.0;
            for (size_t k = 0; k < K; k++) {
                sum += (double)a[i * K + k] * (double)b[k * N + j];
            }
            if (!(fabs(sum - (double)c[i * N + j]) < 1e-4)) {
                (void)fprintf(stderr, "bench_gemm: not verified: (%zu, %zu) is %g, not %g\n", i, j,
                              (double)c[i * N + j], sum);
                exit(EXIT_FAILURE);
            }
        }
    }
    free(a);
    free(b);
    free(c);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], WEIR_MEASURE_PEAK) == 0) {
        weir_measure_print_peak();
        return EXIT_SUCCESS;
    }
    char machine[WEIR_MEASURE_MACHINE];
    weir_measure_machine(machine);
    verify();
    double peak = weir_measure_best_peak(argv[0]);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const shape_t *s = &shapes[i];
        double rate = weir_measure_gemm(s->m, s->n, s->k, 0.3);
        (void)printf("{\"bench\": \"gemm\", \"shape\": \"%s\", \"m\": %zu, \"n\": %zu, \"k\": %zu, "
                     "\"gflops\": %.1f, \"peak_gflops\": %.1f, \"fraction\": %.3f, "
                     "\"openblas_core\": \"%s\", \"machine\": \"%s\", \"version\": \"%s\"}\n",
                     s->name, s->m, s->n, s->k, rate, peak, rate / peak, openblas_get_corename(),
                     machine, WEIR_VERSION);
    }
    return EXIT_SUCCESS;
}
