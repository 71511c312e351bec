#include "common/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Set once in main before threads start, read only afterwards; the step is atomic. */
static struct {
    const char *role;
    int rank;
    weir_log_level_t level;
    void (*abort_job)(int exit_status);
    _Atomic uint64_t step;
} logger = {.role = "weir", .rank = -1, .level = WEIR_LOG_INFO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void weir_log_init(const char *role, int rank, weir_log_level_t level) {
    logger.role = role;
    logger.rank = rank;
    logger.level = level;
}

void weir_log_set_step(uint64_t step) {
    atomic_store_explicit(&logger.step, step, memory_order_relaxed); /* a label, orders nothing */
}

/* Copy `text` with quotes, backslashes and control characters escaped, as logfmt wants. */
static void escape_text(char *out, size_t capacity, const char *text, size_t size) {
    size_t used = 0;
    for (size_t i = 0; i < size && used + 5 < capacity; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            out[used++] = '\\';
            out[used++] = (char)c;
        } else if (c < 0x20) {
            used += (size_t)snprintf(out + used, capacity - used, "\\x%02x", (unsigned)c);
        } else {
            out[used++] = (char)c;
        }
    }
    out[used] = '\0';
}

void weir_log(weir_log_level_t level, const char *module, const char *format, ...) {
    if (level < logger.level) {
        return;
    }
    char text[768], escaped[1024], line[1536];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    char *pairs = strchr(text, '|');
    size_t message_size = pairs != NULL ? (size_t)(pairs - text) : strlen(text);
    escape_text(escaped, sizeof escaped, text, message_size);

    struct timespec now;
    struct tm parts;
    char stamp[32];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &parts);
    (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);

    char place[64] = "";
    uint64_t step = atomic_load_explicit(&logger.step, memory_order_relaxed);
    if (logger.rank >= 0) {
        (void)snprintf(place, sizeof place, " rank=%d step=%llu", logger.rank,
                       (unsigned long long)step);
    }
    int length =
        snprintf(line, sizeof line, "t=%s.%03ldZ lvl=%s role=%s%s mod=%s msg=\"%s\"%s%s\n", stamp,
                 now.tv_nsec / 1000000, level_names[level], logger.role, place, module, escaped,
                 pairs != NULL ? " " : "", pairs != NULL ? pairs + 1 : "");
    size_t size = length < 0 ? 0 : (size_t)length;
    if (size >= sizeof line) {
        size = sizeof line - 1;
        line[size - 1] = '\n';
    }
    ssize_t written = write(STDERR_FILENO, line, size);
    (void)written; /* a log that cannot be written has nowhere to say so */
}

void weir_fatal_set_abort_hook(void (*abort_job)(int exit_status)) {
    logger.abort_job = abort_job;
}

void weir_fatal(const weir_error_t *error) {
    char host[64] = "?";
    int status = weir_exit_status(error->code);
    if (logger.rank >= 0) {
        (void)gethostname(host, sizeof host - 1);
        (void)fprintf(stderr, "weir-%s: rank %d on %s: %s\n", logger.role, logger.rank, host,
                      error->message);
    } else {
        (void)fprintf(stderr, "%s: %s\n", logger.role, error->message);
    }
    if (error->hint[0] != '\0') {
        (void)fprintf(stderr, "HINT: %s\n", error->hint);
    }
    (void)fflush(NULL);
    if (logger.abort_job != NULL) {
        logger.abort_job(status);
    }
    exit(status);
}
