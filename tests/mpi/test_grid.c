/* Matrices over a grid of 1, 2 and 4 processes: every element knows its place, so that what a call
 * does to the whole can be told by each process of its own part. */
#include "analysis/grid.h"
#include "tests/mpi/suite.h"

#include <math.h>

static weir_comm_t *comm;

static double element(int i, int j) {
    return 1000.0 * i + j + 0.25;
}

static void fill(weir_grid_matrix_t *matrix, bool lower_only) {
    for (int column = 0; column < matrix->local_columns; column++) {
        for (int row = 0; row < matrix->local_rows; row++) {
            int i = weir_grid_global_row(matrix, row), j = weir_grid_global_column(matrix, column);
            *weir_grid_element(matrix, row, column) = lower_only && i < j ? -1.0 : element(i, j);
        }
    }
}

/* Sizes that blocks divide, do not divide, and do not fill. */
static const size_t sizes[][2] = {{12, 3}, {13, 4}, {5, 8}, {1, 2}, {31, 1}};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

START_TEST(the_upper_triangle_becomes_that_of_the_lower) {
    int failures = 0;
    weir_grid_t grid;
    ck_assert_int_eq(weir_grid_init(0, 0, &grid, NULL), WEIR_OK);
    for (size_t s = 0; s < SIZES; s++) {
        weir_grid_matrix_t matrix;
        ck_assert_int_eq(weir_grid_matrix_init(&grid, sizes[s][0], sizes[s][1], &matrix, NULL),
                         WEIR_OK);
        fill(&matrix, true);
        weir_grid_matrix_mirror(&matrix);
        for (int column = 0; column < matrix.local_columns; column++) {
            for (int row = 0; row < matrix.local_rows; row++) {
                int i = weir_grid_global_row(&matrix, row);
                int j = weir_grid_global_column(&matrix, column);
                double expected = i >= j ? element(i, j) : element(j, i);
                EXPECT(&failures, fabs(*weir_grid_element(&matrix, row, column) - expected) < 1e-9);
                EXPECT(&failures, weir_grid_local_row(&matrix, i) == row);
                EXPECT(&failures, weir_grid_local_column(&matrix, j) == column);
            }
        }
        weir_grid_matrix_fini(&matrix);
    }
    weir_grid_fini(&grid);
    assert_all(failures);
}
END_TEST

START_TEST(the_diagonal_reaches_all_and_columns_reach_rank_0) {
    int failures = 0;
    weir_grid_t grid;
    ck_assert_int_eq(weir_grid_init(0, 0, &grid, NULL), WEIR_OK);
    for (size_t s = 0; s < SIZES; s++) {
        int n = (int)sizes[s][0], first = n / 3, count = n - first;
        double diagonal[32], columns[32 * 32] = {0.0};
        weir_grid_matrix_t matrix;
        ck_assert_int_eq(weir_grid_matrix_init(&grid, sizes[s][0], sizes[s][1], &matrix, NULL),
                         WEIR_OK);
        fill(&matrix, false);
        weir_grid_matrix_diagonal(&matrix, diagonal);
        weir_grid_matrix_gather(&matrix, first, count, columns);
        for (int i = 0; i < n; i++) {
            EXPECT(&failures, fabs(diagonal[i] - element(i, i)) < 1e-9);
            for (int j = 0; j < count && grid.rank == 0; j++) {
                EXPECT(&failures, fabs(columns[j * n + i] - element(i, first + j)) < 1e-9);
            }
        }
        weir_grid_matrix_fini(&matrix);
    }
    weir_grid_fini(&grid);
    assert_all(failures);
}
END_TEST

/* 2 on the diagonal and -1 beside it: eigenvalues 4 sin^2(k pi / (2 (n + 1))), eigenvectors sines.
 */
START_TEST(eigenvalues_and_vectors_are_the_known_ones) {
    const double pi = acos(-1.0);
    int failures = 0;
    weir_grid_t grid;
    ck_assert_int_eq(weir_grid_init(0, 0, &grid, NULL), WEIR_OK);
    for (size_t s = 0; s < SIZES; s++) {
        int n = (int)sizes[s][0];
        double eigenvalues[32];
        weir_grid_matrix_t matrix, vectors;
        ck_assert_int_eq(weir_grid_matrix_init(&grid, sizes[s][0], sizes[s][1], &matrix, NULL),
                         WEIR_OK);
        ck_assert_int_eq(weir_grid_matrix_init(&grid, sizes[s][0], sizes[s][1], &vectors, NULL),
                         WEIR_OK);
        for (int column = 0; column < matrix.local_columns; column++) {
            for (int row = 0; row < matrix.local_rows; row++) {
                int i = weir_grid_global_row(&matrix, row);
                int j = weir_grid_global_column(&matrix, column);
                *weir_grid_element(&matrix, row, column) = i == j                     ? 2.0
                                                           : i - j == 1 || j - i == 1 ? -1.0
                                                                                      : 0.0;
            }
        }
        EXPECT(&failures, weir_grid_matrix_eigen(&matrix, eigenvalues, &vectors, NULL) == WEIR_OK);
        for (int k = 0; k < n; k++) {
            double sine = sin((k + 1) * pi / (2 * (n + 1)));
            EXPECT(&failures, fabs(eigenvalues[k] - 4.0 * sine * sine) < 1e-12);
        }
        for (int column = 0; column < vectors.local_columns; column++) {
            for (int row = 0; row < vectors.local_rows; row++) {
                int i = weir_grid_global_row(&vectors, row);
                int k = weir_grid_global_column(&vectors, column);
                double expected = sqrt(2.0 / (n + 1)) * sin((i + 1) * (k + 1) * pi / (n + 1));
                double got = *weir_grid_element(&vectors, row, column); /* up to its sign */
                EXPECT(&failures, fabs(fabs(got) - fabs(expected)) < 1e-12);
            }
        }
        weir_grid_matrix_fini(&matrix);
        weir_grid_matrix_fini(&vectors);
    }
    weir_grid_fini(&grid);
    assert_all(failures);
}
END_TEST

START_TEST(what_cannot_be_is_refused) {
    weir_grid_t grid;
    weir_grid_matrix_t matrix;
    weir_error_t error = {0};
    int ranks = (int)comm->size;
    ck_assert_int_eq(weir_grid_init(ranks + 1, 1, &grid, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_grid_init(ranks, 0, &grid, &error), WEIR_ERR_INVALID);
    ck_assert_int_eq(weir_grid_init(0, 0, &grid, &error), WEIR_OK);
    ck_assert_int_eq(grid.rows * grid.columns, ranks);
    ck_assert_int_le(grid.rows, grid.columns);
    ck_assert_int_eq(weir_grid_matrix_init(&grid, 0, 4, &matrix, &error), WEIR_ERR_UNSUPPORTED);
    ck_assert_int_eq(weir_grid_matrix_init(&grid, 200000, 64, &matrix, &error),
                     WEIR_ERR_UNSUPPORTED);
    weir_grid_fini(&grid);
}
END_TEST

int main(int argc, char **argv) {
    Suite *suite = suite_create("grid");
    TCase *tests = tcase_create("grid");
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, the_upper_triangle_becomes_that_of_the_lower);
    tcase_add_test(tests, the_diagonal_reaches_all_and_columns_reach_rank_0);
    tcase_add_test(tests, eigenvalues_and_vectors_are_the_known_ones);
    tcase_add_test(tests, what_cannot_be_is_refused);
    suite_add_tcase(suite, tests);
    return run_mpi_suite(argc, argv, suite, &comm);
}
