/* Checksums of blocks: how a reader verifies any part of a tensor file alone.
 *
 * Each tensor's bytes are cut into *blocks* of WEIR_TENSOR_BLOCK_BYTES, the last one shorter. The
 * last tensor of the file, "block_checksums" U64 [n], holds XXH3-64 of every block of the others,
 * in the order of the file; it lies at any address. The *checksum of the file* is XXH3-64 over its
 * header (8 bytes of length, JSON) followed by the bytes of block_checksums. */
#ifndef WEIR_COMMON_TENSOR_BLOCKS_H
#define WEIR_COMMON_TENSOR_BLOCKS_H

#include "common/tensor_file.h"

#define WEIR_TENSOR_BLOCKS_NAME "block_checksums"

enum { WEIR_TENSOR_BLOCK_BYTES = 1 << 20 };

/* Blocks of a tensor of `bytes`. */
static inline uint64_t weir_tensor_blocks_of(uint64_t bytes) {
    return bytes / WEIR_TENSOR_BLOCK_BYTES + (bytes % WEIR_TENSOR_BLOCK_BYTES != 0 ? 1 : 0);
}

/* A block that is not what it was: bytes [begin, end) of `tensor`. */
typedef void weir_tensor_bad_block_t(void *argument, const weir_tensor_t *tensor, uint64_t begin,
                                     uint64_t end);

/* The checksum of an open file, of header and block_checksums alone. Errors: CORRUPT, when the file
 * has no block_checksums, not as the last tensor, or not as many as it has blocks. Call: local. */
WEIR_MUST_USE weir_err_t weir_tensor_blocks_checksum(const weir_tensor_file_t *file,
                                                     uint64_t *checksum, weir_error_t *error);

/* Compare every block; `bad` is told of each that differs (NULL: stop at the first). Errors: as
 * above; CORRUPT when any differs, with the first in the sentence. Call: blocks (reads it all). */
WEIR_MUST_USE weir_err_t weir_tensor_blocks_verify(const weir_tensor_file_t *file,
                                                   weir_tensor_bad_block_t *bad, void *argument,
                                                   weir_error_t *error);

/* Blocks of the file; 0: it has no block_checksums. Call: local. */
uint64_t weir_tensor_blocks_count(const weir_tensor_file_t *file);

/* Compare the blocks in which `size` > 0 bytes at `bytes`, values of one tensor of the file, lie;
 * those whose bit in `seen` (a bit for each block of the file) is set are left out, and *checked
 * counts the others. Errors: as above. Call: blocks. Cost: a megabyte read a block. */
WEIR_MUST_USE weir_err_t weir_tensor_blocks_verify_part(const weir_tensor_file_t *file,
                                                        const void *bytes, uint64_t size,
                                                        uint8_t *seen, uint64_t *checked,
                                                        weir_error_t *error);

/* As the checksum of the file PATH: `verify` compares the blocks too. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_tensor_blocks_check_path(const char *path, bool verify,
                                                       uint64_t *checksum, uint64_t *size,
                                                       weir_error_t *error);

#endif
