/* How the values of a row are kept: float32, or in 16 or 8 bits.
 *
 * The *value* is what a row stores for its columns, and also their form on the wire. *Hidden* bytes
 * lie beside it and are never sent. Low precision loses small updates when they are rounded to the
 * nearest number; *stochastic* rounding goes up or down with probabilities that make the result
 * right on average, so that small updates add up.
 *
 *   float32     4 dim bytes, the floats
 *   bf16        2 dim bytes, the upper half of a float. A finite number stays finite: it saturates
 *               at the largest bf16
 *   fp16        2 dim bytes, IEEE binary16 with subnormals; saturates at +-65,504
 *   int8        a float scale, dim signed bytes, zeros up to a multiple of 4. A value is byte x
 *               scale; scale = largest magnitude / 127, rounded up, 0 for a row of zeros
 *   split_bf16  2 dim bytes, the upper halves of the floats (cut, not rounded). Hidden: the lower
 *               halves, zeros up to a multiple of 4. Nothing is lost at the server
 *
 * bf16 and fp16 keep an infinity, and a NaN as a NaN. int8 wants finite values; a row with others
 * reads back as anything. The odds of stochastic rounding are exact for bf16 and for normal fp16,
 * within 2^-31 for subnormal fp16 and int8.
 *
 * Pointers to values and hidden bytes need an alignment of 4, strides are multiples of 4, and
 * nothing overlaps. Results are the same to the bit on every CPU. All calls: local. Threads: any.
 * They cannot fail. */
#ifndef WEIR_PS_PRECISION_H
#define WEIR_PS_PRECISION_H

#include "common/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the value of `dim` columns. */
size_t weir_precision_value_bytes(weir_precision_t precision, uint32_t dim);

/* Bytes of the hidden part; 0 for all but split_bf16. */
size_t weir_precision_hidden_bytes(weir_precision_t precision, uint32_t dim);

/* The values of `count` rows, `stride` bytes apart in `wire`, to floats: row r to values[r *
 * out_stride ..] + dim. Hot: one pass. */
void weir_precision_decode(weir_precision_t precision, const void *wire, size_t stride,
                           size_t count, uint32_t dim, float *values, size_t out_stride);

/* One stored row to `dim` floats with all its bits: split_bf16 joins the halves. `hidden` is not
 * read, and may be NULL, where there is none. Hot. */
void weir_precision_load(weir_precision_t precision, const void *value, const void *hidden,
                         uint32_t dim, float *values);

/* `dim` floats to one stored row, padding included. `seed` NULL: to nearest, ties to even; else
 * stochastic, with random bits that are a pure function of *seed and the column; *seed is itself 64
 * random bits, as weir_precision_seed makes them. float32 and split_bf16 have nothing to round.
 * Hot. */
void weir_precision_store(weir_precision_t precision, const float *values, uint32_t dim,
                          const uint64_t *seed, void *value, void *hidden);

/* The seed of one update of one row's segment: a pure function of its arguments. Cost: one Philox
 * (common/rng.h), where (table_id, segment) alter the key of stream WEIR_STREAM_ROUND and (key,
 * step) are the counter, so that under one `seed` no two updates share their random bits. */
uint64_t weir_precision_seed(uint64_t seed, uint32_t table_id, uint32_t segment, uint64_t key,
                             uint64_t step);

/* "float32", "bf16", "fp16", "int8", "split_bf16"; "unknown" for a value that is none. */
const char *weir_precision_name(weir_precision_t precision);

/* For tests and benches: use vectors of 128, 256 or 512 bits in this process; 0: the widest this
 * CPU has, as at the start. False, and nothing changes, where the CPU lacks them. */
bool weir_precision_set_width(uint32_t bits);

#endif
