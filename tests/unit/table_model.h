/* What ps/table.h promises, written as plainly as can be: an array of rows, each with a copy of its
 * record, and loops over all of them. It shares with the table only what has tests of its own: the
 * birth of a row, its update, and the draw of admission by chance. */
#ifndef WEIR_TESTS_TABLE_MODEL_H
#define WEIR_TESTS_TABLE_MODEL_H

#include "ps/row_update.h"
#include "ps/table.h"

#include <stdbool.h>

enum { MODEL_RECORD = 512 };

typedef struct {
    weir_key_t key;
    uint64_t hash;
    bool there; /* it has a row, in memory or cold; perhaps an expired one */
    bool cold;
    char record[MODEL_RECORD];
    uint64_t last_step, count;
    uint32_t seen;      /* steps that saw it without a row; admission by frequency */
    uint64_t seen_step; /* the last one */
} model_row_t;

typedef struct {
    weir_table_options_t options;
    weir_row_layout_t layout;
    weir_row_update_t update;
    weir_admission_t *chance;
    model_row_t *rows; /* by number, the universe */
    size_t universe;
    uint64_t budget;           /* rows */
    bool *due, *touched;       /* by cell, which is a slot here */
    uint32_t *held;            /* by cell: rows in memory */
    uint32_t *first, *members; /* numbers of the rows of each cell: first[c] .. first[c + 1] */
    uint32_t sweep;
    uint64_t evicted;
} model_t;

void model_create(model_t *model, const weir_table_options_t *options, const weir_key_t *keys,
                  size_t universe);
void model_destroy(model_t *model);

/* The row of key number `number` as a pull of `step` finds it; NULL: it is not admitted. */
model_row_t *model_pull(model_t *model, size_t number, uint64_t step);
/* Its value (layout.value_bytes) at `step`, for a peek. */
void model_peek(model_t *model, size_t number, uint64_t step, void *value);
/* One update of a row. */
void model_apply(model_t *model, model_row_t *row, const float *gradient, uint64_t step);
void model_end_step(model_t *model, uint64_t step);

/* Rows that live at `step`, in the order of their hashes; the caller frees the array. */
const model_row_t **model_scan(const model_t *model, uint64_t step, size_t *count);
/* Rows in memory, expired ones included. */
uint64_t model_rows(const model_t *model);

#endif
