/* What a checkpoint holds, measured: its tables, its dense parameters, and how their numbers look.
 * Values are read through the map once, in order; nothing is kept but the sums. */
#ifndef WEIR_TOOLS_SURVEY_H
#define WEIR_TOOLS_SURVEY_H

#include "common/checkpoint.h"
#include "common/error.h"
#include "common/file.h"
#include "common/tensor_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIR_SURVEY_TABLE_NAME = 64, WEIR_SURVEY_FIELDS = 8 };

/* Some floats. min, max and norm are of the finite ones: 0 where there are none. */
typedef struct {
    uint64_t count, nan, infinite;
    double min, max;
    double norm; /* L2 */
} weir_survey_values_t;

/* Norms (L2) of rows; rows with a value that is not finite are left out. 0 where there are none. */
typedef struct {
    uint64_t rows;
    double min, mean, max;
} weir_survey_norms_t;

typedef struct {
    char name[32];  /* "value", "m", ... */
    uint64_t width; /* floats a row */
    weir_survey_values_t values;
} weir_survey_field_t;

typedef struct {
    const weir_checkpoint_file_t *file; /* in the manifest */
    uint32_t index;                     /* of the server that wrote it */
    uint64_t rows;
} weir_survey_shard_t;

typedef struct {
    char name[WEIR_SURVEY_TABLE_NAME];
    char optimizer[32];
    uint64_t rows, dim, bytes; /* bytes: of its files */
    weir_survey_norms_t norms; /* of "value" */
    weir_survey_field_t fields[WEIR_SURVEY_FIELDS];
    size_t field_count;
    weir_survey_shard_t *shards; /* owned, by index */
    size_t shard_count;
} weir_survey_table_t;

typedef struct {
    const weir_tensor_t *tensor; /* in weir_survey_t.dense_file */
    bool measured;               /* false: a dtype that is listed only */
    weir_survey_values_t values;
} weir_survey_dense_t;

typedef struct {
    char folder[WEIR_PATH_MAX]; /* resolved */
    bool verified;              /* checksums were compared */
    weir_manifest_t manifest;
    weir_survey_table_t *tables; /* owned, in order of name */
    size_t table_count;
    weir_tensor_file_t *dense_file; /* owned; NULL: the checkpoint has none */
    weir_survey_dense_t *dense;     /* owned, as they lie in the file */
    size_t dense_count;
} weir_survey_t;

/* Measure the checkpoint that `where` means (weir_checkpoint_resolve). `verify`: also compare every
 * checksum, and that every row lies in its slot, in order. Errors name the file: NOT_FOUND,
 * CORRUPT, VERSION, UNSUPPORTED, MEMORY. Ownership: caller calls fini. Call: blocks. Threads: any.
 */
WEIR_MUST_USE weir_err_t weir_survey_make(const char *where, bool verify, weir_survey_t *survey,
                                          weir_error_t *error);
void weir_survey_fini(weir_survey_t *survey);

/* "item.ps-0001-of-0002.safetensors" into table, index and count; false for any other name.
 * Call: local. */
bool weir_survey_parse_shard(const char *file, char table[WEIR_SURVEY_TABLE_NAME], uint32_t *index,
                             uint32_t *count);

/* For a person and, whole, as JSON, to standard output. `all`: every configuration key, not those
 * alone that differ from their defaults. */
WEIR_MUST_USE weir_err_t weir_survey_print(const weir_survey_t *survey, bool all,
                                           weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_survey_print_json(const weir_survey_t *survey, weir_error_t *error);

#endif
