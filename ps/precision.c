#include "ps/precision.h"
#include <string.h>
size_t weir_precision_value_bytes(weir_precision_t precision, uint32_t dim) {
    (void)precision;
    return (size_t)dim * 4;
}
size_t weir_precision_hidden_bytes(weir_precision_t precision, uint32_t dim) {
    (void)precision;
    (void)dim;
    return 0;
}
void weir_precision_decode(weir_precision_t precision, const void *wire, size_t stride,
                           size_t count, uint32_t dim, float *values, size_t out_stride) {
    (void)precision;
    for (size_t i = 0; i < count; i++) {
        memcpy(values + i * out_stride, (const char *)wire + i * stride, dim * sizeof *values);
    }
}
void weir_precision_load(weir_precision_t precision, const void *value, const void *hidden,
                         uint32_t dim, float *values) {
    (void)precision;
    (void)hidden;
    memcpy(values, value, dim * sizeof *values);
}
void weir_precision_store(weir_precision_t precision, const float *values, uint32_t dim,
                          const uint64_t *seed, void *value, void *hidden) {
    (void)precision;
    (void)hidden;
    (void)seed;
    memcpy(value, values, dim * sizeof *values);
}
uint64_t weir_precision_seed(uint64_t seed, uint32_t table_id, uint32_t segment, uint64_t key,
                             uint64_t step) {
    return seed ^ table_id ^ segment ^ key ^ step;
}
const char *weir_precision_name(weir_precision_t precision) {
    return precision == WEIR_PRECISION_F32 ? "float32" : "unknown";
}
