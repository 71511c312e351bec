/* The record of a table row: one schema drives memory, wire and disk.
 *
 * A row has one to four *segments*, each with its own width, initialiser, optimiser and precision
 * (a wide embedding and a one-column bias, say). Its record is
 *
 *   [values of all segments | hidden and state of segment 0 | of segment 1 | ..]
 *
 * where a segment's value is in its precision's form (ps/precision.h), its hidden part is the low
 * halves of split_bf16, and its state is what its optimiser keeps (ps/optimizer.h), in float32. The
 * values, value_bytes in all, are what a pull answers, byte for byte. Beside the record a row has
 * the step of its last use and its number of updates. */
#ifndef WEIR_PS_ROW_H
#define WEIR_PS_ROW_H

#include "common/config.h"
#include "common/tensor_file.h"
#include "ps/optimizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIR_ROW_MAX_SEGMENTS = 4, WEIR_ROW_MAX_DIM = 65536, WEIR_ROW_MAX_FIELDS = 24 };

typedef struct {
    char name[16];              /* prefix of its fields on disk: "bias"; "" where there is one */
    uint32_t dim;               /* D: columns */
    weir_precision_t precision; /* of the value */
    bool plain_rounding;        /* to nearest instead of stochastic: for tests and comparisons */
    weir_initializer_t initializer;
    double initial_scale; /* truncated_normal: sigma; uniform: half the width; constant: the value
                           */
    weir_optimizer_settings_t optimizer;
} weir_segment_t;

typedef struct {
    char name[32];     /* of the table: "item" */
    uint32_t table_id; /* position in the model's list of tables; part of every random counter */
    uint64_t seed;     /* birth: value = f(seed, table_id, key) */
    uint32_t segment_count;
    weir_segment_t segments[WEIR_ROW_MAX_SEGMENTS];
} weir_row_schema_t;

/* One named run of elements inside a record, as it is on disk. */
typedef struct {
    char name[32];      /* "value", "m", "bias.value", .. */
    weir_dtype_t dtype; /* of its elements */
    uint32_t offset;    /* bytes from the start of the record */
    uint32_t width;     /* elements */
} weir_row_field_t;

typedef struct {
    uint32_t column;               /* of a decoded row and of its gradient */
    uint32_t value, hidden, state; /* bytes from the start of the record */
} weir_row_part_t;

typedef struct {
    uint32_t dim;          /* columns of all segments */
    uint32_t value_bytes;  /* the record's beginning, and a row on the wire; a multiple of 4 */
    uint32_t record_bytes; /* a multiple of 4 */
    uint32_t field_count;
    weir_row_part_t parts[WEIR_ROW_MAX_SEGMENTS];
    weir_row_field_t fields[WEIR_ROW_MAX_FIELDS];
} weir_row_layout_t;

/* Checks dimensions, initialisers and names; the optimisers' numbers are checked by
 * weir_optimizer_init. */
WEIR_MUST_USE weir_err_t weir_row_schema_check(const weir_row_schema_t *schema,
                                               weir_error_t *error);

/* Of a checked schema. */
weir_row_layout_t weir_row_layout(const weir_row_schema_t *schema);

/* A new row: the value is a pure function of (seed, table_id, key), rounded to nearest. Writes
 * value_bytes to `value` and the record's rest to `rest`, or the value alone. `scratch`: 2
 * layout->dim floats. */
void weir_row_birth(const weir_row_schema_t *schema, const weir_row_layout_t *layout, uint64_t key,
                    void *value, void *rest, float *scratch);
void weir_row_birth_value(const weir_row_schema_t *schema, const weir_row_layout_t *layout,
                          uint64_t key, void *value, float *scratch);

/* Rows as they come over the wire (count x value_bytes, one after the other) to floats (count x
 * dim). */
void weir_row_decode(const weir_row_schema_t *schema, const weir_row_layout_t *layout,
                     const void *wire, size_t count, float *values);

#endif
