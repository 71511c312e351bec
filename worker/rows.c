#include "worker/rows.h"

#include "worker/parallel.h"
#include "worker/product.h"

#include <stdint.h>
#include <string.h>

enum { BLOCK_ROWS = 512 };
enum { SUM_BLOCK = 64 };                                    /* rows summed before they are added */
enum { PANELS = 8, PANEL_UNIT = 32, PANEL_UNIT_OWN = 128 }; /* OWN: of our own products */

typedef struct {
    size_t rows;
    weir_rows_work_t work;
    void *argument;
} row_blocks_t;

static void run_block(void *argument, size_t task, uint32_t thread) {
    const row_blocks_t *blocks = argument;
    size_t first = task * BLOCK_ROWS;
    (void)thread;
    blocks->work(blocks->argument, first,
                 blocks->rows - first < BLOCK_ROWS ? blocks->rows : first + BLOCK_ROWS);
}

void weir_rows_run(size_t rows, weir_rows_work_t work, void *argument) {
    row_blocks_t blocks = {rows, work, argument};
    weir_parallel_run((rows + BLOCK_ROWS - 1) / BLOCK_ROWS, run_block, &blocks);
}

static void run_panel(void *argument, size_t task, uint32_t thread) {
    const weir_rows_sum_t *sum = argument;
    size_t first = task * sum->panel;
    size_t columns = sum->columns - first < sum->panel ? sum->columns - first : sum->panel;
    (void)thread;
    const weir_product_t product = {.form_a = WEIR_BLAS_TRANSPOSED,
                                    .m = sum->rows,
                                    .n = columns,
                                    .k = sum->tokens,
                                    .a = sum->left,
                                    .lda = sum->rows,
                                    .b = sum->right + first,
                                    .ldb = sum->columns,
                                    .add = sum->add,
                                    .c = sum->to + first,
                                    .ldc = sum->columns};
    weir_product_run(sum->kernels, sum->bf16, &product);
}

void weir_rows_sum(weir_rows_sum_t *sum) {
    bool own = sum->bf16 || sum->kernels->product != NULL;
    size_t unit = own ? PANEL_UNIT_OWN : PANEL_UNIT;
    size_t panel = (sum->columns + PANELS - 1) / PANELS;
    sum->panel = (panel + unit - 1) / unit * unit;
    weir_parallel_run((sum->columns + sum->panel - 1) / sum->panel, run_panel, sum);
}

void weir_rows_add_columns(const weir_real_t *values, size_t rows, size_t row, size_t width,
                           weir_real_t *block, weir_real_t *sums) {
    for (size_t first = 0; first < rows; first += SUM_BLOCK) {
        size_t end = rows - first < SUM_BLOCK ? rows : first + SUM_BLOCK;
        memset(block, 0, width * sizeof *block);
        for (size_t t = first; t < end; t++) {
            for (size_t c = 0; c < width; c++) {
                block[c] += values[t * row + c];
            }
        }
        for (size_t c = 0; c < width; c++) {
            sums[c] += block[c];
        }
    }
}
