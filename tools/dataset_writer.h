/* Writes a folder of prepared data (docs/files/dataset.md), user by user, in bounded memory:
 * columns go to nameless scratch files in the folder first, because a header needs their sizes. The
 * folder is whole only at the end: features first, then the dictionary, events last, each by
 * rename. */
#ifndef WEIR_TOOLS_DATASET_WRITER_H
#define WEIR_TOOLS_DATASET_WRITER_H

#include "common/dataset_columns.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weir_dataset_writer weir_dataset_writer_t;

/* A list of byte strings that makes string `index` on demand; asked twice for each, in order.
 * `bytes` must stay valid until the next call. get NULL: there is no such list. */
typedef struct {
    void (*get)(void *list, uint64_t index, const char **bytes, size_t *size);
    void *list;
} weir_strings_t;

/* The texts of the features' ids, from id 1 on, by weir_feature_kind_t and the feature's place. */
typedef struct {
    weir_strings_t lists[3][WEIR_DATASET_MAX_FEATURES];
} weir_dataset_values_t;

typedef struct {
    uint64_t items; /* C: the catalogue */
    weir_strings_t item_ids, item_names, user_ids;
    const weir_dataset_values_t *values; /* of the features; NULL: none */
    const char *schema;                  /* the text that it was prepared by, UTF-8; NULL: none */
    const char *source; /* for a person; bytes that are not ASCII text are replaced by '?' */
} weir_dataset_names_t;

/* Refuse a folder that is there and not empty (EXISTS), unless `force`; nothing is made or changed.
 */
WEIR_MUST_USE weir_err_t weir_dataset_writer_check(const char *folder, bool force,
                                                   weir_error_t *error);

/* Check, make the folder, open the scratch files. Ownership: caller destroys. */
WEIR_MUST_USE weir_err_t weir_dataset_writer_create(const char *folder, bool force,
                                                    weir_dataset_writer_t **writer,
                                                    weir_error_t *error);

/* The next user's events, at least one, sorted by time; items are dense ids. */
WEIR_MUST_USE weir_err_t weir_dataset_writer_add_user(weir_dataset_writer_t *writer,
                                                      const int64_t *items, const int64_t *times,
                                                      const float *actions, size_t count,
                                                      weir_error_t *error);

/* Before the first user: every event has further columns, `columns->action_count` > 0 first its
 * action bits, then its numbers (the bits of a float), then its context ids. Features of items and
 * users are written too; their ids, all sizes and names are read by finish, until when `columns`
 * (not owned) must be there. */
WEIR_MUST_USE weir_err_t weir_dataset_writer_extend(weir_dataset_writer_t *writer,
                                                    const weir_dataset_columns_t *columns,
                                                    weir_error_t *error);
/* Words of such columns for an event. */
size_t weir_dataset_writer_width(const weir_dataset_columns_t *columns);
/* The further columns of the events of the last user: count x width words. */
WEIR_MUST_USE weir_err_t weir_dataset_writer_add_words(weir_dataset_writer_t *writer,
                                                       const uint32_t *words, size_t count,
                                                       weir_error_t *error);

/* Write the files and publish them; with `force` the old ones were in place until now. The writer
 * must still be destroyed. Call: blocks. */
WEIR_MUST_USE weir_err_t weir_dataset_writer_finish(weir_dataset_writer_t *writer,
                                                    const weir_dataset_names_t *names,
                                                    weir_error_t *error);

/* Without a finish before it, nothing of the new data remains. Accepts NULL. */
void weir_dataset_writer_destroy(weir_dataset_writer_t *writer);

#endif
