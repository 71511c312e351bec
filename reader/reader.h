/* libweir: read the checkpoints of weir from a program of one's own. Installed as <weir/reader.h>.
 *
 * A *reader* is one checkpoint, opened: a full one, or a delta with all that it builds on, which is
 * read as the one table it stands for. A *table* has *rows*; a row has a key of 64 bits, and
 * *columns*: "value", which is what the model uses, and the optimiser's state. Rows lie in the
 * order of a hash of their keys, cut into 16,384 *slots*. A key that was never trained has no row.
 *
 * Opening reads manifests, headers and offsets alone, whatever the size of the checkpoint. Every
 * file is taken for hostile: lengths, offsets and shapes are checked before use, and each block of
 * 1 MiB against its checksum before its first byte is given out (files of format 1 have no
 * checksums of blocks). The files must not be cut short while they are open; weir never does.
 *
 * Calls return 0 (or what they say) or a negative weir_reader_code; then `error`, where it is not
 * NULL, holds a sentence, and out-parameters are untouched. All text is UTF-8 and NUL-terminated.
 * Threads: a reader and its cursors by one thread at a time; different readers by any. */
#ifndef WEIR_READER_READER_H
#define WEIR_READER_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_READER_API __attribute__((visibility("default")))
#define WEIR_READER_CALL WEIR_READER_API __attribute__((warn_unused_result))

typedef enum {
    WEIR_READER_OK = 0,
    WEIR_READER_INVALID = -1,     /* an argument out of its domain */
    WEIR_READER_IO = -2,          /* the operating system refused to read */
    WEIR_READER_CORRUPT = -3,     /* a file is not what it claims to be */
    WEIR_READER_MEMORY = -4,      /* out of memory */
    WEIR_READER_NOT_FOUND = -7,   /* no such checkpoint, table or row */
    WEIR_READER_VERSION = -8,     /* a later weir wrote it */
    WEIR_READER_UNSUPPORTED = -12 /* valid, but not something this library can do */
} weir_reader_code;

enum { WEIR_READER_COLUMNS = 24, WEIR_READER_RANK = 8, WEIR_READER_SLOTS = 1 << 14 };

typedef struct {
    int code;
    char message[512]; /* one sentence */
} weir_reader_error_t;

typedef struct weir_reader weir_reader_t;
typedef struct weir_reader_rows weir_reader_rows_t;

/* ---- a checkpoint ---- */

/* Open the checkpoint that `where` means: its folder, a link to it, or the folder of a run, whose
 * latest is meant. Errors: NOT_FOUND, CORRUPT, VERSION, UNSUPPORTED, IO, MEMORY. Ownership: the
 * caller closes. Call: blocks. */
WEIR_READER_CALL int weir_reader_open(const char *where, weir_reader_t **reader,
                                      weir_reader_error_t *error);
/* Accepts NULL. What the reader gave out is gone with it; its cursors must be closed before. */
WEIR_READER_API void weir_reader_close(weir_reader_t *reader);

/* The steps of all complete checkpoints of a run, ascending; free() them (NULL where none). */
WEIR_READER_CALL int weir_reader_list(const char *run, uint64_t **steps, size_t *count,
                                      weir_reader_error_t *error);

typedef struct {
    const char *folder; /* resolved */
    uint64_t step, epoch;
    uint64_t base;             /* step that it builds on; 0: it is full */
    uint32_t servers, workers; /* that wrote it */
    double created;            /* seconds since 1970 */
    const char *version;       /* of the weir that wrote it */
    const char *config;        /* the whole configuration, YAML */
    const char *metrics;       /* of the last evaluation, a JSON object; NULL: none */
    uint64_t bytes;            /* of its files; not of those that it builds on */
    const uint64_t *chain;     /* the steps that it builds on, the next first */
    size_t chain_count;
} weir_reader_checkpoint_t;

/* Owned by the reader. Call: local. */
WEIR_READER_API const weir_reader_checkpoint_t *weir_reader_about(const weir_reader_t *reader);

/* ---- its tables ---- */

typedef struct {
    const char *name;  /* "value", "m", .., of a named segment "bias.value" */
    const char *dtype; /* as safetensors says: "F32", "BF16", "F16", "I8", "U16" */
    uint64_t width;    /* elements a row */
    size_t bytes;      /* a row */
} weir_reader_column_t;

typedef struct {
    const char *name;      /* "item" */
    const char *schema;    /* NAME:DIM:PRECISION:OPTIMIZER of each segment, by commas */
    const char *optimizer; /* of the first segment */
    uint32_t dim;          /* D: floats of a row's values, of all segments */
    uint32_t shards;       /* files of this checkpoint alone */
    uint64_t rows;         /* in all files; where `chained`, the same key may count in several */
    bool chained;          /* what it holds is in files of several checkpoints */
    uint64_t ttl;          /* steps without use after which a row expires; 0: never */
    uint32_t column_count;
    weir_reader_column_t columns[WEIR_READER_COLUMNS];
} weir_reader_table_t;

/* In the order of names. NULL past the end. Owned by the reader. Call: local. */
WEIR_READER_API size_t weir_reader_table_count(const weir_reader_t *reader);
WEIR_READER_API const weir_reader_table_t *weir_reader_table(const weir_reader_t *reader,
                                                             size_t index);
/* Of a name; NULL: there is none. */
WEIR_READER_API const weir_reader_table_t *weir_reader_find_table(const weir_reader_t *reader,
                                                                  const char *name);

/* ---- its rows ---- */

typedef struct {
    uint64_t key;
    uint64_t last_step;                       /* of its last use; 0: none */
    uint64_t count;                           /* of its updates */
    uint64_t saved;                           /* step of the checkpoint whose file it lies in */
    const void *columns[WEIR_READER_COLUMNS]; /* its bytes, in the order of the table's columns;
                                                 aligned to their elements */
} weir_reader_row_t;

/* The slot of a key: 0 .. WEIR_READER_SLOTS - 1. Call: local. */
WEIR_READER_API uint32_t weir_reader_slot(uint64_t key);

/* The row of a key. Errors: NOT_FOUND when it has none (never trained, removed, or expired),
 * CORRUPT, INVALID. `row` is valid until the reader is closed. Call: blocks. Cost: a binary search
 * among the keys of one slot in each file of the chain, O(log rows) blocks in all, of which those
 * not yet seen are read and compared with their checksums. */
WEIR_READER_CALL int weir_reader_get(weir_reader_t *reader, const weir_reader_table_t *table,
                                     uint64_t key, weir_reader_row_t *row,
                                     weir_reader_error_t *error);

/* All rows of slots [first, end), in the order of hashes. Ownership: the caller closes, before the
 * reader. Call: blocks. */
WEIR_READER_CALL int weir_reader_rows_open(weir_reader_t *reader, const weir_reader_table_t *table,
                                           uint32_t first, uint32_t end, weir_reader_rows_t **rows,
                                           weir_reader_error_t *error);
/* 1 and the next row, valid until the cursor is closed; 0 after the last; negative: an error, after
 * which the cursor can be closed alone. Each slot is checked before its first row is given. Call:
 * blocks. */
WEIR_READER_CALL int weir_reader_rows_next(weir_reader_rows_t *rows, weir_reader_row_t *row,
                                           weir_reader_error_t *error);
WEIR_READER_API void weir_reader_rows_close(weir_reader_rows_t *rows); /* accepts NULL */

/* The values of a row as the model sees them, `table->dim` floats, whatever precision they are kept
 * in. Call: local. */
WEIR_READER_API void weir_reader_values(const weir_reader_table_t *table,
                                        const weir_reader_row_t *row, float *values);

/* Blocks of 1 MiB read and compared with their checksums so far, by the reader and its cursors. */
WEIR_READER_API uint64_t weir_reader_blocks_checked(const weir_reader_t *reader);

/* ---- its dense parameters ---- */

typedef struct {
    const char *name;  /* "layer.0.uvqk" */
    const char *dtype; /* "F32" */
    uint32_t rank;
    uint64_t shape[WEIR_READER_RANK];
    uint64_t bytes;
    const void *values; /* row-major, aligned to 4 bytes at the least */
} weir_reader_tensor_t;

/* The tensors of dense.safetensors, or, `state`, of trainer.safetensors: the optimiser's, "m/NAME"
 * and "v/NAME". Each is compared with its checksums when it is first asked for. NOT_FOUND past the
 * end, and where the checkpoint has no such file. Owned by the reader. Call: blocks. */
WEIR_READER_API size_t weir_reader_dense_count(const weir_reader_t *reader, bool state);
WEIR_READER_CALL int weir_reader_dense(weir_reader_t *reader, bool state, size_t index,
                                       weir_reader_tensor_t *tensor, weir_reader_error_t *error);

#ifdef __cplusplus
}
#endif

#endif
