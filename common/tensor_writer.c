/* The writer. Bytes go through one buffer to a temporary file, the checksum with them, in order of
 * the file, or tensor by tensor through blocks; nothing is ever written twice. */
#include "common/file.h"
#include "common/tensor_blocks.h"
#include "common/tensor_writer_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_SIZE = 1024 * 1024, LENGTH_SIZE = 8, DATA_ALIGNMENT = 64 };

/* Pass on the failure that was kept. */
static weir_err_t pass_failure(const weir_tensor_writer_t *writer, weir_error_t *error) {
    if (error != NULL) {
        *error = writer->failure;
    }
    return writer->failure.code;
}

weir_err_t weir_tensor_writer_create(const char *path, weir_tensor_writer_t **writer,
                                     weir_error_t *error) {
    weir_err_t status = WEIR_OK;
    size_t room = strlen(path) + 32;
    weir_tensor_writer_t *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to write '%s'", path);
    }
    created->fd = -1;
    created->path = strdup(path);
    created->temporary = malloc(room);
    created->buffer = malloc(BUFFER_SIZE);
    created->checksum = XXH3_createState();
    created->header = json_object();
    created->metadata = json_object();
    if (created->path == NULL || created->temporary == NULL || created->buffer == NULL ||
        created->checksum == NULL || created->header == NULL || created->metadata == NULL ||
        XXH3_64bits_reset(created->checksum) != XXH_OK) {
        status = weir_errorf(error, WEIR_ERR_MEMORY, "no memory to write '%s'", path);
        goto out;
    }
    (void)snprintf(created->temporary, room, "%s.tmp.%ld", path, (long)getpid());
    created->fd = open(created->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (created->fd < 0) {
        status = weir_error_from_errno(error, errno, "create '%s'", created->temporary);
        goto out;
    }
    *writer = created;
    created = NULL;
out:
    weir_tensor_writer_destroy(created);
    return status;
}

weir_err_t weir_tensor_writer_metadata(weir_tensor_writer_t *writer, const char *key,
                                       const char *value, weir_error_t *error) {
    if (writer->begun) {
        return weir_errorf(error, WEIR_ERR_INVALID, "'%s': metadata '%s' after begin", writer->path,
                           key);
    }
    /* jansson refuses text that is not UTF-8, which no reader could open. */
    if (json_object_set_new(writer->metadata, key, json_string(value)) != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID, "'%s': metadata '%.100s' is no UTF-8 text",
                           writer->path, key);
    }
    return WEIR_OK;
}

/* The bytes of a tensor; false where they overflow, or exceed what JSON integers hold. */
static bool count_bytes(weir_dtype_t dtype, uint32_t rank, const uint64_t *shape, uint64_t *bytes) {
    uint64_t product = weir_dtype_size(dtype);
    for (uint32_t i = 0; i < rank; i++) {
        if (shape[i] > INT64_MAX || __builtin_mul_overflow(product, shape[i], &product)) {
            return false;
        }
    }
    *bytes = product;
    return true;
}

weir_err_t weir_tensor_writer_declare(weir_tensor_writer_t *writer, const char *name,
                                      weir_dtype_t dtype, uint32_t rank, const uint64_t *shape,
                                      weir_error_t *error) {
    uint64_t bytes = 0, end = 0;
    const char *problem = NULL;
    if (writer->begun) {
        problem = "is declared after begin";
    } else if (strcmp(name, "__metadata__") == 0 || json_object_get(writer->header, name) != NULL) {
        problem = "has a name that is taken";
    } else if (rank > WEIR_TENSOR_MAX_RANK) {
        problem = "has too many dimensions";
    } else if (!count_bytes(dtype, rank, shape, &bytes) ||
               __builtin_add_overflow(writer->declared, bytes, &end) || end > INT64_MAX) {
        problem = "is too large";
    } else if (writer->declared % weir_dtype_size(dtype) != 0 && bytes > 0 &&
               strcmp(name, WEIR_TENSOR_BLOCKS_NAME) != 0) {
        problem = "would lie unaligned: declare tensors with larger elements first";
    }
    if (problem != NULL) {
        return weir_errorf(error, WEIR_ERR_INVALID, "'%s': tensor '%.100s' %s", writer->path, name,
                           problem);
    }
    json_t *dimensions = json_array();
    for (uint32_t i = 0; i < rank && dimensions != NULL; i++) {
        if (json_array_append_new(dimensions, json_integer((json_int_t)shape[i])) != 0) {
            json_decref(dimensions);
            dimensions = NULL;
        }
    }
    json_t *entry =
        dimensions == NULL
            ? NULL
            : json_pack("{s:s, s:o, s:[I, I]}", "dtype", weir_dtype_name(dtype), "shape",
                        dimensions, "data_offsets", (json_int_t)writer->declared, (json_int_t)end);
    if (json_object_set_new(writer->header, name, entry) != 0) {
        return weir_errorf(error, WEIR_ERR_INVALID,
                           "'%s': tensor name '%.100s' is no UTF-8 text, or there is no memory",
                           writer->path, name);
    }
    weir_tensor_stream_t *streams =
        realloc(writer->streams, (writer->stream_count + 1) * sizeof *streams);
    if (streams == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to write '%s'", writer->path);
    }
    writer->streams = streams;
    writer->streams[writer->stream_count++] =
        (weir_tensor_stream_t){.bytes = bytes, .offset = writer->declared};
    writer->declared = end;
    return WEIR_OK;
}

weir_err_t weir_tensor_writer_blocks(weir_tensor_writer_t *writer, weir_error_t *error) {
    uint64_t count = 0;
    char text[32];
    for (size_t t = 0; t < writer->stream_count; t++) {
        writer->streams[t].first_block = count;
        count += weir_tensor_blocks_of(writer->streams[t].bytes);
    }
    (void)snprintf(text, sizeof text, "%d", WEIR_TENSOR_BLOCK_BYTES);
    weir_err_t status = weir_tensor_writer_metadata(writer, "block_bytes", text, error);
    if (status == WEIR_OK) {
        status = weir_tensor_writer_declare(writer, WEIR_TENSOR_BLOCKS_NAME, WEIR_DTYPE_U64, 1,
                                            &count, error);
    }
    if (status != WEIR_OK) {
        return status;
    }
    if (weir_tensor_blocks_create(count, &writer->blocks) != WEIR_OK) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to write '%s'", writer->path);
    }
    /* The writer's own, not the caller's to append. */
    writer->declared -= count * sizeof(uint64_t);
    writer->stream_count--;
    return WEIR_OK;
}

/* Write bytes to the file, past the buffer. A failure is kept for good. */
static weir_err_t write_through(weir_tensor_writer_t *writer, const void *bytes, size_t size) {
    return weir_file_write_all(writer->fd, bytes, size, writer->path, &writer->failure);
}

static weir_err_t flush(weir_tensor_writer_t *writer) {
    weir_err_t status = write_through(writer, writer->buffer, writer->buffered);
    writer->buffered = 0;
    return status;
}

/* Bytes of the file, in order: into its checksum, and through the buffer unless they are many. */
static weir_err_t put(weir_tensor_writer_t *writer, const void *bytes, size_t size) {
    weir_err_t status = WEIR_OK;
    (void)XXH3_64bits_update(writer->checksum, bytes, size);
    writer->written += size;
    if (size > BUFFER_SIZE - writer->buffered) {
        status = flush(writer);
    }
    if (status == WEIR_OK && size >= BUFFER_SIZE) {
        return write_through(writer, bytes, size);
    }
    if (status == WEIR_OK && size > 0) {
        memcpy(writer->buffer + writer->buffered, bytes, size);
        writer->buffered += size;
    }
    return status;
}

weir_err_t weir_tensor_writer_begin(weir_tensor_writer_t *writer, weir_error_t *error) {
    if (writer->failure.code != WEIR_OK) {
        return pass_failure(writer, error);
    }
    if (writer->begun) {
        return weir_errorf(error, WEIR_ERR_INVALID, "'%s' is begun twice", writer->path);
    }
    writer->begun = true;
    char *text = NULL;
    if (json_object_size(writer->metadata) == 0 ||
        json_object_set(writer->header, "__metadata__", writer->metadata) == 0) {
        text = json_dumps(writer->header, JSON_COMPACT);
    }
    if (text == NULL) {
        (void)weir_errorf(&writer->failure, WEIR_ERR_MEMORY, "no memory to write '%s'",
                          writer->path);
        return pass_failure(writer, error);
    }
    static const char spaces[] = "                                                                ";
    size_t length = strlen(text);
    size_t padding = (DATA_ALIGNMENT - (LENGTH_SIZE + length) % DATA_ALIGNMENT) % DATA_ALIGNMENT;
    unsigned char prefix[LENGTH_SIZE];
    for (int i = 0; i < LENGTH_SIZE; i++) {
        prefix[i] = (unsigned char)((uint64_t)(length + padding) >> (8 * i));
    }
    weir_err_t status = put(writer, prefix, sizeof prefix);
    if (status == WEIR_OK) {
        status = put(writer, text, length);
    }
    if (status == WEIR_OK) {
        status = put(writer, spaces, padding);
    }
    free(text);
    if (status == WEIR_OK && writer->blocks != NULL) {
        status = flush(writer);
        for (size_t t = 0; t < writer->stream_count; t++) {
            writer->streams[t].offset += writer->written;
        }
        if (status == WEIR_OK) {
            status = weir_tensor_blocks_allocate(writer);
        }
    }
    return status == WEIR_OK ? WEIR_OK : pass_failure(writer, error);
}

/* Whether values may come now. */
static weir_err_t check_open(const weir_tensor_writer_t *writer, weir_error_t *error) {
    if (writer->failure.code != WEIR_OK) {
        return pass_failure(writer, error);
    }
    return writer->begun && !writer->committed
               ? WEIR_OK
               : weir_errorf(error, WEIR_ERR_INVALID, "'%s': values outside begin and commit",
                             writer->path);
}

static weir_err_t refuse_more(const weir_tensor_writer_t *writer, weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_INVALID, "'%s': more values than were declared",
                       writer->path);
}

weir_err_t weir_tensor_writer_fill(weir_tensor_writer_t *writer, size_t tensor, const void *bytes,
                                   size_t size, weir_error_t *error) {
    weir_err_t status = check_open(writer, error);
    if (status != WEIR_OK) {
        return status;
    }
    if (writer->blocks == NULL || tensor >= writer->stream_count ||
        size > writer->streams[tensor].bytes - writer->streams[tensor].done) {
        return refuse_more(writer, error);
    }
    writer->appended += size;
    status = weir_tensor_blocks_fill(writer, &writer->streams[tensor], bytes, size);
    return status == WEIR_OK ? WEIR_OK : pass_failure(writer, error);
}

/* Values of any tensors, one after the other. */
static weir_err_t append_to_blocks(weir_tensor_writer_t *writer, const char *bytes, size_t size) {
    weir_err_t status = WEIR_OK;
    while (size > 0 && status == WEIR_OK) {
        weir_tensor_stream_t *stream = &writer->streams[writer->current];
        uint64_t left = stream->bytes - stream->done;
        size_t part = left < size ? (size_t)left : size;
        if (left == 0) {
            writer->current++;
            continue;
        }
        status = weir_tensor_blocks_fill(writer, stream, bytes, part);
        bytes += part;
        size -= part;
    }
    return status;
}

weir_err_t weir_tensor_writer_append(weir_tensor_writer_t *writer, const void *bytes, size_t size,
                                     weir_error_t *error) {
    weir_err_t status = check_open(writer, error);
    if (status != WEIR_OK) {
        return status;
    }
    if (size > writer->declared - writer->appended) {
        return refuse_more(writer, error);
    }
    writer->appended += size;
    status =
        writer->blocks != NULL ? append_to_blocks(writer, bytes, size) : put(writer, bytes, size);
    return status == WEIR_OK ? WEIR_OK : pass_failure(writer, error);
}

/* All blocks are in their places; their checksums come behind them. */
static weir_err_t finish_blocks(weir_tensor_writer_t *writer) {
    weir_err_t status = weir_tensor_blocks_flush(writer);
    size_t size = writer->blocks->count * sizeof *writer->blocks->checksums;
    writer->written += writer->declared;
    if (status == WEIR_OK) {
        (void)XXH3_64bits_update(writer->checksum, writer->blocks->checksums, size);
        status = weir_file_write_at(writer->fd, writer->blocks->checksums, size, writer->written,
                                    writer->path, &writer->failure);
    }
    writer->written += size;
    return status;
}

/* Flush, fsync, close, rename. The first failure is kept. */
static weir_err_t publish(weir_tensor_writer_t *writer) {
    weir_err_t status = flush(writer);
    if (status == WEIR_OK && fsync(writer->fd) != 0) {
        status = weir_error_from_errno(&writer->failure, errno, "fsync '%s'", writer->path);
    }
    if (close(writer->fd) != 0 && status == WEIR_OK) {
        status = weir_error_from_errno(&writer->failure, errno, "close '%s'", writer->path);
    }
    writer->fd = -1;
    if (status == WEIR_OK && rename(writer->temporary, writer->path) != 0) {
        status = weir_error_from_errno(&writer->failure, errno, "rename '%s' to '%s'",
                                       writer->temporary, writer->path);
    }
    return status;
}

weir_err_t weir_tensor_writer_commit(weir_tensor_writer_t *writer, uint64_t *checksum,
                                     uint64_t *size, weir_error_t *error) {
    if (writer->failure.code != WEIR_OK) {
        return pass_failure(writer, error);
    }
    if (!writer->begun || writer->committed || writer->appended != writer->declared) {
        return weir_errorf(
            error, WEIR_ERR_INVALID, "'%s': commit after %llu of %llu declared bytes", writer->path,
            (unsigned long long)writer->appended, (unsigned long long)writer->declared);
    }
    weir_err_t status = writer->blocks != NULL ? finish_blocks(writer) : WEIR_OK;
    if (status == WEIR_OK) {
        status = publish(writer);
    }
    if (status != WEIR_OK) {
        return pass_failure(writer, error);
    }
    writer->committed = true;
    status = weir_file_sync_parent(writer->path, error);
    if (status != WEIR_OK) {
        return status;
    }
    if (checksum != NULL) {
        *checksum = XXH3_64bits_digest(writer->checksum);
    }
    if (size != NULL) {
        *size = writer->written;
    }
    return WEIR_OK;
}

void weir_tensor_writer_destroy(weir_tensor_writer_t *writer) {
    if (writer == NULL) {
        return;
    }
    weir_tensor_blocks_destroy(writer); /* first: a block may be on its way to the file */
    if (writer->fd >= 0) {
        (void)close(writer->fd);
    }
    if (!writer->committed && writer->temporary != NULL) {
        (void)unlink(writer->temporary);
    }
    json_decref(writer->header);
    json_decref(writer->metadata);
    (void)XXH3_freeState(writer->checksum);
    free(writer->streams);
    free(writer->buffer);
    free(writer->temporary);
    free(writer->path);
    free(writer);
}
