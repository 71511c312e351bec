/* safetensors: the one container of weir (prepared data, checkpoints, exports, fixtures).
 *
 * Layout (https://huggingface.co/docs/safetensors): 8 bytes little-endian header length, a JSON
 * header (name -> dtype, shape, data_offsets; "__metadata__" -> strings), then row-major bytes. The
 * header is padded with spaces so that the data starts at a multiple of 64 bytes of the file.
 *
 * The reader maps the file and treats it as hostile: header length, JSON, dtypes, shapes, offsets,
 * overlaps, holes and the file's size are checked before anything is used. */
#ifndef WEIR_COMMON_TENSOR_FILE_H
#define WEIR_COMMON_TENSOR_FILE_H

#include "common/background.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    WEIR_DTYPE_U8,
    WEIR_DTYPE_I8,
    WEIR_DTYPE_U16,
    WEIR_DTYPE_I16,
    WEIR_DTYPE_F16,
    WEIR_DTYPE_BF16,
    WEIR_DTYPE_U32,
    WEIR_DTYPE_I32,
    WEIR_DTYPE_F32,
    WEIR_DTYPE_U64,
    WEIR_DTYPE_I64,
    WEIR_DTYPE_F64,
    WEIR_DTYPE_COUNT
} weir_dtype_t;

size_t weir_dtype_size(weir_dtype_t dtype);      /* bytes */
const char *weir_dtype_name(weir_dtype_t dtype); /* as in the file: "F32", "I64", ... */

enum { WEIR_TENSOR_MAX_RANK = 8 };

typedef struct {
    const char *name; /* owned by the file */
    weir_dtype_t dtype;
    uint32_t rank; /* number of dimensions, 0 for a scalar */
    uint64_t shape[WEIR_TENSOR_MAX_RANK];
    uint64_t elements;  /* product of shape */
    uint64_t bytes;     /* elements * size of dtype */
    const void *values; /* in the map; valid until close; aligned as the file aligns it */
} weir_tensor_t;

typedef struct weir_tensor_file weir_tensor_file_t;

/* Map and check a file. It must not be cut short while it is open (ours never are: a new file
 * replaces an old one by rename). Errors: NOT_FOUND, IO, CORRUPT; UNSUPPORTED for a dtype or rank
 * beyond the above. Ownership: caller closes. Call: blocks. Threads: any (then read-only). */
WEIR_MUST_USE weir_err_t weir_tensor_file_open(const char *path, weir_tensor_file_t **file,
                                               weir_error_t *error);

/* As open, over bytes in memory (they must outlive the file): for fuzzing and tests. */
WEIR_MUST_USE weir_err_t weir_tensor_file_open_memory(const void *bytes, size_t size,
                                                      const char *name, weir_tensor_file_t **file,
                                                      weir_error_t *error);
void weir_tensor_file_close(weir_tensor_file_t *file);

const char *weir_tensor_file_path(const weir_tensor_file_t *file);
uint64_t weir_tensor_file_size(const weir_tensor_file_t *file); /* bytes */
/* Its first bytes, up to the values: length and JSON; returns how many. */
size_t weir_tensor_file_header(const weir_tensor_file_t *file, const void **bytes);
size_t weir_tensor_file_count(const weir_tensor_file_t *file);
/* In order of offset; NULL past the end. */
const weir_tensor_t *weir_tensor_file_at(const weir_tensor_file_t *file, size_t index);

/* NULL when there is no such tensor. */
const weir_tensor_t *weir_tensor_file_find(const weir_tensor_file_t *file, const char *name);

/* A tensor that must be there with this dtype and rank; a dimension of UINT64_MAX matches any.
 * Fails with a sentence that names file, tensor, what was expected and what is there; also fails
 * when the values are not aligned for their dtype. */
WEIR_MUST_USE weir_err_t weir_tensor_file_require(const weir_tensor_file_t *file, const char *name,
                                                  weir_dtype_t dtype, uint32_t rank,
                                                  const uint64_t *shape, const weir_tensor_t **out,
                                                  weir_error_t *error);

/* NULL when there is no such metadata key. Iterate with at(): false past the end. */
const char *weir_tensor_file_metadata(const weir_tensor_file_t *file, const char *key);
bool weir_tensor_file_metadata_at(const weir_tensor_file_t *file, size_t index, const char **key,
                                  const char **value);

/* Tell the kernel how the values will be read: whole and in order, or at random. */
void weir_tensor_file_advise(const weir_tensor_file_t *file, bool sequential);

/* ---- writing: declare all tensors, begin, then give the bytes in the declared order ---- */

typedef struct weir_tensor_writer weir_tensor_writer_t;

/* A writer of PATH (through PATH.tmp.PID; PATH appears only on commit). */
WEIR_MUST_USE weir_err_t weir_tensor_writer_create(const char *path, weir_tensor_writer_t **writer,
                                                   weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_tensor_writer_metadata(weir_tensor_writer_t *writer, const char *key,
                                                     const char *value, weir_error_t *error);
/* `shape` may be NULL when rank is 0. Tensors lie in the file in the order of declaration, without
 * gaps, so declare larger elements first: a tensor that would not lie at a multiple of its
 * element's size is refused. */
WEIR_MUST_USE weir_err_t weir_tensor_writer_declare(weir_tensor_writer_t *writer, const char *name,
                                                    weir_dtype_t dtype, uint32_t rank,
                                                    const uint64_t *shape, weir_error_t *error);
/* After the last declaration: the file ends in the checksums of its blocks, which the writer makes,
 * and `checksum` of commit is of header and these (common/tensor_blocks.h). */
WEIR_MUST_USE weir_err_t weir_tensor_writer_blocks(weir_tensor_writer_t *writer,
                                                   weir_error_t *error);
/* Writes the header. */
WEIR_MUST_USE weir_err_t weir_tensor_writer_begin(weir_tensor_writer_t *writer,
                                                  weir_error_t *error);

/* Append `size` bytes of values; tensors are filled one after the other, in any pieces. A failure
 * (a full disk) is final: every later append and the commit fail with the same sentence. */
WEIR_MUST_USE weir_err_t weir_tensor_writer_append(weir_tensor_writer_t *writer, const void *bytes,
                                                   size_t size, weir_error_t *error);

/* Append to the values of one tensor, by its number in the order of declaration: several are filled
 * in turn. Only of a writer with blocks. */
WEIR_MUST_USE weir_err_t weir_tensor_writer_fill(weir_tensor_writer_t *writer, size_t tensor,
                                                 const void *bytes, size_t size,
                                                 weir_error_t *error);

/* As fill, without a copy: where the next `size` bytes of a tensor belong, to be written there
 * before anything else is asked of the writer and then confirmed by placed. NULL: give them to
 * fill. */
void *weir_tensor_writer_place(weir_tensor_writer_t *writer, size_t tensor, size_t size);
void weir_tensor_writer_placed(weir_tensor_writer_t *writer, size_t tensor, size_t size);

/* Of a writer with blocks, before the first value: blocks are written by `background` (not owned)
 * while the caller goes on; of `limit` blocks at the most (more if the tensors need them) the bytes
 * are in memory, beyond which fill waits. A failure is that of a later call. */
void weir_tensor_writer_write_behind(weir_tensor_writer_t *writer, weir_background_t *background,
                                     size_t limit);
/* Blocks that may be filled now without waiting, those begun not counted. */
size_t weir_tensor_writer_room(weir_tensor_writer_t *writer);

/* All declared bytes must have come: flush, fsync, rename, fsync of the directory. `checksum` and
 * `size` of the whole file may be NULL. The writer must still be destroyed. */
WEIR_MUST_USE weir_err_t weir_tensor_writer_commit(weir_tensor_writer_t *writer, uint64_t *checksum,
                                                   uint64_t *size, weir_error_t *error);

/* Without a commit before it, removes what was written. Accepts NULL. */
void weir_tensor_writer_destroy(weir_tensor_writer_t *writer);

#endif
