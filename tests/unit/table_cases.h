/* Short forms of what tests ask of a table: one float32 segment, calls that must succeed. */
#ifndef WEIR_TESTS_TABLE_CASES_H
#define WEIR_TESTS_TABLE_CASES_H

#include "ps/table.h"

#include <check.h>

static inline weir_table_options_t table_case(weir_optimizer_kind_t kind, uint32_t dim,
                                              double learning_rate, uint64_t seed) {
    return (weir_table_options_t){
        .row = {.name = "item",
                .seed = seed,
                .segment_count = 1,
                .segments = {{.dim = dim,
                              .initializer = WEIR_INITIALIZER_TRUNCATED_NORMAL,
                              .initial_scale = 0.02,
                              .optimizer = {.kind = kind,
                                            .learning_rate = learning_rate,
                                            .beta1 = 0.9,
                                            .beta2 = 0.98,
                                            .epsilon = 1e-8,
                                            .beta = 1.0}}}}};
}

static inline weir_table_t *table_case_create(const weir_table_options_t *options) {
    weir_table_t *table = NULL;
    weir_error_t error = {0};
    ck_assert_msg(weir_table_create(options, &table, &error) == WEIR_OK, "%s", error.message);
    return table;
}

static inline void table_case_peek(weir_table_t *table, const weir_key_t *keys, size_t count,
                                   float *values) {
    ck_assert_int_eq(weir_table_peek(table, keys, count, 1, values, NULL), WEIR_OK);
}

static inline uint64_t table_case_rows(const weir_table_t *table) {
    return weir_table_stats(table).rows;
}

/* Pull one key and apply one gradient to it; false: it was not finite. */
static inline bool table_case_train(weir_table_t *table, weir_key_t key, const float *gradient,
                                    uint64_t step) {
    weir_row_handle_t handle;
    ck_assert_int_eq(weir_table_pull(table, &key, 1, step, &handle, NULL, NULL), WEIR_OK);
    return weir_table_apply(table, &key, &handle, gradient, 1, step).updated == 1;
}

#endif
