#include "tools/number.h"

#include "common/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static void trim_blanks(const char **bytes, size_t *size) {
    while (*size > 0 && **bytes == ' ') {
        (*bytes)++;
        (*size)--;
    }
    while (*size > 0 && (*bytes)[*size - 1] == ' ') {
        (*size)--;
    }
}

bool weir_number_parse_time(const char *bytes, size_t size, int64_t per_second, int64_t *seconds) {
    trim_blanks(&bytes, &size);
    bool negative = size > 0 && bytes[0] == '-';
    size_t at = size > 0 && (bytes[0] == '-' || bytes[0] == '+') ? 1 : 0;
    if (at >= size || !is_digit(bytes[at])) {
        return false;
    }
    int64_t whole = 0;
    bool rest = false; /* something below one unit */
    for (; at < size && is_digit(bytes[at]); at++) {
        int digit = bytes[at] - '0';
        if (whole > (WEIR_DATASET_TIME_LIMIT - digit) / 10) { /* before it can overflow */
            return false;
        }
        whole = whole * 10 + digit;
    }
    if (at < size && bytes[at] == '.') {
        for (at++; at < size && is_digit(bytes[at]); at++) {
            rest = rest || bytes[at] != '0';
        }
    }
    if (at != size) {
        return false;
    }
    rest = rest || whole % per_second != 0;
    *seconds = negative ? -(whole / per_second) - (rest ? 1 : 0) : whole / per_second;
    return true;
}

bool weir_number_parse_real(const char *bytes, size_t size, float *value) {
    char text[64], *end = NULL;
    trim_blanks(&bytes, &size);
    if (size == 1 && is_digit(bytes[0])) { /* most ratings */
        *value = (float)(bytes[0] - '0');
        return true;
    }
    if (size == 0 || size >= sizeof text || memchr(bytes, '\0', size) != NULL) {
        return false;
    }
    memcpy(text, bytes, size);
    text[size] = '\0';
    if (text[strspn(text, "0123456789+-.eE")] != '\0') {
        return false;
    }
    float parsed = strtof(text, &end);
    if (*end != '\0' || end == text || !isfinite(parsed)) {
        return false;
    }
    *value = parsed;
    return true;
}
