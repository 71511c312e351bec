#include "tests/fuzz/target.h"
#include "tools/npy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* An accepted array has a type and a shape that are ours, and every byte that they promise. */
static void use(const weir_npy_t *array, size_t file_size) {
    volatile uint8_t sink = 0;
    const uint8_t *values = array->values;
    uint64_t bytes = weir_dtype_size(array->dtype);
    if (array->rank < 1 || array->rank > WEIR_NPY_RANK) {
        abort();
    }
    for (uint32_t d = 0; d < array->rank; d++) {
        bytes *= array->shape[d];
    }
    if (bytes > file_size || (uintptr_t)values % weir_dtype_size(array->dtype) != 0) {
        abort();
    }
    for (uint64_t i = 0; i < bytes; i++) {
        sink = (uint8_t)(sink + values[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static int fd = -1;
    static char path[64];
    weir_npy_t array = {0};
    weir_error_t error = {0};
    if (fd < 0) { /* a file without a name */
        fd = memfd_create("input", MFD_CLOEXEC);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size) {
        abort();
    }
    if (weir_npy_open(path, &array, &error) == WEIR_OK) {
        use(&array, size);
        weir_npy_close(&array);
    } else if (error.message[0] == '\0' || array.map != NULL) {
        abort(); /* a refusal must say why, and leave nothing */
    }
    return 0;
}
