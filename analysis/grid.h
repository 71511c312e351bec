/* The processes of an analysis as a grid, and matrices spread over it in blocks, cyclically
 * (https://netlib.org/scalapack/slug/node75.html): block (I, J) of a matrix is on the process in
 * row I mod rows and column J mod columns of the grid. A process keeps its blocks as one
 * column-major matrix of its own.
 *
 * All calls but those that say local are collective(grid): all processes of the grid, in the same
 * order. MPI is started before (weir_comm_mpi_init) and ended after. Threads: one. */
#ifndef WEIR_ANALYSIS_GRID_H
#define WEIR_ANALYSIS_GRID_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    int context; /* BLACS */
    int single;  /* of rank 0 alone; -1 elsewhere */
    int rank, ranks;
    int rows, columns, row, column; /* of the grid, and where this process is */
} weir_grid_t;

/* Rows and columns of 0: as square as the number of processes allows, rows <= columns. Errors:
 * INVALID when the product is not the number of processes. */
WEIR_MUST_USE weir_err_t weir_grid_init(int rows, int columns, weir_grid_t *grid,
                                        weir_error_t *error);
void weir_grid_fini(weir_grid_t *grid);

typedef enum { WEIR_GRID_ALL, WEIR_GRID_ROW } weir_grid_scope_t;

/* Sums over all processes, or those of the own row, in place: all of them get them. */
void weir_grid_sum(const weir_grid_t *grid, weir_grid_scope_t scope, double *values, size_t count);

/* `count` values to another process, which receives as many from this one. Call: blocks. */
void weir_grid_send(const weir_grid_t *grid, int rank, const double *values, size_t count);
void weir_grid_receive(const weir_grid_t *grid, int rank, double *values, size_t count);

/* Whether any process says so. */
bool weir_grid_any(const weir_grid_t *grid, bool own);

/* STOPPED, with the sentence, on all processes after a signal to any of them; else OK. */
WEIR_MUST_USE weir_err_t weir_grid_check_stop(const weir_grid_t *grid, weir_error_t *error);

/* ---- matrices ---- */

enum { WEIR_GRID_DESCRIPTOR = 9 };

typedef struct {
    const weir_grid_t *grid;
    int n, block;                  /* n x n, in square blocks */
    int local_rows, local_columns; /* of this process */
    int stride;                    /* between columns, of doubles; >= 1 */
    int descriptor[WEIR_GRID_DESCRIPTOR];
    double *values; /* owned */
} weir_grid_matrix_t;

/* Bytes that one process has of it at the most. Call: local. */
double weir_grid_matrix_bytes(const weir_grid_t *grid, size_t n, size_t block);

/* Of zeros. Errors: MEMORY; UNSUPPORTED when n, or what one process has, is beyond 2^31 - 1.
 * Call: local. */
WEIR_MUST_USE weir_err_t weir_grid_matrix_init(const weir_grid_t *grid, size_t n, size_t block,
                                               weir_grid_matrix_t *matrix, weir_error_t *error);
void weir_grid_matrix_fini(weir_grid_matrix_t *matrix);

/* The row (or column) of the whole matrix that a row of this process is. Call: local. */
static inline int weir_grid_global(int local, int block, int process, int processes) {
    return (local / block * processes + process) * block + local % block;
}

static inline int weir_grid_global_row(const weir_grid_matrix_t *matrix, int local) {
    return weir_grid_global(local, matrix->block, matrix->grid->row, matrix->grid->rows);
}

static inline int weir_grid_global_column(const weir_grid_matrix_t *matrix, int local) {
    return weir_grid_global(local, matrix->block, matrix->grid->column, matrix->grid->columns);
}

/* The row of this process that a row of the whole matrix is; -1: it is another's. Call: local. */
static inline int weir_grid_local(int global, int block, int process, int processes) {
    int number = global / block;
    return number % processes != process ? -1 : number / processes * block + global % block;
}

static inline int weir_grid_local_row(const weir_grid_matrix_t *matrix, int global) {
    return weir_grid_local(global, matrix->block, matrix->grid->row, matrix->grid->rows);
}

static inline int weir_grid_local_column(const weir_grid_matrix_t *matrix, int global) {
    return weir_grid_local(global, matrix->block, matrix->grid->column, matrix->grid->columns);
}

/* Row `row` of column `column` of what this process has. Call: local. */
static inline double *weir_grid_element(const weir_grid_matrix_t *matrix, int row, int column) {
    return matrix->values + (size_t)row + (size_t)column * (size_t)matrix->stride;
}

/* Copy the lower triangle into the upper one. */
void weir_grid_matrix_mirror(weir_grid_matrix_t *matrix);

/* The diagonal, n values, on every process. */
void weir_grid_matrix_diagonal(const weir_grid_matrix_t *matrix, double *diagonal);

/* Eigenvalues (n, ascending, on every process) and eigenvectors of a symmetric matrix of which the
 * lower triangle is read; it is overwritten. `vectors`: another of the same grid, n and block; its
 * column k belongs to eigenvalue k. Errors: MEMORY (this process alone); INVALID when the iteration
 * does not end, as with values that are not finite. */
WEIR_MUST_USE weir_err_t weir_grid_matrix_eigen(weir_grid_matrix_t *matrix, double *eigenvalues,
                                                weir_grid_matrix_t *vectors, weir_error_t *error);

/* Columns [first, first + count) to rank 0: column-major, n x count; NULL elsewhere. */
void weir_grid_matrix_gather(const weir_grid_matrix_t *matrix, int first, int count,
                             double *columns);

#endif
