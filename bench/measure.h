/* What the benches share: the median of repeats, and the rate of the best matrix product that the
 * library at hand gives, as the limit that a kernel is held against. */
#ifndef WEIR_BENCH_MEASURE_H
#define WEIR_BENCH_MEASURE_H

#include "common/real.h"
#include "worker/product.h"

#include <stddef.h>

enum { WEIR_MEASURE_MACHINE = 96 };

/* Zeroed memory of `count` elements; ends the program when there is none. */
void *weir_measure_allocate(size_t count, size_t size);

/* Numbers uniform in (-scale, scale), a pure function of `stream`. */
weir_real_t *weir_measure_numbers(size_t count, double scale, unsigned stream);

/* Median seconds of one call of `work`: one call to warm up, then repeats for about `budget`
 * seconds, at least five. */
double weir_measure_seconds(void (*work)(void *argument), void *argument, double budget);

/* GFLOP/s of C (m x n) = A (m x k) B (k x n) by OpenBLAS. */
double weir_measure_gemm(size_t m, size_t n, size_t k, double budget);

/* The best of square products of 256 to 1,024. */
double weir_measure_gemm_peak(void);

/* GFLOP/s of a product of the model's (worker/product.h): of `shape` the forms and sizes are read.
 */
double weir_measure_product(const weir_product_t *shape, bool bf16, double budget);
/* The same by OpenBLAS. */
double weir_measure_blas(const weir_product_t *shape, double budget);

/* The best of large products in bfloat16, of 512 to 2,048. 0: this processor has none. */
double weir_measure_bf16_peak(void);

/* The best of weir_measure_gemm_peak over OpenBLAS's sets of kernels, whichever this process runs
 * on: `program` is started again for each, OPENBLAS_CORETYPE naming it, with WEIR_MEASURE_PEAK as
 * its argument, upon which its main answers with weir_measure_print_peak. */
#define WEIR_MEASURE_PEAK "--peak"
double weir_measure_best_peak(const char *program);
void weir_measure_print_peak(void);

/* The processor's name, without characters that JSON would need escaped. */
void weir_measure_machine(char name[WEIR_MEASURE_MACHINE]);

#endif
