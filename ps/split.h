/* Keys dealt to the servers that own their slots, with the way back: for each server the positions
 * of its keys in the caller's array, in the caller's order. */
#ifndef WEIR_PS_SPLIT_H
#define WEIR_PS_SPLIT_H

#include "common/error.h"
#include "common/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t ps;
    size_t *starts;      /* ps + 1: a server's part is positions[starts[s]] .. [starts[s + 1]] */
    uint32_t *positions; /* count, grouped by server */
    uint16_t *owners;    /* count: scratch */
    size_t capacity;     /* of positions and owners */
} weir_split_t;

/* `ps` in 1 .. WEIR_SLOT_COUNT. false: out of memory; fini is still due. */
bool weir_split_init(weir_split_t *split, uint32_t ps);
void weir_split_fini(weir_split_t *split);

/* Errors: 2^32 keys or more, out of memory. Memory is kept for the next call. */
WEIR_MUST_USE weir_err_t weir_split_keys(weir_split_t *split, const weir_key_t *keys, size_t count,
                                         weir_error_t *error);

static inline size_t weir_split_count(const weir_split_t *split, uint32_t server) {
    return split->starts[server + 1] - split->starts[server];
}

static inline const uint32_t *weir_split_part(const weir_split_t *split, uint32_t server) {
    return split->positions + split->starts[server];
}

#endif
