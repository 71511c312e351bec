#include "common/tensor_file.h"
#include "tests/fuzz/target.h"

#include <stdlib.h>

/* Touches every byte that an accepted file promises, and every way to ask for it. */
static void use(const weir_tensor_file_t *file) {
    volatile uint8_t sink = 0;
    for (size_t i = 0; i < weir_tensor_file_count(file); i++) {
        const weir_tensor_t *tensor = weir_tensor_file_at(file, i);
        const uint8_t *values = tensor->values;
        for (uint64_t byte = 0; byte < tensor->bytes; byte++) {
            sink = (uint8_t)(sink + values[byte]);
        }
        if (weir_tensor_file_find(file, tensor->name) != tensor) {
            abort();
        }
        const weir_tensor_t *same = NULL;
        weir_error_t error = {0};
        if (weir_tensor_file_require(file, tensor->name, tensor->dtype, tensor->rank, tensor->shape,
                                     &same, &error) == WEIR_OK &&
            same != tensor) {
            abort();
        }
    }
    const char *key = NULL, *value = NULL;
    for (size_t i = 0; weir_tensor_file_metadata_at(file, i, &key, &value); i++) {
        if (weir_tensor_file_metadata(file, key) != value) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    weir_tensor_file_t *file = NULL;
    weir_error_t error = {0};
    if (weir_tensor_file_open_memory(bytes, size, "input", &file, &error) == WEIR_OK) {
        use(file);
        weir_tensor_file_close(file);
    } else if (error.message[0] == '\0') {
        abort(); /* a refusal must say why */
    }
    return 0;
}
