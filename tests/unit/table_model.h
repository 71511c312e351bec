/* What ps/table.h promises, in plain loops over an array of all keys that may be asked for: the
 * oracle of the table's tests. It knows neither index, memory, sweeps nor cold store. */
#ifndef WEIR_TESTS_TABLE_MODEL_H
#define WEIR_TESTS_TABLE_MODEL_H

#include "ps/row_update.h"
#include "ps/table.h"

typedef struct {
    weir_key_t key;
    uint64_t hash;
    bool there;    /* has a row */
    bool noted;    /* was seen in this step and not admitted */
    uint32_t seen; /* steps; halved once a window */
    uint64_t last_step, count;
} table_model_row_t;

typedef struct {
    weir_table_options_t options;
    weir_row_layout_t layout;
    weir_row_update_t update;
    weir_admission_t *chance; /* draws; NULL where keys are not admitted by chance */
    table_model_row_t *rows;  /* ascending by hash */
    char *records;            /* count x record_bytes */
    size_t count;
    float *scratch;
    uint64_t row_budget; /* 0: no row is ever lost to a budget */
    uint32_t cell_shift; /* from hash to cell */
    bool *due;           /* by cell, from first_cell on */
    size_t first_cell, cell_count;
    uint64_t oldest_in_use; /* rows last used then or later do not expire */
    bool touches;           /* a pull counts as use */
    uint64_t window;
    uint64_t evicted, rejected; /* as weir_table_stats counts them */
} table_model_t;

/* Of the tables of all servers: `options` with all their slots. The keys are copied. With a cold
 * folder no row is ever lost to the budget. */
table_model_t *table_model_create(const weir_table_options_t *options, const weir_key_t *keys,
                                  size_t count);
void table_model_destroy(table_model_t *model);

char *table_model_record(const table_model_t *model, size_t row);

/* Rows are named by their place in model->rows from here on. */
bool table_model_is_alive(const table_model_t *model, size_t row, uint64_t step);

/* Whether each key has a row now, and its value: count x value_bytes. */
void table_model_pull(table_model_t *model, const size_t *rows, size_t count, uint64_t step,
                      bool *has, char *values);
void table_model_peek(const table_model_t *model, const size_t *rows, size_t count, uint64_t step,
                      char *values);
weir_table_applied_t table_model_apply(table_model_t *model, const size_t *rows,
                                       const float *gradients, size_t count, uint64_t step);
void table_model_end_step(table_model_t *model, uint64_t step, uint64_t oldest_in_use);

/* Keys for the oracle: `count` distinct ones of slots [first_slot, end_slot) whose hashes ascend,
 * spread by chance. */
void table_model_keys(uint64_t seed, weir_slot_t first_slot, weir_slot_t end_slot, weir_key_t *keys,
                      size_t count);

#endif
