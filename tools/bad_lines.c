#include "tools/bad_lines.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* `bytes` in quotes for a terminal: what is not printable ASCII or would end the quotes is escaped.
 */
static void show_bytes(char *out, size_t capacity, const char *bytes, size_t size) {
    size_t used = 0;
    size_t shown = size < 40 ? size : 40;
    if (bytes == NULL) {
        out[0] = '\0';
        return;
    }
    used += (size_t)snprintf(out, capacity, ": \"");
    for (size_t i = 0; i < shown && used + 12 < capacity; i++) {
        unsigned char c = (unsigned char)bytes[i];
        used += (size_t)snprintf(out + used, capacity - used,
                                 c < 0x20 || c > 0x7E || c == '"' || c == '\\' ? "\\x%02x" : "%c",
                                 (unsigned)c);
    }
    (void)snprintf(out + used, capacity - used, "%s", shown < size ? "...\"" : "\"");
}

static void count_reason(weir_bad_lines_t *bad, const char *reason) {
    for (size_t i = 0; i < bad->reason_count; i++) {
        if (strcmp(bad->reasons[i].reason, reason) == 0) {
            bad->reasons[i].count++;
            return;
        }
    }
    if (bad->reason_count < WEIR_BAD_LINES_REASONS) {
        bad->reasons[bad->reason_count].reason = reason;
        bad->reasons[bad->reason_count++].count = 1;
    }
}

weir_err_t weir_bad_lines_add(weir_bad_lines_t *bad, const char *file, uint64_t line,
                              const char *reason, const char *bytes, size_t size,
                              weir_error_t *error) {
    char found[256];
    show_bytes(found, sizeof found, bytes, size);
    if (bad->strict) {
        weir_err_t code =
            weir_errorf(error, WEIR_ERR_INVALID, "%s:%" PRIu64 ": %s%s", file, line, reason, found);
        weir_error_hint(error, "without --strict such lines are reported, counted and left out");
        return code;
    }
    count_reason(bad, reason);
    bad->total++;
    if (bad->total <= WEIR_BAD_LINES_SHOWN) {
        if (bad->progress != NULL) {
            weir_progress_clear(bad->progress);
        }
        (void)fprintf(stderr, "%s:%" PRIu64 ": %s%s\n", file, line, reason, found);
    }
    if (bad->total == WEIR_BAD_LINES_SHOWN) {
        (void)fprintf(stderr, "%s: further bad lines are counted, not shown\n", file);
    }
    return WEIR_OK;
}
