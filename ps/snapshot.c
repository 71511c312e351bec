#include "ps/snapshot.h"

#include "common/file.h"
#include "common/tensor_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 1 << 20 };

typedef struct {
    const weir_table_t *table;
    weir_row_layout_t layout;
    size_t rows;
    weir_key_t *keys;           /* rows, in order of their hashes */
    weir_row_handle_t *handles; /* the same */
    uint64_t *slot_offsets;     /* slots + 1 */
    weir_slot_t first_slot, slots;
    weir_tensor_writer_t *writer;
    char *piece; /* PIECE_BYTES, or one row if that is more */
    size_t piece_bytes;
} shard_t;

void weir_snapshot_name(const char *table, uint32_t index, uint32_t ps,
                        char name[WEIR_CHECKPOINT_NAME_MAX]) {
    (void)snprintf(name, WEIR_CHECKPOINT_NAME_MAX, "%.31s.ps-%04u-of-%04u.safetensors", table,
                   index, ps);
}

/* keys, handles and slot_offsets of the table as it is. */
static weir_err_t order_rows(shard_t *shard, weir_error_t *error) {
    shard->keys = malloc((shard->rows + 1) * sizeof *shard->keys);
    shard->handles = malloc((shard->rows + 1) * sizeof *shard->handles);
    shard->slot_offsets = calloc((size_t)shard->slots + 1, sizeof *shard->slot_offsets);
    if (shard->keys == NULL || shard->handles == NULL || shard->slot_offsets == NULL) {
        return weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to write a table of %zu rows",
                           shard->rows);
    }
    weir_err_t err = weir_table_ordered(shard->table, shard->keys, shard->handles, error);
    if (err != WEIR_OK) {
        return err;
    }
    for (size_t i = 0; i < shard->rows; i++) {
        weir_slot_t slot = weir_slot_of_hash(weir_hash64(shard->keys[i]));
        if (slot < shard->first_slot || slot - shard->first_slot >= shard->slots) {
            return weir_errorf(error, WEIR_ERR_INVALID,
                               "the table holds key %llu of slot %u, but this shard is of %u to %u",
                               (unsigned long long)shard->keys[i], slot, shard->first_slot,
                               shard->first_slot + shard->slots - 1);
        }
        shard->slot_offsets[slot - shard->first_slot + 1]++;
    }
    for (size_t slot = 0; slot < shard->slots; slot++) {
        shard->slot_offsets[slot + 1] += shard->slot_offsets[slot];
    }
    return WEIR_OK;
}

static weir_err_t put_number(weir_tensor_writer_t *writer, const char *key, uint64_t number,
                             weir_error_t *error) {
    char text[32];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return weir_tensor_writer_metadata(writer, key, text, error);
}

static weir_err_t write_metadata(const shard_t *shard, uint64_t step, weir_error_t *error) {
    const weir_table_schema_t *schema = weir_table_schema(shard->table);
    weir_tensor_writer_t *writer = shard->writer;
    weir_err_t err = weir_tensor_writer_metadata(writer, "table", schema->name, error);
    if (err == WEIR_OK) {
        err = put_number(writer, "dim", schema->dim, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_metadata(writer, "optimizer",
                                          weir_optimizer_name(schema->optimizer), error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "first_slot", shard->first_slot, error);
    }
    if (err == WEIR_OK) {
        err = put_number(writer, "slots", shard->slots, error);
    }
    return err == WEIR_OK ? put_number(writer, "step", step, error) : err;
}

/* 64-bit tensors first: behind an odd number of floats they would lie unaligned. */
static weir_err_t declare_tensors(const shard_t *shard, weir_error_t *error) {
    static const char *const names[] = {"keys", "last_step", "count", "slot_offsets"};
    weir_tensor_writer_t *writer = shard->writer;
    weir_err_t err = WEIR_OK;
    for (size_t i = 0; i < 4 && err == WEIR_OK; i++) {
        uint64_t count = i == 3 ? (uint64_t)shard->slots + 1 : shard->rows;
        err = weir_tensor_writer_declare(writer, names[i], WEIR_DTYPE_U64, 1, &count, error);
    }
    for (uint32_t f = 0; f < shard->layout.field_count && err == WEIR_OK; f++) {
        const uint64_t shape[2] = {shard->rows, shard->layout.fields[f].width};
        err = weir_tensor_writer_declare(writer, shard->layout.fields[f].name, WEIR_DTYPE_F32, 2,
                                         shape, error);
    }
    return err == WEIR_OK ? weir_tensor_writer_begin(writer, error) : err;
}

typedef enum { COLUMN_LAST_STEP = WEIR_ROW_MAX_FIELDS, COLUMN_COUNT } column_t;

/* One column of all rows, in pieces: field number `column`, or the metadata behind the fields. */
static weir_err_t write_column(const shard_t *shard, uint32_t column, weir_error_t *error) {
    size_t width = sizeof(uint64_t);
    if (column < WEIR_ROW_MAX_FIELDS) {
        width = shard->layout.fields[column].width * sizeof(float);
    }
    size_t filled = 0;
    for (size_t i = 0; i < shard->rows; i++) {
        uint64_t last_step, count;
        const float *record =
            weir_table_record(shard->table, shard->handles[i], &last_step, &count);
        const void *source = column == COLUMN_LAST_STEP ? &last_step : &count;
        if (column < WEIR_ROW_MAX_FIELDS) {
            source = record + shard->layout.fields[column].offset;
        }
        memcpy(shard->piece + filled, source, width);
        filled += width;
        if (filled + width > shard->piece_bytes || i + 1 == shard->rows) {
            weir_err_t err = weir_tensor_writer_append(shard->writer, shard->piece, filled, error);
            if (err != WEIR_OK) {
                return err;
            }
            filled = 0;
        }
    }
    return WEIR_OK;
}

static weir_err_t write_tensors(const shard_t *shard, weir_error_t *error) {
    weir_err_t err = weir_tensor_writer_append(shard->writer, shard->keys,
                                               shard->rows * sizeof *shard->keys, error);
    if (err == WEIR_OK) {
        err = write_column(shard, COLUMN_LAST_STEP, error);
    }
    if (err == WEIR_OK) {
        err = write_column(shard, COLUMN_COUNT, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_append(shard->writer, shard->slot_offsets,
                                        ((size_t)shard->slots + 1) * sizeof *shard->slot_offsets,
                                        error);
    }
    for (uint32_t f = 0; f < shard->layout.field_count && err == WEIR_OK; f++) {
        err = write_column(shard, f, error);
    }
    return err;
}

weir_err_t weir_snapshot_write(const weir_table_t *table, uint32_t index, uint32_t ps,
                               uint64_t step, const char *folder, weir_checkpoint_file_t *file,
                               weir_error_t *error) {
    if (ps < 1 || ps > WEIR_SLOT_COUNT || index >= ps) {
        return weir_errorf(error, WEIR_ERR_INVALID, "there is no server %u of %u", index, ps);
    }
    weir_slot_t first = weir_slot_first(index, ps);
    shard_t shard = {.table = table,
                     .layout = weir_row_layout(weir_table_schema(table)),
                     .rows = (size_t)weir_table_rows(table),
                     .first_slot = first,
                     .slots = weir_slot_first(index + 1, ps) - first};
    weir_checkpoint_file_t made = {.size = 0};
    char path[WEIR_PATH_MAX];
    weir_snapshot_name(weir_table_schema(table)->name, index, ps, made.name);
    weir_err_t err = weir_path_join(path, sizeof path, folder, made.name, error);
    if (err != WEIR_OK) {
        return err;
    }
    size_t widest = shard.layout.floats * sizeof(float);
    shard.piece_bytes = widest > PIECE_BYTES ? widest : PIECE_BYTES;
    shard.piece = malloc(shard.piece_bytes);
    if (shard.piece == NULL) {
        err = weir_errorf(error, WEIR_ERR_MEMORY, "out of memory to write a table");
        goto out;
    }
    err = order_rows(&shard, error);
    if (err == WEIR_OK) {
        err = weir_tensor_writer_create(path, &shard.writer, error);
    }
    if (err == WEIR_OK) {
        err = write_metadata(&shard, step, error);
    }
    if (err == WEIR_OK) {
        err = declare_tensors(&shard, error);
    }
    if (err == WEIR_OK) {
        err = write_tensors(&shard, error);
    }
    if (err == WEIR_OK) {
        err = weir_tensor_writer_commit(shard.writer, &made.checksum, &made.size, error);
    }
    if (err == WEIR_OK) {
        *file = made;
    }
out:
    weir_tensor_writer_destroy(shard.writer);
    free(shard.piece);
    free(shard.keys);
    free(shard.handles);
    free(shard.slot_offsets);
    return err;
}
