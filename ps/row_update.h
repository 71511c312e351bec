/* One optimiser step on one row: all its segments, from their precision to float32 and back. */
#ifndef WEIR_PS_ROW_UPDATE_H
#define WEIR_PS_ROW_UPDATE_H

#include "ps/row.h"

typedef struct {
    const weir_row_schema_t *schema; /* not owned */
    const weir_row_layout_t *layout; /* not owned */
    weir_optimizer_t optimizers[WEIR_ROW_MAX_SEGMENTS];
    float *scratch; /* layout->dim floats, owned */
} weir_row_update_t;

/* Errors: an optimiser's numbers, out of memory. */
WEIR_MUST_USE weir_err_t weir_row_update_init(weir_row_update_t *update,
                                              const weir_row_schema_t *schema,
                                              const weir_row_layout_t *layout, weir_error_t *error);
/* A zeroed one is fine. */
void weir_row_update_fini(weir_row_update_t *update);

/* Set what depends on the step. */
void weir_row_update_begin_step(weir_row_update_t *update, uint64_t step);

/* Whether all of a gradient (dim floats) is finite. */
bool weir_row_update_is_finite(const weir_row_update_t *update, const float *gradient);

/* Apply the row's `count`-th update (1 is the first), of `step`, with a finite gradient, to its
 * value and the rest of its record (in one piece: rest = record + layout->value_bytes). Rounding
 * is stochastic by (seed, table, segment, key, step) where the schema does not say plain. */
void weir_row_update_apply(weir_row_update_t *update, uint64_t key, void *value, void *rest,
                           const float *gradient, uint64_t count, uint64_t step);

/* Memory held. */
size_t weir_row_update_bytes(const weir_row_update_t *update);

#endif
