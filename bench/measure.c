#include "bench/measure.h"

#include "common/rng.h"
#include "worker/bf16.h"
#include "worker/blas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_REPEATS = 2000, MIN_REPEATS = 5 };

void *weir_measure_allocate(size_t count, size_t size) {
    void *memory = aligned_alloc(64, (count * size + 64) / 64 * 64);
    if (memory == NULL) {
        (void)fprintf(stderr, "bench: out of memory\n");
        exit(EXIT_FAILURE);
    }
    memset(memory, 0, count * size);
    return memory;
}

weir_real_t *weir_measure_numbers(size_t count, double scale, unsigned stream) {
    weir_real_t *numbers = weir_measure_allocate(count, sizeof *numbers);
    weir_rng_key_t key = weir_rng_key(1, WEIR_STREAM_TEST);
    for (size_t i = 0; i < count; i++) {
        uint32_t word = weir_philox(key, (uint32_t)i, (uint32_t)(i >> 32), stream, 0).word[0];
        numbers[i] = (weir_real_t)(scale * (2.0 * weir_uniform01(word) - 1.0));
    }
    return numbers;
}

static int compare_seconds(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double processor_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double weir_measure_seconds(void (*work)(void *argument), void *argument, double budget) {
    static double samples[MAX_REPEATS];
    size_t count = 0;
    work(argument);
    double begin = processor_seconds(), now = begin;
    while (count < MAX_REPEATS && (count < MIN_REPEATS || now - begin < budget)) {
        double before = now;
        work(argument);
        now = processor_seconds();
        samples[count++] = now - before;
    }
    qsort(samples, count, sizeof *samples, compare_seconds);
    return samples[count / 2];
}

typedef struct {
    size_t m, n, k;
    weir_real_t *a, *b, *c;
} product_t;

static void run_product(void *argument) {
    product_t *p = argument;
    weir_blas_gemm(WEIR_BLAS_PLAIN, WEIR_BLAS_PLAIN, p->m, p->n, p->k, 1, p->a, p->k, p->b, p->n, 0,
                   p->c, p->n);
}

double weir_measure_gemm(size_t m, size_t n, size_t k, double budget) {
    openblas_set_num_threads(1); /* the rate of one core, whatever the environment says */
    product_t p = {m,
                   n,
                   k,
                   weir_measure_numbers(m * k, 1.0, 1),
                   weir_measure_numbers(k * n, 1.0, 2),
                   weir_measure_allocate(m * n, sizeof(weir_real_t))};
    double seconds = weir_measure_seconds(run_product, &p, budget);
    free(p.a);
    free(p.b);
    free(p.c);
    return 2e-9 * (double)m * (double)n * (double)k / seconds;
}

typedef struct {
    const weir_kernels_t *kernels;
    weir_product_t product;
    bool bf16;
} own_product_t;

static void run_own_product(void *argument) {
    own_product_t *own = argument;
    weir_product_run(own->kernels, own->bf16, &own->product);
}

static void run_blas_product(void *argument) {
    const weir_product_t *p = &((own_product_t *)argument)->product;
    weir_blas_gemm(p->form_a, p->form_b, p->m, p->n, p->k, 1, p->a, p->lda, p->b, p->ldb, 0, p->c,
                   p->ldc);
}

static const weir_kernels_t *kernels_here(void) {
    const weir_kernels_t *kernels = NULL;
    weir_error_t error = {0};
    if (weir_kernels_select(&kernels, &error) != WEIR_OK) {
        (void)fprintf(stderr, "bench: %s\n", error.message);
        exit(EXIT_FAILURE);
    }
    return kernels;
}

static double measure_form(const weir_product_t *shape, bool bf16, void (*work)(void *argument),
                           double budget) {
    openblas_set_num_threads(1);
    size_t m = shape->m, n = shape->n, k = shape->k;
    weir_real_t *a = weir_measure_numbers(m * k, 1.0, 1), *b = weir_measure_numbers(k * n, 1.0, 2);
    weir_real_t *c = weir_measure_allocate(m * n, sizeof *c);
    own_product_t own = {.kernels = kernels_here(), .product = *shape, .bf16 = bf16};
    own.product.a = a;
    own.product.lda = shape->form_a == WEIR_BLAS_TRANSPOSED ? m : k;
    own.product.b = b;
    own.product.ldb = shape->form_b == WEIR_BLAS_TRANSPOSED ? k : n;
    own.product.c = c;
    own.product.ldc = n;
    double seconds = weir_measure_seconds(work, &own, budget);
    free(a);
    free(b);
    free(c);
    return 2e-9 * (double)m * (double)n * (double)k / seconds;
}

double weir_measure_product(const weir_product_t *shape, bool bf16, double budget) {
    return measure_form(shape, bf16, run_own_product, budget);
}

double weir_measure_blas(const weir_product_t *shape, double budget) {
    return measure_form(shape, false, run_blas_product, budget);
}

double weir_measure_bf16_peak(void) {
    double peak = 0.0;
    if (weir_bf16_kernels(kernels_here()) == NULL) {
        return 0.0;
    }
    for (size_t size = 512; size <= 2048; size *= 2) {
        const weir_product_t square = {.m = size, .n = size, .k = size};
        double rate = weir_measure_product(&square, true, 0.3);
        peak = rate > peak ? rate : peak;
    }
    return peak;
}

double weir_measure_gemm_peak(void) {
    double peak = 0.0;
    for (size_t size = 256; size <= 1024; size *= 2) {
        double rate = weir_measure_gemm(size, size, size, 0.3);
        peak = rate > peak ? rate : peak;
    }
    return peak;
}

void weir_measure_print_peak(void) {
    (void)printf("%.1f\n", weir_measure_gemm_peak());
}

double weir_measure_best_peak(const char *program) {
    static const char *const cores[] = {"Haswell", "Zen", "SkylakeX", "Cooperlake"};
    double best = weir_measure_gemm_peak();
    for (size_t i = 0; i < sizeof cores / sizeof cores[0]; i++) {
        char command[4200];
        double peak = 0.0;
        (void)snprintf(command, sizeof command, "OPENBLAS_CORETYPE=%s '%s' %s 2>/dev/null",
                       cores[i], program, WEIR_MEASURE_PEAK);
        FILE *answer = popen(command, "r");
        if (answer == NULL) {
            continue;
        }
        if (fscanf(answer, "%lf", &peak) != 1) {
            peak = 0.0; /* kernels that this processor does not have */
        }
        (void)pclose(answer);
        best = peak > best ? peak : best;
    }
    return best;
}

void weir_measure_machine(char name[WEIR_MEASURE_MACHINE]) {
    char line[256];
    (void)snprintf(name, WEIR_MEASURE_MACHINE, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            (void)snprintf(name, WEIR_MEASURE_MACHINE, "%s", colon + 1 + (colon[1] == ' '));
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    for (char *c = name; *c != '\0'; c++) {
        if (*c == '\n') {
            *c = '\0';
            break;
        }
        *c = *c < ' ' || *c == '"' || *c == '\\' ? ' ' : *c;
    }
}
