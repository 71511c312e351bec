#include "analysis/ease.h"

#include "analysis/scalapack.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/tensor_file.h"

#include <stdlib.h>
#include <string.h>

enum { USERS_BETWEEN_LOOKS = 4096, ROWS_WRITTEN_AT_ONCE = 64 };

double weir_ease_bytes(const weir_grid_t *grid, size_t n, size_t block) {
    /* beside the matrix: panels of a factorisation, and two numbers an item */
    return weir_grid_matrix_bytes(grid, n, block) + 16.0 * (double)n * (double)(2 * block + 1);
}

static void say(const weir_grid_t *grid, const char *what, double *since) {
    double now = weir_clock_seconds();
    if (grid->rank == 0) {
        weir_log(WEIR_LOG_INFO, "ease", "%s|seconds=%.3f", what, now - *since);
    }
    *since = now;
}

/* An item of a user, where it is in this process's blocks. */
typedef struct {
    int64_t number;
    int local;
} place_t;

/* Add a user's pairs, i >= j. */
static void add_pairs(weir_grid_matrix_t *matrix, const int64_t *items, size_t count, place_t *rows,
                      place_t *columns) {
    size_t row_count = 0, column_count = 0, first = 0;
    for (size_t i = 0; i < count; i++) {
        int row = weir_grid_local_row(matrix, (int)items[i]);
        int column = weir_grid_local_column(matrix, (int)items[i]);
        if (row >= 0) {
            rows[row_count++] = (place_t){.number = items[i], .local = row};
        }
        if (column >= 0) {
            columns[column_count++] = (place_t){.number = items[i], .local = column};
        }
    }
    for (size_t c = 0; c < column_count; c++) {
        double *values = weir_grid_element(matrix, 0, columns[c].local);
        while (first < row_count && rows[first].number < columns[c].number) {
            first++; /* both ascend */
        }
        for (size_t r = first; r < row_count; r++) {
            values[rows[r].local] += 1.0;
        }
    }
}

/* The lower triangle of X'X + lambda I. */
static weir_err_t fill_gram(weir_ease_t *ease, double lambda, weir_error_t *error) {
    weir_grid_matrix_t *matrix = &ease->inverse;
    weir_err_t err = WEIR_OK;
    place_t *rows = calloc((size_t)matrix->n, sizeof *rows);
    place_t *columns = calloc((size_t)matrix->n, sizeof *columns);
    if (rows == NULL || columns == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the items of a user");
    }
    for (uint64_t user = 0; user < weir_dataset_users(ease->set->dataset) && err == WEIR_OK;
         user++) {
        size_t count = 0;
        const int64_t *items = weir_item_set_user(ease->set, user, &count);
        add_pairs(matrix, items, count, rows, columns);
        if (user % USERS_BETWEEN_LOOKS == USERS_BETWEEN_LOOKS - 1) {
            err = weir_grid_check_stop(ease->grid, error);
        }
    }
    for (int column = 0; column < matrix->local_columns; column++) {
        int row = weir_grid_local_row(matrix, weir_grid_global_column(matrix, column));
        if (row >= 0) {
            *weir_grid_element(matrix, row, column) += lambda;
        }
    }
    free(rows);
    free(columns);
    return err;
}

static weir_err_t invert(weir_ease_t *ease, double lambda, weir_error_t *error) {
    static const int first = 1;
    weir_grid_matrix_t *matrix = &ease->inverse;
    double since = weir_clock_seconds();
    int info = 0;
    pdpotrf_("L", &matrix->n, matrix->values, &first, &first, matrix->descriptor, &info);
    say(ease->grid, "factored", &since);
    if (info == 0) {
        weir_err_t err = weir_grid_check_stop(ease->grid, error);
        if (err != WEIR_OK) {
            return err;
        }
        pdpotri_("L", &matrix->n, matrix->values, &first, &first, matrix->descriptor, &info);
        say(ease->grid, "inverted", &since);
    }
    if (weir_grid_any(ease->grid, info != 0)) {
        weir_err_t err = weir_errorf(error, WEIR_ERR_INVALID,
                                     "with lambda %g the matrix is not positive definite", lambda);
        weir_error_hint(error, "a larger --lambda");
        return err;
    }
    return WEIR_OK;
}

/* Zeros for the diagonal of P, so that an item of the history adds nothing to its own score. */
static void take_diagonal(weir_ease_t *ease) {
    weir_grid_matrix_t *matrix = &ease->inverse;
    weir_grid_matrix_diagonal(matrix, ease->diagonal);
    for (int column = 0; column < matrix->local_columns; column++) {
        int row = weir_grid_local_row(matrix, weir_grid_global_column(matrix, column));
        if (row >= 0) {
            *weir_grid_element(matrix, row, column) = 0.0;
        }
    }
}

/* The items that this process scores: its rows; those without an event are with rank 0. */
static void list_items(weir_ease_t *ease) {
    const weir_item_set_t *set = ease->set;
    for (int row = 0; row < ease->inverse.local_rows; row++) {
        ease->items[ease->item_count++] = set->ids[weir_grid_global_row(&ease->inverse, row)];
    }
    if (ease->grid->rank == 0) {
        memcpy(ease->items + ease->item_count, set->ids + set->n,
               (set->items - set->n) * sizeof *set->ids);
        ease->item_count += set->items - set->n;
    }
}

weir_err_t weir_ease_fit(const weir_grid_t *grid, const weir_item_set_t *set, double lambda,
                         size_t block, weir_ease_t *ease, weir_error_t *error) {
    weir_ease_t made = {.grid = grid, .set = set};
    double since = weir_clock_seconds();
    weir_err_t err = weir_grid_matrix_init(grid, set->n, block, &made.inverse, error);
    if (err == WEIR_OK) {
        made.diagonal = calloc(set->n, sizeof *made.diagonal);
        made.items = calloc(set->items + 1, sizeof *made.items);
        if (made.diagonal == NULL || made.items == NULL) {
            err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %zu items", set->n);
        }
    }
    if (weir_grid_any(grid, err != WEIR_OK)) {
        err = err != WEIR_OK ? err
                             : weir_errorf(error, WEIR_ERR_PEER,
                                           "another process has no memory for its blocks");
        goto out;
    }
    err = fill_gram(&made, lambda, error);
    if (err == WEIR_OK) {
        say(grid, "counted pairs of items", &since);
        err = invert(&made, lambda, error);
    }
    if (err == WEIR_OK) {
        weir_grid_matrix_mirror(&made.inverse);
        take_diagonal(&made);
        list_items(&made);
        *ease = made;
        made = (weir_ease_t){.grid = NULL};
    }
out:
    weir_ease_fini(&made);
    return err;
}

void weir_ease_fini(weir_ease_t *ease) {
    weir_grid_matrix_fini(&ease->inverse);
    free(ease->diagonal);
    free(ease->items);
    *ease = (weir_ease_t){.grid = NULL};
}

/* P is symmetric: the history's items are columns here, and the items to score are rows, which lie
 * one after the other. */
static void score_histories(void *model, const weir_ranking_histories_t *histories,
                            double *scores) {
    const weir_ease_t *ease = model;
    const weir_grid_matrix_t *matrix = &ease->inverse;
    size_t rows = (size_t)matrix->local_rows, count = ease->item_count;
    for (size_t u = 0; u < histories->users; u++) {
        double *out = scores + u * count;
        for (size_t i = histories->distinct_offsets[u]; i < histories->distinct_offsets[u + 1];
             i++) {
            int number = ease->set->numbers[histories->distinct[i]];
            int column = number < 0 ? -1 : weir_grid_local_column(matrix, number);
            if (column >= 0) {
                const double *values = weir_grid_element(matrix, 0, column);
                for (size_t r = 0; r < rows; r++) {
                    out[r] += values[r];
                }
            }
        }
    }
    if (ease->grid->columns > 1) {
        for (size_t u = 0; u < histories->users; u++) {
            weir_grid_sum(ease->grid, WEIR_GRID_ROW, scores + u * count, rows);
        }
    }
    for (size_t u = 0; u < histories->users; u++) {
        for (size_t r = 0; r < rows; r++) {
            scores[u * count + r] /= -ease->diagonal[weir_grid_global_row(matrix, (int)r)];
        }
    }
}

weir_ranking_scorer_t weir_ease_scorer(weir_ease_t *ease) {
    return (weir_ranking_scorer_t){.count = ease->item_count,
                                   .items = ease->items,
                                   .counts = ease->grid->column == 0,
                                   .score = score_histories,
                                   .model = ease};
}

/* ---- file ---- */

static weir_err_t begin_file(const weir_ease_t *ease, const char *path,
                             weir_tensor_writer_t **writer, weir_error_t *error) {
    uint64_t n = ease->set->n, shape[2] = {n, n};
    weir_err_t err = weir_tensor_writer_create(path, writer, error);
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(*writer, "format", "weir-ease", error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_declare(*writer, "weights", WEIR_DTYPE_F64, 2, shape, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_declare(*writer, "items", WEIR_DTYPE_I64, 1, shape, error);
    }
    return err == WEIR_OK ? weir_tensor_writer_begin(*writer, error) : err;
}

/* Rows of B from columns of P, which are its rows. */
static weir_err_t append_rows(const weir_ease_t *ease, double *rows, int count,
                              weir_tensor_writer_t *writer, weir_error_t *error) {
    size_t n = ease->set->n;
    for (size_t i = 0; i < (size_t)count; i++) {
        for (size_t j = 0; j < n; j++) {
            rows[i * n + j] = rows[i * n + j] == 0.0 ? 0.0 : -rows[i * n + j] / ease->diagonal[j];
        }
    }
    return weir_tensor_writer_append(writer, rows, (size_t)count * n * sizeof *rows, error);
}

/* What rank 0 met, told to all. */
static weir_err_t share(const weir_grid_t *grid, weir_err_t err, weir_error_t *error) {
    if (weir_grid_any(grid, err != WEIR_OK) && err == WEIR_OK) {
        err = weir_errorf(error, WEIR_ERR_PEER, "rank 0 cannot write");
    }
    return err;
}

weir_err_t weir_ease_write(const weir_ease_t *ease, const char *path, weir_error_t *error) {
    weir_tensor_writer_t *writer = NULL;
    weir_err_t err = WEIR_OK;
    size_t n = ease->set->n;
    double *rows = NULL;
    bool writes = ease->grid->rank == 0;
    if (writes) {
        err = begin_file(ease, path, &writer, error);
        rows = calloc(n * ROWS_WRITTEN_AT_ONCE, sizeof *rows);
        if (err == WEIR_OK && rows == NULL) {
            err = weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %d rows",
                              (int)ROWS_WRITTEN_AT_ONCE);
        }
    }
    err = share(ease->grid, err, error);
    for (size_t first = 0; first < n && err == WEIR_OK; first += ROWS_WRITTEN_AT_ONCE) {
        size_t left = n - first;
        int count = (int)(left < ROWS_WRITTEN_AT_ONCE ? left : ROWS_WRITTEN_AT_ONCE);
        weir_grid_matrix_gather(&ease->inverse, (int)first, count, rows);
        if (writes) {
            err = append_rows(ease, rows, count, writer, error);
        }
        err = share(ease->grid, err, error);
        if (err == WEIR_OK) {
            err = weir_grid_check_stop(ease->grid, error);
        }
    }
    if (writes && err == WEIR_OK) {
        err = weir_tensor_writer_append(writer, ease->set->ids, n * sizeof(int64_t), error);
    }
    if (writes && err == WEIR_OK) {
        err = weir_tensor_writer_commit(writer, NULL, NULL, error);
    }
    weir_tensor_writer_destroy(writer);
    free(rows);
    return share(ease->grid, err, error);
}
