#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

weir_err_t weir_errorf(weir_error_t *error, weir_err_t code, const char *format, ...) {
    if (error != NULL) {
        va_list arguments;
        va_start(arguments, format);
        error->code = code;
        (void)vsnprintf(error->message, sizeof error->message, format, arguments);
        error->hint[0] = '\0';
        va_end(arguments);
    }
    return code;
}

static weir_err_t code_of_errno(int errno_value) {
    switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
        return WEIR_ERR_DISK_FULL;
    case ENOENT:
        return WEIR_ERR_NOT_FOUND;
    case EEXIST:
        return WEIR_ERR_EXISTS;
    case ENOMEM:
        return WEIR_ERR_MEMORY;
    default:
        return WEIR_ERR_IO;
    }
}

weir_err_t weir_error_from_errno(weir_error_t *error, int errno_value, const char *format, ...) {
    weir_err_t code = code_of_errno(errno_value);
    if (error != NULL) {
        char reason[128];
        const char *text = strerror_r(errno_value, reason, sizeof reason);
        va_list arguments;
        va_start(arguments, format);
        error->code = code;
        int length = vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
        size_t used = length < 0 ? 0 : (size_t)length;
        if (used < sizeof error->message) {
            (void)snprintf(error->message + used, sizeof error->message - used, ": %s", text);
        }
        error->hint[0] = '\0';
        if (code == WEIR_ERR_DISK_FULL) {
            weir_error_hint(error,
                            "free some space or choose another folder; nothing was published");
        }
    }
    return code;
}

void weir_error_hint(weir_error_t *error, const char *format, ...) {
    if (error != NULL) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(error->hint, sizeof error->hint, format, arguments);
        va_end(arguments);
    }
}

void weir_error_prefix(weir_error_t *error, const char *format, ...) {
    if (error != NULL) {
        char prefixed[sizeof error->message];
        va_list arguments;
        va_start(arguments, format);
        int length = vsnprintf(prefixed, sizeof prefixed, format, arguments);
        va_end(arguments);
        size_t used = length < 0 ? 0 : (size_t)length;
        if (used < sizeof prefixed) {
            (void)snprintf(prefixed + used, sizeof prefixed - used, ": %s", error->message);
        }
        memcpy(error->message, prefixed, sizeof prefixed);
    }
}

/* One row a code: its name, and the exit status of a process that ends with it. */
static const struct {
    weir_err_t code;
    const char *name;
    int exit_status;
} error_table[] = {
    {WEIR_OK, "ok", 0},
    {WEIR_ERR_INVALID, "invalid", 2},
    {WEIR_ERR_IO, "io", 3},
    {WEIR_ERR_CORRUPT, "corrupt", 4},
    {WEIR_ERR_MEMORY, "memory", 5},
    {WEIR_ERR_TIMEOUT, "timeout", 6},
    {WEIR_ERR_EXISTS, "exists", 7},
    {WEIR_ERR_NOT_FOUND, "not_found", 8},
    {WEIR_ERR_VERSION, "version", 9},
    {WEIR_ERR_PEER, "peer", 10},
    {WEIR_ERR_DISK_FULL, "disk_full", 11},
    {WEIR_ERR_STOPPED, "stopped", 12},
    {WEIR_ERR_UNSUPPORTED, "unsupported", 13},
};

const char *weir_err_name(weir_err_t code) {
    for (size_t i = 0; i < sizeof error_table / sizeof error_table[0]; i++) {
        if (error_table[i].code == code) {
            return error_table[i].name;
        }
    }
    return "unknown";
}

weir_err_t weir_err_of_name(const char *name) {
    for (size_t i = 0; i < sizeof error_table / sizeof error_table[0]; i++) {
        if (error_table[i].code != WEIR_OK && strcmp(error_table[i].name, name) == 0) {
            return error_table[i].code;
        }
    }
    return WEIR_ERR_IO;
}

int weir_exit_status(weir_err_t code) {
    for (size_t i = 0; i < sizeof error_table / sizeof error_table[0]; i++) {
        if (error_table[i].code == code) {
            return error_table[i].exit_status;
        }
    }
    return 1;
}
