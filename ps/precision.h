#ifndef WEIR_PS_PRECISION_H
#define WEIR_PS_PRECISION_H
#include "common/config.h"
#include <stddef.h>
#include <stdint.h>
size_t weir_precision_value_bytes(weir_precision_t precision, uint32_t dim);
size_t weir_precision_hidden_bytes(weir_precision_t precision, uint32_t dim);
void weir_precision_decode(weir_precision_t precision, const void *wire, size_t stride,
                           size_t count, uint32_t dim, float *values, size_t out_stride);
void weir_precision_load(weir_precision_t precision, const void *value, const void *hidden,
                         uint32_t dim, float *values);
void weir_precision_store(weir_precision_t precision, const float *values, uint32_t dim,
                          const uint64_t *seed, void *value, void *hidden);
uint64_t weir_precision_seed(uint64_t seed, uint32_t table_id, uint32_t segment, uint64_t key,
                             uint64_t step);
const char *weir_precision_name(weir_precision_t precision);
#endif
