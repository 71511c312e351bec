#include "ps/split.h"

#include <stdlib.h>
#include <string.h>

bool weir_split_init(weir_split_t *split, uint32_t ps) {
    *split = (weir_split_t){.ps = ps, .starts = calloc((size_t)ps + 1, sizeof *split->starts)};
    return split->starts != NULL;
}

void weir_split_fini(weir_split_t *split) {
    free(split->starts);
    free(split->positions);
    free(split->owners);
    *split = (weir_split_t){.ps = split->ps};
}

static weir_err_t reserve_keys(weir_split_t *split, size_t count, weir_error_t *error) {
    if (count >= UINT32_MAX) {
        return weir_errorf(error, WEIR_ERR_INVALID, "%zu keys at once are too many", count);
    }
    if (count < split->capacity) {
        return WEIR_OK;
    }
    size_t capacity = count + count / 2 + 1; /* never 0: a part is never NULL */
    uint32_t *positions = realloc(split->positions, capacity * sizeof *positions);
    if (positions != NULL) {
        split->positions = positions;
    }
    uint16_t *owners = realloc(split->owners, capacity * sizeof *owners);
    if (owners != NULL) {
        split->owners = owners;
    }
    if (positions == NULL || owners == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to deal %zu keys", count);
    }
    split->capacity = capacity;
    return WEIR_OK;
}

weir_err_t weir_split_keys(weir_split_t *split, const weir_key_t *keys, size_t count,
                           weir_error_t *error) {
    weir_err_t err = reserve_keys(split, count, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t *starts = split->starts;
    memset(starts, 0, ((size_t)split->ps + 1) * sizeof *starts);
    for (size_t i = 0; i < count; i++) {
        uint32_t owner = weir_slot_owner(weir_slot_of_hash(weir_hash64(keys[i])), split->ps);
        split->owners[i] = (uint16_t)owner;
        starts[owner + 1]++;
    }
    for (uint32_t server = 0; server < split->ps; server++) {
        starts[server + 1] += starts[server];
    }
    /* Filling moves each start to its part's end, which is the next one's start. */
    for (size_t i = 0; i < count; i++) {
        split->positions[starts[split->owners[i]]++] = (uint32_t)i;
    }
    memmove(starts + 1, starts, split->ps * sizeof *starts);
    starts[0] = 0;
    return WEIR_OK;
}
