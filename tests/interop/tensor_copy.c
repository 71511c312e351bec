/* tensor_copy IN OUT: read a safetensors file and write its tensors and metadata into a new one. */
#include "common/tensor_file.h"

#include <stdio.h>
#include <stdlib.h>

static weir_err_t declare_all(const weir_tensor_file_t *in, weir_tensor_writer_t *out,
                              weir_error_t *error) {
    weir_err_t status = WEIR_OK;
    const char *key = NULL, *value = NULL;
    for (size_t i = 0; status == WEIR_OK && weir_tensor_file_metadata_at(in, i, &key, &value);
         i++) {
        status = weir_tensor_writer_metadata(out, key, value, error);
    }
    for (size_t i = 0; status == WEIR_OK && i < weir_tensor_file_count(in); i++) {
        const weir_tensor_t *tensor = weir_tensor_file_at(in, i);
        status = weir_tensor_writer_declare(out, tensor->name, tensor->dtype, tensor->rank,
                                            tensor->shape, error);
    }
    return status;
}

static weir_err_t copy(const char *from, const char *to, weir_error_t *error) {
    weir_tensor_file_t *in = NULL;
    weir_tensor_writer_t *out = NULL;
    weir_err_t status = weir_tensor_file_open(from, &in, error);
    if (status == WEIR_OK) {
        status = weir_tensor_writer_create(to, &out, error);
    }
    if (status == WEIR_OK) {
        status = declare_all(in, out, error);
    }
    if (status == WEIR_OK) {
        status = weir_tensor_writer_begin(out, error);
    }
    for (size_t i = 0; status == WEIR_OK && i < weir_tensor_file_count(in); i++) {
        const weir_tensor_t *tensor = weir_tensor_file_at(in, i);
        status = weir_tensor_writer_append(out, tensor->values, tensor->bytes, error);
    }
    if (status == WEIR_OK) {
        status = weir_tensor_writer_commit(out, NULL, NULL, error);
    }
    weir_tensor_writer_destroy(out);
    weir_tensor_file_close(in);
    return status;
}

int main(int argc, char **argv) {
    weir_error_t error = {0};
    if (argc != 3) {
        (void)fprintf(stderr, "usage: tensor_copy IN OUT\n");
        return EXIT_FAILURE;
    }
    weir_err_t status = copy(argv[1], argv[2], &error);
    if (status != WEIR_OK) {
        (void)fprintf(stderr, "tensor_copy: %s\n", error.message);
    }
    return weir_exit_status(status);
}
