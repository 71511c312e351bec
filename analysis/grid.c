#include "analysis/grid.h"

#include "analysis/scalapack.h"
#include "common/signals.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONTEXT = 1, /* place of the context in a descriptor */
    SUM_AT_ONCE = 1 << 20
};

static const double one = 1.0, zero = 0.0;

static int minimum(int a, int b) {
    return a < b ? a : b;
}

/* The largest divisor that is not above the square root. */
static int squarest(int ranks) {
    int rows = 1;
    for (int candidate = 2; candidate <= ranks / candidate; candidate++) {
        rows = ranks % candidate == 0 ? candidate : rows;
    }
    return rows;
}

weir_err_t weir_grid_init(int rows, int columns, weir_grid_t *grid, weir_error_t *error) {
    weir_grid_t made = {.single = -1};
    int system = 0, first = 0;
    Cblacs_pinfo(&made.rank, &made.ranks);
    if (rows == 0 && columns == 0) {
        rows = squarest(made.ranks);
        columns = made.ranks / rows;
    }
    if (rows < 1 || columns < 1 || rows > made.ranks || columns != made.ranks / rows ||
        made.ranks % rows != 0) {
        weir_err_t err =
            weir_errorf(error, WEIR_ERR_INVALID, "a grid of %d x %d is not one of %d processes",
                        rows, columns, made.ranks);
        weir_error_hint(error, "rows times columns must be the number of processes");
        return err;
    }
    Cblacs_get(-1, 0, &system);
    made.context = made.single = system;
    Cblacs_gridinit(&made.context, "Row-major", rows, columns);
    Cblacs_gridinfo(made.context, &made.rows, &made.columns, &made.row, &made.column);
    Cblacs_gridmap(&made.single, &first, 1, 1, 1); /* collective; -1 where rank 0 is not */
    if (made.rank != 0) {
        made.single = -1;
    }
    *grid = made;
    return WEIR_OK;
}

void weir_grid_fini(weir_grid_t *grid) {
    if (grid->ranks == 0) {
        return;
    }
    if (grid->single >= 0) {
        Cblacs_gridexit(grid->single);
    }
    Cblacs_gridexit(grid->context);
    Cblacs_exit(1); /* MPI goes on */
    *grid = (weir_grid_t){.single = -1};
}

void weir_grid_sum(const weir_grid_t *grid, weir_grid_scope_t scope, double *values, size_t count) {
    for (size_t done = 0; done < count; done += SUM_AT_ONCE) {
        int piece = (int)(count - done < SUM_AT_ONCE ? count - done : SUM_AT_ONCE);
        Cdgsum2d(grid->context, scope == WEIR_GRID_ALL ? "All" : "Row", " ", piece, 1,
                 values + done, piece, -1, -1);
    }
}

void weir_grid_send(const weir_grid_t *grid, int rank, const double *values, size_t count) {
    Cdgesd2d(grid->context, (int)count, 1, values, (int)count, rank / grid->columns,
             rank % grid->columns);
}

void weir_grid_receive(const weir_grid_t *grid, int rank, double *values, size_t count) {
    Cdgerv2d(grid->context, (int)count, 1, values, (int)count, rank / grid->columns,
             rank % grid->columns);
}

bool weir_grid_any(const weir_grid_t *grid, bool own) {
    double said = own ? 1.0 : 0.0;
    weir_grid_sum(grid, WEIR_GRID_ALL, &said, 1);
    return said > 0.0;
}

weir_err_t weir_grid_check_stop(const weir_grid_t *grid, weir_error_t *error) {
    if (weir_grid_any(grid, weir_signals_stop_requested() != 0)) {
        return weir_errorf(error, WEIR_ERR_STOPPED, "stopped on request; nothing was written");
    }
    return WEIR_OK;
}

/* ---- matrices ---- */

static size_t most_of(size_t n, size_t block, size_t processes) {
    size_t blocks = (n + block - 1) / block;
    size_t most = (blocks + processes - 1) / processes * block;
    return most < n ? most : n;
}

double weir_grid_matrix_bytes(const weir_grid_t *grid, size_t n, size_t block) {
    return 8.0 * (double)most_of(n, block, (size_t)grid->rows) *
           (double)most_of(n, block, (size_t)grid->columns);
}

weir_err_t weir_grid_matrix_init(const weir_grid_t *grid, size_t n, size_t block,
                                 weir_grid_matrix_t *matrix, weir_error_t *error) {
    static const int first = 0;
    int info = 0;
    if (n < 1 || n > INT_MAX || block < 1 || block > INT_MAX / 2 ||
        weir_grid_matrix_bytes(grid, n, block) / 8.0 > (double)INT_MAX) {
        weir_err_t err = weir_errorf(error, WEIR_ERR_UNSUPPORTED,
                                     "ScaLAPACK counts in 32 bits: a matrix of %zu rows on %d x %d "
                                     "processes is beyond that",
                                     n, grid->rows, grid->columns);
        weir_error_hint(error, "more processes have less of it each");
        return err;
    }
    weir_grid_matrix_t made = {.grid = grid, .n = (int)n, .block = (int)block};
    made.local_rows = numroc_(&made.n, &made.block, &grid->row, &first, &grid->rows);
    made.local_columns = numroc_(&made.n, &made.block, &grid->column, &first, &grid->columns);
    made.stride = made.local_rows > 0 ? made.local_rows : 1;
    descinit_(made.descriptor, &made.n, &made.n, &made.block, &made.block, &first, &first,
              &grid->context, &made.stride, &info);
    if (info != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID, "no matrix of %zu rows in blocks of %zu", n,
                           block);
    }
    made.values = calloc((size_t)made.stride * (size_t)made.local_columns + 1, sizeof(double));
    if (made.values == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %d x %d doubles", made.stride,
                           made.local_columns);
    }
    *matrix = made;
    return WEIR_OK;
}

void weir_grid_matrix_fini(weir_grid_matrix_t *matrix) {
    free(matrix->values);
    *matrix = (weir_grid_matrix_t){.values = NULL};
}

/* The diagonal block that begins at row `first`: one process has it whole. */
static void mirror_block(weir_grid_matrix_t *matrix, int first) {
    int row = weir_grid_local_row(matrix, first), column = weir_grid_local_column(matrix, first);
    int size = minimum(matrix->block, matrix->n - first);
    if (row < 0 || column < 0) {
        return;
    }
    for (int j = 0; j < size; j++) {
        for (int i = 0; i < j; i++) {
            *weir_grid_element(matrix, row + i, column + j) =
                *weir_grid_element(matrix, row + j, column + i);
        }
    }
}

void weir_grid_matrix_mirror(weir_grid_matrix_t *matrix) {
    for (int first = 0; first < matrix->n; first += matrix->block) {
        int size = minimum(matrix->block, matrix->n - first), rest = matrix->n - first - size;
        int row = first + 1, beyond = first + size + 1;
        mirror_block(matrix, first);
        if (rest > 0) { /* what lies under the block, beside it */
            pdtran_(&size, &rest, &one, matrix->values, &beyond, &row, matrix->descriptor, &zero,
                    matrix->values, &row, &beyond, matrix->descriptor);
        }
    }
}

void weir_grid_matrix_diagonal(const weir_grid_matrix_t *matrix, double *diagonal) {
    memset(diagonal, 0, (size_t)matrix->n * sizeof *diagonal);
    for (int column = 0; column < matrix->local_columns; column++) {
        int global = weir_grid_global_column(matrix, column);
        int row = weir_grid_local_row(matrix, global);
        if (row >= 0) {
            diagonal[global] = *weir_grid_element(matrix, row, column);
        }
    }
    weir_grid_sum(matrix->grid, WEIR_GRID_ALL, diagonal, (size_t)matrix->n);
}

weir_err_t weir_grid_matrix_eigen(weir_grid_matrix_t *matrix, double *eigenvalues,
                                  weir_grid_matrix_t *vectors, weir_error_t *error) {
    static const int first = 1, ask = -1;
    int info = 0, size = 1, integer_size = 1, smallest_integer = 0;
    double smallest = 0.0;
    pdsyevd_("V", "L", &matrix->n, matrix->values, &first, &first, matrix->descriptor, eigenvalues,
             vectors->values, &first, &first, vectors->descriptor, &smallest, &ask,
             &smallest_integer, &ask, &info);
    /* Asked, PDSYEVD forgets what PDORMTR, which it calls last, needs for a block: where blocks are
     * large beside the matrix that refuses, and eigenvectors are not what they should be. */
    size = (int)smallest +
           matrix->block * (2 * matrix->block + matrix->local_rows + matrix->local_columns + 2);
    integer_size = smallest_integer + 1;
    double *work = calloc((size_t)size, sizeof *work);
    int *integer_work = calloc((size_t)integer_size, sizeof *integer_work);
    weir_err_t err = WEIR_OK;
    if (work == NULL || integer_work == NULL) {
        err =
            weir_errorf(error, WEIR_ERR_MEMORY, "no memory for eigenvectors of %d rows", matrix->n);
    }
    if (err == WEIR_OK) {
        pdsyevd_("V", "L", &matrix->n, matrix->values, &first, &first, matrix->descriptor,
                 eigenvalues, vectors->values, &first, &first, vectors->descriptor, work, &size,
                 integer_work, &integer_size, &info);
    }
    /* of a matrix that is one block the process that has it alone learns the eigenvalues */
    if (matrix->grid->rank != 0) {
        memset(eigenvalues, 0, (size_t)matrix->n * sizeof *eigenvalues);
    }
    weir_grid_sum(matrix->grid, WEIR_GRID_ALL, eigenvalues, (size_t)matrix->n);
    free(work);
    free(integer_work);
    if (err == WEIR_OK && info != 0) {
        err = weir_errorf(error, WEIR_ERR_INVALID, "the eigenvalues of %d rows were not found",
                          matrix->n);
    }
    return err;
}

void weir_grid_matrix_gather(const weir_grid_matrix_t *matrix, int first, int count,
                             double *columns) {
    static const int origin = 0;
    int descriptor[WEIR_GRID_DESCRIPTOR] = {1, -1}, info = 0;
    if (matrix->grid->rank == 0) {
        descinit_(descriptor, &matrix->n, &count, &matrix->n, &count, &origin, &origin,
                  &matrix->grid->single, &matrix->n, &info);
    }
    descriptor[CONTEXT] = matrix->grid->single;
    Cpdgemr2d(matrix->n, count, matrix->values, 1, first + 1, matrix->descriptor, columns, 1, 1,
              descriptor, matrix->grid->context);
}
