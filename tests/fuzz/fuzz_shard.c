/* A shard of a table, as one of 16,384 servers would have written it: one slot. The first byte says
 * which shard, 0 to 255. */
#include "ps/snapshot_file.h"
#include "tests/fuzz/target.h"

#include <stdlib.h>
#include <string.h>

/* An accepted slot: its rows and removed keys are in order and in it, and all bytes are there. */
static void use(const weir_snapshot_file_t *file, weir_slot_t slot) {
    volatile uint8_t sink = 0;
    uint64_t begin, end, gone, gone_end, previous = 0;
    weir_snapshot_file_slot(file, slot, &begin, &end, &gone, &gone_end);
    if (begin > end || end > file->rows || gone > gone_end || gone_end > file->removed_count) {
        abort();
    }
    for (uint64_t row = begin; row < end; row++) {
        uint64_t hash = weir_hash64(file->keys[row]);
        if (weir_slot_of_hash(hash) != slot || (row > begin && hash <= previous) ||
            file->last_steps[row] > file->step) {
            abort();
        }
        previous = hash;
        sink = (uint8_t)(sink + file->counts[row]);
        for (uint32_t c = 0; c < file->column_count; c++) {
            const weir_snapshot_column_t *column = &file->columns[c];
            for (size_t byte = 0; byte < column->bytes; byte++) {
                sink = (uint8_t)(sink + column->values[row * column->bytes + byte]);
            }
        }
        for (uint64_t i = gone; i < gone_end; i++) {
            if (file->removed[i] == file->keys[row]) {
                abort();
            }
        }
    }
    for (uint64_t i = 0; i < file->counters && file->admission != NULL; i++) {
        sink = (uint8_t)(sink + file->admission[(slot - file->first_slot) * file->counters + i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    weir_snapshot_file_t file;
    weir_error_t error = {0};
    void *copy = NULL; /* aligned, as a map is, and no byte too long */
    if (size == 0 || posix_memalign(&copy, 64, size) != 0) {
        return 0;
    }
    memcpy(copy, bytes + 1, size - 1);
    weir_err_t err =
        weir_snapshot_file_open_memory(copy, size - 1, bytes[0], WEIR_SLOT_COUNT, &file, &error);
    if (err == WEIR_OK) {
        if (file.slots != 1 || file.first_slot != bytes[0]) {
            abort();
        }
        if (weir_snapshot_file_check_slot(&file, bytes[0], &error) == WEIR_OK) {
            use(&file, bytes[0]);
        } else if (error.message[0] == '\0') {
            abort();
        }
        weir_snapshot_file_close(&file);
    } else if (error.message[0] == '\0') {
        abort(); /* a refusal must say why */
    }
    free(copy);
    return 0;
}
