/* The record of a table row: one schema drives memory, wire and disk.
 *
 * A row is [value D | optimiser state | last step | count]. The optimiser fixes the state:
 *   sgd none; adagrad s[D]; rowwise_adagrad s[1]; adamw m[D] v[D]; rowwise_adamw m[D] v[1]. */
#ifndef WEIR_PS_ROW_H
#define WEIR_PS_ROW_H

#include "common/config.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    char name[32];     /* of the table: "item" */
    uint32_t table_id; /* position in the model's list of tables; part of the birth counter */
    uint32_t dim;      /* D, float32 */
    weir_optimizer_kind_t optimizer;
    double learning_rate;
    double beta1;
    double beta2;
    double epsilon;
    double weight_decay;  /* decoupled */
    double initial_sigma; /* birth: normal truncated at two sigma */
    uint64_t seed;        /* birth: value = f(seed, table_id, key) */
} weir_table_schema_t;

/* One named run of floats inside a row record. */
typedef struct {
    const char *name; /* "value", "m", "v", "s" */
    uint32_t offset;  /* floats from the start of the record */
    uint32_t width;   /* floats */
} weir_row_field_t;

enum { WEIR_ROW_MAX_FIELDS = 3 };

typedef struct {
    weir_row_field_t fields[WEIR_ROW_MAX_FIELDS]; /* fields[0] is the value */
    uint32_t field_count;
    uint32_t floats; /* of the record, before last step and count */
} weir_row_layout_t;

weir_row_layout_t weir_row_layout(const weir_table_schema_t *schema);

/* The value a row is born with: a pure function of (seed, table_id, key). dim floats. */
void weir_row_birth(const weir_table_schema_t *schema, uint64_t key, float *value);

#endif
