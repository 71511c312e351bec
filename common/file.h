/* Files, written so that a crash leaves the old content or the new, never half of either. */
#ifndef WEIR_COMMON_FILE_H
#define WEIR_COMMON_FILE_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Read a whole file of at most `limit` bytes. `*bytes` (caller frees) is followed by a NUL that is
 * not counted in `*size`. A larger file is WEIR_ERR_INVALID. Call: blocks. Threads: any. */
WEIR_MUST_USE weir_err_t weir_file_read(const char *path, size_t limit, char **bytes, size_t *size,
                                        weir_error_t *error);

/* Replace `path` with `bytes`: write PATH.tmp.PID, fsync, rename, fsync of the directory.
 * Call: blocks. Threads: any. */
WEIR_MUST_USE weir_err_t weir_file_replace(const char *path, const void *bytes, size_t size,
                                           weir_error_t *error);

/* Write all of `bytes` to a descriptor, repeating short writes and EINTR. `path` names it in
 * errors. */
WEIR_MUST_USE weir_err_t weir_file_write_all(int fd, const void *bytes, size_t size,
                                             const char *path, weir_error_t *error);

/* As above, from byte `offset` of the file on. */
WEIR_MUST_USE weir_err_t weir_file_write_at(int fd, const void *bytes, size_t size, uint64_t offset,
                                            const char *path, weir_error_t *error);

/* fsync of a directory, so that names created or renamed in it last. */
WEIR_MUST_USE weir_err_t weir_file_sync_directory(const char *path, weir_error_t *error);

/* As above, of the directory that holds `path`. */
WEIR_MUST_USE weir_err_t weir_file_sync_parent(const char *path, weir_error_t *error);

/* Create a directory and its parents; one that exists is no error. */
WEIR_MUST_USE weir_err_t weir_file_make_directories(const char *path, weir_error_t *error);

/* Replace the symbolic link `path` with one to `target`, by rename. */
WEIR_MUST_USE weir_err_t weir_file_replace_link(const char *path, const char *target,
                                                weir_error_t *error);

/* Remove a directory and the regular files in it (one level; no links are followed). A missing
 * directory is no error. */
WEIR_MUST_USE weir_err_t weir_file_remove_directory(const char *path, weir_error_t *error);

bool weir_file_exists(const char *path);

/* Whether a file could be made or replaced at `path`: its folder is there and may be written to,
 * and `path` is no folder. To be asked before long work whose result goes there. Errors: NOT_FOUND,
 * EXISTS, IO. Call: local. Threads: any. */
WEIR_MUST_USE weir_err_t weir_file_check_place(const char *path, weir_error_t *error);

/* XXH3-64 and size of a file, streamed. */
WEIR_MUST_USE weir_err_t weir_file_checksum(const char *path, uint64_t *checksum, uint64_t *size,
                                            weir_error_t *error);

/* Join `directory`/`name` into `out`; a path that does not fit is WEIR_ERR_INVALID. */
WEIR_MUST_USE weir_err_t weir_path_join(char *out, size_t capacity, const char *directory,
                                        const char *name, weir_error_t *error);

/* A name from outside, made fit for a message: control characters become '?', and what does not fit
 * into `capacity` (> 4) is cut and ends in "...". Call: local. Threads: any. */
void weir_file_printable(const char *text, char *out, size_t capacity);

enum { WEIR_PATH_MAX = 4096 };

#endif
