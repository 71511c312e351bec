/* Checkpoints of one table made by hand, row by row, with no table behind them: what a reader finds
 * in them is known. */
#ifndef WEIR_TESTS_READER_CASES_H
#define WEIR_TESTS_READER_CASES_H

#include "common/checkpoint.h"
#include "common/tensor_file.h"

#include <stdbool.h>

typedef struct {
    uint64_t key, last_step, count;
} reader_case_row_t;

typedef struct {
    const char *table, *schema, *optimizer;
    uint64_t step, base, ttl;
    uint32_t shards;
    bool without_blocks;     /* as format 1: no checksums of blocks */
    reader_case_row_t *rows; /* sorted by the writer into the order of hashes */
    size_t row_count;
    uint64_t *removed;
    size_t removed_count;
    /* Columns by the size of their elements, the largest first; fill writes a row's. */
    struct {
        const char *name;
        weir_dtype_t dtype;
        uint64_t width;
    } columns[4];
    uint32_t column_count;
    void (*fill)(uint64_t step, uint64_t key, uint32_t column, void *bytes);
} reader_case_t;

/* Key whose hash this is: the inverse of weir_hash64. */
uint64_t reader_case_key(uint64_t hash);

/* Write and publish it in a run. */
void reader_case_write(const char *run, reader_case_t *c);

#endif
