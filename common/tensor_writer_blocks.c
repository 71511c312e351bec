/* Tensors filled side by side: each has one block in memory, which goes to its place in the file
 * when it is full, at once or by another thread. */
#include "common/file.h"
#include "common/tensor_blocks.h"
#include "common/tensor_writer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = WEIR_TENSOR_BLOCK_BYTES };

typedef struct weir_block {
    weir_background_task_t task; /* first: a task is a block */
    weir_tensor_writer_t *writer;
    struct weir_block *next; /* free */
    uint64_t offset;         /* in the file */
    size_t size;
    uint64_t *checksum; /* where it goes */
    unsigned char bytes[];
} block_t;

weir_err_t weir_tensor_blocks_create(size_t count, weir_tensor_writer_blocks_t **blocks) {
    weir_tensor_writer_blocks_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return WEIR_ERR_MEMORY;
    }
    made->checksums = calloc(count + 1, sizeof *made->checksums);
    if (made->checksums == NULL) {
        free(made);
        return WEIR_ERR_MEMORY;
    }
    made->count = count;
    made->limit = SIZE_MAX;
    (void)pthread_mutex_init(&made->mutex, NULL);
    (void)pthread_cond_init(&made->returned, NULL);
    *blocks = made;
    return WEIR_OK;
}

static void wait_for_all(weir_tensor_writer_blocks_t *blocks) {
    (void)pthread_mutex_lock(&blocks->mutex);
    while (blocks->out > 0) {
        (void)pthread_cond_wait(&blocks->returned, &blocks->mutex);
    }
    (void)pthread_mutex_unlock(&blocks->mutex);
}

void weir_tensor_blocks_destroy(weir_tensor_writer_t *writer) {
    weir_tensor_writer_blocks_t *blocks = writer->blocks;
    if (blocks == NULL) {
        return;
    }
    wait_for_all(blocks);
    for (size_t i = 0; i < writer->stream_count; i++) {
        free(writer->streams[i].block);
    }
    while (blocks->free != NULL) {
        block_t *block = blocks->free;
        blocks->free = block->next;
        free(block);
    }
    (void)pthread_cond_destroy(&blocks->returned);
    (void)pthread_mutex_destroy(&blocks->mutex);
    free(blocks->checksums);
    free(blocks);
}

/* A block to fill; NULL: no memory. Waits while as many as may be are being written. */
static block_t *take_block(weir_tensor_writer_blocks_t *blocks) {
    block_t *block = NULL;
    (void)pthread_mutex_lock(&blocks->mutex);
    while (blocks->free == NULL && blocks->made >= blocks->limit) {
        (void)pthread_cond_wait(&blocks->returned, &blocks->mutex);
    }
    if (blocks->free != NULL) {
        block = blocks->free;
        blocks->free = block->next;
    } else {
        block = malloc(sizeof *block + BLOCK);
        blocks->made += block != NULL;
    }
    (void)pthread_mutex_unlock(&blocks->mutex);
    if (block != NULL) {
        block->size = 0;
    }
    return block;
}

/* Checksum and write; where another thread does it, the disk begins at once too. */
static weir_err_t write_bytes(const weir_tensor_writer_t *writer, const void *bytes, size_t size,
                              uint64_t offset, uint64_t *checksum, weir_error_t *error) {
    *checksum = XXH3_64bits(bytes, size);
    weir_err_t err = weir_file_write_at(writer->fd, bytes, size, offset, writer->path, error);
    if (err == WEIR_OK && writer->blocks->background != NULL) {
        /* Advice alone: fsync at the end is what counts. */
        (void)sync_file_range(writer->fd, (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE);
    }
    return err;
}

static void run_block(weir_background_task_t *task) {
    block_t *block = (block_t *)(void *)task;
    weir_tensor_writer_t *writer = block->writer;
    weir_tensor_writer_blocks_t *blocks = writer->blocks;
    weir_error_t failure = {.code = WEIR_OK};
    (void)pthread_mutex_lock(&blocks->mutex);
    bool failed = blocks->failure.code != WEIR_OK;
    (void)pthread_mutex_unlock(&blocks->mutex);
    if (!failed) {
        (void)!write_bytes(writer, block->bytes, block->size, block->offset, block->checksum,
                           &failure);
    }
    (void)pthread_mutex_lock(&blocks->mutex);
    if (!failed && failure.code != WEIR_OK) {
        blocks->failure = failure;
    }
    block->next = blocks->free;
    blocks->free = block;
    blocks->out--;
    (void)pthread_cond_signal(&blocks->returned);
    (void)pthread_mutex_unlock(&blocks->mutex);
}

/* A failure of writing, as the writer's own. */
static weir_err_t take_failure(weir_tensor_writer_t *writer) {
    weir_tensor_writer_blocks_t *blocks = writer->blocks;
    (void)pthread_mutex_lock(&blocks->mutex);
    if (writer->failure.code == WEIR_OK) {
        writer->failure = blocks->failure;
    }
    (void)pthread_mutex_unlock(&blocks->mutex);
    return writer->failure.code;
}

static weir_err_t give_block(weir_tensor_writer_t *writer, weir_tensor_stream_t *stream) {
    weir_tensor_writer_blocks_t *blocks = writer->blocks;
    block_t *block = stream->block;
    uint64_t begin = stream->done - block->size;
    stream->block = NULL;
    block->writer = writer;
    block->offset = stream->offset + begin;
    block->checksum = &blocks->checksums[stream->first_block + begin / BLOCK];
    (void)pthread_mutex_lock(&blocks->mutex);
    blocks->out++;
    (void)pthread_mutex_unlock(&blocks->mutex);
    block->task.run = run_block;
    if (blocks->background != NULL) {
        weir_background_give(blocks->background, &block->task);
    } else {
        run_block(&block->task);
    }
    return take_failure(writer);
}

/* Whole blocks that come in one piece need not be copied. */
static size_t write_directly(weir_tensor_writer_t *writer, weir_tensor_stream_t *stream,
                             const unsigned char *bytes, size_t size) {
    size_t done = 0;
    while (stream->block == NULL && writer->blocks->background == NULL && size - done >= BLOCK &&
           writer->failure.code == WEIR_OK) {
        uint64_t *checksum = &writer->blocks->checksums[stream->first_block + stream->done / BLOCK];
        (void)!write_bytes(writer, bytes + done, BLOCK, stream->offset + stream->done, checksum,
                           &writer->failure);
        stream->done += BLOCK;
        done += BLOCK;
    }
    return done;
}

weir_err_t weir_tensor_blocks_fill(weir_tensor_writer_t *writer, weir_tensor_stream_t *stream,
                                   const void *bytes, size_t size) {
    const unsigned char *rest = bytes;
    while (size > 0 && writer->failure.code == WEIR_OK) {
        size_t part = write_directly(writer, stream, rest, size);
        if (part == 0) {
            stream->block = stream->block == NULL ? take_block(writer->blocks) : stream->block;
            if (stream->block == NULL) {
                return weir_errorf(&writer->failure, WEIR_ERR_MEMORY, "no memory to write '%s'",
                                   writer->path);
            }
            part = BLOCK - stream->block->size;
            part = part < size ? part : size;
            memcpy(stream->block->bytes + stream->block->size, rest, part);
            stream->block->size += part;
            stream->done += part;
        }
        rest += part;
        size -= part;
        if (stream->block != NULL &&
            (stream->block->size == BLOCK || stream->done == stream->bytes)) {
            (void)!give_block(writer, stream);
        }
    }
    return writer->failure.code;
}

weir_err_t weir_tensor_blocks_flush(weir_tensor_writer_t *writer) {
    wait_for_all(writer->blocks);
    return take_failure(writer);
}

weir_err_t weir_tensor_blocks_allocate(weir_tensor_writer_t *writer) {
    uint64_t size = writer->written + writer->declared +
                    writer->blocks->count * sizeof *writer->blocks->checksums;
    int failed;
    do {
        failed = fallocate(writer->fd, 0, 0, (off_t)size) == 0 ? 0 : errno;
    } while (failed == EINTR);
    if (failed == ENOSPC || failed == EDQUOT || failed == EFBIG) {
        return weir_error_from_errno(&writer->failure, failed, "write '%s'", writer->path);
    }
    return WEIR_OK; /* others: file systems that cannot; writing will tell */
}

/* Bytes of a stream's block that are free; a block that is full, or none, is none. */
void *weir_tensor_writer_place(weir_tensor_writer_t *writer, size_t tensor, size_t size) {
    weir_tensor_stream_t *stream = &writer->streams[tensor];
    block_t *block = stream->block;
    return block != NULL && BLOCK - block->size > size && stream->bytes - stream->done > size
               ? block->bytes + block->size
               : NULL;
}

void weir_tensor_writer_placed(weir_tensor_writer_t *writer, size_t tensor, size_t size) {
    weir_tensor_stream_t *stream = &writer->streams[tensor];
    stream->block->size += size;
    stream->done += size;
    writer->appended += size;
}

void weir_tensor_writer_write_behind(weir_tensor_writer_t *writer, weir_background_t *background,
                                     size_t limit) {
    size_t least = writer->stream_count + 2;
    writer->blocks->background = background;
    writer->blocks->limit = limit > least ? limit : least;
}

size_t weir_tensor_writer_room(weir_tensor_writer_t *writer) {
    weir_tensor_writer_blocks_t *blocks = writer->blocks;
    size_t taken = 0;
    for (size_t i = 0; i < writer->stream_count; i++) {
        taken += writer->streams[i].block != NULL;
    }
    (void)pthread_mutex_lock(&blocks->mutex);
    taken += blocks->out;
    (void)pthread_mutex_unlock(&blocks->mutex);
    return blocks->limit > taken ? blocks->limit - taken : 0;
}
