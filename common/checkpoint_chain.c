/* Chains: a checkpoint, the one that it builds on, and so on down to a full one. */
#include "common/checkpoint.h"

#include "common/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

weir_err_t weir_checkpoint_beside(const char *folder, uint64_t step, char *beside, size_t capacity,
                                  weir_error_t *error) {
    char name[32], relative[48];
    weir_checkpoint_step_name(step, name);
    (void)snprintf(relative, sizeof relative, "../%s", name);
    return weir_path_join(beside, capacity, folder, relative, error);
}

void weir_checkpoint_chain_free(weir_manifest_t *below, size_t count) {
    for (size_t i = 0; i < count; i++) {
        weir_manifest_fini(&below[i]);
    }
    free(below);
}

/* What `above` builds on, into `base`. */
static weir_err_t read_base(const char *folder, bool verify, const weir_manifest_t *above,
                            weir_manifest_t *base, weir_error_t *error) {
    char path[WEIR_PATH_MAX];
    weir_err_t status = weir_checkpoint_beside(folder, above->base, path, sizeof path, error);
    if (status == WEIR_OK) {
        status = weir_manifest_read_one(path, verify, base, error);
    }
    if (status != WEIR_OK) {
        weir_error_prefix(error, "step %" PRIu64 " builds on step %" PRIu64, above->step,
                          above->base);
        /* a chain without its base is no less damaged than one with a byte changed */
        return status == WEIR_ERR_NOT_FOUND
                   ? weir_errorf(error, WEIR_ERR_CORRUPT,
                                 "step %" PRIu64 " builds on step %" PRIu64 ", which is not there",
                                 above->step, above->base)
                   : status;
    }
    if (base->self != above->base_self || base->step != above->base) {
        weir_manifest_fini(base);
        return weir_errorf(error, WEIR_ERR_CORRUPT,
                           "step %" PRIu64 " builds on another step %" PRIu64
                           " than the one that is there: that was replaced",
                           above->step, above->base);
    }
    return WEIR_OK;
}

weir_err_t weir_checkpoint_chain_read(const char *folder, bool verify, const weir_manifest_t *top,
                                      weir_manifest_t **below, size_t *count, weir_error_t *error) {
    weir_manifest_t *chain = NULL;
    size_t length = 0;
    const weir_manifest_t *above = top;
    while (above->base != 0) { /* steps fall, so it ends */
        weir_manifest_t *grown = realloc(chain, (length + 1) * sizeof *grown);
        if (grown == NULL) {
            weir_checkpoint_chain_free(chain, length);
            return weir_errorf(error, WEIR_ERR_MEMORY, "no memory to read '%s'", folder);
        }
        chain = grown;
        above = length == 0 ? top : &chain[length - 1];
        chain[length] = (weir_manifest_t){0};
        weir_err_t status = read_base(folder, verify, above, &chain[length], error);
        if (status != WEIR_OK) {
            weir_checkpoint_chain_free(chain, length);
            return status;
        }
        above = &chain[length++];
    }
    *below = chain;
    *count = length;
    return WEIR_OK;
}

weir_err_t weir_manifest_read(const char *folder, bool verify, weir_manifest_t *manifest,
                              weir_error_t *error) {
    weir_manifest_t read = {0}, *below = NULL;
    size_t count = 0;
    weir_err_t status = weir_manifest_read_one(folder, verify, &read, error);
    if (status == WEIR_OK) {
        status = weir_checkpoint_chain_read(folder, verify, &read, &below, &count, error);
        weir_checkpoint_chain_free(below, count);
    }
    if (status == WEIR_OK) {
        *manifest = read;
        read = (weir_manifest_t){0};
    }
    weir_manifest_fini(&read);
    return status;
}
