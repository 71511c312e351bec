/* What the files of common/tensor_writer*.c share. */
#ifndef WEIR_COMMON_TENSOR_WRITER_INTERNAL_H
#define WEIR_COMMON_TENSOR_WRITER_INTERNAL_H

#include "common/background.h"
#include "common/tensor_file.h"

#include <jansson.h>
#include <pthread.h>
#include <xxhash.h>

/* A tensor whose bytes come. */
typedef struct {
    uint64_t bytes;
    uint64_t done;            /* bytes that have come */
    uint64_t offset;          /* of its values in the file */
    size_t first_block;       /* its first place in block_checksums */
    struct weir_block *block; /* that is being filled, or NULL */
} weir_tensor_stream_t;

/* The blocks of a writer, made of whatever comes for each tensor. */
typedef struct {
    uint64_t *checksums; /* count of them; owned */
    size_t count;
    weir_background_t *background; /* NULL: blocks are written at once */
    size_t limit;                  /* blocks in memory at the most */
    pthread_mutex_t mutex;         /* guards what follows */
    pthread_cond_t returned;
    struct weir_block *free; /* owned, as all that were made */
    size_t made, out;        /* made; of them filled or being written */
    weir_error_t failure;    /* of writing; the first one */
} weir_tensor_writer_blocks_t;

struct weir_tensor_writer {
    char *path;
    char *temporary;
    int fd; /* -1 once closed */
    json_t *header;
    json_t *metadata;
    uint64_t declared; /* bytes of values */
    uint64_t appended; /* of them given so far */
    uint64_t written;  /* bytes of the file so far, buffered ones included */
    unsigned char *buffer;
    size_t buffered;
    XXH3_state_t *checksum;
    weir_tensor_stream_t *streams; /* stream_count of them, as declared; owned */
    size_t stream_count;
    size_t current;                      /* that append goes to */
    weir_tensor_writer_blocks_t *blocks; /* NULL: no checksums of blocks; owned */
    bool begun;
    bool committed;
    weir_error_t failure; /* the first one; code WEIR_OK while there is none */
};

/* ---- common/tensor_writer_blocks.c ---- */

WEIR_MUST_USE weir_err_t weir_tensor_blocks_create(size_t count,
                                                   weir_tensor_writer_blocks_t **blocks);
/* Waits for what is being written. A writer without blocks is left alone. */
void weir_tensor_blocks_destroy(weir_tensor_writer_t *writer);
/* Room for the whole file: tensors that are filled side by side then lie in one piece, and a disk
 * that is too small is heard of before it is written to. */
WEIR_MUST_USE weir_err_t weir_tensor_blocks_allocate(weir_tensor_writer_t *writer);
/* More of a tensor; the caller has checked that it fits. A failure is kept in writer->failure. */
WEIR_MUST_USE weir_err_t weir_tensor_blocks_fill(weir_tensor_writer_t *writer,
                                                 weir_tensor_stream_t *stream, const void *bytes,
                                                 size_t size);
/* Wait until all that came is written. */
WEIR_MUST_USE weir_err_t weir_tensor_blocks_flush(weir_tensor_writer_t *writer);

#endif
