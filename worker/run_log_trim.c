#include "worker/run_log_trim.h"

#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file of at most WHOLE bytes is read whole; of a longer one WINDOW bytes at a time, from its
 * end. A line longer than a window is not ours. */
enum { WHOLE = 16 << 20, WINDOW = 8 << 20 };

/* An object with a step of `step` at most. */
static bool stays(const char *line, size_t size, uint64_t step) {
    json_error_t ignored;
    json_t *object = json_loadb(line, size, 0, &ignored);
    const json_t *of = json_object_get(object, "step"); /* NULL of what is no object */
    bool early = json_is_integer(of) && json_integer_value(of) >= 0 &&
                 (uint64_t)json_integer_value(of) <= step;
    json_decref(object);
    return early;
}

/* Keep the lines that stay. In place; returns the new size. */
static size_t keep_lines(char *text, size_t size, uint64_t step) {
    size_t kept = 0;
    for (size_t begin = 0; begin < size;) {
        char *newline = memchr(text + begin, '\n', size - begin);
        size_t end = newline != NULL ? (size_t)(newline - text) + 1 : size;
        if (newline != NULL && stays(text + begin, end - begin, step)) {
            memmove(text + kept, text + begin, end - begin);
            kept += end - begin;
        }
        begin = end;
    }
    return kept;
}

static weir_err_t trim_whole(const char *path, uint64_t step, weir_error_t *error) {
    char *text = NULL;
    size_t size = 0;
    weir_err_t err = weir_file_read(path, WHOLE, &text, &size, error);
    if (err == WEIR_OK) {
        err = weir_file_replace(path, text, keep_lines(text, size, step), error);
    }
    free(text);
    return err;
}

/* Of a window that `begins` the file or not: the end of its last line that stays, `*found`; or else
 * where its first whole line begins, to which the next window goes. Bytes after its last newline
 * are no line. */
static size_t cut_window(const char *text, size_t size, bool begins, uint64_t step, bool *found) {
    *found = false;
    for (size_t end = size; end > 0;) {
        const char *newline = memrchr(text, '\n', end - 1); /* that ends the line before */
        size_t from = newline != NULL ? (size_t)(newline - text) + 1 : 0;
        if (newline == NULL && !begins) {
            return end == size ? 0 : end; /* the line goes on before the window */
        }
        if (text[end - 1] == '\n' && stays(text + from, end - from, step)) {
            *found = true;
            return end;
        }
        end = from;
    }
    return 0;
}

static weir_err_t read_at(int fd, const char *path, char *bytes, size_t size, uint64_t offset,
                          weir_error_t *error) {
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(fd, bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno != EINTR) {
            return weir_error_from_errno(error, errno, "cannot read %s", path);
        }
        if (got == 0) {
            return weir_errorf(error, WEIR_ERR_IO, "%s became shorter while it was read", path);
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return WEIR_OK;
}

static weir_err_t trim_end(int fd, const char *path, uint64_t size, uint64_t step,
                           weir_error_t *error) {
    uint64_t end = size;
    weir_err_t err = WEIR_OK;
    char *text = malloc(WINDOW);
    if (text == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to read %s", path);
    }
    for (bool found = false; end > 0 && !found && err == WEIR_OK;) {
        uint64_t from = end > WINDOW ? end - WINDOW : 0;
        size_t length = (size_t)(end - from);
        err = read_at(fd, path, text, length, from, error);
        if (err == WEIR_OK) {
            end = from + cut_window(text, length, from == 0, step, &found);
        }
    }
    if (err == WEIR_OK && end < size && (ftruncate(fd, (off_t)end) != 0 || fdatasync(fd) != 0)) {
        err = weir_error_from_errno(error, errno, "cannot cut %s", path);
    }
    free(text);
    return err;
}

weir_err_t weir_run_log_trim(const char *path, uint64_t step, weir_error_t *error) {
    struct stat status;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? WEIR_OK
                               : weir_error_from_errno(error, errno, "cannot open %s", path);
    }
    weir_err_t err = WEIR_OK;
    if (fstat(fd, &status) != 0) {
        err = weir_error_from_errno(error, errno, "cannot look at %s", path);
    } else if (status.st_size <= WHOLE) {
        err = trim_whole(path, step, error);
    } else {
        err = trim_end(fd, path, (uint64_t)status.st_size, step, error);
    }
    (void)close(fd);
    return err;
}
