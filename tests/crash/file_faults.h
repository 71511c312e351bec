/* Faults at the calls that change files: the linker sends them here first (tests/crash/
 * CMakeLists.txt, --wrap). Counted are calls on paths under a prefix, in the order in which they
 * are made: open with O_CREAT, write, pwrite, ftruncate, fallocate, fsync, fdatasync, rename,
 * renameat2, unlink, unlinkat, mkdir, rmdir, symlink. */
#ifndef WEIR_TESTS_CRASH_FILE_FAULTS_H
#define WEIR_TESTS_CRASH_FILE_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    FILE_FAULT_NONE,       /* count only */
    FILE_FAULT_CRASH,      /* the process ends instead of the call */
    FILE_FAULT_CRASH_HALF, /* and a write writes half of its bytes first */
    FILE_FAULT_ERROR,      /* the call fails, and every later one that needs room too */
    FILE_FAULT_ERROR_ONCE  /* the call fails, those after it do not */
} file_fault_t;

enum { FILE_FAULT_EXIT = 99 }; /* status of a process that crashed so */

/* From now on, at call number `at` (from 1) under `prefix`; `error`: errno of ERROR. */
void file_faults_begin(const char *prefix, file_fault_t fault, size_t at, int error);

/* No more faults; calls counted since begin. */
size_t file_faults_end(void);

/* ---- what was done, for rules about its order ---- */

typedef enum { FILE_OPEN, FILE_WRITE, FILE_SYNC, FILE_RENAME, FILE_REMOVE, FILE_MAKE } file_call_t;

typedef struct {
    file_call_t call;
    char path[256];    /* relative to the prefix; FILE_RENAME: the old name */
    char renamed[256]; /* FILE_RENAME: the new name */
} file_record_t;

/* Calls since begin, `*count` of them. */
const file_record_t *file_faults_records(size_t *count);

#endif
