#include "tools/human.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const char *weir_human_count(double value, char text[32]) {
    char digits[32];
    int length = isfinite(value) && fabs(value) < 1e15
                     ? snprintf(digits, sizeof digits, "%.0f", fabs(value))
                     : 0;
    if (length <= 0) {
        (void)snprintf(text, 32, "%g", value);
        return text;
    }
    size_t used = 0;
    if (value <= -0.5) {
        text[used++] = '-';
    }
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            text[used++] = ',';
        }
        text[used++] = digits[i];
    }
    text[used] = '\0';
    return text;
}

const char *weir_human_bytes(double bytes, char text[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;
    double value = bytes;
    while (value >= 1024.0 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024.0;
        unit++;
    }
    (void)snprintf(text, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

const char *weir_human_seconds(double seconds, char text[32]) {
    long whole = isfinite(seconds) && seconds > 0 && seconds < 1e12 ? (long)(seconds + 0.5) : 0;
    if (whole >= 3600) {
        (void)snprintf(text, 32, "%ldh%02ldm", whole / 3600, whole / 60 % 60);
    } else if (whole >= 60) {
        (void)snprintf(text, 32, "%ldm%02lds", whole / 60, whole % 60);
    } else {
        (void)snprintf(text, 32, "%lds", whole);
    }
    return text;
}

void weir_human_time(double seconds, char *out, size_t capacity) {
    struct tm parts;
    time_t when = fabs(seconds) < 1e11 ? (time_t)seconds : 0;
    if (!(fabs(seconds) < 1e11) || gmtime_r(&when, &parts) == NULL ||
        strftime(out, capacity, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0) {
        (void)snprintf(out, capacity, "%g", seconds);
    }
}
