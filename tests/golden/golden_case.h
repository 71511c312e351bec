/* One golden file: a model, a batch, and what the authors' code computed from them
 * (tests/golden/README.md). Every size comes from the file's metadata; nothing in the file is
 * trusted. */
#ifndef WEIR_TESTS_GOLDEN_CASE_H
#define WEIR_TESTS_GOLDEN_CASE_H

#include "common/real.h"
#include "common/tensor_file.h"
#include "worker/hstu.h"

#include <stdint.h>

typedef struct {
    const weir_tensor_file_t *file; /* not owned; must outlive the case */
    weir_encoder_config_t config;
    size_t items;     /* of the catalogue: ids 1 .. items */
    size_t negatives; /* R */
    size_t steps;     /* of AdamW */
    double temperature, learning_rate, beta1, beta2, adam_epsilon, weight_decay;

    size_t users, tokens;    /* B, T */
    size_t *offsets;         /* B + 1 */
    int64_t *times;          /* T */
    int64_t *next_times;     /* T */
    uint32_t *item_rows;     /* T: row of the table, which is the item's id */
    uint32_t *target_rows;   /* T */
    uint32_t *negative_rows; /* T x R */
} golden_case_t;

typedef enum { GOLDEN_PARAMETERS, GOLDEN_GRADIENTS, GOLDEN_AFTER } golden_kind_t;

/* "hstu", or what else the file says it is; NULL: it does not say. */
const char *golden_model(const weir_tensor_file_t *file);

/* A number of the metadata; a whole one from `least` to 2^20; one that the code under test has as a
 * constant. */
WEIR_MUST_USE weir_err_t golden_number(const weir_tensor_file_t *file, const char *key,
                                       double *value, weir_error_t *error);
WEIR_MUST_USE weir_err_t golden_size(const weir_tensor_file_t *file, const char *key, size_t least,
                                     size_t *value, weir_error_t *error);
WEIR_MUST_USE weir_err_t golden_constant(const weir_tensor_file_t *file, const char *key,
                                         double expected, weir_error_t *error);

/* Read and check all but the expected values. Failure leaves nothing to free. */
WEIR_MUST_USE weir_err_t golden_load(const weir_tensor_file_t *file, golden_case_t *golden,
                                     weir_error_t *error);
void golden_fini(golden_case_t *golden);

/* The table, (items + 1) x D, or a dense parameter in the layout of its encoder, of the given
 * kind. */
WEIR_MUST_USE weir_err_t golden_read_table(const golden_case_t *golden, golden_kind_t kind,
                                           double *table, weir_error_t *error);
WEIR_MUST_USE weir_err_t golden_read_parameter(const golden_case_t *golden, golden_kind_t kind,
                                               size_t index, double *values, weir_error_t *error);

/* Where a parameter lies in the file. */
typedef struct {
    const double *values;
    bool transposed; /* stored cols x rows */
} golden_place_t;
enum { GOLDEN_NAME_SIZE = 128 };
void golden_name_table(golden_kind_t kind, char name[GOLDEN_NAME_SIZE]);
WEIR_MUST_USE weir_err_t golden_find_parameter(const golden_case_t *golden, golden_kind_t kind,
                                               size_t index, golden_place_t *place,
                                               weir_error_t *error);

/* An expected result of one or two dimensions (columns = 0: one). Values are in the file. */
WEIR_MUST_USE weir_err_t golden_require(const golden_case_t *golden, const char *name,
                                        weir_dtype_t dtype, size_t rows, size_t columns,
                                        const void **values, weir_error_t *error);

#endif
