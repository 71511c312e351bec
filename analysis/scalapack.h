/* What is used of ScaLAPACK, PBLAS and BLACS, which come without C headers. Integers are of 32
 * bits, matrices column-major, indices of sub-matrices count from 1, strings carry no length.
 * https://netlib.org/scalapack/slug/ and https://netlib.org/blacs/BLACS/QRef.html */
#ifndef WEIR_ANALYSIS_SCALAPACK_H
#define WEIR_ANALYSIS_SCALAPACK_H

/* ---- BLACS: processes in a grid ---- */
void Cblacs_pinfo(int *rank, int *ranks);
void Cblacs_get(int context, int what, int *value);
void Cblacs_gridinit(int *context, const char *order, int rows, int columns);
void Cblacs_gridmap(int *context, int *map, int map_rows, int rows, int columns);
void Cblacs_gridinfo(int context, int *rows, int *columns, int *row, int *column);
void Cblacs_gridexit(int context);
void Cblacs_exit(int go_on);
void Cdgsum2d(int context, const char *scope, const char *topology, int m, int n, double *values,
              int stride, int to_row, int to_column);

void Cdgesd2d(int context, int m, int n, const double *values, int stride, int to_row,
              int to_column);
void Cdgerv2d(int context, int m, int n, double *values, int stride, int from_row, int from_column);

/* ---- tools ---- */
int numroc_(const int *n, const int *block, const int *process, const int *first,
            const int *processes);
void descinit_(int *descriptor, const int *m, const int *n, const int *row_block,
               const int *column_block, const int *first_row, const int *first_column,
               const int *context, const int *stride, int *info);
/* Sub-matrix of one grid to that of another. A process outside a grid gives a descriptor whose
 * context is -1. */
void Cpdgemr2d(int m, int n, const double *a, int ia, int ja, const int *descriptor_a, double *b,
               int ib, int jb, const int *descriptor_b, int context);

/* ---- PBLAS and ScaLAPACK ---- */
void pdtran_(const int *m, const int *n, const double *alpha, const double *a, const int *ia,
             const int *ja, const int *descriptor_a, const double *beta, double *c, const int *ic,
             const int *jc, const int *descriptor_c);
void pdpotrf_(const char *uplo, const int *n, double *a, const int *ia, const int *ja,
              const int *descriptor, int *info);
void pdpotri_(const char *uplo, const int *n, double *a, const int *ia, const int *ja,
              const int *descriptor, int *info);
void pdsyevd_(const char *job, const char *uplo, const int *n, double *a, const int *ia,
              const int *ja, const int *descriptor, double *eigenvalues, double *z, const int *iz,
              const int *jz, const int *descriptor_z, double *work, const int *work_size,
              int *integer_work, const int *integer_work_size, int *info);

#endif
