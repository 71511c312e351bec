/* Rows of a table as a file for other programs. It appears under its name when it is whole.
 *
 *   safetensors  keys, last_step, count U64 [n]; value F32 [n, D]; with state every other column
 *                under its name and in its type; block_checksums (common/tensor_blocks.h)
 *   npy          PATH.keys.npy u8 [n], PATH.values.npy f4 [n, D]
 *   csv          a header, then key,last_step,count,v0,v1,..; floats in digits that give their bits
 *                back */
#ifndef WEIR_TOOLS_EXPORT_H
#define WEIR_TOOLS_EXPORT_H

#include "common/error.h"
#include "reader/reader.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum { WEIR_EXPORT_SAFETENSORS, WEIR_EXPORT_NPY, WEIR_EXPORT_CSV } weir_export_format_t;

typedef struct weir_export weir_export_t;

/* Begin a file of exactly `rows` rows; `table` must outlive it. Ownership: the caller destroys. */
WEIR_MUST_USE weir_err_t weir_export_create(const char *path, weir_export_format_t format,
                                            const weir_reader_table_t *table, bool state,
                                            uint64_t rows, uint64_t step, weir_export_t **out,
                                            weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_export_row(weir_export_t *out, const weir_reader_row_t *row,
                                         const float *values, weir_error_t *error);
/* All rows must have come. */
WEIR_MUST_USE weir_err_t weir_export_commit(weir_export_t *out, weir_error_t *error);
/* Without a commit before it, nothing is left. Accepts NULL. */
void weir_export_destroy(weir_export_t *out);

#endif
