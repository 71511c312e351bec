#include "worker/user_results.h"

#include "common/tensor_file.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "weir-user-results"
#define VERSION "1"

static int compare_users(const void *left, const void *right) {
    const weir_user_result_t *a = left, *b = right;
    return (a->user > b->user) - (a->user < b->user);
}

void weir_user_results_sort(weir_user_result_t *results, size_t count) {
    qsort(results, count, sizeof *results, compare_users);
}

void weir_user_results_split_cold(const weir_user_result_t *results, size_t count,
                                  const weir_item_popularity_t *popularity, weir_metrics_t *cold,
                                  weir_metrics_t *warm) {
    *cold = *warm = (weir_metrics_t){0};
    for (size_t i = 0; i < count; i++) {
        weir_metrics_add(popularity->counts[results[i].target] == 0 ? cold : warm, results[i].rank);
    }
}

/* ---- opportunity ---- */

typedef struct {
    double popularity, mean_rank; /* as found; then their own ranks, ties in the middle */
} item_t;

static int compare_popularities(const void *left, const void *right) {
    const item_t *a = left, *b = right;
    return (a->popularity > b->popularity) - (a->popularity < b->popularity);
}

static int compare_mean_ranks(const void *left, const void *right) {
    const item_t *a = left, *b = right;
    return (a->mean_rank > b->mean_rank) - (a->mean_rank < b->mean_rank);
}

static double *field(item_t *item, bool popularity) {
    return popularity ? &item->popularity : &item->mean_rank;
}

/* Replace one of the numbers by its place, from 1; of equal ones by the mean of their places. */
static void rank_items(item_t *items, size_t count, bool popularity) {
    qsort(items, count, sizeof *items, popularity ? compare_popularities : compare_mean_ranks);
    for (size_t begin = 0, end = 0; begin < count; begin = end) {
        double value = *field(&items[begin], popularity);
        while (end < count && *field(&items[end], popularity) <= value) {
            end++;
        }
        for (size_t i = begin; i < end; i++) {
            *field(&items[i], popularity) = (double)(begin + end + 1) / 2.0;
        }
    }
}

static double correlate(const item_t *items, size_t count) {
    double middle = ((double)count + 1.0) / 2.0, both = 0.0, first = 0.0, second = 0.0;
    for (size_t i = 0; i < count; i++) {
        double a = items[i].popularity - middle, b = items[i].mean_rank - middle;
        both += a * b;
        first += a * a;
        second += b * b;
    }
    return first > 0.0 && second > 0.0 ? both / sqrt(first * second) : (double)NAN;
}

static int compare_targets(const void *left, const void *right) {
    const weir_user_result_t *a = left, *b = right;
    return (a->target > b->target) - (a->target < b->target);
}

weir_err_t weir_user_results_opportunity(const weir_user_result_t *results, size_t count,
                                         const weir_item_popularity_t *popularity,
                                         double *correlation, weir_error_t *error) {
    weir_user_result_t *sorted = calloc(count + 1, sizeof *sorted);
    item_t *items = calloc(count + 1, sizeof *items);
    size_t distinct = 0;
    if (sorted == NULL || items == NULL) {
        free(sorted);
        free(items);
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for the targets of %zu users", count);
    }
    if (count > 0) {
        memcpy(sorted, results, count * sizeof *sorted);
    }
    qsort(sorted, count, sizeof *sorted, compare_targets);
    for (size_t begin = 0, end = 0; begin < count; begin = end) {
        double sum = 0.0; /* of whole numbers: without rounding, in any order */
        for (; end < count && sorted[end].target == sorted[begin].target; end++) {
            sum += (double)sorted[end].rank;
        }
        uint64_t users = popularity->counts[sorted[begin].target];
        if (users > 0) {
            items[distinct++] = (item_t){(double)users, sum / (double)(end - begin)};
        }
    }
    rank_items(items, distinct, true);
    rank_items(items, distinct, false);
    *correlation = -correlate(items, distinct);
    free(sorted);
    free(items);
    return WEIR_OK;
}

/* ---- the file ---- */

static const char *const tensor_names[] = {"users", "targets", "ranks"};
enum { TENSORS = 3 };

static int64_t value_of(const weir_user_result_t *result, size_t tensor) {
    return tensor == 0   ? (int64_t)result->user
           : tensor == 1 ? result->target
                         : (int64_t)result->rank;
}

static weir_err_t begin_file(weir_tensor_writer_t *file, const char *split, const char *source,
                             uint64_t count, weir_error_t *error) {
    const char *const metadata[][2] = {
        {"format", FORMAT}, {"version", VERSION}, {"split", split}, {"source", source}};
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < sizeof metadata / sizeof metadata[0] && err == WEIR_OK; i++) {
        err = weir_tensor_writer_metadata(file, metadata[i][0], metadata[i][1], error);
    }
    for (size_t i = 0; i < TENSORS && err == WEIR_OK; i++) {
        err = weir_tensor_writer_declare(file, tensor_names[i], WEIR_DTYPE_I64, 1, &count, error);
    }
    return err == WEIR_OK ? weir_tensor_writer_begin(file, error) : err;
}

weir_err_t weir_user_results_write(const char *path, const char *split, const char *source,
                                   const weir_user_result_t *results, size_t count,
                                   weir_error_t *error) {
    weir_tensor_writer_t *file = NULL;
    int64_t *values = malloc((count + 1) * sizeof *values);
    weir_err_t err = values == NULL ? weir_errorf(error, WEIR_ERR_MEMORY,
                                                  "no memory to write %zu users' results", count)
                                    : weir_tensor_writer_create(path, &file, error);
    if (err == WEIR_OK) {
        err = begin_file(file, split, source, count, error);
    }
    for (size_t k = 0; k < TENSORS && err == WEIR_OK; k++) {
        for (size_t i = 0; i < count; i++) {
            values[i] = value_of(&results[i], k);
        }
        err = weir_tensor_writer_append(file, values, count * sizeof *values, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_commit(file, NULL, NULL, error);
    }
    weir_tensor_writer_destroy(file);
    free(values);
    return err;
}

static weir_err_t check_format(const weir_tensor_file_t *file, weir_error_t *error) {
    const char *format = weir_tensor_file_metadata(file, "format");
    const char *version = weir_tensor_file_metadata(file, "version");
    if (format == NULL || strcmp(format, FORMAT) != 0) {
        return weir_errorf(error, WEIR_ERR_CORRUPT, "%s is not a file of users' results",
                           weir_tensor_file_path(file));
    }
    if (version == NULL || strcmp(version, VERSION) != 0) {
        return weir_errorf(error, WEIR_ERR_VERSION, "%s is of version %s; this weir reads %s",
                           weir_tensor_file_path(file), version != NULL ? version : "none",
                           VERSION);
    }
    return WEIR_OK;
}

static weir_err_t copy_results(const weir_tensor_file_t *file, const int64_t *const *values,
                               weir_user_result_t *results, size_t count, weir_error_t *error) {
    for (size_t i = 0; i < count; i++) {
        int64_t user = values[0][i], rank = values[2][i];
        if (user < 0 || (i > 0 && user <= values[0][i - 1]) || rank < 1) {
            return weir_errorf(error, WEIR_ERR_CORRUPT, "%s: entry %zu is not sound",
                               weir_tensor_file_path(file), i);
        }
        results[i] = (weir_user_result_t){(uint64_t)user, values[1][i], (uint64_t)rank};
    }
    return WEIR_OK;
}

weir_err_t weir_user_results_read(const char *path, weir_user_result_t **results, size_t *count,
                                  weir_error_t *error) {
    weir_tensor_file_t *file = NULL;
    const int64_t *values[TENSORS] = {NULL};
    uint64_t users = UINT64_MAX; /* any, for the first */
    weir_user_result_t *made = NULL;
    weir_err_t err = weir_tensor_file_open(path, &file, error);
    if (err == WEIR_OK) {
        err = check_format(file, error);
    }
    for (size_t k = 0; k < TENSORS && err == WEIR_OK; k++) {
        const weir_tensor_t *tensor = NULL;
        err = weir_tensor_file_require(file, tensor_names[k], WEIR_DTYPE_I64, 1, &users, &tensor,
                                       error);
        if (err == WEIR_OK) {
            users = tensor->shape[0];
            values[k] = tensor->values;
        }
    }
    if (err == WEIR_OK) {
        made = calloc((size_t)users + 1, sizeof *made);
        err = made == NULL ? weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %llu users",
                                         (unsigned long long)users)
                           : copy_results(file, values, made, (size_t)users, error);
    }
    if (err == WEIR_OK) {
        *results = made;
        *count = (size_t)users;
        made = NULL;
    }
    free(made);
    weir_tensor_file_close(file);
    return err;
}

weir_err_t weir_user_results_copy(const char *from, const char *to, weir_error_t *error) {
    weir_user_result_t *results = NULL;
    weir_tensor_file_t *file = NULL;
    size_t count = 0;
    weir_err_t err = weir_user_results_read(from, &results, &count, error);
    if (err == WEIR_OK) {
        err = weir_tensor_file_open(from, &file, error);
    }
    if (err == WEIR_OK) {
        const char *split = weir_tensor_file_metadata(file, "split");
        const char *source = weir_tensor_file_metadata(file, "source");
        err = weir_user_results_write(to, split != NULL ? split : "", source != NULL ? source : "",
                                      results, count, error);
    }
    weir_tensor_file_close(file);
    free(results);
    return err;
}
