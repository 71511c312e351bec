/* Text input in big blocks: a file, standard input, or bytes in memory. A *line* ends with LF or at
 * the end of the input; its number counts from 1. */
#ifndef WEIR_TOOLS_INPUT_H
#define WEIR_TOOLS_INPUT_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A line, or a record of several lines, is at most this long, so that memory stays bounded. */
enum { WEIR_INPUT_LINE_LIMIT = 1 << 20 };

typedef struct {
    int fd;           /* -1: all bytes are in the buffer */
    const char *name; /* for errors; "-" is called "standard input" */
    char *buffer;     /* owned */
    size_t capacity;
    size_t begin, end; /* unread bytes of the buffer */
    bool at_end;       /* nothing follows `end` */
    uint64_t line;     /* number of the line at `begin` */
    uint64_t taken;    /* bytes before `begin` */
    uint64_t total;    /* size of the input; 0: unknown */
} weir_input_t;

/* Open `path` ("-": standard input), which must outlive the input. Compressed files and UTF-16 are
 * refused with a hint; a UTF-8 byte order mark is skipped. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_input_open(const char *path, weir_input_t *input,
                                         weir_error_t *error);
/* As open, over a copy of `bytes`. */
WEIR_MUST_USE weir_err_t weir_input_open_memory(const char *bytes, size_t size, const char *name,
                                                weir_input_t *input, weir_error_t *error);
void weir_input_close(weir_input_t *input);

/* Read more behind `end`, moving the unread bytes to the front of the buffer; sets at_end when
 * there is nothing more. At most WEIR_INPUT_LINE_LIMIT bytes may be unread. Pointers into the
 * buffer end. */
WEIR_MUST_USE weir_err_t weir_input_fill(weir_input_t *input, weir_error_t *error);

/* Take `size` unread bytes, which hold `lines` ends of lines. */
void weir_input_take(weir_input_t *input, size_t size, uint64_t lines);

typedef struct {
    const char *bytes; /* without the end of line (LF or CRLF); valid until the next call */
    size_t size;
    uint64_t number;
    bool too_long; /* over the limit: skipped, without bytes */
} weir_line_t;

/* Take the next line. `*more` false: there is none. */
WEIR_MUST_USE weir_err_t weir_input_read_line(weir_input_t *input, weir_line_t *line, bool *more,
                                              weir_error_t *error);

/* Skip to the line after the one at `begin`, however long it is. */
WEIR_MUST_USE weir_err_t weir_input_skip_line(weir_input_t *input, weir_error_t *error);

#endif
