/* What the sources of reader/ share. */
#ifndef WEIR_READER_READER_INTERNAL_H
#define WEIR_READER_READER_INTERNAL_H

#include "common/checkpoint.h"
#include "common/file.h"
#include "ps/row.h"
#include "ps/snapshot_chain.h"
#include "reader/reader.h"

/* Which blocks of one file were compared with their checksums. */
typedef struct {
    const weir_tensor_file_t *file;
    bool has_blocks; /* false: a file of format 1, of which nothing is compared */
    uint8_t *seen;   /* a bit a block; owned */
} weir_reader_guard_t;

/* A table's chain with the guards of its files, made as they are needed. */
typedef struct {
    weir_snapshot_chain_t *chain;
    weir_snapshot_level_t *levels; /* of the slot looked at; room for all; owned */
    weir_reader_guard_t *guards;   /* owned */
    size_t guard_count;
    uint64_t *blocks_checked; /* the reader's */
} weir_reader_chain_t;

/* A segment's columns, by their numbers. */
typedef struct {
    enum weir_reader_precision { FLOAT32, BF16, FP16, INT8, SPLIT_BF16, PRECISIONS } precision;
    uint32_t dim;
    uint32_t value, scale, low; /* scale of int8, low of split_bf16 alone */
} weir_reader_segment_t;

typedef struct {
    weir_reader_table_t about; /* first: a pointer to it is one to its table */
    char name[WEIR_CHECKPOINT_NAME_MAX];
    uint32_t segment_count;
    weir_reader_segment_t segments[WEIR_ROW_MAX_SEGMENTS];
    weir_reader_chain_t chain; /* of all slots */
} weir_reader_table_own_t;

enum { WEIR_READER_DENSE_FILES = 2 };

struct weir_reader {
    char folder[WEIR_PATH_MAX];
    weir_manifest_t manifest;
    weir_reader_checkpoint_t about;
    uint64_t *chain_steps; /* owned */
    weir_reader_table_own_t *tables;
    size_t table_count;
    weir_tensor_file_t *dense[WEIR_READER_DENSE_FILES]; /* NULL: not there */
    bool dense_checked[WEIR_READER_DENSE_FILES];        /* compared with their checksums */
    uint64_t blocks_checked;
};

/* Of a file that is open: whether it has blocks, and none seen yet. MEMORY. */
WEIR_MUST_USE weir_err_t weir_reader_guard_init(const weir_tensor_file_t *file,
                                                weir_reader_guard_t *guard, weir_error_t *error);
void weir_reader_guard_fini(weir_reader_guard_t *guard);
/* The blocks in which `size` bytes of the file's values lie, those not seen yet. CORRUPT. */
WEIR_MUST_USE weir_err_t weir_reader_guard_check(weir_reader_guard_t *guard, const void *bytes,
                                                 uint64_t size, uint64_t *checked,
                                                 weir_error_t *error);

WEIR_MUST_USE weir_err_t weir_reader_chain_open(const weir_reader_t *reader, const char *table,
                                                weir_slot_t first, weir_slot_t end,
                                                uint64_t *blocks_checked,
                                                weir_reader_chain_t *chain, weir_error_t *error);
void weir_reader_chain_close(weir_reader_chain_t *chain); /* accepts one that is all zeros */
/* As weir_reader_guard_check, of any file of the chain. */
WEIR_MUST_USE weir_err_t weir_reader_chain_check(weir_reader_chain_t *chain,
                                                 const weir_snapshot_file_t *file,
                                                 const void *bytes, uint64_t size,
                                                 weir_error_t *error);

/* Read `about` of the schema and columns of a chain that is open. CORRUPT. */
WEIR_MUST_USE weir_err_t weir_reader_describe(weir_reader_table_own_t *table, weir_error_t *error);

/* Hand an error over the border of the library; returns its code. */
int weir_reader_fail(weir_err_t err, const weir_error_t *own, weir_reader_error_t *error);

#endif
