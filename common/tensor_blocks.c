#include "common/tensor_blocks.h"

#include "common/hash.h"

#include <stdlib.h>
#include <string.h>

/* block_checksums, and as many as there are blocks; NULL: CORRUPT. */
static const weir_tensor_t *find_blocks(const weir_tensor_file_t *file, weir_error_t *error) {
    const char *text = weir_tensor_file_metadata(file, "block_bytes");
    size_t count = weir_tensor_file_count(file);
    const weir_tensor_t *blocks = count == 0 ? NULL : weir_tensor_file_at(file, count - 1);
    uint64_t expected = 0;
    for (size_t i = 0; i + 1 < count; i++) {
        expected += weir_tensor_blocks_of(weir_tensor_file_at(file, i)->bytes);
    }
    if (blocks == NULL || strcmp(blocks->name, WEIR_TENSOR_BLOCKS_NAME) != 0 ||
        blocks->dtype != WEIR_DTYPE_U64 || blocks->rank != 1 || blocks->shape[0] != expected ||
        text == NULL || strtoull(text, NULL, 10) != WEIR_TENSOR_BLOCK_BYTES) {
        (void)weir_errorf(error, WEIR_ERR_CORRUPT,
                          "'%s' does not end in the checksums of its %llu blocks",
                          weir_tensor_file_path(file), (unsigned long long)expected);
        return NULL;
    }
    return blocks;
}

weir_err_t weir_tensor_blocks_checksum(const weir_tensor_file_t *file, uint64_t *checksum,
                                       weir_error_t *error) {
    const weir_tensor_t *blocks = find_blocks(file, error);
    if (blocks == NULL) {
        return WEIR_ERR_CORRUPT;
    }
    const void *header;
    size_t header_bytes = weir_tensor_file_header(file, &header);
    char *joined = malloc(header_bytes + blocks->bytes);
    if (joined == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to check '%s'",
                           weir_tensor_file_path(file));
    }
    memcpy(joined, header, header_bytes);
    memcpy(joined + header_bytes, blocks->values, blocks->bytes);
    *checksum = weir_checksum(joined, header_bytes + blocks->bytes, 0);
    free(joined);
    return WEIR_OK;
}

weir_err_t weir_tensor_blocks_verify(const weir_tensor_file_t *file, weir_tensor_bad_block_t *bad,
                                     void *argument, weir_error_t *error) {
    const weir_tensor_t *blocks = find_blocks(file, error);
    if (blocks == NULL) {
        return WEIR_ERR_CORRUPT;
    }
    weir_err_t status = WEIR_OK;
    const char *expected = blocks->values;
    for (size_t i = 0; i + 1 < weir_tensor_file_count(file); i++) {
        const weir_tensor_t *tensor = weir_tensor_file_at(file, i);
        for (uint64_t begin = 0; begin < tensor->bytes; begin += WEIR_TENSOR_BLOCK_BYTES) {
            uint64_t left = tensor->bytes - begin, written;
            size_t size = left < WEIR_TENSOR_BLOCK_BYTES ? left : WEIR_TENSOR_BLOCK_BYTES;
            memcpy(&written, expected, sizeof written);
            expected += sizeof written;
            if (weir_checksum((const char *)tensor->values + begin, size, 0) == written) {
                continue;
            }
            if (status == WEIR_OK) {
                status = weir_errorf(error, WEIR_ERR_CORRUPT,
                                     "'%s' is damaged: bytes %llu to %llu of tensor '%s'",
                                     weir_tensor_file_path(file), (unsigned long long)begin,
                                     (unsigned long long)(begin + size - 1), tensor->name);
            }
            if (bad == NULL) {
                return status;
            }
            bad(argument, tensor, begin, begin + size);
        }
    }
    return status;
}

uint64_t weir_tensor_blocks_count(const weir_tensor_file_t *file) {
    const weir_tensor_t *blocks = find_blocks(file, NULL);
    return blocks == NULL ? 0 : blocks->shape[0];
}

weir_err_t weir_tensor_blocks_verify_part(const weir_tensor_file_t *file, const void *bytes,
                                          uint64_t size, uint8_t *seen, uint64_t *checked,
                                          weir_error_t *error) {
    const weir_tensor_t *blocks = find_blocks(file, error);
    if (blocks == NULL) {
        return WEIR_ERR_CORRUPT;
    }
    uint64_t before = 0; /* blocks of the tensors before it */
    for (size_t i = 0; i + 1 < weir_tensor_file_count(file); i++) {
        const weir_tensor_t *tensor = weir_tensor_file_at(file, i);
        const char *values = tensor->values;
        uint64_t from = (uint64_t)((uintptr_t)bytes - (uintptr_t)values);
        if (from >= tensor->bytes) { /* also what lies before it */
            before += weir_tensor_blocks_of(tensor->bytes);
            continue;
        }
        for (uint64_t block = from / WEIR_TENSOR_BLOCK_BYTES;
             block <= (from + size - 1) / WEIR_TENSOR_BLOCK_BYTES; block++) {
            uint64_t number = before + block, begin = block * WEIR_TENSOR_BLOCK_BYTES, written;
            uint64_t left = tensor->bytes - begin;
            size_t length = left < WEIR_TENSOR_BLOCK_BYTES ? left : WEIR_TENSOR_BLOCK_BYTES;
            if ((seen[number / 8] >> (number % 8) & 1) != 0) {
                continue;
            }
            memcpy(&written, (const char *)blocks->values + number * sizeof written,
                   sizeof written);
            if (weir_checksum(values + begin, length, 0) != written) {
                return weir_errorf(error, WEIR_ERR_CORRUPT,
                                   "'%s' is damaged: bytes %llu to %llu of tensor '%s'",
                                   weir_tensor_file_path(file), (unsigned long long)begin,
                                   (unsigned long long)(begin + length - 1), tensor->name);
            }
            seen[number / 8] = (uint8_t)(seen[number / 8] | 1u << (number % 8));
            (*checked)++;
        }
        return WEIR_OK;
    }
    return weir_errorf(error, WEIR_ERR_INVALID, "'%s' has no such bytes",
                       weir_tensor_file_path(file));
}

weir_err_t weir_tensor_blocks_check_path(const char *path, bool verify, uint64_t *checksum,
                                         uint64_t *size, weir_error_t *error) {
    weir_tensor_file_t *file = NULL;
    weir_err_t status = weir_tensor_file_open(path, &file, error);
    if (status != WEIR_OK) {
        return status;
    }
    weir_tensor_file_advise(file, true);
    status = weir_tensor_blocks_checksum(file, checksum, error);
    *size = weir_tensor_file_size(file);
    if (status == WEIR_OK && verify) {
        status = weir_tensor_blocks_verify(file, NULL, NULL, error);
    }
    weir_tensor_file_close(file);
    return status;
}
