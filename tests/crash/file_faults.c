#include "tests/crash/file_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* Names that the linker gives. */
int __real_open(const char *path, int flags, ...);
ssize_t __real_write(int fd, const void *bytes, size_t size);
ssize_t __real_pwrite(int fd, const void *bytes, size_t size, off_t at);
int __real_ftruncate(int fd, off_t size);
int __real_fallocate(int fd, int mode, off_t at, off_t size);
int __real_fsync(int fd);
int __real_fdatasync(int fd);
int __real_rename(const char *from, const char *to);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __real_unlink(const char *path);
int __real_unlinkat(int fd, const char *path, int flags);
int __real_mkdir(const char *path, mode_t mode);
int __real_rmdir(const char *path);
int __real_symlink(const char *target, const char *path);
int __wrap_open(const char *path, int flags, ...);
ssize_t __wrap_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t at);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_fallocate(int fd, int mode, off_t at, off_t size);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_unlink(const char *path);
int __wrap_unlinkat(int fd, const char *path, int flags);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_rmdir(const char *path);
int __wrap_symlink(const char *target, const char *path);

enum { MOST_RECORDS = 4096 };

static struct {
    bool on;
    char prefix[512];
    file_fault_t fault;
    size_t at, count, records;
    int error;
    file_record_t record[MOST_RECORDS];
} faults;

void file_faults_begin(const char *prefix, file_fault_t fault, size_t at, int error) {
    faults.on = true;
    faults.fault = fault;
    faults.at = at;
    faults.error = error;
    faults.count = faults.records = 0;
    (void)snprintf(faults.prefix, sizeof faults.prefix, "%s", prefix);
}

size_t file_faults_end(void) {
    faults.on = false;
    return faults.count;
}

const file_record_t *file_faults_records(size_t *count) {
    *count = faults.records;
    return faults.record;
}

static const char *below_prefix(const char *path) {
    size_t size = strlen(faults.prefix);
    return strncmp(path, faults.prefix, size) == 0 && path[size] == '/' ? path + size + 1 : NULL;
}

static bool path_of(int fd, char path[1024]) {
    char link[64];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, 1023);
    path[size > 0 ? size : 0] = '\0';
    return size > 0;
}

static void keep_record(file_call_t call, const char *path, const char *renamed) {
    if (faults.records == MOST_RECORDS) {
        abort();
    }
    file_record_t *record = &faults.record[faults.records++];
    record->call = call;
    (void)snprintf(record->path, sizeof record->path, "%s", path);
    (void)snprintf(record->renamed, sizeof record->renamed, "%s", renamed);
}

/* Count a call; what becomes of it. */
typedef enum { GO_ON, FAIL, END } verdict_t;

static verdict_t judge(file_call_t call, const char *path, const char *renamed) {
    const char *relative = faults.on ? below_prefix(path) : NULL;
    if (relative == NULL) {
        return GO_ON;
    }
    keep_record(call, relative, renamed != NULL ? below_prefix(renamed) : "");
    faults.count++;
    bool here = faults.count == faults.at, after = faults.at > 0 && faults.count > faults.at;
    bool needs_room = call == FILE_OPEN || call == FILE_WRITE || call == FILE_MAKE;
    switch (faults.fault) {
    case FILE_FAULT_CRASH:
    case FILE_FAULT_CRASH_HALF:
        return here ? END : GO_ON;
    case FILE_FAULT_ERROR:
        return here || (after && needs_room) ? FAIL : GO_ON;
    case FILE_FAULT_ERROR_ONCE:
        return here ? FAIL : GO_ON;
    default:
        return GO_ON;
    }
}

/* Whether the call is to fail; does not return from a crash. */
static bool fails(file_call_t call, const char *path, const char *renamed) {
    verdict_t verdict = judge(call, path, renamed);
    if (verdict == END) {
        _exit(FILE_FAULT_EXIT);
    }
    if (verdict == FAIL) {
        errno = faults.error;
    }
    return verdict == FAIL;
}

static bool fd_fails(file_call_t call, int fd) {
    char path[1024];
    return faults.on && path_of(fd, path) && fails(call, path, NULL);
}

/* Before a write: half of it, when the process is to end there. */
static verdict_t judge_write(int fd) {
    char path[1024];
    return faults.on && path_of(fd, path) ? judge(FILE_WRITE, path, NULL) : GO_ON;
}

int __wrap_open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(rest, int) : 0;
    va_end(rest);
    if ((flags & O_CREAT) != 0 && fails(FILE_OPEN, path, NULL)) {
        return -1;
    }
    return __real_open(path, flags, mode);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t size) {
    verdict_t verdict = judge_write(fd);
    if (verdict == END) {
        if (faults.fault == FILE_FAULT_CRASH_HALF) {
            (void)!__real_write(fd, bytes, size / 2);
        }
        _exit(FILE_FAULT_EXIT);
    }
    if (verdict == FAIL) {
        errno = faults.error;
        return -1;
    }
    return __real_write(fd, bytes, size);
}

ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t at) {
    verdict_t verdict = judge_write(fd);
    if (verdict == END) {
        if (faults.fault == FILE_FAULT_CRASH_HALF) {
            (void)!__real_pwrite(fd, bytes, size / 2, at);
        }
        _exit(FILE_FAULT_EXIT);
    }
    if (verdict == FAIL) {
        errno = faults.error;
        return -1;
    }
    return __real_pwrite(fd, bytes, size, at);
}

int __wrap_ftruncate(int fd, off_t size) {
    return fd_fails(FILE_WRITE, fd) ? -1 : __real_ftruncate(fd, size);
}

int __wrap_fallocate(int fd, int mode, off_t at, off_t size) {
    return fd_fails(FILE_WRITE, fd) ? -1 : __real_fallocate(fd, mode, at, size);
}

int __wrap_fsync(int fd) {
    return fd_fails(FILE_SYNC, fd) ? -1 : __real_fsync(fd);
}

int __wrap_fdatasync(int fd) {
    return fd_fails(FILE_SYNC, fd) ? -1 : __real_fdatasync(fd);
}

int __wrap_rename(const char *from, const char *to) {
    return fails(FILE_RENAME, from, to) ? -1 : __real_rename(from, to);
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
    return fails(FILE_RENAME, from, to) ? -1 : __real_renameat2(from_fd, from, to_fd, to, flags);
}

int __wrap_unlink(const char *path) {
    return fails(FILE_REMOVE, path, NULL) ? -1 : __real_unlink(path);
}

int __wrap_unlinkat(int fd, const char *path, int flags) {
    char whole[2048], folder[1024];
    if (faults.on && path_of(fd, folder)) {
        (void)snprintf(whole, sizeof whole, "%s/%s", folder, path);
        if (fails(FILE_REMOVE, whole, NULL)) {
            return -1;
        }
    }
    return __real_unlinkat(fd, path, flags);
}

int __wrap_mkdir(const char *path, mode_t mode) {
    return fails(FILE_MAKE, path, NULL) ? -1 : __real_mkdir(path, mode);
}

int __wrap_rmdir(const char *path) {
    return fails(FILE_REMOVE, path, NULL) ? -1 : __real_rmdir(path);
}

int __wrap_symlink(const char *target, const char *path) {
    return fails(FILE_MAKE, path, NULL) ? -1 : __real_symlink(target, path);
}
