#include "tests/unit/alloc_faults.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Names that the linker gives. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset);

/* The test's thread alone fails. */
static _Thread_local struct {
    bool on, failed;
    size_t left, more;
} faults;

void alloc_faults_begin(size_t n, size_t more) {
    faults.on = true;
    faults.failed = false;
    faults.left = n;
    faults.more = more;
}

bool alloc_faults_end(void) {
    faults.on = false;
    return faults.failed;
}

static bool fails(void) {
    if (!faults.on || (faults.left > 0 && --faults.left > 0)) {
        return false;
    }
    if (faults.failed && faults.more == 0) {
        return false;
    }
    faults.more -= faults.failed;
    faults.failed = true;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size) {
    return fails() ? NULL : __real_realloc(block, size);
}

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
    return fails() ? MAP_FAILED : __real_mmap(address, size, protection, flags, file, offset);
}
