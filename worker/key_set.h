/* Distinct keys of a batch: each key gets the next row number when it is first seen.
 *
 * Small key ranges (dense ids of a catalogue) use a table indexed by the key, larger ones open
 * addressing; clearing is O(1) for both. */
#ifndef WEIR_WORKER_KEY_SET_H
#define WEIR_WORKER_KEY_SET_H

#include "common/error.h"
#include "common/hash.h"

#include <stddef.h>
#include <stdint.h>

typedef struct weir_key_set weir_key_set_t;

/* Keys are 0 .. max_key. */
WEIR_MUST_USE weir_err_t weir_key_set_create(uint64_t max_key, weir_key_set_t **set,
                                             weir_error_t *error);
void weir_key_set_destroy(weir_key_set_t *set);

/* Forget all keys; make room for `keys` insertions, so that rows() never fails. */
WEIR_MUST_USE weir_err_t weir_key_set_begin(weir_key_set_t *set, size_t keys, weir_error_t *error);

/* rows[i] = row number of keys[i], for count keys. Cost: about a cache access a key. */
void weir_key_set_rows(weir_key_set_t *set, const int64_t *keys, size_t count, uint32_t *rows);

/* The distinct keys in order of first use, and how many. Valid until the next begin. */
const weir_key_t *weir_key_set_keys(const weir_key_set_t *set, size_t *count);

#endif
