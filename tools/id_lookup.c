#include "tools/id_lookup.h"

#include "tools/interner.h"

#include <stdlib.h>

struct weir_id_lookup {
    weir_id_kind_t kind;
    weir_interner_t *wanted;
    int64_t *numbers; /* of each wanted id; -1: there is none */
};

weir_err_t weir_id_lookup_create(weir_id_kind_t kind, weir_id_lookup_t **lookup,
                                 weir_error_t *error) {
    weir_id_lookup_t *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory");
    }
    made->kind = kind;
    weir_err_t err = weir_interner_create(&made->wanted, error);
    if (err != WEIR_OK) {
        free(made);
        return err;
    }
    *lookup = made;
    return WEIR_OK;
}

void weir_id_lookup_destroy(weir_id_lookup_t *lookup) {
    if (lookup != NULL) {
        weir_interner_destroy(lookup->wanted);
        free(lookup->numbers);
        free(lookup);
    }
}

weir_err_t weir_id_lookup_want(weir_id_lookup_t *lookup, const char *bytes, size_t size,
                               uint32_t *handle, weir_error_t *error) {
    return weir_interner_add(lookup->wanted, bytes, size, handle, NULL, error);
}

weir_err_t weir_id_lookup_resolve(weir_id_lookup_t *lookup, weir_dataset_t *dataset,
                                  weir_error_t *error) {
    uint32_t wanted = weir_interner_count(lookup->wanted), handle = 0, left = wanted;
    bool users = lookup->kind == WEIR_ID_USER;
    uint64_t all = users ? weir_dataset_users(dataset) : weir_dataset_items(dataset);
    weir_err_t err = WEIR_OK;
    free(lookup->numbers);
    lookup->numbers = malloc((wanted + (size_t)1) * sizeof *lookup->numbers);
    if (lookup->numbers == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "no memory for %u ids", wanted);
    }
    for (uint32_t i = 0; i < wanted; i++) {
        lookup->numbers[i] = -1;
    }
    for (uint64_t i = 0; i < all && left > 0 && err == WEIR_OK; i++) {
        int64_t number = users ? (int64_t)i : (int64_t)i + 1;
        const char *bytes = NULL;
        size_t size = 0;
        err = users ? weir_dataset_user_id(dataset, i, &bytes, &size, error)
                    : weir_dataset_item_id(dataset, number, &bytes, &size, error);
        if (err == WEIR_OK && weir_interner_find(lookup->wanted, bytes, size, &handle) &&
            lookup->numbers[handle] < 0) {
            lookup->numbers[handle] = number;
            left--;
        }
    }
    return err;
}

weir_err_t weir_id_lookup_find(const weir_id_lookup_t *lookup, uint32_t handle, int64_t *number,
                               weir_error_t *error) {
    const char *bytes = NULL;
    size_t size = 0;
    if (lookup->numbers != NULL && lookup->numbers[handle] >= 0) {
        *number = lookup->numbers[handle];
        return WEIR_OK;
    }
    weir_interner_get(lookup->wanted, handle, &bytes, &size);
    return weir_errorf(error, WEIR_ERR_NOT_FOUND, "there is no %s \"%.*s\" in the data",
                       lookup->kind == WEIR_ID_USER ? "user" : "item", (int)size, bytes);
}
