#include "tools/interner.h"

#include "common/hash.h"

#include <stdlib.h>
#include <string.h>

/* Open addressing, linear probing; at most half full. An entry is free when its number is EMPTY. */
enum { FIRST_ENTRIES = 1024 };
#define EMPTY UINT32_MAX

typedef struct {
    uint32_t tag; /* upper half of the string's hash */
    uint32_t number;
} entry_t;

struct weir_interner {
    entry_t *entries;
    size_t entry_count; /* a power of two */
    uint64_t *ends;     /* string k is bytes[ends[k]] .. bytes[ends[k + 1]] */
    size_t end_capacity;
    char *bytes;
    size_t byte_capacity;
    uint32_t count;
};

static weir_err_t fail_memory(weir_error_t *error) {
    return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory for the dictionary of ids");
}

weir_err_t weir_interner_create(weir_interner_t **interner, weir_error_t *error) {
    weir_interner_t *made = calloc(1, sizeof *made);
    if (made != NULL) {
        made->entry_count = FIRST_ENTRIES;
        made->entries = malloc(FIRST_ENTRIES * sizeof *made->entries);
        made->end_capacity = FIRST_ENTRIES;
        made->ends = calloc(FIRST_ENTRIES, sizeof *made->ends);
    }
    if (made == NULL || made->entries == NULL || made->ends == NULL) {
        weir_interner_destroy(made);
        return fail_memory(error);
    }
    memset(made->entries, 0xFF, FIRST_ENTRIES * sizeof *made->entries); /* all EMPTY */
    *interner = made;
    return WEIR_OK;
}

void weir_interner_destroy(weir_interner_t *interner) {
    if (interner != NULL) {
        free(interner->entries);
        free(interner->ends);
        free(interner->bytes);
        free(interner);
    }
}

uint32_t weir_interner_count(const weir_interner_t *interner) {
    return interner->count;
}

void weir_interner_get(const weir_interner_t *interner, uint32_t number, const char **bytes,
                       size_t *size) {
    uint64_t begin = interner->ends[number];
    *bytes = interner->bytes != NULL ? interner->bytes + begin : "";
    *size = (size_t)(interner->ends[number + 1] - begin);
}

/* The entry that holds the string, or the free one where it belongs. */
static entry_t *find_entry(const weir_interner_t *interner, uint64_t hash, const char *bytes,
                           size_t size) {
    uint32_t tag = (uint32_t)(hash >> 32);
    for (size_t at = (size_t)hash & (interner->entry_count - 1);;
         at = (at + 1) & (interner->entry_count - 1)) {
        entry_t *entry = &interner->entries[at];
        if (entry->number == EMPTY) {
            return entry;
        }
        if (entry->tag == tag) {
            const char *known = NULL;
            size_t known_size = 0;
            weir_interner_get(interner, entry->number, &known, &known_size);
            if (known_size == size && (size == 0 || memcmp(known, bytes, size) == 0)) {
                return entry;
            }
        }
    }
}

static weir_err_t double_entries(weir_interner_t *interner, weir_error_t *error) {
    size_t count = interner->entry_count * 2;
    entry_t *entries = malloc(count * sizeof *entries);
    if (entries == NULL) {
        return fail_memory(error);
    }
    memset(entries, 0xFF, count * sizeof *entries);
    free(interner->entries);
    interner->entries = entries;
    interner->entry_count = count;
    for (uint32_t number = 0; number < interner->count; number++) {
        const char *bytes = NULL;
        size_t size = 0;
        weir_interner_get(interner, number, &bytes, &size);
        uint64_t hash = weir_checksum(bytes, size, 0);
        size_t at = (size_t)hash & (count - 1);
        while (entries[at].number != EMPTY) { /* all are different: no need to compare */
            at = (at + 1) & (count - 1);
        }
        entries[at] = (entry_t){.tag = (uint32_t)(hash >> 32), .number = number};
    }
    return WEIR_OK;
}

/* Room for one more string. */
static weir_err_t reserve_string(weir_interner_t *interner, size_t size, weir_error_t *error) {
    if (interner->count == EMPTY - 1) {
        return weir_errorf(error, WEIR_ERR_UNSUPPORTED, "more than %u different ids", EMPTY - 1);
    }
    size_t used = (size_t)interner->ends[interner->count];
    if (interner->byte_capacity - used < size) {
        size_t capacity = interner->byte_capacity * 2 + size + 4096;
        char *bytes = realloc(interner->bytes, capacity);
        if (bytes == NULL) {
            return fail_memory(error);
        }
        interner->bytes = bytes;
        interner->byte_capacity = capacity;
    }
    if (interner->end_capacity < (size_t)interner->count + 2) {
        size_t capacity = interner->end_capacity * 2;
        uint64_t *ends = realloc(interner->ends, capacity * sizeof *ends);
        if (ends == NULL) {
            return fail_memory(error);
        }
        interner->ends = ends;
        interner->end_capacity = capacity;
    }
    return WEIR_OK;
}

weir_err_t weir_interner_add(weir_interner_t *interner, const char *bytes, size_t size,
                             uint32_t *number, bool *fresh, weir_error_t *error) {
    uint64_t hash = weir_checksum(bytes, size, 0);
    entry_t *entry = find_entry(interner, hash, bytes, size);
    if (entry->number == EMPTY) {
        weir_err_t code = reserve_string(interner, size, error);
        if (code == WEIR_OK && ((size_t)interner->count + 1) * 2 > interner->entry_count) {
            code = double_entries(interner, error);
            entry = code == WEIR_OK ? find_entry(interner, hash, bytes, size) : NULL;
        }
        if (code != WEIR_OK) {
            return code;
        }
        uint64_t begin = interner->ends[interner->count];
        if (size > 0) {
            memcpy(interner->bytes + begin, bytes, size);
        }
        interner->ends[interner->count + 1] = begin + size;
        *entry = (entry_t){.tag = (uint32_t)(hash >> 32), .number = interner->count};
        interner->count++;
        if (fresh != NULL) {
            *fresh = true;
        }
    } else if (fresh != NULL) {
        *fresh = false;
    }
    *number = entry->number;
    return WEIR_OK;
}

bool weir_interner_find(const weir_interner_t *interner, const char *bytes, size_t size,
                        uint32_t *number) {
    const entry_t *entry = find_entry(interner, weir_checksum(bytes, size, 0), bytes, size);
    if (entry->number == EMPTY) {
        return false;
    }
    *number = entry->number;
    return true;
}
