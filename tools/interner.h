/* Byte strings to dense numbers 0, 1, 2, ... in the order of first appearance, and back. */
#ifndef WEIR_TOOLS_INTERNER_H
#define WEIR_TOOLS_INTERNER_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_interner weir_interner_t;

WEIR_MUST_USE weir_err_t weir_interner_create(weir_interner_t **interner, weir_error_t *error);
void weir_interner_destroy(weir_interner_t *interner); /* accepts NULL */

/* The number of a string, a new one when it was not seen before (`*fresh`, may be NULL). At most
 * 2^32 - 1 strings. Errors: MEMORY, UNSUPPORTED. Cost: one hash, one or two cache misses. */
WEIR_MUST_USE weir_err_t weir_interner_add(weir_interner_t *interner, const char *bytes,
                                           size_t size, uint32_t *number, bool *fresh,
                                           weir_error_t *error);

/* The number of a string that was added before; false when it was not. */
bool weir_interner_find(const weir_interner_t *interner, const char *bytes, size_t size,
                        uint32_t *number);

uint32_t weir_interner_count(const weir_interner_t *interner);

/* The string of number < count; valid until the next add. */
void weir_interner_get(const weir_interner_t *interner, uint32_t number, const char **bytes,
                       size_t *size);

#endif
