/* The singular values of an embedding table: whether training uses its dimensions.
 *
 * With E the n x D matrix of a checkpoint's rows, the eigenvalues of the D x D matrix E'E are the
 * squares of E's singular values, and its eigenvectors the principal directions. Every process adds
 * the products of the rows of its slots; the sums are added, and ScaLAPACK decomposes them on a
 * grid. In double precision this resolves singular values down to about 1e-7 of the largest
 * (`floor`): smaller ones are rounding. Rows that were never trained are in no checkpoint, and so
 * not here. */
#ifndef WEIR_ANALYSIS_SPECTRUM_H
#define WEIR_ANALYSIS_SPECTRUM_H

#include "analysis/grid.h"
#include "reader/reader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rows [first_slot, end_slot) of the first segment of a table, by this process. */
typedef struct {
    weir_reader_t *reader; /* not owned */
    const weir_reader_table_t *table;
    uint32_t first_slot, end_slot;
    size_t dim; /* D: of the first segment, "value"; a bias behind it is left out */
} weir_spectrum_source_t;

/* The slots of this process of `table`. Errors: NOT_FOUND, with the tables there are; CORRUPT.
 * Call: local. */
WEIR_MUST_USE weir_err_t weir_spectrum_source(const weir_grid_t *grid, weir_reader_t *reader,
                                              const char *table, weir_spectrum_source_t *source,
                                              weir_error_t *error);

typedef struct {
    size_t dim;
    uint64_t rows;    /* n, of all processes */
    uint64_t skipped; /* rows with a value that is not finite */
    bool centered;
    double *mean;               /* D: of the rows, centered or not */
    double *singular_values;    /* D, descending */
    weir_grid_matrix_t vectors; /* D x D: column D - 1 - k belongs to singular value k */

    double floor;                 /* singular values below are rounding */
    size_t below_floor;           /* how many are */
    double effective_rank;        /* exp of the entropy of sigma / sum sigma: O. Roy, M. Vetterli,
                                     The effective rank, EUSIPCO 2007 */
    double information_abundance; /* sum sigma / largest: X. Guo et al., On the Embedding Collapse
                                     When Scaling up Recommendation Models, ICML 2024 */
    double condition;             /* largest / smallest; infinite where that is below the floor */
} weir_spectrum_t;

/* Bytes of one process at the most. Call: local. */
double weir_spectrum_bytes(const weir_grid_t *grid, size_t dim, size_t block);

/* Errors: STOPPED (all), INVALID when there is no row, MEMORY, CORRUPT (this process alone).
 * Call: collective(grid). */
WEIR_MUST_USE weir_err_t weir_spectrum_make(const weir_grid_t *grid,
                                            const weir_spectrum_source_t *source, bool centered,
                                            size_t block, weir_spectrum_t *spectrum,
                                            weir_error_t *error);
void weir_spectrum_fini(weir_spectrum_t *spectrum);

/* Share of the energy, sum of sigma^2, that the k largest have. Call: local. */
double weir_spectrum_energy(const weir_spectrum_t *spectrum, size_t k);
/* The fewest that have this share. Call: local. */
size_t weir_spectrum_needed(const weir_spectrum_t *spectrum, double share);

/* "full" (effective rank at least half of D), "partial" (a tenth), "collapsed". Call: local. */
const char *weir_spectrum_verdict(const weir_spectrum_t *spectrum);

/* The rows on the first K principal directions, to a safetensors file by rank 0: "keys" U64 [n],
 * "projection" F32 [n, K] (of the centered rows where the spectrum is), "components" F64 [K, D],
 * "mean" F64 [D], "singular_values" F64 [D]. The largest value of a component is positive. Errors:
 * those of the writer; STOPPED. Call: collective(grid). */
WEIR_MUST_USE weir_err_t weir_spectrum_export(const weir_grid_t *grid,
                                              const weir_spectrum_source_t *source,
                                              const weir_spectrum_t *spectrum, size_t components,
                                              const char *path, weir_error_t *error);

/* Singular values as a picture, SVG. Errors: those of a file. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_spectrum_plot(const weir_spectrum_t *spectrum, const char *table,
                                            const char *path, weir_error_t *error);

#endif
