/* What fraction of the best large product do the projections of HSTU reach at their shapes: by
 * OpenBLAS, as the encoder computes them (worker/product.h), and in bfloat16?
 *
 *   bench_gemm [SHAPE]    all shapes, or the one of this number, from 0
 *
 * The best is that of large square products, measured in the same run: in float32 of any of
 * OpenBLAS's sets of kernels, in bfloat16 of our own. Three JSON lines a shape; each is first
 * verified against plain loops. OPENBLAS_CORETYPE chooses OpenBLAS's kernels. */
#include "bench/measure.h"
#include "common/version.h"
#include "worker/bf16.h"
#include "worker/product.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { PLAIN, TURNED_B, TURNED_A } form_t;

typedef struct {
    const char *name;
    form_t form; /* which operand is stored the other way round */
    size_t m, n, k;
} shape_t;

/* T = 7,000 tokens, about 64 users of ML-1M; T = 4,096, one long user of width 512. Projections
 * come in blocks of 512 tokens, as the encoder cuts them. */
static const shape_t shapes[] = {
    {"ml-1m uvqk", PLAIN, 512, 200, 50},
    {"ml-1m output", PLAIN, 512, 50, 50},
    {"ml-1m d_normalised", TURNED_B, 512, 50, 200},
    {"ml-1m d_gated", TURNED_B, 512, 50, 50},
    {"ml-1m d_uvqk", TURNED_A, 50, 200, 7000},
    {"ml-1m d_output", TURNED_A, 50, 50, 7000},
    {"256 uvqk", PLAIN, 512, 1024, 256},
    {"256 output", PLAIN, 512, 256, 256},
    {"256 d_normalised", TURNED_B, 512, 256, 1024},
    {"256 d_uvqk", TURNED_A, 256, 1024, 7000},
    {"512 uvqk", PLAIN, 512, 2048, 512},
    {"512 output", PLAIN, 512, 512, 512},
    {"512 d_normalised", TURNED_B, 512, 512, 2048},
    {"512 d_uvqk", TURNED_A, 512, 256, 4096},
};

static weir_product_t product_of(const shape_t *shape) {
    return (weir_product_t){
        .form_a = shape->form == TURNED_A ? WEIR_BLAS_TRANSPOSED : WEIR_BLAS_PLAIN,
        .form_b = shape->form == TURNED_B ? WEIR_BLAS_TRANSPOSED : WEIR_BLAS_PLAIN,
        .m = shape->m,
        .n = shape->n,
        .k = shape->k};
}

static void stop(const char *what, size_t i, size_t j) {
    (void)fprintf(stderr, "bench_gemm: not verified: %s at (%zu, %zu)\n", what, i, j);
    exit(EXIT_FAILURE);
}

/* Every shape, at no more than 300 deep and 100 rows, against plain loops in float64. */
static void verify(const shape_t *shape, bool bf16) {
    const weir_kernels_t *kernels = NULL;
    weir_product_t p = product_of(shape);
    p.m = p.m < 100 ? p.m : 100;
    p.k = p.k < 300 ? p.k : 300;
    weir_real_t *a = weir_measure_numbers(p.m * p.k, 1.0, 1);
    weir_real_t *b = weir_measure_numbers(p.k * p.n, 1.0, 2);
    bool turned_a = p.form_a == WEIR_BLAS_TRANSPOSED, turned_b = p.form_b == WEIR_BLAS_TRANSPOSED;
    p.c = weir_measure_allocate(p.m * p.n, sizeof *p.c);
    p.a = a;
    p.b = b;
    p.lda = turned_a ? p.m : p.k;
    p.ldb = turned_b ? p.k : p.n;
    p.ldc = p.n;
    if (weir_kernels_select(&kernels, NULL) != WEIR_OK) {
        stop("no kernels", 0, 0);
    }
    weir_product_run(kernels, bf16, &p);
    for (size_t i = 0; i < p.m; i++) {
        for (size_t j = 0; j < p.n; j++) {
            double sum = 0.0;
            for (size_t k = 0; k < p.k; k++) {
                weir_real_t x = turned_a ? a[k * p.m + i] : a[i * p.k + k];
                weir_real_t y = turned_b ? b[j * p.k + k] : b[k * p.n + j];
                sum += bf16 ? (double)weir_bf16_round(x) * (double)weir_bf16_round(y)
                            : (double)x * (double)y;
            }
            if (!(fabs(sum - (double)p.c[i * p.n + j]) < 1e-3)) {
                stop(shape->name, i, j);
            }
        }
    }
    free(a);
    free(b);
    free(p.c);
}

typedef struct {
    double blas, bf16; /* GFLOP/s of the best large product */
    char machine[WEIR_MEASURE_MACHINE];
} limits_t;

static void print_row(const shape_t *s, const char *by, const char *compute, double rate,
                      double peak, const limits_t *limits) {
    (void)printf("{\"bench\": \"gemm\", \"shape\": \"%s\", \"m\": %zu, \"n\": %zu, \"k\": %zu, "
                 "\"by\": \"%s\", \"compute\": \"%s\", \"gflops\": %.1f, \"peak_gflops\": %.1f, "
                 "\"fraction\": %.3f, \"openblas_core\": \"%s\", \"machine\": \"%s\", "
                 "\"version\": \"%s\"}\n",
                 s->name, s->m, s->n, s->k, by, compute, rate, peak, rate / peak,
                 openblas_get_corename(), limits->machine, WEIR_VERSION);
    (void)fflush(stdout);
}

static void measure(const shape_t *s, const limits_t *limits) {
    const weir_product_t product = product_of(s);
    verify(s, false);
    print_row(s, "openblas", "float32", weir_measure_blas(&product, 0.2), limits->blas, limits);
    print_row(s, "weir", "float32", weir_measure_product(&product, false, 0.2), limits->blas,
              limits);
    if (limits->bf16 > 0.0) {
        verify(s, true);
        print_row(s, "weir", "bf16", weir_measure_product(&product, true, 0.2), limits->bf16,
                  limits);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], WEIR_MEASURE_PEAK) == 0) {
        weir_measure_print_peak();
        return EXIT_SUCCESS;
    }
    limits_t limits;
    weir_measure_machine(limits.machine);
    limits.blas = weir_measure_best_peak(argv[0]);
    limits.bf16 = weir_measure_bf16_peak();
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (argc < 2 || strtoul(argv[1], NULL, 10) == i) {
            measure(&shapes[i], &limits);
        }
    }
    return EXIT_SUCCESS;
}
