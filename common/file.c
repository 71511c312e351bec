#include "common/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { READ_PIECE = 64 * 1024, CHECKSUM_PIECE = 1024 * 1024 };

/* Read once, repeating EINTR: bytes read, 0 at the end, or an error in errno. */
static ssize_t read_some(int fd, void *bytes, size_t size) {
    ssize_t got = 0;
    do {
        got = read(fd, bytes, size);
    } while (got < 0 && errno == EINTR);
    return got;
}

weir_err_t weir_file_read(const char *path, size_t limit, char **bytes, size_t *size,
                          weir_error_t *error) {
    weir_err_t status = WEIR_OK;
    char *text = NULL;
    size_t used = 0, capacity = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return weir_error_from_errno(error, errno, "open '%s'", path);
    }
    for (;;) {
        if (capacity - used < 2) { /* one for a byte, one for the NUL */
            size_t wanted = capacity == 0 ? READ_PIECE : 2 * capacity;
            char *grown = realloc(text, wanted);
            if (grown == NULL) {
                status = weir_errorf(error, WEIR_ERR_MEMORY, "no memory to read '%s'", path);
                goto out;
            }
            text = grown;
            capacity = wanted;
        }
        ssize_t got = read_some(fd, text + used, capacity - used - 1);
        if (got < 0) {
            status = weir_error_from_errno(error, errno, "read '%s'", path);
            goto out;
        }
        if (got == 0) {
            break;
        }
        used += (size_t)got;
        if (used > limit) {
            status = weir_errorf(error, WEIR_ERR_INVALID,
                                 "'%s' is larger than the %zu bytes that are read", path, limit);
            goto out;
        }
    }
    text[used] = '\0';
    *bytes = text;
    *size = used;
    text = NULL;
out:
    free(text);
    (void)close(fd);
    return status;
}

weir_err_t weir_file_write_all(int fd, const void *bytes, size_t size, const char *path,
                               weir_error_t *error) {
    const char *rest = bytes;
    while (size > 0) {
        ssize_t written = write(fd, rest, size);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            return weir_error_from_errno(error, errno, "write '%s'", path);
        }
        rest += written;
        size -= (size_t)written;
    }
    return WEIR_OK;
}

weir_err_t weir_file_write_at(int fd, const void *bytes, size_t size, uint64_t offset,
                              const char *path, weir_error_t *error) {
    const char *rest = bytes;
    while (size > 0) {
        ssize_t written = pwrite(fd, rest, size, (off_t)offset);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            return weir_error_from_errno(error, errno, "write '%s'", path);
        }
        rest += written;
        offset += (uint64_t)written;
        size -= (size_t)written;
    }
    return WEIR_OK;
}

/* The directory that holds `path`, "." for a bare name. */
static weir_err_t parent_of(const char *path, char parent[WEIR_PATH_MAX], weir_error_t *error) {
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 1 : (size_t)(slash - path);
    if (length >= WEIR_PATH_MAX) {
        return weir_errorf(error, WEIR_ERR_INVALID, "path of %zu bytes is too long", length);
    }
    memcpy(parent, slash == NULL ? "." : path, length);
    parent[length] = '\0';
    if (length == 0) { /* "/name" */
        memcpy(parent, "/", 2);
    }
    return WEIR_OK;
}

weir_err_t weir_file_sync_parent(const char *path, weir_error_t *error) {
    char parent[WEIR_PATH_MAX];
    weir_err_t status = parent_of(path, parent, error);
    return status != WEIR_OK ? status : weir_file_sync_directory(parent, error);
}

static weir_err_t name_temporary(const char *path, char temporary[WEIR_PATH_MAX],
                                 weir_error_t *error) {
    int length = snprintf(temporary, WEIR_PATH_MAX, "%s.tmp.%ld", path, (long)getpid());
    if (length < 0 || length >= WEIR_PATH_MAX) {
        return weir_errorf(error, WEIR_ERR_INVALID, "path too long: '%.100s...'", path);
    }
    return WEIR_OK;
}

weir_err_t weir_file_replace(const char *path, const void *bytes, size_t size,
                             weir_error_t *error) {
    char temporary[WEIR_PATH_MAX];
    weir_err_t status = name_temporary(path, temporary, error);
    if (status != WEIR_OK) {
        return status;
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        return weir_error_from_errno(error, errno, "create '%s'", temporary);
    }
    status = weir_file_write_all(fd, bytes, size, temporary, error);
    if (status == WEIR_OK && fsync(fd) != 0) {
        status = weir_error_from_errno(error, errno, "fsync '%s'", temporary);
    }
    if (close(fd) != 0 && status == WEIR_OK) {
        status = weir_error_from_errno(error, errno, "close '%s'", temporary);
    }
    if (status == WEIR_OK && rename(temporary, path) != 0) {
        status = weir_error_from_errno(error, errno, "rename '%s' to '%s'", temporary, path);
    }
    if (status != WEIR_OK) {
        (void)unlink(temporary);
        return status;
    }
    return weir_file_sync_parent(path, error);
}

weir_err_t weir_file_sync_directory(const char *path, weir_error_t *error) {
    weir_err_t status = WEIR_OK;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return weir_error_from_errno(error, errno, "open folder '%s'", path);
    }
    /* EINVAL: a file system that has no fsync of directories, and so nothing to wait for. */
    if (fsync(fd) != 0 && errno != EINVAL) {
        status = weir_error_from_errno(error, errno, "fsync folder '%s'", path);
    }
    (void)close(fd);
    return status;
}

/* mkdir, where a directory that is there already (or a link to one) will do. */
static weir_err_t make_directory(const char *path, weir_error_t *error) {
    if (mkdir(path, 0777) == 0) {
        return WEIR_OK;
    }
    int reason = errno;
    struct stat about;
    /* Also for EROFS and the like: an existing parent may refuse a mkdir for other reasons. */
    if (stat(path, &about) == 0) {
        if (S_ISDIR(about.st_mode)) {
            return WEIR_OK;
        }
        return weir_errorf(error, WEIR_ERR_EXISTS, "'%s' is there and is not a folder", path);
    }
    return weir_error_from_errno(error, reason, "create folder '%s'", path);
}

weir_err_t weir_file_make_directories(const char *path, weir_error_t *error) {
    char part[WEIR_PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part) {
        return weir_errorf(error, WEIR_ERR_INVALID, "'%.100s' is no name for a folder", path);
    }
    memcpy(part, path, length + 1);
    for (size_t i = 1; i < length; i++) {
        if (part[i] == '/') {
            part[i] = '\0';
            weir_err_t status = make_directory(part, error);
            if (status != WEIR_OK) {
                return status;
            }
            part[i] = '/';
        }
    }
    return make_directory(part, error);
}

weir_err_t weir_file_replace_link(const char *path, const char *target, weir_error_t *error) {
    char temporary[WEIR_PATH_MAX];
    weir_err_t status = name_temporary(path, temporary, error);
    if (status != WEIR_OK) {
        return status;
    }
    (void)unlink(temporary); /* left by a process that had our pid */
    if (symlink(target, temporary) != 0) {
        return weir_error_from_errno(error, errno, "create link '%s'", temporary);
    }
    if (rename(temporary, path) != 0) {
        status = weir_error_from_errno(error, errno, "rename '%s' to '%s'", temporary, path);
        (void)unlink(temporary);
        return status;
    }
    return weir_file_sync_parent(path, error);
}

/* Unlink every entry of an open folder but "." and "..". A folder inside is refused. */
static weir_err_t unlink_entries(DIR *folder, const char *path, weir_error_t *error) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            return errno == 0 ? WEIR_OK : weir_error_from_errno(error, errno, "list '%s'", path);
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (unlinkat(dirfd(folder), entry->d_name, 0) != 0 && errno != ENOENT) {
            return weir_error_from_errno(error, errno, "remove '%s/%s'", path, entry->d_name);
        }
    }
}

weir_err_t weir_file_remove_directory(const char *path, weir_error_t *error) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? WEIR_OK : weir_error_from_errno(error, errno, "open '%s'", path);
    }
    DIR *folder = fdopendir(fd);
    if (folder == NULL) {
        int reason = errno;
        (void)close(fd);
        return weir_error_from_errno(error, reason, "list '%s'", path);
    }
    weir_err_t status = unlink_entries(folder, path, error);
    (void)closedir(folder);
    if (status == WEIR_OK && rmdir(path) != 0 && errno != ENOENT) {
        status = weir_error_from_errno(error, errno, "remove folder '%s'", path);
    }
    return status;
}

bool weir_file_exists(const char *path) {
    struct stat about;
    return stat(path, &about) == 0;
}

weir_err_t weir_file_check_place(const char *path, weir_error_t *error) {
    char parent[WEIR_PATH_MAX];
    struct stat about;
    weir_err_t err = parent_of(path, parent, error);
    if (err == WEIR_OK && stat(path, &about) == 0 && S_ISDIR(about.st_mode)) {
        err = weir_errorf(error, WEIR_ERR_EXISTS, "'%s' is a folder, not a file to write", path);
    }
    if (err == WEIR_OK && access(parent, W_OK | X_OK) != 0) {
        err = weir_error_from_errno(error, errno, "create '%s'", path);
    }
    return err;
}

weir_err_t weir_file_checksum(const char *path, uint64_t *checksum, uint64_t *size,
                              weir_error_t *error) {
    weir_err_t status = WEIR_OK;
    uint64_t total = 0;
    char *piece = malloc(CHECKSUM_PIECE);
    XXH3_state_t *state = XXH3_createState();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        status = weir_error_from_errno(error, errno, "open '%s'", path);
        goto out;
    }
    if (piece == NULL || state == NULL || XXH3_64bits_reset(state) != XXH_OK) {
        status = weir_errorf(error, WEIR_ERR_MEMORY, "no memory to read '%s'", path);
        goto out;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (;;) {
        ssize_t got = read_some(fd, piece, CHECKSUM_PIECE);
        if (got < 0) {
            status = weir_error_from_errno(error, errno, "read '%s'", path);
            goto out;
        }
        if (got == 0) {
            break;
        }
        (void)XXH3_64bits_update(state, piece, (size_t)got);
        total += (uint64_t)got;
    }
    *checksum = XXH3_64bits_digest(state);
    *size = total;
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    (void)XXH3_freeState(state);
    free(piece);
    return status;
}

weir_err_t weir_path_join(char *out, size_t capacity, const char *directory, const char *name,
                          weir_error_t *error) {
    size_t length = strlen(directory);
    const char *separator = length > 0 && directory[length - 1] == '/' ? "" : "/";
    size_t name_length = strlen(name);
    if (length + strlen(separator) + name_length + 1 > capacity) {
        return weir_errorf(error, WEIR_ERR_INVALID, "path too long: '%.100s...%.100s'", directory,
                           name);
    }
    (void)snprintf(out, capacity, "%s%s%s", directory, separator, name);
    return WEIR_OK;
}

void weir_file_printable(const char *text, char *out, size_t capacity) {
    size_t used = 0;
    for (; text[used] != '\0' && used + 1 < capacity; used++) {
        unsigned char byte = (unsigned char)text[used];
        out[used] = (char)(byte < 0x20 || byte == 0x7f ? '?' : text[used]);
    }
    out[used] = '\0';
    if (text[used] != '\0' && capacity > 4) {
        memcpy(out + capacity - 4, "...", 4);
    }
}
