/* From the ids of the source, as users know them, to the dense numbers of prepared data: ids are
 * collected first, then the dictionary is read once. */
#ifndef WEIR_TOOLS_ID_LOOKUP_H
#define WEIR_TOOLS_ID_LOOKUP_H

#include "common/dataset.h"
#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

typedef enum { WEIR_ID_USER, WEIR_ID_ITEM } weir_id_kind_t;

typedef struct weir_id_lookup weir_id_lookup_t;

WEIR_MUST_USE weir_err_t weir_id_lookup_create(weir_id_kind_t kind, weir_id_lookup_t **lookup,
                                               weir_error_t *error);
void weir_id_lookup_destroy(weir_id_lookup_t *lookup); /* accepts NULL */

/* An id that will be asked for; `*handle` for find, the same for the same id. */
WEIR_MUST_USE weir_err_t weir_id_lookup_want(weir_id_lookup_t *lookup, const char *bytes,
                                             size_t size, uint32_t *handle, weir_error_t *error);

/* After the last want: one pass over the dictionary. Errors: those of the dictionary. */
WEIR_MUST_USE weir_err_t weir_id_lookup_resolve(weir_id_lookup_t *lookup, weir_dataset_t *dataset,
                                                weir_error_t *error);

/* User 0 .. U - 1 or item 1 .. C of a handle; NOT_FOUND, with the id, for one that the data does
 * not have. */
WEIR_MUST_USE weir_err_t weir_id_lookup_find(const weir_id_lookup_t *lookup, uint32_t handle,
                                             int64_t *number, weir_error_t *error);

#endif
