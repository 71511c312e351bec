/* Prepared data: a folder with events.safetensors, dictionary.safetensors and, where there are
 * features of items or users, features.safetensors (docs/files/dataset.md), memory-mapped.
 *
 * U users, E events, C items in the catalogue. User u's events are [offsets[u], offsets[u+1]),
 * sorted by time, stable in the order of the source. Items are dense ids 1 .. C; 0 is never an
 * item. The dictionary gives the source's own ids (bytes) back, and names where the source has
 * them. */
#ifndef WEIR_COMMON_DATASET_H
#define WEIR_COMMON_DATASET_H

#include "common/dataset_columns.h"
#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

/* File and tensor names; the writer (tools/) and the reader share them.
 * events.safetensors: "offsets" I64 [U+1], "items" I64 [E], "times" I64 [E] seconds,
 *   "actions" F32 [E] (rating, or 1 where the source has none).
 * dictionary.safetensors: "item_id_offsets" I64 [C+1], "item_id_bytes" U8, the same for user_id
 * and, where there are names, item_name. Entry k of items is dense id k + 1; of users, user k.
 * Metadata of both: "format" = "weir-dataset", "version" = "1", "num_users", "num_items", "source".
 */
#define WEIR_DATASET_EVENTS "events.safetensors"
#define WEIR_DATASET_DICTIONARY "dictionary.safetensors"
#define WEIR_DATASET_FORMAT "weir-dataset"
#define WEIR_DATASET_VERSION "1"

typedef struct weir_dataset weir_dataset_t;

/* Times lie in -WEIR_DATASET_TIME_LIMIT .. WEIR_DATASET_TIME_LIMIT, so that no difference
 * overflows. */
#define WEIR_DATASET_TIME_LIMIT (INT64_C(1) << 60)

/* Map and check: both files are there, shapes agree, offsets rise from 0 to E (every user has an
 * event), every item is in 1 .. C, times are within the limit and do not fall within a user,
 * actions are finite, columns are sound. One sequential pass over the events. Errors name file and
 * user or row: NOT_FOUND, CORRUPT, VERSION. Ownership: caller closes. Call: blocks. Threads: any
 * (then read-only). */
WEIR_MUST_USE weir_err_t weir_dataset_open(const char *folder, weir_dataset_t **dataset,
                                           weir_error_t *error);
void weir_dataset_close(weir_dataset_t *dataset); /* accepts NULL */

uint64_t weir_dataset_users(const weir_dataset_t *dataset);
uint64_t weir_dataset_items(const weir_dataset_t *dataset); /* C, the size of the catalogue */
uint64_t weir_dataset_events(const weir_dataset_t *dataset);
/* Where the data came from, as its preparation wrote it. Never NULL. */
const char *weir_dataset_source(const weir_dataset_t *dataset);
/* XXH3 over sizes and all events, made by the pass of open: a resumed run must see the same data.
 */
uint64_t weir_dataset_digest(const weir_dataset_t *dataset);

typedef struct {
    const int64_t *items;
    const int64_t *times;
    const float *actions;
    size_t count;
} weir_user_events_t;

/* user < U. Valid until close. */
weir_user_events_t weir_dataset_user(const weir_dataset_t *dataset, uint64_t user);
/* The place of the user's first event among all: where its values in columns begin. */
uint64_t weir_dataset_first_event(const weir_dataset_t *dataset, uint64_t user);

/* Actions, numbers and features; all counts are 0 where the data has none. Valid until close. */
const weir_dataset_columns_t *weir_dataset_columns(const weir_dataset_t *dataset);

/* The source's id or the name of item 1 .. C, or the id of user 0 .. U-1 (bytes, not
 * NUL-terminated); length 0 when there is none. Opens and checks the dictionary on first use.
 * INVALID for an item or user that is not there. Call: blocks on first use. Threads: one at a time.
 */
WEIR_MUST_USE weir_err_t weir_dataset_item_id(weir_dataset_t *dataset, int64_t item,
                                              const char **bytes, size_t *size,
                                              weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_dataset_item_name(weir_dataset_t *dataset, int64_t item,
                                                const char **bytes, size_t *size,
                                                weir_error_t *error);
WEIR_MUST_USE weir_err_t weir_dataset_user_id(weir_dataset_t *dataset, uint64_t user,
                                              const char **bytes, size_t *size,
                                              weir_error_t *error);

/* The text that an id of a feature stands for; length 0 for id 0, and where the feature has no
 * dictionary (hashes, bounds, times). INVALID for a feature or id that is not there. Call: blocks
 * on first use. Threads: one at a time. */
WEIR_MUST_USE weir_err_t weir_dataset_feature_text(weir_dataset_t *dataset,
                                                   weir_feature_kind_t kind, size_t feature,
                                                   uint32_t id, const char **bytes, size_t *size,
                                                   weir_error_t *error);

#endif
