/* Errors as values.
 *
 * A function that can fail returns a weir_err_t: WEIR_OK (0) or a negative code. Its last argument
 * is an optional weir_error_t that then holds one sentence for a person and, where there is one, a
 * hint of what to do. Failure leaves out-parameters untouched. Only mains turn an error into an
 * exit. */
#ifndef WEIR_COMMON_ERROR_H
#define WEIR_COMMON_ERROR_H

#include <stddef.h>

typedef enum {
    WEIR_OK = 0,
    WEIR_ERR_INVALID = -1,     /* argument, configuration or call out of its domain */
    WEIR_ERR_IO = -2,          /* the operating system refused a read or a write */
    WEIR_ERR_CORRUPT = -3,     /* bytes from outside that are not what they claim to be */
    WEIR_ERR_MEMORY = -4,      /* out of memory, or over a memory limit */
    WEIR_ERR_TIMEOUT = -5,     /* a wait reached its deadline */
    WEIR_ERR_EXISTS = -6,      /* refused to overwrite, or locked by another */
    WEIR_ERR_NOT_FOUND = -7,   /* no such file, key or step */
    WEIR_ERR_VERSION = -8,     /* the other side is of another version */
    WEIR_ERR_PEER = -9,        /* another rank failed, left or spoke out of turn */
    WEIR_ERR_DISK_FULL = -10,  /* no space left on a device, or a quota reached */
    WEIR_ERR_STOPPED = -11,    /* ended on request (signal or `weir ctl stop`) */
    WEIR_ERR_UNSUPPORTED = -12 /* valid, but not something this build can do */
} weir_err_t;

typedef struct {
    weir_err_t code;
    char message[512]; /* one sentence, no newline */
    char hint[256];    /* what to do about it; empty when there is nothing to say */
} weir_error_t;

/* Fill `error` (when not NULL) with `code`, the formatted sentence and no hint; return `code`.
 * Call: local. Threads: any. */
weir_err_t weir_errorf(weir_error_t *error, weir_err_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As weir_errorf for a failed system call: appends strerror of `errno_value`; ENOSPC and EDQUOT
 * become WEIR_ERR_DISK_FULL, ENOENT WEIR_ERR_NOT_FOUND, EEXIST WEIR_ERR_EXISTS, ENOMEM
 * WEIR_ERR_MEMORY, all others WEIR_ERR_IO. Call: local. Threads: any. */
weir_err_t weir_error_from_errno(weir_error_t *error, int errno_value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Attach a hint to an error already filled. Call: local. Threads: any. */
void weir_error_hint(weir_error_t *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Put "prefix: " before the sentence of an error already filled, to say where it happened.
 * Call: local. Threads: any. */
void weir_error_prefix(weir_error_t *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The name of a code ("corrupt", "disk_full", ...), for logs and --json. Never NULL. */
const char *weir_err_name(weir_err_t code);

/* The code of a name; WEIR_ERR_IO for a name of none, and for "ok": who asks has a failure. */
weir_err_t weir_err_of_name(const char *name);

/* The process exit status that stands for a code (docs/exit-codes.md); 0 for WEIR_OK. */
int weir_exit_status(weir_err_t code);

#define WEIR_MUST_USE __attribute__((warn_unused_result))

#endif
