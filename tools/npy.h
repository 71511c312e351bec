/* NumPy's .npy files: arrays of one type, little-endian, in row-major order
 * (numpy.org/doc/stable/reference/generated/numpy.lib.format.html). */
#ifndef WEIR_TOOLS_NPY_H
#define WEIR_TOOLS_NPY_H

#include "common/error.h"
#include "common/tensor_file.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { WEIR_NPY_RANK = 2, WEIR_NPY_HEADER = 128 };

typedef struct {
    weir_dtype_t dtype; /* F32, F64, U64, I64 */
    uint32_t rank;      /* 1 or 2 */
    uint64_t shape[WEIR_NPY_RANK];
    const void *values; /* mapped; aligned to its elements */
    void *map;          /* owned */
    size_t map_size;
} weir_npy_t;

/* Map an array. Hostile files are refused: CORRUPT; other types, ranks or orders: UNSUPPORTED.
 * Ownership: the caller closes. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_npy_open(const char *path, weir_npy_t *array, weir_error_t *error);
void weir_npy_close(weir_npy_t *array); /* accepts zeros */

/* The header of an array, WEIR_NPY_HEADER bytes whatever its shape, so that it can be written when
 * the number of rows is known. `width` 0: of rank 1. Call: local. */
void weir_npy_header(weir_dtype_t dtype, uint64_t rows, uint64_t width,
                     char header[WEIR_NPY_HEADER]);

#endif
