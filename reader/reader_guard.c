/* No byte of a row is given out before the block it lies in was compared with its checksum; each
 * block once. */
#include "common/tensor_blocks.h"
#include "reader/reader_internal.h"

#include <stdlib.h>

weir_err_t weir_reader_guard_init(const weir_tensor_file_t *file, weir_reader_guard_t *guard,
                                  weir_error_t *error) {
    uint64_t blocks = weir_tensor_blocks_count(file);
    weir_reader_guard_t made = {.file = file, .has_blocks = blocks > 0};
    if (blocks > 0) {
        made.seen = calloc(blocks / 8 + 1, 1);
        if (made.seen == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to read '%s'",
                               weir_tensor_file_path(file));
        }
    }
    *guard = made;
    return WEIR_OK;
}

void weir_reader_guard_fini(weir_reader_guard_t *guard) {
    free(guard->seen);
    *guard = (weir_reader_guard_t){.file = NULL};
}

weir_err_t weir_reader_guard_check(weir_reader_guard_t *guard, const void *bytes, uint64_t size,
                                   uint64_t *checked, weir_error_t *error) {
    return guard->has_blocks && size > 0
               ? weir_tensor_blocks_verify_part(guard->file, bytes, size, guard->seen, checked,
                                                error)
               : WEIR_OK;
}

weir_err_t weir_reader_chain_open(const weir_reader_t *reader, const char *table, weir_slot_t first,
                                  weir_slot_t end, uint64_t *blocks_checked,
                                  weir_reader_chain_t *chain, weir_error_t *error) {
    weir_reader_chain_t made = {.blocks_checked = blocks_checked};
    weir_err_t err = weir_snapshot_chain_open(reader->folder, &reader->manifest, table, first, end,
                                              &made.chain, error);
    if (err == WEIR_OK) {
        made.levels = calloc(weir_snapshot_chain_depth(made.chain), sizeof *made.levels);
        if (made.levels == NULL) {
            weir_snapshot_chain_close(made.chain);
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to read a table");
        }
        *chain = made;
    }
    return err;
}

void weir_reader_chain_close(weir_reader_chain_t *chain) {
    for (size_t i = 0; i < chain->guard_count; i++) {
        weir_reader_guard_fini(&chain->guards[i]);
    }
    free(chain->guards);
    free(chain->levels);
    weir_snapshot_chain_close(chain->chain);
    *chain = (weir_reader_chain_t){.chain = NULL};
}

weir_err_t weir_reader_chain_check(weir_reader_chain_t *chain, const weir_snapshot_file_t *file,
                                   const void *bytes, uint64_t size, weir_error_t *error) {
    size_t i = 0;
    while (i < chain->guard_count && chain->guards[i].file != file->file) {
        i++;
    }
    if (i == chain->guard_count) {
        weir_reader_guard_t *grown = realloc(chain->guards, (i + 1) * sizeof *grown);
        if (grown == NULL) {
            return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to read a table");
        }
        chain->guards = grown;
        weir_err_t err = weir_reader_guard_init(file->file, &grown[i], error);
        if (err != WEIR_OK) {
            return err;
        }
        chain->guard_count++;
    }
    return weir_reader_guard_check(&chain->guards[i], bytes, size, chain->blocks_checked, error);
}
