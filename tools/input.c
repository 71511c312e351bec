#include "tools/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 1 << 20 };

/* Files that are no text, by their first bytes, and what a person can do about it. */
static const struct {
    const char *magic;
    size_t size;
    const char *kind;
    const char *hint;
} not_text[] = {
    {"\x1f\x8b", 2, "compressed by gzip", "gzip -dc FILE | weir prepare ... -"},
    {"\x28\xb5\x2f\xfd", 4, "compressed by zstd", "zstd -dc FILE | weir prepare ... -"},
    {"\xfd"
     "7zXZ",
     5, "compressed by xz", "xz -dc FILE | weir prepare ... -"},
    {"BZh", 3, "compressed by bzip2", "bzip2 -dc FILE | weir prepare ... -"},
    {"PK\x03\x04", 4, "a zip archive", "unzip -p FILE | weir prepare ... -"},
    {"PAR1", 4, "a Parquet file", "convert it to CSV first"},
    {"\xff\xfe", 2, "UTF-16 text", "iconv -f utf-16 -t utf-8 FILE | weir prepare ... -"},
    {"\xfe\xff", 2, "UTF-16 text", "iconv -f utf-16 -t utf-8 FILE | weir prepare ... -"},
};

/* The first bytes are there (or all bytes, when there are fewer). */
static weir_err_t check_beginning(weir_input_t *input, weir_error_t *error) {
    const char *bytes = input->buffer + input->begin;
    size_t size = input->end - input->begin;
    for (size_t i = 0; i < sizeof not_text / sizeof not_text[0]; i++) {
        if (size >= not_text[i].size && memcmp(bytes, not_text[i].magic, not_text[i].size) == 0) {
            weir_err_t code = weir_errorf(error, WEIR_ERR_INVALID, "%s is %s, not text",
                                          input->name, not_text[i].kind);
            weir_error_hint(error, "%s", not_text[i].hint);
            return code;
        }
    }
    if (size >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
        weir_input_take(input, 3, 0);
    }
    return WEIR_OK;
}

/* Bytes of one more block; repeats after EINTR. */
static weir_err_t read_block(weir_input_t *input, weir_error_t *error) {
    for (;;) {
        ssize_t got = read(input->fd, input->buffer + input->end, input->capacity - input->end);
        if (got >= 0) {
            input->end += (size_t)got;
            input->at_end = got == 0;
            return WEIR_OK;
        }
        if (errno != EINTR) {
            return weir_error_from_errno(error, errno, "read %s", input->name);
        }
    }
}

weir_err_t weir_input_open(const char *path, weir_input_t *input, weir_error_t *error) {
    bool standard = strcmp(path, "-") == 0;
    struct stat about;
    weir_input_t opened = {.fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC),
                           .name = standard ? "standard input" : path,
                           .line = 1,
                           .capacity = WEIR_INPUT_LINE_LIMIT + BLOCK};
    if (opened.fd < 0 || fstat(opened.fd, &about) != 0) {
        weir_err_t code = weir_error_from_errno(error, errno, "open %s", opened.name);
        weir_input_close(&opened);
        return code;
    }
    if (S_ISREG(about.st_mode)) {
        opened.total = (uint64_t)about.st_size;
        (void)posix_fadvise(opened.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    opened.buffer = malloc(opened.capacity);
    weir_err_t code = WEIR_OK;
    if (opened.buffer == NULL) {
        code = weir_errorf(error, WEIR_ERR_MEMORY, "read %s: out of memory", opened.name);
    }
    while (code == WEIR_OK && opened.end < 8 && !opened.at_end) {
        code = read_block(&opened, error);
    }
    if (code == WEIR_OK) {
        code = check_beginning(&opened, error);
    }
    if (code != WEIR_OK) {
        weir_input_close(&opened);
        return code;
    }
    *input = opened;
    return WEIR_OK;
}

weir_err_t weir_input_open_memory(const char *bytes, size_t size, const char *name,
                                  weir_input_t *input, weir_error_t *error) {
    weir_input_t opened = {.fd = -1,
                           .name = name,
                           .line = 1,
                           .capacity = size,
                           .end = size,
                           .at_end = true,
                           .total = size};
    opened.buffer = malloc(size > 0 ? size : 1);
    if (opened.buffer == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "read %s: out of memory", name);
    }
    if (size > 0) {
        memcpy(opened.buffer, bytes, size);
    }
    weir_err_t code = check_beginning(&opened, error);
    if (code != WEIR_OK) {
        free(opened.buffer);
        return code;
    }
    *input = opened;
    return WEIR_OK;
}

void weir_input_close(weir_input_t *input) {
    if (input->fd > STDIN_FILENO) {
        (void)close(input->fd);
    }
    free(input->buffer);
    *input = (weir_input_t){.fd = -1, .at_end = true};
}

weir_err_t weir_input_fill(weir_input_t *input, weir_error_t *error) {
    if (input->at_end) {
        return WEIR_OK;
    }
    memmove(input->buffer, input->buffer + input->begin, input->end - input->begin);
    input->end -= input->begin;
    input->begin = 0;
    return read_block(input, error);
}

void weir_input_take(weir_input_t *input, size_t size, uint64_t lines) {
    input->begin += size;
    input->taken += size;
    input->line += lines;
}

/* Offset of the first LF in the unread bytes from `from` on; their number when there is none. */
static size_t find_newline(const weir_input_t *input, size_t from) {
    const char *bytes = input->buffer + input->begin;
    size_t size = input->end - input->begin;
    const char *newline = from < size ? memchr(bytes + from, '\n', size - from) : NULL;
    return newline != NULL ? (size_t)(newline - bytes) : size;
}

weir_err_t weir_input_skip_line(weir_input_t *input, weir_error_t *error) {
    for (;;) {
        size_t size = input->end - input->begin;
        size_t newline = find_newline(input, 0);
        if (newline < size) {
            weir_input_take(input, newline + 1, 1);
            return WEIR_OK;
        }
        weir_input_take(input, size, input->at_end && size > 0 ? 1 : 0);
        if (input->at_end) {
            return WEIR_OK;
        }
        weir_err_t code = weir_input_fill(input, error);
        if (code != WEIR_OK) {
            return code;
        }
    }
}

/* The line at `begin` is over the limit. */
static weir_err_t cut_line(weir_input_t *input, weir_line_t *line, weir_error_t *error) {
    static const char cut[] = "";
    *line = (weir_line_t){.bytes = cut, .size = 0, .number = input->line, .too_long = true};
    return weir_input_skip_line(input, error);
}

weir_err_t weir_input_read_line(weir_input_t *input, weir_line_t *line, bool *more,
                                weir_error_t *error) {
    size_t searched = 0, newline = 0;
    for (;;) {
        size_t size = input->end - input->begin;
        newline = find_newline(input, searched);
        if (newline > WEIR_INPUT_LINE_LIMIT) {
            *more = true;
            return cut_line(input, line, error);
        }
        if (newline < size || input->at_end) {
            break;
        }
        searched = size;
        weir_err_t code = weir_input_fill(input, error);
        if (code != WEIR_OK) {
            return code;
        }
    }
    size_t unread = input->end - input->begin;
    const char *bytes = input->buffer + input->begin;
    bool ended = newline < unread;
    *more = ended || newline > 0;
    if (*more) {
        size_t size = newline > 0 && bytes[newline - 1] == '\r' ? newline - 1 : newline;
        *line = (weir_line_t){.bytes = bytes, .size = size, .number = input->line};
        weir_input_take(input, newline + (ended ? 1 : 0), 1);
    }
    return WEIR_OK;
}
