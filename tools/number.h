/* Numbers in fields of text: bytes without a terminating NUL. */
#ifndef WEIR_TOOLS_NUMBER_H
#define WEIR_TOOLS_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A time in `per_second` units (1, 1000, 1000000) to whole seconds, rounded down; decimals are
 * allowed
 * ("978300760.25"). False for anything else and beyond WEIR_DATASET_TIME_LIMIT. */
bool weir_number_parse_time(const char *bytes, size_t size, int64_t per_second, int64_t *seconds);

/* A finite decimal number. */
bool weir_number_parse_real(const char *bytes, size_t size, float *value);

#endif
