/* Work over the rows of a T x width matrix, by all threads (worker/parallel.h). How rows and
 * columns are cut does not depend on the number of threads. */
#ifndef WEIR_WORKER_ROWS_H
#define WEIR_WORKER_ROWS_H

#include "common/real.h"
#include "worker/kernels.h"

#include <stdbool.h>
#include <stddef.h>

/* Work on rows [first, end) that touches no others. */
typedef void (*weir_rows_work_t)(void *argument, size_t first, size_t end);

/* Over rows 0 .. rows - 1, in blocks of a fixed number. */
void weir_rows_run(size_t rows, weir_rows_work_t work, void *argument);

/* to (rows x columns) = left^T right, or added to: sums over T, in panels of columns, whose width
 * depends on `columns`, the level and the number type alone. */
typedef struct {
    const weir_kernels_t *kernels;
    bool bf16; /* operands rounded (worker/bf16.h) */
    size_t tokens, rows, columns;
    const weir_real_t *left, *right; /* T x rows, T x columns */
    bool add;
    weir_real_t *to;
    size_t panel; /* set by weir_rows_sum */
} weir_rows_sum_t;
void weir_rows_sum(weir_rows_sum_t *sum);

/* sums[c] += the sum of column c, in blocks of rows, which bounds its rounding; on this thread.
 * Rows of `width` numbers are `row` apart. `block`: room for `width`. */
void weir_rows_add_columns(const weir_real_t *values, size_t rows, size_t row, size_t width,
                           weir_real_t *block, weir_real_t *sums);

#endif
