/* What ranking needs beside items and times: actions, numbers and features, all optional
 * (docs/files/dataset.md).
 *
 * An *action* is yes or no for each event, a *number* a real value for each event. A *feature* is a
 * small id: of the event (its context), of the item, or of the user; 0: not known. */
#ifndef WEIR_COMMON_DATASET_COLUMNS_H
#define WEIR_COMMON_DATASET_COLUMNS_H

#include "common/error.h"
#include "common/tensor_file.h"

#include <stddef.h>
#include <stdint.h>

/* features.safetensors: "item.NAME" U32 [C], entry k of item k + 1; "user.NAME" U32 [U].
 * events.safetensors: "action_bits" U32 [E], bit k for action k; "number.NAME" F32 [E];
 * "context.NAME" U32 [E]. Metadata of events.safetensors: "actions" and "numbers" are names with
 * commas between; "context", "item_features" and "user_features" are NAME:SIZE with commas.
 * dictionary.safetensors, of features by dictionary: "KIND.NAME_offsets" I64 [SIZE],
 * "KIND.NAME_bytes" U8, the text of id k + 1. */
#define WEIR_DATASET_FEATURES "features.safetensors"

enum {
    WEIR_DATASET_MAX_ACTIONS = 32,
    WEIR_DATASET_MAX_NUMBERS = 8,
    WEIR_DATASET_MAX_FEATURES = 64, /* of each kind */
    WEIR_DATASET_NAME = 64          /* bytes of a name, with its NUL: letters, digits, _ - . */
};

typedef enum { WEIR_FEATURE_CONTEXT, WEIR_FEATURE_ITEM, WEIR_FEATURE_USER } weir_feature_kind_t;
const char *weir_feature_kind_name(weir_feature_kind_t kind); /* "context", "item", "user" */

typedef struct {
    char name[WEIR_DATASET_NAME];
    uint32_t size;       /* ids are below it */
    const uint32_t *ids; /* [E], [C] by item - 1, or [U] */
} weir_feature_t;

typedef struct {
    char name[WEIR_DATASET_NAME];
    const float *values; /* [E], finite */
} weir_number_t;

typedef struct {
    size_t action_count, number_count, context_count, item_count, user_count;
    char actions[WEIR_DATASET_MAX_ACTIONS][WEIR_DATASET_NAME];
    const uint32_t *action_bits; /* [E]; NULL without actions */
    weir_number_t numbers[WEIR_DATASET_MAX_NUMBERS];
    weir_feature_t context[WEIR_DATASET_MAX_FEATURES];
    weir_feature_t items[WEIR_DATASET_MAX_FEATURES];
    weir_feature_t users[WEIR_DATASET_MAX_FEATURES];
} weir_dataset_columns_t;

/* Whether `name` may be one of an action, a number or a feature. Call: local. */
bool weir_dataset_name_is_sound(const char *name, size_t size);

/* Find and check the columns that the metadata of `events` lists; values stay in the files' maps.
 * `features` may be NULL when it lists none of items and users. Errors: CORRUPT. `digest` goes on
 * over all that was found, and is left as it is when there is nothing. One pass over the columns.
 * Call: blocks. */
WEIR_MUST_USE weir_err_t weir_dataset_columns_map(const weir_tensor_file_t *events,
                                                  const weir_tensor_file_t *features,
                                                  uint64_t event_count, uint64_t item_count,
                                                  uint64_t user_count,
                                                  weir_dataset_columns_t *columns, uint64_t *digest,
                                                  weir_error_t *error);

/* Whether the metadata of `events` lists features of items or users. */
bool weir_dataset_columns_need_features(const weir_tensor_file_t *events);

#endif
