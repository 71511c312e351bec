#include "tools/restarts.h"

#include <stdlib.h>
#include <string.h>

#define LONGEST_DELAY 60.0

/* Statuses of docs/exit-codes.md. */
enum {
    STATUS_INVALID = 2,
    STATUS_IO = 3,
    STATUS_CORRUPT = 4,
    STATUS_EXISTS = 7,
    STATUS_NOT_FOUND = 8,
    STATUS_VERSION = 9,
    STATUS_DISK_FULL = 11,
    STATUS_UNSUPPORTED = 13,
    STATUS_CANNOT_RUN = 126,
    STATUS_NO_PROGRAM = 127,
    STATUS_SIGNAL = 128
};

/* Would fail again, whenever it happens. */
static bool is_lasting(int status) {
    return status == STATUS_INVALID || status == STATUS_VERSION || status == STATUS_DISK_FULL ||
           status == STATUS_UNSUPPORTED || status == STATUS_CANNOT_RUN ||
           status == STATUS_NO_PROGRAM;
}

/* Would fail again, when it happens before the first step. */
static bool is_of_input(const weir_restarts_t *restarts, int status) {
    return status == STATUS_IO || status == STATUS_CORRUPT || status == STATUS_NOT_FOUND ||
           /* The job before may not have let go of the run yet. */
           (status == STATUS_EXISTS && !restarts->failed_before);
}

bool weir_restarts_judge(weir_restarts_t *restarts, const weir_job_end_t *end, double *delay,
                         const char **why) {
    bool again = restarts->failed_before && end->status < STATUS_SIGNAL && end->stepped &&
                 end->status == restarts->last_status && end->reached == restarts->last_reached &&
                 end->checkpoint == restarts->last_checkpoint;
    if (restarts->failed_before && end->checkpoint > restarts->last_checkpoint) {
        restarts->done = 0;
    }
    if (is_lasting(end->status)) {
        *why = "it would fail again";
    } else if (!end->stepped && !end->damaged && is_of_input(restarts, end->status)) {
        *why = "it failed before its first step, and would again";
    } else if (again) {
        *why = "it failed twice in the same way at the same step";
    } else if (restarts->done >= restarts->most) {
        *why = "no more restarts are allowed without a new checkpoint";
    } else {
        restarts->failed_before = true;
        restarts->last_status = end->status;
        restarts->last_reached = end->reached;
        restarts->last_checkpoint = end->checkpoint;
        *delay = 1.0;
        for (int64_t i = 0; i < restarts->done && *delay < LONGEST_DELAY; i++) {
            *delay *= 2.0;
        }
        *delay = *delay < LONGEST_DELAY ? *delay : LONGEST_DELAY;
        restarts->done++;
        return true;
    }
    return false;
}

/* ---- durations ---- */

/* Up to nine digits. */
static bool take_number(const char **text, double *number) {
    size_t digits = strspn(*text, "0123456789");
    if (digits == 0 || digits > 9) {
        return false;
    }
    *number = (double)strtoul(*text, NULL, 10);
    *text += digits;
    return true;
}

/* "1-02:03:04", "02:03:04", "03:04" */
static bool parse_clock(const char *text, double *seconds) {
    double parts[3] = {0}, days = 0.0, number;
    size_t count = 0;
    if (!take_number(&text, &number)) {
        return false;
    }
    if (*text == '-') {
        days = number;
        text++;
        if (!take_number(&text, &number)) {
            return false;
        }
    }
    parts[count++] = number;
    while (*text == ':' && count < 3) {
        text++;
        if (!take_number(&text, &parts[count++])) {
            return false;
        }
    }
    if (*text != '\0' || count < 2 || (days > 0.0 && count < 3) || parts[1] >= 60.0 ||
        parts[2] >= 60.0) {
        return false;
    }
    *seconds = count == 2 ? 60.0 * parts[0] + parts[1]
                          : 86400.0 * days + 3600.0 * parts[0] + 60.0 * parts[1] + parts[2];
    return true;
}

bool weir_parse_duration(const char *text, double *seconds) {
    static const char units[] = "smhd";
    static const double factors[] = {1.0, 60.0, 3600.0, 86400.0};
    const char *rest = text;
    double number, parsed;
    if (!take_number(&rest, &number)) {
        return false;
    }
    const char *unit = *rest != '\0' ? strchr(units, *rest) : NULL;
    if (unit != NULL && rest[1] == '\0') {
        parsed = number * factors[unit - units];
    } else if (!parse_clock(text, &parsed)) {
        return false;
    }
    if (!(parsed > 0.0)) {
        return false;
    }
    *seconds = parsed;
    return true;
}
