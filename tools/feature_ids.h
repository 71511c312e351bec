/* Values of a feature to ids, by the way its schema says, and the ids of items or users. */
#ifndef WEIR_TOOLS_FEATURE_IDS_H
#define WEIR_TOOLS_FEATURE_IDS_H

#include "tools/interner.h"
#include "tools/schema.h"

typedef struct {
    const weir_schema_feature_t *schema; /* not owned */
    weir_interner_t *dictionary;         /* NULL where there is none */
    uint32_t *ids;                       /* [count] owned; 0: not known */
    size_t count;
} weir_feature_ids_t;

WEIR_MUST_USE weir_err_t weir_feature_ids_init(const weir_schema_feature_t *schema,
                                               weir_feature_ids_t *ids, weir_error_t *error);
void weir_feature_ids_fini(weir_feature_ids_t *ids);

/* The id of a value; 0 for one that is empty, not there, or, with bounds, no number. */
WEIR_MUST_USE weir_err_t weir_feature_ids_encode(weir_feature_ids_t *ids, weir_field_t field,
                                                 uint32_t *id, weir_error_t *error);
/* The id of a time, of hour and weekday. */
uint32_t weir_feature_ids_of_time(const weir_feature_ids_t *ids, int64_t seconds);

/* Set the id of item or user `index`, unless it has one. */
WEIR_MUST_USE weir_err_t weir_feature_ids_set(weir_feature_ids_t *ids, size_t index, uint32_t id,
                                              weir_error_t *error);
/* At least `count` ids. */
WEIR_MUST_USE weir_err_t weir_feature_ids_reserve(weir_feature_ids_t *ids, size_t count,
                                                  weir_error_t *error);

/* Ids are below it. */
uint32_t weir_feature_ids_size(const weir_feature_ids_t *ids);

#endif
